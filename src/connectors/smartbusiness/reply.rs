//! What an answer of SmartBusiness means.

use std::time::Duration;

use http::HeaderMap;
use serde_json::Value;

use crate::connectors::{Outcome, Reply, Verdict, json, text};

/// The vendor's code for a value that exists already.
const EXISTS: i64 = 1105;

/// The field that makes a repeat an error of its own.
const NUMBER: &str = "number";

/// Longest wait that a reset asks for and gets.
pub const RESET_MAX: Duration = Duration::from_secs(3600);

/// What the vendor says of its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests left.
    pub remaining: u64,
    /// Until there are more.
    pub reset: Duration,
}

impl RateLimit {
    /// How long to send nothing more, after an answer with this.
    pub fn hold(self) -> Option<Duration> {
        (self.remaining == 0).then_some(self.reset)
    }
}

/// The limit as these headers say it. The reset is in seconds left, not a time.
pub fn rate_limit(headers: &HeaderMap) -> Option<RateLimit> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    let reset = Duration::from_secs(number("x-rate-limit-reset")?).min(RESET_MAX);
    Some(RateLimit { remaining: number("x-rate-limit-remaining").unwrap_or(0), reset })
}

/// What the answer means. `unknown` says that an earlier attempt of this delivery ended without an answer; `again` that
/// this request was made again already after a 401, with a fresh token.
pub fn judge(reply: &Reply<'_>, unknown: bool, again: bool) -> Outcome {
    let status = reply.status.as_u16();
    let said = |what: &str| format!("SmartBusiness {what} ({status}){}", detail(reply));
    match status {
        200..=299 => Outcome::delivered(),
        422 if unknown && number_exists(reply.body) => {
            Outcome { reason: "the number exists already: an earlier attempt had arrived".to_owned(), ..Outcome::delivered() }
        }
        401 if !again => Outcome::new(Verdict::Reauthorize, said("refuses the access token")),
        401 => Outcome::pause(said("refuses a fresh access token: authorize again, or check the client's scopes")),
        429 => Outcome::new(Verdict::Retry { after: rate_limit(reply.headers).map(|limit| limit.reset) }, said("has had enough requests")),
        402 => Outcome::rejected(said("wants a paid subscription for this")),
        400 | 403 | 404 | 405 | 413 | 422 => Outcome::rejected(said("refuses the request")),
        300..=399 => Outcome::retry(said("redirects, which is not followed")),
        _ => Outcome::retry(said("answers with a fault")),
    }
}

/// Whether all that is wrong is that the number exists.
fn number_exists(body: &[u8]) -> bool {
    let Ok(document) = serde_json::from_slice::<Value>(body) else { return false };
    let Some(Value::Array(errors)) = document.pointer("/meta/errors") else { return false };
    let exists =
        |error: &Value| error.get("code").and_then(json::whole) == Some(EXISTS) && error.get("key").and_then(Value::as_str) == Some(NUMBER);
    !errors.is_empty() && errors.iter().all(exists)
}

/// Which fields are wrong, else the message, else the start of the body; and the vendor's id of the request.
fn detail(reply: &Reply<'_>) -> String {
    let document: Value = serde_json::from_slice(reply.body).unwrap_or(Value::Null);
    let errors = document.pointer("/meta/errors").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let lines = errors.iter().filter_map(|error| {
        let part = |name| error.get(name).and_then(json::scalar);
        Some(format!("{} {} {}", part("key").unwrap_or_default(), part("code")?, part("message").unwrap_or_default()).trim().to_owned())
    });
    let lines = text::quoted(&lines.collect::<Vec<_>>().join("; "));
    let said = match (lines.is_empty(), document.get("message").and_then(json::scalar)) {
        (false, _) => lines,
        (true, Some(message)) => text::quoted(&message),
        (true, None) => text::excerpt(reply.body),
    };
    let request = reply.headers.get("x-request-id").and_then(|value| value.to_str().ok());
    let request = request.map(|id| format!(" [{}]", text::quoted(id))).unwrap_or_default();
    if said.is_empty() { request } else { format!(": {said}{request}") }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    fn outcome(status: u16, body: &str, unknown: bool, again: bool) -> Outcome {
        let mut headers = HeaderMap::new();
        headers.insert("x-rate-limit-reset", "17".parse().unwrap());
        headers.insert("x-request-id", "req-1".parse().unwrap());
        judge(
            &Reply { status: StatusCode::from_u16(status).unwrap(), headers: &headers, body: body.as_bytes(), truncated: false },
            unknown,
            again,
        )
    }

    #[test]
    fn every_status_has_its_row() {
        for status in 200..600 {
            let expected = match status {
                200..=299 => Verdict::Delivered,
                401 => Verdict::Reauthorize,
                429 => Verdict::Retry { after: Some(Duration::from_secs(17)) },
                400 | 402 | 403 | 404 | 405 | 413 | 422 => Verdict::Rejected,
                _ => Verdict::Retry { after: None },
            };
            assert_eq!(outcome(status, "", false, false).verdict, expected, "{status}");
        }
        assert_eq!(outcome(401, "", false, true).verdict, Verdict::Pause);
    }

    #[test]
    fn an_existing_number_is_a_delivery_only_after_a_lost_answer() {
        let error = |key: &str, code: i64| format!(r#"{{"key":"{key}","code":{code},"message":"m"}}"#);
        let body = |errors: &[String]| format!(r#"{{"code":"validation","message":"x","meta":{{"errors":[{}]}}}}"#, errors.join(","));
        let exists = body(&[error("number", 1105)]);
        assert_eq!(outcome(422, &exists, true, false).verdict, Verdict::Delivered);
        assert_eq!(outcome(422, &exists, false, false).verdict, Verdict::Rejected);
        for other in
            [body(&[error("email", 1105)]), body(&[error("number", 1100)]), body(&[error("number", 1105), error("date", 1)]), body(&[])]
        {
            assert_eq!(outcome(422, &other, true, false).verdict, Verdict::Rejected, "{other}");
        }
        assert_eq!(outcome(422, &exists, false, false).reason, "SmartBusiness refuses the request (422): number 1105 m [req-1]");
    }

    #[test]
    fn a_limit_is_seconds_left_and_bounded() {
        let limit = |remaining: Option<&str>, reset: &str| {
            let mut headers = HeaderMap::new();
            if let Some(remaining) = remaining {
                headers.insert("x-rate-limit-remaining", remaining.parse().unwrap());
            }
            headers.insert("x-rate-limit-reset", reset.parse().unwrap());
            rate_limit(&headers)
        };
        assert_eq!(limit(Some("0"), "30").unwrap().hold(), Some(Duration::from_secs(30)));
        assert_eq!(limit(Some("1"), "30").unwrap().hold(), None);
        assert_eq!(limit(None, "1700000000").unwrap().reset, RESET_MAX);
        assert_eq!(limit(None, "soon"), None);
        assert_eq!(rate_limit(&HeaderMap::new()), None);
    }
}
