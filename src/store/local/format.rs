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
use super::file_system;
use super::footer;
use crate::model::Timestamp;

/// The format that this program reads and writes.
pub(super) const VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"KURIERDB";
const LENGTH: usize = 48;
const FILE: &str = "format";
/// The format file until the first segment is durable.
const NEW: &str = "format.new";

/// What a start can make anew.
const CACHES: [&str; 2] = ["checkpoint", "clean"];

/// What an interrupted creation may leave beside its format file.
const PARTS: [&str; 6] = [NEW, "journal", "index", "inflight", "checkpoint.tmp", "checkpoint"];

/// A folder that is ours as long as `lock` lives.
pub(super) struct Folder<F> {
    pub(super) lock: F,
    pub(super) store: u128,
    /// Nothing was ever acknowledged here.
    pub(super) is_new: bool,
}

pub(super) fn encode(store: u128, created_at: Timestamp) -> Vec<u8> {
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
///
/// `allowed` names file systems that would be refused otherwise.
pub(super) async fn open<D: Disk>(
    disk: &D,
    path: &Path,
    fresh: u128,
    now: Timestamp,
    allowed: &[Box<str>],
) -> Result<Folder<D::File>, StoreError> {
    let io = |error: io::Error| StoreError::io(path, error);
    let names = match disk.list(path).await {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            disk.create_dir(path).await.map_err(io)?;
            Vec::new()
        }
        Err(error) => return Err(io(error)),
    };
    check_file_system(disk, path, allowed).await?;
    if names.iter().any(|name| name == FILE) {
        let lock = disk.open(&path.join(FILE)).await.map_err(io)?;
        return Ok(Folder { store: claim(&lock, path).await?, lock, is_new: false });
    }
    check_empty(path, &names)?;
    let lock = disk.create(&path.join(NEW)).await.map_err(io)?;
    if !lock.try_lock().map_err(io)? {
        return Err(StoreError::InUse { path: path.to_owned() });
    }
    // Another process may have created a store between the first look and the lock.
    let names = disk.list(path).await.map_err(io)?;
    if names.iter().any(|name| name == FILE) || !disk.is_same(&path.join(NEW), &lock).await.unwrap_or(false) {
        return Err(StoreError::InUse { path: path.to_owned() });
    }
    check_empty(path, &names)?;
    lock.write_at(0, &encode(fresh, now)).await.map_err(io)?;
    lock.sync_data().await.map_err(io)?;
    disk.sync_dir(path).await.map_err(io)?;
    disk.create_dir(&path.join("journal")).await.map_err(io)?;
    for name in disk.list(&path.join("journal")).await.map_err(io)? {
        disk.remove(&path.join("journal").join(name)).await.map_err(io)?;
    }
    Ok(Folder { lock, store: fresh, is_new: true })
}

/// A new store takes an empty folder, or goes on with the creation of one.
fn check_empty(path: &Path, names: &[String]) -> Result<(), StoreError> {
    let mut names = names.iter().filter(|name| *name != "lost+found").peekable();
    if names.peek().is_none() {
        return Ok(());
    }
    let names: Vec<&String> = names.collect();
    let is_interrupted = names.iter().any(|name| *name == NEW) && names.iter().all(|name| PARTS.contains(&name.as_str()));
    if is_interrupted { Ok(()) } else { Err(StoreError::NotAStore { path: path.to_owned() }) }
}

async fn check_file_system<D: Disk>(disk: &D, path: &Path, allowed: &[Box<str>]) -> Result<(), StoreError> {
    let kind = disk.file_system(path).await.map_err(|error| StoreError::io(path, error))?;
    match file_system::refused(kind) {
        Some(kind) if allowed.iter().any(|name| **name == *kind) => {
            tracing::warn!(path = %path.display(), "the store lies on `{kind}`, as allowed: its promise is only as good as that file system");
        }
        Some(kind) => return Err(StoreError::FileSystem { path: path.to_owned(), kind }),
        None if file_system::is_in_memory(kind) => {
            tracing::warn!(path = %path.display(), "the store lies in memory: a restart of the machine loses everything");
        }
        None => {}
    }
    Ok(())
}

/// Whether the format file that was locked is still the one in the folder.
///
/// # Errors
/// It is not, or the disk said no: whatever is written now may be lost, or lie beside another process's.
pub(super) async fn is_still_ours<D: Disk>(disk: &D, path: &Path, lock: &D::File) -> io::Result<()> {
    if disk.is_same(&path.join(FILE), lock).await? {
        return Ok(());
    }
    Err(io::Error::other("the store's folder was moved or replaced while it was in use: stop this process and start it on the right one"))
}

async fn claim<F: DiskFile>(lock: &F, path: &Path) -> Result<u128, StoreError> {
    let io = |error: io::Error| StoreError::io(path, error);
    if !lock.try_lock().map_err(io)? {
        return Err(StoreError::InUse { path: path.to_owned() });
    }
    id(lock, path).await
}

async fn id<F: DiskFile>(lock: &F, path: &Path) -> Result<u128, StoreError> {
    let io = |error: io::Error| StoreError::io(path, error);
    let length = usize::try_from(lock.length().await.map_err(io)?).unwrap_or(usize::MAX).min(LENGTH);
    let mut bytes = vec![0; length];
    lock.read_at(0, &mut bytes).await.map_err(io)?;
    match decode(&bytes) {
        Ok(Ok(store)) => Ok(store),
        Ok(Err(version)) => Err(StoreError::Version { path: path.to_owned(), version }),
        Err(error) => Err(StoreError::damaged(path, format!("{error}"))),
    }
}

/// Locks a store that exists, without changing anything. None: its format file can't be read.
pub(super) async fn lock<D: Disk>(disk: &D, path: &Path) -> Result<(D::File, Option<u128>), StoreError> {
    let lock = match disk.open(&path.join(FILE)).await {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(StoreError::NotAStore { path: path.to_owned() }),
        Err(error) => return Err(StoreError::io(path, error)),
    };
    match claim(&lock, path).await {
        Ok(store) => Ok((lock, Some(store))),
        Err(StoreError::Damaged { .. }) => Ok((lock, None)),
        Err(error) => Err(error),
    }
}

/// The id of a store that may be in use.
pub(super) async fn peek<D: Disk>(disk: &D, path: &Path) -> Result<u128, StoreError> {
    let io = |error: io::Error| StoreError::io(path, error);
    let file = match disk.open(&path.join(FILE)).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(StoreError::NotAStore { path: path.to_owned() }),
        Err(error) => return Err(io(error)),
    };
    id(&file, path).await
}

/// Writes the format file of a store whose journal is durable.
pub(super) async fn write<D: Disk>(disk: &D, path: &Path, store: u128, now: Timestamp) -> Result<(), StoreError> {
    let io = |error: io::Error| StoreError::io(path, error);
    let file = disk.create(&path.join(FILE)).await.map_err(io)?;
    file.write_at(0, &encode(store, now)).await.map_err(io)?;
    file.sync_data().await.map_err(io)?;
    disk.sync_dir(path).await.map_err(io)
}

/// Removes what a start can make anew, because places in the journal have changed.
pub(super) async fn clear_caches<D: Disk>(disk: &D, path: &Path) -> io::Result<()> {
    for name in CACHES {
        match disk.remove(&path.join(name)).await {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let journal = path.join("journal");
    for name in disk.list(&journal).await? {
        if footer::number(&name).is_some() {
            disk.remove(&journal.join(name)).await?;
        }
    }
    disk.sync_dir(&journal).await?;
    disk.sync_dir(path).await
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
