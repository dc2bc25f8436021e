//! The index's entries: an event by its sequence (in parts, if it is large), its sequence by its id, and how often
//! its key was seen again.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use super::BATCH_MAX;
use crate::model::EventId;
use crate::store::local::index::{Index, IndexEntry, IndexError};
use crate::store::local::names::Names;
use crate::store::local::table::Meta;

/// Bytes of one value; sled puts larger ones into files that it never syncs.
const VALUE_BYTES_MAX: usize = 3000;

/// Entries that are read at a time.
const PAGE: usize = 256;

/// Keys of an event's parts: by sequence, so that lists run over them.
fn event_key(sequence: u64, part: u16) -> Vec<u8> {
    let mut key = vec![b'e'];
    key.extend_from_slice(&sequence.to_be_bytes());
    key.extend_from_slice(&part.to_be_bytes());
    key
}

fn id_key(kind: u8, id: u128) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend_from_slice(&id.to_be_bytes());
    key
}

/// Writes events and repeats in small batches.
pub(in crate::store::local) fn write(
    index: &dyn Index,
    metas: impl IntoIterator<Item = impl Borrow<Meta>>,
    repeats: &BTreeMap<EventId, u64>,
) -> Result<(), IndexError> {
    let mut entries = Vec::new();
    for meta in metas {
        put(&mut entries, meta.borrow());
        if entries.len() >= BATCH_MAX {
            index.apply(&entries)?;
            entries.clear();
        }
    }
    for (id, count) in repeats {
        entries.push((id_key(b'r', id.to_bits()), Some(count.to_be_bytes().to_vec())));
    }
    entries.chunks(BATCH_MAX).try_for_each(|some| index.apply(some))
}

fn put(entries: &mut Vec<IndexEntry>, meta: &Meta) {
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
    entries.push((id_key(b'i', meta.id.to_bits()), Some(meta.sequence.to_be_bytes().to_vec())));
}

fn number(value: &[u8]) -> Result<u64, IndexError> {
    value.try_into().map(u64::from_be_bytes).map_err(|_length| IndexError("a value can't be read".to_owned()))
}

/// An event's entry by its sequence.
pub(in crate::store::local) fn meta(index: &dyn Index, sequence: u64, names: &mut Names) -> Result<Option<Meta>, IndexError> {
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
pub(in crate::store::local) fn meta_of(index: &dyn Index, id: EventId, names: &mut Names) -> Result<Option<Meta>, IndexError> {
    match index.get(&id_key(b'i', id.to_bits()))? {
        Some(value) => meta(index, number(&value)?, names),
        None => Ok(None),
    }
}

/// How often an event was repeated, as far as the index knows.
pub(in crate::store::local) fn repeats(index: &dyn Index, id: EventId) -> Result<u64, IndexError> {
    index.get(&id_key(b'r', id.to_bits()))?.map_or(Ok(0), |value| number(&value))
}

/// Sequences of indexed events below this one, newest first; `limit` counts their parts.
pub(in crate::store::local) fn below(index: &dyn Index, before: u64, limit: usize) -> Result<Vec<u64>, IndexError> {
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

/// Removes the events of these sequences, unless they have moved on from this segment.
pub(super) fn forget(index: &dyn Index, segment: u64, (first, last): (u64, u64)) -> Result<(), IndexError> {
    let (from, mut below) = (event_key(first, 0), event_key(last.saturating_add(1), 0));
    // The parts of one event, from its last to its first, which says whose it is and where it lies.
    let mut parts: Vec<IndexEntry> = Vec::new();
    loop {
        let found = index.last(&from, &below, PAGE)?;
        let Some((oldest, _)) = found.last() else { return Ok(()) };
        below.clone_from(oldest);
        let mut entries: Vec<IndexEntry> = Vec::new();
        for (key, value) in found {
            let is_first = key.ends_with(&[0, 0]);
            parts.push((key, None));
            if !is_first {
                continue;
            }
            // Behind the count of parts: id, sequence, segment.
            let id = value.get(2..18).and_then(|id| id.try_into().ok()).map(u128::from_le_bytes);
            let place = value.get(26..34).and_then(|place| place.try_into().ok()).map(u64::from_le_bytes);
            if place.is_none_or(|place| place <= segment) {
                entries.append(&mut parts);
                entries.extend(id.into_iter().flat_map(|id| [(id_key(b'i', id), None), (id_key(b'r', id), None)]));
            }
            parts.clear();
        }
        entries.chunks(BATCH_MAX).try_for_each(|some| index.apply(some))?;
    }
}

/// Removes the repeats of these events, but not of those that the index holds itself; the ids are in their order.
pub(super) fn forget_repeats(index: &dyn Index, ids: &[u128]) -> Result<(), IndexError> {
    let (Some(first), Some(last)) = (ids.first(), ids.last()) else { return Ok(()) };
    let mut below = id_key(b'r', last.saturating_add(1));
    loop {
        let found = index.last(&id_key(b'r', *first), &below, PAGE)?;
        let Some((oldest, _)) = found.last() else { return Ok(()) };
        below.clone_from(oldest);
        let mut entries: Vec<IndexEntry> = Vec::new();
        for (key, _) in found {
            let id = key.get(1..17).and_then(|id| id.try_into().ok()).map(u128::from_be_bytes);
            if let Some(id) = id.filter(|id| ids.binary_search(id).is_ok())
                && index.get(&id_key(b'i', id))?.is_none()
            {
                entries.push((key, None));
            }
        }
        entries.chunks(BATCH_MAX).try_for_each(|some| index.apply(some))?;
    }
}
