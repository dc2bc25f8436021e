//! A request written down: in the form of the vectors, or as it went over the wire.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Deserialize;
use serde_json::Value as Json;

use crate::model::{Inbound, Timestamp};

/// What the two forms have in common: a request, and when it was received, where that is known.
pub struct Captured {
    /// The request. Its base is what it says it called.
    pub inbound: Inbound,
    /// When it was received.
    pub received_at: Option<Timestamp>,
}

/// The members of a JSON form.
#[derive(Deserialize)]
pub(super) struct Record {
    method: String,
    url: String,
    #[serde(default)]
    headers: Headers,
    #[serde(default)]
    body: String,
    #[serde(default)]
    body_encoding: Option<String>,
    /// Unix seconds.
    #[serde(default)]
    now: Option<i64>,
}

/// Headers are a mapping, or pairs where a name occurs twice.
#[derive(Default)]
struct Headers(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: serde::Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let json = Json::deserialize(reader)?;
        let pairs = match json {
            Json::Object(_) => serde_json::from_value::<BTreeMap<String, String>>(json).map(|map| map.into_iter().collect()),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) => {
                serde_json::from_value::<Vec<(String, String)>>(json)
            }
        };
        pairs.map(Self).map_err(serde::de::Error::custom)
    }
}

impl Record {
    pub(super) fn inbound(&self) -> Result<Inbound, String> {
        let (base, target) = split_url(&self.url);
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers.0 {
            append(&mut headers, name, value.as_bytes())?;
        }
        let body = match self.body_encoding.as_deref() {
            None | Some("utf8") => self.body.clone().into_bytes(),
            Some("base64") => STANDARD.decode(&self.body).map_err(|error| format!("body: {error}"))?,
            Some(other) => return Err(format!("unknown body_encoding `{other}`")),
        };
        Ok(Inbound {
            method: Method::from_bytes(self.method.as_bytes()).map_err(|error| error.to_string())?,
            target: Bytes::copy_from_slice(target.as_bytes()),
            base: base.into(),
            headers,
            body: Bytes::from(body),
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
            received_at: self.received_at().unwrap_or_default(),
        })
    }

    pub(super) fn received_at(&self) -> Option<Timestamp> {
        self.now.map(|seconds| Timestamp::from_millis(seconds.saturating_mul(1000)))
    }
}

/// Reads a captured request: a JSON object with `method`, `url`, `headers`, `body` (and `body_encoding: base64`,
/// `now` in Unix seconds), or an HTTP/1.1 message as it was sent, to `https://` and its Host.
///
/// # Errors
/// What can't be read, as a fragment.
pub fn read(text: &[u8]) -> Result<Captured, String> {
    if text.trim_ascii_start().starts_with(b"{") {
        let record: Record = serde_json::from_slice(text).map_err(|error| format!("not a request in JSON: {error}"))?;
        return Ok(Captured { inbound: record.inbound()?, received_at: record.received_at() });
    }
    message(text).map(|inbound| Captured { inbound, received_at: None })
}

fn message(text: &[u8]) -> Result<Inbound, String> {
    let mut rest = text;
    let start = line(&mut rest).filter(|line| !line.is_empty()).ok_or("there is no request in it")?;
    let start = std::str::from_utf8(start).map_err(|_error| "the first line is not text")?;
    let mut words = start.split(' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next()) else {
        return Err("the first line is not `METHOD /path HTTP/1.1`".to_owned());
    };
    if !target.starts_with('/') || !version.starts_with("HTTP/") {
        return Err("the first line is not `METHOD /path HTTP/1.1`".to_owned());
    }
    let mut headers = HeaderMap::new();
    loop {
        let line = line(&mut rest).ok_or("there is no empty line between head and body")?;
        if line.is_empty() {
            break;
        }
        let at = line.iter().position(|byte| *byte == b':').ok_or("a header line has no colon")?;
        append(
            &mut headers,
            std::str::from_utf8(&line[..at]).map_err(|_error| "a header's name is not text")?,
            line[at + 1..].trim_ascii(),
        )?;
    }
    if headers.contains_key(http::header::TRANSFER_ENCODING) {
        return Err("the body is chunked: save it decoded, without the header Transfer-Encoding".to_owned());
    }
    let length = headers.get(http::header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    // An editor may have put a newline at the end that was never sent.
    let body = rest.get(..length.unwrap_or(rest.len())).ok_or("the body is shorter than Content-Length")?;
    let host = headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).ok_or("there is no Host header")?;
    Ok(Inbound {
        method: Method::from_bytes(method.as_bytes()).map_err(|error| error.to_string())?,
        target: Bytes::copy_from_slice(target.as_bytes()),
        base: format!("https://{host}").into(),
        headers: headers.clone(),
        body: Bytes::copy_from_slice(body),
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        received_at: Timestamp::default(),
    })
}

/// The next line without its end.
fn line<'t>(rest: &mut &'t [u8]) -> Option<&'t [u8]> {
    let at = rest.iter().position(|byte| *byte == b'\n')?;
    let line = &rest[..at];
    *rest = &rest[at + 1..];
    Some(line.strip_suffix(b"\r").unwrap_or(line))
}

fn append(headers: &mut HeaderMap, name: &str, value: &[u8]) -> Result<(), String> {
    let parsed = HeaderName::try_from(name).map_err(|error| format!("header `{name}`: {error}"))?;
    headers.append(parsed, HeaderValue::from_bytes(value).map_err(|error| format!("header `{name}`: {error}"))?);
    Ok(())
}

/// Scheme and authority, then the rest exactly as written.
fn split_url(url: &str) -> (&str, &str) {
    let authority = url.find("://").map_or(0, |at| at + 3);
    match url[authority..].find(['/', '?']) {
        Some(at) => url.split_at(authority + at),
        None => (url, "/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_from_either_form() {
        let raw = b"POST /in?x=1 HTTP/1.1\r\nHost: a.example\r\nX-Sig: one\r\nX-Sig: two\r\nContent-Length: 3\r\n\r\n{}\n\n";
        let json = br#" {"method":"POST","url":"https://a.example/in?x=1","headers":[["host","a.example"],["x-sig","one"],["x-sig","two"],["content-length","3"]],"body":"{}\n","now":5}"#;
        let (raw, json) = (read(raw).unwrap(), read(json).unwrap());
        assert_eq!((raw.inbound.target.clone(), raw.inbound.base.clone()), (json.inbound.target.clone(), json.inbound.base.clone()));
        assert_eq!((&raw.inbound.body, &raw.inbound.headers), (&json.inbound.body, &json.inbound.headers));
        assert_eq!((raw.received_at, json.received_at), (None, Some(Timestamp::from_millis(5000))));
    }

    #[test]
    fn what_is_no_request_is_said_so() {
        for bad in [
            "",
            "POST",
            "POST /in\n\n",
            "POST /in HTTP/1.1\nHost: a\n",
            "POST /in HTTP/1.1\n\n",
            "POST /in HTTP/1.1\nHost: a\nContent-Length: 9\n\n{}",
            "{}",
        ] {
            assert!(read(bad.as_bytes()).is_err(), "{bad}");
        }
        let chunked = "POST /in HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n0\n\n";
        assert!(read(chunked.as_bytes()).err().unwrap().contains("chunked"));
    }
}
