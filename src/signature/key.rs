//! Keys: decoded, checked and prepared when a scheme is compiled; per request only where a request names a
//! key that had to be fetched.

use std::ops::Deref;

use aws_lc_rs::signature::ParsedPublicKey;
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use smallvec::{SmallVec, smallvec};

use super::Refusal;
use super::algorithm::{Algorithm, PublicAlgorithm, word};
use super::certificate::Certificate;
use super::encoding::lenient_base64;
use super::jwk::Jwk;
use super::keeper::Context;
use super::mac::Keyed;
use super::remote::Remote;
use super::request::Scope;
use super::source::Source;
use crate::model::{Secret, Timestamp};

/// `key.encoding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyEncoding {
    Utf8,
    Hex,
    Base64,
    Whsec,
    Whpk,
    Sha1,
    Pem,
    Spki,
    X509,
    Jwk,
}

const ENCODINGS: [(&str, KeyEncoding); 10] = [
    ("utf8", KeyEncoding::Utf8),
    ("hex", KeyEncoding::Hex),
    ("base64", KeyEncoding::Base64),
    ("whsec", KeyEncoding::Whsec),
    ("whpk", KeyEncoding::Whpk),
    ("sha1", KeyEncoding::Sha1),
    ("pem", KeyEncoding::Pem),
    ("spki", KeyEncoding::Spki),
    ("x509", KeyEncoding::X509),
    ("jwk", KeyEncoding::Jwk),
];

/// What a key's text comes to.
enum Decoded {
    Bytes(Vec<u8>),
    Jwk(Jwk),
}

impl KeyEncoding {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        word(text, "key encoding", &ENCODINGS)
    }

    fn decode(self, text: &[u8]) -> Result<Decoded, String> {
        let stripped = |prefix: &str| text.trim_ascii().strip_prefix(prefix.as_bytes()).unwrap_or(text.trim_ascii());
        let bytes = match self {
            Self::Utf8 => text.to_vec(),
            Self::Sha1 => Sha1::digest(text).to_vec(),
            Self::Hex => hex::decode(text.trim_ascii()).map_err(|_error| "is not hex")?,
            Self::Base64 => lenient_base64(text).ok_or("is not base64")?,
            Self::Whsec => {
                let text = stripped("v1,");
                lenient_base64(text.strip_prefix(b"whsec_").unwrap_or(text)).ok_or("is not `whsec_` and base64")?
            }
            Self::Whpk => lenient_base64(stripped("whpk_")).ok_or("is not `whpk_` and base64")?,
            Self::Spki => lenient_base64(text).ok_or("is not a base64 public key (SPKI)")?,
            Self::Pem => {
                SubjectPublicKeyInfoDer::from_pem_slice(text).map_err(|_error| "is not a PEM public key (`BEGIN PUBLIC KEY`)")?.to_vec()
            }
            Self::X509 => Certificate::parse(text)?.public_key,
            // Senders that publish a set often publish PEM too.
            Self::Jwk if text.trim_ascii().starts_with(b"-----BEGIN") => return Self::Pem.decode(text),
            Self::Jwk => return Jwk::parse(text).map(Decoded::Jwk),
        };
        Ok(Decoded::Bytes(bytes))
    }

    fn is_public(self) -> bool {
        matches!(self, Self::Whpk | Self::Pem | Self::Spki | Self::X509)
    }
}

/// One key, ready for use.
pub(super) struct Key {
    pub(super) material: Material,
    not_after: Option<Timestamp>,
    /// The text it was made of, for trying it in another encoding (`doctor`).
    pub(super) text: Secret,
}

/// What a key is made into.
pub(super) enum Material {
    Mac(Keyed),
    /// For plain digests.
    Bytes(Secret),
    /// For tokens and passwords: compared by their digests, so that their length does not show either.
    Hashed {
        digest: [u8; 32],
        secret: Secret,
    },
    Public(Box<ParsedPublicKey>),
}

impl Key {
    /// Decodes and prepares a secret.
    ///
    /// # Errors
    /// What is wrong with it, without a part of it.
    pub(super) fn new(secret: &Secret, not_after: Option<Timestamp>, algorithm: Algorithm, encoding: KeyEncoding) -> Result<Self, String> {
        if secret.expose().trim_ascii().is_empty() {
            return Err("is empty".to_owned());
        }
        let public = encoding.is_public() || secret.expose().trim_ascii().starts_with(b"-----BEGIN");
        let material = match (encoding.decode(secret.expose())?, algorithm) {
            (Decoded::Jwk(jwk), Algorithm::Public(algorithm)) => Material::Public(Box::new(jwk.public(algorithm)?)),
            (Decoded::Jwk(jwk), _) => Material::new(jwk.shared()?, algorithm, false)?,
            (Decoded::Bytes(bytes), _) => Material::new(bytes, algorithm, public)?,
        };
        Ok(Self { material, not_after, text: secret.clone() })
    }

    /// A public key out of a set.
    pub(super) fn of_jwk(jwk: &Jwk, algorithm: Algorithm) -> Result<Self, String> {
        let Algorithm::Public(algorithm) = algorithm else { return Err("can't be fetched: it would be no secret".to_owned()) };
        Ok(Self { material: Material::Public(Box::new(jwk.public(algorithm)?)), not_after: None, text: Secret::new(Vec::new()) })
    }

    /// The shared key in it, ready for an HMAC.
    pub(super) fn keyed(&self) -> Option<&Keyed> {
        match &self.material {
            Material::Mac(keyed) => Some(keyed),
            Material::Bytes(_) | Material::Hashed { .. } | Material::Public(_) => None,
        }
    }

    /// Whether it counts at this time; without a time every key does.
    pub(super) fn counts(&self, now: Option<Timestamp>) -> bool {
        match (self.not_after, now) {
            (Some(until), Some(now)) => now <= until,
            (None, _) | (_, None) => true,
        }
    }
}

impl Material {
    fn new(bytes: Vec<u8>, algorithm: Algorithm, public: bool) -> Result<Self, String> {
        if bytes.is_empty() {
            return Err("is empty once decoded".to_owned());
        }
        Ok(match algorithm {
            Algorithm::Public(algorithm) => Self::Public(Box::new(public_key(algorithm, &bytes)?)),
            Algorithm::Hmac(_) | Algorithm::Digest(_) | Algorithm::Token | Algorithm::Basic if public => {
                return Err("is a public key: what everybody knows can't be the secret of this algorithm".to_owned());
            }
            Algorithm::Hmac(hash) => Self::Mac(Keyed::new(hash, &bytes).ok_or("can't be a key of this algorithm")?),
            Algorithm::Digest(_) => Self::Bytes(Secret::new(bytes)),
            Algorithm::Basic if !bytes.contains(&b':') => return Err("has no colon between user and password".to_owned()),
            Algorithm::Token | Algorithm::Basic => Self::Hashed { digest: Sha256::digest(&bytes).into(), secret: Secret::new(bytes) },
        })
    }
}

/// A public key out of its SPKI or raw form.
pub(super) fn public_key(algorithm: PublicAlgorithm, bytes: &[u8]) -> Result<ParsedPublicKey, String> {
    let verification = algorithm.verification().ok_or("has an algorithm without such a signature")?;
    ParsedPublicKey::new(verification, bytes)
        .map_err(|_error| "is no public key of this algorithm (or of a size that is not accepted)".to_owned())
}

/// The keys of a scheme.
pub(super) enum Keys {
    /// Any of them.
    Any(Vec<Key>),
    /// The one that the request names; never another.
    ById { by: Source, keys: Vec<(Box<str>, Key)> },
    /// Fetched.
    Remote(Box<Remote>),
}

/// A key of the scheme, or one made for this request.
pub(super) enum Chosen<'k> {
    Own(&'k Key),
    Fetched(Box<Key>),
}

impl Deref for Chosen<'_> {
    type Target = Key;

    fn deref(&self) -> &Key {
        match self {
            Self::Own(key) => key,
            Self::Fetched(key) => key,
        }
    }
}

impl Keys {
    /// The keys to try for this request.
    pub(super) fn select<'k>(&'k self, scope: &Scope<'_, '_, '_>, context: Context<'_>) -> Result<SmallVec<[Chosen<'k>; 2]>, Refusal> {
        let keys: SmallVec<[Chosen<'k>; 2]> = match self {
            Self::Any(keys) => keys.iter().filter(|key| key.counts(context.now)).map(Chosen::Own).collect(),
            Self::ById { by, keys } => {
                let id = scope.look(by)?.ok_or(Refusal::MissingHeader)?;
                let named = keys.iter().filter(|(known, key)| known.as_bytes() == &*id && key.counts(context.now));
                named.map(|(_, key)| Chosen::Own(key)).collect()
            }
            Self::Remote(remote) => smallvec![Chosen::Fetched(Box::new(remote.key(scope, context)?))],
        };
        if keys.is_empty() { Err(Refusal::UnknownKey) } else { Ok(keys) }
    }

    /// The source of the configuration that has them.
    pub(super) fn source_name(&self) -> Option<&str> {
        match self {
            Self::Remote(remote) => remote.source_name(),
            Self::Any(_) | Self::ById { .. } => None,
        }
    }

    /// The scheme's own keys, with their ids where requests name them.
    pub(super) fn own(&self) -> Vec<(Option<&str>, &Key)> {
        match self {
            Self::Any(keys) => keys.iter().map(|key| (None, key)).collect(),
            Self::ById { keys, .. } => keys.iter().map(|(id, key)| (Some(&**id), key)).collect(),
            Self::Remote(_) => Vec::new(),
        }
    }
}
