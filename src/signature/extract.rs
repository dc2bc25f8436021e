//! Signatures out of a request: candidates to try and the tags that stand beside them.

use std::borrow::Cow;

use memchr::memmem;
use smallvec::SmallVec;

use super::Refusal;
use super::cavage::Cavage;
use super::encoding::{Candidate, Encoding};
use super::jws;
use super::limits::{CANDIDATES_MAX, ITEMS_MAX, PARTS_MAX, SIGNATURE_BYTES_MAX};
use super::message::Message;
use super::request::{Scope, json_text};
use super::source::Source;
use super::tags::Tags;

/// `signature`, compiled.
#[derive(Clone)]
pub(super) struct Carrier {
    pub(super) from: Vec<Source>,
    /// Only the first source that is there counts.
    pub(super) first: bool,
    /// Every value has to be right, and there has to be one.
    pub(super) all: bool,
    /// The header may come several times.
    pub(super) multiple: bool,
    pub(super) format: Format,
    pub(super) prefix: Box<str>,
    pub(super) prefix_optional: bool,
    /// The value is base64 around what `format` describes.
    pub(super) wrapped: bool,
    pub(super) encoding: Encoding,
}

/// How a value is laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Format {
    /// The signature and nothing else.
    Plain,
    /// `t=1,v1=abc`
    Tagged { split: Box<str>, assign: Box<str>, take: Vec<Box<str>> },
    /// `abc,def`
    List { split: Box<str> },
    /// `1:abc`
    Positional { split: Box<str>, fields: Vec<Box<str>> },
    /// `{"kid":"1","signature":"abc"}`
    Json { take: Vec<Box<str>> },
    /// `header.payload.signature`, or `header..signature`
    Jws { algs: Vec<Box<str>>, detached: bool },
    /// `keyId="1",headers="date",signature="abc"`
    Cavage(Cavage),
    /// `Signature` and `Signature-Input`
    Message(Message),
}

/// A list of which there is mostly one.
type Few<T> = SmallVec<[T; 1]>;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Extracted {
    /// Tags and values as received; a tag may occur several times.
    pub(super) tags: Tags,
    /// Decoded signatures.
    pub(super) candidates: Few<Candidate>,
    /// There were texts in the place of signatures, readable or not.
    any: bool,
    /// A value of `all` that is absent.
    gap: bool,
}

impl Carrier {
    /// `Authorization: Basic …`.
    pub(super) fn basic() -> Self {
        Self { wrapped: true, ..Self::token(http::header::AUTHORIZATION, "Basic ") }
    }

    /// A token in a header.
    pub(super) fn token(header: http::HeaderName, prefix: &str) -> Self {
        Self {
            from: vec![Source::Header(header)],
            first: false,
            all: false,
            multiple: false,
            format: Format::Plain,
            prefix: prefix.into(),
            prefix_optional: false,
            wrapped: false,
            encoding: Encoding::Raw,
        }
    }

    /// Reads the tags and candidates. That there are none is not yet an error: a variant may ask for just that.
    pub(super) fn extract(&self, scope: &Scope<'_, '_, '_>) -> Result<Extracted, Refusal> {
        let mut found = Extracted::default();
        if let Format::Message(message) = &self.format {
            message.read(scope, &mut found)?;
            return Ok(found);
        }
        for source in &self.from {
            let values = self.values(source, scope, &mut found)?;
            let there = !values.is_empty();
            for value in values {
                self.read(&value, scope, &mut found)?;
            }
            if there && self.first {
                break;
            }
        }
        Ok(found)
    }

    fn values<'s>(&self, source: &'s Source, scope: &Scope<'s, '_, '_>, found: &mut Extracted) -> Result<Few<Cow<'s, [u8]>>, Refusal> {
        match source {
            Source::Header(name) if self.multiple => {
                Ok(scope.request.headers.get_all(name).iter().map(|value| Cow::Borrowed(value.as_bytes())).collect())
            }
            Source::Headers(stem) => {
                let names = scope.request.headers.keys().filter(|name| name.as_str().starts_with(&**stem));
                names.filter_map(|name| scope.request.header(name).map(|value| value.map(Cow::Borrowed)).transpose()).collect()
            }
            Source::Json { slot, every: true } => {
                let mut values = Few::new();
                for value in scope.json.values()?.every(*slot).map_err(|_error| Refusal::Malformed)? {
                    match json_text(value.clone())? {
                        Some(value) => values.push(value),
                        None => found.gap = true,
                    }
                }
                Ok(values)
            }
            Source::Header(_)
            | Source::Query(_)
            | Source::Form(_)
            | Source::Json { .. }
            | Source::Xml(_)
            | Source::Field(_)
            | Source::Config(_) => Ok(scope.look(source)?.into_iter().collect()),
        }
    }

    fn read(&self, value: &[u8], scope: &Scope<'_, '_, '_>, found: &mut Extracted) -> Result<(), Refusal> {
        if value.len() > SIGNATURE_BYTES_MAX {
            return Err(Refusal::Malformed);
        }
        let unwrapped;
        let mut value = value.trim_ascii();
        if !matches!(self.format, Format::List { .. }) {
            match self.unprefixed(value) {
                Some(rest) => value = rest,
                None => return Ok(()),
            }
        }
        if self.wrapped {
            unwrapped = Encoding::Base64.decode(value).ok_or(Refusal::Malformed)?;
            value = &unwrapped;
        }
        if matches!(self.format, Format::Plain) {
            return self.candidate(value, found);
        }
        let text = std::str::from_utf8(value).map_err(|_error| Refusal::Malformed)?;
        if !matches!(self.format, Format::List { .. }) {
            found.tags.reserve(text.len());
        }
        match &self.format {
            Format::Plain | Format::Message(_) => Ok(()),
            Format::Tagged { split, assign, take } => {
                for part in parts(text, split)? {
                    // Blanks may stand after a separator, nowhere else.
                    let Some((tag, value)) = halves(part, assign) else { continue };
                    self.tag(tag.trim(), value.trim(), take, found)?;
                }
                Ok(())
            }
            Format::List { split } => parts(text, split)?.into_iter().try_for_each(|part| match self.unprefixed(part.as_bytes()) {
                Some(rest) => self.candidate(rest, found),
                None => Ok(()),
            }),
            Format::Positional { split, fields } => {
                for (index, part) in parts(text, split)?.into_iter().enumerate() {
                    match fields.get(index) {
                        Some(tag) => found.tags.push(tag, part),
                        None => self.candidate(part.as_bytes(), found)?,
                    }
                }
                Ok(())
            }
            Format::Cavage(cavage) => {
                found.any = true;
                let signature = cavage.read(text, scope, found)?;
                self.candidate(signature.as_bytes(), found)
            }
            Format::Jws { algs, detached } => {
                found.any = true;
                let signature = jws::read(text, algs, *detached, found)?;
                self.candidate(signature.as_bytes(), found)
            }
            Format::Json { take } => {
                let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).map_err(|_error| Refusal::Malformed)?;
                if object.len() > PARTS_MAX {
                    return Err(Refusal::Malformed);
                }
                object.iter().try_for_each(|(tag, value)| match value {
                    serde_json::Value::String(value) => self.tag(tag, value, take, found),
                    serde_json::Value::Number(value) => self.tag(tag, &value.to_string(), take, found),
                    serde_json::Value::Null | serde_json::Value::Bool(_) => Ok(()),
                    serde_json::Value::Array(_) | serde_json::Value::Object(_) => Ok(()),
                })
            }
        }
    }

    fn unprefixed<'v>(&self, value: &'v [u8]) -> Option<&'v [u8]> {
        let (start, rest) = value.split_at_checked(self.prefix.len()).unwrap_or((value, b""));
        // `Bearer ` and the like are words of HTTP, which has them in any case.
        let same = start == self.prefix.as_bytes() || (self.prefix.ends_with(' ') && start.eq_ignore_ascii_case(self.prefix.as_bytes()));
        if same { Some(rest) } else { self.prefix_optional.then_some(value) }
    }

    fn tag(&self, tag: &str, value: &str, take: &[Box<str>], found: &mut Extracted) -> Result<(), Refusal> {
        found.tags.push(tag, value);
        if take.iter().any(|wanted| &**wanted == tag || &**wanted == "*") { self.candidate(value.as_bytes(), found) } else { Ok(()) }
    }

    fn candidate(&self, text: &[u8], found: &mut Extracted) -> Result<(), Refusal> {
        found.any = true;
        match self.encoding.decode(text) {
            // Of tokens there may be one for each item; of signatures only so many are tried.
            Some(_) if found.candidates.len() >= if self.all { ITEMS_MAX } else { CANDIDATES_MAX } => return Err(Refusal::Malformed),
            Some(candidate) => found.candidates.push(candidate),
            None => found.gap = true,
        }
        Ok(())
    }
}

impl Extracted {
    /// A signature that needs no decoding.
    pub(super) fn accept(&mut self, candidate: &[u8]) {
        self.any = true;
        if !candidate.is_empty() {
            self.candidates.push(candidate.into());
        }
    }

    /// The candidates, of which there is at least one.
    pub(super) fn candidates(&self, all: bool) -> Result<&[Candidate], Refusal> {
        if all && self.gap && !self.candidates.is_empty() {
            return Err(Refusal::Mismatch);
        }
        match (self.candidates.is_empty(), self.any) {
            (false, _) => Ok(&self.candidates),
            (true, true) => Err(Refusal::Malformed),
            (true, false) => Err(Refusal::MissingHeader),
        }
    }
}

/// The parts of a text that are not blank.
fn parts<'t>(text: &'t str, split: &str) -> Result<SmallVec<[&'t str; 4]>, Refusal> {
    let (mut parts, mut rest) = (SmallVec::new(), Some(text));
    while let Some(text) = rest {
        let (part, behind) = halves(text, split).map_or((text, None), |(part, behind)| (part, Some(behind)));
        rest = behind;
        let part = part.trim();
        if part.is_empty() {
            continue;
        }
        if parts.len() == PARTS_MAX {
            return Err(Refusal::Malformed);
        }
        parts.push(part);
    }
    Ok(parts)
}

/// What stands before and behind the first separator. `split_once` prepares for a long one each time, and nearly all are
/// of one character.
fn halves<'t>(text: &'t str, split: &str) -> Option<(&'t str, &'t str)> {
    let at = memmem::find(text.as_bytes(), split.as_bytes()).filter(|_| !split.is_empty())?;
    Some((text.get(..at)?, text.get(at + split.len()..)?))
}
