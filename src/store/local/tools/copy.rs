//! Copying a store, also one that is in use: what a backup and a restore are.
//!
//! Segments are read whole, verified as a start would verify them, and only then written. The segment that is
//! being written is copied up to its last batch that another one follows: only of that is it known that its sync
//! returned, and a batch that is voided later must not come back out of a backup. A segment that goes while it
//! is read is found out by its header; it and what is older are past retention and left out.

use std::io;
use std::path::Path;

use super::{Progress, Watcher};
use crate::model::Timestamp;
use crate::store::local::batch;
use crate::store::local::chain::{Chain, Damage};
use crate::store::local::disk::{Disk, DiskFile};
use crate::store::local::error::StoreError;
use crate::store::local::format;
use crate::store::local::segment::{self, FIRST, PAGE, SegmentHeader};

/// How often a store that changes under the copy is looked at anew.
const TRIES_MAX: u32 = 5;

/// What was copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// Segments.
    pub segments: u64,
    /// Bytes written.
    pub bytes: u64,
    /// When the last batch that was copied was committed; none: there was none yet.
    pub until: Option<Timestamp>,
}

/// A segment that is in use.
struct Source<F> {
    number: u64,
    file: F,
    header: SegmentHeader,
}

/// Copies the store at `from` into `to`, an empty or missing folder. The store may be in use.
///
/// # Errors
/// `from` is no store or damaged, `to` is not empty, or a disk said no. What was written of `to` then is no store:
/// its format file comes last.
pub async fn copy<D: Disk>(disk: &D, from: &Path, to: &Path, watcher: Watcher<'_>) -> Result<Copied, StoreError> {
    let io = |error: io::Error| StoreError::io(to, error);
    let store = format::peek(disk, from).await?;
    match disk.list(to).await {
        Ok(names) if names.iter().all(|name| name == "lost+found") => {}
        Ok(_) => return Err(StoreError::NotAStore { path: to.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io(error)),
    }
    let journal = to.join("journal");
    disk.create_dir(&journal).await.map_err(io)?;
    let mut copied = Copied::default();
    let sources = sources(disk, from).await?;
    let mut total = 0;
    for source in &sources {
        total += source.file.length().await.map_err(|error| StoreError::io(from, error))?;
    }
    let (mut chain, mut done) = (Chain::default(), 0);
    for (at, source) in sources.iter().enumerate() {
        let successor = sources.get(at + 1).map(|next| &next.header);
        match verified(from, source, successor, &mut chain).await? {
            Some((bytes, last)) => {
                copied.until = last.or(copied.until);
                done += bytes.len() as u64;
                copied.segments += 1;
                copied.bytes += bytes.len() as u64;
                let file = disk.create(&journal.join(segment::file_name(source.number))).await.map_err(io)?;
                file.write_at(0, &bytes).await.map_err(io)?;
                file.sync_data().await.map_err(io)?;
            }
            None => {
                // It was let go meanwhile, and so was everything older.
                for older in &sources[..at] {
                    match disk.remove(&journal.join(segment::file_name(older.number))).await {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
                        Ok(()) | Err(_) => {}
                    }
                }
                (chain, copied) = (Chain::default(), Copied::default());
            }
        }
        watcher(Progress { done, total });
    }
    if copied.segments == 0 {
        return Err(StoreError::damaged(from, "all of its segments were let go while they were read: try again".to_owned()));
    }
    disk.sync_dir(&journal).await.map_err(io)?;
    let begun_at = sources.first().map_or(Timestamp::default(), |first| first.header.created_at);
    format::write(disk, to, store, copied.until.unwrap_or(begun_at)).await?;
    Ok(copied)
}

/// The segments that are in use, oldest first.
async fn sources<D: Disk>(disk: &D, path: &Path) -> Result<Vec<Source<D::File>>, StoreError> {
    let journal = path.join("journal");
    let io = |error: io::Error| StoreError::io(path, error);
    for _ in 0..TRIES_MAX {
        let mut sources: Vec<Source<D::File>> = Vec::new();
        let mut is_whole = true;
        for name in disk.list(&journal).await.map_err(io)? {
            let Some(number) = segment::number(&name) else { continue };
            let file = match disk.open(&journal.join(&name)).await {
                Ok(file) => file,
                // It went between the list and here.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(io(error)),
            };
            // Locked, it is not overwritten when it is let go, but removed: a lock that can't be had is another copy's.
            drop(file.try_lock());
            match header(&file).await.map_err(io)? {
                Some(header) if header.active.is_none() => {}
                Some(header) if header.number == number => {
                    is_whole &= sources.last().is_none_or(|before| before.number + 1 == number);
                    sources.push(Source { number, file, header });
                }
                Some(_) => is_whole = false,
                None => return Err(StoreError::damaged(path, format!("`{name}`: its header can't be read"))),
            }
        }
        if is_whole && !sources.is_empty() {
            return Ok(sources);
        }
    }
    Err(StoreError::damaged(path, "its journal has no unbroken row of segments".to_owned()))
}

async fn header<F: DiskFile>(file: &F) -> io::Result<Option<SegmentHeader>> {
    let mut page = vec![0; PAGE];
    file.read_at(0, &mut page).await?;
    Ok(SegmentHeader::decode(&page).ok())
}

/// A segment's bytes as they are to be written, and when the last batch among them was committed, where one is new;
/// none if it was let go while it was read.
async fn verified<F: DiskFile>(
    path: &Path,
    source: &Source<F>,
    successor: Option<&SegmentHeader>,
    chain: &mut Chain,
) -> Result<Option<(Vec<u8>, Option<Timestamp>)>, StoreError> {
    let io = |error: io::Error| StoreError::io(path, error);
    let length = usize::try_from(source.file.length().await.map_err(io)?).unwrap_or(usize::MAX).min(segment::BYTES_MAX);
    let mut bytes = vec![0; length];
    let mut tries = 0;
    // The last batch's time, and the time of the one before.
    let (mut last, mut before);
    loop {
        (last, before) = (None, None);
        source.file.read_at(0, &mut bytes).await.map_err(io)?;
        let mut tried = chain.clone();
        let read = tried.read::<Damage>(&bytes, &source.header, successor, |batch, _, _| {
            (before, last) = (last, Some(batch.committed_at));
            Ok(())
        });
        if header(&source.file).await.map_err(io)?.is_none_or(|now| now.nonce != source.header.nonce) {
            return Ok(None);
        }
        tries += 1;
        match read {
            Ok(()) => {
                *chain = tried;
                break;
            }
            // Batches that are written while they are read can look as if an earlier one were missing.
            Err(_) if successor.is_none() && tries < TRIES_MAX => {}
            Err(Damage { offset, what }) => {
                let name = segment::file_name(source.number);
                return Err(StoreError::damaged(path, format!("`{name}` at byte {offset}: {what}")));
            }
        }
    }
    let mut end = chain.end;
    if successor.is_none() {
        // The sync of the last batch is not proven, unless it is the empty one that a store seals itself with.
        let is_sealed = chain.last.as_ref().is_none_or(|(header, _)| header.flags & (batch::SEAL | batch::COPY | batch::REPAIRED) != 0);
        if !is_sealed && chain.own > 0 {
            (end, last) = (chain.last_start, before);
        }
    }
    bytes.truncate(end.max(FIRST).next_multiple_of(PAGE).min(length));
    bytes[end..].fill(0);
    Ok(Some((bytes, last)))
}
