//! Routes as configured, with what an operator should know of how they are trusted.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde_json::{Value, json};

use super::problem::Problem;
use super::query::{Query, page_by_name};
use super::{Call, answer};
use crate::config::Route;

pub(super) fn list(call: &Call<'_>) -> Result<Response<Full<Bytes>>, Problem> {
    let query = Query::parse(call.query, &["cursor", "limit"])?;
    let (routes, next) = page_by_name(&query, call.config.routes.iter(), |route| route.name.to_string())?;
    Ok(answer::page(routes.into_iter().map(shown).collect(), next))
}

fn shown(route: &Arc<Route>) -> Value {
    json!({
        "name": &*route.name,
        "path": &*route.path.text,
        "methods": route.methods.iter().map(http::Method::as_str).collect::<Vec<_>>(),
        "deliver": route.deliver.iter().map(|deliver| &*deliver.to).collect::<Vec<_>>(),
        "binding": route.binding_word(),
        "warnings": route.binding_warning().into_iter().collect::<Vec<_>>(),
        "dedupe_window_seconds": route.dedupe_window.as_secs(),
        "body_limit_bytes": route.body_limit,
        "rate": route.rate.map(|rate| rate.to_string()),
    })
}
