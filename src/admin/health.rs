//! Whether the process lives, whether it can take events, and what it has counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use parking_lot::Mutex;

use super::{Parts, answer};
use crate::config::Config;
use crate::model::Name;
use crate::telemetry::Backlog;

const PLAIN: &str = "text/plain; charset=utf-8";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Destinations that metrics have shown. A gauge keeps its value until it is set again, so one whose
/// destination has gone must still be set to 0. Bounded by the names that were ever configured.
#[derive(Default)]
pub(super) struct Shown(Mutex<BTreeSet<Name>>);

const RELAY_ENDED: &str = "the relay's loop has ended: restart kurier, nothing is lost\n";

/// Not alive once nothing would ever be delivered: whoever asks can only restart the process.
pub(super) fn live(parts: &Parts) -> Response<Full<Bytes>> {
    if parts.destinations.is_running() || parts.stopping.load(Ordering::Acquire) {
        answer::text(StatusCode::OK, PLAIN, "ok\n")
    } else {
        answer::text(StatusCode::SERVICE_UNAVAILABLE, PLAIN, RELAY_ENDED)
    }
}

pub(super) fn ready(parts: &Parts) -> Response<Full<Bytes>> {
    let store = parts.store.stats();
    let reason = if parts.stopping.load(Ordering::Acquire) {
        Some("stopping".to_owned())
    } else if !parts.destinations.is_running() {
        Some(RELAY_ENDED.trim_end().to_owned())
    } else {
        store.unwritable.map(|reason| format!("store: {reason}"))
    };
    match reason {
        None => match store.rebuilding {
            None => answer::text(StatusCode::OK, PLAIN, "ready\n"),
            Some(what) => answer::text(StatusCode::OK, PLAIN, format!("ready; store: {what}\n")),
        },
        Some(reason) => answer::text(StatusCode::SERVICE_UNAVAILABLE, PLAIN, format!("{reason}\n")),
    }
}

pub(super) fn metrics(parts: &Parts, config: &Config, shown: &Shown) -> Response<Full<Bytes>> {
    let (counts, now) = (parts.store.counts(), parts.clock.now());
    let mut shown = shown.0.lock();
    shown.extend(config.destinations.keys().cloned());
    shown.extend(counts.keys().cloned());
    let views: BTreeMap<Name, (Option<Duration>, bool)> =
        parts.destinations.list().into_iter().map(|view| (view.name, (view.drains_in, view.paused.is_some()))).collect();
    let backlog = |name: &Name| {
        let count = counts.get(name).copied().unwrap_or_default();
        let age = count.oldest_pending.map_or(Duration::ZERO, |oldest| now.since(oldest));
        let (drains_in, paused) = views.get(name).copied().unwrap_or_default();
        let drains_in = if count.pending == 0 { Some(Duration::ZERO) } else { drains_in };
        (name.clone(), Backlog { count, age, drains_in, paused })
    };
    let counts: BTreeMap<Name, Backlog> = shown.iter().map(backlog).collect();
    answer::text(StatusCode::OK, OPENMETRICS, parts.metrics.encode(&counts, &parts.store.stats()))
}
