//! What senders are told. The only place that can say 2xx, and to an event it does so only for a [`Receipt`], or when it
//! says once more what is durable already.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER as RETRY_AFTER_HEADER};
use http::{Method, Response, StatusCode};
use http_body_util::Full;

use super::limits::RETRY_AFTER_503;
use super::refusal::Refused;
use crate::model::Answer;
use crate::signature::{self, Handshake};
use crate::store::Receipt;

/// How long senders are told to wait after a 503.
pub const RETRY_AFTER: Duration = RETRY_AFTER_503;

/// The outcome of a request can't be known, so its sender is told nothing: the server closes the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the outcome of a commit can't be known")]
pub struct Unanswered;

/// The answer that a durable event has earned its sender: where its outcome was waited for, the one to that;
/// else the one that stands with the event, which a repeat gets, too (I3).
pub(super) fn accepted(receipt: Receipt, to_the_outcome: Option<&Answer>) -> Response<Full<Bytes>> {
    answered(to_the_outcome.cloned().unwrap_or_else(|| receipt.into_answer()))
}

/// The answer to what was said before and is durable: the same as then.
pub(super) fn counted(answer: Option<&Answer>) -> Response<Full<Bytes>> {
    answered(answer.cloned().unwrap_or_else(Answer::ok))
}

fn answered(answer: Answer) -> Response<Full<Bytes>> {
    let Answer { status, content_type, body } = answer;
    let status = StatusCode::from_u16(status).ok().filter(StatusCode::is_success).unwrap_or(StatusCode::OK);
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let content_type = content_type.and_then(|text| HeaderValue::try_from(text.into_string()).ok());
    if let Some(content_type) = content_type {
        response.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    response
}

/// The answer to a question about the address itself, which no event has asked.
pub(super) fn handshake(handshake: Handshake) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(handshake.status).ok().filter(StatusCode::is_success).unwrap_or(StatusCode::OK);
    let mut response = Response::new(Full::new(handshake.body));
    *response.status_mut() = status;
    response.headers_mut().extend(handshake.headers);
    if let Some(content_type) = handshake.content_type.and_then(|text| HeaderValue::from_str(&text).ok()) {
        response.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    response
}

/// The answer to a sender that tries the address before it sends.
pub(super) fn tried() -> Response<Full<Bytes>> {
    Response::new(Full::default())
}

/// The answer to the browser of a person who has authorized.
pub(super) fn authorized(name: &str) -> Response<Full<Bytes>> {
    text(StatusCode::OK, format!("Kurier may now act for you at `{name}`. You can close this window.\n"))
}

/// The answer to a browser that brings no authorization.
pub(super) fn not_authorized(reason: &str) -> Response<Full<Bytes>> {
    text(StatusCode::BAD_REQUEST, format!("Nothing was authorized: {reason}\n"))
}

/// The answer to a load balancer.
pub(super) fn health(well: bool) -> Response<Full<Bytes>> {
    if well { text(StatusCode::OK, "ok\n") } else { text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n") }
}

/// The answer to a refused request. `setting` names what would have to change for a body to fit.
pub(super) fn refused(refused: &Refused, setting: &str) -> Response<Full<Bytes>> {
    match refused {
        Refused::UnknownPath => text(StatusCode::NOT_FOUND, "no such path\n"),
        Refused::Method(allowed) => {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
            response.headers_mut().insert(ALLOW, allow(allowed));
            response
        }
        Refused::TooManyHeaders => text(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too many headers\n"),
        Refused::Malformed(_) | Refused::BodyBroken => text(StatusCode::BAD_REQUEST, "malformed request\n"),
        Refused::Rate(wait) => retry(StatusCode::TOO_MANY_REQUESTS, "too many requests\n", *wait),
        Refused::BodyTooLarge => text(StatusCode::PAYLOAD_TOO_LARGE, format!("larger than {setting}\n")),
        Refused::BodyTooSlow => text(StatusCode::REQUEST_TIMEOUT, "the request took too long\n"),
        Refused::Overload | Refused::Stopping | Refused::Store(_) | Refused::Unauthenticated(signature::Refusal::KeyFetch, _) => {
            retry(StatusCode::SERVICE_UNAVAILABLE, "not now\n", RETRY_AFTER)
        }
        Refused::Unauthenticated(_, status) => {
            let mut response = Response::new(Full::default());
            // A scheme that asked for a 2xx here would turn forgeries into acceptances.
            let status = StatusCode::from_u16(*status).ok().filter(|status| status.is_client_error() || status.is_server_error());
            *response.status_mut() = status.unwrap_or(StatusCode::UNAUTHORIZED);
            response
        }
    }
}

/// Asks for the connection to be closed after this answer, where the protocol has such a header.
pub(super) fn close(response: &mut Response<Full<Bytes>>) {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// `Retry-After` in whole seconds, rounded up: coming back too early would only be refused again.
fn retry(status: StatusCode, body: &'static str, wait: Duration) -> Response<Full<Bytes>> {
    let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1);
    let mut response = text(status, body);
    response.headers_mut().insert(RETRY_AFTER_HEADER, HeaderValue::from(seconds));
    response
}

fn allow(methods: &[Method]) -> HeaderValue {
    let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
    HeaderValue::from_str(&names.join(", ")).unwrap_or_else(|_invalid| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_rounded_up_to_whole_seconds() {
        for (wait, seconds) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (61_000, "61")] {
            let response = refused(&Refused::Rate(Duration::from_millis(wait)), "");
            assert_eq!(response.headers()[RETRY_AFTER_HEADER], seconds);
        }
    }

    #[test]
    fn no_scheme_can_turn_a_forgery_into_a_success_or_a_redirect() {
        for (asked, given) in [(200, 401), (204, 401), (302, 401), (403, 403), (404, 404), (7, 401)] {
            let response = refused(&Refused::Unauthenticated(signature::Refusal::Mismatch, asked), "");
            assert_eq!(response.status().as_u16(), given);
        }
    }
}
