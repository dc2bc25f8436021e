//! The only loop of the relay: reads what is pending, starts what may go, settles what has come back.
//!
//! It looks at the newest position before it reads a page, so no wake-up is lost, and it holds no more than
//! the named limits allow. Every `select!` is biased, so a simulation's trace repeats. Whatever goes wrong
//! around it (a store that can't commit or can't be read, a panic in an attempt) is tried again; only a stop
//! ends it.

mod settling;
mod stopping;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::select;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::attempt::{self, Ended, Tools};
use super::backlog::{Backlog, Page};
use super::commit::Committed;
use super::moment::Moment;
use super::notices::Notices;
use super::pause;
use super::pausing::{Change, Pausing};
use super::scheduler::Rules;
use super::unread::Unread;
use super::{Board, Parts, journey};
use crate::config::{self, Config, Live};
use crate::limits::Limiter;
use crate::model::{DeliveryId, Name, Timestamp};
use crate::store::{PendingDelivery, ReadError, Settled};
use crate::telemetry::Metrics;

/// Deliveries that are read from the store at a time.
const PAGE: usize = 1024;

/// Most deliveries held in memory, about 300 bytes each; every destination has an equal share of it, half for
/// live deliveries and half for replays.
const HELD_MAX: usize = 500_000;

/// Half the share of a destination lies between these: a few must not starve when there are many destinations,
/// and one needs no more than an hour of its work.
const HELD_PER_DESTINATION: std::ops::RangeInclusive<usize> = 512..=25_000;

/// Most deliveries that are remembered as having passed their `when`; beyond it all are asked anew.
const PASSED_MAX: usize = 10_000;

/// How long after a failed read the store is read again.
const READ_RETRY: Duration = Duration::from_secs(1);

/// The longest sleep. The boot clock counts while the machine is suspended and tokio's does not; this is how
/// late the relay can be for it.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// Retries that became due while nothing ran start within this time, spread, instead of all together: whoever
/// restarts a whole machine room must not be met by a storm. New deliveries go at once.
const RESTART_SPREAD_MAX: Duration = Duration::from_secs(30);

/// An attempt under way.
struct Flight {
    pending: PendingDelivery,
    destination: Arc<config::Destination>,
}

type Reading = Pin<Box<dyn Future<Output = (Page, Result<Vec<PendingDelivery>, ReadError>)> + Send>>;
type Committing = Pin<Box<dyn Future<Output = Committed> + Send>>;

/// The loop's state.
pub(super) struct Dispatcher {
    live: Live,
    /// The configuration that the loop works with; the newest as of the last change.
    config: Arc<Config>,
    changes: watch::Receiver<()>,
    /// Whether a change can still come: a closed channel would be ready for ever and keep the loop spinning.
    changes_open: bool,
    tools: Tools,
    settled: Settled,
    metrics: Arc<Metrics>,
    notices: Notices,
    rng: StdRng,
    /// When it began, by the wall clock.
    started_at: Timestamp,
    board: Arc<Mutex<Board>>,
    commands: mpsc::Receiver<Change>,
    commands_open: bool,
    stopped: oneshot::Receiver<Duration>,
    limiters: BTreeMap<Name, Arc<Limiter>>,
    backlog: Backlog,
    newest: watch::Receiver<u64>,
    newest_open: bool,
    /// The newest position when the configuration in force came.
    newest_at_reload: u64,
    reading: Option<Reading>,
    attempts: JoinSet<(Flight, Ended)>,
    /// The deliveries of `attempts`, for those that a stop gives up.
    in_flight: BTreeMap<DeliveryId, Arc<config::Destination>>,
    commits: FuturesUnordered<Committing>,
    /// How many of `commits` are of deliveries whose destination was removed.
    condemned: usize,
    pausing: Pausing,
    unread: Unread,
    /// What passed its `when` and came too early for the rate: that is asked before it starts again. Otherwise all that a
    /// destination may have in flight would be read and judged once more for each delivery that its rate allows.
    passed: BTreeSet<DeliveryId>,
}

impl Dispatcher {
    pub(super) fn new(
        parts: Parts,
        board: Arc<Mutex<Board>>,
        commands: mpsc::Receiver<Change>,
        stopped: oneshot::Receiver<Duration>,
    ) -> Self {
        let Parts { config: live, mut changes, store, settled, transport, jq, clock, metrics, notices, tokens, seed } = parts;
        changes.mark_unchanged();
        let started_at = clock.now();
        Self {
            config: live.load_full(),
            live,
            changes,
            changes_open: true,
            newest: store.newest_position(),
            newest_open: true,
            newest_at_reload: 0,
            tools: Tools { store, transport, jq, clock, tokens, batches: Arc::default() },
            settled,
            metrics,
            notices,
            rng: StdRng::seed_from_u64(seed),
            started_at,
            board,
            commands,
            commands_open: true,
            stopped,
            limiters: BTreeMap::new(),
            backlog: Backlog::default(),
            reading: None,
            attempts: JoinSet::new(),
            in_flight: BTreeMap::new(),
            commits: FuturesUnordered::new(),
            condemned: 0,
            pausing: Pausing::default(),
            unread: Unread::default(),
            passed: BTreeSet::new(),
        }
    }

    /// Runs until it is stopped.
    pub(super) async fn run(mut self) {
        let Some(()) = self.read_pauses().await else { return };
        self.configure();
        loop {
            self.start_attempts();
            self.settle_condemned();
            let (is_free, wake) = self.outlook();
            self.read_on(is_free);
            self.pausing.advance(&self.board.lock().pauses, &self.tools.store, &*self.tools.clock);
            select! {
                biased;
                grace = &mut self.stopped => match grace {
                    Ok(grace) => return self.drain(grace).await,
                    Err(_dropped) => return,
                },
                change = self.commands.recv(), if self.commands_open && self.pausing.has_room() => match change {
                    Some(change) => self.pausing.push(change),
                    None => self.commands_open = false,
                },
                changed = self.changes.changed(), if self.changes_open => {
                    self.changes_open = changed.is_ok();
                    self.configure();
                }
                changed = self.pausing.changed() => self.paused(changed),
                Some(committed) = self.commits.next() => {
                    self.committed(committed);
                    // Those of one batch become durable together; a round of the loop is more than what it does for one.
                    while let Some(Some(committed)) = self.commits.next().now_or_never() {
                        self.committed(committed);
                    }
                }
                (page, found) = read(&mut self.reading) => self.read(page, found),
                Some(ended) = self.attempts.join_next() => {
                    self.ended(ended);
                    while let Some(ended) = self.attempts.try_join_next() {
                        self.ended(ended);
                    }
                }
                changed = self.newest.changed(), if is_free && self.newest_open && self.reading.is_none() => self.newest_open = changed.is_ok(),
                () = sleep_until(wake) => {}
            }
        }
    }

    /// The durable pauses: before they are known nothing may start. None: stopped meanwhile.
    async fn read_pauses(&mut self) -> Option<()> {
        loop {
            let found = select! {
                biased;
                _ = &mut self.stopped => return None,
                found = self.tools.store.states(pause::PREFIX) => found,
            };
            match found {
                Ok(states) => {
                    self.board.lock().pauses = pause::read(&states, self.tools.clock.now());
                    return Some(());
                }
                Err(error) => tracing::error!(%error, "the pauses can't be read; nothing is delivered before they are"),
            }
            select! {
                biased;
                _ = &mut self.stopped => return None,
                () = sleep(READ_RETRY) => {}
            }
        }
    }

    /// Takes over the configuration in force. Queues, breakers, pauses and limiters of what stays, stay.
    fn configure(&mut self) {
        self.config = self.live.load_full();
        self.newest_at_reload = *self.newest.borrow();
        let share = held_max(self.config.destinations.len());
        let rules = |destination: &Arc<config::Destination>| Rules {
            concurrency: destination.concurrency,
            breaker: destination.breaker,
            held_max: share,
        };
        let rules: BTreeMap<Name, Rules> =
            self.config.destinations.iter().map(|(name, destination)| (name.clone(), rules(destination))).collect();
        let board = &mut *self.board.lock();
        let steps_out = |route: &Arc<config::Route>| Some((route.name.clone(), route.order_by.as_ref()?.failing.steps_out_after()?));
        board.throughput.retain(|name, _| self.config.destinations.contains_key(name));
        board.scheduler.configure(&rules, self.config.routes.iter().filter_map(steps_out).collect());
        for (name, _) in board.pauses.iter().filter(|(_, pauses)| pauses.current.is_some()) {
            board.scheduler.set_paused(name, true);
        }
        let limiters = std::mem::take(&mut self.limiters);
        let mut kept: BTreeMap<Name, Arc<Limiter>> = BTreeMap::new();
        for (name, limiter) in limiters {
            if self.config.destinations.get(&name).is_some_and(|destination| destination.rate == Some(limiter.rate())) {
                kept.insert(name, limiter);
            }
        }
        for (name, destination) in &self.config.destinations {
            if let Some(rate) = destination.rate {
                kept.entry(name.clone()).or_insert_with(|| Arc::new(Limiter::new(rate, self.tools.clock.clone())));
            }
        }
        self.limiters = kept;
    }

    fn start_attempts(&mut self) {
        let now = Moment::now(&*self.tools.clock);
        loop {
            let (config, limiters, passed) = (&self.config, &self.limiters, &self.passed);
            let admit = |pending: &PendingDelivery| match limiters.get(&pending.destination) {
                Some(limiter) if passed.contains(&pending.id) || !asks_later(config, pending) => limiter.check(),
                _ => Ok(()),
            };
            let Some(pending) = self.board.lock().scheduler.next(now, admit) else { return };
            self.start(pending);
        }
    }

    fn start(&mut self, pending: PendingDelivery) {
        // The scheduler starts nothing for a destination that is not in this very configuration.
        let Some(destination) = self.config.destinations.get(&pending.destination).cloned() else { return };
        if destination.retry.max_attempts.is_some_and(|most| pending.attempts >= most) {
            // An interrupted attempt counts, and a reload may have lowered the maximum.
            return self.exhausted(pending);
        }
        self.tools.store.attempt_begins(pending.id);
        self.in_flight.insert(pending.id, destination.clone());
        journey::attempt_begins(&pending);
        let overtaken = self.board.lock().scheduler.overtaken_by(&pending);
        let asks_later = !self.passed.contains(&pending.id) && asks_later(&self.config, &pending);
        let rate = self.limiters.get(&pending.destination).filter(|_| asks_later).cloned();
        let job = attempt::Job { config: self.config.clone(), destination: destination.clone(), pending: pending.clone(), overtaken, rate };
        let attempt = attempt::make(self.tools.clone(), job);
        self.attempts.spawn(async move { (Flight { pending, destination }, attempt.await) });
    }

    /// Asks for the next page, if none is being read. What is new stays unread while it could start nowhere: it would cost
    /// a round for each of the store's batches, and be one page later. Up to the last reload everything is read, since it
    /// may be of a destination that was removed.
    fn read_on(&mut self, is_free: bool) {
        if self.reading.is_some() {
            return;
        }
        let newest = *self.newest.borrow_and_update();
        let newest = if is_free { newest } else { newest.min(self.newest_at_reload) };
        let board = self.board.lock();
        let Some(page) = self.backlog.next_page(newest, |(name, kind)| board.scheduler.is_hungry(name, *kind)) else { return };
        let store = self.tools.store.clone();
        self.reading = Some(Box::pin(async move { (page, store.pending_after(page.after, PAGE).await) }));
    }

    fn read(&mut self, page: Page, found: Result<Vec<PendingDelivery>, ReadError>) {
        self.reading = None;
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "what is pending can't be read; trying again");
                let store = self.tools.store.clone();
                self.reading = Some(Box::pin(async move {
                    sleep(READ_RETRY).await;
                    (page, store.pending_after(page.after, PAGE).await)
                }));
                return;
            }
        };
        let unknown = Rules { concurrency: 1, breaker: config::Breaker::default(), held_max: *HELD_PER_DESTINATION.start() };
        let board = &mut *self.board.lock();
        let (config, clock, started_at, rng) = (&self.config, &*self.tools.clock, self.started_at, &mut self.rng);
        self.backlog.take(page, found, PAGE, |delivery| {
            let mut due = Moment::of_due(delivery.due, clock, gap_max(config, &delivery.destination));
            if delivery.attempts > 0 {
                due = due.after(spread(started_at.since(delivery.due), rng));
            }
            board.scheduler.insert(delivery, due, unknown)
        });
    }

    /// Whether something new could start now, and when to look again.
    fn outlook(&self) -> (bool, Instant) {
        let now = Moment::now(&*self.tools.clock);
        let (wake_at, free_at) = {
            let board = self.board.lock();
            (board.scheduler.wake_at(), board.scheduler.free_at())
        };
        let is_free = free_at.is_some_and(|free| now >= free);
        let wake_at = if is_free { wake_at } else { wake_at.into_iter().chain(free_at).min() };
        let wait = wake_at.map_or(SLEEP_MAX, |at| at.since(now));
        (is_free, Instant::now() + wait.min(SLEEP_MAX))
    }
}

/// Whether the attempt itself asks its destination's rate: where the event decides if it goes, it takes nothing before it
/// has, and where several travel in one request that takes one.
fn asks_later(config: &Config, pending: &PendingDelivery) -> bool {
    let together = config.destinations.get(&pending.destination).is_some_and(|destination| destination.target.takes_batches());
    together || config.delivery(&pending.route, &pending.destination).is_some_and(|deliver| deliver.when.is_some())
}

/// A destination's share of what is held.
fn held_max(destinations: usize) -> usize {
    (HELD_MAX / 2 / destinations.max(1)).clamp(*HELD_PER_DESTINATION.start(), *HELD_PER_DESTINATION.end())
}

/// A part of the time for which a retry was overdue at the start.
fn spread(overdue: Duration, rng: &mut StdRng) -> Duration {
    let most = overdue.min(RESTART_SPREAD_MAX);
    if most.is_zero() { most } else { rng.random_range(Duration::ZERO..=most) }
}

/// The longest gap between two attempts at this destination.
fn gap_max(config: &Config, destination: &Name) -> Duration {
    config.destinations.get(destination).map_or(Duration::ZERO, |destination| destination.retry.max.max(destination.retry.min))
}

/// Waits for the page that is being read; for ever when there is none.
async fn read(reading: &mut Option<Reading>) -> (Page, Result<Vec<PendingDelivery>, ReadError>) {
    match reading {
        Some(reading) => reading.await,
        None => std::future::pending().await,
    }
}
