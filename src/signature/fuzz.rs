//! The entry point of the fuzz target: any request under any scheme text.

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::{KeyMaterial, SecretSource, Verifier};
use crate::document::{self, Node};
use crate::model::{Inbound, Secret, Timestamp};

/// Any text is its own secret here.
struct Literal;

impl SecretSource for Literal {
    fn secret(&mut self, node: &Node, _path: &str) -> Option<KeyMaterial> {
        let text = node.as_str().or_else(|| node.get("env")?.as_str())?;
        Some(KeyMaterial { secret: Secret::new(text.as_bytes().to_vec()), not_after: None })
    }
}

/// Compiles the scheme that the bytes up to the first NUL spell and runs the request in the rest under it. It never
/// panics; what it returns is whether the scheme compiled and whether the request was accepted.
pub fn fuzz_scheme(data: &[u8]) -> (bool, bool) {
    let at = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (scheme, request) = (&data[..at], data.get(at + 1..).unwrap_or_default());
    let Some(node) = std::str::from_utf8(scheme).ok().and_then(|text| document::parse(text).ok()) else {
        return (false, false);
    };
    let mut problems = Vec::new();
    let Some(verifier) = Verifier::compile(&node, "verify", &mut Literal, &mut problems) else {
        return (false, false);
    };
    let inbound = request_of(request);
    let now = Timestamp::from_millis(1_700_000_000_000);
    if let Ok(sample) = verifier.sample(inbound.clone(), now) {
        assert!(verifier.verify(sample, now).is_ok(), "a sample that does not verify");
    }
    verifier.diagnose(&inbound, now, &[]);
    (true, verifier.verify(inbound, now).is_ok())
}

/// A request out of bytes: `METHOD target`, header lines, an empty line, the body. What can't be a part of a
/// request is left out.
fn request_of(data: &[u8]) -> Inbound {
    let (head, body) = match data.windows(2).position(|two| two == b"\n\n") {
        Some(at) => (&data[..at], &data[at + 2..]),
        None => (data, &[][..]),
    };
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut first = lines.next().unwrap_or_default().splitn(2, |byte| *byte == b' ');
    let method = first.next().and_then(|method| Method::from_bytes(method).ok()).unwrap_or(Method::POST);
    let target = first.next().filter(|target| target.starts_with(b"/")).unwrap_or(b"/");
    let mut headers = HeaderMap::new();
    for line in lines {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = HeaderName::from_bytes(parts.next().unwrap_or_default());
        let value = HeaderValue::from_bytes(parts.next().unwrap_or_default().trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    Inbound {
        method,
        target: Bytes::copy_from_slice(target),
        base: "https://hooks.example.ch".into(),
        headers,
        body: Bytes::copy_from_slice(body),
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        received_at: Timestamp::from_millis(0),
    }
}
