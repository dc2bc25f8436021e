//! The stored bytes, read and sealed as docs/data.md says and with nothing of the program: what a planted fault forges.

use std::path::Path;

use bytes::{Buf, BufMut};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::sim_disk::SimDisk;

/// Of a batch, before its records.
const HEADER: usize = 72;

/// Of a segment, before its batches.
const FIRST: usize = 4096;

fn u32_at(bytes: &[u8], at: usize) -> usize {
    (&bytes[at..]).get_u32_le() as usize
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    (&bytes[at..]).get_u64_le()
}

/// What every checksum of a segment with this nonce is seeded with.
fn seed(nonce: &[u8]) -> u64 {
    xxh3_64(&nonce[..16])
}

/// Whether a batch begins here; how long it is.
fn batch(bytes: &[u8], at: usize) -> Option<usize> {
    let header = bytes.get(at..at + HEADER).filter(|header| header.starts_with(b"KBT1"))?;
    let is_sound = u64_at(header, 64) == xxh3_64_with_seed(&header[..64], seed(&header[8..]));
    let length = HEADER + u32_at(header, 40);
    (is_sound && at + length <= bytes.len()).then_some(length)
}

/// Makes a changed batch sound again.
fn seal(batch: &mut [u8]) {
    let seed = seed(&batch[8..]);
    let records = xxh3_64_with_seed(&batch[HEADER..], seed);
    batch[48..56].copy_from_slice(&records.to_le_bytes());
    let header = xxh3_64_with_seed(&batch[..64], seed);
    batch[64..72].copy_from_slice(&header.to_le_bytes());
}

/// An empty batch far ahead in its segment, as somebody could send it who knew the segment's nonce.
pub(crate) fn forged(nonce: u128) -> Vec<u8> {
    let mut batch = Vec::with_capacity(HEADER);
    batch.put_slice(b"KBT1\0\0\0\0");
    batch.put_u128_le(nonce);
    batch.put_u64_le(1 << 40);
    batch.put_bytes(0, HEADER - 32);
    seal(&mut batch);
    batch
}

/// In each record that copies an event, the versions of its deliveries become 0.
pub(crate) fn forget_versions(image: &mut [u8]) {
    for at in (0..image.len()).step_by(8) {
        let Some(length) = batch(image, at) else { continue };
        let batch = &mut image[at..at + length];
        let seed = seed(&batch[8..]);
        let (mut record, mut has_changed) = (HEADER, false);
        while record + 32 <= batch.len() {
            let (head, tail) = (u32_at(batch, record + 16), u32_at(batch, record + 20));
            if head < 32 || record + head + tail > batch.len() {
                // Half of it was written.
                break;
            }
            if batch[record + 24] == 8 {
                zero_versions(&mut batch[record + 36..record + head]);
                let checksum = xxh3_64_with_seed(&batch[record + 8..record + head], seed);
                batch[record..record + 8].copy_from_slice(&checksum.to_le_bytes());
                has_changed = true;
            }
            record += head + tail;
        }
        if has_changed {
            seal(batch);
        }
    }
}

/// Walks an entry up to the versions of its deliveries.
fn zero_versions(entry: &mut [u8]) {
    let text = |entry: &[u8], at: usize| at + 4 + u32_at(entry, at);
    let mut at = text(entry, 16 + 8 + 20) + 8;
    let count = u32_at(entry, at);
    at += 4;
    for _ in 0..count {
        at = text(entry, at + 8) + 1 + 8 + 8;
        at += match entry[at] {
            1 => 9,
            3 => text(entry, at + 2) - at,
            _ => 1,
        };
        entry[at + 4..at + 8].fill(0);
        at += 9;
    }
}

/// The newer checkpoint, but for what is paged out: that stands as the older one tells it.
pub(crate) fn with_older_pages(newer: &[u8], older: &[u8]) -> Vec<u8> {
    const PAGED: u8 = 7;
    let chunks = |bytes: &[u8]| {
        let (mut at, mut chunks) = (72, Vec::new());
        while at < bytes.len() {
            let end = at + 13 + u32_at(bytes, at + 1);
            chunks.push((bytes[at], bytes[at + 13..end].to_vec()));
            at = end;
        }
        chunks
    };
    let mut forged = newer[..72].to_vec();
    let seed = xxh3_64(&forged);
    let (pages, others): (Vec<_>, Vec<_>) = (chunks(older), chunks(newer));
    let pages = pages.into_iter().filter(|(kind, _)| *kind == PAGED);
    // Segments and what they are needed for come first.
    let mut all: Vec<(u8, Vec<u8>)> = others.into_iter().filter(|(kind, _)| *kind != PAGED).collect();
    all.splice(1..1, pages);
    for (kind, payload) in all {
        forged.put_u8(kind);
        forged.put_u32_le(u32::try_from(payload.len()).unwrap());
        forged.put_u64_le(xxh3_64_with_seed(&payload, seed ^ u64::from(kind)));
        forged.put_slice(&payload);
    }
    forged
}

/// Says that the index was whole when the journal ended where it does.
pub(crate) fn forge_clean(disk: &SimDisk) {
    let journal = Path::new("/store/journal");
    let segments = disk.names(journal).into_iter().filter(|name| name.len() == 20 && name.ends_with(".seg"));
    let mut newest = segments.rev().map(|name| disk.bytes(&journal.join(name)));
    let Some(last) = newest.find(|bytes| u32_at(bytes, 12) == 2) else { return };
    let (mut at, mut sequence) = (FIRST, None);
    while let Some(length) = batch(&last, at).filter(|_| last[at + 8..at + 24] == last[24..40]) {
        sequence = Some(u64_at(&last, at + 24));
        at = (at + length).next_multiple_of(8);
    }
    let Some(sequence) = sequence else { return };
    let mut marker = Vec::with_capacity(56);
    marker.put_slice(b"KURIEROK");
    marker.put_slice(&disk.bytes(Path::new("/store/format"))[16..32]);
    marker.put_slice(&last[24..40]);
    marker.put_u64_le(sequence);
    marker.put_u64_le(xxh3_64(&marker));
    disk.plant(Path::new("/store/clean"), &marker);
}
