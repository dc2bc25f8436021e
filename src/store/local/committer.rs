//! The committer: the one writer of the journal.
//!
//! It drains what queued up meanwhile: one batch is one write and one sync, then all its waiters hear their outcome.
//! Where many wait it pauses between two batches (`gather`); where entries come one at a time,
//! whoever has one makes its batch (`caller`). It never appends to a segment after a failed write or sync (`heal`),
//! never waits for the index, and tells nobody a success before the sync returned (I1, I2).

mod build;
mod caller;
mod dedupe;
mod gather;
mod heal;
mod outcome;

use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use super::batch;
use super::clean::End;
use super::disk::{Disk, DiskFile};
use super::keys::Keys;
use super::opening::Run;
use super::queue::Entry;
use super::segment::{Active, FIRST, Given, PAGE, Predecessor};
use super::shared::{Ready, Shared, Shelved};
use crate::model::Timestamp;
use crate::store::{CommitError, Promise};

use build::Building;
use caller::LONE_BATCHES;

pub(super) use caller::{Shareable, commit_or_wake};

/// How long after the last batch an empty one proves its sync (rule 3).
const SEAL_AFTER: Duration = Duration::from_secs(1);

/// How often something that failed is tried again.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// Most bytes in one batch; a single larger event gets a batch of its own.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Buffers that grew beyond this for one large event are given back.
const BUFFER_BYTES_KEPT: usize = 2 * BATCH_BYTES_MAX;

/// The payload at which a batch is closed.
fn batch_bytes_max(segment: usize) -> usize {
    BATCH_BYTES_MAX.min(segment / 4)
}

/// The largest record: the last batch and the kept part of a failed one must fit one fresh segment together.
pub(super) fn record_bytes_max(segment: usize) -> usize {
    segment / 2 - 2 * PAGE
}

/// The segment that is written.
pub(super) struct Current<F> {
    pub(super) number: u64,
    pub(super) nonce: u128,
    pub(super) file: Arc<F>,
    /// Where the next batch begins.
    pub(super) end: usize,
}

/// The last batch that was synced, as it lies in its segment.
#[derive(Debug, Default)]
pub(super) struct Last {
    /// Bytes of the segment from `base`, a page's start, at least up to the batch's end.
    pub(super) image: Vec<u8>,
    pub(super) base: usize,
    /// Where in the image the batch begins.
    pub(super) start: usize,
    /// Header and payload; 0 where there is no batch yet.
    pub(super) length: usize,
    pub(super) sequence: u64,
    pub(super) flags: u32,
    pub(super) at: Timestamp,
}

/// What the committer alone decides: dedupe, and numbers that only grow.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) keys: Keys,
    /// Keys that could not be looked up just now.
    pub(super) unsure: HashSet<[u8; 16]>,
    /// The next batch.
    pub(super) batch: u64,
    /// The next accepted event.
    pub(super) event: u64,
    /// The next delivery.
    pub(super) position: u64,
}

impl Ledger {
    /// The numbers that were given out.
    pub(super) fn given(&self) -> Given {
        Given { event: self.event.saturating_sub(1), position: self.position.saturating_sub(1) }
    }
}

/// What the committer's thread does next.
enum Next {
    /// It waits for something to commit, or until a seal is due.
    Wait {
        seal_at: Option<Instant>,
    },
    End,
}

/// See the module.
pub(super) struct Committer<D: Disk> {
    pub(super) shared: Arc<Shared<D>>,
    pub(super) current: Current<D::File>,
    pub(super) last: Last,
    pub(super) ledger: Ledger,
    /// Drained and not yet taken.
    waiting: VecDeque<Entry>,
    spare: Vec<u8>,
    idle_at: Instant,
    /// Batches of one entry in a row.
    lone: u32,
    /// A batch that could not be written or synced, and why.
    unwritten: Option<(Building, io::Error)>,
    run: Run,
    /// Somebody works on it: whoever finds this set follows a panic, or its end.
    is_working: bool,
    /// The store closes without having healed: nothing more may be written.
    is_given_up: bool,
}

impl<D: Disk> Committer<D> {
    pub(super) fn new(shared: Arc<Shared<D>>, current: Current<D::File>, last: Last, ledger: Ledger, run: Run) -> Self {
        let idle_at = Instant::now() + SEAL_AFTER;
        Self {
            shared,
            current,
            last,
            ledger,
            waiting: VecDeque::new(),
            spare: Vec::new(),
            idle_at,
            lone: 0,
            unwritten: None,
            run,
            is_working: false,
            is_given_up: false,
        }
    }

    /// Commits until the store is closed and everything that was queued before is settled.
    pub(super) async fn run(committer: Shareable<D>) {
        let shared = committer.lock().await.shared.clone();
        loop {
            let Next::Wait { seal_at } = Working(committer.clone().lock_owned().await).0.work().await else { break };
            tokio::select! {
                biased;
                () = shared.queue.arrived() => {}
                () = sleep_until(seal_at) => {}
            }
        }
        shared.stop();
    }

    /// Commits all that waits.
    async fn work(&mut self) -> Next {
        if std::mem::replace(&mut self.is_working, true) {
            // Whoever worked last ended by a panic: nobody knows what it left behind.
            return Next::End;
        }
        let next = loop {
            if let Some((building, error)) = self.unwritten.take() {
                let ready = self.shared.supply.lock().ready.take();
                self.heal(building, ready, &error).await;
            }
            // Asked first: what is drained then is all that there will ever be.
            let is_closing = self.shared.queue.is_closing();
            if self.waiting.is_empty() {
                self.shared.queue.drain(&mut self.waiting);
            }
            if self.is_given_up {
                self.refuse_all();
                break self.end();
            }
            if !self.waiting.is_empty() {
                let (waited, begun) = (self.waiting.len(), Instant::now());
                self.commit().await;
                if let Some(pause) = gather::pause(waited, begun.elapsed()).filter(|_| self.waiting.is_empty()) {
                    self.run.pause(pause).await;
                }
                continue;
            }
            let is_sealed = self.is_sealed();
            if is_closing {
                if is_sealed || !self.commit_seal().await {
                    break self.end();
                }
                continue;
            }
            if is_sealed || Instant::now() < self.idle_at {
                break Next::Wait { seal_at: (!is_sealed).then_some(self.idle_at) };
            }
            self.commit_seal().await;
            self.idle_at = Instant::now() + SEAL_AFTER;
        };
        // Nobody works on one that has ended.
        self.is_working = matches!(next, Next::End);
        next
    }

    /// What comes last, for the next start.
    fn end(&self) -> Next {
        let sequence = if self.last.length == 0 { 0 } else { self.last.sequence };
        *self.shared.last.lock() = Some(End { nonce: self.current.nonce, sequence });
        Next::End
    }

    /// Whether the last batch was synced for certain, as a batch behind it proves.
    fn is_sealed(&self) -> bool {
        self.last.flags & batch::SEAL != 0 || self.last.length == 0
    }

    fn now(&self) -> Timestamp {
        self.shared.clock.reckon(self.shared.clock.now())
    }

    /// Where the partial last page begins, and the image to write from there on.
    fn image(&mut self) -> (usize, Vec<u8>) {
        let base = self.current.end / PAGE * PAGE;
        let mut image = std::mem::take(&mut self.spare);
        image.clear();
        if self.current.end > base {
            image.extend_from_slice(&self.last.image[base - self.last.base..self.current.end - self.last.base]);
        }
        (base, image)
    }

    /// Payload that fits behind `end`, room for a seal left over.
    fn room(&self, end: usize) -> usize {
        self.shared.sizes.segment.saturating_sub(end + 2 * batch::size(0) + batch::ALIGN)
    }

    /// A batch of what waits and fits the current segment.
    async fn build(&mut self, now: Timestamp) -> Building {
        self.recall_keys().await;
        self.ledger.keys.expire(self.shared.date());
        let (base, image) = self.image();
        let limit = batch_bytes_max(self.shared.sizes.segment);
        let mut building = Building::new(base, image, self.room(self.current.end), limit, now);
        building.fill(&mut self.waiting, &mut self.ledger, &self.shared);
        building
    }

    /// One batch out of what waits.
    async fn commit(&mut self) {
        let now = self.now();
        self.leave_keys();
        let building = self.build(now).await;
        if !building.is_empty() {
            return self.write(building).await;
        }
        self.spare = building.image;
        if !self.waiting.is_empty() {
            self.rotate(now).await;
        }
    }

    /// One batch into the next segment, along with its header.
    async fn rotate(&mut self, now: Timestamp) {
        if self.shared.scarce.load(Ordering::Acquire) {
            // What is left is for what frees space.
            self.refuse_waiting();
        }
        let Some(ready) = self.next_segment().await else { return };
        let page = self.header(&ready, self.ledger.batch, self.current.end).encode();
        let mut image = std::mem::take(&mut self.spare);
        image.clear();
        image.extend_from_slice(&page);
        let limit = batch_bytes_max(self.shared.sizes.segment);
        let mut building = Building::new(0, image, self.room(FIRST), limit, now);
        building.fill(&mut self.waiting, &mut self.ledger, &self.shared);
        if building.is_empty() {
            // Everything was called off meanwhile: the segment stays ready.
            self.spare = building.image;
            self.shared.supply.lock().ready = Some(ready);
            return;
        }
        let batch = self.finish(&mut building, ready.nonce);
        match put(&*ready.file, 0, &building.image).await {
            Ok(()) => {
                self.adopt(ready);
                self.committed(building, batch);
            }
            Err(error) => self.heal(building, None, &error).await,
        }
    }

    /// The header of the segment that follows the current one.
    fn header(&self, ready: &Ready<D::File>, first_sequence: u64, end: usize) -> super::segment::SegmentHeader {
        let last_start = if self.last.length == 0 { end } else { self.last.base + self.last.start };
        let predecessor = Some(Predecessor { nonce: self.current.nonce, end, last_start });
        let active = Some(Active { first_sequence, predecessor, given: self.ledger.given() });
        super::segment::SegmentHeader { active, ..self.shared.header(ready.number, ready.nonce) }
    }

    /// Writes a batch into the current segment. One that fails is left in `unwritten`.
    async fn write(&mut self, mut building: Building) {
        let batch = self.finish(&mut building, self.current.nonce);
        match put(&*self.current.file, building.base, &building.image).await {
            Ok(()) => self.committed(building, batch),
            Err(error) => self.unwritten = Some((building, error)),
        }
    }

    /// Gives a batch its sequence and checksums.
    fn finish(&mut self, building: &mut Building, nonce: u128) -> u64 {
        let sequence = self.ledger.batch;
        self.ledger.batch += 1;
        building.finish(nonce, sequence);
        sequence
    }

    /// The segment that was prepared becomes the current one.
    fn adopt(&mut self, ready: Ready<D::File>) {
        let Ready { number, nonce, file } = ready;
        self.shared.shelf.lock().insert(number, Shelved { nonce, file: file.clone() });
        self.current = Current { number, nonce, file, end: FIRST };
        self.shared.table.lock().begin(number);
        self.shared.supply.lock().wanted = Some(number + 1);
        self.shared.supply_wanted.notify_one();
        self.shared.count_waiting();
        self.shared.index_wanted.notify_one();
    }

    /// A batch is durable: the next one goes behind it, and everybody hears.
    fn committed(&mut self, building: Building, sequence: u64) {
        let (flags, at) = (building.flags, building.at);
        let outcome::Durable { image, base, start, length, taken } = building.split();
        self.current.end = base + start + length.next_multiple_of(batch::ALIGN);
        let mut spare = std::mem::replace(&mut self.last, Last { image, base, start, length, sequence, flags, at }).image;
        if spare.capacity() > BUFFER_BYTES_KEPT {
            spare = Vec::new();
        }
        self.spare = spare;
        self.idle_at = Instant::now() + SEAL_AFTER;
        // A seal says nothing about how many wait.
        self.lone = match taken.len() {
            0 => self.lone,
            1 => self.lone.saturating_add(1),
            _ => 0,
        };
        self.shared.lone.store(self.lone >= LONE_BATCHES, Ordering::Relaxed);
        outcome::announce(&self.shared, taken, self.current.number, base, at);
    }

    /// An empty batch, which proves that the one before was synced. `false`: it didn't fit.
    async fn commit_seal(&mut self) -> bool {
        if self.current.end + batch::size(0) > self.shared.sizes.segment {
            self.last.flags |= batch::SEAL;
            return false;
        }
        let now = self.now();
        let (base, image) = self.image();
        let mut building = Building::new(base, image, 0, 0, now);
        building.flags = batch::SEAL;
        self.write(building).await;
        true
    }

    /// The next segment; none when the store is closed before there is one.
    async fn next_segment(&mut self) -> Option<Ready<D::File>> {
        let mut refusing = false;
        let ready = loop {
            let lost = self.shared.check_folder().await.err().map(|error| error.to_string());
            let trouble = {
                let mut supply = self.shared.supply.lock();
                if lost.is_none()
                    && let Some(ready) = supply.ready.take()
                {
                    break Some(ready);
                }
                lost.or_else(|| supply.trouble.clone())
            };
            if let Some(trouble) = trouble {
                if !refusing {
                    tracing::error!(cause = %trouble, "the store has no segment to write to: it refuses what comes in and tries again");
                }
                refusing = true;
                self.shared.queue.refuse_accepts(Some(&trouble));
                self.refuse_waiting();
                if self.shared.queue.is_closing() {
                    break None;
                }
            }
            let wait = tokio::time::timeout(TRY_EVERY, self.shared.supply_changed.notified()).await;
            if wait.is_err() {
                self.shared.supply_wanted.notify_one();
            }
        };
        if refusing && ready.is_some() {
            tracing::info!("the store has a segment to write to again");
            self.shared.queue.refuse_accepts(None);
        } else if ready.is_none() {
            self.refuse_all();
        }
        ready
    }

    /// Accepts that wait are refused: nothing of them was taken. Everything else goes on waiting.
    fn refuse_waiting(&mut self) {
        let mut kept = VecDeque::with_capacity(self.waiting.len());
        let queued = self.shared.queue.take_accepts();
        for entry in self.waiting.drain(..).chain(queued) {
            match entry {
                Entry::Accept(accept, promise) => {
                    if promise.take() {
                        promise.settle_with(Err(CommitError::Refused("the store can't commit just now")), accept);
                    }
                }
                entry @ (Entry::Settle(..)
                | Entry::Add(..)
                | Entry::State(..)
                | Entry::Move(_)
                | Entry::MoveState(..)
                | Entry::MoveKeys(_)) => {
                    kept.push_back(entry);
                }
            }
        }
        self.waiting = kept;
    }
}

impl<D: Disk> Committer<D> {
    /// The store closes without being able to commit what waits.
    fn refuse_all(&mut self) {
        fn refuse<T>(promise: Promise<T>) {
            if promise.take() {
                promise.settle(Err(CommitError::Refused("stopping")));
            }
        }
        for entry in self.waiting.drain(..) {
            match entry {
                Entry::Accept(_, promise) => refuse(promise),
                Entry::Settle(_, promise) | Entry::State(_, _, promise) => refuse(promise),
                Entry::Add(.., promise) => refuse(promise),
                Entry::Move(_) | Entry::MoveState(..) | Entry::MoveKeys(_) => {}
            }
        }
    }
}

/// A committer that somebody works on. After a panic nobody goes on with what it had taken, and whoever waits hears that the outcome
/// can't be known.
struct Working<D: Disk>(OwnedMutexGuard<Committer<D>>);

impl<D: Disk> Drop for Working<D> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.waiting.clear();
            self.0.unwritten = None;
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// One write and one sync.
async fn put<F: DiskFile>(file: &F, base: usize, image: &[u8]) -> io::Result<()> {
    file.write_at(base as u64, image).await?;
    file.sync_data().await
}
