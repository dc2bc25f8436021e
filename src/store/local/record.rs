//! Records: what one commit says. `docs/data.md` has them byte by byte; the layout of version 1 is final.
//!
//! A record is a frame and its fields (the head), and for an event the body behind it (the tail). Head and
//! tail have a checksum each, seeded by the segment's nonce, so that a list can read heads alone and a read by
//! place is checked without reading the whole batch.

mod event;
mod key;
mod moved;
mod settlement;
#[cfg(test)]
mod tests;

use bytes::{BufMut, Bytes};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::codec::{Cursor, Malformed, put_long};
use super::names::Names;
use super::table::Meta;
use crate::model::{DeliveryKind, EventId, Lane, Timestamp};
use crate::store::NewDelivery;

pub(super) use event::{EventHead, encode_event, event, event_columns, event_head, event_id, number_event};
pub(super) use key::{KeyRecord, decode_key, encode_key, key_bytes, key_of};
pub(super) use moved::{as_event, decode_moved, encode_moved};
pub(super) use settlement::{Settled, decode_settlement, encode_settlement, put_state, state_of};

/// Bytes of a frame.
pub(super) const FRAME: usize = 32;

/// The version of every record's layout; another one is refused (I12).
const VERSION: u8 = 1;

/// Kinds of records; a number is never used for another kind (I12). 7 and 11 to 15 are reserved for what the journal
/// will need itself: 7 audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Event,
    Settlement,
    Replay,
    Repeat,
    State,
    /// What memory must know of an event that the records behind it are about.
    Live,
    /// An event that moved out of a segment that is to go.
    Moved,
    /// The delivery that tells an event's source what became of it; laid out like a replay.
    Acknowledgement,
    /// A dedupe key that moved out of a segment that is to go.
    Key,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Event => 1,
            Self::Settlement => 2,
            Self::Replay => 3,
            Self::Repeat => 4,
            Self::State => 5,
            Self::Live => 6,
            Self::Moved => 8,
            Self::Acknowledgement => 9,
            Self::Key => 10,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        let kinds = [
            Self::Event,
            Self::Settlement,
            Self::Replay,
            Self::Repeat,
            Self::State,
            Self::Live,
            Self::Moved,
            Self::Acknowledgement,
            Self::Key,
        ];
        kinds.into_iter().find(|kind| kind.code() == code)
    }
}

/// The start of every record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    /// Over the rest of the head.
    pub(super) checksum: u64,
    /// Over the tail; 0 without one.
    pub(super) tail_checksum: u64,
    /// Bytes of the head, the frame included.
    pub(super) length: usize,
    /// Bytes of the tail.
    pub(super) tail: usize,
    pub(super) kind: Kind,
}

impl Frame {
    /// Reads a frame whose whole record must be in `bytes`.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let frame = Self::parse_head(bytes)?;
        if frame.whole() > bytes.len() { Err(Malformed("length")) } else { Ok(frame) }
    }

    /// Reads a frame whose head must be in `bytes`.
    pub(super) fn parse_head(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let (checksum, tail_checksum) = (cursor.u64()?, cursor.u64()?);
        let size = |length: u32| usize::try_from(length).map_err(|_large| Malformed("length"));
        let (length, tail) = (size(cursor.u32()?)?, size(cursor.u32()?)?);
        let (kind, version) = (cursor.u8()?, cursor.u8()?);
        let kind = Kind::from_code(kind).ok_or(Malformed("kind"))?;
        if version != VERSION || cursor.take(6)? != [0; 6] {
            return Err(Malformed("version"));
        }
        if length < FRAME || length > bytes.len() {
            return Err(Malformed("length"));
        }
        Ok(Self { checksum, tail_checksum, length, tail, kind })
    }

    /// Head and tail together.
    pub(super) fn whole(&self) -> usize {
        self.length.saturating_add(self.tail)
    }

    /// Whether the head is what was written.
    pub(super) fn head_is_sound(&self, record: &[u8], seed: u64) -> bool {
        record.get(8..self.length).is_some_and(|head| xxh3_64_with_seed(head, seed) == self.checksum)
    }

    /// Whether the tail is what was written.
    pub(super) fn tail_is_sound(&self, tail: &[u8], seed: u64) -> bool {
        tail.len() == self.tail && self.tail_checksum == if tail.is_empty() { 0 } else { xxh3_64_with_seed(tail, seed) }
    }
}

/// Starts a record.
fn begin(kind: Kind, capacity: usize) -> Vec<u8> {
    let mut record = Vec::with_capacity(FRAME + capacity);
    record.put_bytes(0, 24);
    record.put_u8(kind.code());
    record.put_u8(VERSION);
    record.put_bytes(0, 6);
    record
}

/// Fills in the lengths, once all fields are there.
fn close(record: &mut [u8], tail: u32) {
    let length = super::codec::len32(record);
    record[16..20].copy_from_slice(&length.to_le_bytes());
    record[20..24].copy_from_slice(&tail.to_le_bytes());
}

/// Fills in the checksums of a whole record that lies in its batch.
pub(super) fn seal(record: &mut [u8], frame: &Frame, seed: u64) {
    let tail_checksum = if frame.tail == 0 { 0 } else { xxh3_64_with_seed(&record[frame.length..frame.whole()], seed) };
    record[8..16].copy_from_slice(&tail_checksum.to_le_bytes());
    let checksum = xxh3_64_with_seed(&record[8..frame.length], seed);
    record[..8].copy_from_slice(&checksum.to_le_bytes());
}

/// The fields of a record, behind its frame.
fn fields<'a>(record: &'a [u8], frame: &Frame) -> Result<&'a [u8], Malformed> {
    record.get(FRAME..frame.length).ok_or(Malformed("length"))
}

fn put_deliveries(record: &mut Vec<u8>, deliveries: &[NewDelivery]) {
    record.put_u32_le(super::codec::len32(deliveries));
    for delivery in deliveries {
        put_long(record, delivery.destination.as_bytes());
        record.put_u8(u8::from(delivery.lane.is_some()));
        record.put_u64_le(delivery.lane.map_or(0, |lane| lane.0));
        record.put_i64_le(delivery.due.millis());
    }
}

fn deliveries(cursor: &mut Cursor<'_>, names: &mut Names) -> Result<Vec<NewDelivery>, Malformed> {
    let count = cursor.count(21)?;
    let mut deliveries = Vec::with_capacity(count);
    for _ in 0..count {
        let destination = names.get(cursor.text()?);
        let has_lane = flag(cursor)?;
        let lane = cursor.u64()?;
        let due = Timestamp::from_millis(cursor.i64()?);
        deliveries.push(NewDelivery { destination, lane: has_lane.then_some(Lane(lane)), due });
    }
    Ok(deliveries)
}

fn flag(cursor: &mut Cursor<'_>) -> Result<bool, Malformed> {
    match cursor.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed("flag")),
    }
}

/// New deliveries of a stored event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Replayed {
    pub(super) event: EventId,
    /// A replay or an acknowledgement.
    pub(super) kind: DeliveryKind,
    pub(super) sequence: u64,
    pub(super) created_at: Timestamp,
    pub(super) first_position: u64,
    pub(super) first_ordinal: u32,
    pub(super) deliveries: Vec<NewDelivery>,
}

pub(super) fn encode_replay(replay: &Replayed) -> Vec<u8> {
    let kind = if replay.kind == DeliveryKind::Acknowledgement { Kind::Acknowledgement } else { Kind::Replay };
    let mut record = begin(kind, 64 + replay.deliveries.len() * 48);
    record.put_u128_le(replay.event.to_bits());
    record.put_u64_le(replay.sequence);
    record.put_i64_le(replay.created_at.millis());
    record.put_u64_le(replay.first_position);
    record.put_u32_le(replay.first_ordinal);
    put_deliveries(&mut record, &replay.deliveries);
    close(&mut record, 0);
    record
}

pub(super) fn decode_replay(record: &[u8], frame: &Frame, names: &mut Names) -> Result<Replayed, Malformed> {
    let mut cursor = Cursor::new(fields(record, frame)?);
    let replay = Replayed {
        event: EventId::from_bits(cursor.u128()?),
        kind: if frame.kind == Kind::Acknowledgement { DeliveryKind::Acknowledgement } else { DeliveryKind::Replay },
        sequence: cursor.u64()?,
        created_at: Timestamp::from_millis(cursor.i64()?),
        first_position: cursor.u64()?,
        first_ordinal: cursor.u32()?,
        deliveries: deliveries(&mut cursor, names)?,
    };
    cursor.finish()?;
    Ok(replay)
}

/// An event as it stands, before records about it that come after it was forgotten.
pub(super) fn encode_live(meta: &Meta) -> Vec<u8> {
    let mut record = begin(Kind::Live, 256);
    record.extend_from_slice(&meta.encode());
    close(&mut record, 0);
    record
}

pub(super) fn decode_live(record: &[u8], frame: &Frame, names: &mut Names) -> Result<Meta, Malformed> {
    Meta::decode(fields(record, frame)?, names)
}

/// How often a key was seen again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Repeated {
    pub(super) event: EventId,
    pub(super) key: [u8; 16],
    /// All repeats so far, not only the new ones.
    pub(super) count: u64,
}

pub(super) fn encode_repeat(repeat: &Repeated) -> Vec<u8> {
    let mut record = begin(Kind::Repeat, 40);
    record.put_u128_le(repeat.event.to_bits());
    record.extend_from_slice(&repeat.key);
    record.put_u64_le(repeat.count);
    close(&mut record, 0);
    record
}

pub(super) fn decode_repeat(record: &[u8], frame: &Frame) -> Result<Repeated, Malformed> {
    let mut cursor = Cursor::new(fields(record, frame)?);
    let event = EventId::from_bits(cursor.u128()?);
    let key = cursor.u128()?.to_le_bytes();
    let count = cursor.u64()?;
    cursor.finish()?;
    Ok(Repeated { event, key, count })
}

pub(super) fn encode_state(name: &str, value: Option<&Bytes>) -> Vec<u8> {
    let mut record = begin(Kind::State, name.len() + value.map_or(0, Bytes::len) + 9);
    put_long(&mut record, name.as_bytes());
    record.put_u8(u8::from(value.is_some()));
    put_long(&mut record, value.map_or(&[], |value| value));
    close(&mut record, 0);
    record
}

pub(super) fn decode_state(record: &[u8], frame: &Frame) -> Result<(String, Option<Bytes>), Malformed> {
    let mut cursor = Cursor::new(fields(record, frame)?);
    let name = cursor.text()?.to_owned();
    let present = flag(&mut cursor)?;
    let value = Bytes::copy_from_slice(cursor.long()?);
    cursor.finish()?;
    Ok((name, present.then_some(value)))
}
