//! A sorted map for keys that mostly arrive in order and mostly leave in order.
//!
//! A `BTreeMap` splits its nodes in the middle, so keys that only grow leave it half empty, and a `HashMap`
//! copies all it holds when it grows, which a commit would wait for. Here entries stand in chunks, side by
//! side: an ordered arrival fills a chunk to the last place, and no operation touches more than two chunks.

use std::collections::BTreeMap;
use std::collections::btree_map::OccupiedEntry;
use std::ops::Bound;

/// Most entries of a chunk: an insertion in the middle moves half of them, some 3 KiB.
const CHUNK: usize = 256;

/// A chunk with fewer entries goes into the one before it, if that leaves room to spare.
const SMALL: usize = CHUNK / 8;

/// Every chunk stands under a key that is not above its first one, and none is empty.
#[derive(Debug)]
pub(super) struct Ordered<K, V> {
    chunks: BTreeMap<K, Vec<(K, V)>>,
    len: usize,
}

impl<K, V> Default for Ordered<K, V> {
    fn default() -> Self {
        Self { chunks: BTreeMap::new(), len: 0 }
    }
}

/// The chunk where this key belongs, if any begins there or before. Most keys come last: the last chunk takes no search.
fn chunk_of<K: Ord + Copy, V>(chunks: &mut BTreeMap<K, Vec<(K, V)>>, key: K) -> Option<&mut Vec<(K, V)>> {
    if chunks.last_key_value().is_some_and(|(under, _)| *under <= key) {
        return chunks.last_entry().map(OccupiedEntry::into_mut);
    }
    chunks.range_mut(..=key).next_back().map(|(_, chunk)| chunk)
}

/// Where in a chunk the key is, or belongs.
fn find<K: Ord + Copy, V>(chunk: &[(K, V)], key: K) -> Result<usize, usize> {
    if chunk.last().is_some_and(|(last, _)| *last < key) {
        return Err(chunk.len());
    }
    chunk.binary_search_by_key(&key, |(key, _)| *key)
}

impl<K: Ord + Copy, V> Ordered<K, V> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, key: K) -> Option<&V> {
        let (_, chunk) = self.chunks.range(..=key).next_back()?;
        let at = find(chunk, key).ok()?;
        chunk.get(at).map(|(_, value)| value)
    }

    /// The value that the key had.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let Some(chunk) = chunk_of(&mut self.chunks, key) else {
            return self.insert_first(key, value);
        };
        let at = match find(chunk, key) {
            Ok(at) => return chunk.get_mut(at).map(|(_, old)| std::mem::replace(old, value)),
            Err(at) => at,
        };
        self.len += 1;
        if chunk.len() < CHUNK {
            chunk.insert(at, (key, value));
            return None;
        }
        // What follows goes on in a chunk of its own, so that keys which come nearly in order fill their chunks too.
        let mut next = Vec::with_capacity(CHUNK);
        let mut under = key;
        if let (0, Some((first, _))) = (at, chunk.first()) {
            under = *first;
            std::mem::swap(chunk, &mut next);
            chunk.push((key, value));
        } else {
            next.push((key, value));
            next.extend(chunk.drain(at..));
        }
        self.chunks.insert(under, next);
        None
    }

    fn insert_first(&mut self, key: K, value: V) -> Option<V> {
        self.len += 1;
        match self.chunks.first_entry() {
            Some(first) if first.get().len() < CHUNK => {
                let mut chunk = first.remove();
                chunk.insert(0, (key, value));
                self.chunks.insert(key, chunk);
            }
            _ => drop(self.chunks.insert(key, vec![(key, value)])),
        }
        None
    }

    pub(super) fn remove(&mut self, key: K) -> Option<V> {
        let (&under, chunk) = self.chunks.range_mut(..=key).next_back()?;
        let at = find(chunk, key).ok()?;
        let (_, value) = chunk.remove(at);
        self.len -= 1;
        if chunk.is_empty() {
            self.chunks.remove(&under);
        } else if chunk.len() < SMALL {
            self.join(under);
        } else if chunk.len() < chunk.capacity() / 4 {
            chunk.shrink_to(chunk.len() * 2);
        }
        Some(value)
    }

    /// Puts a chunk behind the one before it, where both have few entries.
    fn join(&mut self, under: K) {
        let Some(length) = self.chunks.get(&under).map(Vec::len) else { return };
        let has_room = |(_, before): (&K, &Vec<(K, V)>)| before.len() + length <= CHUNK / 2;
        if !self.chunks.range(..under).next_back().is_some_and(has_room) {
            return;
        }
        let chunk = self.chunks.remove(&under).unwrap_or_default();
        if let Some((_, before)) = self.chunks.range_mut(..under).next_back() {
            before.reserve_exact(length);
            before.extend(chunk);
        }
    }

    /// From this key on, upwards.
    pub(super) fn from(&self, key: K) -> impl Iterator<Item = (K, &V)> {
        let under = self.chunks.range(..=key).next_back().map_or(key, |(under, _)| *under);
        let chunks = self.chunks.range((Bound::Included(under), Bound::Unbounded));
        chunks.flat_map(move |(_, chunk)| {
            let from = chunk.partition_point(|(other, _)| *other < key);
            chunk.get(from..).unwrap_or_default().iter().map(|(key, value)| (*key, value))
        })
    }

    /// The least key and its value.
    pub(super) fn first(&self) -> Option<(K, &V)> {
        self.chunks.values().next()?.first().map(|(key, value)| (*key, value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_sorted_map_holds(steps in vec((0..6_u8, 0..2_000_u32), 0..4_000), grows in any::<bool>()) {
            let (mut ordered, mut model) = (Ordered::default(), BTreeMap::new());
            for (at, (step, key)) in (0_u32..).zip(steps) {
                // Half of the runs insert nearly in order, as the store does.
                let key = if grows && step < 4 { at / 2 + key % 16 } else { key };
                match step {
                    0..4 => prop_assert_eq!(ordered.insert(key, at), model.insert(key, at)),
                    4 => prop_assert_eq!(ordered.remove(key), model.remove(&key)),
                    _ => {
                        let first = model.keys().next().copied().unwrap_or_default();
                        prop_assert_eq!(ordered.remove(first), model.remove(&first));
                    }
                }
                prop_assert_eq!(ordered.get(key), model.get(&key));
                prop_assert_eq!(ordered.len(), model.len());
            }
            for key in (0..2_000).step_by(97) {
                prop_assert!(ordered.from(key).eq(model.range(key..).map(|(key, value)| (*key, value))));
            }
            prop_assert_eq!(ordered.first(), model.iter().next().map(|(key, value)| (*key, value)));
        }
    }

    #[test]
    fn keys_in_order_leave_no_room_unused() {
        let mut ordered = Ordered::default();
        for key in 0..10_000_u64 {
            ordered.insert(key, ());
        }
        assert_eq!(ordered.chunks.len(), 10_000_usize.div_ceil(CHUNK));
        assert!(ordered.chunks.values().all(|chunk| chunk.capacity() <= CHUNK));
    }

    #[test]
    fn what_is_left_of_many_is_held_in_few_chunks() {
        let mut ordered = Ordered::default();
        for key in 0..100_000_u64 {
            ordered.insert(key, ());
        }
        for key in (0..100_000).filter(|key| key % 100 != 0) {
            ordered.remove(key);
        }
        let room: usize = ordered.chunks.values().map(Vec::capacity).sum();
        assert_eq!(ordered.len(), 1_000);
        assert!(room <= 4_000, "{room} places for 1,000 entries");
    }
}
