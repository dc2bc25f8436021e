//! Events that are fetched: each route with a `pull` asks its source again and again.
//!
//! One poll at a time of each route, of all processes on the same store: whoever polls holds a lease. What a poll brings
//! is accepted like a request, so a repeat is known by its key; only then does the cursor move on. A source that refuses
//! us is left alone until an operator resumes `<route>:pull`.

mod bankintegration;
mod dvelop;
mod known;
mod smartbusiness;
mod source;
mod standing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::accept::{Acceptor, IdSource};
use crate::clock::Clock;
use crate::config::{Config, Destination, Live, Pull, Retry, Route, Source, pull_name};
use crate::connectors::{Outcome, Verdict};
use crate::egress::Transport;
use crate::model::{Name, OutcomeKind};
use crate::store::Store;
use crate::telemetry::Metrics;
use crate::tokens::Tokens;
use source::Asking;
use standing::Standing;

/// How often a source that is paused, or that another process polls, is looked at again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the relay knows of `<route>:pull`.
#[async_trait]
pub trait Gate: Send + Sync + 'static {
    /// Whether it is to be left alone.
    fn is_paused(&self, name: &Name) -> bool;

    /// Leaves it alone from now on, and tells the operator why; `renew`: a person has to authorize again.
    async fn pause(&self, name: &Name, reason: &str, renew: bool);
}

/// What it works with.
pub struct Parts {
    /// The configuration in force.
    pub config: Live,
    /// Says that it was swapped.
    pub changes: watch::Receiver<()>,
    /// Where events and cursors are kept.
    pub store: Arc<dyn Store>,
    /// Makes the requests; reads long answers.
    pub transport: Arc<dyn Transport>,
    /// Access tokens.
    pub tokens: Tokens,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Counts polls.
    pub metrics: Arc<Metrics>,
    /// Where ids come from.
    pub ids: IdSource,
    /// Who pauses.
    pub gate: Arc<dyn Gate>,
    /// The seed of the jitter; a simulation repeats it.
    pub seed: u64,
}

/// What all polls share.
struct Shared {
    store: Arc<dyn Store>,
    transport: Arc<dyn Transport>,
    tokens: Tokens,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    acceptor: Acceptor,
    ids: IdSource,
    gate: Arc<dyn Gate>,
    /// Who holds this process's leases.
    holder: u128,
    /// When each route is polled next; a reload changes nothing about it.
    next: Mutex<BTreeMap<Name, Instant>>,
    rng: Mutex<StdRng>,
}

/// Polls for ever. Dropped, it ends at once, as in a crash: nothing is lost by that.
pub async fn run(parts: Parts) {
    let Parts { config: live, mut changes, store, transport, tokens, clock, metrics, ids, gate, seed } = parts;
    let acceptor = Acceptor::new(store.clone(), clock.clone(), ids.clone());
    let (holder, next, rng) = (rand::random(), Mutex::default(), Mutex::new(StdRng::seed_from_u64(seed)));
    let shared = Arc::new(Shared { store, transport, tokens, clock, metrics, acceptor, ids, gate, holder, next, rng });
    loop {
        let config = live.load_full();
        let mut polling = JoinSet::new();
        for route in &config.routes {
            let Some(pull) = route.pull.clone() else { continue };
            let Some(destination) = config.destinations.get(&pull_name(&route.name)).cloned() else { continue };
            polling.spawn(Poller { shared: shared.clone(), config: config.clone(), route: route.clone(), destination, pull }.run());
        }
        if changes.changed().await.is_err() {
            // Nothing changes any more; what is polled goes on.
            while polling.join_next().await.is_some() {}
            std::future::pending::<()>().await;
        }
    }
}

/// One route's polls.
struct Poller {
    shared: Arc<Shared>,
    config: Arc<Config>,
    route: Arc<Route>,
    destination: Arc<Destination>,
    pull: Arc<Pull>,
}

impl Poller {
    async fn run(self) {
        let shared = &*self.shared;
        let name = &self.destination.name;
        let mut standing = Standing::read(&*shared.store, &self.route.name).await;
        loop {
            let next = shared.next.lock().get(name).copied().unwrap_or_else(Instant::now);
            sleep_until(next).await;
            if shared.gate.is_paused(name) {
                sleep(LOOK_EVERY).await;
                continue;
            }
            let asking = Asking::new(shared, &self.route, &self.destination);
            match asking.holds_lease().await {
                Ok(true) => {}
                Ok(false) | Err(_) => {
                    sleep(LOOK_EVERY).await;
                    continue;
                }
            }
            let (begun, started) = (Instant::now(), shared.clock.boot());
            let outcome = self.poll(&asking, &mut standing).await;
            let took = shared.clock.boot().saturating_sub(started);
            let wait = self.conclude(outcome, took, &mut standing).await;
            shared.next.lock().insert(name.clone(), begun + wait);
        }
    }

    async fn poll(&self, asking: &Asking<'_>, standing: &mut Standing) -> Result<(), Outcome> {
        match &self.pull.source {
            Source::Dvelop(settings) => dvelop::poll(asking, settings).await,
            Source::BankIntegration { settings, report } => bankintegration::poll(asking, settings, *report, standing).await,
            Source::SmartBusiness(settings) => smartbusiness::poll(asking, settings).await,
        }
    }

    /// What a poll came to, for everybody to see; how long after its beginning the next one begins.
    async fn conclude(&self, outcome: Result<(), Outcome>, took: Duration, standing: &mut Standing) -> Duration {
        let (shared, name) = (&*self.shared, &self.destination.name);
        let (kind, wait) = match outcome {
            Ok(()) => {
                standing.succeeded(shared.clock.now());
                (OutcomeKind::Delivered, self.pull.every)
            }
            Err(Outcome { verdict, reason }) => {
                let failures = standing.failed(&reason);
                match verdict {
                    Verdict::Pause | Verdict::Reauthorize => {
                        shared.gate.pause(name, &reason, verdict == Verdict::Reauthorize).await;
                        (OutcomeKind::Retry, self.pull.every)
                    }
                    Verdict::Retry { after } => {
                        let gap = after.unwrap_or_else(|| gap(&self.destination.retry, failures, &mut shared.rng.lock()));
                        (OutcomeKind::Retry, took.saturating_add(gap.clamp(self.destination.retry.min, self.destination.retry.max)))
                    }
                    Verdict::Delivered | Verdict::Rejected => (OutcomeKind::Rejected, self.pull.every),
                }
            }
        };
        if kind == OutcomeKind::Delivered {
            tracing::debug!(route.name = %self.route.name, "{} was polled", self.route.name);
        } else {
            tracing::warn!(route.name = %self.route.name, reason = standing.last_error(), "a poll of {} failed", self.route.name);
        }
        shared.metrics.attempted(name, kind, took);
        standing.write(&*shared.store, &self.route.name).await;
        // Its own configuration may be that of before a reload; the next poll takes the newer one.
        debug_assert!(self.config.destinations.contains_key(name), "a poller's destination stands in its configuration");
        wait
    }
}

/// The gap after so many failures in a row, with jitter.
fn gap(retry: &Retry, failures: u32, rng: &mut StdRng) -> Duration {
    let factor = retry.factor.powi(i32::try_from(failures.saturating_sub(1).min(64)).unwrap_or(64));
    let most = Duration::try_from_secs_f64(retry.first.as_secs_f64() * factor).unwrap_or(retry.max).min(retry.max);
    if most.is_zero() { retry.min } else { rng.random_range(Duration::ZERO..=most) }
}
