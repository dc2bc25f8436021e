//! Packed events by accept sequence, side by side in chunks: a million boxes of fifty bytes would cost half as much
//! again, and leave the allocator in shreds once they go.
//!
//! As in `ordered`, events that arrive in order fill their chunks, and no operation touches more than two of them.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};

/// Most events of a chunk.
const EVENTS: usize = 256;

/// Bytes at which a chunk takes no further event; one whose events have grown to twice as much is halved.
const BYTES: usize = 16 * 1024;

/// A chunk with fewer events goes into the one before it, if that leaves room to spare.
const SMALL: usize = EVENTS / 8;

/// Sequences stand as their distance from the key that the chunk stands under.
#[derive(Debug, Default)]
struct Chunk {
    /// Distance, and where the event's bytes end.
    events: Vec<(u32, u32)>,
    bytes: Vec<u8>,
}

fn small(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

impl Chunk {
    fn has_room(&self, bytes: usize) -> bool {
        self.events.len() < EVENTS && self.bytes.len().saturating_add(bytes) <= BYTES
    }

    fn find(&self, distance: u32) -> Result<usize, usize> {
        if self.events.last().is_some_and(|(last, _)| *last < distance) {
            return Err(self.events.len());
        }
        self.events.binary_search_by_key(&distance, |(distance, _)| *distance)
    }

    fn end(&self, at: usize) -> usize {
        self.events.get(at).map_or(self.bytes.len(), |(_, end)| usize::try_from(*end).unwrap_or(usize::MAX))
    }

    fn range(&self, at: usize) -> Range<usize> {
        at.checked_sub(1).map_or(0, |before| self.end(before))..self.end(at)
    }

    fn get(&self, at: usize) -> &[u8] {
        self.bytes.get(self.range(at)).unwrap_or_default()
    }

    /// Puts other bytes into the place of these; the ends from `at` on move along.
    fn splice(&mut self, at: usize, range: Range<usize>, packed: &[u8]) {
        if range.start == self.bytes.len() {
            self.bytes.extend_from_slice(packed);
        } else {
            self.bytes.splice(range.clone(), packed.iter().copied());
        }
        let left = range.len();
        for (_, end) in self.events.iter_mut().skip(at) {
            *end = end.saturating_add(small(packed.len())).saturating_sub(small(left));
        }
    }

    fn insert(&mut self, at: usize, distance: u32, packed: &[u8]) {
        let start = self.range(at).start;
        self.events.insert(at, (distance, small(start)));
        self.splice(at, start..start, packed);
    }

    fn remove(&mut self, at: usize) {
        let range = self.range(at);
        self.splice(at, range, &[]);
        self.events.remove(at);
        if self.events.len() < self.events.capacity() / 4 {
            self.events.shrink_to(self.events.len() * 2);
            self.bytes.shrink_to(self.bytes.len() * 2);
        }
    }

    /// Events from `at` on, their sequences whole; `base` is the key of this chunk.
    fn split_off(&mut self, at: usize, base: u64) -> Vec<(u64, Vec<u8>)> {
        let events = (at..self.events.len()).map(|at| (base + u64::from(self.events[at].0), self.get(at).to_vec())).collect();
        let start = self.range(at).start;
        self.bytes.truncate(start);
        self.events.truncate(at);
        events
    }

    /// Events in their order; `base` is the key of this chunk.
    fn iter(&self, base: u64) -> impl DoubleEndedIterator<Item = (u64, &[u8])> {
        (0..self.events.len()).map(move |at| (base + u64::from(self.events[at].0), self.get(at)))
    }
}

/// See the module. Every chunk stands under a key that is not above its first sequence, and none is empty.
#[derive(Debug, Default)]
pub(super) struct Packs {
    chunks: BTreeMap<u64, Chunk>,
}

impl Packs {
    /// The chunk that holds this sequence if any does, and the sequence's distance there. Most are asked for as they come: the
    /// last chunk takes no search.
    fn chunk(&self, sequence: u64) -> Option<(&Chunk, u32)> {
        let last = self.chunks.last_key_value().filter(|(base, _)| **base <= sequence);
        let (base, chunk) = last.or_else(|| self.chunks.range(..=sequence).next_back())?;
        Some((chunk, u32::try_from(sequence - base).ok()?))
    }

    /// The same to change it, with its key.
    fn chunk_mut(&mut self, sequence: u64) -> Option<(u64, &mut Chunk)> {
        if self.chunks.last_key_value().is_some_and(|(base, _)| *base <= sequence) {
            return self.chunks.last_entry().map(|last| (*last.key(), last.into_mut()));
        }
        self.chunks.range_mut(..=sequence).next_back().map(|(base, chunk)| (*base, chunk))
    }

    pub(super) fn get(&self, sequence: u64) -> Option<&[u8]> {
        let (chunk, distance) = self.chunk(sequence)?;
        chunk.find(distance).ok().map(|at| chunk.get(at))
    }

    pub(super) fn get_mut(&mut self, sequence: u64) -> Option<&mut [u8]> {
        let (base, chunk) = self.chunk_mut(sequence)?;
        let at = chunk.find(u32::try_from(sequence - base).ok()?).ok()?;
        let range = chunk.range(at);
        chunk.bytes.get_mut(range)
    }

    /// Whether it is new.
    pub(super) fn insert(&mut self, sequence: u64, packed: &[u8]) -> bool {
        let Some((base, chunk)) = self.chunk_mut(sequence) else {
            self.insert_first(sequence, packed);
            return true;
        };
        let Ok(distance) = u32::try_from(sequence - base) else {
            self.add(sequence, [(sequence, packed)]);
            return true;
        };
        let at = match chunk.find(distance) {
            Ok(at) => {
                let range = chunk.range(at);
                chunk.splice(at, range, packed);
                if chunk.bytes.len() > 2 * BYTES && chunk.events.len() > 1 {
                    let half = chunk.split_off(chunk.events.len() / 2, base);
                    self.add_all(half);
                }
                return false;
            }
            Err(at) => at,
        };
        if chunk.has_room(packed.len()) {
            chunk.insert(at, distance, packed);
        } else if at == 0 {
            let whole = chunk.split_off(0, base);
            self.add(base, [(sequence, packed)]);
            self.add_all(whole);
        } else {
            // What follows goes on in a chunk of its own, so that events which come nearly in order fill their chunks.
            let behind = chunk.split_off(at, base);
            chunk.bytes.shrink_to_fit();
            let events = std::iter::once((sequence, packed));
            self.add(sequence, events.chain(behind.iter().map(|(sequence, packed)| (*sequence, packed.as_slice()))));
        }
        true
    }

    /// A chunk of these events, under this key.
    fn add<'a>(&mut self, base: u64, events: impl IntoIterator<Item = (u64, &'a [u8])>) {
        let mut chunk = Chunk { events: Vec::with_capacity(EVENTS), bytes: Vec::new() };
        for (sequence, packed) in events {
            match u32::try_from(sequence - base) {
                Ok(distance) => chunk.insert(chunk.events.len(), distance, packed),
                Err(_far) => self.add(sequence, [(sequence, packed)]),
            }
        }
        self.chunks.insert(base, chunk);
    }

    fn add_all(&mut self, events: Vec<(u64, Vec<u8>)>) {
        if let Some((first, _)) = events.first() {
            self.add(*first, events.iter().map(|(sequence, packed)| (*sequence, packed.as_slice())));
        }
    }

    /// Below all others.
    fn insert_first(&mut self, sequence: u64, packed: &[u8]) {
        match self.chunks.first_entry() {
            Some(first) if first.get().has_room(packed.len()) && first.key() - sequence < u64::from(u32::MAX / 2) => {
                let (base, mut chunk) = first.remove_entry();
                let further = u32::try_from(base - sequence).unwrap_or(u32::MAX);
                let is_near = chunk.events.last().is_some_and(|(distance, _)| *distance < u32::MAX / 2);
                if is_near {
                    chunk.events.iter_mut().for_each(|(distance, _)| *distance += further);
                    chunk.insert(0, 0, packed);
                    self.chunks.insert(sequence, chunk);
                } else {
                    self.chunks.insert(base, chunk);
                    self.add(sequence, [(sequence, packed)]);
                }
            }
            _ => self.add(sequence, [(sequence, packed)]),
        }
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, sequence: u64) -> bool {
        let Some((base, chunk)) = self.chunk_mut(sequence) else { return false };
        let Some(at) = u32::try_from(sequence - base).ok().and_then(|distance| chunk.find(distance).ok()) else { return false };
        chunk.remove(at);
        if chunk.events.is_empty() {
            self.chunks.remove(&base);
        } else if chunk.events.len() < SMALL {
            self.join(base);
        }
        true
    }

    /// Puts a chunk behind the one before it, where both have little.
    fn join(&mut self, base: u64) {
        let Some(chunk) = self.chunks.get(&base) else { return };
        let (events, bytes) = (chunk.events.len(), chunk.bytes.len());
        let Some((&before, into)) = self.chunks.range(..base).next_back() else { return };
        let last = base - before + chunk.events.last().map_or(0, |(distance, _)| u64::from(*distance));
        if into.events.len() + events > EVENTS / 2 || into.bytes.len() + bytes > BYTES / 2 || last > u64::from(u32::MAX) {
            return;
        }
        let chunk = self.chunks.remove(&base).unwrap_or_default();
        if let Some(into) = self.chunks.get_mut(&before) {
            for (sequence, packed) in chunk.iter(base) {
                into.insert(into.events.len(), u32::try_from(sequence - before).unwrap_or(u32::MAX), packed);
            }
        }
    }

    /// From this sequence on, upwards.
    pub(super) fn from(&self, sequence: u64) -> impl Iterator<Item = (u64, &[u8])> {
        let base = self.chunks.range(..=sequence).next_back().map_or(sequence, |(base, _)| *base);
        let chunks = self.chunks.range((Bound::Included(base), Bound::Unbounded));
        chunks.flat_map(move |(base, chunk)| {
            let below = chunk.events.partition_point(|(distance, _)| base + u64::from(*distance) < sequence);
            chunk.iter(*base).skip(below)
        })
    }

    /// Below this sequence, downwards.
    pub(super) fn below(&self, sequence: u64) -> impl Iterator<Item = (u64, &[u8])> {
        let chunks = self.chunks.range(..sequence).rev();
        chunks.flat_map(move |(base, chunk)| chunk.iter(*base).rev().skip_while(move |(other, _)| *other >= sequence))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_sorted_map_holds(
            steps in vec((0..6_u8, 0..2_000_u64, 0..120_usize), 0..3_000), grows in any::<bool>(), spread in prop::sample::select(vec![1, 3, 1 << 31]),
        ) {
            let (mut packs, mut model) = (Packs::default(), BTreeMap::new());
            for (at, (step, sequence, length)) in (0_u64..).zip(steps) {
                // Half of the runs insert nearly in order, as the store does; some lie far apart.
                let sequence = if grows && step < 4 { at / 2 + sequence % 16 } else { sequence } * spread;
                // Now and then an event of very many deliveries.
                let packed = vec![u8::try_from(at % 251).unwrap(); if length == 7 { 9_000 } else { length }];
                if step < 4 {
                    prop_assert_eq!(packs.insert(sequence, &packed), model.insert(sequence, packed).is_none());
                } else {
                    let first = model.keys().next().copied().unwrap_or_default();
                    let sequence = if step == 4 { sequence } else { first };
                    prop_assert_eq!(packs.remove(sequence), model.remove(&sequence).is_some());
                }
                prop_assert_eq!(packs.get(sequence), model.get(&sequence).map(Vec::as_slice));
                prop_assert_eq!(packs.get_mut(sequence).map(|packed| &*packed), model.get(&sequence).map(Vec::as_slice));
            }
            let all: Vec<(u64, &[u8])> = model.iter().map(|(sequence, packed)| (*sequence, packed.as_slice())).collect();
            prop_assert!(packs.from(0).eq(all.iter().copied()));
            for sequence in (0..2_000).step_by(97).map(|sequence| sequence * spread) {
                let split = all.partition_point(|(other, _)| *other < sequence);
                prop_assert!(packs.from(sequence).eq(all[split..].iter().copied()));
                prop_assert!(packs.below(sequence).eq(all[..split].iter().rev().copied()));
            }
        }
    }

    #[test]
    fn events_in_order_leave_hardly_any_room_unused() {
        let mut packs = Packs::default();
        for sequence in 0..100_000 {
            packs.insert(sequence, &[1; 41]);
        }
        let room: usize = packs.chunks.values().map(|chunk| chunk.bytes.capacity() + chunk.events.capacity() * 8).sum();
        assert!(room < 100_000 * 50, "{room} bytes for 100,000 events of 41");
    }

    #[test]
    fn what_is_left_of_many_is_held_in_little_room() {
        let mut packs = Packs::default();
        for sequence in 0..100_000 {
            packs.insert(sequence, &[1; 41]);
        }
        for sequence in (0..100_000).filter(|sequence| sequence % 100 != 0) {
            packs.remove(sequence);
        }
        let room: usize = packs.chunks.values().map(|chunk| chunk.bytes.capacity() + chunk.events.capacity() * 8).sum();
        assert_eq!(packs.from(0).count(), 1_000);
        assert!(room <= 1_000 * 49 * 4, "{room} bytes for 1,000 events of 41");
    }

    #[test]
    fn an_event_that_grows_does_not_make_its_neighbours_move_far() {
        let mut packs = Packs::default();
        for sequence in 0..EVENTS as u64 {
            packs.insert(sequence, &[1; 40]);
        }
        for sequence in 0..EVENTS as u64 {
            packs.insert(sequence, &vec![2; 4_000]);
        }
        assert!(packs.chunks.values().all(|chunk| chunk.bytes.len() <= 2 * BYTES));
        assert!((0..EVENTS as u64).all(|sequence| packs.get(sequence) == Some(&[2; 4_000])));
    }
}
