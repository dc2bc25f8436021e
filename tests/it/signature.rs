//! The scheme language against recorded requests, and what it must never let through.

mod compile;
mod doctor;
mod fetched;
mod handshakes;
mod limits;
mod messages;
mod presets;
mod refusals;
mod texts;
mod tokens;
mod tree;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use kurier::document::{self, Node, Problem};
use kurier::model::{Inbound, Secret, Timestamp};
use kurier::signature::{KeyMaterial, Refusal, SecretSource, Verified, Verifier};

/// The clock of most tests.
const NOW: i64 = 1_700_000_000;

/// `{ env: X }` is the secret X; `{ env: unset }` can't be had.
struct Env;

impl SecretSource for Env {
    fn secret(&mut self, node: &Node, _path: &str) -> Option<KeyMaterial> {
        let text = node.get("env")?.as_str().filter(|text| *text != "unset")?;
        let not_after = node.get("not_after").and_then(Node::as_str).map(|time| time.parse().unwrap());
        Some(KeyMaterial { secret: Secret::new(text.as_bytes().to_vec()), not_after })
    }
}

fn try_compile(yaml: &str) -> Result<Verifier, Vec<Problem>> {
    let node = document::parse(yaml).unwrap();
    let mut problems = Vec::new();
    Verifier::compile(&node, "verify", &mut Env, &mut problems).ok_or(problems)
}

#[track_caller]
fn compile(yaml: &str) -> Verifier {
    try_compile(yaml).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

/// What is wrong with a scheme, each problem as a line.
#[track_caller]
fn problems(yaml: &str) -> String {
    match try_compile(yaml) {
        Ok(_) => panic!("compiles: {yaml}"),
        Err(problems) => problems.iter().map(|problem| format!("{}\n", problem.located("f"))).collect(),
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

/// A POST with these headers.
fn post(target: &str, headers: &[(&str, &str)], body: &str) -> Inbound {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    Inbound {
        method: Method::POST,
        target: Bytes::copy_from_slice(target.as_bytes()),
        base: "https://hooks.example.ch".into(),
        headers: map,
        body: Bytes::copy_from_slice(body.as_bytes()),
        peer: "192.0.2.7".parse().unwrap(),
        received_at: at(NOW),
    }
}

fn refusal(result: Result<Verified, Refusal>) -> Option<Refusal> {
    result.err()
}

/// The same request with a header set, or removed when the value is empty.
fn with(mut inbound: Inbound, name: &str, value: &str) -> Inbound {
    let name = HeaderName::try_from(name).unwrap();
    inbound.headers.remove(&name);
    if !value.is_empty() {
        inbound.headers.insert(name, HeaderValue::from_str(value).unwrap());
    }
    inbound
}

const GITHUB: &str = "{ preset: github, secrets: [{ env: \"It's a Secret to Everybody\" }] }";
const GITHUB_SIGNATURE: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

/// The genuine request of GitHub's documentation.
fn github() -> Inbound {
    post("/in", &[("x-hub-signature-256", GITHUB_SIGNATURE), ("x-github-delivery", "d-1"), ("x-github-event", "push")], "Hello, World!")
}
