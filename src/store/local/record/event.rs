//! The event's record: its numbers first (the committer fills them in), then what every start needs, then the
//! rest of the head, then the body as the tail.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use bytes::{BufMut, Bytes};
use http::Method;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::{Frame, Kind, begin, close, deliveries, fields, flag, put_deliveries};
use crate::model::{Answer, Event, EventId, Name, Timestamp};
use crate::store::local::codec::{Cursor, Malformed, len32, put_long};
use crate::store::local::names::Names;
use crate::store::{DedupeKey, NewDelivery, NewEvent};

/// Where the committer puts the accept sequence and the first delivery's position.
const SEQUENCE_AT: usize = super::FRAME;
const POSITION_AT: usize = SEQUENCE_AT + 8;
const ID_AT: usize = POSITION_AT + 8;

/// What a start and a list need of an event.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::store::local) struct EventHead {
    pub(in crate::store::local) sequence: u64,
    pub(in crate::store::local) first_position: u64,
    pub(in crate::store::local) id: EventId,
    pub(in crate::store::local) received_at: Timestamp,
    pub(in crate::store::local) dedupe: Option<DedupeKey>,
    pub(in crate::store::local) answer: Answer,
    pub(in crate::store::local) route: Name,
    pub(in crate::store::local) deliveries: Vec<NewDelivery>,
}

/// The head of an event's record, with room for so many bytes behind it. The numbers are still 0: the committer gives them.
pub(in crate::store::local) fn encode_event(new: &NewEvent, room: usize) -> Vec<u8> {
    let event = &new.event;
    let headers: usize = event.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 8).sum();
    let texts = [&event.source_id, &event.event_type, &new.answer.content_type];
    let texts = texts.into_iter().flatten().map(|text| text.len()).sum::<usize>() + event.method.as_str().len();
    let destinations: usize = new.deliveries.iter().map(|delivery| delivery.destination.len() + 32).sum();
    // Never less than it takes, or the whole record with its body would be moved to twice its size.
    let fields = 256 + headers + texts + event.route.len() + event.target.len() + event.base.len() + new.answer.body.len() + destinations;
    let mut record = begin(Kind::Event, fields + room);
    record.put_u64_le(0);
    record.put_u64_le(0);
    record.put_u128_le(event.id.to_bits());
    record.put_i64_le(event.received_at.millis());
    record.put_u8(u8::from(new.dedupe.is_some()));
    record.extend_from_slice(&new.dedupe.map_or([0; 16], |key| key.hash));
    record.put_i64_le(new.dedupe.map_or(0, |key| key.expires_at.millis()));
    record.put_u16_le(new.answer.status);
    put_optional(&mut record, new.answer.content_type.as_deref());
    put_long(&mut record, &new.answer.body);
    put_long(&mut record, event.route.as_bytes());
    put_deliveries(&mut record, &new.deliveries);
    match event.peer {
        None => record.put_u8(0),
        Some(IpAddr::V4(address)) => {
            record.put_u8(4);
            record.extend_from_slice(&address.octets());
        }
        Some(IpAddr::V6(address)) => {
            record.put_u8(6);
            record.extend_from_slice(&address.octets());
        }
    }
    put_optional(&mut record, event.source_id.as_deref());
    put_optional(&mut record, event.event_type.as_deref());
    put_long(&mut record, event.method.as_str().as_bytes());
    put_long(&mut record, &event.target);
    put_long(&mut record, event.base.as_bytes());
    record.put_u32_le(u32::try_from(event.headers.len()).unwrap_or(u32::MAX));
    for (name, value) in &event.headers {
        put_long(&mut record, name.as_str().as_bytes());
        put_long(&mut record, value.as_bytes());
    }
    close(&mut record, len32(&event.body));
    record
}

pub(super) fn put_optional(record: &mut Vec<u8>, text: Option<&str>) {
    record.put_u8(u8::from(text.is_some()));
    put_long(record, text.unwrap_or_default().as_bytes());
}

pub(super) fn optional(cursor: &mut Cursor<'_>) -> Result<Option<Box<str>>, Malformed> {
    Ok(optional_text(cursor)?.map(Into::into))
}

fn optional_text<'a>(cursor: &mut Cursor<'a>) -> Result<Option<&'a str>, Malformed> {
    let present = flag(cursor)?;
    let text = cursor.text()?;
    Ok(present.then_some(text))
}

/// Gives an encoded event its numbers.
pub(in crate::store::local) fn number_event(record: &mut [u8], sequence: u64, first_position: u64) {
    record[SEQUENCE_AT..POSITION_AT].copy_from_slice(&sequence.to_le_bytes());
    record[POSITION_AT..ID_AT].copy_from_slice(&first_position.to_le_bytes());
}

/// The id that an event's record names.
pub(in crate::store::local) fn event_id(record: &[u8]) -> Result<EventId, Malformed> {
    Ok(EventId::from_bits(Cursor::new(record.get(ID_AT..).ok_or(Malformed("length"))?).u128()?))
}

fn read_head(cursor: &mut Cursor<'_>, names: &mut Names) -> Result<EventHead, Malformed> {
    let (sequence, first_position) = (cursor.u64()?, cursor.u64()?);
    let id = EventId::from_bits(cursor.u128()?);
    let received_at = Timestamp::from_millis(cursor.i64()?);
    let has_key = flag(cursor)?;
    let hash = cursor.u128()?.to_le_bytes();
    let expires_at = Timestamp::from_millis(cursor.i64()?);
    let status = cursor.u16()?;
    let content_type = optional(cursor)?;
    let body = Bytes::copy_from_slice(cursor.long()?);
    Ok(EventHead {
        sequence,
        first_position,
        id,
        received_at,
        dedupe: has_key.then_some(DedupeKey { hash, expires_at }),
        answer: Answer { status, content_type, body },
        route: names.get(cursor.text()?),
        deliveries: deliveries(cursor, names)?,
    })
}

/// Reads what a start needs.
pub(in crate::store::local) fn event_head(record: &[u8], frame: &Frame, names: &mut Names) -> Result<EventHead, Malformed> {
    read_head(&mut Cursor::new(fields(record, frame)?), names)
}

/// Reads what a footer tells: what a start needs, the id at its source, and the type.
pub(in crate::store::local) fn event_columns<'a>(
    record: &'a [u8],
    frame: &Frame,
    names: &mut Names,
) -> Result<(EventHead, [Option<&'a str>; 2]), Malformed> {
    let mut cursor = Cursor::new(fields(record, frame)?);
    let head = read_head(&mut cursor, names)?;
    peer(&mut cursor)?;
    Ok((head, [optional_text(&mut cursor)?, optional_text(&mut cursor)?]))
}

fn peer(cursor: &mut Cursor<'_>) -> Result<Option<IpAddr>, Malformed> {
    match cursor.u8()? {
        0 => Ok(None),
        4 => Ok(Some(IpAddr::V4(Ipv4Addr::from(octets::<4>(cursor)?)))),
        6 => Ok(Some(IpAddr::V6(Ipv6Addr::from(octets::<16>(cursor)?)))),
        _ => Err(Malformed("address")),
    }
}

/// Reads the whole event; the body is given, as its bytes may not have been read.
pub(in crate::store::local) fn event(record: &[u8], frame: &Frame, body: Bytes, names: &mut Names) -> Result<Event, Malformed> {
    let mut cursor = Cursor::new(fields(record, frame)?);
    let head = read_head(&mut cursor, names)?;
    let peer = peer(&mut cursor)?;
    let source_id = optional(&mut cursor)?;
    let event_type = optional(&mut cursor)?;
    let method = Method::from_bytes(cursor.long()?).map_err(|_invalid| Malformed("method"))?;
    let target = Bytes::copy_from_slice(cursor.long()?);
    let base = Arc::from(cursor.text()?);
    let count = cursor.count(8)?;
    let mut headers = HeaderMap::new();
    for _ in 0..count {
        let name = HeaderName::from_bytes(cursor.long()?).map_err(|_invalid| Malformed("header name"))?;
        let value = HeaderValue::from_bytes(cursor.long()?).map_err(|_invalid| Malformed("header value"))?;
        headers.try_append(name, value).map_err(|_many| Malformed("header count"))?;
    }
    cursor.finish()?;
    let EventHead { id, route, received_at, .. } = head;
    Ok(Event { id, route, received_at, peer, source_id, event_type, method, target, base, headers, body })
}

fn octets<const N: usize>(cursor: &mut Cursor<'_>) -> Result<[u8; N], Malformed> {
    cursor.take(N)?.try_into().map_err(|_length| Malformed("address"))
}
