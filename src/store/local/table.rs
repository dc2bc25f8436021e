//! What the store knows in memory: everything pending, what is settled and not yet in the index, the newest
//! state of each name, and what each segment is still needed for.
//!
//! It holds only what is durable: the committer applies a batch after its sync returned, and a start applies
//! the same records in the same order. It never touches a disk, so its lock is held for moments only.

mod meta;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;

use super::record::{EventHead, Replayed, Settled};
use crate::model::{DeliveryId, DeliveryKind, DeliveryState, DestinationCounts, EventId, Lane, Name, Timestamp};
use crate::store::{NewDelivery, PendingDelivery};

pub(super) use meta::{AttemptPlace, DeliveryMeta, Meta, Place};

/// What one segment is still needed for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// The accept sequences of its events; it has some where the first is not above the last.
    pub(super) events: Option<(u64, u64)>,
    /// How many events were accepted into it.
    pub(super) count: u64,
    /// Pending deliveries of its events.
    pub(super) pending: u64,
    /// Bytes of its events that have something pending.
    pub(super) live: u64,
    /// When the last of its dedupe keys ends.
    pub(super) keys_until: Timestamp,
    /// When its newest batch was committed.
    pub(super) newest_at: Timestamp,
    /// Replays of its events that are on their way.
    pub(super) pins: u64,
    /// Its footer is written: what was finished in it is known from there.
    pub(super) sealed: bool,
    /// Bytes of its footer.
    pub(super) footer_bytes: u64,
    /// Dead deliveries of its events that are not in memory.
    pub(super) dead: BTreeMap<Name, u64>,
    /// Events that moved into it.
    pub(super) moved: BTreeSet<u64>,
    /// It is about to go: nothing of it may be replayed any more.
    pub(super) leaving: bool,
    /// Nothing knows its events any more: its file may go.
    pub(super) forgotten: bool,
}

/// The newest value of a name, and the segment that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) value: Bytes,
    pub(super) segment: u64,
}

/// What came of pinning an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pin {
    /// It stays in memory.
    Held,
    /// It is not in memory.
    Elsewhere,
    /// Its segment is about to go.
    Gone,
}

#[derive(Debug, Default)]
struct Count {
    dead: u64,
    pending: BTreeSet<(Timestamp, u64)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Events with something pending, in a segment without a footer, or not yet in the index, by accept sequence.
    live: BTreeMap<u64, Meta>,
    ids: HashMap<EventId, u64>,
    /// Pending deliveries by position.
    pending: BTreeMap<u64, (u64, u32)>,
    counts: BTreeMap<Name, Count>,
    /// Events that have nothing pending, outlived their segment, and wait for the index.
    to_index: BTreeSet<u64>,
    /// Repeats that the index has not heard of.
    repeats: BTreeMap<EventId, u64>,
    pub(super) states: BTreeMap<String, Named>,
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
    pub(super) fn add_event(&mut self, head: EventHead, place: Place) {
        if self.live.contains_key(&head.sequence) {
            return;
        }
        let usage = self.usage.entry(place.segment).or_default();
        usage.events = Some(usage.events.map_or((head.sequence, head.sequence), |(first, _)| (first, head.sequence)));
        usage.count += 1;
        if let Some(key) = &head.dedupe {
            usage.keys_until = usage.keys_until.max(key.expires_at);
        }
        let mut meta = Meta::new(head.id, head.sequence, place, head.route, head.received_at);
        self.sequence = self.sequence.max(head.sequence);
        self.events += 1;
        self.ids.insert(head.id, head.sequence);
        self.add_deliveries(&mut meta, head.first_position, DeliveryKind::Original, head.received_at, head.deliveries);
        self.holds_now(&meta, false);
        self.live.insert(meta.sequence, meta);
    }

    fn add_deliveries(&mut self, meta: &mut Meta, first: u64, kind: DeliveryKind, created_at: Timestamp, deliveries: Vec<NewDelivery>) {
        meta.deliveries.reserve_exact(deliveries.len());
        for (position, delivery) in (first..).zip(deliveries) {
            let delivery = DeliveryMeta::new(position, delivery, kind, created_at);
            self.waits(meta, meta.deliveries.len(), &delivery);
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

    /// Bytes of all events that have something pending.
    pub(super) fn live_bytes(&self) -> u64 {
        self.usage.values().map(|usage| usage.live).sum()
    }

    fn waits(&mut self, meta: &Meta, ordinal: usize, delivery: &DeliveryMeta) {
        let (position, created_at) = (delivery.position, delivery.created_at);
        self.pending.insert(position, (meta.sequence, u32::try_from(ordinal).unwrap_or(u32::MAX)));
        self.counts.entry(delivery.destination.clone()).or_default().pending.insert((created_at, position));
        self.usage.entry(meta.place.segment).or_default().pending += 1;
        self.position = self.position.max(position);
    }

    /// An event as a footer or a checkpoint tells it. Its segment counts it already.
    pub(super) fn put(&mut self, meta: Meta) {
        if self.live.contains_key(&meta.sequence) {
            return;
        }
        for (ordinal, delivery) in meta.deliveries.iter().enumerate() {
            if !delivery.state.is_final() {
                self.waits(&meta, ordinal, delivery);
            }
            self.position = self.position.max(delivery.position);
        }
        for name in dead_of(&meta) {
            self.counts.entry(name.clone()).or_default().dead += 1;
        }
        self.sequence = self.sequence.max(meta.sequence);
        self.ids.insert(meta.id, meta.sequence);
        self.holds_now(&meta, false);
        self.place(&meta);
        self.live.insert(meta.sequence, meta);
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
        if self.live.get(&replay.sequence).is_none_or(|meta| meta.id != replay.event) {
            return false;
        }
        let Some(mut meta) = self.live.remove(&replay.sequence) else { return false };
        let was_pending = meta.is_pending();
        meta.recalled = false;
        meta.changes += 1;
        let is_known = meta.deliveries.len() > usize::try_from(replay.first_ordinal).unwrap_or(usize::MAX);
        if !is_known {
            self.add_deliveries(&mut meta, replay.first_position, replay.kind, replay.created_at, replay.deliveries);
        }
        self.holds_now(&meta, was_pending);
        self.place(&meta);
        self.live.insert(meta.sequence, meta);
        true
    }

    /// A settlement became durable at `place`; one of an older version says nothing. `false`: the event is not in
    /// memory.
    pub(super) fn settle(&mut self, settled: &Settled, place: Place) -> bool {
        let Some(meta) = self.live.get_mut(&settled.sequence).filter(|meta| meta.id == settled.delivery.event) else { return false };
        let Some(delivery) = meta.delivery_mut(settled.delivery.ordinal) else { return false };
        if settled.version <= delivery.version {
            return true;
        }
        let was_pending = !delivery.state.is_final();
        delivery.version = settled.version;
        delivery.attempts = settled.attempts;
        delivery.state = settled.state.clone();
        delivery.interrupted = if settled.is_interrupted() { delivery.interrupted.saturating_add(1) } else { 0 };
        let (position, created_at, name) = (delivery.position, delivery.created_at, delivery.destination.clone());
        meta.changes += 1;
        if settled.attempt.is_some() {
            meta.attempts.reserve_exact(1);
            meta.attempts.push(AttemptPlace { ordinal: settled.delivery.ordinal, place });
        }
        if was_pending && settled.state.is_final() {
            let (segment, bytes, is_pending) = (meta.place.segment, meta.place.bytes(), meta.is_pending());
            self.pending.remove(&position);
            let count = self.counts.entry(name).or_default();
            count.pending.remove(&(created_at, position));
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
        let usage = self.usage.entry(place.segment).or_default();
        if usage.moved.insert(stood.sequence) {
            usage.count += 1;
            self.events += 1;
        }
        let Some(meta) = self.live.get_mut(&stood.sequence) else { return self.put(Meta { place, ..stood }) };
        if meta.place.segment >= place.segment {
            return;
        }
        let waiting = meta.deliveries.iter().filter(|delivery| !delivery.state.is_final()).count() as u64;
        let left = std::mem::replace(&mut meta.place, place);
        meta.changes += 1;
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

    /// Sequences of events that may lie in this segment.
    fn inside(&self, segment: u64) -> impl Iterator<Item = &Meta> {
        let usage = self.usage.get(&segment);
        let own = usage.and_then(|usage| usage.events).into_iter().flat_map(|(first, last)| self.live.range(first..=last));
        let moved = usage.into_iter().flat_map(|usage| &usage.moved).filter_map(|sequence| self.live.get_key_value(sequence));
        own.chain(moved).map(|(_, meta)| meta).filter(move |meta| meta.place.segment == segment)
    }

    /// Events that hold a segment, at most `limit`.
    pub(super) fn holding(&self, segment: u64, limit: usize) -> Vec<Meta> {
        self.inside(segment).filter(|meta| meta.is_pending() && meta.pins == 0).take(limit).cloned().collect()
    }

    /// A name's new value became durable in `segment`.
    pub(super) fn set_state(&mut self, name: String, value: Option<Bytes>, segment: u64) {
        match value {
            Some(value) => self.states.insert(name, Named { value, segment }),
            None => self.states.remove(&name),
        };
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

    /// The event, if it is in memory.
    pub(super) fn get(&self, id: EventId) -> Option<&Meta> {
        self.live.get(self.ids.get(&id)?)
    }

    /// Holds an event in memory until a replay of it is applied or given up.
    pub(super) fn pin(&mut self, id: EventId) -> Pin {
        let Some(meta) = self.ids.get(&id).and_then(|sequence| self.live.get_mut(sequence)) else { return Pin::Elsewhere };
        let Some(usage) = self.usage.get_mut(&meta.place.segment).filter(|usage| !usage.leaving) else { return Pin::Gone };
        usage.pins += 1;
        meta.pins += 1;
        Pin::Held
    }

    /// Gives up a pin.
    pub(super) fn unpin(&mut self, id: EventId) {
        if let Some(meta) = self.ids.get(&id).and_then(|sequence| self.live.get_mut(sequence)) {
            meta.pins = meta.pins.saturating_sub(1);
            if let Some(usage) = self.usage.get_mut(&meta.place.segment) {
                usage.pins = usage.pins.saturating_sub(1);
            }
        }
    }

    /// Brings an event back that was forgotten.
    pub(super) fn bring_back(&mut self, meta: Meta) {
        let Some(usage) = self.usage.get_mut(&meta.place.segment).filter(|_| !self.live.contains_key(&meta.sequence)) else { return };
        for name in dead_of(&meta) {
            if let Some(count) = usage.dead.get_mut(name) {
                *count = count.saturating_sub(1);
            }
        }
        self.ids.insert(meta.id, meta.sequence);
        self.to_index.insert(meta.sequence);
        self.live.insert(meta.sequence, Meta { recalled: true, ..meta });
    }

    /// Whether this event is in memory.
    pub(super) fn holds(&self, sequence: u64) -> bool {
        self.live.contains_key(&sequence)
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
        let is_finished = |sequence: &u64| self.live.get(sequence).is_some_and(|meta| meta.place.segment == segment && !meta.is_pending());
        self.to_index.extend(usage.moved.iter().copied().filter(is_finished));
    }

    /// Forgets the events that stand as their segment's footer tells them; others go into the index in time.
    pub(super) fn forget_told(&mut self, told: &[Meta]) {
        for told in told {
            let Some(meta) = self.live.get(&told.sequence) else { continue };
            if !meta.is_pending() && meta.pins == 0 && meta.is_same(told) {
                self.forget(told.sequence);
            } else if !meta.is_pending() {
                self.to_index.insert(told.sequence);
            }
        }
    }

    /// How many events wait for the index.
    pub(super) fn unindexed(&self) -> usize {
        self.to_index.len().saturating_add(self.repeats.len())
    }

    /// Events to write into the index, at most `limit`.
    pub(super) fn to_index(&self, limit: usize) -> Vec<Meta> {
        self.to_index.iter().filter_map(|sequence| self.live.get(sequence)).filter(|meta| meta.pins == 0).take(limit).cloned().collect()
    }

    /// Repeats to write into the index, at most `limit`.
    pub(super) fn repeats_to_index(&self, limit: usize) -> BTreeMap<EventId, u64> {
        self.repeats.iter().take(limit).map(|(id, count)| (*id, *count)).collect()
    }

    /// The index holds this; forget it unless it has changed meanwhile.
    pub(super) fn indexed(&mut self, written: &Meta) {
        let unchanged = |meta: &&Meta| meta.changes == written.changes && meta.pins == 0 && !meta.is_pending();
        if self.live.get(&written.sequence).filter(unchanged).is_some() {
            self.forget(written.sequence);
        }
    }

    fn forget(&mut self, sequence: u64) {
        self.to_index.remove(&sequence);
        let Some(meta) = self.live.remove(&sequence) else { return };
        self.ids.remove(&meta.id);
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
        let gone: Vec<u64> = self.inside(segment).filter(|meta| !meta.is_pending()).map(|meta| meta.sequence).collect();
        for sequence in gone {
            if let Some(meta) = self.live.get(&sequence) {
                self.repeats.remove(&meta.id);
            }
            self.forget(sequence);
        }
    }

    /// Everything of a segment is forgotten everywhere.
    pub(super) fn remove_segment(&mut self, segment: u64) {
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
        let lies_elsewhere = |id: &&u128| self.get(EventId::from_bits(**id)).is_some_and(|meta| meta.place.segment != segment);
        ids.iter().filter(lies_elsewhere).copied().collect()
    }

    /// Events that a checkpoint keeps: those of segments below this one, from this sequence on.
    pub(super) fn kept_below(&self, segment: u64, from: u64, limit: usize) -> Vec<Meta> {
        self.live.range(from..).filter(|(_, meta)| meta.place.segment < segment).take(limit).map(|(_, meta)| meta.clone()).collect()
    }

    /// All events in memory, in the order of acceptance.
    pub(super) fn into_metas(self) -> Vec<Meta> {
        self.live.into_values().collect()
    }

    /// Events in memory below this sequence, newest first.
    pub(super) fn below(&self, before: u64, limit: usize) -> Vec<Meta> {
        self.live.range(..before).rev().take(limit).map(|(_, meta)| meta.clone()).collect()
    }

    /// Pending deliveries after this position.
    pub(super) fn pending_after(&self, position: u64, limit: usize) -> Vec<PendingDelivery> {
        let waiting = self.pending.range(position.saturating_add(1)..).take(limit);
        waiting.filter_map(|(position, (sequence, ordinal))| self.live.get(sequence)?.pending(*position, *ordinal)).collect()
    }

    /// What is pending and dead, by destination.
    pub(super) fn counts(&self) -> BTreeMap<Name, DestinationCounts> {
        let counts = self.counts.iter().map(|(name, count)| {
            let oldest_pending = count.pending.first().map(|(created_at, _)| *created_at);
            (name.clone(), DestinationCounts { pending: count.pending.len() as u64, dead: count.dead, oldest_pending })
        });
        counts.collect()
    }
}
