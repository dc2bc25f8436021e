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
use super::footer;
use super::queue::Entry;
use super::shared::{Ready, Shared, fill};

use moves::Mover;

/// How often segments are looked at without anything having happened.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// How soon a segment that could not be prepared is tried again.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// Most pool files; further segments are deleted.
pub(super) const POOL_MAX: usize = 2;

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
        if let Err(error) = prepare(&shared).await {
            shared.supply.lock().trouble = Some(format!("the next segment can't be prepared: {error}"));
            wait = TRY_EVERY;
        }
        shared.supply_changed.notify_one();
        match release(&shared, &mut mover).await {
            Ok(Look::Later) => {}
            Ok(Look::Soon) => wait = TRY_EVERY,
            Ok(Look::Now) => continue,
            Err(error) => tracing::warn!(%error, "an old segment can't be let go"),
        }
        tokio::select! {
            biased;
            () = shared.supply_wanted.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
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
    supply.trouble = None;
    supply.ready = Some(Ready { number, nonce, file });
    Ok(())
}

/// Makes a whole segment that opens with these bytes, durable with its name, in place of whatever has it.
pub(super) async fn install<D: Disk>(shared: &Shared<D>, number: u64, opening: &[u8]) -> io::Result<D::File> {
    let (path, file) = match shared.take_pooled() {
        Some(path) => (path.clone(), shared.disk.open(&path).await?),
        None => {
            let path = shared.journal().join(PREPARING);
            (path.clone(), shared.disk.create(&path).await?)
        }
    };
    if file.length().await? != shared.sizes.segment as u64 {
        fill(&file, shared.sizes.segment).await?;
    }
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
    let over = shared.journal_bytes() > shared.sizes.max_size.saturating_sub(shared.sizes.segment as u64);
    if over && let Some(path) = shared.take_pooled() {
        shared.disk.remove(&path).await?;
        return Ok(Look::Now);
    }
    let Some(oldest) = moves::oldest(shared, over) else {
        let is_moving = mover.move_on(shared, over).await;
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
    let is_pinned = shelved.is_some_and(|shelved| Arc::strong_count(&shelved.file) > 1 || !shelved.file.try_lock().unwrap_or(true));
    retire(shared, &shared.segment_path(oldest), is_pinned).await?;
    Ok(Look::Now)
}

/// Removes a file, if it is there.
async fn remove<D: Disk>(shared: &Shared<D>, path: &Path) -> io::Result<()> {
    match shared.disk.remove(path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A segment's file becomes a pool file, or goes. If that fails, the file goes before any other does: a later segment
/// that had gone would leave a gap.
async fn retire<D: Disk>(shared: &Shared<D>, path: &Path, is_pinned: bool) -> io::Result<()> {
    let to = shared.pool_path();
    let pooled = {
        let mut supply = shared.supply.lock();
        supply.going = Some([path.to_owned(), to.clone()]);
        supply.pool.len()
    };
    let is_pooled = !is_pinned && pooled < POOL_MAX;
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
