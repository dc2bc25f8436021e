//! What outlives a reload: limiters as long as their rate stays the same, and the counters of each route.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use super::limits::{ADDRESSES_MAX, REFUSAL_LINES_PER_SECOND};
use super::origin::rate_key;
use crate::clock::Clock;
use crate::config::Route;
use crate::limits::{KeyedLimiter, Limiter};
use crate::model::{Name, Rate};
use crate::telemetry::{Counter, Metrics};

/// Names that are kept at a time; more than this many have come and gone by reloads, and all are made anew.
const ROUTES_MAX: usize = 20_000;

/// Limiters and counters.
pub(super) struct Standing {
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    addresses: Mutex<Option<Arc<KeyedLimiter<IpAddr>>>>,
    routes: RwLock<BTreeMap<Name, Arc<RouteStanding>>>,
    lines: Limiter,
}

/// What is counted for one route.
pub(super) struct RouteStanding {
    /// Counts commits.
    pub(super) accepted: Counter,
    /// Counts repeats.
    pub(super) repeated: Counter,
    limiter: Mutex<Option<Arc<Limiter>>>,
}

impl Standing {
    /// Nothing counted yet.
    pub(super) fn new(clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        let count = NonZeroU32::new(REFUSAL_LINES_PER_SECOND).unwrap_or(NonZeroU32::MIN);
        let lines = Limiter::new(Rate { count, per: Duration::from_secs(1) }, clock.clone());
        Self { clock, metrics, addresses: Mutex::default(), routes: RwLock::default(), lines }
    }

    /// Takes one of this address's requests.
    ///
    /// # Errors
    /// The time until it may send one again.
    pub(super) fn check_address(&self, rate: Option<Rate>, peer: IpAddr) -> Result<(), Duration> {
        let Some(rate) = rate else { return Ok(()) };
        let limiter = {
            let mut addresses = self.addresses.lock();
            let kept = addresses.take().filter(|limiter| limiter.rate() == rate);
            addresses.insert(kept.unwrap_or_else(|| Arc::new(KeyedLimiter::new(rate, ADDRESSES_MAX, self.clock.clone())))).clone()
        };
        limiter.check(&rate_key(peer))
    }

    /// Takes one of this route's requests.
    ///
    /// # Errors
    /// The time until it takes one again.
    pub(super) fn check_route(&self, route: &Route) -> Result<(), Duration> {
        let Some(rate) = route.rate else { return Ok(()) };
        let standing = self.route(&route.name);
        let limiter = {
            let mut limiter = standing.limiter.lock();
            let kept = limiter.take().filter(|limiter| limiter.rate() == rate);
            limiter.insert(kept.unwrap_or_else(|| Arc::new(Limiter::new(rate, self.clock.clone())))).clone()
        };
        limiter.check()
    }

    /// What is kept for a route.
    pub(super) fn route(&self, name: &Name) -> Arc<RouteStanding> {
        if let Some(standing) = self.routes.read().get(name) {
            return standing.clone();
        }
        let mut routes = self.routes.write();
        if routes.len() >= ROUTES_MAX {
            routes.clear();
        }
        let fresh = || {
            let (accepted, repeated) = (self.metrics.accepted(name), self.metrics.repeated(name));
            Arc::new(RouteStanding { accepted, repeated, limiter: Mutex::default() })
        };
        routes.entry(name.clone()).or_insert_with(fresh).clone()
    }

    /// Whether a line about a refusal may be logged now.
    pub(super) fn may_log(&self) -> bool {
        self.lines.check().is_ok()
    }
}
