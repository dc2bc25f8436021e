//! What the committer, its helpers and the callers share.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};

use super::clean::End;
use super::disk::Disk;
use super::filter::Filters;
use super::footer::{self, Built, FooterHeader};
use super::format;
use super::index::{Index, Indexes};
use super::interrupted::InFlight;
use super::librarian::paging;
use super::names::Names;
use super::queue::{self, Entry, Queue};
use super::segment::{self, SegmentHeader};
use super::supply;
use super::table::Table;
use crate::clock::Clock;
use crate::model::{DeliveryId, DeliveryKind, EventId, Timestamp};
use crate::store::{CommitError, NewDelivery, Promise, Settlement};
use crate::telemetry::Metrics;

/// How long a read waits for an index that is being made anew.
pub(super) const INDEX_WAIT: Duration = Duration::from_secs(5);

/// How often it looks.
pub(super) const INDEX_LOOK: Duration = Duration::from_millis(20);

/// A segment that can be read.
pub(super) struct Shelved<F> {
    pub(super) nonce: u128,
    pub(super) file: Arc<F>,
}

/// A prepared segment: zeros, a `ready` header, a durable name.
pub(super) struct Ready<F> {
    pub(super) number: u64,
    pub(super) nonce: u128,
    pub(super) file: Arc<F>,
}

/// What is asked of the helper that prepares segments.
pub(super) struct Supply<F> {
    /// The number of the segment to prepare, until it is.
    pub(super) wanted: Option<u64>,
    pub(super) ready: Option<Ready<F>>,
    /// Why it could not be prepared, or others not be set aside.
    pub(super) trouble: Option<String>,
    /// Whole files that may be overwritten.
    pub(super) pool: Vec<PathBuf>,
    /// For names of pool files.
    pub(super) pooled: u64,
    /// A segment that goes, under the names that its file may have: before it has gone no later one may.
    pub(super) going: Option<[PathBuf; 2]>,
}

/// Keys that a footer tells from now on.
pub(super) struct SealedKeys {
    pub(super) keys: Vec<([u8; 16], EventId)>,
}

/// Something about an event that is not in memory.
pub(super) enum Recall {
    /// It must come back first.
    Add(EventId, DeliveryKind, Vec<NewDelivery>, Promise<Vec<DeliveryId>>),
    /// It waits and left memory; or nothing of it is pending, and does it exist at all?
    Settle(Settlement, Promise<()>),
    /// Everything that waits in a segment must come back, to move.
    Segment(u64),
}

/// Sizes and times that were chosen at the opening.
#[derive(Debug, Clone)]
pub(super) struct Sizes {
    pub(super) segment: usize,
    pub(super) retention: Duration,
    pub(super) max_size: u64,
    /// Deliveries that wait in memory, before others leave it.
    pub(super) waiting: usize,
}

impl Sizes {
    /// Segments that are set aside besides the one that is prepared, for what frees space: settlements, copies, states.
    /// A very small store has room for one.
    pub(super) fn reserved(&self) -> usize {
        if self.max_size / 16 >= self.segment as u64 { 2 } else { 1 }
    }
}

/// See the module. Locks are held for moments and never across an await, `preparing` excepted.
pub(super) struct Shared<D: Disk> {
    pub(super) disk: D,
    pub(super) path: PathBuf,
    pub(super) store: u128,
    pub(super) sizes: Sizes,
    pub(super) clock: Arc<dyn Clock>,
    /// The first segment that was written while dates were doubted, as long as they are.
    pub(super) doubted_from: Mutex<Option<u64>>,
    pub(super) metrics: Option<Arc<Metrics>>,
    pub(super) random: Arc<dyn Fn() -> u128 + Send + Sync>,
    pub(super) queue: Queue,
    pub(super) table: Mutex<Table>,
    pub(super) names: Mutex<Names>,
    pub(super) shelf: Mutex<BTreeMap<u64, Shelved<D::File>>>,
    pub(super) newest: watch::Sender<u64>,
    pub(super) in_flight: InFlight<D::File>,
    /// The locked format file.
    pub(super) lock: Mutex<Option<Arc<D::File>>>,
    pub(super) supply: Mutex<Supply<D::File>>,
    /// Held while a segment is being prepared or replaced.
    pub(super) preparing: tokio::sync::Mutex<()>,
    pub(super) supply_wanted: Notify,
    /// How many events are on their way out of a segment.
    pub(super) moving: Arc<AtomicUsize>,
    pub(super) supply_changed: Notify,
    pub(super) index_wanted: Notify,
    /// Which dedupe keys are in footers.
    pub(super) filters: RwLock<Filters>,
    /// For the committer, who forgets them.
    pub(super) sealed_keys: Mutex<Vec<SealedKeys>>,
    /// The journal's end, once the committer has ended.
    pub(super) last: Mutex<Option<End>>,
    pub(super) indexes: Arc<dyn Indexes>,
    pub(super) index: RwLock<Option<Arc<dyn Index>>>,
    /// How many events wait for the index.
    pub(super) unindexed: AtomicUsize,
    /// Segments whose footers turned out to be damaged.
    pub(super) suspects: Mutex<BTreeSet<u64>>,
    /// How many segments wait for their footer.
    pub(super) unsealed: AtomicUsize,
    /// What is about events that are not in memory.
    pub(super) recalls: Mutex<VecDeque<Recall>>,
    /// Nothing more can be dropped and the disk's share is used up.
    pub(super) full: AtomicBool,
    /// More deliveries wait in memory than may, and can't leave it.
    pub(super) crowded: AtomicBool,
    /// The disk is full, and no more segments can be set aside: what is left of them is for what frees space.
    pub(super) scarce: AtomicBool,
    /// Entries come one at a time: whoever has one commits it itself.
    pub(super) lone: AtomicBool,
    /// The helpers are to stop.
    pub(super) stopping: AtomicBool,
    /// How many of the threads have ended.
    pub(super) ended: watch::Sender<u32>,
}

impl<D: Disk> Shared<D> {
    pub(super) fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    pub(super) fn segment_path(&self, number: u64) -> PathBuf {
        self.journal().join(segment::file_name(number))
    }

    /// The index, while there is a working one.
    pub(super) fn index(&self) -> Option<Arc<dyn Index>> {
        self.index.read().clone()
    }

    /// The index; one that is being made anew is waited for a little.
    pub(super) async fn index_soon(&self) -> Option<Arc<dyn Index>> {
        let deadline = tokio::time::Instant::now() + INDEX_WAIT;
        loop {
            let index = self.index();
            if index.is_some() || self.is_stopping() || tokio::time::Instant::now() >= deadline {
                return index;
            }
            tokio::time::sleep(INDEX_LOOK).await;
        }
    }

    /// The date, where dates can be believed. Once they can again, what was written meanwhile was written by now, whatever its
    /// batches say: retention is no shorter for it.
    pub(super) fn date(&self) -> Option<Timestamp> {
        let date = self.clock.date();
        let mut doubted_from = self.doubted_from.lock();
        match date {
            None if doubted_from.is_none() => *doubted_from = self.shelf.lock().keys().next_back().copied(),
            None => {}
            Some(now) => {
                if let Some(first) = doubted_from.take() {
                    self.table.lock().touch_from(first, now);
                }
            }
        }
        date
    }

    /// What a delivery's age counts from, if it comes now.
    pub(super) fn stamp(&self) -> Timestamp {
        self.clock.stamp(self.clock.now())
    }

    /// A nonce for a new incarnation of a segment.
    pub(super) fn nonce(&self) -> u128 {
        (self.random)()
    }

    /// A segment's header as it is while the segment is only prepared.
    pub(super) fn header(&self, number: u64, nonce: u128) -> SegmentHeader {
        SegmentHeader { number, nonce, store: self.store, created_at: self.clock.reckon(self.clock.now()), active: None }
    }

    /// The folder is still the one that was locked (rule 18).
    pub(super) async fn check_folder(&self) -> std::io::Result<()> {
        let lock = self.lock.lock().clone();
        match lock {
            Some(lock) => format::is_still_ours(&self.disk, &self.path, &lock).await,
            None => Ok(()),
        }
    }

    /// Takes a file that may be overwritten.
    pub(super) fn take_pooled(&self) -> Option<PathBuf> {
        self.supply.lock().pool.pop()
    }

    /// A pool file that could not become a segment goes; where even that fails it is kept, to be written over later.
    pub(super) async fn give_up(&self, path: PathBuf) {
        match self.disk.remove(&path).await {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(_) => self.supply.lock().pool.insert(0, path),
        }
    }

    /// Writes a segment's footer. On a full disk one of the segments that are set aside makes room for it, but not the
    /// last one: without footers no segment would ever go.
    pub(super) async fn write_footer(&self, built: &Built) -> std::io::Result<FooterHeader> {
        loop {
            let error = match footer::write(&self.disk, &self.journal(), built).await {
                Ok(header) => return Ok(header),
                Err(error) => error,
            };
            let is_full = supply::is_full_disk(&error);
            let spare = {
                let mut supply = self.supply.lock();
                if is_full && supply.pool.len() > 1 { supply.pool.pop() } else { None }
            };
            let Some(path) = spare else { return Err(error) };
            self.disk.remove(&path).await?;
        }
    }

    /// A name that no pool file has.
    pub(super) fn pool_path(&self) -> PathBuf {
        let mut supply = self.supply.lock();
        supply.pooled += 1;
        self.journal().join(format!("pool-{:016x}.seg", supply.pooled))
    }

    /// A footer is missing or damaged: it is made anew.
    pub(super) fn suspect(&self, segment: u64) {
        if self.suspects.lock().insert(segment) {
            tracing::error!(segment, "a segment's footer can't be read; it is made anew");
        }
        self.index_wanted.notify_one();
    }

    /// Notes how much waits for the librarian.
    pub(super) fn count_waiting(&self) {
        let (unindexed, unsealed, waiting) = {
            let table = self.table.lock();
            (table.unindexed(), table.usage.values().rev().take_while(|usage| !usage.sealed).count(), table.waiting())
        };
        self.note_crowd(waiting);
        self.unindexed.store(unindexed, Ordering::Relaxed);
        self.unsealed.store(unsealed, Ordering::Relaxed);
    }

    /// Notes how many deliveries wait in memory.
    pub(super) fn note_crowd(&self, waiting: usize) {
        self.crowded.store(waiting > self.sizes.waiting.saturating_add(paging::LASTING_MAX), Ordering::Relaxed);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Asks the librarian about an event that is not in memory.
    pub(super) fn recall(&self, recall: Recall) -> Result<(), CommitError> {
        if self.queue.is_closing() {
            return Err(CommitError::Refused("stopping"));
        }
        let mut recalls = self.recalls.lock();
        if recalls.len() >= queue::OTHERS_MAX {
            return Err(CommitError::Refused("too many commits wait"));
        }
        recalls.push_back(recall);
        drop(recalls);
        self.index_wanted.notify_one();
        Ok(())
    }

    /// Queues further deliveries of a pinned event.
    pub(super) fn add(&self, event: EventId, kind: DeliveryKind, deliveries: Vec<NewDelivery>, promise: Promise<Vec<DeliveryId>>) {
        if let Err(refused) = self.queue.push(Entry::Add(event, kind, deliveries, promise))
            && let (error, Entry::Add(event, _, _, promise)) = *refused
        {
            self.table.lock().unpin(event);
            promise.settle(Err(error));
        }
    }

    /// Lets the helpers end.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.supply_wanted.notify_one();
        self.index_wanted.notify_one();
        self.supply_changed.notify_one();
    }

    /// A helper panicked: what nobody works on any more must not be waited for.
    pub(super) fn died(&self, name: &str) {
        tracing::error!("the store's `{name}` ended by a panic, which is a bug: nothing is committed any more; restart the process");
        self.queue.refuse_accepts(Some("a part of the store ended by a panic: restart the process"));
        self.queue.close();
        self.stop();
        let mut waiting = VecDeque::new();
        self.queue.drain(&mut waiting);
        // Dropping a promise says that the outcome can't be known.
        drop(waiting);
        self.recalls.lock().clear();
    }

    /// Bytes of all segments and footers. Those that are to be set aside count, whether they are there yet or not.
    pub(super) fn journal_bytes(&self) -> u64 {
        let supply = self.supply.lock();
        let spare = (supply.pool.len() + usize::from(supply.ready.is_some())).max(1 + self.sizes.reserved());
        drop(supply);
        let footers: u64 = self.table.lock().usage.values().map(|usage| usage.footer_bytes).sum();
        ((self.shelf.lock().len() + spare) as u64 * self.sizes.segment as u64).saturating_add(footers)
    }
}

/// Stands for a helper that runs.
pub(super) struct Running<D: Disk> {
    pub(super) shared: Arc<Shared<D>>,
    pub(super) name: &'static str,
}

impl<D: Disk> Drop for Running<D> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.died(self.name);
        }
        self.shared.ended.send_modify(|ended| *ended += 1);
    }
}
