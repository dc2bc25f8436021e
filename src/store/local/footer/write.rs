//! Writing a footer, a piece at a time: what it tells is never in memory twice.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use bytes::BufMut;
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

use super::build::Built;
use super::{BLOCK_EVENTS, FooterHeader, PAGE, PARTS, Part, Section, file_name, put_dead, put_event};
use crate::model::{DeliveryState, Name};
use crate::store::local::batch::seed;
use crate::store::local::codec::{len32, put_long};
use crate::store::local::disk::{Disk, DiskFile};
use crate::store::local::table::Meta;

/// Bytes that are written at a time.
const PIECE: usize = 256 * 1024;

/// The file behind its first page, section after section.
struct Sections<'f, F> {
    file: &'f F,
    seed: u64,
    /// Where in the file the bytes of `piece` belong.
    offset: u64,
    piece: Vec<u8>,
    /// Of the section that is being written: where it begins, and its checksum as far as it is known.
    begun: u64,
    checksum: Xxh3,
    /// Bytes of `piece` that the checksum holds.
    summed: usize,
    done: [Section; PARTS],
}

impl<'f, F: DiskFile> Sections<'f, F> {
    fn new(file: &'f F, seed: u64) -> Self {
        let (offset, checksum) = (PAGE as u64, Xxh3::with_seed(seed));
        Self { file, seed, offset, piece: Vec::new(), begun: offset, checksum, summed: 0, done: [Section::default(); PARTS] }
    }

    async fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() < PIECE { Ok(()) } else { self.write().await }
    }

    fn sum(&mut self) {
        self.checksum.update(&self.piece[self.summed..]);
        self.summed = self.piece.len();
    }

    async fn write(&mut self) -> io::Result<()> {
        self.sum();
        self.file.write_at(self.offset, &self.piece).await?;
        self.offset += self.piece.len() as u64;
        self.piece.clear();
        self.summed = 0;
        Ok(())
    }

    /// The section is whole; the next one begins.
    fn end(&mut self, part: Part) {
        self.sum();
        let end = self.offset + self.piece.len() as u64;
        self.done[part as usize] = Section { offset: self.begun, length: end - self.begun, checksum: self.checksum.digest() };
        self.checksum = Xxh3::with_seed(self.seed);
        self.begun = end;
    }
}

/// Writes a footer in place of whatever has its name. What it tells is synced before its first page is written, so
/// that a footer that can be believed at all is whole; the first page is not: without it the footer is made again.
pub(in crate::store::local) async fn write<D: Disk>(disk: &D, journal: &Path, built: &Built) -> io::Result<FooterHeader> {
    let path = journal.join(file_name(built.header.number));
    // A torn one must not keep an older one's header.
    match disk.remove(&path).await {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let file = disk.create(&path).await?;
    let mut header = built.header.clone();
    let mut sections = Sections::new(&file, seed(header.nonce));
    let rest = put_events(&mut sections, built, &mut header).await?;
    sections.put(&rest.blocks).await?;
    sections.end(Part::Blocks);
    put_ids(&mut sections, rest.ids, &mut header).await?;
    put_keys(&mut sections, built).await?;
    sections.put(&rest.carried).await?;
    sections.end(Part::Carried);
    put_ops(&mut sections, built).await?;
    let mut dead = Vec::new();
    rest.dead.iter().for_each(|(name, count)| put_dead(&mut dead, name, *count));
    sections.put(&dead).await?;
    sections.end(Part::Dead);
    sections.write().await?;
    header.sections = sections.done;
    file.sync_data().await?;
    file.write_at(0, &header.encode()).await?;
    Ok(header)
}

/// What is known of the events once they are written, for the sections behind theirs.
#[derive(Default)]
struct Rest {
    blocks: Vec<u8>,
    /// Event ids, with the event's number in the segment.
    ids: Vec<(u128, u32)>,
    carried: Vec<u8>,
    dead: BTreeMap<Name, u64>,
}

impl Rest {
    fn add(&mut self, meta: &Meta) {
        let number = len32(&self.ids);
        self.ids.push((meta.id.to_bits(), number));
        if meta.is_pending() {
            self.carried.put_u32_le(number);
            return;
        }
        for delivery in meta.deliveries.iter().filter(|delivery| matches!(delivery.state, DeliveryState::Dead(_))) {
            *self.dead.entry(delivery.destination.clone()).or_default() += 1;
        }
    }
}

/// The events in blocks.
async fn put_events<F: DiskFile>(sections: &mut Sections<'_, F>, built: &Built, header: &mut FooterHeader) -> io::Result<Rest> {
    let (mut rest, mut block, mut start, mut next) = (Rest::default(), Vec::new(), 0_u64, Some(0));
    while let Some(from) = next {
        let events: Vec<Meta> = built.events_from(from).take(BLOCK_EVENTS).collect();
        let Some(sequence) = events.first().map(|meta| meta.sequence) else { break };
        if rest.ids.is_empty() {
            header.first_event = sequence;
        }
        block.clear();
        for meta in &events {
            put_event(&mut block, meta, built.columns(meta.sequence));
            rest.add(meta);
            header.last_event = meta.sequence;
        }
        next = header.last_event.checked_add(1);
        rest.blocks.put_u64_le(sequence);
        rest.blocks.put_u64_le(start);
        rest.blocks.put_u32_le(len32(&block));
        rest.blocks.put_u64_le(xxh3_64_with_seed(&block, sections.seed));
        start += block.len() as u64;
        sections.put(&block).await?;
    }
    sections.end(Part::Events);
    Ok(rest)
}

async fn put_ids<F: DiskFile>(sections: &mut Sections<'_, F>, mut ids: Vec<(u128, u32)>, header: &mut FooterHeader) -> io::Result<()> {
    ids.sort_unstable();
    header.events = ids.len() as u64;
    header.ids = (ids.first().map_or(0, |first| first.0), ids.last().map_or(0, |last| last.0));
    for (id, number) in ids {
        sections.put(&id.to_le_bytes()).await?;
        sections.put(&number.to_le_bytes()).await?;
    }
    sections.end(Part::Ids);
    Ok(())
}

async fn put_keys<F: DiskFile>(sections: &mut Sections<'_, F>, built: &Built) -> io::Result<()> {
    let mut entry = Vec::new();
    for key in built.keys() {
        entry.clear();
        entry.extend_from_slice(&key.hash);
        entry.put_u32_le(key.place.0);
        entry.put_u32_le(key.place.1);
        entry.put_i64_le(key.expires_at.millis());
        sections.put(&entry).await?;
    }
    sections.end(Part::Keys);
    Ok(())
}

async fn put_ops<F: DiskFile>(sections: &mut Sections<'_, F>, built: &Built) -> io::Result<()> {
    let mut bytes = Vec::new();
    for op in &built.ops {
        bytes.clear();
        bytes.put_u32_le(op.place.offset);
        bytes.put_u32_le(op.place.tail);
        put_long(&mut bytes, &op.record);
        sections.put(&bytes).await?;
    }
    sections.end(Part::Ops);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[tokio::test]
    async fn sections_are_written_whole_and_summed_whole_however_many_pieces_they_take() {
        let file = tempfile::tempfile().unwrap();
        let mut sections = Sections::new(&file, 7);
        // Nothing, less than a piece, exactly one, and several that end anywhere.
        let lengths = [0, 1_000, PIECE - 1_000, PIECE, 0, 3 * PIECE + 17, 5];
        let contents: Vec<Vec<u8>> = (1_u8..).zip(lengths).map(|(byte, length)| vec![byte; length]).collect();
        let parts = [Part::Events, Part::Blocks, Part::Ids, Part::Keys, Part::Carried, Part::Ops, Part::Dead];
        for (part, content) in parts.into_iter().zip(&contents) {
            for some in content.chunks(4_099) {
                sections.put(some).await.unwrap();
            }
            sections.end(part);
        }
        sections.write().await.unwrap();
        let mut offset = PAGE as u64;
        for (section, content) in sections.done.iter().zip(&contents) {
            let checksum = xxh3_64_with_seed(content, 7);
            assert_eq!(*section, Section { offset, length: content.len() as u64, checksum });
            let mut read = vec![0; content.len()];
            file.read_exact_at(&mut read, offset).unwrap();
            assert!(read == *content, "the section at {offset}");
            offset += section.length;
        }
        assert_eq!((contents.len(), file.metadata().unwrap().len()), (PARTS, offset));
    }
}
