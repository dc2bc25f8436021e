//! Events: a list with filters, one event whole, its bytes.

use bytes::Bytes;
use http::header::{CONTENT_DISPOSITION, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::Value;

use super::problem::Problem;
use super::query::{Query, bad_cursor, cursor};
use super::{Call, answer, view};
use crate::model::{Event, EventId};
use crate::store::{EventFilter, EventRecord};

/// The words of `state=`; every state of a delivery has one.
const STATES: [&str; 5] = ["pending", "delivered", "dead", "skipped", "cancelled"];

/// Events that one request looks at for their type.
const EVENTS_READ_MAX: usize = 2_000;

const PARAMETERS: [&str; 9] = ["route", "type", "state", "destination", "q", "since", "until", "cursor", "limit"];

pub(super) async fn list(call: &Call<'_>) -> Result<Response<Full<Bytes>>, Problem> {
    let query = Query::parse(call.query, &PARAMETERS)?;
    let now = call.parts.clock.now();
    if let Some(state) = query.get("state").filter(|state| !STATES.contains(state)) {
        let detail = format!("`{}` is no state; there are {}", state.chars().take(64).collect::<String>(), STATES.join(", "));
        return Err(Problem::bad_request("state", detail));
    }
    let filter = EventFilter {
        route: query.owned("route"),
        // Types that are not worth a parse at acceptance are in the body only: the store can't tell them.
        event_type: None,
        state: query.owned("state"),
        destination: query.owned("destination"),
        since: query.time("since", now)?,
        until: query.time("until", now)?,
        text: query.owned("q"),
    };
    let before = query.cursor('e')?.map(|place| place.parse().map_err(|_error| bad_cursor())).transpose()?;
    let (items, next) = page(call, &filter, query.get("type"), before, query.limit()?).await?;
    Ok(answer::page(items, next.map(|sequence| cursor('e', &sequence.to_string()))))
}

/// Events with their types, and the place to go on from. A page may be short, or empty, where a type is rare.
async fn page(
    call: &Call<'_>,
    filter: &EventFilter,
    wanted: Option<&str>,
    mut before: Option<u64>,
    limit: usize,
) -> Result<(Vec<Value>, Option<u64>), Problem> {
    let mut items = Vec::new();
    let mut read = 0;
    loop {
        let (events, next) = call.parts.store.list(filter, before, limit).await?;
        read += events.len();
        for event in &events {
            let event_type = type_of(call, &event.event).await?;
            if wanted.is_none_or(|wanted| event_type.as_deref() == Some(wanted)) {
                if items.len() == limit {
                    return Ok((items, before));
                }
                items.push(view::summary(event, event_type.as_deref()));
            }
            before = Some(event.sequence);
        }
        if next.is_none() || wanted.is_none() || read >= EVENTS_READ_MAX {
            return Ok((items, next));
        }
        before = next;
    }
}

/// The type that was known at acceptance, else what the route's scheme reads from the body.
async fn type_of(call: &Call<'_>, event: &Event) -> Result<Option<Box<str>>, Problem> {
    let route = call.config.route(&event.route);
    let (None, Some(route)) = (&event.event_type, route.filter(|route| route.verifier.has_event_type())) else {
        return Ok(event.event_type.clone());
    };
    let whole = call.parts.store.event(event.id).await?;
    Ok(whole.and_then(|event| route.verifier.event_type(&event)))
}

pub(super) async fn show(call: &Call<'_>, id: &str) -> Result<Response<Full<Bytes>>, Problem> {
    let record = find(call, id).await?;
    let known = record.event.event_type.clone();
    // With the body at hand the type can be read that was not worth a parse at acceptance.
    let event_type = known.or_else(|| {
        let route = call.config.route(&record.event.route)?;
        route.verifier.event_type(&record.event)
    });
    Ok(answer::json(&view::record(&record, event_type.as_deref())))
}

pub(super) async fn body(call: &Call<'_>, id: &str) -> Result<Response<Full<Bytes>>, Problem> {
    let id = parse(id)?;
    let event = call.parts.store.event(id).await?.ok_or_else(|| unknown(id))?;
    let mut response = answer::text(StatusCode::OK, "application/octet-stream", event.body);
    // A download and nothing else: the bytes are a stranger's, and may be a page with scripts.
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{id}.bin\"")) {
        response.headers_mut().insert(CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

/// The event that a path names, with everything known of it.
pub(super) async fn find(call: &Call<'_>, id: &str) -> Result<EventRecord, Problem> {
    let id = parse(id)?;
    call.parts.store.record(id).await?.ok_or_else(|| unknown(id))
}

fn parse(id: &str) -> Result<EventId, Problem> {
    id.parse().map_err(|error: crate::model::InvalidId| Problem::not_found("unknown_event", error.to_string()))
}

fn unknown(id: EventId) -> Problem {
    Problem::not_found("unknown_event", format!("there is no event {id}; it may be past the store's retention"))
}

#[cfg(test)]
mod tests {
    use super::STATES;
    use crate::model::{DeadCode, DeadReason, DeliveryState, Timestamp};

    #[test]
    fn every_state_of_a_delivery_can_be_asked_for() {
        let dead = DeliveryState::Dead(DeadReason { code: DeadCode::Gone, detail: "".into() });
        let pending = DeliveryState::Pending { due: Timestamp::default() };
        let states = [pending, DeliveryState::Delivered, dead, DeliveryState::Skipped, DeliveryState::Cancelled];
        assert_eq!(states.map(|state| state.word()), STATES);
    }
}
