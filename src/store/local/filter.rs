//! "Key never seen": a bounded filter over the dedupe keys of sealed segments.
//!
//! Keys of sealed segments stay in their footers. A filter of 28 bits a key says at once that a key is in none of
//! them, which is what all but one key in some ten thousand are; where it says "maybe", the footers of its segments are
//! asked. A filter is one generation: filled up, then kept until the last of its segments is past its keys.

use std::collections::VecDeque;
use std::sync::Arc;

use super::codec::{Cursor, Malformed};
use bytes::BufMut;

/// Bits of one generation.
const BITS: usize = 1 << 25;

/// Keys of one generation, at which a new one begins.
const KEYS_EACH: u64 = (BITS / 28) as u64;

/// Most generations, 4 MiB each: 57 million keys within their windows.
const GENERATIONS_MAX: usize = 48;

const WORDS: usize = BITS / 64;

/// Words of a block: two cache lines side by side, which the processor fetches together.
const BLOCK: usize = 16;

/// Bits that are set for a key. A wrong "maybe" makes the committer ask the footers of some thirty segments, so with
/// many generations even one in 10,000 would be felt.
const PROBES: u32 = 11;

#[derive(Debug, Clone)]
struct Generation {
    /// The segments whose keys it holds.
    first: u64,
    last: u64,
    keys: u64,
    /// A checkpoint shares them while it is written.
    words: Arc<[u64]>,
}

/// Segments that may hold a key: the first and the last of each row.
pub(super) type Rows = Vec<(u64, u64)>;

/// All generations, oldest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Filters(VecDeque<Generation>);

/// Where the block of a key begins: the hash is uniform already.
fn block(hash: &[u8; 16]) -> usize {
    usize::try_from(u128::from_le_bytes(*hash) % (WORDS / BLOCK) as u128).unwrap_or(0) * BLOCK
}

/// The block of a key, and its bits there.
fn place(hash: &[u8; 16]) -> (usize, [u64; BLOCK]) {
    let (whole, block) = (u128::from_le_bytes(*hash), block(hash));
    let mut bits = [0; BLOCK];
    for probe in 1..=PROBES {
        let bit = usize::try_from((whole >> (128 - 10 * probe)) & 1023).unwrap_or(0);
        bits[bit / 64] |= 1 << (bit % 64);
    }
    (block, bits)
}

impl Generation {
    fn new(segment: u64) -> Self {
        Self { first: segment, last: segment, keys: 0, words: vec![0; WORDS].into() }
    }

    /// The whole line is looked at without a branch, so that the processor fetches those of all generations at once.
    fn holds(&self, (block, bits): &(usize, [u64; BLOCK])) -> bool {
        let line = self.words.get(*block..block + BLOCK).unwrap_or_default();
        line.iter().zip(bits).fold(0, |missing, (word, bits)| missing | (bits & !word)) == 0
    }
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
                self.0.push_back(Generation::new(segment));
            }
            let Some(newest) = self.0.back_mut() else { return };
            newest.last = segment;
            newest.keys += 1;
            let (block, bits) = place(&hash);
            let line = &mut Arc::make_mut(&mut newest.words)[block..block + BLOCK];
            line.iter_mut().zip(bits).for_each(|(word, bits)| *word |= bits);
        }
    }

    /// Brings what [`maybe`](Self::maybe) will look at for these keys into the processor's caches: one key after the other would
    /// wait for memory each time, all of them together wait about once.
    pub(super) fn fetch<'h>(&self, hashes: impl Iterator<Item = &'h [u8; 16]>) {
        let mut seen = 0;
        for hash in hashes {
            let block = block(hash);
            seen ^= self.0.iter().fold(0, |seen, generation| seen ^ generation.words.get(block).copied().unwrap_or(0));
        }
        std::hint::black_box(seen);
    }

    /// The segments that may hold this key: ranges, newest first. Mostly none.
    pub(super) fn maybe(&self, hash: &[u8; 16]) -> Rows {
        let place = place(hash);
        let holding = self.0.iter().rev().filter(|generation| generation.holds(&place));
        holding.map(|generation| (generation.first, generation.last)).collect()
    }

    /// Forgets generations all of whose segments are below this one.
    pub(super) fn forget_below(&mut self, segment: u64) {
        while self.0.front().is_some_and(|oldest| oldest.last < segment) {
            self.0.pop_front();
        }
    }

    /// How many generations there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// A generation as a checkpoint keeps it.
    pub(super) fn encode(&self, generation: usize, bytes: &mut Vec<u8>) {
        let Some(generation) = self.0.get(generation) else { return };
        for number in [generation.first, generation.last, generation.keys] {
            bytes.put_u64_le(number);
        }
        // Of one that has just begun most words are empty.
        let used = generation.words.iter().filter(|word| **word != 0).count();
        let is_sparse = used < WORDS / 2;
        bytes.put_u32_le(if is_sparse { u32::try_from(used).unwrap_or(u32::MAX) } else { u32::MAX });
        for (at, word) in (0_u32..).zip(&*generation.words).filter(|(_, word)| !is_sparse || **word != 0) {
            if is_sparse {
                bytes.put_u32_le(at);
            }
            bytes.put_u64_le(*word);
        }
    }

    /// The inverse of [`Filters::encode`]: one more generation, the newest so far.
    pub(super) fn decode(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        let (first, last, keys) = (cursor.u64()?, cursor.u64()?, cursor.u64()?);
        let mut words = vec![0; WORDS];
        match cursor.u32()? {
            u32::MAX => {
                for word in &mut words {
                    *word = cursor.u64()?;
                }
            }
            used => {
                for _ in 0..used {
                    let at = usize::try_from(cursor.u32()?).unwrap_or(usize::MAX);
                    *words.get_mut(at).ok_or(Malformed("filter"))? = cursor.u64()?;
                }
            }
        }
        self.0.push_back(Generation { first, last, keys, words: words.into() });
        Ok(())
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
        for segment in 0..40_u64 {
            filters.add(segment, (segment * 40_000..(segment + 1) * 40_000).map(hash));
        }
        assert_eq!(filters.0.len(), 2, "a second generation has begun");
        assert!((0..1_600_000).all(|n| filters.maybe(&hash(n)).iter().any(|(first, last)| (*first..=*last).contains(&(n / 40_000)))));
        let wrong = (2_000_000..3_000_000).filter(|n| !filters.maybe(&hash(*n)).is_empty()).count();
        assert!(wrong < 30, "{wrong} of 1000000");
        let mut read = Filters::default();
        for generation in 0..filters.count() {
            let mut bytes = Vec::new();
            filters.encode(generation, &mut bytes);
            read.decode(&mut Cursor::new(&bytes)).unwrap();
        }
        assert!((0..2_000_000).step_by(7).all(|n| read.maybe(&hash(n)) == filters.maybe(&hash(n))));
        filters.forget_below(35);
        assert_eq!(filters.0.len(), 1);
        assert!(filters.maybe(&hash(0)).is_empty() || filters.0[0].first > 0);
    }
}
