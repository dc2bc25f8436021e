//! The folder of a store: its format file, which is locked as long as the store is open.
//!
//! A store is created in an empty folder only, and never taken for empty because something is missing: an
//! unknown version, a folder of something else or a journal without segments is refused.

use std::io;
use std::path::Path;

use bytes::BufMut;
use xxhash_rust::xxh3::xxh3_64;

use super::codec::{Cursor, Malformed};
use super::disk::{Disk, DiskFile};
use super::error::StoreError;
use crate::model::Timestamp;

/// The format that this program reads and writes.
pub(super) const VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"KURIERDB";
const LENGTH: usize = 48;
const FILE: &str = "format";
/// The format file until the first segment is durable.
const NEW: &str = "format.new";

/// What an interrupted creation may leave beside its format file.
const PARTS: [&str; 4] = [NEW, "journal", "index", "inflight"];

/// A folder that is ours as long as `lock` lives.
pub(super) struct Folder<F> {
    pub(super) lock: F,
    pub(super) store: u128,
    /// Nothing was ever acknowledged here.
    pub(super) is_new: bool,
}

fn encode(store: u128, created_at: Timestamp) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(LENGTH);
    bytes.extend_from_slice(MAGIC);
    bytes.put_u32_le(VERSION);
    bytes.put_u32_le(0);
    bytes.put_u128_le(store);
    bytes.put_i64_le(created_at.millis());
    bytes.put_u64_le(xxh3_64(&bytes));
    bytes
}

/// The store's id, or its version where that is not ours.
fn decode(bytes: &[u8]) -> Result<Result<u128, u32>, Malformed> {
    let mut cursor = Cursor::new(bytes);
    if cursor.take(8)? != MAGIC {
        return Err(Malformed("format file"));
    }
    let version = cursor.u32()?;
    if version != VERSION {
        return Ok(Err(version));
    }
    cursor.u32()?;
    let store = cursor.u128()?;
    cursor.i64()?;
    if cursor.u64()? == xxh3_64(&bytes[..LENGTH - 8]) { Ok(Ok(store)) } else { Err(Malformed("format file")) }
}

/// Opens the folder, or begins to create a store in it.
pub(super) async fn open<D: Disk>(disk: &D, path: &Path, fresh: u128, now: Timestamp) -> Result<Folder<D::File>, StoreError> {
    let io = |error: io::Error| StoreError::io(path, error);
    let names = match disk.list(path).await {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            disk.create_dir(path).await.map_err(io)?;
            Vec::new()
        }
        Err(error) => return Err(io(error)),
    };
    if names.iter().any(|name| name == FILE) {
        let lock = disk.open(&path.join(FILE)).await.map_err(io)?;
        return Ok(Folder { store: claim(&lock, path).await?, lock, is_new: false });
    }
    let is_interrupted = names.iter().any(|name| name == NEW) && names.iter().all(|name| PARTS.contains(&name.as_str()));
    let is_empty = names.iter().all(|name| name == "lost+found");
    if !is_interrupted && !is_empty {
        return Err(StoreError::NotAStore { path: path.to_owned() });
    }
    let lock = disk.create(&path.join(NEW)).await.map_err(io)?;
    if !lock.try_lock().map_err(io)? {
        return Err(StoreError::InUse { path: path.to_owned() });
    }
    lock.write_at(0, &encode(fresh, now)).await.map_err(io)?;
    lock.sync_data().await.map_err(io)?;
    disk.sync_dir(path).await.map_err(io)?;
    disk.create_dir(&path.join("journal")).await.map_err(io)?;
    for name in disk.list(&path.join("journal")).await.map_err(io)? {
        disk.remove(&path.join("journal").join(name)).await.map_err(io)?;
    }
    Ok(Folder { lock, store: fresh, is_new: true })
}

async fn claim<F: DiskFile>(lock: &F, path: &Path) -> Result<u128, StoreError> {
    let io = |error: io::Error| StoreError::io(path, error);
    if !lock.try_lock().map_err(io)? {
        return Err(StoreError::InUse { path: path.to_owned() });
    }
    let length = usize::try_from(lock.length().await.map_err(io)?).unwrap_or(usize::MAX).min(LENGTH);
    let mut bytes = vec![0; length];
    lock.read_at(0, &mut bytes).await.map_err(io)?;
    match decode(&bytes) {
        Ok(Ok(store)) => Ok(store),
        Ok(Err(version)) => Err(StoreError::Version { path: path.to_owned(), version }),
        Err(error) => Err(StoreError::damaged(path, format!("{error}"))),
    }
}

/// The first segment is durable: from now on there is a store.
pub(super) async fn created<D: Disk>(disk: &D, path: &Path) -> Result<(), StoreError> {
    let io = |error: io::Error| StoreError::io(path, error);
    disk.rename(&path.join(NEW), &path.join(FILE)).await.map_err(io)?;
    disk.sync_dir(path).await.map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_file_reads_back_and_another_version_is_told_from_damage() {
        let bytes = encode(9, Timestamp::from_millis(1));
        assert_eq!(bytes.len(), LENGTH);
        assert_eq!(decode(&bytes), Ok(Ok(9)));
        let mut newer = bytes.clone();
        newer[8] = 2;
        assert_eq!(decode(&newer), Ok(Err(2)));
        let mut damaged = bytes;
        damaged[20] ^= 1;
        assert!(decode(&damaged).is_err());
        assert!(decode(&[]).is_err());
    }
}
