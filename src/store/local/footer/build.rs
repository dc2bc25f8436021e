//! Making a footer out of a segment's bytes.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io;

use parking_lot::Mutex;

use super::{FooterHeader, NO_COLUMNS, Op, put_columns};
use crate::model::{Answer, EventId, Timestamp};
use crate::store::DedupeKey;
use crate::store::local::batch::{self, BatchHeader};
use crate::store::local::chain::{Chain, Damage};
use crate::store::local::codec::{Malformed, len32};
use crate::store::local::disk::DiskFile;
use crate::store::local::names::Names;
use crate::store::local::record::{self, Frame, KeyRecord, Kind};
use crate::store::local::segment::SegmentHeader;
use crate::store::local::table::{Meta, Place, Table};

/// What a footer tells, before it is written. Of a segment of small events there are very many: they stand here as
/// memory packs them.
#[derive(Default)]
pub(in crate::store::local) struct Built {
    /// Without the numbers that only writing it gives.
    pub(super) header: FooterHeader,
    /// Its events as they stand at the segment's end.
    pub(in crate::store::local) table: Table,
    texts: Texts,
    /// In the order of their hashes.
    keys: Vec<Key>,
    /// What it says about events of earlier segments.
    pub(in crate::store::local) ops: Vec<Op>,
}

/// A dedupe key, and the record that tells it.
pub(in crate::store::local) struct Key {
    pub(in crate::store::local) hash: [u8; 16],
    pub(in crate::store::local) event: EventId,
    sequence: u64,
    /// Offset and length.
    pub(super) place: (u32, u32),
    pub(super) expires_at: Timestamp,
}

/// Columns as they are written, in the order of acceptance.
#[derive(Default)]
struct Texts {
    /// Accept sequences, and where the columns begin and end.
    events: Vec<(u64, u32, u32)>,
    bytes: Vec<u8>,
}

impl Texts {
    fn add(&mut self, sequence: u64, columns: [Option<&str>; 2]) {
        let start = len32(&self.bytes);
        put_columns(&mut self.bytes, columns);
        self.events.push((sequence, start, len32(&self.bytes)));
    }

    fn get(&self, sequence: u64) -> Option<&[u8]> {
        let at = self.events.binary_search_by_key(&sequence, |(sequence, ..)| *sequence).ok()?;
        let index = |at: u32| usize::try_from(at).unwrap_or(usize::MAX);
        let (_, start, end) = self.events.get(at)?;
        self.bytes.get(index(*start)..index(*end))
    }
}

#[derive(Default)]
struct Builder {
    built: Built,
    repeats: BTreeMap<EventId, Op>,
    states: BTreeMap<String, Op>,
}

/// Why a segment's bytes make no footer.
#[derive(Debug)]
pub(in crate::store::local) struct Unreadable {
    pub(in crate::store::local) offset: usize,
    pub(in crate::store::local) what: String,
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Self { offset: 0, what: error.to_string() }
    }
}

impl From<Damage> for Unreadable {
    fn from(damage: Damage) -> Self {
        Self { offset: damage.offset, what: damage.what.to_owned() }
    }
}

/// Reads the next segment of the chain and makes its footer, which counts only where another segment follows. `table` is
/// empty.
pub(in crate::store::local) async fn build<F: DiskFile>(
    chain: &mut Chain,
    file: &F,
    header: &SegmentHeader,
    successor: Option<&SegmentHeader>,
    names: &Mutex<Names>,
    table: Table,
) -> Result<Built, Unreadable> {
    let mut builder = Builder { built: Built { table, ..Built::default() }, ..Builder::default() };
    let visit = |batch: &BatchHeader, offset: usize, payload: &[u8]| {
        let mut names = names.lock();
        let newest_at = &mut builder.built.header.newest_at;
        *newest_at = (*newest_at).max(batch.committed_at);
        for found in batch::records(payload) {
            let unreadable = |error: Malformed| Unreadable { offset, what: error.to_string() };
            let (at, frame, record) = found.map_err(unreadable)?;
            let place = Place::new(header.number, offset + batch::HEADER + at, frame.length, frame.tail);
            builder.record(&frame, record, place, &mut names).map_err(unreadable)?;
        }
        Ok(())
    };
    chain.read_file::<F, Unreadable>(file, header, successor, visit).await?;
    Ok(builder.close(header, chain))
}

impl Built {
    /// Its events from this accept sequence on, in the order of acceptance.
    pub(in crate::store::local) fn events_from(&self, sequence: u64) -> impl Iterator<Item = Meta> {
        self.table.metas_from(sequence)
    }

    /// The columns of an event, as they are written.
    pub(super) fn columns(&self, sequence: u64) -> &[u8] {
        self.texts.get(sequence).unwrap_or(NO_COLUMNS)
    }

    /// Its keys in their order.
    pub(in crate::store::local) fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// What is said of an earlier event. One that lies here too, in the copy that the oldest segment opens with, stands
    /// here as it is said already, and goes on from there.
    fn elsewhere(&mut self, sequence: u64, op: Op) {
        if !self.table.holds(sequence) {
            self.ops.push(op);
        }
    }

    fn key(&mut self, key: Key, answer: &Answer) {
        self.header.keys_until = self.header.keys_until.max(key.expires_at);
        self.header.key_bytes = self.header.key_bytes.saturating_add(record::key_bytes(answer));
        self.keys.push(key);
    }
}

impl Builder {
    fn record(&mut self, frame: &Frame, record: &[u8], place: Place, names: &mut Names) -> Result<(), Malformed> {
        let op = |record: &[u8]| Op { place, record: record[..frame.length].to_vec() };
        let built = &mut self.built;
        match frame.kind {
            Kind::Event => {
                let (head, columns) = record::event_columns(record, frame, names)?;
                if let Some(DedupeKey { hash, expires_at }) = head.dedupe {
                    let place = (place.offset, place.length);
                    built.key(Key { hash, event: head.id, sequence: head.sequence, place, expires_at }, &head.answer);
                }
                built.texts.add(head.sequence, columns);
                built.table.add_event(&head, place);
            }
            Kind::Settlement => {
                let settled = record::decode_settlement(record, frame)?;
                if !built.table.settle(&settled, place) {
                    built.ops.push(op(record));
                }
            }
            Kind::Replay | Kind::Acknowledgement => {
                let replay = record::decode_replay(record, frame, names)?;
                if !built.table.add_replay(replay) {
                    built.ops.push(op(record));
                }
            }
            // Memory tells it until it is finished, then the index.
            Kind::Live => built.elsewhere(record::decode_live(record, frame, names)?.sequence, op(record)),
            Kind::Moved => built.elsewhere(record::decode_moved(record, frame, names)?.sequence, op(record)),
            Kind::Key => {
                let KeyRecord { hash, event, sequence, expires_at, answer, .. } = record::decode_key(record, frame)?;
                built.key(Key { hash, event, sequence, place: (place.offset, place.length), expires_at }, &answer);
            }
            Kind::Repeat => drop(self.repeats.insert(record::decode_repeat(record, frame)?.event, op(record))),
            Kind::State => drop(self.states.insert(record::decode_state(record, frame)?.0, op(record))),
        }
        Ok(())
    }

    fn close(self, header: &SegmentHeader, chain: &Chain) -> Built {
        let Self { mut built, repeats, states } = self;
        built.ops.extend(repeats.into_values());
        built.ops.extend(states.into_values());
        built.texts.events.sort_by_key(|(sequence, ..)| *sequence);
        // Of a key whose window ended and that came again only the latest event's counts.
        built.keys.sort_unstable_by_key(|key| (key.hash, Reverse(key.sequence), key.place));
        built.keys.dedup_by_key(|key| key.hash);
        let footer = &mut built.header;
        (footer.number, footer.nonce) = (header.number, header.nonce);
        (footer.end, footer.last_start, footer.missing) = (chain.end, chain.last_start, chain.missing);
        footer.sequence = chain.sequence.unwrap_or(0);
        footer.position = built.table.position;
        built
    }
}
