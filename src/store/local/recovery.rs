//! What a start does: read the journal, rebuild everything from it, and go on in a fresh segment.
//!
//! A start never appends to an old segment. The fresh one opens with a copy of the last batch, the only one
//! whose sync is not proven, and before that is synced nothing that was read is delivered or answered (rule 4).

mod replay;

use std::io;
use std::sync::Arc;

use super::batch;
use super::chain::{Chain, Damage};
use super::committer::{Current, Last, Ledger};
use super::disk::{Disk, DiskFile};
use super::error::StoreError;
use super::index::Index;
use super::keys::Keys;
use super::segment::{self, Active, FIRST, PAGE, Predecessor, SegmentHeader};
use super::shared::{Shared, Shelved};
use super::{librarian, supply};
use crate::model::Timestamp;

use replay::{Problem, Replayer};

/// A segment that was found.
struct Found<F> {
    file: Arc<F>,
    header: SegmentHeader,
}

/// What the committer goes on with.
pub(super) struct Recovered<F> {
    pub(super) current: Current<F>,
    pub(super) last: Last,
    pub(super) ledger: Ledger,
}

/// Reads a whole segment into `buffer`.
async fn read<F: DiskFile>(file: &F, buffer: &mut Vec<u8>) -> io::Result<()> {
    let length = usize::try_from(file.length().await?).unwrap_or(usize::MAX).min(segment::BYTES_MAX);
    buffer.clear();
    buffer.resize(length, 0);
    file.read_at(0, buffer).await
}

/// Opens what lies in the journal's folder: segments in their order; pool files and leftovers are put aside.
async fn find<D: Disk>(shared: &Shared<D>, is_new: bool) -> Result<Vec<Found<D::File>>, StoreError> {
    let journal = shared.journal();
    let io = |error: io::Error| StoreError::io(&journal, error);
    let damaged = |what: String| StoreError::damaged(&shared.path, what);
    let mut found: Vec<Found<D::File>> = Vec::new();
    for name in shared.disk.list(&journal).await.map_err(io)? {
        let path = journal.join(&name);
        let Some(number) = segment::number(&name) else {
            match name.strip_prefix("pool-").and_then(segment::number) {
                Some(pooled) => {
                    let mut supply = shared.supply.lock();
                    supply.pooled = supply.pooled.max(pooled);
                    supply.pool.push(path);
                }
                None if supply::LEFTOVERS.contains(&name.as_str()) => shared.disk.remove(&path).await.map_err(io)?,
                None => tracing::warn!(file = %path.display(), "a file in the journal's folder is none of the store's; it is left alone"),
            }
            continue;
        };
        let file = shared.disk.open(&path).await.map_err(io)?;
        let mut page = vec![0; PAGE];
        file.read_at(0, &mut page).await.map_err(io)?;
        let header = SegmentHeader::decode(&page).map_err(|error| damaged(format!("`{name}`: {error}")))?;
        if header.number != number || header.store != shared.store {
            return Err(damaged(format!("`{name}` is not the segment that its name says")));
        }
        if let Some(before) = found.last() {
            check_order(&before.header, &header).map_err(|what| damaged(format!("`{name}`: {what}")))?;
        }
        found.push(Found { file: Arc::new(file), header });
    }
    if found.is_empty() && !is_new {
        return Err(damaged("its journal has no segments".to_owned()));
    }
    Ok(found)
}

fn check_order(before: &SegmentHeader, header: &SegmentHeader) -> Result<(), &'static str> {
    if header.number != before.number + 1 {
        return Err("a segment before it is missing");
    }
    match (&before.active, &header.active) {
        (Some(_), None) => Ok(()),
        (None, _) => Err("the segment before it was never used"),
        (Some(_), Some(active)) => match active.predecessor {
            Some(predecessor) if predecessor.nonce == before.nonce => Ok(()),
            Some(_) | None => Err("it follows another segment than the one before it"),
        },
    }
}

/// A prepared segment goes into the pool: a start goes on in one of its own.
async fn unready<D: Disk>(shared: &Shared<D>, found: &mut Vec<Found<D::File>>) -> Result<(), StoreError> {
    let Some(ready) = found.pop_if(|last| last.header.active.is_none()) else { return Ok(()) };
    let io = |error: io::Error| StoreError::io(&shared.path, error);
    let to = shared.pool_path();
    shared.disk.rename(&shared.segment_path(ready.header.number), &to).await.map_err(io)?;
    shared.disk.sync_dir(&shared.journal()).await.map_err(io)?;
    shared.supply.lock().pool.push(to);
    Ok(())
}

/// Reads everything and opens a fresh segment.
pub(super) async fn recover<D: Disk>(shared: &Arc<Shared<D>>, is_new: bool) -> Result<Recovered<D::File>, StoreError> {
    let mut found = find(shared, is_new).await?;
    unready(shared, &mut found).await?;
    if found.is_empty() && !is_new {
        return Err(StoreError::damaged(&shared.path, "its journal has no segment that was ever used".to_owned()));
    }
    let (mut chain, mut keys, mut buffer) = (Chain::default(), Keys::default(), Vec::new());
    let (now, mut newest_at) = (shared.clock.now(), Timestamp::default());
    for (at, segment) in found.iter().enumerate() {
        read(&*segment.file, &mut buffer).await.map_err(|error| StoreError::io(&shared.path, error))?;
        let Found { file, header } = segment;
        let successor = found.get(at + 1).map(|next| &next.header);
        let mut replayer = Replayer { shared, keys: &mut keys, segment: header.number, now, newest_at: &mut newest_at };
        let read = chain.read(&buffer, header, successor, |batch, offset, payload| replayer.batch(batch, offset, payload));
        read.map_err(|problem| explain(shared, header.number, &problem))?;
        shared.shelf.lock().insert(header.number, Shelved { nonce: header.nonce, file: file.clone() });
        shared.table.lock().usage.entry(header.number).or_default();
        while librarian::write_some(shared).map_err(|error| StoreError::io(&shared.path, io::Error::other(error)))? {}
    }
    drop(buffer);
    shared.calendar.begin(&*shared.clock, if is_new { now } else { newest_at });
    let ledger = {
        let mut table = shared.table.lock();
        if let Some(active) = found.last().and_then(|last| last.header.active.as_ref()) {
            table.sequence = table.sequence.max(active.given.event);
            table.position = table.position.max(active.given.position);
        }
        Ledger { keys, batch: chain.sequence.unwrap_or(0) + 1, event: table.sequence + 1, position: table.position + 1 }
    };
    open_fresh(shared, &found, &chain, ledger).await.map_err(|error| StoreError::io(&shared.path, error))
}

fn explain<D: Disk>(shared: &Shared<D>, number: u64, problem: &Problem) -> StoreError {
    let name = segment::file_name(number);
    match problem {
        Problem::Damage(Damage { offset, what }) => StoreError::damaged(&shared.path, format!("`{name}` at byte {offset}: {what}")),
        Problem::Record { offset, error } => StoreError::damaged(&shared.path, format!("`{name}` at byte {offset}: {error}")),
        Problem::Index(error) => StoreError::io(&shared.path, io::Error::other(error.clone())),
    }
}

/// The fresh segment, with the copy of the last batch, synced. It takes the place of a last segment that holds
/// nothing of its own, so that a process that dies again and again does not fill the disk with segments.
async fn open_fresh<D: Disk>(
    shared: &Arc<Shared<D>>,
    found: &[Found<D::File>],
    chain: &Chain,
    ledger: Ledger,
) -> io::Result<Recovered<D::File>> {
    let nonce = shared.nonce();
    let (number, predecessor) = match found.last() {
        None => (1, None),
        Some(Found { header, .. }) if chain.own == 0 => (header.number, header.active.as_ref().and_then(|active| active.predecessor)),
        Some(Found { header, .. }) => {
            let predecessor = Predecessor { nonce: header.nonce, end: chain.end, last_start: chain.last_start };
            (header.number + 1, Some(predecessor))
        }
    };
    let active = Some(Active { first_sequence: ledger.batch, predecessor, given: ledger.given() });
    let mut image = SegmentHeader { active, ..shared.header(number, nonce) }.encode();
    let mut last = Last::default();
    // What a repair wrote was synced by it, and its damaged records must not be sealed anew.
    if let (Some((header, bytes)), true) = (chain.last.as_ref().filter(|(header, _)| !header.is_repaired()), predecessor.is_some()) {
        image.extend_from_slice(bytes);
        let flags = header.flags | batch::COPY;
        batch::finish(&mut image[FIRST..], nonce, header.sequence, flags, header.committed_at);
        last = Last { base: 0, start: FIRST, length: bytes.len(), sequence: header.sequence, flags, at: header.committed_at, ..last };
    }
    let end = image.len().next_multiple_of(batch::ALIGN);
    image.resize(image.len().next_multiple_of(PAGE), 0);
    let file = Arc::new(supply::install(shared, number, &image).await?);
    last.image = image;
    shared.shelf.lock().insert(number, Shelved { nonce, file: file.clone() });
    shared.supply.lock().wanted = Some(number + 1);
    Ok(Recovered { current: Current { number, nonce, file, end }, last, ledger })
}

/// Fills a new index with every event that is not in memory, while the store is running.
///
/// What is in memory goes into the index by itself once it is settled. Only the librarian, who calls this,
/// moves events between memory and index, so none can slip between the two.
pub(super) async fn reindex<D: Disk>(shared: &Arc<Shared<D>>, index: &dyn Index) -> io::Result<()> {
    let newest = shared.table.lock().sequence;
    let files: Vec<Arc<D::File>> = shared.shelf.lock().values().map(|shelved| shelved.file.clone()).collect();
    let mut headers = Vec::with_capacity(files.len());
    let mut page = vec![0; PAGE];
    for file in &files {
        file.read_at(0, &mut page).await?;
        headers.push(SegmentHeader::decode(&page).map_err(io::Error::other)?);
    }
    let (mut chain, mut buffer) = (Chain::default(), Vec::new());
    for (at, (file, header)) in files.iter().zip(&headers).enumerate() {
        read(&**file, &mut buffer).await?;
        let mut merger = replay::Merger::new(shared, index, header.number, newest);
        let read = chain.read(&buffer, header, headers.get(at + 1), |batch, offset, payload| merger.batch(batch, offset, payload));
        read.map_err(|problem| io::Error::other(explain(shared, header.number, &problem)))?;
        merger.finish().map_err(io::Error::other)?;
    }
    Ok(())
}
