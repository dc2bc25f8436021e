//! Applying what the journal says to memory, at a start.

use std::io;
use std::sync::Arc;

use crate::model::Timestamp;
use crate::store::local::batch::{self, BatchHeader};
use crate::store::local::chain::Damage;
use crate::store::local::codec::Malformed;
use crate::store::local::disk::Disk;
use crate::store::local::keys::Keys;
use crate::store::local::record::{self, Frame, Kind};
use crate::store::local::shared::Shared;
use crate::store::local::table::{Place, Table};

/// Why reading the journal stopped.
#[derive(Debug)]
pub(super) enum Problem {
    Io(io::Error),
    Damage(Damage),
    Record { offset: usize, error: Malformed },
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Damage> for Problem {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}

/// Rebuilds the table and the keys.
pub(super) struct Replayer<'a, D: Disk> {
    pub(super) shared: &'a Arc<Shared<D>>,
    pub(super) keys: &'a mut Keys,
    pub(super) segment: u64,
    /// When the newest batch so far was committed.
    pub(super) newest_at: Timestamp,
}

impl<D: Disk> Replayer<'_, D> {
    pub(super) fn batch(&mut self, header: &BatchHeader, offset: usize, payload: &[u8]) -> Result<(), Problem> {
        let shared = self.shared;
        let mut table = shared.table.lock();
        table.touch(self.segment, header.committed_at);
        self.newest_at = self.newest_at.max(header.committed_at);
        for found in batch::records(payload) {
            let malformed = |error: Malformed| Problem::Record { offset, error };
            let (at, frame, record) = found.map_err(malformed)?;
            let place = Place::new(self.segment, offset + batch::HEADER + at, frame.length, frame.tail);
            self.record(&mut table, &frame, record, place).map_err(malformed)?;
        }
        Ok(())
    }

    pub(super) fn record(&mut self, table: &mut Table, frame: &Frame, record: &[u8], place: Place) -> Result<(), Malformed> {
        let names = &self.shared.names;
        match frame.kind {
            Kind::Event => {
                let head = record::event_head(record, frame, &mut names.lock())?;
                if let Some(key) = head.dedupe {
                    self.keys.insert(key.hash, (head.id, head.sequence), &head.answer, key.expires_at);
                }
                table.add_event(&head, place);
            }
            Kind::Settlement => drop(table.settle(&record::decode_settlement(record, frame)?, place)),
            // Without its event, which was let go with its segment, a replay says nothing any more.
            Kind::Replay | Kind::Acknowledgement => drop(table.add_replay(record::decode_replay(record, frame, &mut names.lock())?)),
            Kind::Live => table.bring_back(record::decode_live(record, frame, &mut names.lock())?),
            Kind::Moved => table.relocate(record::decode_moved(record, frame, &mut names.lock())?, place),
            Kind::Key => {
                let key = record::decode_key(record, frame)?;
                table.usage.entry(place.segment).or_default().add_keys(key.expires_at, record::key_bytes(&key.answer));
                self.keys.hold(&key);
            }
            Kind::Repeat => {
                let repeat = record::decode_repeat(record, frame)?;
                self.keys.set_repeats(&repeat.key, repeat.event, repeat.count);
                table.repeat(repeat.event, repeat.count);
            }
            Kind::State => {
                let (name, value) = record::decode_state(record, frame)?;
                table.set_state(name, value, self.segment);
            }
        }
        Ok(())
    }
}
