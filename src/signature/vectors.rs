//! Runs recorded requests against the presets: `kurier verify --vectors FILE`.
//!
//! Each vector names a scheme, overrides to it, a secret, a request, a clock and the verdict expected. A vector
//! of a scheme that this version can't evaluate has failed, with that as its reason.

use serde::Deserialize;
use serde_json::Value as Json;

use super::captured::Record;
use super::compile::{self, Recorded};
use super::keeper::{Context, NoKeys};
use super::{Handshake, Judged, KeyMaterial, SecretSource, Verifier};
use crate::document::{Entry, Node, Span, Value};
use crate::model::Secret;

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
        let both = serde_json::from_value::<Record>(vector.clone()).and_then(|record| Ok((record, serde_json::from_value(vector)?)));
        let failure = match both {
            Ok((record, vector)) => Vector::run(&vector, &record).err(),
            Err(error) => Some(format!("not a vector: {error}")),
        };
        report.results.push(VectorResult { id, failure });
    }
    Ok(report)
}

impl Vector {
    fn run(&self, record: &Record) -> Result<(), String> {
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
        let verifier = self.verifier(recorded)?;
        let verdict = verifier.judge_in(record.inbound()?, Context { now: record.received_at(), keys: &NoKeys });
        match (genuine, verdict) {
            (true, Ok(Judged::Handshake(answer))) if recorded == Recorded::Handshake => self.compare(&answer),
            (true, Ok(Judged::Event(_))) if recorded == Recorded::Handshake => Err("no handshake to this scheme".to_owned()),
            (false, Ok(Judged::Event(_))) if recorded == Recorded::Handshake => Err("taken for an event".to_owned()),
            (true, Ok(_)) | (false, Err(_)) => Ok(()),
            (true, Err(refusal)) => Err(format!("genuine, but refused: {}", refusal.as_str())),
            (false, Ok(_)) => Err("forged, but accepted".to_owned()),
        }
    }

    fn verifier(&self, recorded: Recorded) -> Result<Verifier, String> {
        let mut problems = Vec::new();
        let verifier = compile::verifier(&self.scheme_node(), "verify", &mut Literal, &mut problems, Some(recorded));
        verifier.filter(|_| problems.is_empty()).ok_or_else(|| {
            let texts: Vec<String> = problems.iter().map(|problem| problem.located("vector").to_string()).collect();
            texts.join("; ")
        })
    }

    fn compare(&self, answer: &Handshake) -> Result<(), String> {
        let Some(expected) = &self.expected_reply else { return Err("there is no expected_reply to compare with".to_owned()) };
        let got = (answer.status, answer.content_type.as_deref().unwrap_or_default(), &answer.body[..]);
        // The body may be signed with the scheme's key, so it is not shown.
        if got == (expected.status, &*expected.content_type, expected.body.as_bytes()) {
            Ok(())
        } else {
            Err("another reply than expected".to_owned())
        }
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
}

#[cfg(test)]
mod mutations;
