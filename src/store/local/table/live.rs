//! The events in memory, found by accept sequence and by id.

use super::ordered::Ordered;
use super::packed::{Packed, Roster};
use super::{EventId, Meta, Place};

/// Ids begin with the time of receipt, so they arrive nearly in order. Two halves take less room than one u128.
type Key = (u64, u64);

fn key(id: EventId) -> Key {
    let bits = id.to_bits().to_be_bytes();
    let half = |bytes: &[u8]| bytes.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte));
    (half(&bits[..8]), half(&bits[8..]))
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Live {
    events: Ordered<u64, Packed>,
    ids: Ordered<Key, u64>,
    roster: Roster,
    scratch: Vec<u8>,
}

impl Live {
    pub(super) fn contains(&self, sequence: u64) -> bool {
        self.events.get(sequence).is_some()
    }

    pub(super) fn sequence_of(&self, id: EventId) -> Option<u64> {
        self.ids.get(key(id)).copied()
    }

    pub(super) fn get(&self, sequence: u64) -> Option<Meta> {
        self.events.get(sequence).map(|packed| packed.unpack(sequence, &self.roster))
    }

    /// Where an event in memory lies.
    pub(super) fn place(&self, sequence: u64) -> Option<Place> {
        self.events.get(sequence).map(Packed::place)
    }

    /// Whether it is in memory and something of it is pending.
    pub(super) fn is_pending(&self, sequence: u64) -> bool {
        self.events.get(sequence).is_some_and(Packed::is_pending)
    }

    /// Holds an event as it stands now.
    pub(super) fn put(&mut self, meta: &Meta) {
        let packed = Packed::new(meta, &mut self.roster, &mut self.scratch);
        if self.events.insert(meta.sequence, packed).is_none() {
            self.ids.insert(key(meta.id), meta.sequence);
        }
    }

    pub(super) fn remove(&mut self, sequence: u64) -> Option<Meta> {
        let packed = self.events.remove(sequence)?;
        self.ids.remove(key(packed.id()));
        Some(packed.unpack(sequence, &self.roster))
    }

    /// From this accept sequence on, upwards.
    pub(super) fn from(&self, sequence: u64) -> impl Iterator<Item = (u64, &Packed)> {
        self.events.from(sequence)
    }

    /// Below this accept sequence, downwards.
    pub(super) fn below(&self, sequence: u64) -> impl Iterator<Item = (u64, &Packed)> {
        self.events.below(sequence)
    }

    /// An event that one of the iterators gave.
    pub(super) fn unpack(&self, (sequence, packed): (u64, &Packed)) -> Meta {
        packed.unpack(sequence, &self.roster)
    }
}
