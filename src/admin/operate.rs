//! What operators do to events and deliveries: replay and cancel. Each says so in the log, with who it was.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::Deserialize;
use serde_json::{Value, json};

use super::problem::Problem;
use super::{Call, answer, events};
use crate::model::{Delivery, DeliveryId, DeliveryState, InvalidId, Name};
use crate::replays::ReplayError;
use crate::store::{CommitError, EventRecord, NewDelivery, Settlement};

/// Most destinations that one replay may name.
const REPLAY_DESTINATIONS_MAX: usize = 100;

/// How often a cancellation is tried again after an attempt's settlement came between.
const CANCEL_TRIES_MAX: u32 = 3;

/// The body of a replay; all of it may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplayRequest {
    /// Where to; without it, where the route delivers now.
    destinations: Option<Vec<String>>,
    /// Say what would be done, and do nothing.
    #[serde(default)]
    dry_run: bool,
}

pub(super) async fn replay(call: &Call<'_>, id: &str) -> Result<Response<Full<Bytes>>, Problem> {
    let request: ReplayRequest = if call.body.trim_ascii().is_empty() {
        ReplayRequest::default()
    } else {
        serde_json::from_slice(&call.body)
            .map_err(|error| Problem::bad_request("body", format!("the body is no replay request: {error}")))?
    };
    let record = events::find(call, id).await?;
    let event = record.event.id;
    let destinations = match &request.destinations {
        Some(named) => named_destinations(call, named)?,
        None => default_destinations(call, &record)?,
    };
    if request.dry_run {
        return Ok(answer::json(&json!({ "event": event.to_string(), "dry_run": true, "deliveries": shown(&destinations, &[]) })));
    }
    let ids = call.parts.replays.event(event, &destinations).await.map_err(|error| match error {
        ReplayError::Read(error) => error.into(),
        ReplayError::Commit(error) => Problem::from_commit(&error, "the event"),
    })?;
    tracing::info!(event.id = %event, operator = %call.caller.0, deliveries = ids.len(), "{event} is replayed");
    let answer = json!({ "event": event.to_string(), "dry_run": false, "deliveries": shown(&destinations, &ids) });
    Ok(answer::json_with(StatusCode::ACCEPTED, &answer))
}

pub(super) fn named_destinations(call: &Call<'_>, named: &[String]) -> Result<Vec<Name>, Problem> {
    if named.is_empty() || named.len() > REPLAY_DESTINATIONS_MAX {
        let detail = format!("`destinations` names 1 to {REPLAY_DESTINATIONS_MAX} destinations");
        return Err(Problem::unprocessable("destinations", detail));
    }
    let mut found = Vec::new();
    for name in named {
        let Some((name, _)) = call.config.destinations.get_key_value(name.as_str()) else {
            let known = call.config.destinations.keys().map(|name| &**name).collect::<Vec<_>>().join(", ");
            let unknown: String = name.chars().take(64).collect();
            return Err(Problem::unprocessable("unknown_destination", format!("there is no destination `{unknown}`; there are: {known}")));
        };
        if found.contains(name) {
            return Err(Problem::unprocessable("destinations", format!("the destination `{name}` is named twice")));
        }
        found.push(name.clone());
    }
    Ok(found)
}

/// Where the event's route delivers now, or confirms what this asks to be confirmed; when the route is gone, those of its
/// deliveries that still exist.
fn default_destinations(call: &Call<'_>, record: &EventRecord) -> Result<Vec<Name>, Problem> {
    let route = call.config.route(&record.event.route);
    let mut seen = BTreeSet::new();
    let names: Vec<Name> = match route {
        Some(route) if record.deliveries.iter().any(|delivery| Some(&delivery.destination) == route.confirm.as_ref()) => {
            route.confirm.iter().cloned().collect()
        }
        Some(route) => route.deliver.iter().map(|deliver| deliver.to.clone()).collect(),
        None => record.deliveries.iter().map(|delivery| delivery.destination.clone()).collect(),
    };
    let names: Vec<Name> =
        names.into_iter().filter(|name| call.config.destinations.contains_key(name) && seen.insert(name.clone())).collect();
    if names.is_empty() {
        let detail = format!(
            "neither the route `{}` nor the event's deliveries name a destination that still exists; name some in `destinations`",
            record.event.route
        );
        return Err(Problem::conflict("no_destination", detail));
    }
    Ok(names)
}

fn shown(destinations: &[Name], ids: &[DeliveryId]) -> Value {
    let one = |(at, destination): (usize, &Name)| json!({ "id": ids.get(at).map(ToString::to_string), "destination": &**destination });
    destinations.iter().enumerate().map(one).collect()
}

pub(super) async fn cancel(call: &Call<'_>, id: &str) -> Result<Response<Full<Bytes>>, Problem> {
    let id: DeliveryId = id.parse().map_err(|error: InvalidId| Problem::not_found("unknown_delivery", error.to_string()))?;
    for _ in 0..CANCEL_TRIES_MAX {
        let (route, delivery) = delivery(call, id).await?;
        if delivery.state.is_final() {
            let detail = format!("{id} is {} already; only a pending delivery can be cancelled", delivery.state.word());
            return Err(Problem::conflict("not_pending", detail));
        }
        let due = call.parts.clock.now();
        let acknowledgement = call.config.acknowledgement(&route).map(|destination| NewDelivery { destination, lane: None, due });
        let settlement = Settlement {
            delivery: id,
            version: delivery.version,
            attempt: None,
            attempts: delivery.attempts,
            state: DeliveryState::Cancelled,
            acknowledgement,
        };
        match call.parts.store.settle(settlement).await {
            Ok(()) => {
                call.parts.destinations.cancelled(id);
                tracing::info!(
                    delivery.id = %id, destination.name = %delivery.destination, operator = %call.caller.0,
                    "{id} to {} is cancelled", delivery.destination
                );
                return Ok(answer::json(&json!({ "id": id.to_string(), "state": DeliveryState::Cancelled.word() })));
            }
            // An attempt was settled between our look and our commit: look again.
            Err(CommitError::Stale) => {}
            Err(error) => return Err(Problem::from_commit(&error, "the delivery")),
        }
    }
    Err(Problem::from_commit(&CommitError::Stale, "the delivery"))
}

/// A delivery, and its event's route.
async fn delivery(call: &Call<'_>, id: DeliveryId) -> Result<(Name, Delivery), Problem> {
    let record = call.parts.store.record(id.event).await?;
    let found = record.and_then(|record| {
        let delivery = record.deliveries.into_iter().find(|delivery| delivery.id == id)?;
        Some((record.event.route, delivery))
    });
    found.ok_or_else(|| Problem::not_found("unknown_delivery", format!("there is no delivery {id}")))
}

/// After the machine's clock has jumped: dates count again.
pub(super) fn believe_clock(call: &Call<'_>) -> Response<Full<Bytes>> {
    call.parts.clock.vouch();
    let now = call.parts.clock.now().to_string();
    tracing::warn!(operator = %call.caller.0, now, "the clock is believed by an operator's word: it is {now}");
    answer::json(&json!({ "now": now }))
}
