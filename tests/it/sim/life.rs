//! One seed: a disk, several lives on it, and at the end a life in which nothing fails.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use kurier::accept::{Acceptor, IdSource};
use kurier::app::{Common, Outside, Roads};
use kurier::clock::{Calendar, Clock};
use kurier::config::{Config, Live};
use kurier::ingress::{self, Ingress};
use kurier::model::Timestamp;
use kurier::orders::Orders;
use kurier::store::local::{LocalOptions, LocalStore, Run, Seams};
use kurier::store::{NewDelivery, Settled, Store};
use kurier::telemetry::Metrics;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::audit;
use super::downstream::{Downstream, InProcess, Mood};
use super::ledger::{FETCHED, Ledger};
use super::people::{DAY, Life};
use super::plan::{DESTINATIONS, SHOP, Variant};
use super::systems::Systems;
use crate::store::sim::{SEGMENT, SimClock, patiently};
use crate::store::sim_disk::{Faults, SimDisk};

/// When every seed begins.
const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// How many lives end badly before the one that ends well.
const LIVES: u32 = 3;

/// Within this time after all faults have stopped everything must be settled (I6).
const SETTLED_WITHIN: Duration = Duration::from_secs(3600);

/// What outlives a process.
pub(super) struct World {
    pub(super) ledger: Mutex<Ledger>,
    pub(super) systems: Mutex<Systems>,
    pub(super) moods: Mutex<BTreeMap<String, Mood>>,
    rng: Mutex<StdRng>,
    next: AtomicU64,
    live: Live,
    changes: watch::Sender<()>,
    /// What was violated first, where no panic could tell it.
    violation: Mutex<Option<String>>,
}

impl World {
    /// Holds something against the ledger, where a panic would be caught by the system itself.
    pub(super) fn holds(&self, look: impl FnOnce(&mut Ledger)) {
        self.keeps(|| look(&mut self.ledger.lock()));
    }

    /// The same against what the systems know.
    pub(super) fn holds_systems(&self, look: impl FnOnce(&mut Systems)) {
        self.keeps(|| look(&mut self.systems.lock()));
    }

    fn keeps(&self, look: impl FnOnce()) {
        let held = catch_unwind(AssertUnwindSafe(look));
        if let Err(panic) = held {
            let words = panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "a panic without words".to_owned());
            self.violation.lock().get_or_insert(words);
        }
    }

    fn assert_unviolated(&self) {
        let violation = self.violation.lock().take();
        assert_eq!(violation, None);
    }

    /// A number below this one.
    pub(super) fn roll(&self, below: u32) -> u32 {
        self.rng.lock().random_range(0..below)
    }

    pub(super) fn config(&self) -> Arc<Config> {
        self.live.load_full()
    }

    /// A fresh item.
    pub(super) fn next(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// As the admin side does it: the report that a last settlement brings along.
    pub(super) fn acknowledgement(&self, route: &str, due: Timestamp) -> Option<NewDelivery> {
        let destination = self.live.load().acknowledgement(route)?;
        Some(NewDelivery { destination, lane: None, due })
    }

    pub(super) fn reload(&self, variant: Variant, now: Timestamp) {
        let mut ledger = self.ledger.lock();
        ledger.variant = Some((variant, now));
        ledger.was_removed |= variant == Variant::WithoutD2;
        self.live.store(variant.shared());
        self.changes.send_replace(());
    }
}

/// How a life ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Stop,
    Kill,
    PowerCut,
}

fn run<T>(life: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(life)
}

/// What came of a seed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Played {
    /// The number of everything that happened.
    trace: u64,
    /// How many items were answered 2xx.
    pub(super) held: u64,
}

/// Plays a seed.
pub(super) fn lives(seed: u64) -> Played {
    let disk = SimDisk::new(seed);
    let world = Arc::new(World {
        ledger: Mutex::default(),
        systems: Mutex::default(),
        moods: Mutex::default(),
        rng: Mutex::new(StdRng::seed_from_u64(seed ^ 0x5eed)),
        next: AtomicU64::new(1),
        live: Arc::new(ArcSwap::new(Variant::Usual.shared())),
        changes: watch::Sender::new(()),
        violation: Mutex::default(),
    });
    world.reload(Variant::Usual, START);
    let mut now = START;
    for life in 0..LIVES {
        let end = [End::Stop, End::Kill, End::PowerCut][world.roll(3) as usize];
        now = run(live(world.clone(), disk.clone(), now, seed << 8 | u64::from(life), end));
        world.assert_unviolated();
        disk.set(Faults::default());
        if end == End::PowerCut {
            disk.cut_power();
        }
        match world.roll(6) {
            0 => disk.indexes.lose(),
            1 => disk.indexes.spoil(),
            2 => disk.indexes.break_after(Some(world.roll(100))),
            _ => {}
        }
        // Nobody is there for a while.
        now = now.saturating_add(Duration::from_secs(u64::from(world.roll(600))));
    }
    run(last(world.clone(), disk, now, seed << 8 | 0xff));
    world.assert_unviolated();
    let ledger = world.ledger.lock();
    assert!(ledger.items.range(FETCHED..).next().is_some(), "a seed in which nothing is fetched shows less");
    assert!(ledger.items.len() > 3 && !ledger.told.is_empty(), "a seed in which nothing happens shows nothing");
    Played { trace: ledger.trace(), held: ledger.items.values().filter(|item| item.kept).count() as u64 }
}

/// A process: its store is recovered and audited, then everything starts.
async fn start(world: &Arc<World>, disk: &SimDisk, now: Timestamp, seed: u64) -> (Roads, Arc<AtomicBool>, Life) {
    let wall = SimClock::showing(now);
    let number = i64::try_from(seed & 0xff).unwrap();
    if number > 0 && world.roll(6) == 0 {
        // The machine starts with a wrong date, perhaps with the same one again; the first time nothing is there to tell.
        wall.jump([-400 * DAY, -3 * DAY, 7 * DAY, 100 * number * DAY][world.roll(4) as usize]);
    }
    let (truth, clock): (Arc<dyn Clock>, Arc<dyn Clock>) = (Arc::new(wall.truth()), Arc::new(Calendar::new(wall.clone())));
    world.ledger.lock().begin_life(now);
    let random = {
        let disk = disk.clone();
        Arc::new(move || disk.nonce())
    };
    let seams = Seams { disk: disk.clone(), indexes: Arc::new(disk.indexes.clone()), run: Run::Tasks, random };
    let options = LocalOptions { segment_bytes: SEGMENT, ..LocalOptions::new("/store") };
    let store = match LocalStore::open_on(seams, options, clock.clone(), None).await {
        Ok(store) => Arc::new(store),
        Err(error) => panic!("{error}"),
    };
    audit::check(world, &*store, false).await;
    if seed & 0xff == 0 {
        // Where this store's ids of orders begin; else they would be others each time.
        let begin = format!("{{\"next\":0,\"offset\":{seed}}}");
        store.set_state("inpasy-ids".to_owned(), Some(begin.into())).await.unwrap();
    }
    let transport = Arc::new(Downstream { world: world.clone(), clock: truth.clone() });
    let common = Common {
        config: world.live.clone(),
        changes: world.changes.subscribe(),
        store: store.clone(),
        settled: Settled::default(),
        clock: clock.clone(),
        metrics: Arc::new(Metrics::new()),
        ids: IdSource::seeded(seed),
    };
    let outside = Outside { transport: transport.clone(), fetching: transport, jq: Arc::new(InProcess), seed };
    let mut roads = Roads::start(common.clone(), outside);
    let orders =
        Orders::new(store.clone(), roads.fetching(), clock.clone(), Acceptor::new(store.clone(), clock.clone(), common.ids.clone()));
    roads.follow(orders.clone().expire(world.live.clone()));
    let stopping = Arc::new(AtomicBool::new(false));
    let ingress = Ingress::new(ingress::Parts {
        config: world.live.clone(),
        store: store.clone(),
        settled: common.settled,
        clock: clock.clone(),
        metrics: common.metrics,
        keys: Arc::new(kurier::signature::NoKeys),
        orders: orders.clone(),
        quarantine: crate::ingress::quarantine(),
        tokens: roads.tokens(),
        ids: common.ids,
        stopping: stopping.clone(),
    });
    let life = Life { world: world.clone(), ingress, store, relay: roads.relay(), orders, clock: truth, wall };
    (roads, stopping, life)
}

/// Everybody at work, until this is dropped.
fn people(life: &Life) -> JoinSet<()> {
    let mut people = JoinSet::new();
    for lane in 0..2 {
        people.spawn(life.clone().lane("blocks", lane));
        people.spawn(life.clone().lane("parks", lane));
    }
    people.spawn(life.clone().free());
    people.spawn(life.clone().reported());
    people.spawn(life.clone().offers());
    people.spawn(life.clone().buys());
    people.spawn(life.clone().pays());
    people.spawn(life.clone().operator());
    people.spawn(life.clone().weather());
    people
}

/// A life with faults; returns when it ended.
async fn live(world: Arc<World>, disk: SimDisk, now: Timestamp, seed: u64, end: End) -> Timestamp {
    let (roads, stopping, life) = start(&world, &disk, now, seed).await;
    let some = |fault: u32| (world.roll(3) == 0).then_some(fault);
    let faults = Faults {
        sync_fails: some(40),
        write_fails: some(40),
        names_fail: some(20),
        capacity: (world.roll(4) == 0).then(|| SEGMENT as u64 * u64::from(3 + world.roll(3))),
        sync_takes: Duration::from_millis(u64::from(world.roll(8))),
        freezes_after: (end != End::Stop && world.roll(2) == 0).then(|| u64::from(world.roll(2000))),
        ..Faults::default()
    };
    world.ledger.lock().was_full |= faults.capacity.is_some();
    disk.set(faults);
    let _people = people(&life);
    tokio::select! {
        biased;
        () = disk.frozen() => {}
        () = sleep(Duration::from_secs(5 + u64::from(world.roll(30)))) => {}
    }
    if end == End::Stop {
        stopping.store(true, Ordering::Release);
        roads.stop(Duration::from_secs(5)).await;
        life.store.close().await;
    }
    life.clock.now()
}

/// Orders that wait for their callbacks, or for their end.
async fn open_orders(store: &dyn Store) -> usize {
    let orders = patiently(async || store.states("inpasy/").await).await;
    orders.values().filter(|order| String::from_utf8_lossy(order).contains("open")).count()
}

/// The life in which nothing fails any more: everything is settled in time (I6), and all of it is audited.
async fn last(world: Arc<World>, disk: SimDisk, now: Timestamp, seed: u64) {
    let (roads, _, life) = start(&world, &disk, now, seed).await;
    let people = people(&life);
    sleep(Duration::from_secs(15)).await;
    drop(people);
    life.wall.right();
    world.moods.lock().clear();
    world.reload(Variant::Usual, life.clock.now());
    let (deadline, walks) = (now.saturating_add(SETTLED_WITHIN), world.systems.lock().walks);
    loop {
        for destination in DESTINATIONS.into_iter().chain([SHOP, "fetched:pull"]) {
            // A destination may have said 410 just before it got well.
            if life.relay.destinations().iter().any(|status| *status.name == *destination && status.paused.is_some()) {
                life.resume(destination).await;
            }
        }
        let pending: u64 = life.store.counts().values().map(|count| count.pending).sum();
        // A walk may have begun before all of them waited; the one after it has met all.
        let fetched = world.systems.lock().walks > walks + 1;
        let open = open_orders(&*life.store).await;
        if pending == 0 && fetched && open == 0 {
            break;
        }
        assert!(
            life.clock.now() < deadline,
            "I6: {pending} still pending, {open} orders open, all fetched: {fetched}: {:?}",
            life.relay.destinations()
        );
        sleep(Duration::from_secs(1)).await;
    }
    audit::check(&world, &*life.store, true).await;
    world.systems.lock().assert_ended();
    roads.stop(Duration::from_secs(5)).await;
    life.store.close().await;
}
