//! The three shapes in which an event is sent: its own bytes, the object that jq sees, a CloudEvent.
//!
//! A body that is JSON is set into the object as the text it is: neither its numbers nor the order or number
//! of its keys change on the way.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::CONTENT_TYPE;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::model::Event;

/// `as: json`: what `when` and `transform` see too.
#[derive(Serialize)]
struct Seen<'a> {
    id: String,
    route: &'a str,
    #[serde(rename = "type")]
    event_type: Option<&'a str>,
    received_at: String,
    method: &'a str,
    path: String,
    query: Map<String, Value>,
    headers: Map<String, Value>,
    body: Body<'a>,
}

/// CloudEvents 1.0, structured mode.
#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: String,
    source: String,
    #[serde(rename = "type")]
    event_type: &'a str,
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    datacontenttype: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

/// A body as a JSON value: parsed when it is JSON, else text, else base64.
#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a> {
    None,
    Json(&'a RawValue),
    Text(&'a str),
    Base64(String),
}

/// The event as the object that jq sees.
pub(super) fn json(event: &Event) -> Result<Vec<u8>, serde_json::Error> {
    let body = match (as_json(event), std::str::from_utf8(&event.body)) {
        _ if event.body.is_empty() => Body::None,
        (Some(json), _) => Body::Json(json),
        (None, Ok(text)) => Body::Text(text),
        (None, Err(_)) => Body::Base64(STANDARD.encode(&event.body)),
    };
    serde_json::to_vec(&Seen {
        id: event.id.to_string(),
        route: &event.route,
        event_type: event.event_type.as_deref(),
        received_at: event.received_at.to_string(),
        method: event.method.as_str(),
        path: text(event.path()),
        query: query(event.query().unwrap_or_default()),
        headers: headers(event),
        body,
    })
}

/// The event as a CloudEvent.
pub(super) fn cloud_event(event: &Event) -> Result<Vec<u8>, serde_json::Error> {
    let data = as_json(event);
    let content_type = event.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    serde_json::to_vec(&CloudEvent {
        specversion: "1.0",
        id: event.id.to_string(),
        source: format!("/routes/{}", percent_encoding::utf8_percent_encode(&event.route, percent_encoding::NON_ALPHANUMERIC)),
        event_type: event.event_type.as_deref().filter(|word| !word.is_empty()).unwrap_or("kurier.event"),
        time: event.received_at.to_string(),
        datacontenttype: if data.is_some() {
            content_type.filter(|kind| is_json_type(kind)).or(Some("application/json"))
        } else {
            content_type
        },
        data,
        data_base64: (data.is_none() && !event.body.is_empty()).then(|| STANDARD.encode(&event.body)),
    })
}

fn is_json_type(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence == "text/json" || essence.ends_with("+json")
}

/// The body as JSON, when it is: by its content type, or because it looks like an object or an array
/// (senders that mislabel their JSON are many; a text that is only a number stays a text).
fn as_json(event: &Event) -> Option<&RawValue> {
    let labelled = event.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(is_json_type);
    let body = event.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&event.body);
    let looks = body.trim_ascii_start().first().is_some_and(|byte| matches!(byte, b'{' | b'['));
    if labelled || looks { serde_json::from_slice(body).ok() } else { None }
}

/// Bytes as text: UTF-8 where they are, else each byte the character of its number (ISO-8859-1), so that none
/// is lost.
fn text(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| bytes.iter().map(|byte| char::from(*byte)).collect(), str::to_owned)
}

fn headers(event: &Event) -> Map<String, Value> {
    let mut map = Map::new();
    for (name, value) in &event.headers {
        add(&mut map, name.as_str().to_owned(), text(value.as_bytes()));
    }
    map
}

/// The query's parameters, decoded.
fn query(raw: &[u8]) -> Map<String, Value> {
    let decode = |part: &[u8]| {
        let spaced: Vec<u8> = part.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
        text(&percent_encoding::percent_decode(&spaced).collect::<Vec<u8>>())
    };
    let mut map = Map::new();
    for pair in raw.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.iter().position(|byte| *byte == b'=').map_or((pair, &b""[..]), |at| (&pair[..at], &pair[at + 1..]));
        add(&mut map, decode(name), decode(value));
    }
    map
}

/// One value is a text; several of one name are a list of texts in their order.
fn add(map: &mut Map<String, Value>, name: String, value: String) {
    match map.get_mut(&name) {
        None => {
            map.insert(name, Value::String(value));
        }
        Some(Value::Array(values)) => values.push(Value::String(value)),
        Some(first) => *first = Value::Array(vec![first.take(), Value::String(value)]),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, Method};

    use super::*;
    use crate::model::{EventId, Timestamp};

    fn event(content_type: &str, target: &'static str, body: &'static [u8]) -> Event {
        let mut headers = HeaderMap::new();
        headers.append("content-type", content_type.parse().unwrap());
        headers.append("x-a", HeaderValue::from_static("1"));
        headers.append("x-a", HeaderValue::from_bytes(b"\xe9").unwrap());
        Event {
            id: EventId::from_bits(1),
            route: "in voices".into(),
            received_at: Timestamp::from_millis(1_700_000_000_120),
            peer: None,
            source_id: None,
            event_type: None,
            method: Method::GET,
            target: Bytes::from_static(target.as_bytes()),
            base: "http://x".into(),
            headers,
            body: Bytes::from_static(body),
        }
    }

    fn paid(event: Event) -> Event {
        Event { event_type: Some("paid".into()), ..event }
    }

    fn utf8(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_object_that_jq_sees_has_every_part_of_the_request() {
        let event = event("application/json", "/a%2Fb?lid=7&x=a%20b+c&x=%e9&flag", b"{\"n\": 1e400, \"n\":1.10}");
        insta::assert_snapshot!(
            utf8(json(&paid(event)).unwrap()),
            @r#"{"id":"evt_00000000000000000000000001","route":"in voices","type":"paid","received_at":"2023-11-14T22:13:20.120Z","method":"GET","path":"/a%2Fb","query":{"lid":"7","x":["a b c","é"],"flag":""},"headers":{"content-type":"application/json","x-a":["1","é"]},"body":{"n": 1e400, "n":1.10}}"#
        );
    }

    #[test]
    fn a_body_is_json_when_it_is_else_text_else_base64_else_null() {
        let body = |content_type, body| {
            let text = utf8(json(&event(content_type, "/", body)).unwrap());
            text[text.find("\"body\":").unwrap() + 7..text.len() - 1].to_owned()
        };
        assert_eq!(body("text/plain", b" [1]"), "[1]");
        assert_eq!(body("text/plain", b"12"), "\"12\"");
        assert_eq!(body("application/vnd.x+json; charset=utf-8", b"12"), "12");
        assert_eq!(body("application/json", b"{\"a\":"), r#""{\"a\":""#);
        assert_eq!(body("application/json", b"\xef\xbb\xbf{}"), "{}");
        assert_eq!(body("application/octet-stream", b"\xff\x00"), "\"/wA=\"");
        assert_eq!(body("application/json", b""), "null");
    }

    #[test]
    fn deep_nesting_neither_overflows_nor_fails() {
        let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
        let mut event = event("application/json", "/", b"");
        event.body = deep.into();
        assert!(json(&event).is_ok());
        assert!(cloud_event(&event).is_ok());
    }

    #[test]
    fn a_cloud_event_carries_json_as_data_and_the_rest_as_base64() {
        let json = event("application/json; charset=utf-8", "/", b"{\"a\":1}");
        insta::assert_snapshot!(
            utf8(cloud_event(&paid(json)).unwrap()),
            @r#"{"specversion":"1.0","id":"evt_00000000000000000000000001","source":"/routes/in%20voices","type":"paid","time":"2023-11-14T22:13:20.120Z","datacontenttype":"application/json; charset=utf-8","data":{"a":1}}"#
        );
        let form = event("application/x-www-form-urlencoded", "/", b"a=1");
        insta::assert_snapshot!(
            utf8(cloud_event(&form).unwrap()),
            @r#"{"specversion":"1.0","id":"evt_00000000000000000000000001","source":"/routes/in%20voices","type":"kurier.event","time":"2023-11-14T22:13:20.120Z","datacontenttype":"application/x-www-form-urlencoded","data_base64":"YT0x"}"#
        );
    }
}
