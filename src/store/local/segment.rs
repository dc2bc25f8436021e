//! Segments: files of one size, each with a header page that says which incarnation it is and where its
//! predecessor ends.
//!
//! A header is smaller than a disk sector, so a torn write leaves the old or the new one. A segment is `ready`
//! until its first batch is written along with its `active` header; what lies in a ready one is never read.

use std::io;

use bytes::BufMut;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::batch::seed;
use super::codec::{Cursor, Malformed};
use super::disk::DiskFile;
use crate::model::Timestamp;

/// Everything is written in whole pages.
pub(super) const PAGE: usize = 4096;

/// Where the first batch begins: behind the header's page.
pub(super) const FIRST: usize = PAGE;

/// The smallest segment that works at all; tests use it.
pub(super) const BYTES_MIN: usize = 16 * PAGE;

/// The largest: a place in a segment must fit 32 bits with room to spare.
pub(super) const BYTES_MAX: usize = 1 << 30;

const MAGIC: &[u8; 8] = b"KURIERSG";
const VERSION: u32 = 1;
const LENGTH: usize = 160;

/// How a segment relates to the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Predecessor {
    pub(super) nonce: u128,
    /// Where its batches end; what lies behind is void.
    pub(super) end: usize,
    /// Where its last batch begins: that one may be missing there if this segment opens with its copy.
    pub(super) last_start: usize,
}

/// The header of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) number: u64,
    pub(super) nonce: u128,
    /// The store it belongs to.
    pub(super) store: u128,
    pub(super) created_at: Timestamp,
    /// None while it is only prepared.
    pub(super) active: Option<Active>,
}

/// What is known once a segment is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Active {
    /// The sequence of its first batch that is no copy.
    pub(super) first_sequence: u64,
    /// None in the first segment of a store.
    pub(super) predecessor: Option<Predecessor>,
    /// Numbers that were given out before, so that they only grow when everything that had them is gone.
    pub(super) given: Given,
}

/// The highest numbers that were given out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Given {
    /// Accept sequences.
    pub(super) event: u64,
    /// Deliveries' positions.
    pub(super) position: u64,
}

/// The header of the segment in this file.
pub(super) async fn read_header<F: DiskFile>(file: &F) -> io::Result<SegmentHeader> {
    let mut page = vec![0; PAGE];
    file.read_at(0, &mut page).await?;
    SegmentHeader::decode(&page).map_err(io::Error::other)
}

impl SegmentHeader {
    /// The header's page.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut page = Vec::with_capacity(PAGE);
        page.extend_from_slice(MAGIC);
        page.put_u32_le(VERSION);
        page.put_u32_le(if self.active.is_some() { 2 } else { 1 });
        page.put_u64_le(self.number);
        page.put_u128_le(self.nonce);
        page.put_u128_le(self.store);
        page.put_i64_le(self.created_at.millis());
        let predecessor = self.active.as_ref().and_then(|active| active.predecessor);
        page.put_u64_le(self.active.as_ref().map_or(0, |active| active.first_sequence));
        page.put_u64_le(u64::from(predecessor.is_some()));
        page.put_u128_le(predecessor.map_or(0, |predecessor| predecessor.nonce));
        page.put_u64_le(predecessor.map_or(0, |predecessor| predecessor.end as u64));
        page.put_u64_le(predecessor.map_or(0, |predecessor| predecessor.last_start as u64));
        let given = self.active.as_ref().map_or_else(Given::default, |active| active.given);
        page.put_u64_le(given.event);
        page.put_u64_le(given.position);
        page.resize(LENGTH - 8, 0);
        let checksum = xxh3_64_with_seed(&page, seed(self.nonce));
        page.put_u64_le(checksum);
        page.resize(PAGE, 0);
        page
    }

    /// Reads a header's page.
    pub(super) fn decode(page: &[u8]) -> Result<Self, Malformed> {
        let bytes = page.get(..LENGTH).ok_or(Malformed("segment header"))?;
        let mut cursor = Cursor::new(bytes);
        if cursor.take(8)? != MAGIC {
            return Err(Malformed("segment header"));
        }
        if cursor.u32()? != VERSION {
            return Err(Malformed("segment version"));
        }
        let is_active = match cursor.u32()? {
            1 => false,
            2 => true,
            _ => return Err(Malformed("segment state")),
        };
        let number = cursor.u64()?;
        let (nonce, store) = (cursor.u128()?, cursor.u128()?);
        let created_at = Timestamp::from_millis(cursor.i64()?);
        let first_sequence = cursor.u64()?;
        let has_predecessor = cursor.u64()? == 1;
        let offset = |offset: u64| usize::try_from(offset).map_err(|_large| Malformed("segment header"));
        let predecessor = Predecessor { nonce: cursor.u128()?, end: offset(cursor.u64()?)?, last_start: offset(cursor.u64()?)? };
        let given = Given { event: cursor.u64()?, position: cursor.u64()? };
        let checksum = Cursor::new(&bytes[LENGTH - 8..]).u64()?;
        if checksum != xxh3_64_with_seed(&bytes[..LENGTH - 8], seed(nonce)) {
            return Err(Malformed("segment header"));
        }
        let active = Active { first_sequence, predecessor: has_predecessor.then_some(predecessor), given };
        Ok(Self { number, nonce, store, created_at, active: is_active.then_some(active) })
    }
}

/// A segment's file name.
pub(super) fn file_name(number: u64) -> String {
    format!("{number:016x}.seg")
}

/// The number in a segment's file name.
pub(super) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_read_back_and_notice_every_flipped_byte() {
        let predecessor = Some(Predecessor { nonce: 4, end: 8192, last_start: 5000 });
        let active = Some(Active { first_sequence: 9, predecessor, given: Given { event: 5, position: 6 } });
        let header = SegmentHeader { number: 3, nonce: 7, store: 11, created_at: Timestamp::from_millis(5), active };
        let page = header.encode();
        assert_eq!(SegmentHeader::decode(&page), Ok(header.clone()));
        for at in 0..LENGTH {
            let mut flipped = page.clone();
            flipped[at] ^= 0x10;
            assert!(SegmentHeader::decode(&flipped).is_err(), "byte {at}");
        }
        let ready = SegmentHeader { active: None, ..header };
        assert_eq!(SegmentHeader::decode(&ready.encode()), Ok(ready));
    }

    #[test]
    fn names_read_back() {
        assert_eq!(number(&file_name(0x1f)), Some(0x1f));
        assert_eq!(number("pool-1.seg"), None);
    }
}
