//! Everything that can go wrong with a request to the admin side, as RFC 9457 problem documents.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::json;

use super::answer;
use crate::config::Scope;
use crate::store::{CommitError, ReadError};

/// One problem: a code for programs, a detail for people that says what to do.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), header: None }
    }

    fn with(mut self, name: HeaderName, value: &str) -> Self {
        self.header = HeaderValue::from_str(value).ok().map(|value| (name, value));
        self
    }

    pub(super) fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    pub(super) fn unprocessable(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    }

    pub(super) fn bad_gateway(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, code, detail)
    }

    pub(super) fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    pub(super) fn not_found(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail)
    }

    pub(super) fn forbidden(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, detail)
    }

    pub(super) fn method_not_allowed(allowed: &str) -> Self {
        let detail = format!("this path takes {allowed} only");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method", detail).with(ALLOW, allowed)
    }

    pub(super) fn token_missing() -> Self {
        let detail = "a token is needed; send `Authorization: Bearer …` with one of admin.tokens";
        Self::new(StatusCode::UNAUTHORIZED, "token_missing", detail).with(WWW_AUTHENTICATE, "Bearer realm=\"kurier\"")
    }

    pub(super) fn token_unknown() -> Self {
        let detail = "the token is none of admin.tokens";
        let challenge = "Bearer realm=\"kurier\", error=\"invalid_token\"";
        Self::new(StatusCode::UNAUTHORIZED, "token_unknown", detail).with(WWW_AUTHENTICATE, challenge)
    }

    pub(super) fn scope_missing(needed: Scope) -> Self {
        let word = needed.word();
        let challenge = format!("Bearer realm=\"kurier\", error=\"insufficient_scope\", scope=\"{word}\"");
        Self::forbidden("scope_missing", format!("the token lacks the scope `{word}`")).with(WWW_AUTHENTICATE, &challenge)
    }

    pub(super) fn body_too_large(limit: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", format!("the body is longer than {limit} bytes"))
    }

    pub(super) fn body_too_slow(limit: Duration) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", format!("the body did not come within {limit:?}"))
    }

    pub(super) fn unreadable(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, code, detail)
    }

    pub(super) fn stopping() -> Self {
        let detail = "the server is stopping; nothing was changed, try again later";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", detail).with(RETRY_AFTER, "5")
    }

    /// What to say when a commit did not come about; `what` is the thing that may not have been found.
    pub(super) fn from_commit(error: &CommitError, what: &str) -> Self {
        match error {
            CommitError::Refused(reason) => {
                let detail = format!("the store refused: {reason}; nothing was changed, try again later");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_refused", detail).with(RETRY_AFTER, "5")
            }
            CommitError::Unknown => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "outcome_unknown",
                "whether it was done can't be known; look at its state before you try again",
            ),
            CommitError::Stale => Self::conflict("changed", "it has changed meanwhile; look at it and try again"),
            CommitError::NotFound => Self::not_found("not_found", format!("{what} is not in the store")),
        }
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let document = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Problem"),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        });
        let mut response = answer::text(self.status, "application/problem+json", document.to_string());
        response.headers_mut().extend(self.header);
        debug_assert!(response.headers().contains_key(CONTENT_TYPE), "a problem names its media type");
        response
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        tracing::error!(error = %error, "the store could not be read");
        match error {
            ReadError::Damaged => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "damaged_in_store", "its bytes no longer match their checksum; see the log")
            }
            ReadError::Io(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "store_unreadable", "the store can't be read; see the log"),
        }
    }
}
