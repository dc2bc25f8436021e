//! Makes events, settlements and stores for the tests of the store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use kurier::clock::{Clock, SystemClock};
use kurier::model::{
    Answer, Attempt, AttemptResult, DeadCode, DeadReason, DeliveryState, Event, EventId, FaultKind, Name, OutcomeKind, Timestamp,
};
use kurier::store::local::{LocalOptions, LocalStore, Run, Seams, StoreError};
use kurier::store::{DedupeKey, NewDelivery, NewEvent, PendingDelivery, Settlement};

/// The time at which the tests' events are received.
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// Small segments, so that tests see many of them.
pub(crate) const SEGMENT: usize = 256 * 1024;

pub(crate) fn at(seconds: u64) -> Timestamp {
    NOW.saturating_add(Duration::from_secs(seconds))
}

/// The `n`th event: everything in it follows from `n`.
pub(crate) fn event(n: u64) -> Event {
    let mut headers = HeaderMap::new();
    headers.append("x-number", HeaderValue::from(n));
    headers.append("x-twice", HeaderValue::from_static("one"));
    headers.append("x-twice", HeaderValue::from_bytes(b"tw\xf6").unwrap());
    Event {
        id: EventId::new(at(n), u128::from(n)),
        route: Name::from(if n.is_multiple_of(2) { "even" } else { "odd" }),
        received_at: at(n),
        peer: n.is_multiple_of(3).then(|| if n.is_multiple_of(2) { "192.0.2.7".parse().unwrap() } else { "2001:db8::7".parse().unwrap() }),
        source_id: n.is_multiple_of(5).then(|| format!("source-{n}").into()),
        event_type: n.is_multiple_of(2).then(|| "thing.happened".into()),
        method: if n.is_multiple_of(7) { Method::GET } else { Method::POST },
        target: Bytes::from(format!("/callbacks/x?n={n}")),
        base: Arc::from("https://hooks.example.ch"),
        headers,
        body: Bytes::from(format!("{{\"n\":{n}}}").repeat(usize::try_from(n % 20).unwrap())),
    }
}

pub(crate) fn to(destination: &str) -> NewDelivery {
    NewDelivery { destination: Name::from(destination), lane: None, due: NOW }
}

/// The `n`th event with one delivery to `erp`, without a key.
pub(crate) fn new(n: u64) -> NewEvent {
    NewEvent { event: event(n), dedupe: None, answer: Answer::ok(), deliveries: vec![to("erp")] }
}

/// The `n`th event under this key, which ends after `window` seconds.
pub(crate) fn keyed(n: u64, key: u8, window: u64) -> NewEvent {
    let dedupe = Some(DedupeKey { hash: [key; 16], expires_at: at(n + window) });
    let answer = Answer { status: 202, content_type: Some("text/plain".into()), body: Bytes::from(format!("first was {n}")) };
    NewEvent { dedupe, answer, ..new(n) }
}

pub(crate) fn attempt(number: u32, outcome: OutcomeKind) -> Attempt {
    let result = match outcome {
        OutcomeKind::Delivered => AttemptResult::Response { status: 204, excerpt: Bytes::new() },
        OutcomeKind::Rejected => AttemptResult::Response { status: 422, excerpt: Bytes::from_static(b"no") },
        OutcomeKind::Retry => AttemptResult::Fault { kind: FaultKind::Timeout, detail: "after 15s".into() },
    };
    Attempt { number, started_at: NOW, duration_ms: 12, result, outcome }
}

/// One more attempt that came to this.
pub(crate) fn settlement(pending: &PendingDelivery, outcome: OutcomeKind) -> Settlement {
    let attempts = pending.attempts + 1;
    let state = match outcome {
        OutcomeKind::Delivered => DeliveryState::Delivered,
        OutcomeKind::Rejected => DeliveryState::Dead(DeadReason { code: DeadCode::Rejected, detail: "422".into() }),
        OutcomeKind::Retry => DeliveryState::Pending { due: at(60) },
    };
    let attempt = Some(attempt(attempts, outcome));
    Settlement { delivery: pending.id, version: pending.version, attempt, attempts, state, acknowledgement: None }
}

pub(crate) fn options(path: &Path) -> LocalOptions {
    LocalOptions { segment_bytes: SEGMENT, ..LocalOptions::new(path) }
}

pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

/// A store on the real disk, with sled.
pub(crate) async fn real(path: &Path) -> Result<LocalStore, StoreError> {
    LocalStore::open_on(Seams { run: Run::Threads, ..Seams::real() }, options(path), clock(), None).await
}
