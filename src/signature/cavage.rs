//! HTTP Signatures as they were before RFC 9421 (draft-cavage-http-signatures-12): `keyId="…",headers="…",signature="…"`.
//!
//! Same shape as a message signature: the request lists what it signs, the scheme says what has to be among it,
//! and a `Digest` that is signed is checked against the body.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderName;
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;

use super::Refusal;
use super::extract::Extracted;
use super::limits::PARTS_MAX;
use super::request::{Request, Scope};

/// The text that is signed, among the tags.
pub(super) const BASE: &str = "cavage:base";

const DIGEST: &str = "digest";

/// `signature: { format: http-signature }`, compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cavage {
    /// What has to be signed, in lower case.
    pub(super) components: Vec<Box<str>>,
}

impl Cavage {
    /// Whether it may be demanded that this is signed.
    pub(super) fn is_component(text: &str) -> bool {
        ["(request-target)", "(created)", "(expires)"].contains(&text)
            || HeaderName::from_bytes(text.as_bytes()).is_ok_and(|name| name.as_str() == text)
    }

    /// Whether the whole body is bound.
    pub(super) fn binds_body(&self) -> bool {
        self.components.iter().any(|component| &**component == DIGEST)
    }

    /// Reads the parameters and gives the signature's text.
    pub(super) fn read<'t>(&self, text: &'t str, scope: &Scope<'_, '_, '_>, found: &mut Extracted) -> Result<&'t str, Refusal> {
        let parameters = parameters(text).ok_or(Refusal::Malformed)?;
        let value = |name: &str| parameters.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        // Without a list it is the time alone that is signed.
        let listed: Vec<String> = value("headers").unwrap_or("(created)").split_ascii_whitespace().map(str::to_ascii_lowercase).collect();
        if listed.len() > PARTS_MAX || (1..listed.len()).any(|at| listed[..at].contains(&listed[at])) {
            return Err(Refusal::Malformed);
        }
        if !self.components.iter().all(|component| listed.iter().any(|name| **name == **component)) {
            return Err(Refusal::MissingHeader);
        }
        let mut lines = Vec::with_capacity(listed.len());
        for name in &listed {
            let line = match name.as_str() {
                "(request-target)" => target(scope.request)?,
                "(created)" => value("created").ok_or(Refusal::MissingHeader)?.to_owned(),
                "(expires)" => value("expires").ok_or(Refusal::MissingHeader)?.to_owned(),
                _ => field(scope.request, name)?,
            };
            lines.push(format!("{name}: {line}"));
        }
        if listed.iter().any(|name| name == DIGEST) && !digest_is_right(scope.request)? {
            return Err(Refusal::Mismatch);
        }
        for (name, value) in &parameters {
            // The token's own rule for the end of its time is this one's too, where it is signed.
            let signed_end = *name == "expires" && listed.iter().any(|known| known == "(expires)");
            found.tags.push(if signed_end { "claim:exp" } else { name }, value);
        }
        found.tags.push(BASE, &lines.join("\n"));
        value("signature").ok_or(Refusal::MissingHeader)
    }
}

/// `name="value"` or `name=number`, separated by commas, each name once.
fn parameters(text: &str) -> Option<Vec<(&str, &str)>> {
    let mut found: Vec<(&str, &str)> = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let name = name.trim();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_at(after.find(',').unwrap_or(after.len())),
        };
        if found.len() == PARTS_MAX || name.is_empty() || found.iter().any(|(known, _)| *known == name) {
            return None;
        }
        found.push((name, value.trim()));
        let after = after.trim_start();
        rest = if after.is_empty() { after } else { after.strip_prefix(',')?.trim_start() };
    }
    Some(found)
}

fn target(request: &Request<'_>) -> Result<String, Refusal> {
    let target = std::str::from_utf8(request.target).map_err(|_error| Refusal::Malformed)?;
    Ok(format!("{} {target}", request.method.as_str().to_ascii_lowercase()))
}

fn field(request: &Request<'_>, name: &str) -> Result<String, Refusal> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_error| Refusal::Malformed)?;
    let values: Vec<_> = request.headers.get_all(&name).iter().map(|value| std::str::from_utf8(value.as_bytes())).collect();
    let values: Vec<&str> = values.into_iter().collect::<Result<_, _>>().map_err(|_error| Refusal::Malformed)?;
    match (values.is_empty(), name == http::header::HOST) {
        (false, _) => Ok(values.iter().map(|value| value.trim()).collect::<Vec<_>>().join(", ")),
        (true, true) => Ok(request.host().to_owned()),
        (true, false) => Err(Refusal::MissingHeader),
    }
}

/// Whether every digest of the body that is known here is right, of which there is at least one (RFC 3230).
fn digest_is_right(request: &Request<'_>) -> Result<bool, Refusal> {
    let text = field(request, DIGEST)?;
    let mut known = 0;
    for (algorithm, said) in text.split(',').filter_map(|part| part.trim().split_once('=')) {
        let expected = match algorithm.to_ascii_uppercase().as_str() {
            "SHA-256" => Sha256::digest(request.body).to_vec(),
            "SHA-512" => Sha512::digest(request.body).to_vec(),
            _ => continue,
        };
        let said = STANDARD.decode(said).map_err(|_error| Refusal::Malformed)?;
        if !bool::from(said.ct_eq(&expected)) {
            return Ok(false);
        }
        known += 1;
    }
    Ok(known > 0)
}
