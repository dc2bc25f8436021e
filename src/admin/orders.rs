//! Orders of InPaSy: placed by an application, and looked at by it.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use super::problem::Problem;
use super::{Call, answer};
use crate::config::Route;
use crate::connectors::inpasy::{Lid, Settings};
use crate::model::Name;
use crate::orders::{Answered, Kept, PlaceError, Placed, Trouble};

/// Where a parameter's two parts meet: `{route}` and `{lid}`.
const BETWEEN: char = '/';

pub(super) async fn place(call: &Call<'_>, route: &str) -> Result<Response<Full<Bytes>>, Problem> {
    let (route, settings) = find(call, route)?;
    let posted: Value =
        serde_json::from_slice(&call.body).map_err(|error| Problem::bad_request("body", format!("the body is no order: {error}")))?;
    let placed = call.parts.orders.place(&route.name, settings, &posted).await;
    let Placed { lid, answered } = placed.map_err(|error| problem(&error))?;
    tracing::info!(route.name = %route.name, lid = %lid, by = %call.caller.0, "the order {lid} is placed");
    let answer = match answered {
        Answered::Location(url) => json!({ "lid": lid.as_str(), "location": url.as_str() }),
        Answered::Page { content_type, body } => {
            json!({ "lid": lid.as_str(), "page": settings.charset.decode(&body), "content_type": content_type })
        }
    };
    Ok(answer::json_with(StatusCode::CREATED, &answer))
}

pub(super) async fn show(call: &Call<'_>, parameter: &str) -> Result<Response<Full<Bytes>>, Problem> {
    let (route, lid) = parameter.split_once(BETWEEN).unwrap_or((parameter, ""));
    let (route, settings) = find(call, route)?;
    let unknown = || Problem::not_found("unknown_order", "there is no such order");
    let lid = Lid::parse(lid).ok_or_else(unknown)?;
    let kept = call.parts.orders.order(&route.name, &lid).await.map_err(|trouble| in_trouble(&trouble))?.ok_or_else(unknown)?;
    Ok(answer::json(&shown(&route.name, &lid, &kept, settings)))
}

fn shown(route: &Name, lid: &Lid, kept: &Kept, settings: &Settings) -> Value {
    json!({
        "route": &**route,
        "lid": lid.as_str(),
        "state": kept.state().word(),
        "placed_at": kept.placed_at.to_string(),
        "expires_at": settings.expires_at(kept.placed_at).to_string(),
        "repeats": kept.track.repeats,
        "unknown_words": kept.track.words,
    })
}

fn find<'c>(call: &'c Call<'_>, name: &str) -> Result<(&'c Route, &'c Settings), Problem> {
    let route = call.config.route(name);
    route.and_then(|route| Some((&**route, route.inpasy.as_deref()?))).ok_or_else(|| {
        let known: Vec<&str> = call.config.routes.iter().filter(|route| route.inpasy.is_some()).map(|route| &*route.name).collect();
        Problem::not_found("unknown_route", format!("no route of this name has `inpasy`; there are: {}", known.join(", ")))
    })
}

fn problem(error: &PlaceError) -> Problem {
    match error {
        PlaceError::Parameters(problems) => {
            let lines: Vec<String> = problems.iter().map(|problem| format!("`{}` {}", problem.name, problem.message)).collect();
            Problem::unprocessable("parameters", lines.join("; "))
        }
        PlaceError::Exists(_) => Problem::conflict("order_exists", error.to_string()),
        PlaceError::NoId(_) => Problem::bad_gateway("no_id", format!("{error}; nothing was done, try again")),
        PlaceError::Refused(_) => Problem::unprocessable("refused", error.to_string()),
        PlaceError::Unclear { lid, reason } => Problem::bad_gateway(
            "unclear",
            format!("{reason}; the order {lid} may have been started: it stays open, and its callback counts"),
        ),
        PlaceError::TooMany => Problem::conflict(
            "too_many_orders",
            format!("{error}; nothing was done. They leave when they have ended and `store.retention` is over: shorten `expire` or it"),
        ),
        PlaceError::Store(trouble) => in_trouble(trouble),
    }
}

fn in_trouble(trouble: &Trouble) -> Problem {
    match trouble {
        Trouble::Read(error) => Problem::from(error.clone()),
        Trouble::Commit(error) => Problem::from_commit(error, "the order"),
    }
}
