//! One attempt: the event is read, its request is made, sent, and what came back is judged.
//!
//! It never decides what becomes of the delivery (that is `settle`) and never writes to the store what that is. A panic in
//! here is a fault of this attempt and ends nothing else.

mod access;
mod bankintegration;
mod body;
mod dvelop;
mod earlier;
mod headers;
mod payjoe;
mod programs;
mod smartbusiness;
mod sns;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};

use super::classify::{Verdict, classify, retry_after};
use super::moment::Moment;
use super::settle::Made;
use crate::clock::Clock;
use crate::config::{Config, Destination, Format, Target};
use crate::connectors::{self, Outcome};
use crate::egress::{Fault, Outbound, Reach, Reply, Transport};
use crate::jq;
use crate::limits::Limiter;
use crate::model::{DeliveryKind, Event, FaultKind, Timestamp};
use crate::store::{PendingDelivery, ReadError, Store};
use crate::tokens::Tokens;
pub(super) use payjoe::Batches;

/// What an attempt ended with.
#[derive(Debug)]
pub(super) enum Ended {
    /// A request was made, or nearly: it counts.
    Made(Box<Made>),
    /// The event's bytes are not what was accepted; nothing was sent.
    Damaged(&'static str),
    /// The delivery's `when` said no; nothing was sent.
    Skipped,
    /// The delivery's `when` or `transform` failed and would again; nothing was sent.
    Unmade(String),
    /// The disk did not give the event back; nothing was sent.
    Unread(String),
    /// The event could not be looked at just now; nothing was sent and nothing counts.
    NotNow(String),
    /// It is to go, and its destination's rate allows it no earlier than after this; nothing was sent.
    TooEarly(Duration),
}

/// What an attempt works with.
#[derive(Clone)]
pub(super) struct Tools {
    pub(super) store: Arc<dyn Store>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) jq: Arc<dyn jq::Engine>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) tokens: Tokens,
    pub(super) batches: Arc<Batches>,
}

/// What is to be attempted.
#[derive(Clone)]
pub(super) struct Job {
    /// The configuration when it began.
    pub(super) config: Arc<Config>,
    pub(super) destination: Arc<Destination>,
    pub(super) pending: PendingDelivery,
    /// How many that came before it in its lane still wait, because they stepped out of it.
    pub(super) overtaken: usize,
    /// Asked before anything is sent, where the destination has a rate that was not asked yet.
    pub(super) rate: Option<Arc<Limiter>>,
}

/// Makes an attempt.
pub(super) async fn make(tools: Tools, job: Job) -> Ended {
    let (started_at, begun) = (tools.clock.now(), Moment::now(&*tools.clock));
    let (destination, pending) = (job.destination.clone(), job.pending.clone());
    let exchanged = match AssertUnwindSafe(exchange(&tools, job, started_at)).catch_unwind().await {
        Ok(Ok(exchanged)) => exchanged,
        Ok(Err(unread)) => return unread,
        Err(_panic) => {
            // The panic's own words are in the log already; they may hold anything and go no further.
            tracing::error!(delivery.id = %pending.id, destination.name = %pending.destination, "an attempt panicked");
            Exchanged::plain(Err(Fault { kind: FaultKind::Interrupted, detail: "the attempt panicked".to_owned() }))
        }
    };
    let Exchanged { result, judged, hold, must_authorize, is_shared } = exchanged;
    let now = tools.clock.now();
    let (verdict, reason) = match (judged, &result) {
        (Some(Outcome { verdict, reason }), result) => (verdict_of(verdict, result.as_ref().ok(), now), reason),
        (None, _) => (classify(&result, &destination.retry.never, now), String::new()),
    };
    let took = Moment::now(&*tools.clock).since(begun);
    Ended::Made(Box::new(Made { started_at, took, result, verdict, reason, hold, must_authorize, is_shared }))
}

/// What came of a request: as it came, and what a system's own table says about it.
#[derive(Clone)]
pub(super) struct Exchanged {
    result: Result<Reply, Fault>,
    judged: Option<Outcome>,
    /// How long the destination wants to be left alone.
    hold: Option<Duration>,
    /// A person has to authorize again before anything more is sent.
    must_authorize: bool,
    /// It is another delivery's too, for which it says how the destination is.
    is_shared: bool,
}

impl Exchanged {
    fn plain(result: Result<Reply, Fault>) -> Self {
        Self { result, judged: None, hold: None, must_authorize: false, is_shared: false }
    }

    /// What a system answered, judged by its own table; no answer is a retry, whoever did not give it.
    fn judge(mut self, judge: impl FnOnce(&connectors::Reply<'_>) -> Outcome) -> Self {
        if let Ok(Reply { status, headers, body, truncated }) = &self.result {
            self.judged = Some(judge(&connectors::Reply { status: *status, headers, body, truncated: *truncated }));
        }
        self
    }
}

/// A system's request as it is sent to this destination.
fn outbound_of(request: connectors::Request, destination: &Destination) -> Outbound {
    let connectors::Request { method, url, headers, body } = request;
    let (timeout, tls) = (attempt_timeout(destination), destination.tls.clone());
    Outbound { method, url, headers, body, timeout, tls, reach: Reach::Anywhere }
}

fn verdict_of(verdict: connectors::Verdict, reply: Option<&Reply>, now: Timestamp) -> Verdict {
    match verdict {
        connectors::Verdict::Delivered => Verdict::Delivered,
        connectors::Verdict::Retry { after } => Verdict::Retry { asked_for: after.or_else(|| retry_after(&reply?.headers, now)) },
        connectors::Verdict::Rejected => Verdict::Rejected,
        // It was made again already where that could help.
        connectors::Verdict::Reauthorize | connectors::Verdict::Pause => Verdict::Pause,
    }
}

async fn exchange(tools: &Tools, job: Job, now: Timestamp) -> Result<Exchanged, Ended> {
    let destination = job.destination.clone();
    if let Target::DvelopReport(settings) = &destination.target {
        return Box::pin(dvelop::report(tools, &job, settings)).await;
    }
    if let Target::SnsConfirm(settings) = &destination.target {
        return Box::pin(sns::confirm(tools, &job, settings)).await;
    }
    let mut event = read(tools.store.event(job.pending.id.event).await)?;
    // The route may have left the configuration since; then only what the event itself says is known.
    let route = job.config.route(&event.route);
    event.event_type = event.event_type.take().or_else(|| route.and_then(|route| route.verifier.event_type(&event)));
    // Its request is made of both: the event as it was accepted, and as it is to be delivered.
    let accepted = matches!(destination.target, Target::SmartBusiness(_)).then(|| event.clone());
    if let Some(deliver) = job.config.delivery(&event.route, &job.pending.destination).filter(|deliver| programs::are_in(deliver)) {
        event = Box::pin(programs::apply(&*tools.jq, &job.config.programs, deliver, event)).await?;
    }
    if let Some(rate) = job.rate.as_ref().filter(|_| !destination.target.takes_batches()) {
        rate.check().map_err(Ended::TooEarly)?;
    }
    match &destination.target {
        Target::Http(_) | Target::DvelopReport(_) | Target::SnsConfirm(_) => {}
        Target::Pull(_) => return Err(Ended::Unmade("events are fetched from there, and none is delivered".to_owned())),
        Target::PayJoe { settings, uploads } => return Box::pin(payjoe::send(tools, &job, settings, *uploads, &event)).await,
        Target::BankIntegration(settings) => return Box::pin(bankintegration::send(tools, &job, settings, &event)).await,
        Target::SmartBusiness(settings) => {
            let accepted = accepted.as_ref().unwrap_or(&event);
            return Box::pin(smartbusiness::send(tools, &job, settings, accepted, &event)).await;
        }
    }
    // While the destination takes its time, nothing else of the event is kept in memory.
    let request = match outbound(event, &job, now) {
        Ok(request) => request,
        Err(fault) => return Ok(Exchanged::plain(Err(fault))),
    };
    drop(job);
    Ok(access::send(tools, &destination, request).await)
}

/// What is in the store; without it no request can be made.
fn read<T>(found: Result<Option<T>, ReadError>) -> Result<T, Ended> {
    match found {
        Ok(Some(found)) => Ok(found),
        Ok(None) => Err(Ended::Damaged("the event is not in the store")),
        Err(ReadError::Damaged) => Err(Ended::Damaged("its bytes no longer match their checksum")),
        Err(ReadError::Io(error)) => Err(Ended::Unread(error)),
    }
}

fn unsendable(detail: impl Into<String>) -> Fault {
    Fault { kind: FaultKind::Unsendable, detail: detail.into() }
}

/// The request for this delivery, as of `now`.
fn outbound(mut event: Event, job: &Job, now: Timestamp) -> Result<Outbound, Fault> {
    let destination = &job.destination;
    let no_json = |_error| unsendable("the event can't be written as JSON");
    let (mut headers, body) = match destination.format {
        Format::Original => (headers::of_sender(std::mem::take(&mut event.headers)), std::mem::take(&mut event.body)),
        // The sender's headers describe its own body (its length, encoding, digest), not the one made here.
        Format::Json => (content_type("application/json"), body::json(&event).map_err(no_json)?.into()),
        Format::CloudEvents => (content_type("application/cloudevents+json"), body::cloud_event(&event).map_err(no_json)?.into()),
    };
    headers::configure(&mut headers, &destination.headers);
    let id = event.id.to_string();
    let timestamp = now.unix_seconds();
    if let Some(signer) = &destination.signer {
        let signature = signer.sign(&id, timestamp, &body);
        headers.insert("webhook-signature", headers::text(signature.as_bytes()));
    }
    headers.insert("webhook-id", headers::text(id.as_bytes()));
    headers.insert("webhook-timestamp", timestamp.into());
    describe(&mut headers, &event, job);
    let url = destination.target.url().cloned().ok_or_else(|| unsendable("the destination has no address of its own"))?;
    let (timeout, tls) = (attempt_timeout(destination), destination.tls.clone());
    Ok(Outbound { method: Method::POST, url, headers, body, timeout, tls, reach: Reach::Anywhere })
}

/// A destination without any time would never be answered in time.
fn attempt_timeout(destination: &Destination) -> Duration {
    destination.timeout.max(Duration::from_millis(1))
}

fn content_type(value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))])
}

/// `kurier-*`: what is known of the event beside its bytes.
fn describe(headers: &mut HeaderMap, event: &Event, job: &Job) {
    headers.insert("kurier-route", headers::text(event.route.as_bytes()));
    headers.insert("kurier-attempt", job.pending.attempts.saturating_add(1).into());
    if let Some(word) = &event.event_type {
        headers.insert("kurier-event-type", headers::text(word.as_bytes()));
    }
    if let Some(source_id) = &event.source_id {
        headers.insert("kurier-source-id", headers::text(source_id.as_bytes()));
    }
    if job.overtaken > 0 {
        headers.insert("kurier-lane-gap", job.overtaken.into());
    }
    match job.pending.kind {
        DeliveryKind::Replay => drop(headers.insert("kurier-replay", HeaderValue::from_static("true"))),
        DeliveryKind::Original | DeliveryKind::Acknowledgement => {}
    }
    if event.method != Method::POST || event.query().is_some() {
        headers.insert("kurier-method", headers::text(event.method.as_str().as_bytes()));
        headers.insert("kurier-path", headers::text(event.path()));
        if let Some(query) = event.query() {
            headers.insert("kurier-query", headers::text(query));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There are as many as attempts under way, and each is put into its place anew: what only some targets need stands in
    /// boxes of its own.
    #[test]
    fn an_attempt_under_way_costs_less_than_two_kilobytes() {
        fn size<A, F>(_: impl FnOnce(A) -> F) -> usize {
            size_of::<F>()
        }
        let bytes = size(|(tools, job)| make(tools, job));
        assert!(bytes < 2048, "{bytes} bytes");
    }
}
