//! Answers of the admin side, and the headers that all of them carry.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::Value;

/// The description of what exists; a test holds it to the table of endpoints.
const OPENAPI: &str = include_str!("openapi.json");

pub(super) fn json(value: &Value) -> Response<Full<Bytes>> {
    json_with(StatusCode::OK, value)
}

pub(super) fn json_with(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    text(status, "application/json", value.to_string())
}

/// One page of a list.
pub(super) fn page(items: Vec<Value>, next_cursor: Option<String>) -> Response<Full<Bytes>> {
    json(&serde_json::json!({ "items": items, "next_cursor": next_cursor }))
}

pub(super) fn openapi() -> Response<Full<Bytes>> {
    text(StatusCode::OK, "application/json", OPENAPI)
}

/// Any answer. A stored body is a stranger's words: no browser may sniff a type into it, run it or keep it.
pub(super) fn text(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox; frame-ancestors 'none'"));
    response
}
