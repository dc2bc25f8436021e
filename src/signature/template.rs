//! Templates: literal text and placeholders, compiled to a flat list of operations.

mod parse;

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::HeaderName;
use sha2::{Digest, Sha256, Sha512};

use super::Refusal;
use super::charset::Charset;
use super::limits::{ORACLE_BYTES_MAX, SIGNED_HEADERS_MAX};
use super::mac::{Sink, crc32};
use super::request::{Request, Scope};
use super::source::Source;

pub(super) use parse::{Allowed, compile, field, jws, literal};

/// A compiled template.
#[derive(Clone)]
pub(super) struct Program {
    ops: Box<[Op]>,
}

#[derive(Clone)]
enum Op {
    Literal(Box<[u8]>),
    /// The next so many operations vanish when one of them lacks its value.
    Segment(usize),
    Place(Place),
}

/// A placeholder.
#[derive(Clone)]
pub(super) struct Place {
    /// As written, without filters; `header:x-id`, `body`.
    name: Box<str>,
    what: What,
    filters: Box<[Filter]>,
    /// Absent counts as empty.
    optional: bool,
}

#[derive(Clone)]
enum What {
    Body,
    Method,
    Url,
    Path,
    PathAndQuery,
    QueryString,
    Host,
    Secret,
    /// The URL, its query and then the form in order of their names.
    UrlSorted,
    FormSorted,
    FormValuesSorted {
        except: Box<str>,
    },
    SignedHeaders(SignedHeaders),
    /// A template of its own, its text in another form.
    Nested(Box<Program>, Nesting),
    Source(Source),
}

/// What becomes of a nested template's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nesting {
    /// The payload of a detached JSON Web Signature.
    Base64Url,
    /// `{digest}` of a handshake.
    Sha256Hex,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filter {
    Lower,
    Json,
    Sha256Hex,
    Sha256Base64,
    Sha512Base64,
    Crc32,
    HubspotUri,
    /// From this charset to UTF-8.
    Utf8(Charset),
    HmacHex,
    HmacBase64,
}

/// The headers that a list in the request names, each written as `item`.
#[derive(Clone)]
pub(super) struct SignedHeaders {
    list: Source,
    split: Box<str>,
    item: Box<str>,
    join: Box<str>,
}

impl Program {
    /// Feeds the bytes to a sink. A placeholder without a value refuses the request.
    pub(super) fn run(&self, scope: &Scope<'_, '_, '_>, sink: &mut dyn Sink) -> Result<(), Refusal> {
        let mut at = 0;
        while let Some(op) = self.ops.get(at) {
            at += 1;
            match op {
                Op::Literal(text) => sink.put(text),
                Op::Segment(length) => {
                    if !self.has_all(at, *length, scope)? {
                        at += length;
                    }
                }
                Op::Place(place) => place.put(scope, sink)?,
            }
        }
        Ok(())
    }

    /// The bytes in one piece.
    pub(super) fn bytes(&self, scope: &Scope<'_, '_, '_>) -> Result<Vec<u8>, Refusal> {
        let mut bytes = Vec::new();
        self.run(scope, &mut bytes)?;
        Ok(bytes)
    }

    /// The bytes, where they are the same for every request.
    pub(super) fn fixed(&self) -> Option<&[u8]> {
        match &*self.ops {
            [] => Some(b""),
            [Op::Literal(text)] => Some(text),
            _ => None,
        }
    }

    fn has_all(&self, from: usize, length: usize, scope: &Scope<'_, '_, '_>) -> Result<bool, Refusal> {
        for op in self.ops.iter().skip(from).take(length) {
            if let Op::Place(place) = op
                && !place.optional
                && place.what.value(scope)?.is_none()
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The one placeholder that this is, when it is nothing but that: the body, without a copy.
    pub(super) fn is_body(&self) -> bool {
        matches!(&*self.ops, [Op::Place(Place { what: What::Body, filters, .. })] if filters.is_empty())
    }

    /// The source that this is, when it is nothing but that.
    pub(super) fn sole_source(&self) -> Option<&Source> {
        match &*self.ops {
            [Op::Place(Place { what: What::Source(source), .. })] => Some(source),
            _ => None,
        }
    }

    fn places(&self) -> Vec<&Place> {
        let mut places = Vec::new();
        for op in &self.ops {
            match op {
                Op::Place(Place { what: What::Nested(program, _), .. }) => places.extend(program.places()),
                Op::Place(place) => places.push(place),
                Op::Literal(_) | Op::Segment(_) => {}
            }
        }
        places
    }

    /// Whether a placeholder of this name is in it.
    pub(super) fn names(&self, name: &str) -> bool {
        self.places().iter().any(|place| &*place.name == name)
    }

    /// Sources whose values the key of the scheme signs here.
    pub(super) fn signed_for_others(&self) -> Vec<&str> {
        let signs = |place: &&Place| place.filters.iter().any(|filter| matches!(filter, Filter::HmacHex | Filter::HmacBase64));
        self.places().into_iter().filter(signs).map(|place| &*place.name).collect()
    }

    /// Sources that have to have a value, for making a sample.
    pub(super) fn required_sources(&self) -> impl Iterator<Item = &Source> {
        self.places().into_iter().filter(|place| !place.optional).filter_map(|place| match &place.what {
            What::Source(source) => Some(source),
            What::Nested(..) | What::Body | What::Method | What::Url | What::Path | What::PathAndQuery | What::QueryString | What::Host => {
                None
            }
            What::Secret | What::UrlSorted | What::FormSorted | What::FormValuesSorted { .. } | What::SignedHeaders(_) => None,
        })
    }

    /// The list of signed headers in it.
    pub(super) fn signed_headers(&self) -> Option<&SignedHeaders> {
        self.places().into_iter().find_map(|place| match &place.what {
            What::SignedHeaders(headers) => Some(headers),
            What::Nested(..) | What::Body | What::Method | What::Url | What::Path | What::PathAndQuery | What::QueryString | What::Host => {
                None
            }
            What::Secret | What::UrlSorted | What::FormSorted | What::FormValuesSorted { .. } | What::Source(_) => None,
        })
    }

    /// Whether the whole body goes in, or single fields of it.
    pub(super) fn body_use(&self) -> (bool, bool) {
        let places = self.places();
        let whole = |place: &&Place| matches!(place.what, What::Body | What::UrlSorted | What::FormSorted | What::FormValuesSorted { .. });
        let whole = places.iter().any(whole);
        let fields = places.iter().any(|place| matches!(place.what, What::Source(Source::Json { .. } | Source::Form(_) | Source::Xml(_))));
        (whole, fields)
    }
}

impl Place {
    fn put(&self, scope: &Scope<'_, '_, '_>, sink: &mut dyn Sink) -> Result<(), Refusal> {
        if matches!(self.what, What::Url) && self.filters.is_empty() {
            sink.put(scope.request.base.as_bytes());
            sink.put(scope.request.target);
            return Ok(());
        }
        let Some(mut value) = self.what.value(scope)? else {
            return if self.optional { Ok(()) } else { Err(Refusal::MissingHeader) };
        };
        for filter in &self.filters {
            value = filter.apply(value, scope)?;
        }
        sink.put(&value);
        Ok(())
    }
}

impl What {
    fn value<'s>(&'s self, scope: &Scope<'s, '_, '_>) -> Result<Option<Cow<'s, [u8]>>, Refusal> {
        let request = scope.request;
        let value = match self {
            Self::Source(source) => return scope.look(source),
            Self::Body => Cow::Borrowed(request.body),
            Self::Method => Cow::Borrowed(request.method.as_str().as_bytes()),
            Self::Url => Cow::Owned([request.base.as_bytes(), request.target].concat()),
            Self::Path => Cow::Borrowed(request.path_and_query().0),
            Self::PathAndQuery => Cow::Borrowed(request.target),
            Self::QueryString => Cow::Borrowed(request.path_and_query().1),
            Self::Host => Cow::Borrowed(request.host().as_bytes()),
            Self::Secret => return Ok(scope.key.map(Cow::Borrowed)),
            Self::UrlSorted => Cow::Owned(url_sorted(request)?),
            Self::FormSorted => Cow::Owned(request.form()?.sorted()),
            Self::FormValuesSorted { except } => Cow::Owned(request.form()?.values_sorted(except.as_bytes())),
            Self::SignedHeaders(headers) => return headers.value(scope).map(Some),
            Self::Nested(program, nesting) => {
                let text = program.bytes(scope)?;
                Cow::Owned(match nesting {
                    Nesting::Base64Url => URL_SAFE_NO_PAD.encode(text).into_bytes(),
                    Nesting::Sha256Hex => hex::encode(Sha256::digest(text)).into_bytes(),
                })
            }
        };
        Ok(Some(value))
    }
}

impl SignedHeaders {
    /// The names that the request says are signed, lower-case, in its order.
    pub(super) fn names(&self, scope: &Scope<'_, '_, '_>) -> Result<Vec<HeaderName>, Refusal> {
        Ok(self.entries(scope)?.into_iter().map(|(_, name)| name).collect())
    }

    /// The same with each name as it is written there.
    fn entries(&self, scope: &Scope<'_, '_, '_>) -> Result<Vec<(String, HeaderName)>, Refusal> {
        let list = scope.look(&self.list)?.ok_or(Refusal::MissingHeader)?;
        let list = std::str::from_utf8(&list).map_err(|_error| Refusal::Malformed)?;
        let names = || list.split(&*self.split).map(str::trim).filter(|name| !name.is_empty());
        if names().count() > SIGNED_HEADERS_MAX {
            return Err(Refusal::Malformed);
        }
        let entry = |name: &str| Ok((name.to_owned(), HeaderName::from_bytes(name.as_bytes()).map_err(|_error| Refusal::Malformed)?));
        names().map(entry).collect()
    }

    /// The list's source and the text between its names.
    pub(super) fn list(&self) -> (&Source, &str) {
        (&self.list, &self.split)
    }

    fn value<'s>(&self, scope: &Scope<'s, '_, '_>) -> Result<Cow<'s, [u8]>, Refusal> {
        let mut text = Vec::new();
        for (index, (written, name)) in self.entries(scope)?.iter().enumerate() {
            if index > 0 {
                text.extend_from_slice(self.join.as_bytes());
            }
            let value = scope.request.header(name)?.ok_or(Refusal::MissingHeader)?.trim_ascii();
            let mut rest = &*self.item;
            while let Some((before, after)) = rest.split_once('%') {
                text.extend_from_slice(before.as_bytes());
                match after.as_bytes().first() {
                    Some(b'N') => text.extend_from_slice(written.as_bytes()),
                    Some(b'n') => text.extend_from_slice(name.as_str().as_bytes()),
                    Some(b'v') => text.extend_from_slice(value),
                    Some(_) | None => return Err(Refusal::Malformed),
                }
                rest = after.get(1..).unwrap_or_default();
            }
            text.extend_from_slice(rest.as_bytes());
        }
        Ok(Cow::Owned(text))
    }
}

impl Filter {
    fn apply<'v>(self, value: Cow<'v, [u8]>, scope: &Scope<'_, '_, '_>) -> Result<Cow<'v, [u8]>, Refusal> {
        Ok(match self {
            Self::Lower if !value.iter().any(u8::is_ascii_uppercase) => value,
            Self::Lower => Cow::Owned(value.to_ascii_lowercase()),
            Self::Json => Cow::Owned(json_escape(&value)),
            Self::Sha256Hex => Cow::Owned(hex::encode(Sha256::digest(&value)).into_bytes()),
            Self::Sha256Base64 => Cow::Owned(STANDARD.encode(Sha256::digest(&value)).into_bytes()),
            Self::Sha512Base64 => Cow::Owned(STANDARD.encode(Sha512::digest(&value)).into_bytes()),
            Self::Crc32 => Cow::Owned(crc32(&value).to_string().into_bytes()),
            Self::HubspotUri => Cow::Owned(hubspot_uri(&value)),
            Self::Utf8(charset) => charset.utf8(value),
            Self::HmacHex => Cow::Owned(hex::encode(answered(&value, scope)?).into_bytes()),
            Self::HmacBase64 => Cow::Owned(STANDARD.encode(answered(&value, scope)?).into_bytes()),
        })
    }
}

/// Whether a text could be what a handshake signs: no event may be such a text, and no other text is signed for
/// whoever asks.
pub(super) fn is_token(text: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-=.+/".contains(byte);
    (1..=ORACLE_BYTES_MAX).contains(&text.len()) && text.iter().all(plain)
}

/// The scheme's key signs a text of the asker's choice: only one that can't be an event.
fn answered(value: &[u8], scope: &Scope<'_, '_, '_>) -> Result<Vec<u8>, Refusal> {
    let mut keyed = scope.oracle.ok_or(Refusal::UnknownKey)?.clone();
    if !is_token(value) {
        return Err(Refusal::Malformed);
    }
    keyed.put(value);
    Ok(keyed.finish().as_bytes().to_vec())
}

/// A text's characters as they stand between the quotes of a JSON text.
fn json_escape(value: &[u8]) -> Vec<u8> {
    let quoted = serde_json::Value::String(String::from_utf8_lossy(value).into_owned()).to_string();
    quoted.as_bytes()[1..quoted.len() - 1].to_vec()
}

/// Plivo signs the URL without its query, then `?`, the query's pairs in order, a dot between them and what follows, and the
/// form's names and values in order; of what is not there, nothing.
fn url_sorted(request: &Request<'_>) -> Result<Vec<u8>, Refusal> {
    let (query, form) = (request.query()?.joined("=", "&"), request.form()?.joined("", ""));
    let mark = if query.is_empty() && form.is_empty() { "" } else { "?" };
    let dot = if query.is_empty() || form.is_empty() { "" } else { "." };
    let path = request.path_and_query().0;
    Ok([request.base.as_bytes(), path, mark.as_bytes(), &query, dot.as_bytes(), &form].concat())
}

/// HubSpot signs the URL with these escapes undone, and no others.
fn hubspot_uri(url: &[u8]) -> Vec<u8> {
    const UNDONE: &[u8] = b":/?@!$'()*,;";
    let mut text = Vec::with_capacity(url.len());
    let mut at = 0;
    while at < url.len() {
        let escape = url.get(at..at + 3).filter(|escape| escape[0] == b'%').and_then(|escape| hex::decode(&escape[1..]).ok());
        match escape.as_deref() {
            Some([byte]) if UNDONE.contains(byte) => {
                text.push(*byte);
                at += 3;
            }
            _ => {
                text.push(url[at]);
                at += 1;
            }
        }
    }
    text
}
