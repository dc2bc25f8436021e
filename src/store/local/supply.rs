//! Prepares segments and lets old ones go, beside the committer so that commits never wait for it.
//!
//! A segment that is no longer needed becomes a pool file and then a fresh segment: overwriting is kinder to
//! the disk than deleting. Segments go strictly oldest first, and never with anything live in them.

mod moves;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::disk::{Disk, DiskFile};
use super::error::with_advice;
use super::footer;
use super::queue::Entry;
use super::shared::{Ready, Shared};

use moves::Mover;

/// How often segments are looked at without anything having happened.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// How soon a segment that could not be prepared is tried again.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// Between two pieces of a file that nobody waits for: commits have the disk and the processor meanwhile. A file of 64 MiB takes
/// 1.8 s so, in which 25,000 events of 1 KiB a second fill a segment; where more come, a segment is wanted before its end.
const STOCK_PAUSE: Duration = Duration::from_millis(24);

/// The same, where nothing is set aside and the segment that is ready may be wanted within a second.
const LAST_PAUSE: Duration = Duration::from_millis(8);

/// Segments that are never let go.
const ALWAYS_KEPT: usize = 2;

/// A segment on its way to its name.
const PREPARING: &str = "preparing.tmp";

/// The same, after a failed commit.
pub(super) const HEALING: &str = "healing.tmp";

/// What an interrupted preparation leaves behind.
pub(super) const LEFTOVERS: [&str; 2] = [PREPARING, HEALING];

/// Prepares and lets go until the store is closed.
pub(super) async fn run<D: Disk>(shared: Arc<Shared<D>>) {
    let mut mover = Mover::default();
    while !shared.is_stopping() {
        let mut wait = LOOK_EVERY;
        let prepared = prepare(&shared).await;
        shared.supply_changed.notify_one();
        match release(&shared, &mut mover).await {
            Ok(Look::Later) => {}
            Ok(Look::Soon) => wait = TRY_EVERY,
            Ok(Look::Now) => continue,
            Err(error) => tracing::warn!(%error, "an old segment can't be let go"),
        }
        // What was let go just now is kinder to the disk than new files.
        let stocked = match prepared {
            Ok(()) => set_aside(&shared).await,
            Err(error) => Err(error),
        };
        if stocked.is_err() {
            wait = TRY_EVERY;
        }
        note_trouble(&shared, stocked.err());
        tokio::select! {
            biased;
            () = shared.supply_wanted.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

pub(super) fn is_full_disk(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether segments can be had.
fn note_trouble<D: Disk>(shared: &Shared<D>, error: Option<io::Error>) {
    // Another fault than a full disk passes, or hits what is committed too: no reason to give up history.
    let is_scarce = error.as_ref().is_some_and(is_full_disk);
    let trouble = error.map(|error| format!("no further segment can be prepared: {}", with_advice(&error)));
    let changed = {
        // In one step: whoever is refused for want of room finds the reason.
        let mut supply = shared.supply.lock();
        supply.trouble.clone_from(&trouble);
        is_scarce != shared.scarce.swap(is_scarce, Ordering::AcqRel)
    };
    shared.supply_changed.notify_one();
    if changed {
        match trouble.filter(|_| is_scarce) {
            Some(cause) => tracing::error!(%cause, "new events are refused, settlements are not, until there is room again"),
            None => tracing::info!("there is room for further segments again"),
        }
    }
}

/// Makes whole files until enough are set aside.
async fn set_aside<D: Disk>(shared: &Shared<D>) -> io::Result<()> {
    while shared.supply.lock().pool.len() < shared.sizes.reserved() && !shared.is_stopping() {
        shared.check_folder().await?;
        let path = shared.journal().join(PREPARING);
        whole_file(shared, &path, Haste::Stock).await?;
        let to = shared.pool_path();
        shared.disk.rename(&path, &to).await?;
        shared.supply.lock().pool.push(to);
        if shared.supply.lock().wanted.is_some() {
            // That comes first.
            shared.supply_wanted.notify_one();
            break;
        }
    }
    Ok(())
}

/// Whether somebody waits for a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Haste {
    Wanted,
    /// It is for later, unless a segment is wanted meanwhile.
    Stock,
}

/// Writes a whole file of zeros, and never much of it at once: a commit's sync waits behind whatever the disk has to write.
async fn fill<D: Disk>(shared: &Shared<D>, file: &D::File, haste: Haste) -> io::Result<()> {
    const CHUNK: usize = 256 * 1024;
    const SYNC_EVERY: usize = 4 * CHUNK;
    let bytes = shared.sizes.segment;
    let zeros = vec![0; CHUNK.min(bytes)];
    let mut at = 0;
    while at < bytes {
        let length = zeros.len().min(bytes - at);
        file.write_at(at as u64, &zeros[..length]).await?;
        at += length;
        if at.is_multiple_of(SYNC_EVERY) || at == bytes {
            file.sync_data().await?;
            if at < bytes
                && haste == Haste::Stock
                && let Some(pause) = pause(shared)
            {
                tokio::time::sleep(pause).await;
            }
        }
    }
    Ok(())
}

/// How long a file that is for later leaves the disk to commits between two pieces. Not at all where a segment is wanted,
/// although another file could become it: that this one can be had is known before the other is used up, so that
/// settlements have what is set aside for them when the disk turns out to be full.
fn pause<D: Disk>(shared: &Shared<D>) -> Option<Duration> {
    let supply = shared.supply.lock();
    let is_awaited = supply.wanted.is_some() || shared.scarce.load(Ordering::Acquire) || shared.is_stopping();
    (!is_awaited).then_some(if supply.pool.is_empty() { LAST_PAUSE } else { STOCK_PAUSE })
}

/// A file of a segment's size; where there is no room for one, nothing is left of it.
async fn whole_file<D: Disk>(shared: &Shared<D>, path: &Path, haste: Haste) -> io::Result<D::File> {
    let file = shared.disk.create(path).await?;
    if let Err(error) = fill(shared, &file, haste).await {
        drop(file);
        // The first error is the one that counts.
        drop(shared.disk.remove(path).await);
        return Err(error);
    }
    Ok(file)
}

/// Prepares the segment that is wanted.
async fn prepare<D: Disk>(shared: &Shared<D>) -> io::Result<()> {
    let _preparing = shared.preparing.lock().await;
    let Some(number) = shared.supply.lock().wanted else { return Ok(()) };
    shared.check_folder().await?;
    let nonce = shared.nonce();
    let header = shared.header(number, nonce).encode();
    let file = Arc::new(install(shared, number, &header).await?);
    let mut supply = shared.supply.lock();
    supply.wanted = None;
    supply.ready = Some(Ready { number, nonce, file });
    Ok(())
}

/// Makes a whole segment that opens with these bytes, durable with its name, in place of whatever has it.
pub(super) async fn install<D: Disk>(shared: &Shared<D>, number: u64, opening: &[u8]) -> io::Result<D::File> {
    let pooled = shared.take_pooled();
    let installed = install_in(shared, pooled.as_deref(), number, opening).await;
    if installed.is_err()
        && let Some(path) = pooled
    {
        shared.give_up(path).await;
    }
    installed
}

async fn install_in<D: Disk>(shared: &Shared<D>, pooled: Option<&Path>, number: u64, opening: &[u8]) -> io::Result<D::File> {
    let (path, file) = match pooled {
        Some(path) => (path.to_owned(), shared.disk.open(path).await?),
        None => {
            let path = shared.journal().join(PREPARING);
            (path.clone(), whole_file(shared, &path, Haste::Wanted).await?)
        }
    };
    file.write_at(0, opening).await?;
    file.sync_data().await?;
    shared.disk.rename(&path, &shared.segment_path(number)).await?;
    shared.disk.sync_dir(&shared.journal()).await?;
    Ok(file)
}

/// When to look for segments to let go again.
enum Look {
    Now,
    Soon,
    Later,
}

/// Lets one segment go that is past retention, or over the disk's share, and free.
async fn release<D: Disk>(shared: &Arc<Shared<D>>, mover: &mut Mover) -> io::Result<Look> {
    let going = shared.supply.lock().going.clone();
    if let Some(names) = going {
        for name in &names {
            remove(shared, name).await?;
        }
        shared.disk.sync_dir(&shared.journal()).await?;
        shared.supply.lock().going = None;
    }
    let is_scarce = shared.scarce.load(Ordering::Acquire);
    let over = is_scarce || shared.journal_bytes() > shared.sizes.max_size.saturating_sub(shared.sizes.segment as u64);
    let is_spare = shared.supply.lock().pool.len() > shared.sizes.reserved();
    if over
        && is_spare
        && let Some(path) = shared.take_pooled()
    {
        shared.disk.remove(&path).await?;
        return Ok(Look::Now);
    }
    let Some(oldest) = moves::oldest(shared, over) else {
        let is_moving = mover.move_on(shared, over, if is_scarce { live_max(shared) } else { u64::MAX }).await;
        let full = moves::is_full(shared, over, is_moving);
        if full != shared.full.swap(full, Ordering::AcqRel) {
            tracing::warn!(full, "whether the store has room within `max_size` has changed");
        }
        return Ok(if over || is_moving { Look::Soon } else { Look::Later });
    };
    let names: Vec<String> = {
        let table = shared.table.lock();
        table.states.iter().filter(|(_, named)| named.segment == oldest).map(|(name, _)| name.clone()).collect()
    };
    if !names.is_empty() {
        // The newest state of a name moves on; the next look finds it moved.
        for name in names {
            if shared.queue.push(Entry::MoveState(name, oldest)).is_err() {
                break;
            }
        }
        return Ok(Look::Soon);
    }
    if !shared.table.lock().usage.get(&oldest).is_some_and(|usage| usage.forgotten) {
        // The librarian wakes us once it is.
        shared.index_wanted.notify_one();
        return Ok(Look::Later);
    }
    remove(shared, &shared.journal().join(footer::file_name(oldest))).await?;
    let shelved = shared.shelf.lock().remove(&oldest);
    shared.table.lock().remove_segment(oldest);
    // Somebody here reads it, or somebody else copies it.
    let is_pinned =
        shelved.as_ref().is_some_and(|shelved| Arc::strong_count(&shelved.file) > 1 || !shelved.file.try_lock().unwrap_or(true));
    let is_whole = match &shelved {
        Some(shelved) => shelved.file.length().await.is_ok_and(|length| length == shared.sizes.segment as u64),
        None => false,
    };
    drop(shelved);
    retire(shared, &shared.segment_path(oldest), is_whole && !is_pinned).await?;
    // A checkpoint may have become useless.
    shared.index_wanted.notify_one();
    Ok(Look::Now)
}

/// How much of a segment may move on a full disk. The last ones are for settlements, and what moves takes room before
/// it makes some.
fn live_max<D: Disk>(shared: &Shared<D>) -> u64 {
    let supply = shared.supply.lock();
    match supply.pool.len() + usize::from(supply.ready.is_some()) {
        0 => shared.sizes.segment as u64 / 16,
        1 => shared.sizes.segment as u64 / 4,
        _ => u64::MAX,
    }
}

/// Removes a file, if it is there.
async fn remove<D: Disk>(shared: &Shared<D>, path: &Path) -> io::Result<()> {
    match shared.disk.remove(path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A segment's file becomes a pool file, one more than are set aside at most, or goes. If that fails, the file goes
/// before any other does: a later segment that had gone would leave a gap.
async fn retire<D: Disk>(shared: &Shared<D>, path: &Path, may_be_written: bool) -> io::Result<()> {
    let to = shared.pool_path();
    let pooled = {
        let mut supply = shared.supply.lock();
        supply.going = Some([path.to_owned(), to.clone()]);
        supply.pool.len()
    };
    let is_pooled = may_be_written && pooled <= shared.sizes.reserved();
    if is_pooled {
        shared.disk.rename(path, &to).await?;
    } else {
        shared.disk.remove(path).await?;
    }
    // Before this name is durable the file may come back as the old segment: it must not be overwritten yet.
    shared.disk.sync_dir(&shared.journal()).await?;
    let mut supply = shared.supply.lock();
    supply.going = None;
    if is_pooled {
        supply.pool.push(to);
    }
    Ok(())
}
