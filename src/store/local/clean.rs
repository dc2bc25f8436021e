//! The marker of a clean stop: the index on disk is whole and belongs to this end of the journal (rule 11).
//!
//! It is written once every file of the index is synced, and removed durably before anything writes the index
//! again. Without it, or with another end, the index is made anew.

use std::io;
use std::path::Path;

use bytes::BufMut;
use xxhash_rust::xxh3::xxh3_64;

use super::codec::{Cursor, Malformed};
use super::disk::{Disk, DiskFile};

const FILE: &str = "clean";
const MAGIC: &[u8; 8] = b"KURIEROK";
const LENGTH: usize = 56;

/// The end of a journal: the last segment's nonce, and the last batch that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub(super) nonce: u128,
    pub(super) sequence: u64,
}

fn encode(store: u128, end: End) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(LENGTH);
    bytes.extend_from_slice(MAGIC);
    bytes.put_u128_le(store);
    bytes.put_u128_le(end.nonce);
    bytes.put_u64_le(end.sequence);
    bytes.put_u64_le(xxh3_64(&bytes));
    bytes
}

fn decode(bytes: &[u8], store: u128) -> Result<Option<End>, Malformed> {
    let mut cursor = Cursor::new(bytes);
    let is_ours = cursor.take(8)? == MAGIC && cursor.u128()? == store;
    let end = End { nonce: cursor.u128()?, sequence: cursor.u64()? };
    let is_whole = cursor.u64()? == xxh3_64(&bytes[..LENGTH - 8]);
    Ok((is_ours && is_whole).then_some(end))
}

/// Says that the index is whole and belongs to this end.
pub(super) async fn write<D: Disk>(disk: &D, path: &Path, store: u128, end: End) -> io::Result<()> {
    let file = disk.create(&path.join(FILE)).await?;
    file.write_at(0, &encode(store, end)).await?;
    file.sync_data().await?;
    disk.sync_dir(path).await
}

/// What the marker says.
pub(super) async fn read<D: Disk>(disk: &D, path: &Path, store: u128) -> io::Result<Option<End>> {
    let file = match disk.open(&path.join(FILE)).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = vec![0; LENGTH];
    let end = match file.length().await? {
        length if length >= LENGTH as u64 => {
            file.read_at(0, &mut bytes).await?;
            decode(&bytes, store).unwrap_or(None)
        }
        _ => None,
    };
    Ok(end)
}

/// Removes the marker, durably, if there is one.
pub(super) async fn remove<D: Disk>(disk: &D, path: &Path) -> io::Result<()> {
    match disk.remove(&path.join(FILE)).await {
        Ok(()) => disk.sync_dir(path).await,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marker_reads_back_for_its_own_store_and_whole_only() {
        let end = End { nonce: 3, sequence: 7 };
        let bytes = encode(9, end);
        assert_eq!(bytes.len(), LENGTH);
        assert_eq!(decode(&bytes, 9), Ok(Some(end)));
        assert_eq!(decode(&bytes, 8), Ok(None));
        let mut torn = bytes;
        torn[30] ^= 1;
        assert_eq!(decode(&torn, 9), Ok(None));
    }
}
