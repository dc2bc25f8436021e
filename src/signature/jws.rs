//! JSON Web Signatures (RFC 7515) and Tokens (RFC 7519) in the language's terms: a token is one more way of
//! carrying a signature.
//!
//! Its header's members become `jwt:NAME`, its claims `claim:NAME`, and what is signed is the token's own text.
//! The algorithm is the scheme's; a token can only agree to it. Members that stand twice, and extensions that a
//! reader must understand (`crit`), are refused.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::Value as Json;
use subtle::{Choice, ConstantTimeEq};

use super::Refusal;
use super::extract::Extracted;
use super::limits::{NUMERIC_DATE_MAX, PARTS_MAX};
use super::request::Scope;
use super::tags::Tags;
use super::template::Program;
use crate::model::Timestamp;

/// The token's first part, as it stands.
pub(super) const HEAD: &str = "jws:head";
/// The token's second part, as it stands.
pub(super) const PAYLOAD: &str = "jws:payload";

/// Reads a token's parts into tags and gives its signature's text.
pub(super) fn read<'t>(text: &'t str, algs: &[Box<str>], detached: bool, found: &mut Extracted) -> Result<&'t str, Refusal> {
    let mut parts = text.split('.');
    let (Some(head), Some(payload), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(Refusal::Malformed);
    };
    // Base64url in a token has no padding (RFC 7515): with it there would be two spellings of one signature.
    if payload.is_empty() != detached || text.contains('=') {
        return Err(Refusal::Malformed);
    }
    let header = object(head)?;
    let alg = header.iter().find(|(name, _)| name == "alg").and_then(|(_, value)| value.as_str());
    let extended = header.iter().any(|(name, _)| name == "crit" || name == "b64");
    if extended || !alg.is_some_and(|alg| algs.iter().any(|known| **known == *alg)) {
        return Err(Refusal::Malformed);
    }
    tags("jwt", &header, &mut found.tags);
    found.tags.push(HEAD, head);
    if !detached {
        tags("claim", &object(payload)?, &mut found.tags);
        found.tags.push(PAYLOAD, payload);
    }
    Ok(signature)
}

/// The members of a base64url JSON object, each name once.
fn object(text: &str) -> Result<Vec<(String, Json)>, Refusal> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_error| Refusal::Malformed)?;
    let mut reader = serde_json::Deserializer::from_slice(&bytes);
    let members = reader.deserialize_map(Members).map_err(|_error| Refusal::Malformed)?;
    reader.end().map_err(|_error| Refusal::Malformed)?;
    Ok(members)
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, Json)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members: Self::Value = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Json>()? {
            if members.len() == PARTS_MAX || members.iter().any(|(known, _)| *known == name) {
                return Err(A::Error::custom("a name that stands twice, or too many"));
            }
            members.push((name, value));
        }
        Ok(members)
    }
}

/// Scalars as text; a list gives one tag for each scalar in it, so that it has no one value but can hold one.
fn tags(kind: &str, members: &[(String, Json)], tags: &mut Tags) {
    for (name, value) in members {
        let items = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        for item in items.iter().take(PARTS_MAX) {
            let text = match item {
                Json::String(text) => Cow::Borrowed(text.as_str()),
                Json::Number(number) => Cow::Owned(number.to_string()),
                Json::Bool(truth) => Cow::Owned(truth.to_string()),
                Json::Null | Json::Array(_) | Json::Object(_) => continue,
            };
            tags.push(&format!("{kind}:{name}"), &text);
        }
    }
}

/// `claims`, and the token's own times.
pub(super) struct Claims {
    pub(super) leeway: Duration,
    pub(super) max_age: Option<Duration>,
    pub(super) wanted: Vec<(Box<str>, Program)>,
}

impl Claims {
    /// What a genuine token must also say.
    pub(super) fn check(&self, scope: &Scope<'_, '_, '_>, now: Option<Timestamp>) -> Result<(), Refusal> {
        for (claim, wanted) in &self.wanted {
            let wanted = wanted.bytes(scope)?;
            let mut values = scope.tags.values(claim).peekable();
            if values.peek().is_none() {
                return Err(Refusal::MissingHeader);
            }
            let right = values.fold(Choice::from(0), |right, value| right | value.as_bytes().ct_eq(&wanted));
            if !bool::from(right) {
                return Err(Refusal::Mismatch);
            }
        }
        let (expires, not_before, issued) = (time(scope, "claim:exp")?, time(scope, "claim:nbf")?, time(scope, "claim:iat")?);
        if self.max_age.is_some() && issued.is_none() {
            return Err(Refusal::MissingHeader);
        }
        let Some(now) = now else { return Ok(()) };
        let expired = expires.is_some_and(|time| now.since(time) > self.leeway);
        let early = not_before.is_some_and(|time| time.since(now) > self.leeway);
        // As with `timestamp`: in either direction.
        let far = self.max_age.zip(issued).is_some_and(|(max, issued)| now.since(issued).max(issued.since(now)) > max);
        if expired || early || far { Err(Refusal::Stale) } else { Ok(()) }
    }
}

/// A NumericDate: seconds, possibly with a fraction, which is cut off.
fn time(scope: &Scope<'_, '_, '_>, claim: &str) -> Result<Option<Timestamp>, Refusal> {
    let mut values = scope.tags.values(claim);
    let Some(text) = values.next() else { return Ok(None) };
    let seconds = text.split_once('.').map_or(text, |(whole, _)| whole).parse::<i64>().ok();
    let seconds = seconds.filter(|seconds| (0..=NUMERIC_DATE_MAX).contains(seconds) && values.next().is_none());
    let millis = seconds.and_then(|seconds| seconds.checked_mul(1000)).ok_or(Refusal::Malformed)?;
    Ok(Some(Timestamp::from_millis(millis)))
}
