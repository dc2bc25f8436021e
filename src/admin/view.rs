//! Events, deliveries and attempts as the API shows them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use serde_json::{Map, Value, json};

use crate::model::{Attempt, AttemptResult, Delivery, DeliveryId, DeliveryKind, DeliveryState, Event};
use crate::store::{EventRecord, EventSummary};

/// The longest part of a body that is shown inside JSON; `/body` has all of it.
pub(super) const BODY_SHOWN_BYTES_MAX: usize = 1024 * 1024;

/// Most deliveries of one event that are shown; the newest are.
pub(super) const DELIVERIES_SHOWN_MAX: usize = 500;

/// Most attempts of one delivery that are shown; the newest are.
pub(super) const ATTEMPTS_SHOWN_MAX: usize = 200;

pub(super) fn summary(item: &EventSummary, event_type: Option<&str>) -> Value {
    let mut shown = head(&item.event, event_type);
    shown.insert("body_bytes".to_owned(), json!(item.body_bytes));
    shown.insert("repeats".to_owned(), json!(item.repeats));
    let (deliveries, omitted) = newest(&item.deliveries, DELIVERIES_SHOWN_MAX);
    shown.insert("deliveries".to_owned(), deliveries.iter().map(|item| Value::Object(delivery(item))).collect());
    shown.insert("deliveries_omitted".to_owned(), json!(omitted));
    Value::Object(shown)
}

/// An event whole; its type is given, as it may have been read from the body just now.
pub(super) fn record(record: &EventRecord, event_type: Option<&str>) -> Value {
    let event = &record.event;
    let mut shown = head(event, event_type);
    shown.insert("query".to_owned(), json!(event.query().map(String::from_utf8_lossy)));
    shown.insert("base".to_owned(), json!(&*event.base));
    shown.insert("peer".to_owned(), json!(event.peer.map(|peer| peer.to_string())));
    shown.insert("repeats".to_owned(), json!(record.repeats));
    shown.insert("headers".to_owned(), headers(&event.headers));
    shown.insert("body_bytes".to_owned(), json!(event.body.len()));
    shown.insert("body".to_owned(), body(&event.body));
    let (deliveries, omitted) = newest(&record.deliveries, DELIVERIES_SHOWN_MAX);
    let whole = |item: &Delivery| {
        let mut shown = delivery(item);
        attempts(&mut shown, &record.attempts, item.id);
        Value::Object(shown)
    };
    shown.insert("deliveries".to_owned(), deliveries.iter().map(whole).collect());
    shown.insert("deliveries_omitted".to_owned(), json!(omitted));
    Value::Object(shown)
}

fn head(event: &Event, event_type: Option<&str>) -> Map<String, Value> {
    let fields = [
        ("id", json!(event.id.to_string())),
        ("route", json!(&*event.route)),
        ("type", json!(event_type)),
        ("source_id", json!(event.source_id)),
        ("received_at", json!(event.received_at.to_string())),
        ("method", json!(event.method.as_str())),
        ("path", json!(String::from_utf8_lossy(event.path()))),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn delivery(delivery: &Delivery) -> Map<String, Value> {
    let (due, reason) = match &delivery.state {
        DeliveryState::Pending { due } => (Some(due.to_string()), None),
        DeliveryState::Dead(reason) => (None, Some(json!({ "code": reason.code.word(), "detail": &*reason.detail }))),
        DeliveryState::Delivered | DeliveryState::Skipped | DeliveryState::Cancelled => (None, None),
    };
    let kind = match delivery.kind {
        DeliveryKind::Original => "original",
        DeliveryKind::Replay => "replay",
        DeliveryKind::Acknowledgement => "acknowledgement",
    };
    let fields = [
        ("id", json!(delivery.id.to_string())),
        ("destination", json!(&*delivery.destination)),
        ("kind", json!(kind)),
        ("state", json!(delivery.state.word())),
        ("due", json!(due)),
        ("reason", json!(reason)),
        ("created_at", json!(delivery.created_at.to_string())),
        ("attempts_made", json!(delivery.attempts)),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn attempts(shown: &mut Map<String, Value>, attempts: &[(DeliveryId, Attempt)], id: DeliveryId) {
    let own: Vec<&Attempt> = attempts.iter().filter(|(delivery, _)| *delivery == id).map(|(_, attempt)| attempt).collect();
    let (own, omitted) = newest(&own, ATTEMPTS_SHOWN_MAX);
    shown.insert("attempts".to_owned(), own.iter().map(|item| attempt(item)).collect());
    shown.insert("attempts_omitted".to_owned(), json!(omitted));
}

fn attempt(attempt: &Attempt) -> Value {
    let (response, fault) = match &attempt.result {
        AttemptResult::Response { status, excerpt } => (Some(json!({ "status": status, "excerpt": body(excerpt) })), None),
        AttemptResult::Fault { kind, detail } => (None, Some(json!({ "kind": kind.word(), "detail": &**detail }))),
    };
    json!({
        "number": attempt.number,
        "started_at": attempt.started_at.to_string(),
        "duration_ms": attempt.duration_ms,
        "outcome": attempt.outcome.word(),
        "response": response,
        "fault": fault,
    })
}

/// The headers as stored: credentials of the route were left out at acceptance.
fn headers(headers: &HeaderMap) -> Value {
    let shown = |(name, value): (&http::HeaderName, &http::HeaderValue)| match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => json!({ "name": name.as_str(), "value": text }),
        Err(_) => json!({ "name": name.as_str(), "value_base64": STANDARD.encode(value.as_bytes()) }),
    };
    headers.iter().map(shown).collect()
}

/// Bytes as text where they are text, else as base64; the start of them where they are many.
fn body(bytes: &[u8]) -> Value {
    let truncated = bytes.len() > BODY_SHOWN_BYTES_MAX;
    match std::str::from_utf8(bytes) {
        Ok(text) => json!({ "text": start_of(text, BODY_SHOWN_BYTES_MAX), "truncated": truncated }),
        Err(_) => json!({ "base64": STANDARD.encode(&bytes[..bytes.len().min(BODY_SHOWN_BYTES_MAX)]), "truncated": truncated }),
    }
}

/// The longest start of a text with at most so many bytes.
fn start_of(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The last so many, and how many come before them.
fn newest<T>(items: &[T], max: usize) -> (&[T], usize) {
    let omitted = items.len().saturating_sub(max);
    (&items[omitted..], omitted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_text_or_base64_and_cut_between_characters() {
        assert_eq!(body(b"{}"), json!({ "text": "{}", "truncated": false }));
        assert_eq!(body(&[0xff, 0]), json!({ "base64": "/wA=", "truncated": false }));
        assert_eq!(start_of("aé", 2), "a");
        let long = body("é".repeat(BODY_SHOWN_BYTES_MAX).as_bytes());
        assert_eq!(long["truncated"], true);
        assert_eq!(long["text"].as_str().unwrap().len(), BODY_SHOWN_BYTES_MAX);
    }

    #[test]
    fn the_newest_are_shown_and_the_others_counted() {
        assert_eq!(newest(&[1, 2, 3], 2), (&[2, 3][..], 1));
        assert_eq!(newest(&[1], 2), (&[1][..], 0));
    }
}
