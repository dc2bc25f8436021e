//! A caller that commits its own accept.
//!
//! Where one event comes at a time, its batch is one write and one sync, and waking the committer's thread and being woken
//! by it would cost as much again. So the caller makes that batch itself, as long as batches have held one
//! entry each for a while. What may take longer than a write and a sync (the next segment, a key that has to be looked up, what
//! follows a failure) is left to the committer's thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{Committer, Working};
use crate::store::local::disk::Disk;
use crate::store::local::opening::Run;
use crate::store::local::queue::Entry;
use crate::store::local::shared::Shared;

/// Batches of one entry in a row, after which callers commit for themselves: beside others who wait, it would only keep these
/// from sharing a batch.
pub(super) const LONE_BATCHES: u32 = 16;

/// A committer, as its thread and its callers share it.
pub(in crate::store::local) type Shareable<D> = Arc<Mutex<Committer<D>>>;

/// Commits what was queued a moment ago, on this thread if that is the quicker way, on the committer's otherwise.
pub(in crate::store::local) fn commit_or_wake<D: Disk>(committer: &Shareable<D>, shared: &Arc<Shared<D>>, run: Run) {
    if !shared.lone.load(Ordering::Relaxed) {
        return shared.queue.wake();
    }
    let Ok(committer) = committer.clone().try_lock_owned() else { return shared.queue.wake() };
    match run {
        // Other tasks of this thread are handed to another one meanwhile: a sync may take long.
        Run::Threads => match Handle::try_current() {
            Ok(runtime) if runtime.runtime_flavor() == RuntimeFlavor::MultiThread => {
                tokio::task::block_in_place(|| runtime.block_on(commit(committer)));
            }
            Ok(_) | Err(_) => shared.queue.wake(),
        },
        Run::Tasks => {
            tokio::spawn(commit(committer));
        }
    }
}

async fn commit<D: Disk>(committer: OwnedMutexGuard<Committer<D>>) {
    let shared = committer.shared.clone();
    let is_done = {
        let _alive = Alive(&shared);
        Working(committer).0.commit_for_caller().await
    };
    if !is_done {
        shared.queue.wake();
    }
}

/// Stands for a caller that works: its panic leaves the committer as useless as its thread's would.
struct Alive<'s, D: Disk>(&'s Shared<D>);

impl<D: Disk> Drop for Alive<'_, D> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.died("commits");
        }
    }
}

impl<D: Disk> Committer<D> {
    /// One batch out of what waits. `false`: the committer's thread has something to do now.
    async fn commit_for_caller(&mut self) -> bool {
        if self.unwritten.is_some() || self.is_given_up || self.is_working || !self.waiting.is_empty() {
            return false;
        }
        self.shared.queue.drain(&mut self.waiting);
        if !self.is_quick() {
            return false;
        }
        self.is_working = true;
        let was_sealed = self.is_sealed();
        let now = self.now();
        let building = self.build(now).await;
        if building.is_empty() {
            self.spare = building.image;
        } else {
            self.write(building).await;
        }
        self.is_working = false;
        // The thread sleeps until the next seal is due, which it does not know of yet if the last one was made.
        !was_sealed && self.unwritten.is_none() && self.waiting.is_empty()
    }

    /// Whether what waits takes no more than a write and a sync: the caller's patience is not asked meanwhile.
    fn is_quick(&mut self) -> bool {
        if !self.waiting.iter().all(|entry| matches!(entry, Entry::Accept(..))) {
            return false;
        }
        // Before it is asked: a key that left later would have to be looked up after all.
        self.leave_keys();
        self.to_recall().is_empty()
    }
}
