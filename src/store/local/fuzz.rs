//! For the fuzz target and its replay: everything that reads stored bytes, fed with arbitrary ones.

use super::batch;
use super::chain::{Chain, Damage};
use super::names::Names;
use super::record::{self, Frame, Kind};
use super::segment::{FIRST, SegmentHeader};
use super::table::Meta;

/// Reads the bytes as a segment, as a batch's records and as an entry of the index. Must never panic.
pub fn fuzz_batches(data: &[u8]) {
    let mut names = Names::default();
    drop(SegmentHeader::decode(data));
    drop(Meta::decode(data, &mut names));
    // A fuzzer can't guess a checksum: give it a segment whose batch is sound around whatever it says.
    let mut segment = vec![0; FIRST + batch::HEADER];
    segment.extend_from_slice(data);
    if batch::records(data).all(|record| record.is_ok()) {
        batch::finish(&mut segment[FIRST..], 1, 1, 0, crate::model::Timestamp::default());
    }
    let header = SegmentHeader { number: 1, nonce: 1, store: 0, created_at: crate::model::Timestamp::default(), active: None };
    drop(Chain::default().read::<Damage>(&segment, &header, None, |_, _, _| Ok(())));
    drop(Chain::default().read::<Damage>(data, &header, None, |_, _, _| Ok(())));
    for (_, frame, record) in batch::records(data).flatten() {
        decode(&frame, record, &mut names);
    }
}

fn decode(frame: &Frame, bytes: &[u8], names: &mut Names) {
    match frame.kind {
        Kind::Event => {
            drop(record::event_head(bytes, frame, names));
            drop(record::event(bytes, frame, bytes::Bytes::new(), names));
        }
        Kind::Settlement => drop(record::decode_settlement(bytes, frame)),
        Kind::Replay | Kind::Acknowledgement => drop(record::decode_replay(bytes, frame, names)),
        Kind::Repeat => drop(record::decode_repeat(bytes, frame)),
        Kind::State => drop(record::decode_state(bytes, frame)),
        Kind::Live => drop(record::decode_live(bytes, frame, names)),
        Kind::Moved => drop(record::decode_moved(bytes, frame, names)),
        Kind::Key => drop(record::decode_key(bytes, frame)),
    }
}
