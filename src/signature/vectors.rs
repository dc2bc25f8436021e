//! Runs recorded requests against the presets: `kurier verify --vectors FILE`.
//!
//! Each vector names a scheme, overrides to it, a secret, a request, a clock and the verdict expected. A vector
//! of a scheme that this version can't evaluate has failed, with that as its reason.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Deserialize;
use serde_json::Value as Json;

use super::compile::{self, Recorded};
use super::keeper::{Context, NoKeys};
use super::{Handshake, Judged, KeyMaterial, SecretSource};
use crate::document::{Entry, Node, Span, Value};
use crate::model::{Inbound, Secret, Timestamp};

/// What came of a file of vectors.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// One result for each vector, in order.
    pub results: Vec<VectorResult>,
}

/// What came of one vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VectorResult {
    /// Its id.
    pub id: String,
    /// Why it failed; none when it passed.
    pub failure: Option<String>,
}

impl Report {
    /// How many passed.
    pub fn passed(&self) -> usize {
        self.results.iter().filter(|result| result.failure.is_none()).count()
    }

    /// How many failed.
    pub fn failed(&self) -> usize {
        self.results.len() - self.passed()
    }
}

#[derive(Deserialize)]
struct Vector {
    scheme: String,
    secret: Json,
    #[serde(default)]
    overrides: Json,
    #[serde(default)]
    config: Json,
    #[serde(default)]
    kind: Option<String>,
    method: String,
    url: String,
    headers: Headers,
    body: String,
    #[serde(default)]
    body_encoding: Option<String>,
    now: Option<i64>,
    expected: String,
    #[serde(default)]
    expected_reply: Option<Reply>,
}

/// The answer that a handshake should get.
#[derive(Deserialize)]
struct Reply {
    status: u16,
    content_type: String,
    body: String,
}

/// Headers are a mapping, or pairs where a name occurs twice.
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

/// Secrets of vectors stand in the file itself.
struct Literal;

impl SecretSource for Literal {
    fn secret(&mut self, node: &Node, _path: &str) -> Option<KeyMaterial> {
        let text = node.as_str().unwrap_or_default();
        Some(KeyMaterial { secret: Secret::new(text.as_bytes().to_vec()), not_after: None })
    }
}

/// Runs a file of vectors.
///
/// # Errors
/// The file is no list of vectors.
pub fn run(json: &[u8]) -> Result<Report, String> {
    let vectors: Vec<Json> = serde_json::from_slice(json).map_err(|error| format!("not a list of vectors: {error}"))?;
    let mut report = Report::default();
    for (index, vector) in vectors.into_iter().enumerate() {
        let id = vector.get("id").and_then(Json::as_str).map_or_else(|| format!("number {}", index + 1), str::to_owned);
        let failure = match serde_json::from_value::<Vector>(vector) {
            Ok(vector) => vector.run().err(),
            Err(error) => Some(format!("not a vector: {error}")),
        };
        report.results.push(VectorResult { id, failure });
    }
    Ok(report)
}

impl Vector {
    fn run(self) -> Result<(), String> {
        let recorded = match self.kind.as_deref() {
            None => Recorded::Event,
            Some("challenge") => Recorded::Handshake,
            Some(other) => return Err(format!("unknown kind `{other}`")),
        };
        let genuine = match self.expected.as_str() {
            "valid" => true,
            "invalid" => false,
            other => return Err(format!("unknown verdict `{other}`")),
        };
        let mut problems = Vec::new();
        let verifier = compile::verifier(&self.scheme_node(), "verify", &mut Literal, &mut problems, Some(recorded));
        let Some(verifier) = verifier.filter(|_| problems.is_empty()) else {
            let texts: Vec<String> = problems.iter().map(|problem| problem.located("vector").to_string()).collect();
            return Err(texts.join("; "));
        };
        let now = self.now.map(|seconds| Timestamp::from_millis(seconds.saturating_mul(1000)));
        let verdict = verifier.judge_in(self.request()?, Context { now, keys: &NoKeys });
        match (genuine, verdict) {
            (true, Ok(Judged::Handshake(answer))) if recorded == Recorded::Handshake => self.compare(&answer),
            (true, Ok(Judged::Event(_))) if recorded == Recorded::Handshake => Err("no handshake to this scheme".to_owned()),
            (false, Ok(Judged::Event(_))) if recorded == Recorded::Handshake => Err("taken for an event".to_owned()),
            (true, Ok(_)) | (false, Err(_)) => Ok(()),
            (true, Err(refusal)) => Err(format!("genuine, but refused: {}", refusal.as_str())),
            (false, Ok(_)) => Err("forged, but accepted".to_owned()),
        }
    }

    fn compare(&self, answer: &Handshake) -> Result<(), String> {
        let Some(expected) = &self.expected_reply else { return Err("there is no expected_reply to compare with".to_owned()) };
        let got = (answer.status, answer.content_type.as_deref().unwrap_or_default(), &answer.body[..]);
        // The body may be signed with the scheme's key, so it is not shown.
        if got == (expected.status, &*expected.content_type, expected.body.as_bytes()) { Ok(()) } else { Err("another reply than expected".to_owned()) }
    }

    /// The scheme as a route would write it.
    fn scheme_node(&self) -> Node {
        let entry = |key: &str, value: Node| Entry { key: key.to_owned(), key_span: Span::default(), value };
        let scheme = self.scheme.strip_prefix("code:").unwrap_or(&self.scheme);
        let mut entries = vec![entry("preset", Node::text(scheme)), entry("secrets", self.secrets())];
        // A list in it is for implementations that fetch keys.
        let config = self.config.as_object().into_iter().flatten().filter(|(_, value)| value.is_string());
        let config: Vec<_> = config.map(|(key, value)| entry(key, Node::from(value))).collect();
        if !config.is_empty() {
            entries.push(entry("config", Node { span: Span::default(), value: Value::Mapping(config) }));
        }
        let scheme = Node { span: Span::default(), value: Value::Mapping(entries) };
        if self.overrides.is_null() { scheme } else { scheme.merged(&Node::from(&self.overrides)) }
    }

    /// Keys that are objects (JSON Web Keys) become the texts that a file would hold.
    fn secrets(&self) -> Node {
        match self.secret.as_object() {
            Some(keys) => {
                let text = |key: &Json| if key.is_object() { Json::String(key.to_string()) } else { key.clone() };
                Node::from(&Json::Object(keys.iter().map(|(id, key)| (id.clone(), text(key))).collect()))
            }
            None => Node::from(&self.secret),
        }
    }

    fn request(&self) -> Result<Inbound, String> {
        let (base, target) = split_url(&self.url);
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers.0 {
            let name = HeaderName::try_from(name).map_err(|error| format!("header `{name}`: {error}"))?;
            let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|error| format!("header `{name}`: {error}"))?;
            headers.append(name, value);
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
            received_at: Timestamp::from_millis(self.now.unwrap_or(0).saturating_mul(1000)),
        })
    }
}

/// Scheme and authority, then the rest exactly as written.
fn split_url(url: &str) -> (&str, &str) {
    let authority = url.find("://").map_or(0, |at| at + 3);
    match url[authority..].find(['/', '?']) {
        Some(at) => url.split_at(authority + at),
        None => (url, "/"),
    }
}
