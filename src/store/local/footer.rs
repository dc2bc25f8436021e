//! Footers: what a sealed segment holds, in a file of its own beside it that goes when the segment goes.
//!
//! A footer is made of nothing but its segment's bytes, so it can be made again at any time: one
//! that is missing, torn or of another incarnation (every checksum is seeded by the segment's nonce) is made
//! anew. An event that was finished before its segment was sealed is known from here alone; one that outlives its
//! segment is *carried*: memory knows it while it waits, then the index.

mod build;
mod look;
mod write;

use bytes::BufMut;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::batch::seed;
use super::codec::{Cursor, Malformed, put_long};
use super::names::Names;
use super::record::Frame;
use super::segment::PAGE;
use super::table::{Meta, Place};
use crate::model::{Name, Timestamp};

pub(super) use build::{Built, Unreadable, build};
pub(super) use look::{
    Footing, carried, carried_behind, carried_from, dead, event_by_id, events_below, ids, is_sound, key, key_places, keys, ops, repeated,
};
pub(super) use write::write;

const MAGIC: &[u8; 8] = b"KURIERFT";
const VERSION: u32 = 2;
const LENGTH: usize = 512;

/// Events of one block: what a lookup reads at least.
const BLOCK_EVENTS: usize = 64;

/// Bytes of a dedupe key's entry.
const KEY: usize = 32;

/// A part of the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Section {
    offset: u64,
    length: u64,
    checksum: u64,
}

/// The sections, in the order of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Events in blocks; each block has a checksum of its own in `Blocks`.
    Events,
    /// Where each block is: first sequence, offset, length, checksum.
    Blocks,
    /// Event ids in their order, with the event's number in the segment.
    Ids,
    /// Dedupe keys in their order, with the place of the record that tells each, an event's own or a key's, and the end
    /// of the window.
    Keys,
    /// Numbers of the events that were not finished.
    Carried,
    /// Records of this segment about events of earlier ones, and the newest states and repeats.
    Ops,
    /// Dead deliveries of finished events, by destination.
    Dead,
}

const PARTS: usize = 7;

/// The first page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FooterHeader {
    pub(super) number: u64,
    pub(super) nonce: u128,
    /// Where the segment's batches end.
    pub(super) end: usize,
    pub(super) last_start: usize,
    /// The last batch that counts.
    pub(super) sequence: u64,
    /// The last batch is missing, and the next segment opens with its copy.
    pub(super) missing: bool,
    pub(super) newest_at: Timestamp,
    pub(super) keys_until: Timestamp,
    /// Bytes that its dedupe keys take as records of their own.
    pub(super) key_bytes: u64,
    /// Events, and the first and the last accept sequence among them.
    pub(super) events: u64,
    pub(super) first_event: u64,
    pub(super) last_event: u64,
    /// The highest position given out in the segment.
    pub(super) position: u64,
    /// The least and the greatest event id.
    pub(super) ids: (u128, u128),
    sections: [Section; PARTS],
}

/// What lists search besides, so that the journal need not be read for it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Columns {
    pub(super) source_id: Option<Box<str>>,
    pub(super) event_type: Option<Box<str>>,
}

/// An event as a footer tells it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FooterEvent {
    pub(super) meta: Meta,
    pub(super) columns: Columns,
}

/// A record about an earlier event, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Op {
    pub(super) place: Place,
    /// The record's head.
    pub(super) record: Vec<u8>,
}

impl Op {
    pub(super) fn frame(&self) -> Result<Frame, Malformed> {
        Frame::parse_head(&self.record)
    }
}

impl FooterHeader {
    fn section(&self, part: Part) -> Section {
        self.sections[part as usize]
    }

    /// Bytes of the whole file.
    pub(super) fn bytes(&self) -> u64 {
        self.sections.last().map_or(0, |last| last.offset.saturating_add(last.length))
    }

    fn encode(&self) -> Vec<u8> {
        let mut page = Vec::with_capacity(PAGE);
        page.extend_from_slice(MAGIC);
        page.put_u32_le(VERSION);
        page.put_u32_le(u32::from(self.missing));
        page.put_u64_le(self.number);
        page.put_u128_le(self.nonce);
        page.put_u64_le(self.end as u64);
        page.put_u64_le(self.last_start as u64);
        page.put_u64_le(self.sequence);
        page.put_i64_le(self.newest_at.millis());
        page.put_i64_le(self.keys_until.millis());
        for number in [self.events, self.first_event, self.last_event, self.position] {
            page.put_u64_le(number);
        }
        page.put_u128_le(self.ids.0);
        page.put_u128_le(self.ids.1);
        for section in self.sections {
            page.put_u64_le(section.offset);
            page.put_u64_le(section.length);
            page.put_u64_le(section.checksum);
        }
        page.put_u64_le(self.key_bytes);
        page.resize(LENGTH - 8, 0);
        page.put_u64_le(xxh3_64_with_seed(&page, seed(self.nonce)));
        page.resize(PAGE, 0);
        page
    }

    /// Reads the first page of a footer of this incarnation.
    pub(super) fn decode(page: &[u8], nonce: u128) -> Result<Self, Malformed> {
        let bytes = page.get(..LENGTH).ok_or(Malformed("footer"))?;
        let mut cursor = Cursor::new(bytes);
        if cursor.take(8)? != MAGIC || cursor.u32()? != VERSION {
            return Err(Malformed("footer"));
        }
        let sum = Cursor::new(&bytes[LENGTH - 8..]).u64()?;
        if sum != xxh3_64_with_seed(&bytes[..LENGTH - 8], seed(nonce)) {
            return Err(Malformed("footer"));
        }
        let missing = cursor.u32()? == 1;
        let (number, found) = (cursor.u64()?, cursor.u128()?);
        if found != nonce {
            return Err(Malformed("footer"));
        }
        let place = |bytes: u64| usize::try_from(bytes).map_err(|_large| Malformed("footer"));
        let (end, last_start) = (place(cursor.u64()?)?, place(cursor.u64()?)?);
        let sequence = cursor.u64()?;
        let (newest_at, keys_until) = (Timestamp::from_millis(cursor.i64()?), Timestamp::from_millis(cursor.i64()?));
        let (events, first_event, last_event, position) = (cursor.u64()?, cursor.u64()?, cursor.u64()?, cursor.u64()?);
        let ids = (cursor.u128()?, cursor.u128()?);
        let mut sections = [Section::default(); PARTS];
        for section in &mut sections {
            *section = Section { offset: cursor.u64()?, length: cursor.u64()?, checksum: cursor.u64()? };
        }
        let key_bytes = cursor.u64()?;
        Ok(Self {
            number,
            nonce,
            end,
            last_start,
            sequence,
            missing,
            newest_at,
            keys_until,
            key_bytes,
            events,
            first_event,
            last_event,
            position,
            ids,
            sections,
        })
    }
}

/// A footer's file name.
pub(super) fn file_name(number: u64) -> String {
    format!("{number:016x}.foot")
}

/// The number in a footer's file name.
pub(super) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".foot").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

fn put_event(bytes: &mut Vec<u8>, meta: &Meta, columns: &[u8]) {
    put_long(bytes, &meta.encode());
    bytes.extend_from_slice(columns);
}

/// The columns of an event: the id at its source, and the type.
fn put_columns(bytes: &mut Vec<u8>, columns: [Option<&str>; 2]) {
    for text in columns {
        bytes.put_u8(u8::from(text.is_some()));
        put_long(bytes, text.unwrap_or_default().as_bytes());
    }
}

/// An event without either.
const NO_COLUMNS: &[u8] = &[0; 10];

fn take_event(cursor: &mut Cursor<'_>, names: &mut Names) -> Result<FooterEvent, Malformed> {
    let meta = Meta::decode(cursor.long()?, names)?;
    let mut text = || -> Result<Option<Box<str>>, Malformed> {
        let present = cursor.u8()? == 1;
        let text = cursor.text()?;
        Ok(present.then(|| text.into()))
    };
    Ok(FooterEvent { meta, columns: Columns { source_id: text()?, event_type: text()? } })
}

fn put_dead(bytes: &mut Vec<u8>, name: &Name, count: u64) {
    put_long(bytes, name.as_bytes());
    bytes.put_u64_le(count);
}
