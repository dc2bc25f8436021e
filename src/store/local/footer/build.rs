//! Making a footer out of a segment's bytes.

use std::collections::BTreeMap;
use std::io;

use bytes::{BufMut, Bytes};
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{BLOCK_EVENTS, Columns, FooterEvent, FooterHeader, KEY, Op, PAGE, PARTS, Section, put_dead, put_event};
use crate::model::{Answer, DeliveryState, EventId, Name, Timestamp};
use crate::store::DedupeKey;
use crate::store::local::batch::{self, BatchHeader, seed};
use crate::store::local::chain::{Chain, Damage};
use crate::store::local::codec::{Malformed, len32, put_long};
use crate::store::local::disk::DiskFile;
use crate::store::local::names::Names;
use crate::store::local::record::{self, Frame, KeyRecord, Kind};
use crate::store::local::segment::SegmentHeader;
use crate::store::local::table::{Meta, Place, Table};

/// A footer that is not yet written.
pub(in crate::store::local) struct Built {
    pub(in crate::store::local) header: FooterHeader,
    /// The whole file.
    pub(in crate::store::local) bytes: Vec<u8>,
    /// Its events as they stand at the segment's end, in the order of acceptance.
    pub(in crate::store::local) metas: Vec<Meta>,
    /// What it says about events of earlier segments.
    pub(in crate::store::local) ops: Vec<Op>,
    /// Its keys, and whose they are.
    pub(in crate::store::local) keys: Vec<([u8; 16], EventId)>,
}

struct Key {
    hash: [u8; 16],
    event: EventId,
    sequence: u64,
    place: Place,
    expires_at: Timestamp,
}

#[derive(Default)]
struct Builder {
    table: Table,
    /// By sequence.
    columns: BTreeMap<u64, Columns>,
    keys: Vec<Key>,
    ops: Vec<Op>,
    repeats: BTreeMap<EventId, Op>,
    states: BTreeMap<String, Op>,
    newest_at: Timestamp,
    keys_until: Timestamp,
    key_bytes: u64,
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

/// Reads the next segment of the chain and makes its footer, which counts only where another segment follows.
pub(in crate::store::local) async fn build<F: DiskFile>(
    chain: &mut Chain,
    file: &F,
    header: &SegmentHeader,
    successor: Option<&SegmentHeader>,
    names: &Mutex<Names>,
) -> Result<Built, Unreadable> {
    let mut builder = Builder::default();
    let visit = |batch: &BatchHeader, offset: usize, payload: &[u8]| {
        let mut names = names.lock();
        builder.newest_at = builder.newest_at.max(batch.committed_at);
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

impl Builder {
    fn record(&mut self, frame: &Frame, record: &[u8], place: Place, names: &mut Names) -> Result<(), Malformed> {
        let op = |record: &[u8]| Op { place, record: record[..frame.length].to_vec() };
        match frame.kind {
            Kind::Event => {
                let head = record::event_head(record, frame, names)?;
                let event = record::event(record, frame, Bytes::new(), names)?;
                if let Some(DedupeKey { hash, expires_at }) = head.dedupe {
                    self.key(Key { hash, event: head.id, sequence: head.sequence, place, expires_at }, &head.answer);
                }
                self.columns.insert(head.sequence, Columns { source_id: event.source_id, event_type: event.event_type });
                self.table.add_event(head, place);
            }
            Kind::Settlement => {
                let settled = record::decode_settlement(record, frame)?;
                if !self.table.settle(&settled, place) {
                    self.ops.push(op(record));
                }
            }
            Kind::Replay | Kind::Acknowledgement => {
                let replay = record::decode_replay(record, frame, names)?;
                if !self.table.add_replay(replay) {
                    self.ops.push(op(record));
                }
            }
            // Memory tells it until it is finished, then the index.
            Kind::Live => self.elsewhere(record::decode_live(record, frame, names)?.sequence, op(record)),
            Kind::Moved => self.elsewhere(record::decode_moved(record, frame, names)?.sequence, op(record)),
            Kind::Key => {
                let KeyRecord { hash, event, sequence, expires_at, answer, .. } = record::decode_key(record, frame)?;
                self.key(Key { hash, event, sequence, place, expires_at }, &answer);
            }
            Kind::Repeat => drop(self.repeats.insert(record::decode_repeat(record, frame)?.event, op(record))),
            Kind::State => drop(self.states.insert(record::decode_state(record, frame)?.0, op(record))),
        }
        Ok(())
    }

    /// What is said of an earlier event. One that lies here too, in the copy that the oldest segment opens with, stands
    /// here as it is said already, and goes on from there.
    fn elsewhere(&mut self, sequence: u64, op: Op) {
        if !self.table.holds(sequence) {
            self.ops.push(op);
        }
    }

    fn key(&mut self, key: Key, answer: &Answer) {
        self.keys_until = self.keys_until.max(key.expires_at);
        self.key_bytes = self.key_bytes.saturating_add(record::key_bytes(answer));
        self.keys.push(key);
    }

    fn close(self, header: &SegmentHeader, chain: &Chain) -> Built {
        let Self { table, columns, keys, mut ops, repeats, states, newest_at, keys_until, key_bytes } = self;
        let position = table.position;
        let metas = table.into_metas();
        ops.extend(repeats.into_values());
        ops.extend(states.into_values());
        let (keys, owners) = put_keys(keys);
        let seed = seed(header.nonce);
        let (events, blocks) = put_blocks(&metas, columns, seed);
        let (id_bytes, ids) = put_ids(&metas);
        let (carried, dead) = put_unfinished(&metas);
        let parts = [events, blocks, id_bytes, keys, carried, put_ops(&ops), dead];
        let mut sections = [Section::default(); PARTS];
        let mut bytes = vec![0; PAGE];
        for (section, part) in sections.iter_mut().zip(&parts) {
            *section = Section { offset: bytes.len() as u64, length: part.len() as u64, checksum: xxh3_64_with_seed(part, seed) };
            bytes.extend_from_slice(part);
        }
        let footer = FooterHeader {
            number: header.number,
            nonce: header.nonce,
            end: chain.end,
            last_start: chain.last_start,
            sequence: chain.sequence.unwrap_or(0),
            missing: chain.missing,
            newest_at,
            keys_until,
            key_bytes,
            events: metas.len() as u64,
            first_event: metas.first().map_or(0, |meta| meta.sequence),
            last_event: metas.last().map_or(0, |meta| meta.sequence),
            position,
            ids,
            sections,
        };
        bytes[..PAGE].copy_from_slice(&footer.encode());
        Built { header: footer, bytes, metas, ops, keys: owners }
    }
}

/// The events in blocks, and where the blocks are.
fn put_blocks(metas: &[Meta], mut columns: BTreeMap<u64, Columns>, seed: u64) -> (Vec<u8>, Vec<u8>) {
    let (mut events, mut blocks) = (Vec::new(), Vec::new());
    for block in metas.chunks(BLOCK_EVENTS) {
        let start = events.len();
        for meta in block {
            let columns = columns.remove(&meta.sequence).unwrap_or_default();
            put_event(&mut events, &FooterEvent { meta: meta.clone(), columns });
        }
        blocks.put_u64_le(block[0].sequence);
        blocks.put_u64_le(start as u64);
        blocks.put_u32_le(len32(&events[start..]));
        blocks.put_u64_le(xxh3_64_with_seed(&events[start..], seed));
    }
    (events, blocks)
}

/// The keys in their order, and whose they are. Of a key whose window ended and that came again only the latest event's
/// counts.
fn put_keys(mut keys: Vec<Key>) -> (Vec<u8>, Vec<([u8; 16], EventId)>) {
    let owners = keys.iter().map(|key| (key.hash, key.event)).collect();
    keys.sort_by_key(|key| (key.hash, std::cmp::Reverse(key.sequence)));
    keys.dedup_by_key(|key| key.hash);
    let mut bytes = Vec::with_capacity(keys.len() * KEY);
    for key in &keys {
        bytes.extend_from_slice(&key.hash);
        bytes.put_u32_le(key.place.offset);
        bytes.put_u32_le(key.place.length);
        bytes.put_i64_le(key.expires_at.millis());
    }
    (bytes, owners)
}

/// The ids in their order, and the least and the greatest.
fn put_ids(metas: &[Meta]) -> (Vec<u8>, (u128, u128)) {
    let mut by_id: Vec<(u128, u32)> = (0..).zip(metas).map(|(number, meta)| (meta.id.to_bits(), number)).collect();
    by_id.sort_unstable();
    let ends = (by_id.first().map_or(0, |first| first.0), by_id.last().map_or(0, |last| last.0));
    let mut bytes = Vec::with_capacity(by_id.len() * 20);
    for (id, number) in by_id {
        bytes.put_u128_le(id);
        bytes.put_u32_le(number);
    }
    (bytes, ends)
}

/// Numbers of the events that are not finished, and the dead deliveries of those that are.
fn put_unfinished(metas: &[Meta]) -> (Vec<u8>, Vec<u8>) {
    let (mut carried, mut dead) = (Vec::new(), BTreeMap::<&Name, u64>::new());
    for (number, meta) in (0_u32..).zip(metas) {
        if meta.is_pending() {
            carried.put_u32_le(number);
            continue;
        }
        for delivery in meta.deliveries.iter().filter(|delivery| matches!(delivery.state, DeliveryState::Dead(_))) {
            *dead.entry(&delivery.destination).or_default() += 1;
        }
    }
    let mut bytes = Vec::new();
    dead.iter().for_each(|(name, count)| put_dead(&mut bytes, name, *count));
    (carried, bytes)
}

fn put_ops(ops: &[Op]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for op in ops {
        bytes.put_u32_le(op.place.offset);
        bytes.put_u32_le(op.place.tail);
        put_long(&mut bytes, &op.record);
    }
    bytes
}
