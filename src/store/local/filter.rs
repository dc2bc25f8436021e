//! "Key never seen": a bounded filter over the dedupe keys of sealed segments.
//!
//! Keys of sealed segments stay in their footers. A filter of 24 bits a key says at once that a key is in none of
//! them, which is what all but one key in some thousands are; where it says "maybe", the footers of its few segments are asked. A
//! filter is one generation: filled up, then kept until the last of its segments is past its keys.

use std::collections::VecDeque;

use super::codec::{Cursor, Malformed};
use bytes::BufMut;

/// Bits of one generation.
const BITS: usize = 1 << 24;

/// Keys of one generation, at which a new one begins.
const KEYS_EACH: u64 = (BITS / 24) as u64;

/// Most generations, 2 MiB each: 67 million keys within their windows.
const GENERATIONS_MAX: usize = 96;

const WORDS: usize = BITS / 64;

/// Words of a block: one cache line, so that a look costs one miss.
const BLOCK: usize = 8;

/// Bits that are set for a key. A wrong "maybe" makes the committer ask the footers of some ten segments, so with
/// many generations even one in 500 would be felt by every batch.
const PROBES: u32 = 8;

#[derive(Debug, Clone)]
struct Generation {
    /// The segments whose keys it holds.
    first: u64,
    last: u64,
    keys: u64,
    words: Box<[u64]>,
}

/// Segments that may hold a key: the first and the last of each row.
pub(super) type Rows = Vec<(u64, u64)>;

/// All generations, oldest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Filters(VecDeque<Generation>);

/// The block of a key, and the bits of it: the hash is uniform already.
fn place(hash: &[u8; 16]) -> (usize, impl Iterator<Item = (usize, u64)>) {
    let whole = u128::from_le_bytes(*hash);
    let block = usize::try_from(whole % (WORDS / BLOCK) as u128).unwrap_or(0) * BLOCK;
    let bits = (0..PROBES).map(move |probe| {
        let bit = usize::try_from((whole >> (128 - 9 * (probe + 1))) & 511).unwrap_or(0);
        (block + bit / 64, 1 << (bit % 64))
    });
    (block, bits)
}

impl Filters {
    /// Whether there is no room for the keys of another segment.
    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= GENERATIONS_MAX
    }

    /// Takes in the keys of a segment that was sealed, newest of all.
    pub(super) fn add(&mut self, segment: u64, hashes: impl Iterator<Item = [u8; 16]>) {
        for hash in hashes {
            if self.0.back().is_none_or(|newest| newest.keys >= KEYS_EACH) {
                self.0.push_back(Generation { first: segment, last: segment, keys: 0, words: vec![0; WORDS].into_boxed_slice() });
            }
            let Some(newest) = self.0.back_mut() else { return };
            newest.last = segment;
            newest.keys += 1;
            for (word, bit) in place(&hash).1 {
                newest.words[word] |= bit;
            }
        }
    }

    /// The segments that may hold this key: ranges, newest first. Mostly none.
    pub(super) fn maybe(&self, hash: &[u8; 16]) -> Rows {
        let holds = |generation: &&Generation| place(hash).1.all(|(word, bit)| generation.words[word] & bit != 0);
        self.0.iter().rev().filter(holds).map(|generation| (generation.first, generation.last)).collect()
    }

    /// Forgets generations all of whose segments are below this one.
    pub(super) fn forget_below(&mut self, segment: u64) {
        while self.0.front().is_some_and(|oldest| oldest.last < segment) {
            self.0.pop_front();
        }
    }

    /// As a checkpoint keeps it.
    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.put_u32_le(u32::try_from(self.0.len()).unwrap_or(u32::MAX));
        for generation in &self.0 {
            bytes.put_u64_le(generation.first);
            bytes.put_u64_le(generation.last);
            bytes.put_u64_le(generation.keys);
            let used: Vec<(u32, u64)> =
                (0..).zip(&generation.words).filter(|(_, word)| **word != 0).map(|(at, word)| (at, *word)).collect();
            bytes.put_u32_le(u32::try_from(used.len()).unwrap_or(u32::MAX));
            for (at, word) in used {
                bytes.put_u32_le(at);
                bytes.put_u64_le(word);
            }
        }
    }

    /// The inverse of [`Filters::encode`].
    pub(super) fn decode(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let mut filters = Self::default();
        for _ in 0..cursor.count(28)? {
            let (first, last, keys) = (cursor.u64()?, cursor.u64()?, cursor.u64()?);
            let mut words = vec![0; WORDS].into_boxed_slice();
            for _ in 0..cursor.count(12)? {
                let at = usize::try_from(cursor.u32()?).unwrap_or(usize::MAX);
                *words.get_mut(at).ok_or(Malformed("filter"))? = cursor.u64()?;
            }
            filters.0.push_back(Generation { first, last, keys, words });
        }
        Ok(filters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u64) -> [u8; 16] {
        xxhash_rust::xxh3::xxh3_128(&n.to_le_bytes()).to_le_bytes()
    }

    #[test]
    fn a_key_that_was_added_is_never_denied_and_others_nearly_always_are() {
        let mut filters = Filters::default();
        for segment in 0..20_u64 {
            filters.add(segment, (segment * 40_000..(segment + 1) * 40_000).map(hash));
        }
        assert_eq!(filters.0.len(), 2, "a second generation has begun");
        assert!((0..800_000).all(|n| filters.maybe(&hash(n)).iter().any(|(first, last)| (*first..=*last).contains(&(n / 40_000)))));
        let wrong = (1_000_000..1_100_000).filter(|n| !filters.maybe(&hash(*n)).is_empty()).count();
        assert!(wrong < 60, "{wrong} of 100000");
        let mut bytes = Vec::new();
        filters.encode(&mut bytes);
        let read = Filters::decode(&mut Cursor::new(&bytes)).unwrap();
        assert_eq!(read.maybe(&hash(7)), filters.maybe(&hash(7)));
        filters.forget_below(18);
        assert_eq!(filters.0.len(), 1);
        assert!(filters.maybe(&hash(0)).is_empty() || filters.0[0].first > 0);
    }
}
