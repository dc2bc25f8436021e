//! Looking into footers. Whatever is read is checked first; what doesn't match is an error and makes the footer be
//! made anew, never an answer.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{BLOCK_EVENTS, FooterEvent, FooterHeader, KEY, Op, Part, file_name, take_event};
use crate::model::{DeliveryKind, EventId, Name, Timestamp};
use crate::store::local::batch::seed;
use crate::store::local::codec::{Cursor, Malformed};
use crate::store::local::disk::{Disk, DiskFile};
use crate::store::local::names::Names;
use crate::store::local::record::{self, Kind};
use crate::store::local::segment::PAGE;
use crate::store::local::table::{Meta, Place};

const ID: usize = 20;
const BLOCK: usize = 28;

/// Keys that are read at a time while one is looked for.
const KEYS_READ: usize = 512;

/// An open footer.
pub(in crate::store::local) struct Footing<F> {
    file: F,
    pub(in crate::store::local) header: FooterHeader,
}

fn damaged(error: Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<F: DiskFile> Footing<F> {
    /// Opens the footer of this incarnation of a segment; none if there is no sound one.
    pub(in crate::store::local) async fn open<D: Disk<File = F>>(
        disk: &D,
        journal: &Path,
        number: u64,
        nonce: u128,
    ) -> io::Result<Option<Self>> {
        let file = match disk.open(&journal.join(file_name(number))).await {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let length = file.length().await?;
        if length < PAGE as u64 {
            return Ok(None);
        }
        let mut page = vec![0; PAGE];
        file.read_at(0, &mut page).await?;
        let header = FooterHeader::decode(&page, nonce).ok().filter(|header| header.number == number && header.bytes() == length);
        Ok(header.map(|header| Self { file, header }))
    }

    async fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.file.read_at(offset, &mut bytes).await?;
        Ok(bytes)
    }

    async fn part(&self, part: Part) -> io::Result<Vec<u8>> {
        let section = self.header.section(part);
        let bytes = self.read(section.offset, usize::try_from(section.length).unwrap_or(usize::MAX)).await?;
        if xxh3_64_with_seed(&bytes, seed(self.header.nonce)) == section.checksum { Ok(bytes) } else { Err(damaged(Malformed("footer"))) }
    }

    /// The events of a block.
    async fn block(&self, blocks: &[u8], number: usize, names: &parking_lot::Mutex<Names>) -> io::Result<Vec<FooterEvent>> {
        let read = |bytes: &[u8]| -> Result<(u64, u32, u64), Malformed> {
            let mut cursor = Cursor::new(bytes);
            cursor.u64()?;
            Ok((cursor.u64()?, cursor.u32()?, cursor.u64()?))
        };
        let entry = blocks.get(number * BLOCK..(number + 1) * BLOCK).ok_or_else(|| damaged(Malformed("block")))?;
        let (offset, length, checksum) = read(entry).map_err(damaged)?;
        let section = self.header.section(Part::Events);
        let bytes = self.read(section.offset.saturating_add(offset), usize::try_from(length).unwrap_or(usize::MAX)).await?;
        if xxh3_64_with_seed(&bytes, seed(self.header.nonce)) != checksum {
            return Err(damaged(Malformed("block")));
        }
        let mut names = names.lock();
        let mut cursor = Cursor::new(&bytes);
        let mut events = Vec::with_capacity(BLOCK_EVENTS);
        while !cursor.is_empty() {
            events.push(take_event(&mut cursor, &mut names).map_err(damaged)?);
        }
        Ok(events)
    }

    /// The block that holds this sequence, or would.
    fn block_of(blocks: &[u8], sequence: u64) -> Option<usize> {
        let count = blocks.len() / BLOCK;
        let first = |number: usize| blocks[number * BLOCK..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low.midpoint(high);
            if first(middle) <= sequence { low = middle + 1 } else { high = middle }
        }
        low.checked_sub(1)
    }

    async fn numbered(&self, number: u32, names: &parking_lot::Mutex<Names>) -> io::Result<FooterEvent> {
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        let blocks = self.part(Part::Blocks).await?;
        let mut events = self.block(&blocks, number / BLOCK_EVENTS, names).await?;
        let at = number % BLOCK_EVENTS;
        if at < events.len() { Ok(events.swap_remove(at)) } else { Err(damaged(Malformed("event number"))) }
    }
}

/// Whether every part is what was written, the events' blocks included.
pub(in crate::store::local) async fn is_sound<F: DiskFile>(footing: &Footing<F>) -> io::Result<bool> {
    for part in [Part::Events, Part::Blocks, Part::Ids, Part::Keys, Part::Carried, Part::Ops, Part::Dead] {
        match footing.part(part).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// All event ids, in their order.
pub(in crate::store::local) async fn ids<F: DiskFile>(footing: &Footing<F>) -> io::Result<Vec<u128>> {
    let bytes = footing.part(Part::Ids).await?;
    Ok(bytes.chunks_exact(ID).map(|id| id.first_chunk().map_or(0, |bytes| u128::from_le_bytes(*bytes))).collect())
}

/// An event by its id.
pub(in crate::store::local) async fn event_by_id<F: DiskFile>(
    footing: &Footing<F>,
    id: EventId,
    names: &parking_lot::Mutex<Names>,
) -> io::Result<Option<FooterEvent>> {
    let wanted = id.to_bits();
    let (least, greatest) = footing.header.ids;
    if footing.header.events == 0 || wanted < least || wanted > greatest {
        return Ok(None);
    }
    let ids = footing.part(Part::Ids).await?;
    let at = |number: usize| ids[number * ID..].first_chunk().map_or(0, |bytes| u128::from_le_bytes(*bytes));
    let (mut low, mut high) = (0, ids.len() / ID);
    while low < high {
        let middle = low.midpoint(high);
        if at(middle) < wanted { low = middle + 1 } else { high = middle }
    }
    if low == ids.len() / ID || at(low) != wanted {
        return Ok(None);
    }
    let number = ids[low * ID + 16..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    footing.numbered(number, names).await.map(Some)
}

/// Events below this sequence, newest first, at least `limit` if there are so many.
pub(in crate::store::local) async fn events_below<F: DiskFile>(
    footing: &Footing<F>,
    before: u64,
    limit: usize,
    names: &parking_lot::Mutex<Names>,
) -> io::Result<Vec<FooterEvent>> {
    let blocks = footing.part(Part::Blocks).await?;
    let mut found = Vec::new();
    let mut next = before.checked_sub(1).and_then(|last| Footing::<F>::block_of(&blocks, last));
    while let Some(block) = next.filter(|_| found.len() < limit) {
        let events = footing.block(&blocks, block, names).await?;
        found.extend(events.into_iter().rev().filter(|event| event.meta.sequence < before));
        next = block.checked_sub(1);
    }
    Ok(found)
}

/// The place of the record that tells a dedupe key.
pub(in crate::store::local) async fn key<F: DiskFile>(footing: &Footing<F>, hash: &[u8; 16]) -> io::Result<Option<Place>> {
    let section = footing.header.section(Part::Keys);
    let count = usize::try_from(section.length).unwrap_or(usize::MAX) / KEY;
    let (mut low, mut high) = (0, count);
    // Hashes are spread evenly, so the first look mostly hits; if they are not, halving finds it.
    let share = u64::from_be_bytes([hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7]]);
    let guess = usize::try_from((u128::from(share) * count as u128) >> 64).unwrap_or(0);
    let mut middle = guess.saturating_sub(KEYS_READ / 2).min(count.saturating_sub(KEYS_READ));
    // The section is searched by pieces and not checked whole; the record that is found names its key itself.
    while low < high {
        let some = (high - middle).min(KEYS_READ);
        let bytes = footing.read(section.offset + (middle * KEY) as u64, some * KEY).await?;
        let hash_at = |at: usize| &bytes[at * KEY..at * KEY + 16];
        if hash_at(0) > hash.as_slice() {
            high = middle;
            middle = if high - low <= KEYS_READ { low } else { low.midpoint(high) };
        } else if hash_at(some - 1) < hash.as_slice() {
            low = middle + some;
            middle = if high - low <= KEYS_READ { low } else { low.midpoint(high) };
        } else {
            let Some(at) = (0..some).find(|at| hash_at(*at) == hash) else { return Ok(None) };
            return key_place(footing, &bytes[at * KEY..]).map(|(place, _)| Some(place));
        }
    }
    Ok(None)
}

/// The place that a dedupe key's entry names, and the end of its window.
fn key_place<F>(footing: &Footing<F>, entry: &[u8]) -> io::Result<(Place, Timestamp)> {
    let mut cursor = Cursor::new(entry);
    let mut read = || -> Result<(Place, Timestamp), Malformed> {
        cursor.take(16)?;
        let place = Place { segment: footing.header.number, offset: cursor.u32()?, length: cursor.u32()?, tail: 0 };
        Ok((place, Timestamp::from_millis(cursor.i64()?)))
    };
    read().map_err(damaged)
}

/// The records that tell the dedupe keys, and the end of each window.
pub(in crate::store::local) async fn key_places<F: DiskFile>(footing: &Footing<F>) -> io::Result<Vec<(Place, Timestamp)>> {
    let bytes = footing.part(Part::Keys).await?;
    bytes.chunks_exact(KEY).map(|entry| key_place(footing, entry)).collect()
}

/// All dedupe keys' hashes.
pub(in crate::store::local) async fn keys<F: DiskFile>(footing: &Footing<F>) -> io::Result<Vec<[u8; 16]>> {
    let bytes = footing.part(Part::Keys).await?;
    Ok(bytes.chunks_exact(KEY).filter_map(|key| key.first_chunk().copied()).collect())
}

/// The events that were not finished, as they stood at the segment's end.
pub(in crate::store::local) async fn carried<F: DiskFile>(
    footing: &Footing<F>,
    names: &parking_lot::Mutex<Names>,
) -> io::Result<Vec<Meta>> {
    carried_from(footing, 0, usize::MAX, names).await
}

/// The numbers of the blocks in which the events were not finished, and those of the events in each.
async fn carried_blocks<F: DiskFile>(footing: &Footing<F>) -> io::Result<BTreeMap<usize, Vec<usize>>> {
    let numbers = footing.part(Part::Carried).await?;
    let mut by_block: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for number in numbers.chunks_exact(4) {
        let number = usize::try_from(Cursor::new(number).u32().map_err(damaged)?).unwrap_or(usize::MAX);
        by_block.entry(number / BLOCK_EVENTS).or_default().push(number % BLOCK_EVENTS);
    }
    Ok(by_block)
}

/// Those from this accept sequence on, at least `limit` if there are so many.
pub(in crate::store::local) async fn carried_from<F: DiskFile>(
    footing: &Footing<F>,
    sequence: u64,
    limit: usize,
    names: &parking_lot::Mutex<Names>,
) -> io::Result<Vec<Meta>> {
    let by_block = carried_blocks(footing).await?;
    let blocks = footing.part(Part::Blocks).await?;
    let first = Footing::<F>::block_of(&blocks, sequence).unwrap_or(0);
    carried_in(footing, &blocks, by_block.range(first..), limit, sequence, names).await
}

/// Those whose deliveries stand behind this position as far as that can be told, at least `limit` if there are so many.
pub(in crate::store::local) async fn carried_behind<F: DiskFile>(
    footing: &Footing<F>,
    position: u64,
    limit: usize,
    names: &parking_lot::Mutex<Names>,
) -> io::Result<Vec<Meta>> {
    let by_block = carried_blocks(footing).await?;
    let blocks = footing.part(Part::Blocks).await?;
    let (mut low, mut high) = (0, blocks.len() / BLOCK);
    while low < high {
        let middle = low.midpoint(high);
        let events = footing.block(&blocks, middle, names).await?;
        let originals = events.iter().flat_map(|event| &event.meta.deliveries);
        let first = originals.filter(|delivery| delivery.kind == DeliveryKind::Original).map(|delivery| delivery.position).min();
        if first.is_some_and(|first| first <= position) { low = middle + 1 } else { high = middle }
    }
    carried_in(footing, &blocks, by_block.range(low.saturating_sub(1)..), limit, 0, names).await
}

async fn carried_in<F: DiskFile>(
    footing: &Footing<F>,
    blocks: &[u8],
    chosen: impl Iterator<Item = (&usize, &Vec<usize>)>,
    limit: usize,
    sequence: u64,
    names: &parking_lot::Mutex<Names>,
) -> io::Result<Vec<Meta>> {
    let mut metas = Vec::new();
    for (block, numbers) in chosen {
        if metas.len() >= limit {
            break;
        }
        let events = footing.block(blocks, *block, names).await?;
        let carried = events.into_iter().enumerate().filter(|(number, event)| numbers.contains(number) && event.meta.sequence >= sequence);
        metas.extend(carried.map(|(_, event)| event.meta));
    }
    Ok(metas)
}

/// What the segment says about events of earlier ones, states and repeats.
pub(in crate::store::local) async fn ops<F: DiskFile>(footing: &Footing<F>) -> io::Result<Vec<Op>> {
    let bytes = footing.part(Part::Ops).await?;
    let mut cursor = Cursor::new(&bytes);
    let mut ops = Vec::new();
    while !cursor.is_empty() {
        let (offset, tail) = (cursor.u32().map_err(damaged)?, cursor.u32().map_err(damaged)?);
        let record = cursor.long().map_err(damaged)?.to_vec();
        let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
        ops.push(Op { place: Place { segment: footing.header.number, offset, length, tail }, record });
    }
    Ok(ops)
}

/// Events that were repeated in the segment.
pub(in crate::store::local) async fn repeated<F: DiskFile>(footing: &Footing<F>) -> io::Result<Vec<u128>> {
    let mut ids = Vec::new();
    for op in ops(footing).await? {
        let frame = op.frame().map_err(damaged)?;
        if frame.kind == Kind::Repeat {
            ids.push(record::decode_repeat(&op.record, &frame).map_err(damaged)?.event.to_bits());
        }
    }
    Ok(ids)
}

/// Dead deliveries of finished events, by destination.
pub(in crate::store::local) async fn dead<F: DiskFile>(
    footing: &Footing<F>,
    names: &parking_lot::Mutex<Names>,
) -> io::Result<BTreeMap<Name, u64>> {
    let bytes = footing.part(Part::Dead).await?;
    let mut cursor = Cursor::new(&bytes);
    let mut dead = BTreeMap::new();
    while !cursor.is_empty() {
        let name = names.lock().get(cursor.text().map_err(damaged)?);
        dead.insert(name, cursor.u64().map_err(damaged)?);
    }
    Ok(dead)
}
