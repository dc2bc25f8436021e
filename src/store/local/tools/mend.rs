//! Mending one damaged stretch of a segment: what is sound in it stays, the rest is named.

use crate::model::{EventId, Timestamp};
use crate::store::local::batch::{self, HEADER};
use crate::store::local::names::Names;
use crate::store::local::record::{self, FRAME, Frame, Kind};

use super::findings::Lost;

/// A damaged stretch: from the first byte that is no good to the next batch that is, or to the end.
pub(super) struct Stretch {
    pub(super) from: usize,
    pub(super) to: usize,
    /// The sequence that the repaired batch takes: the last one that was lost.
    pub(super) sequence: u64,
    pub(super) at: Timestamp,
}

/// Puts a repaired batch in the place of the stretch. Says what can't be kept.
pub(super) fn mend(segment: &mut [u8], nonce: u128, stretch: &Stretch, names: &mut Names) -> Vec<Lost> {
    let seed = batch::seed(nonce);
    let Some(damaged) = segment.get(stretch.from..stretch.to).filter(|bytes| bytes.len() >= HEADER).map(<[u8]>::to_vec) else {
        return vec![Lost::Bytes { bytes: stretch.to.saturating_sub(stretch.from) as u64 }];
    };
    let (mut kept, mut lost) = (vec![0; HEADER], Vec::new());
    let mut at = HEADER;
    while at + FRAME <= damaged.len() {
        let rest = &damaged[at..];
        match Frame::parse(rest).ok().filter(|frame| frame.head_is_sound(rest, seed)) {
            Some(frame) => {
                let whole = &rest[..frame.whole()];
                if !frame.tail_is_sound(&whole[frame.length..], seed) {
                    lost.extend(event_of(whole, &frame, names, true));
                }
                kept.extend_from_slice(whole);
                at += frame.whole();
            }
            None => {
                let bytes = unreadable(rest, seed);
                lost.extend(guess(&rest[..bytes], names));
                at += bytes;
            }
        }
    }
    // What was kept came out of this stretch, behind a header: it fits.
    let length = kept.len();
    let skip = damaged.len() - length.next_multiple_of(batch::ALIGN).min(damaged.len());
    batch::finish_repaired(&mut kept, nonce, stretch.sequence, stretch.at, skip);
    let place = &mut segment[stretch.from..stretch.to];
    place[..length].copy_from_slice(&kept);
    place[length..].fill(0);
    lost
}

/// How many bytes there are up to the next sound record.
fn unreadable(bytes: &[u8], seed: u64) -> usize {
    let is_sound = |at: &usize| {
        let rest = &bytes[*at..];
        Frame::parse(rest).is_ok_and(|frame| frame.head_is_sound(rest, seed))
    };
    (1..bytes.len().saturating_sub(FRAME - 1)).find(is_sound).unwrap_or(bytes.len())
}

fn event_of(record: &[u8], frame: &Frame, names: &mut Names, body_only: bool) -> Option<Lost> {
    if frame.kind != Kind::Event {
        return None;
    }
    let head = record::event_head(record, frame, names).ok()?;
    let destinations = head.deliveries.iter().map(|delivery| delivery.destination.clone()).collect();
    Some(Lost::Event { id: head.id, route: head.route, destinations, body_only })
}

/// What unreadable bytes seem to have been; nothing for zeros and remains of headers.
fn guess(bytes: &[u8], names: &mut Names) -> Option<Lost> {
    if bytes.len() < FRAME || bytes.iter().all(|byte| *byte == 0) {
        return None;
    }
    // The damage is often a few bytes: try to read the record as it stands, checksum or not.
    let as_it_stands = Frame::parse_head(bytes).ok().and_then(|frame| match frame.kind {
        Kind::Event => event_of(bytes, &frame, names, false),
        Kind::Settlement => record::decode_settlement(bytes, &frame).ok().map(|settled| Lost::Settlement { delivery: settled.delivery }),
        Kind::State => record::decode_state(bytes, &frame).ok().map(|(name, _)| Lost::State { name: Some(name) }),
        Kind::Replay | Kind::Acknowledgement => {
            record::decode_replay(bytes, &frame, names).ok().map(|replay| Lost::Replay { event: replay.event })
        }
        Kind::Moved => record::as_event(bytes, &frame).ok().and_then(|(event, frame)| event_of(event, &frame, names, false)),
        Kind::Key => record::decode_key(bytes, &frame).ok().map(|key| Lost::Key { event: key.event }),
        Kind::Repeat | Kind::Live => None,
    });
    as_it_stands.or_else(|| {
        let id = record::event_id(bytes).ok().filter(|id| *id != EventId::from_bits(0) && bytes.get(24) == Some(&1));
        Some(match id {
            Some(id) => Lost::Event { id, route: names.get("?"), destinations: Vec::new(), body_only: false },
            None => Lost::Bytes { bytes: bytes.len() as u64 },
        })
    })
}
