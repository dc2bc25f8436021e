//! Replays of many events: begun, watched and stopped.

use bytes::Bytes;
use http::header::{HeaderValue, LOCATION};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::Deserialize;
use serde_json::{Value, json};

use super::operate::named_destinations;
use super::problem::Problem;
use super::query::{self, Query, page_by_name};
use super::{Call, answer};
use crate::model::Timestamp;
use crate::replays::{BeginError, EVENTS_MAX, Filter, Job};

/// The body of a request to begin one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    filter: Wanted,
    /// Where to; without it, to each destination whose newest delivery of the event is in the state.
    destinations: Option<Vec<String>>,
    /// Say how many events are meant, and do nothing.
    #[serde(default)]
    dry_run: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    route: Option<String>,
    destination: Option<String>,
    state: Option<String>,
    since: Option<String>,
    until: Option<String>,
    q: Option<String>,
}

pub(super) async fn begin(call: &Call<'_>) -> Result<Response<Full<Bytes>>, Problem> {
    let explain = |error| {
        Problem::bad_request("body", format!("the body is no replay request such as {{\"filter\": {{\"route\": \"invoices\"}}}}: {error}"))
    };
    let request: Request = serde_json::from_slice(&call.body).map_err(explain)?;
    let filter = filter(call, request.filter)?;
    if let Some(named) = &request.destinations {
        named_destinations(call, named)?;
    }
    if request.dry_run {
        let matched = call.parts.replays.count(&filter).await?;
        let answer =
            json!({ "dry_run": true, "matched": matched.min(EVENTS_MAX), "more": matched > EVENTS_MAX, "filter": shown_filter(&filter) });
        return Ok(answer::json(&answer));
    }
    let job = call.parts.replays.begin(filter, request.destinations, &call.caller.0).await.map_err(|error| match error {
        BeginError::TooMany => {
            Problem::conflict("too_many_replays", format!("{error}; wait for one, or stop one by DELETE /api/v1/replays/{{id}}"))
        }
        BeginError::Commit(error) => Problem::from_commit(&error, "the replay"),
    })?;
    let mut response = answer::json_with(StatusCode::ACCEPTED, &shown(&job));
    if let Ok(location) = HeaderValue::from_str(&format!("/api/v1/replays/{}", job.id)) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

pub(super) fn list(call: &Call<'_>) -> Result<Response<Full<Bytes>>, Problem> {
    let query = Query::parse(call.query, &["cursor", "limit"])?;
    let (jobs, next) = page_by_name(&query, call.parts.replays.list(), |job| job.id.clone())?;
    Ok(answer::page(jobs.iter().map(shown).collect(), next))
}

pub(super) fn show(call: &Call<'_>, id: &str) -> Result<Response<Full<Bytes>>, Problem> {
    call.parts.replays.get(id).map(|job| answer::json(&shown(&job))).ok_or_else(|| unknown(id))
}

pub(super) async fn stop(call: &Call<'_>, id: &str) -> Result<Response<Full<Bytes>>, Problem> {
    let stopped = call.parts.replays.stop(id).await.map_err(|error| Problem::from_commit(&error, "the replay"))?;
    let job = stopped.ok_or_else(|| unknown(id))?;
    tracing::info!(replay.id = job.id, operator = %call.caller.0, "replay {} is {}", job.id, job.status.word());
    Ok(answer::json(&shown(&job)))
}

fn unknown(id: &str) -> Problem {
    let id: String = id.chars().take(64).collect();
    Problem::not_found("unknown_replay", format!("there is no replay `{id}`; the last hundred that ended are kept"))
}

fn filter(call: &Call<'_>, wanted: Wanted) -> Result<Filter, Problem> {
    let now = call.parts.clock.now();
    let short = |name: &str, value: Option<String>| match value {
        Some(value) if value.len() > query::VALUE_BYTES_MAX => {
            Err(Problem::unprocessable("filter", format!("`filter.{name}` is longer than {} bytes", query::VALUE_BYTES_MAX)))
        }
        value => Ok(value),
    };
    let time = |name: &str, value: Option<String>| match value {
        Some(text) => query::time(name, &text, now).map(|time| Some(time.millis())),
        None => Ok(None),
    };
    let state = wanted.state.unwrap_or_else(|| "dead".to_owned());
    if !Filter::STATES.contains(&state.as_str()) {
        return Err(Problem::unprocessable("filter", format!("`filter.state` is one of {}", Filter::STATES.join(", "))));
    }
    Ok(Filter {
        route: short("route", wanted.route)?,
        destination: short("destination", wanted.destination)?,
        state,
        since: time("since", wanted.since)?,
        until: time("until", wanted.until)?,
        q: short("q", wanted.q)?,
    })
}

fn time(millis: Option<i64>) -> Option<String> {
    millis.map(|millis| Timestamp::from_millis(millis).to_string())
}

fn shown_filter(filter: &Filter) -> Value {
    let Filter { route, destination, state, since, until, q } = filter;
    json!({ "route": route, "destination": destination, "state": state, "since": time(*since), "until": time(*until), "q": q })
}

fn shown(job: &Job) -> Value {
    json!({
        "id": job.id,
        "status": job.status.word(),
        "filter": shown_filter(&job.filter),
        "destinations": job.destinations,
        "by": job.by,
        "begun_at": time(Some(job.begun_at)),
        "matched": job.matched,
        "replayed": job.replayed,
        "deliveries": job.deliveries,
        "waits_for": job.waits_for,
        "ended_at": time(job.ended_at),
        "error": job.error,
    })
}
