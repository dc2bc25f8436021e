//! An event that moved on, out of a segment that is to go: as it stood then, with its bytes.
//!
//! The head holds what memory knows of the event (a long), and behind it the head of the event's own record; the
//! tail is the body. What is committed about the event later goes on from there.

use super::{Frame, Kind, begin, close, fields};
use crate::store::local::codec::{Cursor, Malformed, put_long};
use crate::store::local::names::Names;
use crate::store::local::table::Meta;

/// `event` is the head of the event's own record, `tail` the bytes of its body.
pub(in crate::store::local) fn encode_moved(meta: &Meta, event: &[u8], tail: u32) -> Vec<u8> {
    let mut record = begin(Kind::Moved, 256 + event.len());
    put_long(&mut record, &meta.encode());
    record.extend_from_slice(event);
    close(&mut record, tail);
    record
}

/// The event as it stood; its place is the one that it left.
pub(in crate::store::local) fn decode_moved(record: &[u8], frame: &Frame, names: &mut Names) -> Result<Meta, Malformed> {
    as_event(record, frame)?;
    Meta::decode(Cursor::new(fields(record, frame)?).long()?, names)
}

/// The event's own record, wherever the event lies by now. Its checksums are those of its first place.
pub(in crate::store::local) fn as_event<'a>(record: &'a [u8], frame: &Frame) -> Result<(&'a [u8], Frame), Malformed> {
    match frame.kind {
        Kind::Event => Ok((record.get(..frame.length).ok_or(Malformed("length"))?, *frame)),
        Kind::Moved => {
            let mut cursor = Cursor::new(fields(record, frame)?);
            cursor.long()?;
            let event = cursor.rest();
            let own = Frame::parse_head(event)?;
            let is_whole = own.kind == Kind::Event && own.length == event.len() && own.tail == frame.tail;
            if is_whole { Ok((event, own)) } else { Err(Malformed("moved event")) }
        }
        Kind::Settlement | Kind::Replay | Kind::Acknowledgement | Kind::Repeat | Kind::State | Kind::Live | Kind::Key => {
            Err(Malformed("kind"))
        }
    }
}
