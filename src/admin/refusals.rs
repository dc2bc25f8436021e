//! Refused requests that are kept: a list, one with what the doctor says of it, their release.
//!
//! Nothing of a body, and of headers the values of a few harmless ones only: what was refused may hold the secret that it
//! should have been checked by, or one that was sent to the wrong place.

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::problem::Problem;
use super::query::{self, Query, bad_cursor, cursor};
use super::{Call, answer};
use crate::config::Route;
use crate::model::{InvalidId, Name, RefusalId, Timestamp};
use crate::quarantine::{GetError, Head, Kept, Page, Received, Wanted};
use std::sync::Arc;

/// Headers whose values are shown.
const SHOWN: [&str; 6] = ["content-type", "content-length", "content-encoding", "date", "host", "user-agent"];

/// The body of a release.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    route: String,
    since: Option<String>,
    until: Option<String>,
    /// The `next_cursor` of the call before.
    cursor: Option<String>,
    /// Say what would be released, and do nothing.
    #[serde(default)]
    dry_run: bool,
}

impl From<GetError> for Problem {
    fn from(error: GetError) -> Self {
        tracing::error!(%error, "the quarantine could not be read");
        Self::unreadable("quarantine_unreadable", format!("{error}; see the log"))
    }
}

pub(super) async fn list(call: &Call<'_>) -> Result<Response<Full<Bytes>>, Problem> {
    let query = Query::parse(call.query, &["route", "since", "until", "cursor", "limit"])?;
    let (now, limit) = (call.parts.clock.now(), query.limit()?);
    let received = Received { since: query.time("since", now)?, until: query.time("until", now)? };
    let below = query.cursor('r')?.map(|place| place.parse().map_err(|_error| bad_cursor())).transpose()?;
    let quarantine = call.parts.releases.quarantine();
    let mut found = quarantine.list(query.get("route"), received, below, limit + 1).await;
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|(_, id)| cursor('r', &id.to_string()));
    let mut items = Vec::with_capacity(found.len());
    for (route, id) in found {
        match quarantine.head(&route, id).await {
            Ok(Some(head)) => items.push(Value::Object(summary(&route, id, &head))),
            // It went meanwhile.
            Ok(None) => {}
            Err(GetError::Damaged) => items.push(nameless(&route, id, "damaged")),
            Err(GetError::Io(error)) => {
                tracing::warn!(%error, "{id} can't be read in the quarantine: {error}");
                items.push(nameless(&route, id, "unreadable"));
            }
        }
    }
    Ok(answer::page(items, next))
}

pub(super) async fn show(call: &Call<'_>, id: &str) -> Result<Response<Full<Bytes>>, Problem> {
    let id: RefusalId = id.parse().map_err(|error: InvalidId| Problem::not_found("unknown_refusal", error.to_string()))?;
    let releases = &call.parts.releases;
    let name = releases.quarantine().route_of(id).await.ok_or_else(|| unknown(id))?;
    let route = route(call, &name)?;
    let head = releases.quarantine().head(&name, id).await?.ok_or_else(|| unknown(id))?;
    let kept = releases.quarantine().get(&name, id).await?.ok_or_else(|| unknown(id))?;
    let diagnosis = releases.diagnose(call.config, route, id).await?.ok_or_else(|| unknown(id))?;
    let mut shown = summary(&name, id, &head);
    shown.insert("headers".to_owned(), headers(&kept));
    shown.insert("diagnosis".to_owned(), diagnosis.to_json());
    Ok(answer::json(&Value::Object(shown)))
}

pub(super) async fn release(call: &Call<'_>) -> Result<Response<Full<Bytes>>, Problem> {
    let request: Request = serde_json::from_slice(&call.body).map_err(|error| {
        Problem::bad_request("body", format!("the body is no release such as {{\"route\": \"invoices\", \"since\": \"2h\"}}: {error}"))
    })?;
    let now = call.parts.clock.now();
    let time = |name: &str, text: &Option<String>| text.as_ref().map(|text| query::time(name, text, now)).transpose();
    let received = Received { since: time("since", &request.since)?, until: time("until", &request.until)? };
    let after = request.cursor.as_deref().map(|text| query::place('r', text)?.parse().map_err(|_error| bad_cursor())).transpose()?;
    let route = route(call, &request.route)?;
    let wanted = Wanted { received, after, dry_run: request.dry_run };
    let page = call.parts.releases.release(call.config, route, wanted).await;
    if !request.dry_run {
        let (released, refused) = (page.released.len(), page.refused.values().sum::<u64>());
        tracing::info!(
            route.name = %route.name, operator = %call.caller.0, released, refused,
            "{released} refused requests of {} are released, {refused} stay refused", route.name
        );
    }
    Ok(answer::json(&released(&route.name, request.dry_run, &page)))
}

fn route<'c>(call: &Call<'c>, name: &str) -> Result<&'c Arc<Route>, Problem> {
    let found = call.config.routes.iter().find(|route| *route.name == *name);
    found.ok_or_else(|| Problem::not_found("unknown_route", format!("there is no route `{}`", name.chars().take(64).collect::<String>())))
}

fn unknown(id: RefusalId) -> Problem {
    let detail = format!("{id} is not in quarantine: it was released, or was too old, or newer ones took its place");
    Problem::not_found("unknown_refusal", detail)
}

fn summary(route: &Name, id: RefusalId, head: &Head) -> Map<String, Value> {
    Map::from_iter([
        ("id".to_owned(), json!(id.to_string())),
        ("route".to_owned(), json!(&**route)),
        ("received_at".to_owned(), json!(head.received_at().to_string())),
        ("reason".to_owned(), json!(head.reason())),
        ("peer".to_owned(), json!(head.peer().to_string())),
        ("method".to_owned(), json!(head.method())),
        ("body_bytes".to_owned(), json!(head.body_bytes())),
    ])
}

/// One whose bytes are not what was written, or can't be read: only its name can be told.
fn nameless(route: &Name, id: RefusalId, reason: &str) -> Value {
    let received_at: Timestamp = id.received_at();
    json!({
        "id": id.to_string(), "route": &**route, "received_at": received_at.to_string(), "reason": reason,
        "peer": null, "method": null, "body_bytes": null,
    })
}

fn headers(kept: &Kept) -> Value {
    let shown = kept.inbound.headers.iter().map(|(name, value)| {
        let text = Some(value).filter(|_| SHOWN.contains(&name.as_str())).map(|value| String::from_utf8_lossy(value.as_bytes()));
        json!({ "name": name.as_str(), "value": text, "bytes": value.len() })
    });
    shown.collect()
}

fn released(route: &Name, dry_run: bool, page: &Page) -> Value {
    json!({
        "route": &**route,
        "dry_run": dry_run,
        "released": page.released.len(),
        "events": page.released.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "repeated": page.repeated,
        "refused": page.refused.iter().map(|(why, count)| ((**why).to_owned(), json!(count))).collect::<Map<String, Value>>(),
        "next_cursor": page.next.map(|id| cursor('r', &id.to_string())),
        "trouble": page.trouble,
    })
}
