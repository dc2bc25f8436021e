//! Every metric of Kurier, in the one file that names them.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
pub use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::model::{DestinationCounts, Name, OutcomeKind, StoreStats};

/// The route label of requests that matched no route.
pub const UNKNOWN_ROUTE: &str = "unknown";

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $word:literal,)+) => {
        /// Why a request was refused; the `reason` label of `kurier_requests_refused_total`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum RefusalReason { $($(#[$doc])* $variant,)+ }

        impl RefusalReason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The label's value.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }
    };
}

reasons! {
    /// 404: no route has this path.
    UnknownPath = "unknown_path",
    /// 405: the route does not take this method.
    Method = "method",
    /// 401: what should carry the signature or the credentials is not there.
    MissingHeader = "missing_header",
    /// 401: it is there and can't be read.
    Malformed = "malformed",
    /// 401: no key and candidate match, or the credentials are wrong.
    Mismatch = "mismatch",
    /// 401: the signature is right and too old, or from the future.
    Stale = "stale",
    /// 401: the request names a key that is not known.
    UnknownKey = "unknown_key",
    /// 503: the key can't be fetched.
    KeyFetch = "key_fetch",
    /// 401: the sender's address is not allowed.
    Address = "address",
    /// 413, 414, 431: more than the limits allow.
    TooLarge = "too_large",
    /// 408 or a close: slower than the time-outs allow.
    TooSlow = "too_slow",
    /// 400: not a request that can be kept byte for byte.
    BadRequest = "bad_request",
    /// 429: over the address's rate or the route's.
    Rate = "rate",
    /// 503: too many bytes in flight, or stopping.
    Overload = "overload",
    /// 503, or a close where the outcome can't be known: the store could not commit.
    Store = "store",
}

/// Labels: one or two configured names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Labels<const N: usize>([(&'static str, Name); N]);

impl<const N: usize> EncodeLabelSet for Labels<N> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (name, value) in &self.0 {
            (*name, &**value).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

use prometheus_client::encoding::EncodeLabel;

fn one(label: &'static str, value: &Name) -> Labels<1> {
    Labels([(label, value.clone())])
}

fn two(label: &'static str, value: &Name, other: &'static str, word: &'static str) -> Labels<2> {
    Labels([(label, value.clone()), (other, Name::from(word))])
}

fn seconds_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 2.0, 18))
}

/// What waits at one destination, as it is when the metrics are asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Backlog {
    /// What the store counts.
    pub count: DestinationCounts,
    /// The age of the oldest that is pending.
    pub age: Duration,
    /// When all of it will have ended; none: nobody can tell.
    pub drains_in: Option<Duration>,
    /// Whether the destination is paused.
    pub paused: bool,
}

/// The metrics of one running Kurier.
pub struct Metrics {
    registry: Registry,
    accepted: Family<Labels<1>, Counter>,
    repeated: Family<Labels<1>, Counter>,
    refused: Family<Labels<2>, Counter>,
    attempts: Family<Labels<2>, Counter>,
    attempt_seconds: Family<Labels<1>, Histogram, fn() -> Histogram>,
    pending: Family<Labels<1>, Gauge>,
    oldest_pending: Family<Labels<1>, Gauge>,
    dead: Family<Labels<1>, Gauge>,
    drains_in: Family<Labels<1>, Gauge<f64, AtomicU64>>,
    paused: Family<Labels<1>, Gauge>,
    commit_seconds: Histogram,
    store_bytes: Gauge,
    store_writable: Gauge,
    reloads: Family<Labels<1>, Counter>,
    kept: Family<Labels<1>, Gauge>,
    not_kept: Family<Labels<1>, Counter>,
    released: Family<Labels<1>, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Metrics that have counted nothing.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("kurier"),
            accepted: Family::default(),
            repeated: Family::default(),
            refused: Family::default(),
            attempts: Family::default(),
            attempt_seconds: Family::new_with_constructor(seconds_histogram),
            pending: Family::default(),
            oldest_pending: Family::default(),
            dead: Family::default(),
            drains_in: Family::default(),
            paused: Family::default(),
            commit_seconds: seconds_histogram(),
            store_bytes: Gauge::default(),
            store_writable: Gauge::default(),
            reloads: Family::default(),
            kept: Family::default(),
            not_kept: Family::default(),
            released: Family::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("events_accepted", "Events committed", self.accepted.clone());
        registry.register("events_repeated", "Requests recognised as repeats of a stored event", self.repeated.clone());
        registry.register("requests_refused", "Requests not answered with 2xx", self.refused.clone());
        registry.register("attempts", "Requests made to destinations", self.attempts.clone());
        registry.register_with_unit(
            "attempt_duration",
            "Time from an attempt's begin to its outcome",
            Unit::Seconds,
            self.attempt_seconds.clone(),
        );
        registry.register("pending_deliveries", "Deliveries that wait for an attempt", self.pending.clone());
        registry.register_with_unit("oldest_pending", "Age of the oldest pending delivery", Unit::Seconds, self.oldest_pending.clone());
        registry.register("dead_letters", "Dead letters in the store", self.dead.clone());
        registry.register("destination_paused", "1 while the destination is paused, else 0", self.paused.clone());
        registry.register_with_unit(
            "drain_estimate",
            "Time until nothing is pending at the pace of the last minute; +Inf while there is none",
            Unit::Seconds,
            self.drains_in.clone(),
        );
        registry.register_with_unit(
            "commit_duration",
            "Time from asking for a commit to its receipt",
            Unit::Seconds,
            self.commit_seconds.clone(),
        );
        registry.register_with_unit("store", "Size of the store on disk", Unit::Bytes, self.store_bytes.clone());
        registry.register("store_writable", "1 while commits succeed, else 0", self.store_writable.clone());
        registry.register("config_reloads", "Reloads of the configuration by result", self.reloads.clone());
        registry.register("refusals_kept", "Refused requests in quarantine", self.kept.clone());
        registry.register("refusals_dropped", "Refused requests that the quarantine could not take", self.not_kept.clone());
        registry.register("refusals_released", "Refused requests that became events after all", self.released.clone());
    }

    /// Makes every series of these routes and destinations exist, at 0.
    pub fn prepare<'a>(&self, routes: impl IntoIterator<Item = &'a Name>, destinations: impl IntoIterator<Item = &'a Name>) {
        for route in routes {
            drop(self.accepted(route));
            drop(self.repeated(route));
            for reason in RefusalReason::ALL {
                drop(self.refused(route, *reason));
            }
        }
        for destination in destinations {
            for outcome in OutcomeKind::ALL {
                drop(self.attempts.get_or_create_owned(&two("destination", destination, "outcome", outcome.word())));
            }
            drop(self.attempt_seconds.get_or_create_owned(&one("destination", destination)));
            self.pending.get_or_create(&one("destination", destination)).set(0);
            self.oldest_pending.get_or_create(&one("destination", destination)).set(0);
            self.dead.get_or_create(&one("destination", destination)).set(0);
            self.drains_in.get_or_create(&one("destination", destination)).set(0.0);
            self.paused.get_or_create(&one("destination", destination)).set(0);
        }
        for result in ["ok", "refused"] {
            drop(self.reloads.get_or_create_owned(&one("result", &Name::from(result))));
        }
    }

    /// The counter of events accepted by a route, to be kept by whoever counts often.
    pub fn accepted(&self, route: &Name) -> Counter {
        self.accepted.get_or_create_owned(&one("route", route))
    }

    /// The counter of repeats recognised by a route.
    pub fn repeated(&self, route: &Name) -> Counter {
        self.repeated.get_or_create_owned(&one("route", route))
    }

    /// The counter of requests to a route that were refused for this reason.
    pub fn refused(&self, route: &Name, reason: RefusalReason) -> Counter {
        self.refused.get_or_create_owned(&two("route", route, "reason", reason.word()))
    }

    /// Counts an attempt.
    pub fn attempted(&self, destination: &Name, outcome: OutcomeKind, took: Duration) {
        self.attempts.get_or_create(&two("destination", destination, "outcome", outcome.word())).inc();
        self.attempt_seconds.get_or_create(&one("destination", destination)).observe(took.as_secs_f64());
    }

    /// Counts a commit.
    pub fn committed(&self, took: Duration) {
        self.commit_seconds.observe(took.as_secs_f64());
    }

    /// How many refused requests of a route are in quarantine.
    pub fn refusals_kept(&self, route: &Name, count: usize) {
        self.kept.get_or_create(&one("route", route)).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// The counter of refused requests of a route that the quarantine could not take.
    pub fn refusals_dropped(&self, route: &Name) -> Counter {
        self.not_kept.get_or_create_owned(&one("route", route))
    }

    /// The counter of refused requests of a route that became events after all.
    pub fn refusals_released(&self, route: &Name) -> Counter {
        self.released.get_or_create_owned(&one("route", route))
    }

    /// Counts a reload.
    pub fn reloaded(&self, accepted: bool) {
        let result = Name::from(if accepted { "ok" } else { "refused" });
        self.reloads.get_or_create(&one("result", &result)).inc();
    }

    /// Everything as OpenMetrics text, with the gauges set from these figures, by destination.
    pub fn encode(&self, backlogs: &BTreeMap<Name, Backlog>, stats: &StoreStats) -> String {
        for (destination, Backlog { count, age, drains_in, paused }) in backlogs {
            let set = |family: &Family<Labels<1>, Gauge>, value: u64| {
                family.get_or_create(&one("destination", destination)).set(i64::try_from(value).unwrap_or(i64::MAX));
            };
            set(&self.pending, count.pending);
            set(&self.oldest_pending, age.as_secs());
            set(&self.dead, count.dead);
            set(&self.paused, u64::from(*paused));
            let seconds = drains_in.map_or(f64::INFINITY, |time| time.as_secs_f64());
            self.drains_in.get_or_create(&one("destination", destination)).set(seconds);
        }
        self.store_bytes.set(i64::try_from(stats.bytes).unwrap_or(i64::MAX));
        self.store_writable.set(i64::from(stats.unwritable.is_none()));
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            // Writing to a String can't fail; a collector that errs would leave a partial page.
            text.clear();
            text.push_str("# EOF\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_of_a_configured_name_exists_from_the_start_at_0() {
        let metrics = Metrics::new();
        metrics.prepare([&Name::from("invoices")], [&Name::from("erp")]);
        let text = metrics.encode(&BTreeMap::new(), &StoreStats::default());
        for line in [
            "kurier_events_accepted_total{route=\"invoices\"} 0",
            "kurier_requests_refused_total{route=\"invoices\",reason=\"mismatch\"} 0",
            "kurier_attempts_total{destination=\"erp\",outcome=\"retry\"} 0",
            "kurier_pending_deliveries{destination=\"erp\"} 0",
            "kurier_oldest_pending_seconds{destination=\"erp\"} 0",
            "kurier_dead_letters{destination=\"erp\"} 0",
            "kurier_drain_estimate_seconds{destination=\"erp\"} 0",
            "kurier_destination_paused{destination=\"erp\"} 0",
            "kurier_commit_duration_seconds_count 0",
            "kurier_store_bytes 0",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
