//! Opening a store: options, seams, and the order of things.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};

use super::committer::{Committer, Shareable};
use super::disk::{Disk, FileDisk};
use super::error::StoreError;
use super::index::{Indexes, SledIndexes};
use super::interrupted::{INTERRUPTED_MAX, InFlight, backoff};
use super::librarian::{Librarian, paging};
use super::queue::Queue;
use super::segment::{BYTES_MAX, BYTES_MIN, PAGE};
use super::shared::{Running, Shared, Sizes, Supply};
use super::table::{DeliveryMeta, Table};
use super::{LocalStore, format, recovery, supply};
use crate::clock::Clock;
use crate::model::{Attempt, AttemptResult, DeadCode, DeadReason, DeliveryId, DeliveryState, FaultKind, OutcomeKind};
use crate::store::lease::Leases;
use crate::store::{Settlement, Store};
use crate::telemetry::Metrics;

/// The size of a segment unless chosen otherwise.
const SEGMENT_BYTES: usize = 64 * 1024 * 1024;

/// Deliveries that wait in memory unless chosen otherwise, some 90 bytes each.
const WAITING_IN_MEMORY: usize = 2_000_000;

/// How a store is kept.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// Its folder.
    pub path: PathBuf,
    /// The size of a segment; at least four times the largest body.
    pub segment_bytes: usize,
    /// How long settled events are kept.
    pub retention: Duration,
    /// Most bytes on disk.
    pub max_size: u64,
    /// How many deliveries may wait in memory, before those that are furthest from their turn leave it.
    pub waiting_in_memory: usize,
    /// File systems by name (`nfs`, `overlay`) that are not refused, although their syncs or locks are in doubt.
    pub allow_file_systems: Vec<Box<str>>,
}

impl LocalOptions {
    /// The defaults of routes.yaml, in this folder.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let week = Duration::from_secs(7 * 24 * 60 * 60);
        Self {
            path: path.into(),
            segment_bytes: SEGMENT_BYTES,
            retention: week,
            max_size: 20 << 30,
            waiting_in_memory: WAITING_IN_MEMORY,
            allow_file_systems: Vec::new(),
        }
    }

    fn check(&self) -> Result<Sizes, StoreError> {
        let segment = self.segment_bytes;
        if !(BYTES_MIN..=BYTES_MAX).contains(&segment) || !segment.is_multiple_of(PAGE) {
            return Err(StoreError::Options(format!(
                "segments of {segment} bytes: {BYTES_MIN} to {BYTES_MAX} in whole pages of {PAGE} work"
            )));
        }
        let least = segment as u64 * 4;
        if self.max_size < least {
            return Err(StoreError::Options(format!("store.max_size: at least {least} bytes are needed, four segments")));
        }
        Ok(Sizes { segment, retention: self.retention, max_size: self.max_size, waiting: self.waiting_in_memory })
    }
}

/// Where the store's own work runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// On threads of its own: what the real disk needs, whose calls block.
    Threads,
    /// As tasks of the runtime that opens it: what a simulation on paused time needs.
    Tasks,
}

impl Run {
    fn spawn(self, name: &str, work: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        match self {
            Self::Tasks => {
                tokio::spawn(work);
            }
            Self::Threads => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
                std::thread::Builder::new().name(format!("kurier-{name}")).spawn(move || runtime.block_on(work))?;
            }
        }
        Ok(())
    }

    /// Waits for milliseconds or less. On threads of the store's own it blocks: their timers count in milliseconds.
    #[expect(clippy::disallowed_methods, reason = "its thread serves nobody else, and a simulation's tasks sleep on paused time")]
    pub(super) async fn pause(self, time: Duration) {
        match self {
            Self::Tasks => tokio::time::sleep(time).await,
            Self::Threads => std::thread::sleep(time),
        }
    }

    /// Work that may block for as long as a sync takes: whoever asked goes on with other tasks meanwhile.
    pub(super) async fn aside<T: Send + 'static>(self, work: impl Future<Output = io::Result<T>> + Send + 'static) -> io::Result<T> {
        match self {
            Self::Tasks => work.await,
            Self::Threads => {
                let runtime = tokio::runtime::Handle::current();
                tokio::task::spawn_blocking(move || runtime.block_on(work)).await.map_err(io::Error::other)?
            }
        }
    }
}

/// What a simulation exchanges.
pub struct Seams<D: Disk> {
    /// The disk.
    pub disk: D,
    /// Makes indexes.
    pub indexes: Arc<dyn Indexes>,
    /// Where the store's own work runs.
    pub run: Run,
    /// Where nonces come from; no two may ever be the same.
    pub random: Arc<dyn Fn() -> u128 + Send + Sync>,
}

impl Seams<FileDisk> {
    /// The machine's disk, sled, threads.
    pub fn real() -> Self {
        Self { disk: FileDisk, indexes: Arc::new(SledIndexes), run: Run::Threads, random: Arc::new(rand::random) }
    }
}

impl LocalStore<FileDisk> {
    /// Opens the store in this folder, or creates one if the folder is empty or missing.
    ///
    /// # Errors
    /// See [`StoreError`]; the program ends with exit code 4.
    pub async fn open(options: LocalOptions, clock: Arc<dyn Clock>, metrics: Option<Arc<Metrics>>) -> Result<Self, StoreError> {
        Self::open_on(Seams::real(), options, clock, metrics).await
    }
}

impl<D: Disk> LocalStore<D> {
    /// Opens a store on this disk and index.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn open_on(
        seams: Seams<D>,
        options: LocalOptions,
        clock: Arc<dyn Clock>,
        metrics: Option<Arc<Metrics>>,
    ) -> Result<Self, StoreError> {
        let sizes = options.check()?;
        let Seams { disk, indexes, run, random } = seams;
        let path = options.path;
        let folder = format::open(&disk, &path, random(), clock.now(), &options.allow_file_systems).await?;
        if folder.is_new {
            tracing::info!(path = %path.display(), "a new store is created");
        }
        let in_flight = disk.create(&path.join("inflight")).await.map_err(|error| StoreError::io(&path, error))?;
        let shared = Arc::new(Shared {
            disk,
            path: path.clone(),
            store: folder.store,
            sizes,
            clock,
            doubted_from: Mutex::default(),
            metrics,
            random,
            queue: Queue::default(),
            table: Mutex::new(Table::default()),
            names: Mutex::default(),
            shelf: Mutex::new(BTreeMap::new()),
            newest: watch::Sender::new(0),
            in_flight: InFlight::new(in_flight),
            lock: Mutex::new(Some(Arc::new(folder.lock))),
            supply: Mutex::new(Supply { wanted: None, ready: None, trouble: None, pool: Vec::new(), pooled: 0, going: None }),
            preparing: tokio::sync::Mutex::new(()),
            supply_wanted: Notify::new(),
            moving: Arc::default(),
            supply_changed: Notify::new(),
            index_wanted: Notify::new(),
            indexes,
            index: RwLock::new(None),
            filters: RwLock::default(),
            sealed_keys: Mutex::default(),
            last: Mutex::default(),
            unindexed: AtomicUsize::new(0),
            suspects: Mutex::default(),
            unsealed: AtomicUsize::new(0),
            recalls: Mutex::new(VecDeque::new()),
            full: AtomicBool::new(false),
            crowded: AtomicBool::new(false),
            scarce: AtomicBool::new(false),
            lone: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            ended: watch::Sender::new(0),
        });
        let recovered = recovery::recover(&shared, folder.is_new).await?;
        if recovered.clean == Some(recovered.end) {
            match shared.indexes.open(&path.join("index")) {
                Ok(index) => *shared.index.write() = Some(index),
                Err(error) => tracing::warn!(%error, "the index is made anew"),
            }
        }
        if folder.is_new {
            format::created(&shared.disk, &path).await?;
        }
        shared.newest.send_replace(shared.table.lock().position);
        let committer = start(&shared, recovered, run).map_err(|error| StoreError::io(&path, error))?;
        let store = Self { shared, committer, leases: Leases::default(), run };
        store.note_interrupted(&path).await?;
        Ok(store)
    }

    /// Each delivery that was in flight when the process ended counts an interrupted attempt (rule 9).
    async fn note_interrupted(&self, path: &Path) -> Result<(), StoreError> {
        let io = |error: io::Error| StoreError::io(path, error);
        let left = self.shared.in_flight.left().await.map_err(io)?;
        let mut settlements: Vec<Settlement> = Vec::new();
        for (id, version) in left {
            let delivery = self.known_delivery(id).await.map_err(io)?;
            settlements.extend(delivery.and_then(|delivery| self.interrupted(id, version, &delivery)));
        }
        let mut tickets = Vec::with_capacity(settlements.len());
        for settlement in settlements {
            let delivery = settlement.delivery;
            tracing::warn!(delivery.id = %delivery, attempt.number = settlement.attempts, "the process ended during an attempt");
            tickets.push(self.settle(settlement));
        }
        for ticket in tickets {
            ticket.await.map_err(|error| io(io::Error::other(error)))?;
        }
        self.shared.in_flight.clear().await.map_err(io)
    }

    /// A delivery that may wait, in memory or paged out.
    async fn known_delivery(&self, id: DeliveryId) -> io::Result<Option<DeliveryMeta>> {
        let held = self.shared.table.lock().get(id.event);
        let meta = match held {
            Some(meta) => Some(meta),
            None => paging::find(&self.shared, id.event).await?,
        };
        Ok(meta.and_then(|meta| meta.delivery(id.ordinal).cloned()))
    }

    fn interrupted(&self, id: DeliveryId, version: u32, delivery: &DeliveryMeta) -> Option<Settlement> {
        // Another version: the attempt was settled, and only the note of it was left.
        if delivery.state.is_final() || delivery.version != version {
            return None;
        }
        let now = self.shared.clock.now();
        let interrupted = delivery.interrupted.saturating_add(1);
        let attempts = delivery.attempts.saturating_add(1);
        let is_dead = interrupted >= INTERRUPTED_MAX;
        let state = if is_dead {
            let detail = format!("the process ended during {interrupted} attempts in a row").into();
            DeliveryState::Dead(DeadReason { code: DeadCode::Interrupted, detail })
        } else {
            DeliveryState::Pending { due: now.saturating_add(backoff(interrupted)) }
        };
        let result = AttemptResult::Fault { kind: FaultKind::Interrupted, detail: "the process ended during the attempt".into() };
        let outcome = if is_dead { OutcomeKind::Rejected } else { OutcomeKind::Retry };
        let attempt = Attempt { number: attempts, started_at: now, duration_ms: 0, result, outcome };
        Some(Settlement { delivery: id, version: delivery.version, attempt: Some(attempt), attempts, state, acknowledgement: None })
    }
}

fn start<D: Disk>(shared: &Arc<Shared<D>>, recovered: recovery::Recovered<D::File>, run: Run) -> io::Result<Shareable<D>> {
    let recovery::Recovered { current, last, ledger, sealed, checkpoint, .. } = recovered;
    let helper = |name: &'static str, work: Pin<Box<dyn Future<Output = ()> + Send>>| {
        let running = Running { shared: shared.clone(), name };
        run.spawn(name, async move {
            let _running = running;
            work.await;
        })
    };
    helper("segments", Box::pin(supply::run(shared.clone())))?;
    helper("index", Box::pin(Librarian::new(shared.clone(), sealed, checkpoint).run()))?;
    let committer = Arc::new(tokio::sync::Mutex::new(Committer::new(shared.clone(), current, last, ledger, run)));
    helper("commits", Box::pin(Committer::run(committer.clone())))?;
    Ok(committer)
}
