//! A compiled scheme and its evaluation, in the order of the security contract.
//!
//! Every key and candidate is tried without an early exit, over decoded bytes and in constant time; the limits
//! bound that work. Time, checks and lists are looked at only once the signature is right. Nothing here ever
//! returns or logs an expected value.

use http::Method;
use regex::bytes::Regex;
use sha2::{Digest, Sha256};
use smallvec::{SmallVec, smallvec};
use subtle::{Choice, ConstantTimeEq};

use super::algorithm::{Algorithm, PublicAlgorithm};
use super::encoding::Candidate;
use super::extract::{Carrier, Extracted};
use super::facts::Telling;
use super::handshake::{Handshake, Rule};
use super::json::{Found, Pointers};
use super::jws::Claims;
use super::keeper::{Context, WantedKey};
use super::key::{Chosen, Key, Keys, Material};
use super::mac::{Hash, Keyed, Plain, Sink};
use super::request::{Document, Request, Scope};
use super::source::Source;
use super::tags::Tags;
use super::template::{Program, is_token};
use super::timestamp::Freshness;
use super::{Binding, Facts, Refusal};

/// One scheme: its variants, and what it tells of a genuine request.
pub(super) struct Scheme {
    pub(super) each: Option<Each>,
    pub(super) plans: Vec<Plan>,
    /// `challenge`, in order.
    pub(super) handshakes: Vec<Rule>,
    pub(super) telling: Telling,
    pub(super) methods: Option<Vec<Method>>,
    pub(super) body_limit: Option<usize>,
    pub(super) on_invalid: Option<u16>,
    pub(super) head_ok: bool,
    pub(super) binding: Binding,
}

/// `each`: the items of a list, each signed for itself.
pub(super) struct Each {
    /// The list, among the pointers of the whole body.
    pub(super) slot: usize,
    /// What is read of each item.
    pub(super) pointers: Pointers,
}

/// One variant of a scheme, complete.
pub(super) struct Plan {
    pub(super) when: When,
    pub(super) algorithm: Algorithm,
    pub(super) keys: Keys,
    pub(super) carrier: Carrier,
    pub(super) signed: Program,
    /// The signature is over the hex SHA-256 of what `signed` renders.
    pub(super) prehash: bool,
    pub(super) require: Vec<(Source, Program)>,
    /// What values must look like.
    pub(super) limit: Vec<(Source, Regex)>,
    pub(super) checks: Vec<(Program, Program)>,
    pub(super) must_sign: Vec<http::HeaderName>,
    pub(super) reject: Option<Regex>,
    /// The key answers handshakes with signatures of its own: what those could sign is never an event.
    pub(super) oracle: bool,
    pub(super) claims: Option<Claims>,
    pub(super) freshness: Option<Freshness>,
}

/// `when`: all of it has to hold.
#[derive(Default)]
pub(super) struct When {
    pub(super) methods: Vec<Method>,
    pub(super) present: Vec<Source>,
    pub(super) absent: Vec<Source>,
    pub(super) equals: Vec<(Source, Program)>,
}

impl When {
    pub(super) fn holds(&self, scope: &Scope<'_, '_, '_>) -> bool {
        let equal = |(source, wanted): &(Source, Program)| matches!((scope.look(source), wanted.bytes(scope)), (Ok(Some(value)), Ok(wanted)) if *value == *wanted);
        (self.methods.is_empty() || self.methods.contains(scope.request.method))
            && self.present.iter().all(|source| scope.is_present(source))
            && !self.absent.iter().any(|source| scope.is_present(source))
            && self.equals.iter().all(equal)
    }
}

impl Scheme {
    /// Checks a request.
    pub(super) fn verify(&self, request: &Request<'_>, json: &Document<'_>, context: Context<'_>) -> Result<Facts, Refusal> {
        let Some(each) = &self.each else {
            let genuine = self.verify_one(request, json, context)?;
            let scope = Scope { oracle: genuine.key.as_ref(), ..Scope::new(request, json).with_tags(&genuine.tags) };
            let mut facts = self.telling.facts(&[scope]);
            if let Some(rule) = self.handshakes.iter().find(|rule| rule.verified && rule.when.holds(&scope)) {
                facts.operator_only = rule.keep;
                facts.handshake = Some(rule.answer(&scope)?);
            }
            return Ok(facts);
        };
        let items = json.values()?.every(each.slot).map_err(|_error| Refusal::Malformed)?;
        let mut documents = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Found::Compound(text) => documents.push(Document::new(text.as_bytes(), &each.pointers)),
                Found::Absent | Found::Text(_) | Found::Unreadable => return Err(Refusal::Malformed),
            }
        }
        // An empty list is no success: nothing was signed.
        if documents.is_empty() {
            return Err(Refusal::MissingHeader);
        }
        let genuine = documents.iter().map(|item| self.verify_one(request, item, context)).collect::<Result<Vec<_>, _>>()?;
        let scopes: Vec<_> = documents.iter().zip(&genuine).map(|(json, one)| Scope::new(request, json).with_tags(&one.tags)).collect();
        Ok(self.telling.facts(&scopes))
    }

    pub(super) fn has_event_type(&self) -> bool {
        self.telling.has_kind()
    }

    /// The sender's word for what happened, read from a stored event.
    pub(super) fn event_type(&self, request: &Request<'_>, json: &Document<'_>) -> Option<Box<str>> {
        let Some(each) = &self.each else {
            return self.telling.kind(&Scope::new(request, json), true);
        };
        match json.values().ok()?.every(each.slot).ok()?.first()? {
            Found::Compound(item) => {
                let item = Document::new(item.as_bytes(), &each.pointers);
                self.telling.kind(&Scope::new(request, &item), true)
            }
            Found::Absent | Found::Text(_) | Found::Unreadable => None,
        }
    }

    /// The answer to a handshake that needs no signature, when this is one.
    pub(super) fn unverified(
        &self,
        request: &Request<'_>,
        json: &Document<'_>,
        context: Context<'_>,
    ) -> Option<Result<Handshake, Refusal>> {
        let scope = Scope::new(request, json);
        let rule = self.handshakes.iter().find(|rule| !rule.verified && rule.when.holds(&scope))?;
        let key = self.plans.first().and_then(|plan| plan.keys.own().into_iter().find(|(_, key)| key.counts(context.now)));
        let oracle = key.and_then(|(_, key)| key.keyed());
        Some(rule.answer(&Scope { oracle, ..scope }))
    }

    /// The key that would have to be fetched before this request can be judged.
    pub(super) fn wanted(&self, request: &Request<'_>, json: &Document<'_>) -> Option<WantedKey> {
        let (plan, extracted) = self.choose(&Scope::new(request, json)).ok()?;
        let Keys::Remote(remote) = &plan.keys else { return None };
        // What carries no readable signature is refused without any key.
        extracted.candidates(plan.carrier.all).ok()?;
        remote.wanted(&Scope::new(request, json).with_tags(&extracted.tags)).ok()
    }

    /// The first variant whose `when` holds decides; there is no falling through to a weaker one.
    pub(super) fn choose(&self, bare: &Scope<'_, '_, '_>) -> Result<(&Plan, Extracted), Refusal> {
        for plan in &self.plans {
            // A `when` may name tags of the signature; a signature that can't be read has none.
            let extracted = plan.carrier.extract(bare);
            let tags = extracted.as_ref().map_or(Tags::NONE, |found| &found.tags);
            if plan.when.holds(&bare.with_tags(tags)) {
                return Ok((plan, extracted?));
            }
        }
        Err(Refusal::MissingHeader)
    }

    fn verify_one(&self, request: &Request<'_>, json: &Document<'_>, context: Context<'_>) -> Result<Genuine, Refusal> {
        let bare = Scope::new(request, json);
        let (plan, extracted) = self.choose(&bare)?;
        let key = plan.verify(&bare.with_tags(&extracted.tags), &extracted, context, self.answers_with_signatures())?;
        Ok(Genuine { tags: extracted.tags, key })
    }

    fn answers_with_signatures(&self) -> bool {
        self.plans.iter().any(|plan| plan.oracle)
    }
}

/// What is known of a request, or an item of one, once its signature is right.
struct Genuine {
    tags: Tags,
    /// The shared key that made the signature, where the scheme answers handshakes with it.
    key: Option<Keyed>,
}

impl Plan {
    /// Whether the request is genuine; with `find`, also which shared key says so.
    fn verify(&self, scope: &Scope<'_, '_, '_>, extracted: &Extracted, context: Context<'_>, find: bool) -> Result<Option<Keyed>, Refusal> {
        for (source, wanted) in &self.require {
            let value = scope.look(source)?.ok_or(Refusal::MissingHeader)?;
            if !bool::from(value.ct_eq(&wanted.bytes(scope)?)) {
                return Err(Refusal::Mismatch);
            }
        }
        for (source, limit) in &self.limit {
            let value = scope.look(source)?.ok_or(Refusal::MissingHeader)?;
            if limit.find(&value).is_none_or(|found| found.len() != value.len()) {
                return Err(Refusal::Malformed);
            }
        }
        let candidates = extracted.candidates(self.carrier.all)?;
        let keys = self.keys.select(scope, context)?;
        if self.reject.is_some() || self.oracle {
            let signed = self.signed.bytes(scope)?;
            if self.reject.as_ref().is_some_and(|reject| reject.is_match(&signed)) || (self.oracle && is_token(&signed)) {
                return Err(Refusal::Mismatch);
            }
        }
        let keys: SmallVec<[&Key; 4]> = keys.iter().map(|key: &Chosen<'_>| &**key).collect();
        if !self.matches(scope, candidates, &keys)? {
            return Err(Refusal::Mismatch);
        }
        for (left, right) in &self.checks {
            if !bool::from(left.bytes(scope)?.ct_eq(&right.bytes(scope)?)) {
                return Err(Refusal::Mismatch);
            }
        }
        if !self.must_sign.is_empty()
            && let Some(headers) = self.signed.signed_headers()
        {
            let names = headers.names(scope)?;
            if !self.must_sign.iter().all(|name| names.contains(name)) {
                return Err(Refusal::Malformed);
            }
        }
        self.claims.as_ref().map_or(Ok(()), |claims| claims.check(scope, context.now))?;
        self.freshness.as_ref().map_or(Ok(()), |freshness| freshness.check(scope, context.now))?;
        if !find {
            return Ok(None);
        }
        let made =
            |key: &&Key| self.tag(scope, key).is_ok_and(|tag| tag.is_some_and(|tag| candidates.iter().any(|one| **one == *tag.as_bytes())));
        Ok(keys.into_iter().find(made).and_then(Key::keyed).cloned())
    }

    /// Whether a candidate is right under some key (with `all`: every candidate under some).
    pub(super) fn matches(&self, scope: &Scope<'_, '_, '_>, candidates: &[Candidate], keys: &[&Key]) -> Result<bool, Refusal> {
        let mut right: SmallVec<[Choice; 4]> = smallvec![Choice::from(0); candidates.len()];
        let mut compare = |expected: &[u8]| {
            for (candidate, right) in candidates.iter().zip(&mut right) {
                *right |= candidate.as_slice().ct_eq(expected);
            }
        };
        match self.algorithm {
            Algorithm::Hmac(_) | Algorithm::Digest(_) => {
                for key in keys {
                    if let Some(tag) = self.tag(scope, key)? {
                        compare(tag.as_bytes());
                    }
                }
            }
            Algorithm::Token | Algorithm::Basic => {
                for (candidate, right) in candidates.iter().zip(&mut right) {
                    let presented: [u8; 32] = Sha256::digest(candidate).into();
                    for key in keys {
                        if let Material::Hashed { digest, .. } = &key.material {
                            *right |= presented.ct_eq(digest);
                        }
                    }
                }
            }
            Algorithm::Public(algorithm) => self.public(algorithm, scope, candidates, keys, &mut right)?,
        }
        let (any, all) = right.iter().fold((Choice::from(0), Choice::from(1)), |(any, all), one| (any | *one, all & *one));
        Ok(bool::from(if self.carrier.all { all } else { any }))
    }

    /// The signature that a key makes of this request.
    pub(super) fn tag(&self, scope: &Scope<'_, '_, '_>, key: &Key) -> Result<Option<super::mac::Tag>, Refusal> {
        match (&key.material, self.algorithm) {
            (Material::Mac(keyed), _) => {
                let mut keyed = keyed.clone();
                self.feed(scope, &mut keyed)?;
                Ok(Some(keyed.finish()))
            }
            (Material::Bytes(secret), Algorithm::Digest(hash)) => {
                let mut plain = Plain::new(hash);
                self.feed(&Scope { key: Some(secret.expose()), ..*scope }, &mut plain)?;
                Ok(Some(plain.finish()))
            }
            (Material::Bytes(_) | Material::Hashed { .. } | Material::Public(_), _) => Ok(None),
        }
    }

    fn feed(&self, scope: &Scope<'_, '_, '_>, sink: &mut dyn Sink) -> Result<(), Refusal> {
        if !self.prehash {
            return self.signed.run(scope, sink);
        }
        let mut plain = Plain::new(Hash::Sha256);
        self.signed.run(scope, &mut plain)?;
        sink.put(hex::encode(plain.finish().as_bytes()).as_bytes());
        Ok(())
    }

    fn public(
        &self,
        algorithm: PublicAlgorithm,
        scope: &Scope<'_, '_, '_>,
        candidates: &[Candidate],
        keys: &[&Key],
        right: &mut [Choice],
    ) -> Result<(), Refusal> {
        let (digest, message) = match algorithm.digest() {
            Some(digest) => {
                let mut context = aws_lc_rs::digest::Context::new(digest);
                self.feed(scope, &mut context)?;
                (Some(context.finish()), None)
            }
            None if self.signed.is_body() && !self.prehash => (None, None),
            None => {
                let mut message = Vec::with_capacity(scope.request.body.len() + 256);
                self.feed(scope, &mut message)?;
                (None, Some(message))
            }
        };
        for (candidate, right) in candidates.iter().zip(right) {
            for key in keys {
                let Material::Public(key) = &key.material else { continue };
                let verdict = match &digest {
                    Some(digest) => key.verify_digest_sig(digest, candidate),
                    None => key.verify_sig(message.as_deref().unwrap_or(scope.request.body), candidate),
                };
                *right |= Choice::from(u8::from(verdict.is_ok()));
            }
        }
        Ok(())
    }
}
