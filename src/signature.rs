//! The scheme language: compiled at load time, evaluated without trust and in constant time.
//!
//! A [`Verifier`] turns an [`Inbound`] into a [`Verified`], the only value that can be accepted; nothing else
//! makes one.

use crate::document::{Node, Problem};
use crate::model::{Answer, Event, Inbound, Secret, Timestamp};
use http::{HeaderName, Method};

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
}

/// How much of the body a scheme vouches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// All of it.
    Whole,
    /// Some fields.
    Fields,
    /// Nothing.
    None,
}

/// A compiled `verify`.
pub struct Verifier {
    /// Whether it lets everything pass.
    open: bool,
}

impl Verifier {
    /// `verify: none`: every request passes, for routes that say so in as many words.
    pub fn none() -> Self {
        Self { open: true }
    }

    /// Compiles a `verify` node. `None` when there were problems; they have been added.
    pub fn compile(node: &Node, path: &str, secrets: &mut dyn SecretSource, problems: &mut Vec<Problem>) -> Option<Self> {
        let _ = (node, path, secrets, problems);
        None
    }

    /// Checks a request as of `now`.
    ///
    /// # Errors
    /// The request back, and why it is refused.
    pub fn verify(&self, inbound: Inbound, now: Timestamp) -> Result<Verified, Refusal> {
        let _ = now;
        if self.open { Ok(Verified { inbound, facts: Facts::default() }) } else { Err(Refusal::Mismatch) }
    }

    /// Methods that the preset brings.
    pub fn methods(&self) -> Option<&[Method]> {
        None
    }

    /// Body limit in bytes that the preset brings.
    pub fn body_limit(&self) -> Option<usize> {
        None
    }

    /// The status for a request that is not authenticated.
    pub fn on_invalid(&self) -> u16 {
        401
    }

    /// How much of the body is bound.
    pub fn binding(&self) -> Binding {
        Binding::None
    }

    /// Headers that carry credentials of this scheme; they are neither stored nor forwarded.
    pub fn credential_headers(&self) -> &[HeaderName] {
        &[]
    }

    /// The sender's word for what happened, read from a stored event.
    pub fn event_type(&self, event: &Event) -> Option<Box<str>> {
        let _ = event;
        None
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
pub struct Template(());

impl Template {
    /// Compiles a template.
    ///
    /// # Errors
    /// What is wrong with it, as a fragment.
    pub fn compile(text: &str) -> Result<Self, String> {
        Err(text.to_owned())
    }

    /// The text for this request; `None` when something it needs is absent.
    pub fn render(&self, inbound: &Inbound) -> Option<Vec<u8>> {
        let _ = inbound;
        None
    }
}

/// Signs in Standard Webhooks form.
pub struct Signer(());

impl Signer {
    /// A signer with several secrets: `whsec_…` (and plain base64) sign as `v1`, `whsk_…` as `v1a`.
    ///
    /// # Errors
    /// What is wrong with one of them, as a fragment that does not contain it.
    pub fn new(secrets: &[Secret]) -> Result<Self, String> {
        let _ = secrets;
        Err(String::new())
    }

    /// The value of `webhook-signature`: one signature per secret, separated by blanks.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let _ = (id, timestamp, body);
        String::new()
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
