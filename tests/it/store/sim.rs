//! The embedded engine on the simulated disk and on paused time: an engine for the contract, and lives that
//! end with a kill or a power cut at any moment.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kurier::clock::{Calendar, Clock, TokioClock};
use kurier::model::{Delivery, DeliveryId, DeliveryState, EventId, OutcomeKind, Timestamp};
use kurier::store::local::{LocalOptions, LocalStore, Run, Seams, StoreError};
use kurier::store::{CommitError, EventFilter, ReadError, Receipt, Store};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::contract;
use super::make::{self, event, keyed, new, settlement};
use super::sim_disk::{Faults, Lie, SimDisk};
use crate::seeds::each_seed;

/// Very small segments: a life of a few hundred commits sees several.
pub(crate) const SEGMENT: usize = 64 * 1024;

pub(crate) type SimStore = LocalStore<SimDisk>;

/// Runs one life on paused time; whatever it leaves running dies with it.
pub(crate) fn run<T>(life: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(life)
}

pub(crate) fn options() -> LocalOptions {
    LocalOptions { segment_bytes: SEGMENT, ..LocalOptions::new("/store") }
}

/// A wall clock that can be set, over a boot clock that can't.
#[derive(Clone)]
pub(crate) struct SimClock {
    tokio: TokioClock,
    shift_ms: Arc<AtomicI64>,
}

impl SimClock {
    /// Shows so many seconds after the tests' time.
    pub(crate) fn starting_at(seconds: u64) -> Self {
        Self::showing(make::at(seconds))
    }

    /// Shows this time.
    pub(crate) fn showing(now: Timestamp) -> Self {
        Self { tokio: TokioClock::starting_at(now), shift_ms: Arc::default() }
    }

    /// Somebody sets it right again.
    pub(crate) fn right(&self) {
        self.shift_ms.store(0, Ordering::Relaxed);
    }

    /// The time that it would be if nobody had set it.
    pub(crate) fn truth(&self) -> TokioClock {
        self.tokio
    }

    /// Somebody sets the wall clock.
    pub(crate) fn jump(&self, seconds: i64) {
        self.shift_ms.fetch_add(seconds * 1000, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.tokio.now().millis() + self.shift_ms.load(Ordering::Relaxed))
    }

    fn boot(&self) -> Duration {
        self.tokio.boot()
    }
}

/// Opens the store that lies on this disk.
pub(crate) async fn open_with(disk: &SimDisk, options: LocalOptions) -> Result<Arc<SimStore>, StoreError> {
    open_at(disk, options, SimClock::starting_at(0)).await
}

/// Lets the work go on for so many calls of the disk; then the power goes.
pub(crate) fn power_cut_after(disk: &SimDisk, calls: u64, work: impl Future<Output = ()>) {
    run(async {
        disk.set(Faults { freezes_after: Some(calls), ..Faults::default() });
        tokio::select! {
            biased;
            () = disk.frozen() => {}
            () = work => {}
        }
    });
    disk.set(Faults::default());
    disk.cut_power();
}

/// Opens the store that lies on this disk, by this clock.
pub(crate) async fn open_at(disk: &SimDisk, options: LocalOptions, clock: SimClock) -> Result<Arc<SimStore>, StoreError> {
    open_by(disk, options, Arc::new(Calendar::new(clock))).await
}

/// Opens the store that lies on this disk, by the clock of the whole process.
pub(crate) async fn open_by(disk: &SimDisk, options: LocalOptions, clock: Arc<dyn Clock>) -> Result<Arc<SimStore>, StoreError> {
    let random = {
        let disk = disk.clone();
        Arc::new(move || disk.nonce())
    };
    let seams = Seams { disk: disk.clone(), indexes: Arc::new(disk.indexes.clone()), run: Run::Tasks, random };
    Ok(Arc::new(LocalStore::open_on(seams, options, clock, None).await?))
}

pub(crate) async fn open(disk: &SimDisk) -> Result<Arc<SimStore>, StoreError> {
    open_with(disk, options()).await
}

/// The path of a segment.
pub(crate) fn segment(number: u64) -> std::path::PathBuf {
    Path::new("/store/journal").join(format!("{number:016x}.seg"))
}

/// An engine for the contract.
pub(crate) struct Engine(SimDisk);

impl Engine {
    pub(crate) fn new() -> Self {
        Self(SimDisk::new(1))
    }
}

impl contract::Engine for Engine {
    type Store = SimStore;

    async fn open(&mut self) -> Arc<SimStore> {
        open(&self.0).await.unwrap()
    }
}

/// What the world outside knows of a store: what it was promised, and what it was told is void.
#[derive(Debug, Default)]
struct Known {
    /// Acknowledged events, and the key of those that have one.
    kept: BTreeMap<u64, Option<u8>>,
    /// Refused or called off: never to be seen again.
    void: BTreeSet<u64>,
    /// What each acknowledged delivery is known to be: its version and state.
    settled: BTreeMap<DeliveryId, (u32, DeliveryState)>,
    /// Events that may have been finished.
    ended: BTreeSet<EventId>,
    /// The newest acknowledged value, and those that were asked for since.
    states: BTreeMap<u8, (Option<u64>, Vec<u64>)>,
}

impl Known {
    /// What a sender heard of its event.
    fn heard(&mut self, n: u64, key: Option<u8>, outcome: Result<Receipt, CommitError>) {
        match outcome {
            Ok(receipt) if receipt.is_repeat() => {
                self.void.insert(n);
                if let Some((first, _)) = self.kept.iter().find(|(_, kept)| kept.is_some() && **kept == key) {
                    assert_eq!(receipt.event(), event(*first).id, "a repeat gets the first one");
                }
            }
            Ok(receipt) => {
                assert_eq!(receipt.event(), event(n).id);
                assert!(key.is_none() || !self.kept.values().any(|kept| *kept == key), "a key is stored once");
                self.kept.insert(n, key);
            }
            Err(CommitError::Refused(_)) => {
                self.void.insert(n);
            }
            Err(CommitError::Unknown) => {}
            Err(error @ (CommitError::Stale | CommitError::NotFound)) => panic!("{error}"),
        }
    }

    /// Holds what is stored against what is known; says what must be pending.
    fn compare(&self, stored: &BTreeMap<EventId, Vec<Delivery>>, may_forget: bool) -> BTreeSet<DeliveryId> {
        let known = self;
        let mut pending = BTreeSet::new();
        for n in &known.void {
            assert!(!stored.contains_key(&event(*n).id), "event {n} was refused, and is stored");
        }
        for (n, _) in known.kept.iter() {
            match stored.get(&event(*n).id) {
                Some(deliveries) => assert_eq!(deliveries.len(), 1),
                None => assert!(may_forget && known.ended.contains(&event(*n).id), "event {n} was acknowledged, and is lost"),
            }
        }
        for deliveries in stored.values() {
            for delivery in deliveries {
                if let Some((version, state)) = known.settled.get(&delivery.id) {
                    assert!(delivery.version >= *version, "{}: a settlement is lost", delivery.id);
                    assert!(delivery.version > *version || delivery.state == *state);
                }
                if !delivery.state.is_final() {
                    pending.insert(delivery.id);
                }
            }
        }
        pending
    }
}

/// When somebody takes a commit for durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Believes {
    /// When its ticket says so.
    Tickets,
    /// Planted: a settlement as soon as it is queued.
    QueuedSettlements,
    /// Planted: a repeat as soon as a first one is queued.
    QueuedRepeats,
}

struct World {
    known: Mutex<Known>,
    next: AtomicU64,
    rng: Mutex<StdRng>,
    believes: Believes,
    /// What is finished is kept no longer than it must.
    is_short: bool,
    /// Deliveries that may wait in memory; few: whoever relays takes any of them, not the first ones.
    in_memory: Option<usize>,
    /// Most that were seen paged out.
    paged_out: AtomicU64,
    /// The disk was full once, which costs history.
    was_full: AtomicBool,
}

impl World {
    fn options(&self) -> LocalOptions {
        let waiting_in_memory = self.in_memory.unwrap_or(options().waiting_in_memory);
        let options = LocalOptions { waiting_in_memory, ..options() };
        if self.is_short { LocalOptions { retention: Duration::ZERO, max_size: 6 * SEGMENT as u64, ..options } } else { options }
    }

    fn roll(&self, below: u32) -> u32 {
        self.rng.lock().random_range(0..below)
    }
}

/// A sender: accepts events, half of them under one of a few keys, and calls some off.
async fn sender(world: Arc<World>, store: Arc<SimStore>) {
    loop {
        let n = world.next.fetch_add(1, Ordering::Relaxed);
        let key = (world.roll(2) == 0).then(|| u8::try_from(world.roll(40)).unwrap());
        let ticket = store.accept(key.map_or_else(|| new(n), |key| keyed(n, key, 1_000_000)));
        if world.believes == Believes::QueuedRepeats && key.is_some() {
            // Somebody sends it again before its sync returned, and is told that it is stored.
            world.known.lock().kept.insert(n, None);
        }
        if world.roll(20) == 0 && ticket.cancel() {
            world.known.lock().void.insert(n);
            continue;
        }
        let outcome = ticket.await;
        world.known.lock().heard(n, key, outcome);
        if world.roll(4) == 0 {
            tokio::time::sleep(Duration::from_millis(u64::from(world.roll(50)))).await;
        }
    }
}

/// A relay: settles what is pending, one thing after the other.
async fn relay(world: Arc<World>, store: Arc<SimStore>) {
    loop {
        world.paged_out.fetch_max(store.paged_out(), Ordering::Relaxed);
        let newest = u32::try_from(*store.newest_position().borrow()).unwrap();
        let after = if world.in_memory.is_some() { u64::from(world.roll(newest.max(1))) } else { 0 };
        // What is not in memory may fail to be read.
        let pending = store.pending_after(after, 50).await.unwrap_or_default();
        if let Some(pending) = pending.get(usize::try_from(world.roll(50)).unwrap()) {
            let outcome = [OutcomeKind::Delivered, OutcomeKind::Retry, OutcomeKind::Rejected][usize::try_from(world.roll(3)).unwrap()];
            let settlement = settlement(pending, outcome);
            let state = settlement.state.clone();
            if state.is_final() {
                world.known.lock().ended.insert(pending.id.event);
            }
            let ticket = store.settle(settlement);
            if world.believes == Believes::QueuedSettlements {
                world.known.lock().settled.insert(pending.id, (pending.version + 1, state.clone()));
            }
            if ticket.await.is_ok() {
                world.known.lock().settled.insert(pending.id, (pending.version + 1, state));
            }
        }
        tokio::time::sleep(Duration::from_millis(u64::from(world.roll(if world.is_short { 3 } else { 20 })))).await;
    }
}

/// Somebody who reads at any moment, also while what is read goes: it is what was sent, or nothing.
async fn reader(world: Arc<World>, store: Arc<SimStore>) {
    loop {
        let last = world.next.load(Ordering::Relaxed);
        let n = last.saturating_sub(u64::from(world.roll(200)));
        let id = event(n).id;
        let is_kept = || {
            let known = world.known.lock();
            known.kept.contains_key(&n) && !known.ended.contains(&id)
        };
        let was_kept = is_kept();
        match store.event(id).await {
            Ok(Some(read)) => assert_eq!(read, event(n)),
            Ok(None) => assert!(!was_kept || !is_kept(), "event {n} is not found while it is kept"),
            Err(ReadError::Io(_)) => {}
            Err(ReadError::Damaged) => panic!("event {n} is read as damaged"),
        }
        if world.roll(4) == 0 {
            let settled = world.known.lock().settled.clone();
            if let Ok((items, _)) = store.list(&EventFilter::default(), None, 50).await {
                for delivery in items.into_iter().flat_map(|item| item.deliveries) {
                    let least = settled.get(&delivery.id).map_or(0, |(version, _)| *version);
                    assert!(delivery.version >= least, "{} is listed as it stood before", delivery.id);
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(u64::from(world.roll(100)))).await;
    }
}

/// An operator: sets states.
async fn operator(world: Arc<World>, store: Arc<SimStore>) {
    loop {
        let name = u8::try_from(world.roll(3)).unwrap();
        let value = world.next.fetch_add(1, Ordering::Relaxed);
        world.known.lock().states.entry(name).or_default().1.push(value);
        if store.set_state(format!("state-{name}"), Some(Bytes::from(value.to_string()))).await.is_ok() {
            world.known.lock().states.insert(name, (Some(value), Vec::new()));
        }
        tokio::time::sleep(Duration::from_millis(u64::from(world.roll(200)))).await;
    }
}

/// Reads again while the index is being made anew, which a failing one may need more than once.
pub(crate) async fn patiently<T>(read: impl AsyncFn() -> Result<T, ReadError>) -> T {
    for _ in 0..200 {
        match read().await {
            Ok(found) => return found,
            Err(ReadError::Io(_)) => tokio::time::sleep(Duration::from_secs(1)).await,
            Err(ReadError::Damaged) => panic!("damaged"),
        }
    }
    panic!("it can't be read");
}

/// Everything that was promised is there, nothing that was voided is, and what is pending can be delivered.
async fn check(world: &World, store: &SimStore) {
    let mut stored = BTreeMap::new();
    let mut before = None;
    loop {
        let (items, next) = patiently(async || store.list(&EventFilter::default(), before, 100).await).await;
        stored.extend(items.into_iter().map(|item| (item.event.id, item.deliveries)));
        before = next;
        if before.is_none() {
            break;
        }
    }
    let may_forget = world.is_short || world.was_full.load(Ordering::Relaxed);
    let (pending, ids, states) = {
        let known = world.known.lock();
        let ids = known.kept.keys().map(|n| (*n, event(*n).id)).filter(|(_, id)| !may_forget || !known.ended.contains(id));
        let ids: Vec<(u64, EventId)> = ids.collect();
        (known.compare(&stored, may_forget), ids, known.states.clone())
    };
    for (n, id) in ids.into_iter().filter(|(n, _)| n % 3 == 0) {
        assert_eq!(patiently(async || store.event(id).await).await, Some(event(n)));
    }
    let waiting = patiently(async || store.pending_after(0, usize::MAX).await).await;
    let counted = store.counts().get("erp").map_or((0, None), |count| (count.pending, count.oldest_pending));
    assert_eq!(counted, (waiting.len() as u64, waiting.first().map(|first| first.created_at)), "what waits is counted");
    assert_eq!(waiting.iter().map(|pending| pending.id).collect::<BTreeSet<_>>(), pending);
    assert!(waiting.is_sorted_by(|a, b| a.position < b.position));
    let found = store.states("").await.unwrap();
    for (name, (acknowledged, asked)) in states {
        let value = found.get(&format!("state-{name}")).map(|value| std::str::from_utf8(value).unwrap().parse().unwrap());
        let allowed = acknowledged.into_iter().chain(asked).map(Some).chain(acknowledged.is_none().then_some(None));
        assert!(allowed.clone().any(|allowed| allowed == value), "state {name}: {value:?}, not of {:?}", allowed.collect::<Vec<_>>());
    }
}

/// How a life goes wrong.
#[derive(Clone)]
struct Fate {
    faults: Faults,
    /// Somebody sets the clock by so many seconds in the middle of it.
    jump: i64,
    /// It ends by a clean stop.
    closes: bool,
}

/// Waits for ever, but for somebody who fell over what must not be.
async fn fallen(tasks: &mut tokio::task::JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            std::panic::resume_unwind(error.into_panic());
        }
    }
    std::future::pending().await
}

/// One life: senders, a relay and an operator until the disk freezes or the time is up.
async fn live(world: &Arc<World>, disk: &SimDisk, fate: Fate, seconds: u64) {
    let clock = SimClock::starting_at(0);
    let store = match open_at(disk, world.options(), clock.clone()).await {
        Ok(store) => store,
        Err(error) => panic!("{error}"),
    };
    check(world, &store).await;
    disk.set(fate.faults);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        tasks.spawn(sender(world.clone(), store.clone()));
    }
    tasks.spawn(relay(world.clone(), store.clone()));
    tasks.spawn(operator(world.clone(), store.clone()));
    tasks.spawn(reader(world.clone(), store.clone()));
    tasks.spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        clock.jump(fate.jump);
    });
    tokio::select! {
        biased;
        () = disk.frozen() => return,
        () = fallen(&mut tasks) => {}
        () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
    }
    if fate.closes {
        tasks.shutdown().await;
        disk.set(Faults { lie: disk.lie(), ..Faults::default() });
        store.close().await;
    }
}

/// Several lives of one store, each with some of the faults, each ended by a stop, a kill or a power cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lives {
    pub(crate) seed: u64,
    /// The disk and the index fail now and then.
    pub(crate) may_fail: bool,
    /// What is finished goes as soon as it may.
    pub(crate) is_short: bool,
    /// So few deliveries may wait in memory.
    pub(crate) in_memory: Option<usize>,
    /// A planted fault of the disk.
    pub(crate) lie: Option<Lie>,
    /// A planted fault of whoever asks.
    pub(crate) believes: Believes,
}

impl Lives {
    /// With nothing planted.
    pub(crate) fn of(seed: u64) -> Self {
        Self { seed, may_fail: false, is_short: false, in_memory: None, lie: None, believes: Believes::Tickets }
    }

    fn faults(self, world: &World, closes: bool) -> Faults {
        let some = |of: u32| (self.may_fail && world.roll(2) == 0).then_some(of);
        Faults {
            freezes_after: (!closes).then(|| u64::from(world.roll(700))),
            sync_fails: some(25),
            write_fails: some(25),
            // Not drawn: all else stays what it was for this seed.
            read_only_after: (self.may_fail && self.seed % 8 == 3).then_some(self.seed * 37 % 500),
            reads_fail: some(30),
            names_fail: some(10),
            sync_takes: Duration::from_millis(if world.roll(20) == 0 { 20_000 } else { u64::from(world.roll(3)) }),
            reads_stall: (world.roll(3) == 0).then_some(5),
            read_takes: Duration::from_millis([5, 2000][usize::try_from(world.roll(2)).unwrap()]),
            capacity: (world.roll(4) == 0).then(|| 64 * 1024 * u64::from(3 + world.roll(5))),
            lie: self.lie,
            ..Faults::default()
        }
    }

    /// Plays them; how many events were acknowledged and are held.
    pub(crate) fn play(self) -> u64 {
        self.play_paged().0
    }

    /// Plays them; how many events were acknowledged and are held, and how many deliveries were out of memory at most.
    pub(crate) fn play_paged(self) -> (u64, u64) {
        let world = self.played();
        (world.known.lock().kept.len() as u64, world.paged_out.load(Ordering::Relaxed))
    }

    fn played(self) -> Arc<World> {
        let disk = SimDisk::new(self.seed);
        let rng = Mutex::new(StdRng::seed_from_u64(self.seed ^ 0x5eed));
        let world = Arc::new(World {
            known: Mutex::default(),
            next: AtomicU64::new(0),
            rng,
            believes: self.believes,
            is_short: self.is_short,
            in_memory: self.in_memory,
            paged_out: AtomicU64::new(0),
            was_full: AtomicBool::new(false),
        });
        let calm = Faults { lie: self.lie, ..Faults::default() };
        for _ in 0..3 {
            let closes = world.roll(4) == 0;
            let faults = self.faults(&world, closes);
            world.was_full.fetch_or(faults.capacity.is_some(), Ordering::Relaxed);
            let jump = [0, 0, 40 * 86_400, -40 * 86_400][usize::try_from(world.roll(4)).unwrap()];
            disk.indexes.break_after((self.may_fail && world.roll(3) == 0).then(|| world.roll(200)));
            disk.set(calm.clone());
            run(live(&world, &disk, Fate { faults, jump, closes }, if closes { 1 } else { 30 }));
            disk.set(calm.clone());
            // Nothing, or the machine's end; and the index may be found gone or spoiled.
            if world.roll(4) > 1 {
                disk.cut_power();
            }
            match world.roll(6) {
                0 => disk.indexes.lose(),
                1 => disk.indexes.spoil(),
                _ => {}
            }
        }
        disk.indexes.break_after(None);
        run(async {
            let store = open_with(&disk, world.options()).await.unwrap();
            check(&world, &store).await;
            store.close().await;
        });
        world
    }
}

#[test]
fn a_kill_or_a_power_cut_at_any_moment_loses_nothing_acknowledged() {
    each_seed("cuts", |seed| Lives::of(seed).play());
}

#[test]
fn failing_disks_and_indexes_lose_nothing_acknowledged_and_bring_nothing_refused_back() {
    each_seed("fails", |seed| Lives { may_fail: true, ..Lives::of(seed) }.play());
}

#[test]
fn what_moves_out_of_old_segments_is_neither_lost_nor_undone() {
    each_seed("moves", |seed| Lives { may_fail: seed % 2 == 1, is_short: true, ..Lives::of(seed) }.play());
}
