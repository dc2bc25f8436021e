//! What a store's folder holds, read from its files alone, so that it can be asked of a running server's too.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use super::{Progress, Watcher};
use crate::model::{DeliveryId, Name, Timestamp};
use crate::store::local::batch;
use crate::store::local::chain::{Chain, Damage};
use crate::store::local::disk::{Disk, DiskFile};
use crate::store::local::error::StoreError;
use crate::store::local::format;
use crate::store::local::names::Names;
use crate::store::local::record::{self, Kind};
use crate::store::local::segment::{self, FIRST, PAGE, SegmentHeader};

/// A segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentStats {
    /// Its number.
    pub number: u64,
    /// Bytes in use.
    pub used: u64,
    /// Bytes of its file.
    pub bytes: u64,
    /// Events accepted into it.
    pub events: u64,
    /// Deliveries of its events that wait.
    pub pending: u64,
    /// When it was begun.
    pub from: Timestamp,
    /// When its last batch was committed.
    pub until: Timestamp,
}

/// A store's folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Its id.
    pub store: u128,
    /// Its segments, oldest first.
    pub segments: Vec<SegmentStats>,
    /// Files that wait to be segments again, and the one that is ready.
    pub spare: u64,
    /// Bytes of all segments, spare ones too.
    pub journal_bytes: u64,
    /// Events stored.
    pub events: u64,
    /// Bytes of their bodies.
    pub body_bytes: u64,
    /// Deliveries that wait, by destination.
    pub pending: BTreeMap<Name, u64>,
    /// Dead letters, by destination.
    pub dead: BTreeMap<Name, u64>,
    /// Named states that were ever set and are not removed.
    pub states: u64,
    /// Records of dedupe keys that moved out of a segment that went.
    pub keys: u64,
}

/// What is needed of an event until everything is read.
struct Waiting {
    segment: usize,
    destination: Name,
}

#[derive(Default)]
struct Tally {
    stats: Stats,
    names: Names,
    pending: BTreeMap<DeliveryId, Waiting>,
    states: BTreeSet<String>,
}

/// Reads a store's files. The store may be in use; the figures are then of about now.
///
/// # Errors
/// It is no store, it is damaged, or the disk said no.
pub async fn stats<D: Disk>(disk: &D, path: &Path, watcher: Watcher<'_>) -> Result<Stats, StoreError> {
    let io = |error: io::Error| StoreError::io(path, error);
    let mut tally = Tally { stats: Stats { store: format::peek(disk, path).await?, ..Stats::default() }, ..Tally::default() };
    let journal = path.join("journal");
    let (mut files, mut total) = (Vec::new(), 0);
    for name in disk.list(&journal).await.map_err(io)? {
        let number = segment::number(&name);
        if number.is_none() && !name.starts_with("pool-") {
            continue;
        }
        let Ok(file) = disk.open(&journal.join(&name)).await else { continue };
        let bytes = file.length().await.map_err(io)?;
        tally.stats.journal_bytes += bytes;
        let mut page = vec![0; PAGE];
        let header = match file.read_at(0, &mut page).await {
            Ok(()) => SegmentHeader::decode(&page).ok().filter(|header| Some(header.number) == number && header.active.is_some()),
            Err(_) => None,
        };
        match header {
            Some(header) => {
                total += bytes;
                files.push((file, header, bytes));
            }
            None => tally.stats.spare += 1,
        }
    }
    let (mut chain, mut done) = (Chain::default(), 0);
    for (at, (file, header, bytes)) in files.iter().enumerate() {
        let mut buffer = vec![0; usize::try_from(*bytes).unwrap_or(usize::MAX).min(segment::BYTES_MAX)];
        file.read_at(0, &mut buffer).await.map_err(io)?;
        let segment = SegmentStats {
            number: header.number,
            used: 0,
            bytes: *bytes,
            events: 0,
            pending: 0,
            from: header.created_at,
            until: header.created_at,
        };
        tally.stats.segments.push(segment);
        let successor = files.get(at + 1).map(|(_, header, _)| header);
        let read =
            chain.read::<Damage>(&buffer, header, successor, |batch, offset, payload| tally.batch(at, batch.committed_at, offset, payload));
        if let Err(Damage { offset, what }) = read
            // The last one may be written while it is read.
            && successor.is_some()
        {
            let name = segment::file_name(header.number);
            return Err(StoreError::damaged(path, format!("`{name}` at byte {offset}: {what}")));
        }
        tally.stats.segments[at].used = chain.end.max(FIRST) as u64;
        done += *bytes;
        watcher(Progress { done, total });
    }
    Ok(tally.close())
}

impl Tally {
    fn batch(&mut self, segment: usize, at: Timestamp, offset: usize, payload: &[u8]) -> Result<(), Damage> {
        let Self { stats, names, pending, states } = self;
        stats.segments[segment].until = stats.segments[segment].until.max(at);
        let unreadable = |_malformed| Damage { offset, what: "a record of a sound batch can't be read" };
        for found in batch::records(payload) {
            let (_, frame, bytes) = found.map_err(unreadable)?;
            match frame.kind {
                Kind::Event => {
                    let head = record::event_head(bytes, &frame, names).map_err(unreadable)?;
                    stats.events += 1;
                    stats.segments[segment].events += 1;
                    stats.body_bytes += frame.tail as u64;
                    for (ordinal, delivery) in (0..).zip(head.deliveries) {
                        pending.insert(DeliveryId::new(head.id, ordinal), Waiting { segment, destination: delivery.destination });
                    }
                }
                Kind::Settlement => {
                    let settled = record::decode_settlement(bytes, &frame).map_err(unreadable)?;
                    if settled.state.is_final()
                        && let Some(waiting) = pending.remove(&settled.delivery)
                        && matches!(settled.state, crate::model::DeliveryState::Dead(_))
                    {
                        *stats.dead.entry(waiting.destination).or_default() += 1;
                    }
                }
                Kind::Replay | Kind::Acknowledgement => {
                    let replay = record::decode_replay(bytes, &frame, names).map_err(unreadable)?;
                    for (ordinal, delivery) in (replay.first_ordinal..).zip(replay.deliveries) {
                        pending.insert(DeliveryId::new(replay.event, ordinal), Waiting { segment, destination: delivery.destination });
                    }
                }
                Kind::Key => {
                    record::decode_key(bytes, &frame).map_err(unreadable)?;
                    stats.keys += 1;
                }
                Kind::Repeat | Kind::Live => {}
                Kind::Moved => {
                    let meta = record::decode_moved(bytes, &frame, names).map_err(unreadable)?;
                    let mut is_known = false;
                    for delivery in meta.model_deliveries().into_iter().filter(|delivery| !delivery.state.is_final()) {
                        is_known |= pending.insert(delivery.id, Waiting { segment, destination: delivery.destination }).is_some();
                    }
                    if !is_known {
                        // The segment that it was accepted into has gone.
                        stats.events += 1;
                        stats.segments[segment].events += 1;
                        stats.body_bytes += frame.tail as u64;
                    }
                }
                Kind::State => match record::decode_state(bytes, &frame).map_err(unreadable)? {
                    (name, Some(_)) => drop(states.insert(name)),
                    (name, None) => drop(states.remove(&name)),
                },
            }
        }
        Ok(())
    }

    fn close(self) -> Stats {
        let Self { mut stats, pending, states, .. } = self;
        for waiting in pending.into_values() {
            stats.segments[waiting.segment].pending += 1;
            *stats.pending.entry(waiting.destination).or_default() += 1;
        }
        stats.states = states.len() as u64;
        stats
    }
}
