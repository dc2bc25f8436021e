//! A request as the evaluator sees it: every part read at most once, and only when something asks for it.

use std::borrow::Cow;
use std::cell::OnceCell;

use http::{HeaderMap, HeaderName, Method, header};

use super::Refusal;
use super::charset::Charset;
use super::form::{Ambiguous, Fields};
use super::json::{Found, NotJson, Pointers, Values};
use super::mac::Keyed;
use super::source::Source;
use super::tags::Tags;
use super::xml::Nodes;
use crate::model::{Event, Inbound};

/// The request, with what has been parsed of it so far.
pub(super) struct Request<'a> {
    pub(super) method: &'a Method,
    pub(super) target: &'a [u8],
    pub(super) base: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a [u8],
    query: OnceCell<Result<Fields<'a>, Ambiguous>>,
    form: OnceCell<Result<Fields<'a>, Ambiguous>>,
    xml: OnceCell<Result<Nodes, Ambiguous>>,
}

/// A JSON text and the places of it that are read together.
pub(super) struct Document<'a> {
    text: &'a [u8],
    pointers: &'a Pointers,
    values: OnceCell<Result<Values<'a>, NotJson>>,
}

/// Everything that a source can name at one point of the evaluation.
#[derive(Clone, Copy)]
pub(super) struct Scope<'s, 'r, 'd> {
    pub(super) request: &'s Request<'r>,
    pub(super) json: &'s Document<'d>,
    pub(super) tags: &'s Tags,
    /// The key being tried, for plain digests that hold it.
    pub(super) key: Option<&'s [u8]>,
    /// The key that answers a handshake.
    pub(super) oracle: Option<&'s Keyed>,
}

impl<'s, 'r, 'd> Scope<'s, 'r, 'd> {
    /// A request of whose signature nothing is known yet.
    pub(super) fn new(request: &'s Request<'r>, json: &'s Document<'d>) -> Self {
        Self { request, json, tags: Tags::NONE, key: None, oracle: None }
    }

    pub(super) fn with_tags(self, tags: &'s Tags) -> Self {
        Self { tags, ..self }
    }
}

impl<'a> Request<'a> {
    pub(super) fn of_inbound(inbound: &'a Inbound) -> Self {
        Self {
            method: &inbound.method,
            target: &inbound.target,
            base: &inbound.base,
            headers: &inbound.headers,
            body: &inbound.body,
            query: OnceCell::new(),
            form: OnceCell::new(),
            xml: OnceCell::new(),
        }
    }

    pub(super) fn of_event(event: &'a Event) -> Self {
        Self {
            method: &event.method,
            target: &event.target,
            base: &event.base,
            headers: &event.headers,
            body: &event.body,
            query: OnceCell::new(),
            form: OnceCell::new(),
            xml: OnceCell::new(),
        }
    }

    /// The raw path, and the raw query without its question mark.
    pub(super) fn path_and_query(&self) -> (&'a [u8], &'a [u8]) {
        match self.target.iter().position(|byte| *byte == b'?') {
            Some(at) => (&self.target[..at], &self.target[at + 1..]),
            None => (self.target, b""),
        }
    }

    /// The authority that the sender called.
    pub(super) fn host(&self) -> &'a str {
        let after = self.base.split_once("://").map_or(self.base, |(_, rest)| rest);
        after.split('/').next().unwrap_or(after)
    }

    pub(super) fn query(&self) -> Result<&Fields<'a>, Refusal> {
        let fields = self.query.get_or_init(|| Fields::parse(self.path_and_query().1));
        fields.as_ref().map_err(|Ambiguous| Refusal::Malformed)
    }

    pub(super) fn form(&self) -> Result<&Fields<'a>, Refusal> {
        let fields = self.form.get_or_init(|| Fields::parse(self.body));
        fields.as_ref().map_err(|Ambiguous| Refusal::Malformed)
    }

    pub(super) fn xml(&self) -> Result<&Nodes, Refusal> {
        let nodes = self.xml.get_or_init(|| Nodes::read(self.body, self.headers));
        nodes.as_ref().map_err(|Ambiguous| Refusal::Malformed)
    }

    /// The one value of a header. Several different ones are not a value.
    pub(super) fn header(&self, name: &HeaderName) -> Result<Option<&'a [u8]>, Refusal> {
        let mut values = self.headers.get_all(name).iter();
        match values.next() {
            // HTTP/2 has no Host header; what was called is in the base all the same.
            None if name == header::HOST => Ok(Some(self.host().as_bytes())),
            None => Ok(None),
            Some(first) if values.any(|other| other != first) => Err(Refusal::Malformed),
            Some(first) => Ok(Some(first.as_bytes())),
        }
    }
}

impl<'a> Document<'a> {
    pub(super) fn new(text: &'a [u8], pointers: &'a Pointers) -> Self {
        Self { text, pointers, values: OnceCell::new() }
    }

    /// The values, parsing the text the first time.
    pub(super) fn values(&self) -> Result<&Values<'a>, Refusal> {
        self.values.get_or_init(|| self.pointers.read(self.text)).as_ref().map_err(|NotJson| Refusal::Malformed)
    }

    /// Whether the text was parsed already, so that looking costs nothing.
    pub(super) fn is_read(&self) -> bool {
        self.values.get().is_some()
    }
}

impl<'s> Scope<'s, '_, '_> {
    /// The value of a source that has at most one. What is there but has no one meaning is refused, never
    /// taken as absent: one genuine signature over an absent field must not cover a forged compound one.
    pub(super) fn look(&self, source: &'s Source) -> Result<Option<Cow<'s, [u8]>>, Refusal> {
        match source {
            Source::Header(name) => Ok(self.request.header(name)?.map(Cow::Borrowed)),
            Source::Query(name) => self.request.query()?.get(name.as_bytes()).map_err(|Ambiguous| Refusal::Malformed),
            Source::Form(name) => self.request.form()?.get(name.as_bytes()).map_err(|Ambiguous| Refusal::Malformed),
            Source::Xml(path) => Ok(self.request.xml()?.get(path).map_err(|Ambiguous| Refusal::Malformed)?.map(Cow::Borrowed)),
            Source::Config(value) => Ok(Some(Cow::Borrowed(value.expose()))),
            Source::Field(tag) => {
                let mut values = self.tags.values(tag);
                let first = values.next();
                if values.next().is_some() { Err(Refusal::Malformed) } else { Ok(first.map(|value| Cow::Borrowed(value.as_bytes()))) }
            }
            Source::Json { slot, every: false } => json_text(self.json.values()?.one(*slot)),
            Source::Json { every: true, .. } | Source::Headers(_) => Err(Refusal::Malformed),
        }
    }

    /// Whether there is anything at a source at all, in whatever form.
    pub(super) fn is_present(&self, source: &'s Source) -> bool {
        match source {
            Source::Headers(stem) => self.request.headers.keys().any(|name| name.as_str().starts_with(&**stem)),
            // Asking about a list is asking whether anything of it is there.
            Source::Json { slot, every: true } => self
                .json
                .values()
                .is_ok_and(|values| values.every(*slot).map_or(true, |found| found.iter().any(|one| *one != Found::Absent))),
            Source::Header(_)
            | Source::Query(_)
            | Source::Form(_)
            | Source::Json { .. }
            | Source::Xml(_)
            | Source::Field(_)
            | Source::Config(_) => !matches!(self.look(source), Ok(None)),
        }
    }

    /// A source's value as text for facts, where it has one and it costs no parsing that `parse` forbids. What a
    /// form or a query holds is in the charset that the scheme declares.
    pub(super) fn text(&self, source: &'s Source, parse: bool, charset: Charset) -> Option<Box<str>> {
        if matches!(source, Source::Json { .. }) && !parse && !self.json.is_read() {
            return None;
        }
        let value = self.look(source).ok()??;
        let value = if matches!(source, Source::Form(_) | Source::Query(_)) { charset.utf8(value) } else { value };
        std::str::from_utf8(&value).ok().filter(|text| !text.is_empty()).map(Into::into)
    }
}

/// The bytes of a JSON scalar.
pub(super) fn json_text(found: Found<'_>) -> Result<Option<Cow<'_, [u8]>>, Refusal> {
    match found {
        Found::Absent => Ok(None),
        Found::Text(Cow::Borrowed(text)) => Ok(Some(Cow::Borrowed(text.as_bytes()))),
        Found::Text(Cow::Owned(text)) => Ok(Some(Cow::Owned(text.into_bytes()))),
        Found::Compound(_) | Found::Unreadable => Err(Refusal::Malformed),
    }
}
