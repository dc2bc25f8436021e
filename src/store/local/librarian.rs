//! The librarian: the only writer of the index.
//!
//! An event goes into the index once nothing of it is pending, in small batches; until then, and until the
//! index has it, it is found in memory. An index that fails is made anew from the journal. Nothing on the
//! accept path ever waits for it, but when too much waits for it, accept refuses (I10).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::disk::Disk;
use super::index::{Index, IndexEntry, IndexError};
use super::names::Names;
use super::recovery;
use super::shared::Shared;
use super::table::{Meta, Pin};
use crate::model::EventId;
use crate::store::{CommitError, ReadError};

/// Most entries in one batch of the index: large ones take sled a lot of memory.
const BATCH_MAX: usize = 128;

/// Events that may wait for the index before accept refuses.
pub(super) const UNINDEXED_MAX: usize = 100_000;

/// Bytes of one value; sled puts larger ones into files that it never syncs.
const VALUE_BYTES_MAX: usize = 3000;

/// How soon an index that failed is made anew.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// Keys of an event's parts: by sequence, so that lists run over them.
fn event_key(sequence: u64, part: u16) -> Vec<u8> {
    let mut key = vec![b'e'];
    key.extend_from_slice(&sequence.to_be_bytes());
    key.extend_from_slice(&part.to_be_bytes());
    key
}

fn id_key(kind: u8, id: EventId) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend_from_slice(&id.to_bits().to_be_bytes());
    key
}

/// Indexes until the store is closed.
pub(super) async fn run<D: Disk>(shared: Arc<Shared<D>>) {
    loop {
        recall(&shared);
        match write_some(&shared) {
            Ok(true) => tokio::task::yield_now().await,
            Ok(false) if shared.is_stopping() => break,
            Ok(false) => shared.index_wanted.notified().await,
            Err(error) if shared.is_stopping() => {
                tracing::debug!(%error, "the index is left behind; the next start makes it anew");
                break;
            }
            Err(error) => {
                tracing::error!(%error, "the index failed; it is made anew from the journal");
                renew(&shared).await;
            }
        }
    }
    *shared.index.write() = None;
}

/// Brings events back for their replays, and sends these on to the committer. Only here does anything enter
/// or leave the table because of the index, so an event can't slip between the two.
fn recall<D: Disk>(shared: &Shared<D>) {
    loop {
        let Some((id, deliveries, promise)) = shared.recalls.lock().pop_front() else { return };
        let found = match shared.index() {
            Some(index) => meta_of(&*index, id, &mut shared.names.lock()),
            None => Err(IndexError("it is being made anew".to_owned())),
        };
        let refused = match found {
            Ok(found) => {
                let pin = {
                    let mut table = shared.table.lock();
                    if let Some(meta) = found {
                        table.bring_back(meta);
                    }
                    table.pin(id)
                };
                if pin == Pin::Held {
                    shared.replay(id, deliveries, promise);
                    continue;
                }
                CommitError::NotFound
            }
            Err(_) => CommitError::Refused("the index is being made anew"),
        };
        if promise.take() {
            promise.settle(Err(refused));
        }
    }
}

/// Writes one batch; whether there was something to write.
pub(super) fn write_some<D: Disk>(shared: &Shared<D>) -> Result<bool, IndexError> {
    let (metas, repeats) = {
        let table = shared.table.lock();
        (table.to_index(BATCH_MAX / 2), table.repeats_to_index(BATCH_MAX / 4))
    };
    if metas.is_empty() && repeats.is_empty() {
        return Ok(false);
    }
    let index = shared.index().ok_or_else(|| IndexError("there is none".to_owned()))?;
    write(&*index, &metas, &repeats)?;
    let mut table = shared.table.lock();
    for meta in &metas {
        table.indexed(meta);
    }
    table.repeats_indexed(&repeats);
    shared.unindexed.store(table.unindexed(), Ordering::Relaxed);
    Ok(true)
}

/// Writes events and repeats in small batches.
pub(super) fn write(index: &dyn Index, metas: &[Meta], repeats: &BTreeMap<EventId, u64>) -> Result<(), IndexError> {
    let mut entries = Vec::new();
    for meta in metas {
        put_meta(&mut entries, meta);
        if entries.len() >= BATCH_MAX {
            index.apply(&entries)?;
            entries.clear();
        }
    }
    for (id, count) in repeats {
        entries.push((id_key(b'r', *id), Some(count.to_be_bytes().to_vec())));
    }
    entries.chunks(BATCH_MAX).try_for_each(|some| index.apply(some))
}

fn put_meta(entries: &mut Vec<IndexEntry>, meta: &Meta) {
    let bytes = meta.encode();
    let count = bytes.len().div_ceil(VALUE_BYTES_MAX);
    for (part, chunk) in (0..=u16::MAX).zip(bytes.chunks(VALUE_BYTES_MAX)) {
        let mut value = Vec::with_capacity(chunk.len() + 2);
        if part == 0 {
            value.extend_from_slice(&u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes());
        }
        value.extend_from_slice(chunk);
        entries.push((event_key(meta.sequence, part), Some(value)));
    }
    entries.push((id_key(b'i', meta.id), Some(meta.sequence.to_be_bytes().to_vec())));
}

fn number(value: &[u8]) -> Result<u64, IndexError> {
    value.try_into().map(u64::from_be_bytes).map_err(|_length| IndexError("a value can't be read".to_owned()))
}

/// An event's entry by its sequence.
pub(super) fn meta(index: &dyn Index, sequence: u64, names: &mut Names) -> Result<Option<Meta>, IndexError> {
    let Some(first) = index.get(&event_key(sequence, 0))? else { return Ok(None) };
    let malformed = || IndexError("a value can't be read".to_owned());
    let (count, start) = first.split_first_chunk().ok_or_else(malformed)?;
    let mut bytes = start.to_vec();
    for part in 1..u16::from_be_bytes(*count) {
        bytes.extend(index.get(&event_key(sequence, part))?.ok_or_else(malformed)?);
    }
    Meta::decode(&bytes, names).map(Some).map_err(|_malformed| malformed())
}

/// An event's entry by its id.
pub(super) fn meta_of(index: &dyn Index, id: EventId, names: &mut Names) -> Result<Option<Meta>, IndexError> {
    match index.get(&id_key(b'i', id))? {
        Some(value) => meta(index, number(&value)?, names),
        None => Ok(None),
    }
}

/// How often an event was repeated, as far as the index knows.
pub(super) fn repeats(index: &dyn Index, id: EventId) -> Result<u64, IndexError> {
    index.get(&id_key(b'r', id))?.map_or(Ok(0), |value| number(&value))
}

/// Sequences of indexed events below this one, newest first; `limit` counts their parts.
pub(super) fn below(index: &dyn Index, before: u64, limit: usize) -> Result<Vec<u64>, IndexError> {
    let entries = index.last(&event_key(0, 0), &event_key(before, 0), limit)?;
    let mut sequences = Vec::with_capacity(entries.len());
    for (key, _) in entries {
        let sequence = key.get(1..9).ok_or_else(|| IndexError("a key can't be read".to_owned())).and_then(number)?;
        if sequences.last() != Some(&sequence) {
            sequences.push(sequence);
        }
    }
    Ok(sequences)
}

/// What the caller of a read hears of it.
pub(super) fn unreadable(error: &IndexError) -> ReadError {
    ReadError::Io(error.to_string())
}

/// Forgets all events of a segment that is about to go. `false`: the index can't say which they are.
pub(super) async fn forget_segment<D: Disk>(shared: &Shared<D>, segment: u64) -> bool {
    let events = shared.table.lock().usage.get(&segment).and_then(|usage| usage.events);
    let Some((first, last)) = events else { return true };
    let Some(index) = shared.index() else { return false };
    for sequence in first..=last {
        let found = meta(&*index, sequence, &mut shared.names.lock());
        let mut gone = {
            let mut table = shared.table.lock();
            table.drop_live(sequence, sequence).pop()
        };
        match found {
            Ok(Some(found)) => {
                let mut entries: Vec<IndexEntry> = Vec::new();
                put_meta(&mut entries, &found);
                entries.push((id_key(b'r', found.id), None));
                for (_, value) in &mut entries {
                    *value = None;
                }
                if index.apply(&entries).is_err() {
                    return false;
                }
                gone = gone.or(Some(found));
            }
            Ok(None) => {}
            Err(_) => return false,
        }
        if let Some(gone) = gone {
            shared.table.lock().dropped(&gone);
        }
        if sequence % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    true
}

/// Makes the index anew until that succeeds or the store is closed.
async fn renew<D: Disk>(shared: &Arc<Shared<D>>) {
    while !shared.is_stopping() {
        *shared.index.write() = None;
        match fresh(shared).await {
            Ok(()) => {
                tracing::info!("the index is whole again");
                return;
            }
            Err(error) => tracing::error!(%error, "the index can't be made anew"),
        }
        tokio::select! {
            biased;
            () = shared.index_wanted.notified() => tokio::time::sleep(TRY_EVERY).await,
            () = tokio::time::sleep(TRY_EVERY) => {}
        }
    }
}

async fn fresh<D: Disk>(shared: &Arc<Shared<D>>) -> Result<(), IndexError> {
    let index = shared.indexes.create(&shared.path.join("index"))?;
    recovery::reindex(shared, &*index).await.map_err(|error| IndexError(error.to_string()))?;
    *shared.index.write() = Some(index);
    Ok(())
}
