//! Applying what the journal says: to memory at a start, to a new index while running.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::Timestamp;
use crate::store::local::batch::{self, BatchHeader};
use crate::store::local::chain::Damage;
use crate::store::local::codec::Malformed;
use crate::store::local::disk::Disk;
use crate::store::local::index::{Index, IndexError};
use crate::store::local::keys::{Keys, SLACK};
use crate::store::local::librarian;
use crate::store::local::record::{self, Frame, Kind};
use crate::store::local::shared::Shared;
use crate::store::local::table::{Meta, Place, Table};

/// Why reading the journal stopped.
#[derive(Debug)]
pub(super) enum Problem {
    Damage(Damage),
    Record { offset: usize, error: Malformed },
    Index(IndexError),
}

impl From<Damage> for Problem {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}

impl From<IndexError> for Problem {
    fn from(error: IndexError) -> Self {
        Self::Index(error)
    }
}

/// A record's place; segments are smaller than 4 GiB.
fn place(segment: u64, offset: usize, frame: &Frame) -> Place {
    let small = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    Place { segment, offset: small(offset), length: small(frame.length), tail: small(frame.tail) }
}

/// The records of a batch at `offset`, with their places.
fn placed(segment: u64, offset: usize, payload: &[u8]) -> impl Iterator<Item = Result<(Place, Frame, &[u8]), Problem>> {
    batch::records(payload).map(move |found| {
        let (at, frame, record) = found.map_err(|error| Problem::Record { offset, error })?;
        Ok((place(segment, offset + batch::HEADER + at, &frame), frame, record))
    })
}

/// Rebuilds the table and the keys.
pub(super) struct Replayer<'a, D: Disk> {
    pub(super) shared: &'a Arc<Shared<D>>,
    pub(super) keys: &'a mut Keys,
    pub(super) segment: u64,
    pub(super) now: Timestamp,
    /// When the newest batch so far was committed.
    pub(super) newest_at: &'a mut Timestamp,
}

impl<D: Disk> Replayer<'_, D> {
    pub(super) fn batch(&mut self, header: &BatchHeader, offset: usize, payload: &[u8]) -> Result<(), Problem> {
        let mut table = self.shared.table.lock();
        table.touch(self.segment, header.committed_at);
        *self.newest_at = header.committed_at;
        for found in placed(self.segment, offset, payload) {
            let (place, frame, record) = found?;
            let malformed = |error: Malformed| Problem::Record { offset, error };
            match frame.kind {
                Kind::Event => {
                    let head = record::event_head(record, &frame, &mut self.shared.names.lock()).map_err(malformed)?;
                    if let Some(key) = head.dedupe.filter(|key| self.is_current(key.expires_at)) {
                        self.keys.insert(key.hash, head.id, &head.answer, key.expires_at);
                    }
                    table.add_event(head, place);
                }
                Kind::Settlement => {
                    let settled = record::decode_settlement(record, &frame).map_err(malformed)?;
                    table.settle(&settled, place);
                }
                Kind::Replay => {
                    let replay = record::decode_replay(record, &frame, &mut self.shared.names.lock()).map_err(malformed)?;
                    self.recall(&mut table, replay.sequence)?;
                    // Without its event, which was let go with its segment, a replay says nothing any more.
                    table.add_replay(replay);
                }
                Kind::Repeat => {
                    let repeat = record::decode_repeat(record, &frame).map_err(malformed)?;
                    self.keys.set_repeats(&repeat.key, repeat.event, repeat.count);
                    table.repeat(repeat.event, repeat.count);
                }
                Kind::State => {
                    let (name, value) = record::decode_state(record, &frame).map_err(malformed)?;
                    table.set_state(name, value, self.segment);
                }
            }
        }
        Ok(())
    }

    /// Whether a key may still be needed. The clock may be wrong by more than a window: the last commit's time
    /// is another witness.
    fn is_current(&self, expires_at: Timestamp) -> bool {
        expires_at.saturating_add(SLACK) > self.now.min(*self.newest_at)
    }

    fn recall(&self, table: &mut Table, sequence: u64) -> Result<(), Problem> {
        if !table.holds(sequence)
            && let Some(index) = self.shared.index()
            && let Some(meta) = librarian::meta(&*index, sequence, &mut self.shared.names.lock())?
        {
            table.bring_back(meta);
        }
        Ok(())
    }
}

/// Fills a new index, a segment at a time. Its table stands for one segment's changes only.
pub(super) struct Merger<'a, D: Disk> {
    shared: &'a Arc<Shared<D>>,
    index: &'a dyn Index,
    segment: u64,
    newest: u64,
    table: Table,
    repeats: BTreeMap<crate::model::EventId, u64>,
}

impl<'a, D: Disk> Merger<'a, D> {
    /// `newest`: events beyond it are in memory, and none of the index's business yet.
    pub(super) fn new(shared: &'a Arc<Shared<D>>, index: &'a dyn Index, segment: u64, newest: u64) -> Self {
        Self { shared, index, segment, newest, table: Table::default(), repeats: BTreeMap::new() }
    }

    pub(super) fn batch(&mut self, _header: &BatchHeader, offset: usize, payload: &[u8]) -> Result<(), Problem> {
        for found in placed(self.segment, offset, payload) {
            let (place, frame, record) = found?;
            let malformed = |error: Malformed| Problem::Record { offset, error };
            match frame.kind {
                Kind::Event => {
                    let head = record::event_head(record, &frame, &mut self.shared.names.lock()).map_err(malformed)?;
                    if head.sequence <= self.newest {
                        self.table.add_event(head, place);
                    }
                }
                Kind::Settlement => {
                    let settled = record::decode_settlement(record, &frame).map_err(malformed)?;
                    self.recall(settled.sequence)?;
                    self.table.settle(&settled, place);
                }
                Kind::Replay => {
                    let replay = record::decode_replay(record, &frame, &mut self.shared.names.lock()).map_err(malformed)?;
                    self.recall(replay.sequence)?;
                    self.table.add_replay(replay);
                }
                Kind::Repeat => {
                    let repeat = record::decode_repeat(record, &frame).map_err(malformed)?;
                    self.repeats.insert(repeat.event, repeat.count);
                }
                Kind::State => {}
            }
        }
        Ok(())
    }

    fn recall(&mut self, sequence: u64) -> Result<(), Problem> {
        if !self.table.holds(sequence)
            && let Some(meta) = librarian::meta(self.index, sequence, &mut self.shared.names.lock())?
        {
            self.table.bring_back(meta);
        }
        Ok(())
    }

    /// Writes the segment's changes, pending ones too: a later segment settles them.
    pub(super) fn finish(self) -> Result<(), IndexError> {
        let metas: Vec<Meta> = self.table.below(u64::MAX, usize::MAX);
        librarian::write(self.index, &metas, &self.repeats)
    }
}
