//! What a scheme tells of a request once that is known to be genuine: ids, type, answer.

use bytes::Bytes;

use super::Facts;
use super::charset::Charset;
use super::request::Scope;
use super::scheme::When;
use super::source::Source;
use super::template::Program;
use crate::model::Answer;

/// `event` and `ack`, compiled.
#[derive(Default)]
pub(super) struct Telling {
    /// The first that is there counts.
    pub(super) id: Vec<Source>,
    pub(super) kind: Vec<Source>,
    /// The first that has all its values counts; when none is configured, the id.
    pub(super) idem: Vec<Program>,
    /// Whether one request is one event, so that its id is that of the request.
    pub(super) unique: bool,
    pub(super) answers: Vec<PlannedAnswer>,
    pub(super) charset: Charset,
}

/// One of `ack`.
pub(super) struct PlannedAnswer {
    pub(super) when: When,
    pub(super) status: u16,
    pub(super) content_type: Option<Box<str>>,
    pub(super) body: Program,
    /// The body, where it is the same for every request.
    pub(super) fixed: Option<Bytes>,
}

impl Telling {
    /// The facts of a request, told by the scopes of its items (one, unless the scheme has `each`).
    pub(super) fn facts(&self, scopes: &[Scope<'_, '_, '_>]) -> Facts {
        let Some(first) = scopes.first() else { return Facts::default() };
        Facts {
            source_id: self.id(first),
            dedupe_key: self.dedupe_key(scopes),
            answer: self.answer(first),
            // Last, when JSON that others asked for has been read anyhow.
            event_type: self.kind(first, false),
            ..Facts::default()
        }
    }

    pub(super) fn has_kind(&self) -> bool {
        !self.kind.is_empty()
    }

    /// The sender's word for what happened; `parse` allows reading JSON only for that.
    pub(super) fn kind(&self, scope: &Scope<'_, '_, '_>, parse: bool) -> Option<Box<str>> {
        self.kind.iter().find_map(|source| scope.text(source, parse, self.charset))
    }

    fn id(&self, scope: &Scope<'_, '_, '_>) -> Option<Box<str>> {
        self.id.iter().find_map(|source| scope.text(source, true, self.charset))
    }

    /// None where a part is missing: then the body's hash has to do.
    fn dedupe_key(&self, scopes: &[Scope<'_, '_, '_>]) -> Option<Vec<u8>> {
        if !self.unique {
            return None;
        }
        let one = |scope: &Scope<'_, '_, '_>| match &self.idem[..] {
            [] => self.id(scope).map(|id| id.as_bytes().to_vec()),
            idem => idem.iter().find_map(|program| program.bytes(scope).ok()),
        };
        if let [scope] = scopes {
            return one(scope);
        }
        let keys = scopes.iter().map(one).collect::<Option<Vec<_>>>()?;
        let parts: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        Some(super::fingerprint(&parts).to_vec())
    }

    fn answer(&self, scope: &Scope<'_, '_, '_>) -> Option<Answer> {
        let planned = self.answers.iter().find(|planned| planned.when.holds(scope))?;
        let body = match &planned.fixed {
            Some(body) => body.clone(),
            None => planned.body.bytes(scope).ok()?.into(),
        };
        let fits = body.len() <= Answer::BODY_BYTES_MAX;
        fits.then(|| Answer { status: planned.status, content_type: planned.content_type.clone(), body })
    }
}
