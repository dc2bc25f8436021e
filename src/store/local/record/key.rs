//! A dedupe key that moved on, out of a segment that is to go: all that answering a repeat needs.

use bytes::{BufMut, Bytes};

use super::event::{optional, put_optional};
use super::{FRAME, Frame, Kind, begin, close, event_head, fields};
use crate::model::{Answer, EventId, Timestamp};
use crate::store::local::codec::{Cursor, Malformed, put_long};
use crate::store::local::names::Names;

/// A dedupe key, and what a repeat of it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store::local) struct KeyRecord {
    pub(in crate::store::local) hash: [u8; 16],
    /// The event that was stored under it.
    pub(in crate::store::local) event: EventId,
    /// The event's accept sequence: of two that had the key, the later one has it now.
    pub(in crate::store::local) sequence: u64,
    pub(in crate::store::local) expires_at: Timestamp,
    /// Repeats so far.
    pub(in crate::store::local) repeats: u64,
    pub(in crate::store::local) answer: Answer,
}

/// Bytes of the fields that all keys have.
const FIXED: usize = 16 + 16 + 8 + 8 + 8 + 2 + 5 + 4;

/// Bytes that a key with this answer takes as a record of its own.
pub(in crate::store::local) fn key_bytes(answer: &Answer) -> u64 {
    let content_type = answer.content_type.as_ref().map_or(0, |content_type| content_type.len());
    (FRAME + FIXED + content_type + answer.body.len()) as u64
}

pub(in crate::store::local) fn encode_key(key: &KeyRecord) -> Vec<u8> {
    let mut record = begin(Kind::Key, FIXED + key.answer.body.len() + 32);
    record.extend_from_slice(&key.hash);
    record.put_u128_le(key.event.to_bits());
    record.put_u64_le(key.sequence);
    record.put_i64_le(key.expires_at.millis());
    record.put_u64_le(key.repeats);
    record.put_u16_le(key.answer.status);
    put_optional(&mut record, key.answer.content_type.as_deref());
    put_long(&mut record, &key.answer.body);
    close(&mut record, 0);
    record
}

pub(in crate::store::local) fn decode_key(record: &[u8], frame: &Frame) -> Result<KeyRecord, Malformed> {
    let mut cursor = Cursor::new(fields(record, frame)?);
    let hash = cursor.u128()?.to_le_bytes();
    let event = EventId::from_bits(cursor.u128()?);
    let (sequence, expires_at, repeats) = (cursor.u64()?, Timestamp::from_millis(cursor.i64()?), cursor.u64()?);
    let status = cursor.u16()?;
    let content_type = optional(&mut cursor)?;
    let body = Bytes::copy_from_slice(cursor.long()?);
    cursor.finish()?;
    Ok(KeyRecord { hash, event, sequence, expires_at, repeats, answer: Answer { status, content_type, body } })
}

/// The key that an event's own record has, or a key's; none: it has none.
pub(in crate::store::local) fn key_of(record: &[u8], frame: &Frame, names: &mut Names) -> Result<Option<KeyRecord>, Malformed> {
    if frame.kind == Kind::Key {
        return decode_key(record, frame).map(Some);
    }
    if frame.kind != Kind::Event {
        return Err(Malformed("kind"));
    }
    let head = event_head(record, frame, names)?;
    Ok(head.dedupe.map(|dedupe| KeyRecord {
        hash: dedupe.hash,
        event: head.id,
        sequence: head.sequence,
        expires_at: dedupe.expires_at,
        repeats: 0,
        answer: head.answer,
    }))
}
