//! Making a footer out of a segment's bytes.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{BLOCK_EVENTS, Columns, FooterEvent, FooterHeader, Op, PAGE, PARTS, Section, put_dead, put_event};
use crate::model::{DeliveryState, EventId, Name, Timestamp};
use crate::store::local::batch::{self, seed};
use crate::store::local::chain::{Chain, Damage};
use crate::store::local::codec::{Malformed, len32, put_long};
use crate::store::local::names::Names;
use crate::store::local::record::{self, Frame, Kind};
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
    event: u64,
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
}

/// Why a segment's bytes make no footer.
#[derive(Debug)]
pub(in crate::store::local) struct Unreadable {
    pub(in crate::store::local) offset: usize,
    pub(in crate::store::local) what: String,
}

impl From<Damage> for Unreadable {
    fn from(damage: Damage) -> Self {
        Self { offset: damage.offset, what: damage.what.to_owned() }
    }
}

/// Reads the next segment of the chain and makes its footer, which counts only where another segment follows.
pub(in crate::store::local) fn build(
    chain: &mut Chain,
    segment: &[u8],
    header: &SegmentHeader,
    successor: Option<&SegmentHeader>,
    names: &mut Names,
) -> Result<Built, Unreadable> {
    let mut builder = Builder::default();
    chain.read::<Unreadable>(segment, header, successor, |batch, offset, payload| {
        builder.newest_at = builder.newest_at.max(batch.committed_at);
        for found in batch::records(payload) {
            let unreadable = |error: Malformed| Unreadable { offset, what: error.to_string() };
            let (at, frame, record) = found.map_err(unreadable)?;
            let place = Place::new(header.number, offset + batch::HEADER + at, frame.length, frame.tail);
            builder.record(&frame, record, place, names).map_err(unreadable)?;
        }
        Ok(())
    })?;
    Ok(builder.close(header, chain))
}

impl Builder {
    fn record(&mut self, frame: &Frame, record: &[u8], place: Place, names: &mut Names) -> Result<(), Malformed> {
        let op = |record: &[u8]| Op { place, record: record[..frame.length].to_vec() };
        match frame.kind {
            Kind::Event => {
                let head = record::event_head(record, frame, names)?;
                let event = record::event(record, frame, Bytes::new(), names)?;
                if let Some(key) = head.dedupe {
                    self.keys_until = self.keys_until.max(key.expires_at);
                    self.keys.push(Key { hash: key.hash, event: head.sequence, expires_at: key.expires_at });
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
            Kind::Live | Kind::Moved => self.ops.push(op(record)),
            Kind::Repeat => drop(self.repeats.insert(record::decode_repeat(record, frame)?.event, op(record))),
            Kind::State => drop(self.states.insert(record::decode_state(record, frame)?.0, op(record))),
        }
        Ok(())
    }

    fn close(self, header: &SegmentHeader, chain: &Chain) -> Built {
        let Self { table, columns, mut keys, mut ops, repeats, states, newest_at, keys_until } = self;
        let position = table.position;
        let metas = table.into_metas();
        ops.extend(repeats.into_values());
        ops.extend(states.into_values());
        let number_of = |sequence: u64| metas.binary_search_by_key(&sequence, |meta| meta.sequence).unwrap_or(0);
        let owners = keys.iter().map(|key| (key.hash, metas[number_of(key.event)].id)).collect();
        // Of a key whose window ended and that came again only the newest counts.
        keys.sort_by_key(|key| (key.hash, std::cmp::Reverse(key.event)));
        keys.dedup_by_key(|key| key.hash);
        let mut key_bytes = Vec::with_capacity(keys.len() * 28);
        for key in &keys {
            key_bytes.extend_from_slice(&key.hash);
            key_bytes.put_u32_le(u32::try_from(number_of(key.event)).unwrap_or(u32::MAX));
            key_bytes.put_i64_le(key.expires_at.millis());
        }
        let seed = seed(header.nonce);
        let (events, blocks) = put_blocks(&metas, columns, seed);
        let (id_bytes, ids) = put_ids(&metas);
        let (carried, dead) = put_unfinished(&metas);
        let parts = [events, blocks, id_bytes, key_bytes, carried, put_ops(&ops), dead];
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
