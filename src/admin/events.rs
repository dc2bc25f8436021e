//! Events: a list with filters, one event whole, its bytes.

use bytes::Bytes;
use http::header::{CONTENT_DISPOSITION, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;

use super::problem::Problem;
use super::query::{Query, bad_cursor, cursor};
use super::{Call, answer, view};
use crate::model::EventId;
use crate::store::{EventFilter, EventRecord};

/// The words of `state=`; every state of a delivery has one.
const STATES: [&str; 5] = ["pending", "delivered", "dead", "skipped", "cancelled"];

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
        event_type: query.owned("type"),
        state: query.owned("state"),
        destination: query.owned("destination"),
        since: query.time("since", now)?,
        until: query.time("until", now)?,
        text: query.owned("q"),
    };
    let before = query.cursor('e')?.map(|place| place.parse().map_err(|_error| bad_cursor())).transpose()?;
    let (items, next) = call.parts.store.list(&filter, before, query.limit()?).await?;
    Ok(answer::page(items.iter().map(view::summary).collect(), next.map(|sequence| cursor('e', &sequence.to_string()))))
}

pub(super) async fn show(call: &Call<'_>, id: &str) -> Result<Response<Full<Bytes>>, Problem> {
    let record = find(call, id).await?;
    let known = record.event.event_type.clone();
    // With the body at hand the type can be read that was not worth a parse at acceptance.
    let event_type = known.or_else(|| {
        let route = call.config.routes.iter().find(|route| route.name == record.event.route)?;
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
