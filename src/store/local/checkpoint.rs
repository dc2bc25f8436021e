//! Checkpoints: what memory knew when a segment was begun, so that a start reads footers and segments from there
//! on only.
//!
//! One is written while commits go on. It may hold more than was so when its segment was begun, and never less:
//! what a start reads again says nothing new (an event that is known, a settlement of an older version). It is
//! believed only if it is whole and its segment is still the same incarnation; without one everything is read.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::{BufMut, Bytes};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::codec::{Cursor, Malformed, len32, put_long};
use super::disk::{Disk, DiskFile};
use super::filter::Filters;
use super::names::Names;
use super::shared::Shared;
use super::table::{Meta, Paged, Table, Usage};
use crate::model::Timestamp;

const FILE: &str = "checkpoint";
const WRITING: &str = "checkpoint.tmp";
const MAGIC: &[u8; 8] = b"KURIERCP";
const VERSION: u32 = 5;
const HEADER: usize = 72;

/// Events of one chunk; the table is locked while so many are copied.
const CHUNK_EVENTS: usize = 1000;

/// The longest chunk that is read: states may be as long.
const CHUNK_BYTES_MAX: usize = 64 << 20;

/// Chunk kinds.
const SEGMENTS: u8 = 1;
const STATES: u8 = 2;
const FILTERS: u8 = 3;
const EVENTS: u8 = 4;
const END: u8 = 5;
const TOLD: u8 = 6;
const PAGED: u8 = 7;

/// Where to go on reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// The segment that was begun; everything before it is in the checkpoint.
    pub(super) segment: u64,
    pub(super) nonce: u128,
    /// Numbers that were given out.
    pub(super) event: u64,
    pub(super) position: u64,
}

/// A checkpoint that was read.
pub(super) struct Checkpoint {
    pub(super) mark: Mark,
    pub(super) table: Table,
    pub(super) filters: Filters,
}

fn header(store: u128, mark: &Mark) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER);
    bytes.extend_from_slice(MAGIC);
    bytes.put_u32_le(VERSION);
    bytes.put_u32_le(0);
    bytes.put_u128_le(store);
    bytes.put_u64_le(mark.segment);
    bytes.put_u128_le(mark.nonce);
    bytes.put_u64_le(mark.event);
    bytes.put_u64_le(mark.position);
    debug_assert_eq!(bytes.len(), HEADER);
    bytes
}

fn put_usage(bytes: &mut Vec<u8>, number: u64, usage: &Usage) {
    let (first, last) = usage.events.unwrap_or((0, 0));
    for value in [number, u64::from(usage.events.is_some()), first, last, usage.count, usage.footer_bytes] {
        bytes.put_u64_le(value);
    }
    bytes.put_i64_le(usage.keys_until.millis());
    bytes.put_u64_le(usage.key_bytes);
    bytes.put_i64_le(usage.newest_at.millis());
    bytes.put_u32_le(u32::try_from(usage.dead.len()).unwrap_or(u32::MAX));
    for (name, count) in &usage.dead {
        put_long(bytes, name.as_bytes());
        bytes.put_u64_le(*count);
    }
    bytes.put_u32_le(u32::try_from(usage.moved.len()).unwrap_or(u32::MAX));
    usage.moved.iter().for_each(|sequence| bytes.put_u64_le(*sequence));
}

fn take_usage(cursor: &mut Cursor<'_>, names: &mut Names) -> Result<(u64, Usage), Malformed> {
    let (number, has_events) = (cursor.u64()?, cursor.u64()? == 1);
    let (first, last, count, footer_bytes) = (cursor.u64()?, cursor.u64()?, cursor.u64()?, cursor.u64()?);
    let (keys_until, key_bytes) = (Timestamp::from_millis(cursor.i64()?), cursor.u64()?);
    let newest_at = Timestamp::from_millis(cursor.i64()?);
    let mut usage =
        Usage { events: has_events.then_some((first, last)), count, footer_bytes, keys_until, key_bytes, newest_at, ..Usage::default() };
    usage.sealed = true;
    for _ in 0..cursor.count(12)? {
        usage.dead.insert(names.get(cursor.text()?), cursor.u64()?);
    }
    for _ in 0..cursor.count(8)? {
        usage.moved.insert(cursor.u64()?);
    }
    Ok((number, usage))
}

struct Writer<F> {
    file: F,
    at: u64,
    seed: u64,
}

impl<F: DiskFile> Writer<F> {
    async fn chunk(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(payload.len() + 13);
        bytes.put_u8(kind);
        bytes.put_u32_le(len32(payload));
        bytes.put_u64_le(xxh3_64_with_seed(payload, self.seed ^ u64::from(kind)));
        bytes.extend_from_slice(payload);
        self.file.write_at(self.at, &bytes).await?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}

/// Writes what memory knows, as of the begin of `mark`'s segment or later. Nothing may be forgotten meanwhile: only
/// the librarian, who calls this, forgets.
pub(super) async fn write<D: Disk>(shared: &Arc<Shared<D>>, mark: Mark, filters: &Filters) -> io::Result<()> {
    let header = header(shared.store, &mark);
    let path = shared.path.join(WRITING);
    match shared.disk.remove(&path).await {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let file = shared.disk.create(&path).await?;
    file.write_at(0, &header).await?;
    let mut writer = Writer { file, at: header.len() as u64, seed: xxh3_64_with_seed(&header, 0) };
    let (mut segments, mut states) = (Vec::new(), Vec::new());
    {
        let table = shared.table.lock();
        for (number, usage) in table.usage.range(..mark.segment) {
            put_usage(&mut segments, *number, usage);
        }
        for (name, named) in &table.states {
            put_long(&mut states, name.as_bytes());
            put_long(&mut states, &named.value);
            states.put_u64_le(named.segment);
        }
    }
    writer.chunk(SEGMENTS, &segments).await?;
    writer.chunk(STATES, &states).await?;
    let mut bytes = Vec::new();
    for generation in 0..filters.count() {
        bytes.clear();
        filters.encode(generation, &mut bytes);
        writer.chunk(FILTERS, &bytes).await?;
    }
    let paged = shared.table.lock().paged_below(mark.segment);
    for paged in paged {
        bytes.clear();
        paged.encode(&mut bytes);
        writer.chunk(PAGED, &bytes).await?;
    }
    let mut from = 0;
    loop {
        let metas = shared.table.lock().kept_below(mark.segment, from, CHUNK_EVENTS);
        let Some((last, _)) = metas.last() else { break };
        from = last.sequence + 1;
        for (kind, is_told) in [(EVENTS, false), (TOLD, true)] {
            bytes.clear();
            metas.iter().filter(|(_, told)| *told == is_told).for_each(|(meta, _)| put_long(&mut bytes, &meta.encode()));
            if !bytes.is_empty() {
                writer.chunk(kind, &bytes).await?;
            }
        }
    }
    writer.chunk(END, &[]).await?;
    writer.file.sync_data().await?;
    shared.disk.rename(&path, &shared.path.join(FILE)).await?;
    shared.disk.sync_dir(&shared.path).await
}

/// Where the checkpoint says to go on reading, if there is one of this store.
pub(super) async fn peek<D: Disk>(disk: &D, path: &Path, store: u128) -> io::Result<Option<Mark>> {
    let file = match disk.open(&path.join(FILE)).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut head = vec![0; HEADER];
    if file.length().await? < HEADER as u64 {
        return Ok(None);
    }
    file.read_at(0, &mut head).await?;
    Ok(mark(&head, store).unwrap_or(None))
}

/// Reads the checkpoint, if there is a whole one of this store.
pub(super) async fn read<D: Disk>(shared: &Shared<D>) -> Option<Checkpoint> {
    match try_read(shared).await {
        Ok(checkpoint) => checkpoint,
        Err(error) => {
            tracing::warn!(%error, "the checkpoint can't be read: the whole journal is");
            None
        }
    }
}

async fn try_read<D: Disk>(shared: &Shared<D>) -> io::Result<Option<Checkpoint>> {
    let invalid = |error: Malformed| io::Error::new(io::ErrorKind::InvalidData, error);
    let file = match shared.disk.open(&shared.path.join(FILE)).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = file.length().await?;
    let mut head = vec![0; HEADER];
    if length < HEADER as u64 {
        return Ok(None);
    }
    file.read_at(0, &mut head).await?;
    let Some(mark) = mark(&head, shared.store).map_err(invalid)? else { return Ok(None) };
    let seed = xxh3_64_with_seed(&head, 0);
    let mut checkpoint = Checkpoint { mark, table: Table::default(), filters: Filters::default() };
    let (mut at, mut chunk) = (HEADER as u64, Vec::new());
    loop {
        let mut prefix = [0; 13];
        file.read_at(at, &mut prefix).await?;
        let mut cursor = Cursor::new(&prefix);
        let kind = cursor.u8().map_err(invalid)?;
        let bytes = usize::try_from(cursor.u32().map_err(invalid)?).unwrap_or(usize::MAX);
        let checksum = cursor.u64().map_err(invalid)?;
        if bytes > CHUNK_BYTES_MAX || at + 13 + bytes as u64 > length {
            return Err(invalid(Malformed("chunk")));
        }
        chunk.resize(bytes, 0);
        file.read_at(at + 13, &mut chunk).await?;
        if xxh3_64_with_seed(&chunk, seed ^ u64::from(kind)) != checksum {
            return Err(invalid(Malformed("chunk")));
        }
        at += 13 + bytes as u64;
        if kind == END {
            return Ok(Some(checkpoint));
        }
        checkpoint.take(kind, &chunk, &mut shared.names.lock()).map_err(invalid)?;
    }
}

fn mark(head: &[u8], store: u128) -> Result<Option<Mark>, Malformed> {
    let mut cursor = Cursor::new(head);
    if cursor.take(8)? != MAGIC || cursor.u32()? != VERSION {
        return Ok(None);
    }
    cursor.u32()?;
    let found = cursor.u128()?;
    let mark = Mark { segment: cursor.u64()?, nonce: cursor.u128()?, event: cursor.u64()?, position: cursor.u64()? };
    Ok((found == store).then_some(mark))
}

impl Checkpoint {
    fn take(&mut self, kind: u8, chunk: &[u8], names: &mut Names) -> Result<(), Malformed> {
        let mut cursor = Cursor::new(chunk);
        match kind {
            FILTERS => self.filters.decode(&mut cursor)?,
            SEGMENTS => {
                while !cursor.is_empty() {
                    let (number, usage) = take_usage(&mut cursor, names)?;
                    self.table.know_segment(number, usage);
                    self.table.told(number);
                }
            }
            STATES => {
                while !cursor.is_empty() {
                    let name = cursor.text()?.to_owned();
                    let value = Bytes::copy_from_slice(cursor.long()?);
                    self.table.set_state(name, Some(value), cursor.u64()?);
                }
            }
            EVENTS => {
                while !cursor.is_empty() {
                    self.table.put(Meta::decode(cursor.long()?, names)?);
                }
            }
            TOLD => {
                while !cursor.is_empty() {
                    self.table.put_told(Meta::decode(cursor.long()?, names)?);
                }
            }
            PAGED => self.table.know_paged(Paged::decode(&mut cursor, names)?),
            _ => return Err(Malformed("chunk")),
        }
        Ok(())
    }
}
