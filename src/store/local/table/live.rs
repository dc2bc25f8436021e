//! The events in memory, found by accept sequence and by id.

use super::ordered::Ordered;
use super::packed::{self, Packed, Roster};
use super::packs::Packs;
use super::{EventHead, EventId, Meta, Place};

/// The first half of an id, which begins with the time of receipt: ids arrive nearly in order. The event tells the rest.
fn half(id: EventId) -> u64 {
    u64::try_from(id.to_bits() >> 64).unwrap_or(0)
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Live {
    events: Packs,
    /// Half of each id, with the event's sequence.
    ids: Ordered<(u64, u64), ()>,
    roster: Roster,
    scratch: Vec<u8>,
}

impl Live {
    pub(super) fn contains(&self, sequence: u64) -> bool {
        self.events.get(sequence).is_some()
    }

    /// Empty, and packs as this does.
    pub(super) fn beside(&self) -> Self {
        Self { roster: self.roster.clone(), ..Self::default() }
    }

    /// Whether what the other one packed means the same here.
    pub(super) fn packs_alike(&self, other: &Self) -> bool {
        self.roster.begins_with(&other.roster)
    }

    pub(super) fn packed(&self, sequence: u64) -> Option<Packed<'_>> {
        self.events.get(sequence).map(Packed)
    }

    pub(super) fn sequence_of(&self, id: EventId) -> Option<u64> {
        let half = half(id);
        let alike = self.ids.from((half, 0)).take_while(|((other, _), ())| *other == half).map(|((_, sequence), ())| sequence);
        alike.into_iter().find(|sequence| self.packed(*sequence).is_some_and(|packed| packed.id() == id))
    }

    pub(super) fn get(&self, sequence: u64) -> Option<Meta> {
        self.packed(sequence).map(|packed| packed.unpack(sequence, &self.roster))
    }

    /// Where an event in memory lies.
    pub(super) fn place(&self, sequence: u64) -> Option<Place> {
        self.packed(sequence).map(Packed::place)
    }

    /// Whether it is in memory and something of it is pending.
    pub(super) fn is_pending(&self, sequence: u64) -> bool {
        self.packed(sequence).is_some_and(Packed::is_pending)
    }

    /// The version of a delivery, and whether it is final.
    pub(super) fn standing(&self, sequence: u64, ordinal: u32) -> Option<(u32, bool)> {
        self.packed(sequence)?.standing(ordinal)
    }

    /// Holds an event as it stands now.
    pub(super) fn put(&mut self, meta: &Meta) {
        let Packed(packed) = Packed::new(meta, &mut self.roster, &mut self.scratch);
        if self.events.insert(meta.sequence, packed) {
            self.ids.insert((half(meta.id), meta.sequence), ());
        }
    }

    /// Holds an event that was just accepted.
    pub(super) fn accepted(&mut self, head: &EventHead, place: &Place) {
        let Packed(packed) = Packed::accepted(head, place, &mut self.roster, &mut self.scratch);
        if self.events.insert(head.sequence, packed) {
            self.ids.insert((half(head.id), head.sequence), ());
        }
    }

    /// Whether it stands as the footer of its segment tells it.
    pub(super) fn is_told(&self, sequence: u64) -> bool {
        self.packed(sequence).is_some_and(Packed::is_told)
    }

    /// It stands as the footer of its segment tells it, until it is put again.
    pub(super) fn mark_told(&mut self, sequence: u64) {
        if let Some(packed) = self.events.get_mut(sequence) {
            packed::mark_told(packed);
        }
    }

    pub(super) fn remove(&mut self, sequence: u64) -> Option<Meta> {
        let meta = self.get(sequence)?;
        self.events.remove(sequence);
        self.ids.remove((half(meta.id), sequence));
        Some(meta)
    }

    /// From this accept sequence on, upwards.
    pub(super) fn from(&self, sequence: u64) -> impl Iterator<Item = (u64, Packed<'_>)> {
        self.events.from(sequence).map(|(sequence, packed)| (sequence, Packed(packed)))
    }

    /// Below this accept sequence, downwards.
    pub(super) fn below(&self, sequence: u64) -> impl Iterator<Item = (u64, Packed<'_>)> {
        self.events.below(sequence).map(|(sequence, packed)| (sequence, Packed(packed)))
    }

    /// An event that one of the iterators gave.
    pub(super) fn unpack(&self, (sequence, packed): (u64, Packed<'_>)) -> Meta {
        packed.unpack(sequence, &self.roster)
    }
}
