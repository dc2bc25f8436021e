//! `challenge`: what senders ask of an address before or while they send to it.
//!
//! A reply repeats a few bytes of the request, or signs them, for somebody who may be anybody. So what is
//! repeated is short, printable and no markup; what is signed can't be an event (`template::is_token`, which the
//! verification refuses in turn); and what is not asked for by a rule is never answered.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use regex::bytes::Regex;
use subtle::ConstantTimeEq;

use super::Refusal;
use super::request::Scope;
use super::scheme::When;
use super::source::Source;
use super::template::Program;
use crate::model::Answer;

/// One of `challenge`, compiled.
pub(super) struct Rule {
    pub(super) when: When,
    pub(super) require: Vec<(Source, Program)>,
    pub(super) limit: Vec<(Source, Regex)>,
    /// Only for a request whose signature is right.
    pub(super) verified: bool,
    /// The request is kept as an event for the operator, and goes to no destination.
    pub(super) keep: bool,
    pub(super) status: u16,
    pub(super) content_type: Option<Box<str>>,
    pub(super) headers: Vec<(HeaderName, Program)>,
    pub(super) body: Program,
}

/// The answer to a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// A 2xx status.
    pub status: u16,
    /// The `content-type`, when there is a body; never one that a browser would run.
    pub content_type: Option<Box<str>>,
    /// Further headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body; at most [`Answer::BODY_BYTES_MAX`].
    pub body: Bytes,
}

impl Rule {
    /// The reply, when the request asks as it may.
    pub(super) fn answer(&self, scope: &Scope<'_, '_, '_>) -> Result<Handshake, Refusal> {
        for (source, wanted) in &self.require {
            let (value, wanted) = (scope.look(source)?.ok_or(Refusal::MissingHeader)?, wanted.bytes(scope)?);
            if wanted.is_empty() || !bool::from(value.ct_eq(&wanted)) {
                return Err(Refusal::Mismatch);
            }
        }
        for (source, limit) in &self.limit {
            let value = scope.look(source)?.ok_or(Refusal::MissingHeader)?;
            if limit.find(&value).is_none_or(|found| found.len() != value.len()) {
                return Err(Refusal::Malformed);
            }
        }
        let body = self.body.bytes(scope)?;
        let printable = std::str::from_utf8(&body).is_ok_and(|text| !text.chars().any(char::is_control));
        if !printable || body.len() > Answer::BODY_BYTES_MAX {
            return Err(Refusal::Malformed);
        }
        let mut headers = Vec::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            let value = HeaderValue::from_bytes(&value.bytes(scope)?).map_err(|_error| Refusal::Malformed)?;
            headers.push((name.clone(), value));
        }
        let content_type = self.content_type.clone().filter(|_| !body.is_empty());
        Ok(Handshake { status: self.status, content_type, headers, body: Bytes::from(body) })
    }
}
