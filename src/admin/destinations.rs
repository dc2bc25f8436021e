//! Destinations as operators see and steer them.

use async_trait::async_trait;
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

use super::problem::Problem;
use super::query::{Query, page_by_name};
use super::{Call, answer};
use crate::model::{DeliveryId, Name, Timestamp};
use crate::store::CommitError;
use crate::tokens::Who;

/// The relay, as far as the admin side needs it.
#[async_trait]
pub trait Destinations: Send + Sync + 'static {
    /// Whether deliveries are being attempted at all: false once the relay's loop has ended.
    fn is_running(&self) -> bool;

    /// Every configured destination as it stands now.
    fn list(&self) -> Vec<DestinationView>;

    /// Stops attempts to a destination until it is resumed, for a reason that is shown. Durable when this
    /// returns.
    ///
    /// # Errors
    /// When there is no such destination, or the pause could not be committed.
    async fn pause(&self, name: &str, reason: &str) -> Result<(), PauseError>;

    /// Lets attempts go on. Durable when this returns.
    ///
    /// # Errors
    /// When there is no such destination, or it could not be committed.
    async fn resume(&self, name: &str) -> Result<(), PauseError>;

    /// Tells that a delivery's cancellation is durable, so that no further attempt is begun for it.
    fn cancelled(&self, delivery: DeliveryId);
}

/// A destination as the relay sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationView {
    /// Its name.
    pub name: Name,
    /// Why it is paused; none: it is not.
    pub paused: Option<Box<str>>,
    /// Until when the breaker holds attempts back; none: it does not.
    pub breaker_open_until: Option<Timestamp>,
    /// Attempts under way.
    pub in_flight: usize,
    /// When what is pending will have ended at the pace of the last minute; none: there is no pace.
    pub drains_in: Option<Duration>,
}

/// Why a destination was neither paused nor resumed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PauseError {
    /// It is not in the configuration.
    #[error("there is no such destination")]
    Unknown,
    /// The store could not commit it.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The relay has stopped.
    #[error("the relay is stopping")]
    Stopping,
}

pub(super) fn list(call: &Call<'_>) -> Result<Response<Full<Bytes>>, Problem> {
    let query = Query::parse(call.query, &["cursor", "limit"])?;
    let counts = call.parts.store.counts();
    let views: BTreeMap<Name, DestinationView> = call.parts.destinations.list().into_iter().map(|view| (view.name.clone(), view)).collect();
    // A destination that was removed is still listed while something of it is in the store.
    let mut names: Vec<Name> = call.config.destinations.keys().chain(counts.keys()).cloned().collect();
    names.sort();
    names.dedup();
    let (names, next) = page_by_name(&query, names, |name| name.to_string())?;
    let now = call.parts.clock.now();
    let item = |name: &Name| {
        let settings = call.config.destinations.get(name);
        let view = views.get(name);
        let count = counts.get(name).copied().unwrap_or_default();
        let paused = view.and_then(|view| view.paused.as_deref());
        json!({
            "name": &**name,
            "configured": settings.is_some(),
            // The rest of a url may be a secret: some services let whoever knows the path post.
            "origin": settings.and_then(|settings| settings.target.origin()),
            "state": if settings.is_none() { "removed" } else if paused.is_some() { "paused" } else { "active" },
            "paused_because": paused,
            "breaker_open_until": view.and_then(|view| view.breaker_open_until).map(|time| time.to_string()),
            "in_flight": view.map_or(0, |view| view.in_flight),
            "drains_in_seconds": view.and_then(|view| view.drains_in).map(|time| time.as_secs()),
            "concurrency": settings.map(|settings| settings.concurrency),
            "rate": settings.and_then(|settings| settings.rate).map(|rate| rate.to_string()),
            "pending": count.pending,
            "dead": count.dead,
            "oldest_pending_seconds": count.oldest_pending.map(|oldest| now.since(oldest).as_secs()),
        })
    };
    Ok(answer::page(names.iter().map(item).collect::<Vec<Value>>(), next))
}

pub(super) async fn pause(call: &Call<'_>, name: &str) -> Result<Response<Full<Bytes>>, Problem> {
    known(call, name)?;
    let reason = format!("by the operator `{}`", call.caller.0);
    call.parts.destinations.pause(name, &reason).await.map_err(|error| problem(&error, name))?;
    tracing::info!(destination.name = name, operator = %call.caller.0, "destination {name} is paused");
    Ok(answer::json(&json!({ "name": name, "state": "paused" })))
}

pub(super) async fn resume(call: &Call<'_>, name: &str) -> Result<Response<Full<Bytes>>, Problem> {
    known(call, name)?;
    call.parts.destinations.resume(name).await.map_err(|error| problem(&error, name))?;
    tracing::info!(destination.name = name, operator = %call.caller.0, "destination {name} is resumed");
    Ok(answer::json(&json!({ "name": name, "state": "active" })))
}

/// Begins an authorization by a person: the answer names the address for their browser.
pub(super) fn authorize(call: &Call<'_>, name: &str) -> Result<Response<Full<Bytes>>, Problem> {
    known(call, name)?;
    let client = call.config.destinations.get_key_value(name).and_then(|(name, destination)| {
        let (client, by_client, refresh) = destination.client()?;
        (!by_client).then_some(Who { name, client, by_client, refresh })
    });
    let Some(who) = client else {
        return Err(Problem::conflict("no_authorization", format!("`{name}` needs no authorization by a person")));
    };
    let location = call.parts.tokens.authorize(who).map_err(|error| Problem::conflict("no_authorization", error.to_string()))?;
    tracing::info!(destination.name = name, operator = %call.caller.0, "an authorization of {name} is begun");
    Ok(answer::json(&json!({ "location": location.as_str() })))
}

/// A name that isn't configured goes no further: it would be a sender's word in the log.
fn known(call: &Call<'_>, name: &str) -> Result<(), Problem> {
    if call.config.destinations.contains_key(name) { Ok(()) } else { Err(problem(&PauseError::Unknown, name)) }
}

fn problem(error: &PauseError, name: &str) -> Problem {
    match error {
        PauseError::Unknown => {
            let name: String = name.chars().take(64).collect();
            Problem::not_found("unknown_destination", format!("there is no destination `{name}`; GET /api/v1/destinations lists them"))
        }
        PauseError::Commit(error) => Problem::from_commit(error, "the destination"),
        PauseError::Stopping => Problem::stopping(),
    }
}
