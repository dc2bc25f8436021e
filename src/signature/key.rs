//! Keys: decoded, checked and prepared when a scheme is compiled, never per request.

use aws_lc_rs::digest as aws;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA1_ASN1, ECDSA_P256_SHA256_ASN1, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512, VerificationAlgorithm,
};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::Refusal;
use super::encoding::lenient_base64;
use super::mac::{Hash, Keyed};
use super::request::Scope;
use super::source::{Source, not_built};
use crate::model::{Secret, Timestamp};

/// `algorithm`, without what belongs to a later version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Hmac(Hash),
    Digest(Hash),
    Public(PublicAlgorithm),
    Token,
    Basic,
}

/// Algorithms with a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PublicAlgorithm {
    Ed25519,
    EcdsaP256Sha256,
    EcdsaP256Sha1,
    RsaSha1,
    RsaSha256,
    RsaSha512,
}

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
}

/// The words of the language and what they mean.
const ALGORITHMS: [(&str, Algorithm); 17] = [
    ("hmac-md5", Algorithm::Hmac(Hash::Md5)),
    ("hmac-sha1", Algorithm::Hmac(Hash::Sha1)),
    ("hmac-sha256", Algorithm::Hmac(Hash::Sha256)),
    ("hmac-sha512", Algorithm::Hmac(Hash::Sha512)),
    ("hash-md5", Algorithm::Digest(Hash::Md5)),
    ("hash-sha1", Algorithm::Digest(Hash::Sha1)),
    ("hash-sha256", Algorithm::Digest(Hash::Sha256)),
    ("hash-sha384", Algorithm::Digest(Hash::Sha384)),
    ("hash-sha512", Algorithm::Digest(Hash::Sha512)),
    ("ed25519", Algorithm::Public(PublicAlgorithm::Ed25519)),
    ("ecdsa-p256-sha256", Algorithm::Public(PublicAlgorithm::EcdsaP256Sha256)),
    ("ecdsa-p256-sha1", Algorithm::Public(PublicAlgorithm::EcdsaP256Sha1)),
    ("rsa-pkcs1-sha1", Algorithm::Public(PublicAlgorithm::RsaSha1)),
    ("rsa-pkcs1-sha256", Algorithm::Public(PublicAlgorithm::RsaSha256)),
    ("rsa-pkcs1-sha512", Algorithm::Public(PublicAlgorithm::RsaSha512)),
    ("token", Algorithm::Token),
    ("basic", Algorithm::Basic),
];

const ENCODINGS: [(&str, KeyEncoding); 8] = [
    ("utf8", KeyEncoding::Utf8),
    ("hex", KeyEncoding::Hex),
    ("base64", KeyEncoding::Base64),
    ("whsec", KeyEncoding::Whsec),
    ("whpk", KeyEncoding::Whpk),
    ("sha1", KeyEncoding::Sha1),
    ("pem", KeyEncoding::Pem),
    ("spki", KeyEncoding::Spki),
];

fn word<T: Copy>(text: &str, kind: &str, known: &[(&str, T)]) -> Result<T, String> {
    known.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning).ok_or_else(|| {
        let words: Vec<_> = known.iter().map(|(word, _)| *word).collect();
        format!("unknown {kind} `{text}`; known are {}", words.join(", "))
    })
}

impl Algorithm {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "jwt" => Err(not_built("algorithm: jwt")),
            "none" => Err("a scheme can't have the algorithm `none`; a route without authentication says `verify: none`".to_owned()),
            _ => word(text, "algorithm", &ALGORITHMS),
        }
    }
}

impl KeyEncoding {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "x509" | "jwk" => Err(not_built(&format!("key.encoding: {text}"))),
            _ => word(text, "key encoding", &ENCODINGS),
        }
    }

    fn decode(self, text: &[u8]) -> Result<Vec<u8>, String> {
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
        };
        Ok(bytes)
    }

    fn is_public(self) -> bool {
        matches!(self, Self::Whpk | Self::Pem | Self::Spki)
    }
}

impl PublicAlgorithm {
    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::Ed25519 => &ED25519,
            Self::EcdsaP256Sha256 => &ECDSA_P256_SHA256_ASN1,
            Self::EcdsaP256Sha1 => &ECDSA_P256_SHA1_ASN1,
            Self::RsaSha1 => &RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
            Self::RsaSha256 => &RSA_PKCS1_2048_8192_SHA256,
            Self::RsaSha512 => &RSA_PKCS1_2048_8192_SHA512,
        }
    }

    /// The digest that is signed; Ed25519 signs the message itself.
    pub(super) fn digest(self) -> Option<&'static aws::Algorithm> {
        match self {
            Self::Ed25519 => None,
            Self::EcdsaP256Sha1 | Self::RsaSha1 => Some(&aws::SHA1_FOR_LEGACY_USE_ONLY),
            Self::EcdsaP256Sha256 | Self::RsaSha256 => Some(&aws::SHA256),
            Self::RsaSha512 => Some(&aws::SHA512),
        }
    }
}

/// One key, ready for use.
pub(super) struct Key {
    pub(super) material: Material,
    not_after: Option<Timestamp>,
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
        let bytes = encoding.decode(secret.expose())?;
        if bytes.is_empty() {
            return Err("is empty once decoded".to_owned());
        }
        let public = encoding.is_public() || secret.expose().trim_ascii().starts_with(b"-----BEGIN");
        let material = match algorithm {
            Algorithm::Public(algorithm) => {
                let key = ParsedPublicKey::new(algorithm.verification(), &bytes)
                    .map_err(|_error| "is no public key of this algorithm (or of a size that is not accepted)")?;
                Material::Public(Box::new(key))
            }
            Algorithm::Hmac(_) | Algorithm::Digest(_) | Algorithm::Token | Algorithm::Basic if public => {
                return Err("is a public key: what everybody knows can't be the secret of this algorithm".to_owned());
            }
            Algorithm::Hmac(hash) => Material::Mac(Keyed::new(hash, &bytes).ok_or("can't be a key of this algorithm")?),
            Algorithm::Digest(_) => Material::Bytes(Secret::new(bytes)),
            Algorithm::Basic if !bytes.contains(&b':') => return Err("has no colon between user and password".to_owned()),
            Algorithm::Token | Algorithm::Basic => Material::Hashed { digest: Sha256::digest(&bytes).into(), secret: Secret::new(bytes) },
        };
        Ok(Self { material, not_after })
    }

    /// Whether it counts at this time; without a time every key does.
    pub(super) fn counts(&self, now: Option<Timestamp>) -> bool {
        match (self.not_after, now) {
            (Some(until), Some(now)) => now <= until,
            (None, _) | (_, None) => true,
        }
    }
}

/// The keys of a scheme.
pub(super) enum Keys {
    /// Any of them.
    Any(Vec<Key>),
    /// The one that the request names; never another.
    ById { by: Source, keys: Vec<(Box<str>, Key)> },
}

impl Keys {
    /// The keys to try for this request.
    pub(super) fn select(&self, scope: &Scope<'_, '_, '_>, now: Option<Timestamp>) -> Result<Vec<&Key>, Refusal> {
        let keys: Vec<&Key> = match self {
            Self::Any(keys) => keys.iter().filter(|key| key.counts(now)).collect(),
            Self::ById { by, keys } => {
                let id = scope.look(by)?.ok_or(Refusal::MissingHeader)?;
                keys.iter().filter(|(known, key)| known.as_bytes() == &*id && key.counts(now)).map(|(_, key)| key).collect()
            }
        };
        if keys.is_empty() { Err(Refusal::UnknownKey) } else { Ok(keys) }
    }
}
