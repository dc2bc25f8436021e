//! Routes as configured, with what an operator should know of how they are trusted.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde_json::{Value, json};

use super::problem::Problem;
use super::query::{Query, page_by_name};
use super::{Call, answer};
use crate::config::{Pull, Route};
use crate::model::Timestamp;

pub(super) async fn list(call: &Call<'_>) -> Result<Response<Full<Bytes>>, Problem> {
    let query = Query::parse(call.query, &["cursor", "limit"])?;
    let (routes, next) = page_by_name(&query, call.config.routes.iter(), |route| route.name.to_string())?;
    let standing = call.parts.store.states("pull/").await?;
    Ok(answer::page(routes.into_iter().map(|route| shown(route, &standing)).collect(), next))
}

fn shown(route: &Arc<Route>, standing: &BTreeMap<String, Bytes>) -> Value {
    json!({
        "name": &*route.name,
        "path": route.path.as_ref().map(|path| &*path.text),
        "methods": route.methods.iter().map(http::Method::as_str).collect::<Vec<_>>(),
        "deliver": route.deliver.iter().map(|deliver| &*deliver.to).collect::<Vec<_>>(),
        "binding": route.binding_word(),
        "warnings": route.binding_warning().into_iter().collect::<Vec<_>>(),
        "dedupe_window_seconds": route.dedupe_window.as_secs(),
        "body_limit_bytes": route.body_limit,
        "rate": route.rate.map(|rate| rate.to_string()),
        "quarantine": route.quarantine.map(|set| json!({ "keep": set.keep, "max_age_seconds": set.max_age.as_secs() })),
        "pull": route.pull.as_ref().map(|pull| pulled(pull, standing.get(&format!("pull/{}", route.name)))),
    })
}

/// How a route's polls stand.
fn pulled(pull: &Pull, standing: Option<&Bytes>) -> Value {
    let standing: Value = standing.and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default();
    json!({
        "every_seconds": pull.every.as_secs(),
        "last_success": standing["last_success_ms"].as_i64().map(|time| Timestamp::from_millis(time).to_string()),
        "failures": standing["failures"].as_u64().unwrap_or(0),
        "last_error": standing["last_error"],
        "fetched_until": standing["fetched"],
    })
}
