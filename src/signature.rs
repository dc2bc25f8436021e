//! The scheme language: compiled at load time, evaluated without trust and in constant time.
//!
//! A [`Verifier`] turns an [`Inbound`] into a [`Verified`], the only value that can be accepted; nothing else
//! makes one.

mod algorithm;
pub mod captured;
mod cavage;
mod certificate;
mod charset;
mod compile;
mod doctor;
mod encoding;
mod extract;
mod facts;
mod form;
mod fuzz;
mod handshake;
mod json;
mod jwk;
mod jws;
mod keeper;
mod key;
pub mod limits;
mod mac;
mod message;
mod presets;
#[cfg(test)]
mod properties;
mod remote;
mod request;
mod same;
mod sample;
mod scheme;
mod senders;
mod sign;
mod source;
mod tags;
mod template;
mod timestamp;
mod tree;
pub mod vectors;
mod xml;

use http::{HeaderName, Method};

pub use self::doctor::{Diagnosis, Step};
pub use self::fuzz::fuzz_scheme;
pub use self::handshake::Handshake;
pub use self::keeper::{KeyKeeper, KeyState, NoKeys, WantedKey};
pub use self::presets::{preset_names, preset_settings};
pub use self::senders::senders_page;
pub use self::sign::{Signer, new_signing_secret};

use self::json::Pointers;
use self::keeper::Context;
use self::request::{Document, Request, Scope};
use self::source::{Names, Source};
use self::tree::Check;
use crate::document::{Node, Problem};
use crate::model::{Answer, Event, Inbound, Secret, Timestamp};

pub use same::same;

/// Resolves `{ env: NAME }` and `{ file: PATH }` while a scheme is compiled.
pub trait SecretSource {
    /// The secret that this node names; `None` when it can't be had, in which case the problem has been
    /// reported already.
    fn secret(&mut self, node: &Node, path: &str) -> Option<KeyMaterial>;
}

/// A secret with the time until which it counts.
pub struct KeyMaterial {
    /// The bytes as configured, not yet decoded.
    pub secret: Secret,
    /// After this it is no longer tried.
    pub not_after: Option<Timestamp>,
}

/// A request whose sender is known. Only [`Verifier::verify`] makes one.
pub struct Verified {
    inbound: Inbound,
    facts: Facts,
}

/// What a scheme says of a request beyond its being genuine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The sender's own id of the event.
    pub source_id: Option<Box<str>>,
    /// The sender's word for what happened, when it was to be had without parsing the body only for it.
    pub event_type: Option<Box<str>>,
    /// The preset's dedupe key, where it is unique per request.
    pub dedupe_key: Option<Vec<u8>>,
    /// The preset's answer.
    pub answer: Option<Answer>,
    /// It is kept for the operator to see and goes to no destination.
    pub operator_only: bool,
    handshake: Option<Handshake>,
}

/// A request that is not authenticated, given back with the reason.
pub struct Unverified {
    /// The request.
    pub inbound: Inbound,
    /// Why it is refused.
    pub refusal: Refusal,
}

/// What a request turned out to be.
pub enum Judged {
    /// A genuine one.
    Event(Box<Verified>),
    /// A question about the address itself, with its answer: it is never an event.
    Handshake(Handshake),
}

/// What was found out about a request, before it is moved into that.
enum Found {
    Genuine(Facts),
    Handshake(Handshake),
}

impl Found {
    fn of(self, inbound: Inbound) -> Judged {
        match self {
            Self::Genuine(facts) => Judged::Event(Box::new(Verified { inbound, facts })),
            Self::Handshake(answer) => Judged::Handshake(answer),
        }
    }
}

/// Why a request is not authenticated; for logs and metrics, never for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// What should carry the signature or the credentials is not there.
    MissingHeader,
    /// It is there and can't be read.
    Malformed,
    /// No key and candidate match, or the credentials are wrong.
    Mismatch,
    /// The signature is right and too old, or from the future.
    Stale,
    /// The request names a key that is not known.
    UnknownKey,
    /// The key can't be fetched just now.
    KeyFetch,
    /// The sender's address is not allowed.
    Address,
    /// It is no event but a handshake, which only [`Verifier::judge`] answers.
    Handshake,
}

impl Refusal {
    /// The word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MissingHeader => "missing_header",
            Self::Malformed => "malformed",
            Self::Mismatch => "mismatch",
            Self::Stale => "stale",
            Self::UnknownKey => "unknown_key",
            Self::KeyFetch => "key_fetch",
            Self::Address => "address",
            Self::Handshake => "handshake",
        }
    }
}

/// How much of the body a scheme vouches for; more is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Binding {
    /// Nothing.
    None,
    /// Some fields.
    Fields,
    /// All of it.
    Whole,
}

/// A compiled `verify`.
pub struct Verifier {
    check: Check,
    /// Every place of a JSON body that any scheme reads: they are read together, once.
    pointers: Pointers,
    methods: Option<Vec<Method>>,
    credential_headers: Vec<HeaderName>,
    credential_parameters: Vec<Box<str>>,
    /// Whether a scheme's keys have to be fetched.
    fetches: bool,
}

impl Verifier {
    /// `verify: none`: every request passes, for routes that say so in as many words.
    pub fn none() -> Self {
        Self::new(Check::Open, Pointers::new())
    }

    /// Compiles a `verify` node. `None` when there were problems, which have been added, or when a secret could
    /// not be had, which its source has reported.
    pub fn compile(node: &Node, path: &str, secrets: &mut dyn SecretSource, problems: &mut Vec<Problem>) -> Option<Self> {
        compile::verifier(node, path, secrets, problems, None)
    }

    fn new(check: Check, pointers: Pointers) -> Self {
        let schemes = check.schemes();
        let methods = match schemes.iter().map(|scheme| scheme.methods.as_ref()).collect::<Option<Vec<_>>>() {
            Some(lists) if !lists.is_empty() => {
                let mut methods: Vec<Method> = lists.into_iter().flatten().cloned().collect();
                let mut seen = Vec::new();
                methods.retain(|method| {
                    !seen.contains(method) && {
                        seen.push(method.clone());
                        true
                    }
                });
                Some(methods)
            }
            Some(_) | None => None,
        };
        let mut credential_headers: Vec<HeaderName> = schemes.iter().flat_map(|scheme| scheme.credential_headers()).collect();
        credential_headers.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        credential_headers.dedup();
        let fetches = schemes.iter().any(|scheme| scheme.plans.iter().any(|plan| matches!(plan.keys, key::Keys::Remote(_))));
        let mut credential_parameters = Vec::new();
        for source in schemes.iter().flat_map(|scheme| scheme.credential_sources()) {
            if let Source::Query(name) = source {
                credential_parameters.push(name.clone());
            }
        }
        Self { check, pointers, methods, credential_headers, credential_parameters, fetches }
    }

    /// The keys that have to be fetched before [`judge`](Self::judge) can judge this request; mostly none.
    pub fn wanted_keys(&self, inbound: &Inbound) -> Vec<WantedKey> {
        if !self.fetches {
            return Vec::new();
        }
        let request = Request::of_inbound(inbound);
        let json = Document::new(&inbound.body, &self.pointers);
        self.check.schemes().iter().filter_map(|scheme| scheme.wanted(&request, &json)).collect()
    }

    /// Judges a request as of `now`, with what `keys` has of keys that the schemes do not hold themselves.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn judge(&self, inbound: Inbound, now: Timestamp, keys: &dyn KeyKeeper) -> Result<Judged, Refusal> {
        self.judge_in(inbound, Context { now: Some(now), keys })
    }

    /// The same, for those who keep what is refused.
    ///
    /// # Errors
    /// The request itself, and why it is refused.
    pub fn judge_or_return(&self, inbound: Inbound, now: Timestamp, keys: &dyn KeyKeeper) -> Result<Judged, Box<Unverified>> {
        match self.facts_in(&inbound, Context { now: Some(now), keys }) {
            Ok(found) => Ok(found.of(inbound)),
            Err(refusal) => Err(Box::new(Unverified { inbound, refusal })),
        }
    }

    /// Whether the request asks about the address itself, well or not: it can never become an event.
    pub fn is_handshake(&self, inbound: &Inbound) -> bool {
        let request = Request::of_inbound(inbound);
        let json = Document::new(&inbound.body, &self.pointers);
        let scope = Scope::new(&request, &json);
        self.check.schemes().iter().any(|scheme| scheme.handshakes.iter().any(|rule| rule.when.holds(&scope)))
    }

    /// Checks a request that can only be an event, with the keys that the schemes hold themselves.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn verify(&self, inbound: Inbound, now: Timestamp) -> Result<Verified, Refusal> {
        match self.judge(inbound, now, &NoKeys)? {
            Judged::Event(verified) => Ok(*verified),
            Judged::Handshake(_) => Err(Refusal::Handshake),
        }
    }

    fn judge_in(&self, inbound: Inbound, context: Context<'_>) -> Result<Judged, Refusal> {
        self.facts_in(&inbound, context).map(|found| found.of(inbound))
    }

    fn facts_in(&self, inbound: &Inbound, context: Context<'_>) -> Result<Found, Refusal> {
        let request = Request::of_inbound(inbound);
        let json = Document::new(&inbound.body, &self.pointers);
        if let Some(answer) = self.check.unverified(&request, &json, inbound.peer, context) {
            return answer.map(Found::Handshake);
        }
        let facts = self.check.verify(&request, &json, inbound.peer, context).map_err(|failure| failure.refusal)?;
        Ok(match facts.handshake {
            Some(answer) if !facts.operator_only => Found::Handshake(answer),
            Some(_) | None => Found::Genuine(facts),
        })
    }

    /// Methods that the preset brings.
    pub fn methods(&self) -> Option<&[Method]> {
        self.methods.as_deref()
    }

    /// Body limit in bytes that the preset brings.
    pub fn body_limit(&self) -> Option<usize> {
        self.check.schemes().iter().filter_map(|scheme| scheme.body_limit).max()
    }

    /// The status for a request that is not authenticated.
    pub fn on_invalid(&self) -> u16 {
        self.check.schemes().iter().find_map(|scheme| scheme.on_invalid).unwrap_or(401)
    }

    /// Whether a request of this method may be a handshake, though the route takes no events by it.
    pub fn may_ask(&self, method: &Method) -> bool {
        let asks = |rule: &handshake::Rule| rule.when.methods.contains(method);
        self.check.schemes().iter().any(|scheme| scheme.handshakes.iter().any(asks))
    }

    /// Whether the sender tries the address with HEAD and expects success.
    pub fn head_ok(&self) -> bool {
        self.check.schemes().iter().any(|scheme| scheme.head_ok)
    }

    /// Whether some requests are kept for the operator and go to no destination.
    pub fn keeps_for_operator(&self) -> bool {
        self.check.schemes().iter().any(|scheme| scheme.handshakes.iter().any(|rule| rule.keep))
    }

    /// Whether every request passes.
    pub fn lets_all_in(&self) -> bool {
        matches!(self.check, Check::Open)
    }

    /// How much of the body is bound.
    pub fn binding(&self) -> Binding {
        self.check.binding()
    }

    /// The sources of the configuration's `key_sources` that the schemes name.
    pub fn key_sources(&self) -> Vec<&str> {
        let plans = self.check.schemes().into_iter().flat_map(|scheme| &scheme.plans);
        plans.filter_map(|plan| plan.keys.source_name()).collect()
    }

    /// Headers that carry credentials of this scheme; they are neither stored nor forwarded.
    pub fn credential_headers(&self) -> &[HeaderName] {
        &self.credential_headers
    }

    /// Whether the scheme knows where a sender says what happened.
    pub fn has_event_type(&self) -> bool {
        self.check.schemes().iter().any(|scheme| scheme.has_event_type())
    }

    /// Names of query parameters that carry credentials of this scheme; their values are not stored.
    pub fn credential_parameters(&self) -> &[Box<str>] {
        &self.credential_parameters
    }

    /// Whether a credential stands in the body, which is stored and delivered as it is.
    pub fn keeps_credentials(&self) -> bool {
        let in_body = |source: &Source| matches!(source, Source::Form(_) | Source::Json { .. } | Source::Xml(_));
        self.check.schemes().iter().any(|scheme| scheme.credential_sources().any(in_body))
    }

    /// The sender's word for what happened, read from a stored event.
    pub fn event_type(&self, event: &Event) -> Option<Box<str>> {
        let request = Request::of_event(event);
        let body = Document::new(&event.body, &self.pointers);
        self.check.schemes().iter().find_map(|scheme| scheme.event_type(&request, &body))
    }

    fn check(&self) -> &Check {
        &self.check
    }

    fn pointers(&self) -> &Pointers {
        &self.pointers
    }
}

impl Verified {
    /// The request.
    pub fn inbound(&self) -> &Inbound {
        &self.inbound
    }

    /// What the scheme says of it.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Both.
    pub fn into_parts(self) -> (Inbound, Facts) {
        (self.inbound, self.facts)
    }
}

/// A compiled template of the language, for keys that routes compose themselves.
pub struct Template {
    program: template::Program,
    pointers: Pointers,
}

impl Template {
    /// Compiles a template.
    ///
    /// # Errors
    /// What is wrong with it, as a fragment.
    pub fn compile(text: &str) -> Result<Self, String> {
        let mut pointers = Pointers::new();
        let mut names = Names { pointers: &mut pointers, config: &[], fields: false, token: false };
        let program = template::compile(text, template::Allowed::PLAIN, &mut names)?;
        Ok(Self { program, pointers })
    }

    /// The text for this request; `None` when something it needs is absent or has no one meaning.
    pub fn render(&self, inbound: &Inbound) -> Option<Vec<u8>> {
        self.text(&Request::of_inbound(inbound), &inbound.body)
    }

    /// The text for a stored event.
    pub fn render_event(&self, event: &Event) -> Option<Vec<u8>> {
        self.text(&Request::of_event(event), &event.body)
    }

    fn text(&self, request: &Request<'_>, body: &[u8]) -> Option<Vec<u8>> {
        let json = Document::new(body, &self.pointers);
        self.program.bytes(&Scope::new(request, &json)).ok()
    }
}

/// A 128-bit fingerprint of several parts, each preceded by its length, so that no two lists of parts join to
/// the same bytes. Not guessable into a collision (SHA-256).
pub fn fingerprint(parts: &[&[u8]]) -> [u8; 16] {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    let mut short = [0; 16];
    short.copy_from_slice(&digest[..16]);
    short
}
