//! From a verified request to a receipt: the event, its dedupe key, its deliveries, one commit.
//!
//! Only a [`Verified`] comes in, so nothing unverified is stored (I9); only a [`Receipt`] comes out, so nothing
//! unstored is answered with 2xx (I1). A commit that is still queued at the deadline is called off and nothing
//! of it is ever stored (I2); once the store has taken it, no timer stands around it any more.

mod ids;
mod item;
mod key;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use crate::clock::Clock;
use crate::config::Route;
use crate::connectors::sns::CONFIRMATION;
use crate::model::{Answer, Event, EventId, Inbound, Lane, keep_end_to_end};
use crate::signature::Verified;
use crate::store::{CommitError, NewDelivery, NewEvent, Receipt, Store, Ticket};

pub use ids::IdSource;
pub use item::{Fetched, Item};

/// How long a commit may stay queued before it is called off: shorter than any common sender's patience, so
/// that its retry meets a clear 503 instead of silence.
pub const QUEUED_TIME_MAX: Duration = Duration::from_secs(5);

/// The segment of a path pattern that stands for a secret.
const SECRET_SEGMENT: &[u8] = b"{secret}";

/// Why there is no receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unaccepted {
    /// Nothing of it is stored, and nothing of it ever will be.
    #[error("not stored: {0}")]
    Refused(&'static str),
    /// It may be stored or not; the sender must not be told either.
    #[error("the outcome can't be known")]
    Unknown,
}

/// Turns verified requests into durable events.
#[derive(Clone)]
pub struct Acceptor {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    ids: IdSource,
}

impl Acceptor {
    /// An acceptor that commits to this store.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, ids: IdSource) -> Self {
        Self { store, clock, ids }
    }

    /// Commits the request as an event of this route, with one delivery for each of its destinations (I4).
    ///
    /// It is queued at once; dropping the future calls the commit off if it is still queued.
    ///
    /// # Errors
    /// Whether nothing is stored, or nobody knows.
    pub fn accept(&self, route: &Route, verified: Verified) -> impl Future<Output = Result<Receipt, Unaccepted>> + Send + use<> {
        let id = self.ids.mint(verified.inbound().received_at);
        self.accept_as(route, verified, id)
    }

    /// The same under an id that is given: for what is tried more than once, and must not become two events.
    ///
    /// # Errors
    /// Whether nothing is stored, or nobody knows.
    pub fn accept_as(
        &self,
        route: &Route,
        verified: Verified,
        id: EventId,
    ) -> impl Future<Output = Result<Receipt, Unaccepted>> + Send + use<> {
        committed(self.store.accept(self.prepare(route, verified, id)))
    }

    /// Commits an item that nobody sent: it was fetched, or Kurier made it.
    ///
    /// # Errors
    /// Whether nothing is stored, or nobody knows.
    pub async fn accept_item(&self, item: Item) -> Result<Receipt, Unaccepted> {
        committed(self.store.accept(self.made(item))).await
    }

    /// Commits what this route has fetched, as an event like those that are sent.
    ///
    /// # Errors
    /// Whether nothing is stored, or nobody knows.
    pub async fn accept_fetched(&self, route: &Route, fetched: Fetched) -> Result<Receipt, Unaccepted> {
        committed(self.store.accept(self.fetched(route, fetched))).await
    }

    fn prepare(&self, route: &Route, verified: Verified, id: EventId) -> NewEvent {
        let received_at = self.clock.stamp(verified.inbound().received_at);
        let dedupe = key::dedupe(route, &verified, received_at);
        let lane = route.order_by.as_ref().and_then(|order_by| order_by.key.render(verified.inbound()));
        let lane = lane.map(|value| Lane(xxh3_64(&value)));
        let (inbound, facts) = verified.into_parts();
        let deliveries = if facts.operator_only {
            // It is kept for the operator's eyes and brought nowhere, but for what the route confirms by itself.
            let confirms = route.confirm.iter().filter(|_| facts.event_type.as_deref() == Some(CONFIRMATION));
            confirms.map(|destination| NewDelivery { destination: destination.clone(), lane: None, due: received_at }).collect()
        } else {
            route.deliver.iter().map(|deliver| NewDelivery { destination: deliver.to.clone(), lane, due: received_at }).collect()
        };
        let answer = route.respond.clone().or(facts.answer).unwrap_or_else(Answer::ok);
        let target = without_parameters(without_secret(route, &inbound), route.verifier.credential_parameters());
        let mut headers = inbound.headers;
        keep_end_to_end(&mut headers);
        for name in route.verifier.credential_headers() {
            headers.remove(name);
        }
        let event = Event {
            id,
            route: route.name.clone(),
            received_at,
            peer: Some(inbound.peer),
            source_id: facts.source_id,
            event_type: facts.event_type,
            method: inbound.method,
            target,
            base: inbound.base,
            headers,
            body: inbound.body,
        };
        NewEvent { event, dedupe, answer, deliveries }
    }
}

/// Waits for a commit. It holds nothing of the event, which is in the store's hands by now.
async fn committed(mut ticket: Ticket<Receipt>) -> Result<Receipt, Unaccepted> {
    let outcome = tokio::select! {
        biased;
        outcome = &mut ticket => outcome,
        () = tokio::time::sleep(QUEUED_TIME_MAX) => {
            if ticket.cancel() {
                return Err(Unaccepted::Refused("the store did not take it in time"));
            }
            ticket.await
        }
    };
    outcome.map_err(|error| match error {
        CommitError::Refused(why) => Unaccepted::Refused(why),
        // An accept follows no version and names no event: these two would be the engine's own confusion.
        CommitError::Unknown | CommitError::Stale | CommitError::NotFound => Unaccepted::Unknown,
    })
}

/// The target with the path's secret replaced by its placeholder: a secret of the configuration is never
/// stored (I9). Everything else stays as sent.
fn without_secret(route: &Route, inbound: &Inbound) -> Bytes {
    let Some(path) = &route.path else { return inbound.target.clone() };
    let pattern = path.text.as_bytes();
    if !pattern.split(|byte| *byte == b'/').any(|segment| segment == SECRET_SEGMENT) {
        return inbound.target.clone();
    }
    let mut names = pattern.split(|byte| *byte == b'/');
    let mut masked = Vec::with_capacity(inbound.target.len());
    for (index, segment) in inbound.path().split(|byte| *byte == b'/').enumerate() {
        if index > 0 {
            masked.push(b'/');
        }
        let is_secret = names.next().is_some_and(|name| name == SECRET_SEGMENT);
        masked.extend_from_slice(if is_secret { SECRET_SEGMENT } else { segment });
    }
    masked.extend_from_slice(inbound.target.get(inbound.path().len()..).unwrap_or_default());
    masked.into()
}

/// The target with the values of these query parameters replaced, whatever they are: one of them let the sender
/// in (I9).
fn without_parameters(target: Bytes, names: &[Box<str>]) -> Bytes {
    let Some(at) = target.iter().position(|byte| *byte == b'?').filter(|_| !names.is_empty()) else { return target };
    let mut masked = target[..=at].to_vec();
    for (index, part) in target[at + 1..].split(|byte| *byte == b'&').enumerate() {
        if index > 0 {
            masked.push(b'&');
        }
        let name = part.split(|byte| *byte == b'=').next().unwrap_or_default();
        let decoded: Vec<u8> = percent_encoding::percent_decode(name).collect();
        if names.iter().any(|secret| secret.as_bytes() == decoded) {
            masked.extend_from_slice(&[name, b"=", SECRET_SEGMENT].concat());
        } else {
            masked.extend_from_slice(part);
        }
    }
    masked.into()
}

#[cfg(test)]
mod tests;
