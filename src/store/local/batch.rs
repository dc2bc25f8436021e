//! Batches: the unit of durability. One write and one sync make a batch durable whole, or it is dropped whole.
//!
//! Every checksum is seeded by the nonce of the segment's present incarnation, and the header names the nonce:
//! neither what an earlier incarnation left behind nor bytes that a sender chose ever read as live (rule 2).

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::codec::{Cursor, Malformed};
use super::record::{self, Frame};
use crate::model::Timestamp;

/// Bytes of a batch's header.
pub(super) const HEADER: usize = 72;

/// Batches begin at multiples of this.
pub(super) const ALIGN: usize = 8;

const MAGIC: u32 = u32::from_le_bytes(*b"KBT1");
const CHECKSUM_AT: usize = HEADER - 8;

/// The batch repeats the last one of the segment before, whose sync was not proven.
pub(super) const COPY: u32 = 1;

/// The batch holds nothing: it proves that the one before it was synced.
pub(super) const SEAL: u32 = 2;

/// `kurier store repair` put the batch in the place of a damaged one: it holds what was left of it, its records
/// keep their own checksums, and its sequence may stand for several that were lost.
pub(super) const REPAIRED: u32 = 4;

/// What a batch says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchHeader {
    pub(super) flags: u32,
    pub(super) sequence: u64,
    pub(super) committed_at: Timestamp,
    /// Bytes of its records.
    pub(super) length: usize,
    pub(super) count: u32,
    payload_checksum: u64,
    /// Dead bytes behind it; only repaired ones have any.
    skip: usize,
}

impl BatchHeader {
    /// Bytes that the batch takes in its segment.
    pub(super) fn size(&self) -> usize {
        size(self.length).saturating_add(self.skip)
    }

    pub(super) fn is_repaired(&self) -> bool {
        self.flags & REPAIRED != 0
    }

    pub(super) fn is_copy(&self) -> bool {
        self.flags & COPY != 0
    }
}

/// What seeds the checksums of a segment.
pub(super) fn seed(nonce: u128) -> u64 {
    xxh3_64(&nonce.to_le_bytes())
}

/// Bytes that a batch with this payload takes.
pub(super) fn size(payload: usize) -> usize {
    HEADER.saturating_add(payload).next_multiple_of(ALIGN)
}

/// Fills in the header and all checksums of a batch: `batch` is room for the header, then the records.
pub(super) fn finish(batch: &mut [u8], nonce: u128, sequence: u64, flags: u32, at: Timestamp) {
    let seed = seed(nonce);
    let mut rest = &mut batch[HEADER..];
    while let Ok(frame) = Frame::parse(rest) {
        let (this, others) = rest.split_at_mut(frame.whole());
        record::seal(this, &frame, seed);
        rest = others;
    }
    debug_assert!(rest.is_empty(), "a batch of whole records");
    put_header(batch, nonce, sequence, flags, at, 0);
}

/// Fills in the header of a repaired batch, whose records keep the checksums that they have: a body that no longer
/// matches its own must stay recognisable. `skip` bytes behind it are dead.
pub(super) fn finish_repaired(batch: &mut [u8], nonce: u128, sequence: u64, at: Timestamp, skip: usize) {
    put_header(batch, nonce, sequence, REPAIRED, at, skip);
}

fn put_header(batch: &mut [u8], nonce: u128, sequence: u64, flags: u32, at: Timestamp, skip: usize) {
    let seed = seed(nonce);
    let (header, payload) = batch.split_at_mut(HEADER);
    let count = u32::try_from(records(payload).count()).unwrap_or(u32::MAX);
    header[..4].copy_from_slice(&MAGIC.to_le_bytes());
    header[4..8].copy_from_slice(&flags.to_le_bytes());
    header[8..24].copy_from_slice(&nonce.to_le_bytes());
    header[24..32].copy_from_slice(&sequence.to_le_bytes());
    header[32..40].copy_from_slice(&at.millis().to_le_bytes());
    header[40..44].copy_from_slice(&super::codec::len32(payload).to_le_bytes());
    header[44..48].copy_from_slice(&count.to_le_bytes());
    header[48..56].copy_from_slice(&xxh3_64_with_seed(payload, seed).to_le_bytes());
    header[56..CHECKSUM_AT].copy_from_slice(&(skip as u64).to_le_bytes());
    let checksum = xxh3_64_with_seed(&header[..CHECKSUM_AT], seed);
    header[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
}

/// The header at the start of `bytes`, if one of this incarnation is there.
pub(super) fn header(bytes: &[u8], nonce: u128) -> Option<BatchHeader> {
    let bytes = bytes.get(..HEADER)?;
    let mut cursor = Cursor::new(bytes);
    let mut read = || -> Result<Option<BatchHeader>, Malformed> {
        if cursor.u32()? != MAGIC {
            return Ok(None);
        }
        let flags = cursor.u32()?;
        if cursor.u128()? != nonce {
            return Ok(None);
        }
        let sequence = cursor.u64()?;
        let committed_at = Timestamp::from_millis(cursor.i64()?);
        let length = usize::try_from(cursor.u32()?).map_err(|_large| Malformed("length"))?;
        let count = cursor.u32()?;
        let payload_checksum = cursor.u64()?;
        let skip = usize::try_from(cursor.u64()?).map_err(|_large| Malformed("length"))?;
        let sound = cursor.u64()? == xxh3_64_with_seed(&bytes[..CHECKSUM_AT], seed(nonce));
        Ok(sound.then_some(BatchHeader { flags, sequence, committed_at, length, count, payload_checksum, skip }))
    };
    read().unwrap_or(None)
}

/// The whole batch at `offset`, if a sound one is there.
pub(super) fn read(segment: &[u8], offset: usize, nonce: u128) -> Option<(BatchHeader, &[u8])> {
    let bytes = segment.get(offset..)?;
    let header = header(bytes, nonce)?;
    let payload = bytes.get(HEADER..HEADER.checked_add(header.length)?)?;
    (xxh3_64_with_seed(payload, seed(nonce)) == header.payload_checksum).then_some((header, payload))
}

/// Where the next batch can begin behind `offset`.
pub(super) fn next_start(offset: usize) -> usize {
    offset.saturating_add(ALIGN).next_multiple_of(ALIGN)
}

/// Where at or behind `from` a batch's header of this incarnation stands that is later than `after`: then what is bad
/// before it is damage and no torn tail, because a batch is begun only after its predecessor's sync returned (rule 3).
pub(super) fn later(segment: &[u8], from: usize, nonce: u128, after: u64) -> Option<usize> {
    let magic = MAGIC.to_le_bytes();
    (from..segment.len().saturating_sub(HEADER - 1))
        .step_by(ALIGN)
        .find(|at| segment[*at..].starts_with(&magic) && header(&segment[*at..], nonce).is_some_and(|header| header.sequence > after))
}

/// The records of a payload with their offsets in it; ends after the first that can't be one.
pub(super) fn records(payload: &[u8]) -> impl Iterator<Item = Result<(usize, Frame, &[u8]), Malformed>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = payload.get(at..).filter(|rest| !rest.is_empty())?;
        let start = at;
        Some(match Frame::parse(rest) {
            Ok(frame) => {
                at += frame.whole();
                Ok((start, frame, &rest[..frame.whole()]))
            }
            Err(error) => {
                at = payload.len();
                Err(error)
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::local::record::encode_state;

    fn batch(nonce: u128, sequence: u64) -> Vec<u8> {
        let mut batch = vec![0; HEADER];
        batch.extend(encode_state("name", Some(&bytes::Bytes::from_static(b"value"))));
        finish(&mut batch, nonce, sequence, 0, Timestamp::from_millis(7));
        batch.resize(batch.len().next_multiple_of(ALIGN), 0);
        batch
    }

    #[test]
    fn a_batch_reads_back_under_its_own_nonce_only() {
        let bytes = batch(1, 5);
        let (header, payload) = read(&bytes, 0, 1).unwrap();
        assert_eq!((header.sequence, header.count, header.size()), (5, 1, bytes.len()));
        assert_eq!(records(payload).count(), 1);
        assert!(read(&bytes, 0, 2).is_none(), "another incarnation's frame is never live");
    }

    #[test]
    fn no_flipped_bit_goes_unnoticed() {
        let bytes = batch(1, 5);
        let used = HEADER + header(&bytes, 1).unwrap().length;
        for at in 0..used {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(read(&flipped, 0, 1).is_none(), "byte {at}");
        }
    }

    #[test]
    fn a_later_header_tells_damage_from_a_torn_tail() {
        let mut bytes = batch(1, 5);
        let second = bytes.len();
        bytes.extend(batch(1, 6));
        assert_eq!(later(&bytes, next_start(0), 1, 5), Some(second));
        assert_eq!(later(&bytes, next_start(0), 1, 6), None);
        assert_eq!(later(&bytes, next_start(second), 1, 5), None);
    }
}
