//! Plays a day: once to count its points, and once for each way to end at each of them.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kurier::clock::Clock as _;
use kurier::model::Timestamp;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;

use super::fuse::{Fuse, Side};
use super::life::{Life, Plan};
use super::net::World;
use crate::store::sim_disk::SimDisk;

/// When every day begins: 2026-03-01, noon.
pub(super) const START: Timestamp = Timestamp::from_millis(1_772_366_400_000);

/// Within this time everything is settled, whatever happened before.
const QUIET_WITHIN: Duration = Duration::from_secs(3 * 3600);

/// How soon it is looked whether all is quiet, and how late.
const LOOK_FIRST: Duration = Duration::from_millis(200);
const LOOK_LAST: Duration = Duration::from_secs(10);

/// How long after a process died the next one starts.
const REST: Duration = Duration::from_secs(3);

/// The day of one system, and what has happened in it: it outlives the processes.
pub(super) trait Day: Send + Sync + 'static {
    /// The routes and destinations.
    fn routes(&self) -> String;

    /// The remote systems.
    fn world(&self) -> World;

    /// Whether its systems may fail by now.
    fn is_begun(&self) -> bool {
        true
    }

    /// The time at which a request is about to be made.
    fn at(&self, _now: Timestamp) {}

    /// What people and senders do; a later process goes on where the one before ended.
    async fn act(&self, life: &Life);

    /// Whether nothing is to come any more, beside what is pending.
    async fn is_over(&self, life: &Life) -> bool;

    /// Holds what came of it against what had to come.
    async fn check(&self, life: &Life, end: Option<&Ended>);
}

/// How the first process ended.
pub(super) struct Ended {
    side: Side,
    /// The points that it had passed; the last one is where it ended.
    passed: Vec<String>,
}

impl Ended {
    /// How many syncs were done since a request to this path was last made.
    pub(super) fn syncs_since(&self, path: &str) -> usize {
        let done = if self.side == Side::Before { self.passed.len() - 1 } else { self.passed.len() };
        let last = self.passed.iter().rposition(|point| point.contains(path)).map_or(0, |at| at + 1);
        self.passed[last.min(done)..done].iter().filter(|point| point.starts_with("sync ")).count()
    }
}

/// Steps of a day that are done: what was answered once is not asked again.
#[derive(Default)]
pub(super) struct Steps(Mutex<BTreeSet<String>>);

impl Steps {
    /// Does it, unless that is done.
    pub(super) async fn once(&self, name: &str, work: impl Future<Output = ()>) {
        if !self.is_done(name) {
            work.await;
            self.0.lock().insert(name.to_owned());
        }
    }

    pub(super) fn is_done(&self, name: &str) -> bool {
        self.0.lock().contains(name)
    }
}

fn machine() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn run<T>(life: impl Future<Output = T>) -> T {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(life)
}

/// Acts, and waits until all is quiet.
pub(super) async fn whole<D: Day>(day: &D, life: &Life) {
    day.act(life).await;
    let deadline = life.clock.now().saturating_add(QUIET_WITHIN);
    let mut look = LOOK_FIRST;
    while !day.is_over(life).await || life.pending() > 0 {
        assert!(life.clock.now() < deadline, "{} pending: {:?}", life.pending(), life.relay.destinations());
        sleep(look).await;
        look = (look * 2).min(LOOK_LAST);
    }
}

fn plan<'a, D: Day>(day: &Arc<D>, routes: &'a str, world: &'a World, disk: &'a SimDisk, fuse: &'a Fuse) -> Plan<'a> {
    let told = day.clone();
    Plan { routes, world, disk, fuse, now: START, seed: 1, at: Arc::new(move |now| told.at(now)) }
}

/// One process that lives for a whole day, or for many: `live` says what happens in it.
pub(super) fn one<D: Day, F: Future<Output = D>>(
    now: Timestamp,
    begin: impl Fn() -> F,
    configure: impl Fn(String) -> String,
    live: impl AsyncFnOnce(&D, &Life, &World),
) {
    let machine = machine();
    let day = Arc::new(machine.block_on(begin()));
    let (routes, world, disk, fuse) = (configure(day.routes()), day.world(), SimDisk::new(1), Fuse::default());
    run(async {
        let life = Life::start(Plan { now, ..plan(&day, &routes, &world, &disk, &fuse) }).await;
        live(&day, &life, &world).await;
    });
}

/// Two processes, the first of which is stopped in order within this time.
pub(super) fn stopped<D: Day, F: Future<Output = D>>(
    begin: impl Fn() -> F,
    grace: Duration,
    first: impl AsyncFnOnce(&D, &Life, &World),
    second: impl AsyncFnOnce(&D, &Life, &World),
) {
    let machine = machine();
    let day = Arc::new(machine.block_on(begin()));
    let (routes, world, disk, fuse) = (day.routes(), day.world(), SimDisk::new(1), Fuse::default());
    let now = run(async {
        let life = Life::start(plan(&day, &routes, &world, &disk, &fuse)).await;
        first(&day, &life, &world).await;
        let clock = life.clock.clone();
        life.stop(grace).await;
        clock.now()
    });
    run(async {
        let life = Life::start(Plan { now, ..plan(&day, &routes, &world, &disk, &fuse) }).await;
        second(&day, &life, &world).await;
    });
}

/// Plays it, with an end at a point; the points that the first process passed.
fn play<D: Day, F: Future<Output = D>>(begin: &impl Fn() -> F, at: Option<(usize, Side, bool)>) -> Vec<String> {
    let machine = machine();
    let day = Arc::new(machine.block_on(begin()));
    let (routes, world, disk) = (day.routes(), day.world(), SimDisk::new(at.map_or(1, |(point, ..)| point as u64)));
    let fuse = at.map_or_else(Fuse::default, |(point, side, _)| Fuse::at(point, side));
    let died = run(async {
        let clock = kurier::clock::TokioClock::starting_at(START);
        let living = async {
            let life = Life::start(plan(&day, &routes, &world, &disk, &fuse)).await;
            whole(&*day, &life).await;
            day.check(&life, None).await;
        };
        tokio::select! {
            biased;
            () = fuse.blown() => Some(clock.now()),
            () = living => None,
        }
    });
    let passed = fuse.passed();
    let (Some((_, side, cut)), Some(now)) = (at, died) else { return passed };
    if cut {
        disk.cut_power();
    }
    let ended = Ended { side, passed: passed.clone() };
    let fuse = Fuse::default();
    run(async {
        let plan = Plan { now: now.saturating_add(REST), seed: 2, ..plan(&day, &routes, &world, &disk, &fuse) };
        let life = Life::start(plan).await;
        whole(&*day, &life).await;
        day.check(&life, Some(&ended)).await;
    });
    passed
}

/// The ways to end at a point, and whether by a power cut. Just before a request a process is as it was just after the
/// point before; just after a sync a power cut leaves what a kill leaves.
fn ends_at(point: &str) -> Vec<(Side, bool)> {
    if point.starts_with("sync ") {
        vec![(Side::Before, false), (Side::Before, true), (Side::After, false)]
    } else {
        vec![(Side::After, false), (Side::After, true)]
    }
}

/// Every end of a process at every point of a day. `least` points there must be, of which each of `named` is one.
pub(super) fn every_point<D: Day, F: Future<Output = D>>(name: &str, least: usize, named: &[&str], begin: impl Fn() -> F) {
    let begun = std::time::Instant::now();
    let points = play(&begin, None);
    let requests = points.iter().filter(|point| !point.starts_with("sync ")).count();
    assert!(points.len() - requests >= least, "only {} syncs: {points:#?}", points.len() - requests);
    for named in named {
        assert!(points.iter().any(|point| point.contains(named)), "no {named} among {points:#?}");
    }
    let mut plays = 0;
    for (at, what) in points.iter().enumerate() {
        for (side, cut) in ends_at(what) {
            let how = format!("{name}: point {} of {}, {what}, {side:?}, power cut: {cut}", at + 1, points.len());
            let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| play(&begin, Some((at + 1, side, cut)))));
            if let Err(panic) = played {
                eprintln!("{how}");
                std::panic::resume_unwind(panic);
            }
            plays += 1;
        }
    }
    let (syncs, seconds) = (points.len() - requests, begun.elapsed().as_secs_f32());
    eprintln!("{name}: {syncs} syncs and {requests} requests, {plays} ends of a process, {seconds:.1} s");
}
