//! What the store knows in memory: everything pending, what is settled and not yet in the index, the newest
//! state of each name, and what each segment is still needed for.
//!
//! It holds only what is durable: the committer applies a batch after its sync returned, and a start applies
//! the same records in the same order. It never touches a disk, so its lock is held for moments only.

mod live;
mod meta;
mod ordered;
mod packed;
mod packs;
mod paged;
mod pins;
mod told;
mod usage;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::record::{EventHead, Replayed, Settled, key_bytes};
use crate::model::{DeliveryId, DeliveryKind, DeliveryState, DestinationCounts, EventId, Lane, Name, Timestamp};
use crate::store::{NewDelivery, PendingDelivery};

use live::Live;
pub(super) use meta::{AttemptPlace, DeliveryMeta, Meta, Place};
use ordered::Ordered;
pub(super) use paged::Paged;
pub(super) use pins::Pin;
pub(super) use usage::Usage;

/// The newest value of a name, and the segment that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) value: Bytes,
    pub(super) segment: u64,
}

#[derive(Debug, Default)]
struct Count {
    dead: u64,
    /// Positions.
    pending: Ordered<u64, ()>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Events with something pending, in a segment without a footer, or not yet in the index.
    live: Live,
    /// How many replays on their way an event must stay in memory for, by accept sequence.
    pins: BTreeMap<u64, u32>,
    /// Events that were forgotten and came back: what is committed about them must say so.
    recalled: BTreeSet<u64>,
    /// Accept sequences of pending deliveries, by position.
    pending: Ordered<u64, u64>,
    counts: BTreeMap<Name, Count>,
    /// What waits and is not in memory.
    pages: paged::Pages,
    /// Events that have nothing pending, outlived their segment, and wait for the index.
    to_index: BTreeSet<u64>,
    /// Repeats that the index has not heard of.
    repeats: BTreeMap<EventId, u64>,
    pub(super) states: BTreeMap<String, Named>,
    /// Bytes of all states and their names.
    pub(super) state_bytes: usize,
    pub(super) usage: BTreeMap<u64, Usage>,
    /// Events stored, wherever they are known.
    pub(super) events: u64,
    /// The highest position given out.
    pub(super) position: u64,
    /// The highest accept sequence given out.
    pub(super) sequence: u64,
}

fn dead_of(meta: &Meta) -> impl Iterator<Item = &Name> {
    meta.deliveries.iter().filter(|delivery| matches!(delivery.state, DeliveryState::Dead(_))).map(|delivery| &delivery.destination)
}

impl Table {
    /// An event became durable at `place`. One that is known already is left as it is.
    pub(super) fn add_event(&mut self, head: &EventHead, place: Place) {
        if self.holds(head.sequence) {
            return;
        }
        let usage = self.usage.entry(place.segment).or_default();
        usage.events = Some(usage.events.map_or((head.sequence, head.sequence), |(first, _)| (first, head.sequence)));
        usage.count += 1;
        if let Some(key) = &head.dedupe {
            usage.add_keys(key.expires_at, key_bytes(&head.answer));
        }
        if !head.deliveries.is_empty() {
            usage.live = usage.live.saturating_add(place.bytes());
        }
        self.sequence = self.sequence.max(head.sequence);
        self.events += 1;
        for (position, delivery) in (head.first_position..).zip(&head.deliveries) {
            self.waits(position, &delivery.destination, head.sequence, place.segment);
        }
        self.live.accepted(head, &place);
    }

    fn add_deliveries(&mut self, meta: &mut Meta, first: u64, kind: DeliveryKind, created_at: Timestamp, deliveries: &[NewDelivery]) {
        meta.deliveries.reserve_exact(deliveries.len());
        for (position, delivery) in (first..).zip(deliveries) {
            let delivery = DeliveryMeta::new(position, delivery, kind, created_at);
            self.waits(position, &delivery.destination, meta.sequence, meta.place.segment);
            meta.deliveries.push(delivery);
        }
    }

    /// Counts the bytes of an event whose deliveries have changed.
    fn holds_now(&mut self, meta: &Meta, was_pending: bool) {
        let Some(usage) = self.usage.get_mut(&meta.place.segment) else { return };
        match (was_pending, meta.is_pending()) {
            (false, true) => usage.live = usage.live.saturating_add(meta.place.bytes()),
            (true, false) => usage.live = usage.live.saturating_sub(meta.place.bytes()),
            (false, false) | (true, true) => {}
        }
    }

    fn waits(&mut self, position: u64, destination: &Name, sequence: u64, segment: u64) {
        self.pending.insert(position, sequence);
        match self.counts.get_mut(destination) {
            Some(count) => count.pending.insert(position, ()),
            None => self.counts.entry(destination.clone()).or_default().pending.insert(position, ()),
        };
        self.usage.entry(segment).or_default().pending += 1;
        self.position = self.position.max(position);
    }

    /// An event as a footer or a checkpoint tells it. Its segment counts it already.
    pub(super) fn put(&mut self, meta: Meta) {
        if self.holds(meta.sequence) {
            return;
        }
        for delivery in &meta.deliveries {
            if !delivery.state.is_final() {
                self.waits(delivery.position, &delivery.destination, meta.sequence, meta.place.segment);
            }
            self.position = self.position.max(delivery.position);
        }
        for name in dead_of(&meta) {
            self.counts.entry(name.clone()).or_default().dead += 1;
        }
        self.sequence = self.sequence.max(meta.sequence);
        self.holds_now(&meta, false);
        self.place(&meta);
        self.live.put(&meta);
    }

    /// Whether an event that has nothing pending goes into the index.
    fn place(&mut self, meta: &Meta) {
        let is_sealed = self.usage.get(&meta.place.segment).is_some_and(|usage| usage.sealed);
        if is_sealed && !meta.is_pending() {
            self.to_index.insert(meta.sequence);
        } else {
            self.to_index.remove(&meta.sequence);
        }
    }

    /// Further deliveries of an event became durable. `false`: the event is not in memory.
    pub(super) fn add_replay(&mut self, replay: Replayed) -> bool {
        let Some(mut meta) = self.live.get(replay.sequence).filter(|meta| meta.id == replay.event) else { return false };
        let was_pending = meta.is_pending();
        self.recalled.remove(&replay.sequence);
        let is_known = meta.deliveries.len() > usize::try_from(replay.first_ordinal).unwrap_or(usize::MAX);
        if !is_known {
            self.add_deliveries(&mut meta, replay.first_position, replay.kind, replay.created_at, &replay.deliveries);
        }
        self.holds_now(&meta, was_pending);
        self.place(&meta);
        self.live.put(&meta);
        true
    }

    /// A settlement became durable at `place`; one of an older version says nothing. `false`: the event is not in
    /// memory.
    pub(super) fn settle(&mut self, settled: &Settled, place: Place) -> bool {
        self.served(settled.sequence);
        let Some(mut meta) = self.live.get(settled.sequence).filter(|meta| meta.id == settled.delivery.event) else { return false };
        let Some(delivery) = meta.delivery_mut(settled.delivery.ordinal) else { return false };
        if settled.version <= delivery.version {
            return true;
        }
        let was_pending = !delivery.state.is_final();
        delivery.version = settled.version;
        delivery.attempts = settled.attempts;
        delivery.state = settled.state.clone();
        delivery.interrupted = if settled.is_interrupted() { delivery.interrupted.saturating_add(1) } else { 0 };
        let (position, name) = (delivery.position, delivery.destination.clone());
        if settled.attempt.is_some() {
            meta.attempts.push(AttemptPlace { ordinal: settled.delivery.ordinal, place });
        }
        self.live.put(&meta);
        if was_pending && settled.state.is_final() {
            let (segment, bytes, is_pending) = (meta.place.segment, meta.place.bytes(), meta.is_pending());
            self.pending.remove(position);
            let count = self.counts.entry(name).or_default();
            count.pending.remove(position);
            count.dead += u64::from(matches!(settled.state, DeliveryState::Dead(_)));
            if let Some(usage) = self.usage.get_mut(&segment) {
                usage.pending = usage.pending.saturating_sub(1);
                if !is_pending {
                    usage.live = usage.live.saturating_sub(bytes);
                }
                if usage.sealed && !is_pending {
                    self.to_index.insert(settled.sequence);
                }
            }
        }
        true
    }

    /// An event became durable at another `place`, as it stands. One that moved on since is left where it is.
    pub(super) fn relocate(&mut self, stood: Meta, place: Place) {
        // A copy of it opens the oldest segment, and it moved there besides: one of them is enough.
        if self.live.place(stood.sequence).is_some_and(|now| now.segment == place.segment) {
            return;
        }
        let usage = self.usage.entry(place.segment).or_default();
        if usage.moved.insert(stood.sequence) {
            usage.count += 1;
            self.events += 1;
        }
        let Some(mut meta) = self.live.get(stood.sequence) else { return self.put(Meta { place, ..stood }) };
        if meta.place.segment >= place.segment {
            return;
        }
        let waiting = meta.deliveries.iter().filter(|delivery| !delivery.state.is_final()).count() as u64;
        let left = std::mem::replace(&mut meta.place, place);
        self.live.put(&meta);
        if let Some(usage) = self.usage.get_mut(&left.segment) {
            usage.pending = usage.pending.saturating_sub(waiting);
            usage.live = usage.live.saturating_sub(if waiting > 0 { left.bytes() } else { 0 });
        }
        if let Some(usage) = self.usage.get_mut(&place.segment) {
            usage.pending += waiting;
            usage.live = usage.live.saturating_add(if waiting > 0 { place.bytes() } else { 0 });
            if usage.sealed && waiting == 0 {
                self.to_index.insert(stood.sequence);
            }
        }
    }

    /// Sequences of the events in this segment that are in memory.
    fn inside(&self, segment: u64) -> impl Iterator<Item = u64> {
        let usage = self.usage.get(&segment);
        let own = usage.and_then(|usage| usage.events).into_iter().flat_map(|(first, last)| {
            let from_first = self.live.from(first).map(|(sequence, _)| sequence);
            from_first.take_while(move |sequence| *sequence <= last)
        });
        let moved = usage.into_iter().flat_map(|usage| usage.moved.iter().copied());
        own.chain(moved).filter(move |sequence| self.live.place(*sequence).is_some_and(|place| place.segment == segment))
    }

    /// Events that hold a segment, at most `limit`.
    pub(super) fn holding(&self, segment: u64, limit: usize) -> Vec<Meta> {
        let may_move = |sequence: &u64| self.live.is_pending(*sequence) && !self.pins.contains_key(sequence);
        self.inside(segment).filter(may_move).take(limit).filter_map(|sequence| self.live.get(sequence)).collect()
    }

    /// An event that waits at this place, and that nothing keeps from moving.
    pub(super) fn waiting_at(&self, id: EventId, place: Place) -> Option<Meta> {
        self.get(id).filter(|meta| meta.place == place && meta.is_pending() && !self.pins.contains_key(&meta.sequence))
    }

    /// A name's new value became durable in `segment`.
    pub(super) fn set_state(&mut self, name: String, value: Option<Bytes>, segment: u64) {
        let named = name.len();
        let before = match value {
            Some(value) => {
                self.state_bytes += named + value.len();
                self.states.insert(name, Named { value, segment })
            }
            None => self.states.remove(&name),
        };
        self.state_bytes -= before.map_or(0, |before| named + before.value.len());
    }

    /// A key was seen again.
    pub(super) fn repeat(&mut self, event: EventId, count: u64) {
        self.repeats.insert(event, count);
    }

    /// A batch was committed into `segment`.
    pub(super) fn touch(&mut self, segment: u64, at: Timestamp) {
        let usage = self.usage.entry(segment).or_default();
        usage.newest_at = usage.newest_at.max(at);
    }

    /// What was committed into this segment and those after it was committed no later than `at`.
    pub(super) fn touch_from(&mut self, segment: u64, at: Timestamp) {
        self.usage.range_mut(segment..).for_each(|(_, usage)| usage.newest_at = usage.newest_at.max(at));
    }

    /// The event, if it is in memory.
    pub(super) fn get(&self, id: EventId) -> Option<Meta> {
        self.live.get(self.live.sequence_of(id)?)
    }

    /// The accept sequence of an event in memory.
    pub(super) fn sequence_of(&self, id: EventId) -> Option<u64> {
        self.live.sequence_of(id)
    }

    /// How a delivery of the event of this accept sequence stands: its version, and whether that is final.
    pub(super) fn standing(&self, sequence: u64, ordinal: u32) -> Option<(u32, bool)> {
        self.live.standing(sequence, ordinal)
    }

    /// The event, if it was forgotten and came back.
    pub(super) fn recalled(&self, id: EventId) -> Option<Meta> {
        self.live.sequence_of(id).filter(|sequence| self.recalled.contains(sequence)).and_then(|sequence| self.live.get(sequence))
    }

    /// Brings an event back that was forgotten.
    pub(super) fn bring_back(&mut self, meta: Meta) {
        let Some(usage) = self.usage.get_mut(&meta.place.segment).filter(|_| !self.live.contains(meta.sequence)) else { return };
        for name in dead_of(&meta) {
            if let Some(count) = usage.dead.get_mut(name) {
                *count = count.saturating_sub(1);
            }
        }
        self.to_index.insert(meta.sequence);
        self.recalled.insert(meta.sequence);
        self.live.put(&meta);
    }

    /// Whether this event is in memory, or left it while it waits.
    pub(super) fn holds(&self, sequence: u64) -> bool {
        self.live.contains(sequence) || self.paged_of(sequence).is_some()
    }

    /// The event of this accept sequence, if it is in memory.
    pub(super) fn at(&self, sequence: u64) -> Option<Meta> {
        self.live.get(sequence)
    }

    /// Marks a segment as about to go, if nothing keeps it.
    pub(super) fn leave(&mut self, segment: u64, is_free: impl FnOnce(&Usage) -> bool) -> bool {
        let Some(usage) = self.usage.get_mut(&segment) else { return false };
        usage.leaving = usage.leaving || (usage.sealed && usage.pending == 0 && usage.pins == 0 && is_free(usage));
        usage.leaving
    }

    /// A segment is written from now on.
    pub(super) fn begin(&mut self, segment: u64) {
        self.usage.entry(segment).or_default();
    }

    /// A segment's footer is written; its events are forgotten next, as far as it tells them.
    pub(super) fn seal(&mut self, segment: u64, footer_bytes: u64) {
        let usage = self.usage.entry(segment).or_default();
        usage.sealed = true;
        usage.footer_bytes = footer_bytes;
        let lies_here = |sequence: u64| self.live.place(sequence).is_some_and(|place| place.segment == segment);
        let is_finished = |sequence: &u64| lies_here(*sequence) && !self.live.is_pending(*sequence);
        self.to_index.extend(usage.moved.iter().copied().filter(is_finished));
    }

    /// How many events wait for the index.
    pub(super) fn unindexed(&self) -> usize {
        self.to_index.len().saturating_add(self.repeats.len())
    }

    /// Events to write into the index, at most `limit`.
    pub(super) fn to_index(&self, limit: usize) -> Vec<Meta> {
        let unpinned = self.to_index.iter().filter(|sequence| !self.pins.contains_key(sequence));
        unpinned.take(limit).filter_map(|sequence| self.live.get(*sequence)).collect()
    }

    /// Repeats to write into the index, at most `limit`.
    pub(super) fn repeats_to_index(&self, limit: usize) -> BTreeMap<EventId, u64> {
        self.repeats.iter().take(limit).map(|(id, count)| (*id, *count)).collect()
    }

    /// The index holds this; forget it unless it has changed meanwhile.
    pub(super) fn indexed(&mut self, written: &Meta) {
        let is_held = self.pins.contains_key(&written.sequence) || self.live.is_pending(written.sequence);
        if !is_held && self.live.get(written.sequence).is_some_and(|meta| meta.is_same(written)) {
            self.forget(written.sequence);
        }
    }

    fn forget(&mut self, sequence: u64) {
        self.to_index.remove(&sequence);
        self.recalled.remove(&sequence);
        let Some(meta) = self.live.remove(sequence) else { return };
        if let Some(usage) = self.usage.get_mut(&meta.place.segment) {
            for name in dead_of(&meta) {
                *usage.dead.entry(name.clone()).or_default() += 1;
            }
        }
    }

    /// The index holds these repeats.
    pub(super) fn repeats_indexed(&mut self, written: &BTreeMap<EventId, u64>) {
        for (id, count) in written {
            if self.repeats.get(id) == Some(count) {
                self.repeats.remove(id);
            }
        }
    }

    /// Repeats that the index has not heard of.
    pub(super) fn repeats_of(&self, id: EventId) -> Option<u64> {
        self.repeats.get(&id).copied()
    }

    /// A segment goes, and its events with it.
    pub(super) fn drop_segment(&mut self, segment: u64) {
        let gone: Vec<u64> = self.inside(segment).filter(|sequence| !self.live.is_pending(*sequence)).collect();
        for sequence in gone {
            if let Some(meta) = self.live.get(sequence) {
                self.repeats.remove(&meta.id);
            }
            self.forget(sequence);
        }
    }

    /// Everything of a segment is forgotten everywhere.
    pub(super) fn remove_segment(&mut self, segment: u64) {
        self.lose_paged(segment);
        let Some(usage) = self.usage.remove(&segment) else { return };
        self.events = self.events.saturating_sub(usage.count);
        for (name, dead) in usage.dead {
            if let Some(count) = self.counts.get_mut(&name) {
                count.dead = count.dead.saturating_sub(dead);
            }
        }
    }

    /// What is known of a segment that is not replayed: from a checkpoint or a footer.
    pub(super) fn know_segment(&mut self, segment: u64, usage: Usage) {
        self.events += usage.count;
        for (name, dead) in &usage.dead {
            self.counts.entry(name.clone()).or_default().dead += dead;
        }
        self.sequence = self.sequence.max(usage.events.map_or(0, |(_, last)| last));
        self.usage.insert(segment, usage);
    }

    /// Those of these events that are in memory and lie elsewhere.
    pub(super) fn moved_away(&self, segment: u64, ids: &[u128]) -> BTreeSet<u128> {
        let place = |id: u128| self.live.sequence_of(EventId::from_bits(id)).and_then(|sequence| self.live.place(sequence));
        ids.iter().copied().filter(|id| place(*id).is_some_and(|place| place.segment != segment)).collect()
    }

    /// Events that a checkpoint keeps: those of segments below this one, from this sequence on; and whether they stand
    /// as their footer tells them.
    pub(super) fn kept_below(&self, segment: u64, from: u64, limit: usize) -> Vec<(Meta, bool)> {
        let lies_below = self.live.from(from).filter(|(_, packed)| packed.place().segment < segment);
        lies_below.take(limit).map(|(sequence, packed)| (self.live.unpack((sequence, packed)), packed.is_told())).collect()
    }

    /// Events in memory from this accept sequence on, in the order of acceptance.
    pub(super) fn metas_from(&self, sequence: u64) -> impl Iterator<Item = Meta> {
        self.live.from(sequence).map(|event| self.live.unpack(event))
    }

    /// Events in memory below this sequence, newest first.
    pub(super) fn below(&self, before: u64, limit: usize) -> Vec<Meta> {
        self.live.below(before).take(limit).map(|event| self.live.unpack(event)).collect()
    }

    /// Pending deliveries after this position.
    pub(super) fn pending_after(&self, position: u64, limit: usize) -> Vec<PendingDelivery> {
        let waiting = self.pending.from(position.saturating_add(1)).take(limit);
        waiting.filter_map(|(position, sequence)| self.live.get(*sequence)?.pending(position)).collect()
    }

    /// What is pending and dead, by destination.
    pub(super) fn counts(&self) -> BTreeMap<Name, DestinationCounts> {
        let (mut counts, mut first) = (BTreeMap::new(), BTreeMap::new());
        for (name, count) in &self.counts {
            let position = count.pending.first().map(|(position, ())| position);
            let oldest_pending = position.and_then(|position| self.created_at(position));
            counts.insert(name.clone(), DestinationCounts { pending: count.pending.len() as u64, dead: count.dead, oldest_pending });
            first.extend(position.map(|position| (name.clone(), position)));
        }
        self.count_paged(&mut counts, &mut first);
        counts
    }

    fn created_at(&self, position: u64) -> Option<Timestamp> {
        let meta = self.live.get(*self.pending.get(position)?)?;
        meta.deliveries.iter().find(|delivery| delivery.position == position).map(|delivery| delivery.created_at)
    }
}
