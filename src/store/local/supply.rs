//! Prepares segments and lets old ones go, beside the committer so that commits never wait for it.
//!
//! A segment that is no longer needed becomes a pool file and then a fresh segment: overwriting is kinder to
//! the disk than deleting. Segments go strictly oldest first, and never with anything live in them.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::disk::{Disk, DiskFile};
use super::footer;
use super::keys::SLACK;
use super::queue::{Entry, Move, Moving};
use super::shared::{Ready, Shared, fill};
use super::table::Usage;
use crate::model::Timestamp;

/// How often segments are looked at without anything having happened.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// How soon a segment that could not be prepared is tried again.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// Most pool files; further segments are deleted.
pub(super) const POOL_MAX: usize = 2;

/// Segments that are never let go.
const ALWAYS_KEPT: usize = 2;

/// Most events that move at a time, and most bytes of them: what one batch may carry besides what it is for.
const MOVES_MAX: usize = 256;
const MOVE_BYTES_MAX: u64 = 1024 * 1024;

/// A segment on its way to its name.
const PREPARING: &str = "preparing.tmp";

/// The same, after a failed commit.
pub(super) const HEALING: &str = "healing.tmp";

/// What an interrupted preparation leaves behind.
pub(super) const LEFTOVERS: [&str; 2] = [PREPARING, HEALING];

/// Prepares and lets go until the store is closed.
pub(super) async fn run<D: Disk>(shared: Arc<Shared<D>>) {
    while !shared.is_stopping() {
        let mut wait = LOOK_EVERY;
        if let Err(error) = prepare(&shared).await {
            shared.supply.lock().trouble = Some(format!("the next segment can't be prepared: {error}"));
            wait = TRY_EVERY;
        }
        shared.supply_changed.notify_one();
        match release(&shared).await {
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
async fn release<D: Disk>(shared: &Arc<Shared<D>>) -> io::Result<Look> {
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
    let Some(oldest) = oldest(shared, over) else {
        let is_moving = move_on(shared, over).await;
        let full = is_full(shared, over, is_moving);
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

/// Whether new events must wait until segments can go. Two segments are always needed: they fill no store.
fn is_full<D: Disk>(shared: &Shared<D>, over: bool, is_moving: bool) -> bool {
    let live = shared.table.lock().live_bytes();
    let segments = shared.shelf.lock().len();
    if !over || segments <= ALWAYS_KEPT {
        return false;
    }
    let taken = (segments as u64 + 1).saturating_mul(shared.sizes.segment as u64);
    !is_moving || taken > shared.sizes.max_size || live > shared.sizes.max_size / 10 * 9
}

/// The oldest segment that may go at all: the newest one is being written, and the one before it may still have to
/// be copied from.
fn first<D: Disk>(shared: &Shared<D>) -> Option<u64> {
    let shelf = shared.shelf.lock();
    (shelf.len() > ALWAYS_KEPT).then(|| shelf.keys().next().copied()).flatten()
}

/// Whether a segment is past what it is kept for, what is pending in it aside.
fn is_past<D: Disk>(shared: &Shared<D>, over: bool) -> impl Fn(&Usage) -> bool {
    // Where dates can't be believed nothing is old, and no key has ended.
    let (now, retention) = (shared.date(), shared.sizes.retention);
    move |usage: &Usage| {
        let is_past = |time: Timestamp, by: Duration| now.is_some_and(|now| time.saturating_add(by) <= now);
        let is_old = is_past(usage.newest_at, retention);
        (is_old || over) && (usage.keys_until == Timestamp::default() || is_past(usage.keys_until, SLACK))
    }
}

/// The oldest segment, if nothing keeps it.
fn oldest<D: Disk>(shared: &Shared<D>, over: bool) -> Option<u64> {
    let number = first(shared)?;
    let is_past = is_past(shared, over);
    shared.table.lock().leave(number, is_past).then_some(number)
}

/// Whether moving everything live together makes room: little enough of what is used is live, and all of it fits well
/// below `max_size`, or it would be moved in circles.
fn gains<D: Disk>(shared: &Shared<D>, live: u64) -> bool {
    let segment = shared.sizes.segment as u64;
    let used = (shared.shelf.lock().len() as u64).saturating_mul(segment);
    let room = shared.sizes.max_size.saturating_sub(segment.saturating_mul(5));
    live < used / 4 * 3 && live < room / 10 * 9
}

/// Moves what is pending out of the oldest segment, if it is little, or little of the whole journal is live and space
/// is short. Whether anything is on its way.
async fn move_on<D: Disk>(shared: &Arc<Shared<D>>, over: bool) -> bool {
    if shared.moving.load(Ordering::Acquire) > 0 {
        return true;
    }
    let Some(number) = first(shared) else { return false };
    let is_past = is_past(shared, over);
    let holding = {
        let table = shared.table.lock();
        let Some(usage) = table.usage.get(&number).filter(|usage| usage.sealed && !usage.leaving && is_past(usage)) else { return false };
        let is_little = usage.live < shared.sizes.segment as u64 / 2 || (over && gains(shared, table.live_bytes()));
        if is_little { table.holding(number, MOVES_MAX) } else { Vec::new() }
    };
    let (mut bytes, mut is_moving) = (0_u64, false);
    for meta in holding {
        if bytes > 0 && bytes.saturating_add(meta.place.bytes()) > MOVE_BYTES_MAX {
            break;
        }
        bytes += meta.place.bytes();
        match super::read::whole(shared, &meta).await {
            Ok(Some((head, body))) => {
                let moving = Moving::new(&shared.moving);
                let asked = Move { id: meta.id, from: meta.place, head, body, moving };
                is_moving |= shared.queue.push(Entry::Move(Box::new(asked))).is_ok();
            }
            Ok(None) => {}
            // Its delivery will find that out too, and end.
            Err(error) => tracing::warn!(event.id = %meta.id, %error, "an event can't be read: it keeps its segment"),
        }
    }
    is_moving
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
