//! `algorithm`: what makes a signature right, and the words for it here and in JSON Web Signatures.

use aws_lc_rs::digest as aws;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA1_ASN1, ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA384_FIXED,
    ECDSA_P521_SHA512_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
    VerificationAlgorithm,
};

use super::mac::Hash;

/// `algorithm`, compiled.
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
    Ecdsa(Curve, Form),
    Rsa(Padding, Hash),
}

/// The curve, with the digest that goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Curve {
    P256Sha1,
    P256,
    P384,
    P521,
}

/// How an ECDSA signature is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A DER sequence of two numbers.
    Der,
    /// The two numbers one after the other, each as long as the curve's (JWS, RFC 9421).
    Fixed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Padding {
    Pkcs1,
    Pss,
}

const fn rsa(padding: Padding, hash: Hash) -> Algorithm {
    Algorithm::Public(PublicAlgorithm::Rsa(padding, hash))
}

const fn ecdsa(curve: Curve, form: Form) -> Algorithm {
    Algorithm::Public(PublicAlgorithm::Ecdsa(curve, form))
}

/// The words of the language and what they mean.
const ALGORITHMS: [(&str, Algorithm); 23] = [
    ("hmac-md5", Algorithm::Hmac(Hash::Md5)),
    ("hmac-sha1", Algorithm::Hmac(Hash::Sha1)),
    ("hmac-sha256", Algorithm::Hmac(Hash::Sha256)),
    ("hmac-sha384", Algorithm::Hmac(Hash::Sha384)),
    ("hmac-sha512", Algorithm::Hmac(Hash::Sha512)),
    ("hash-md5", Algorithm::Digest(Hash::Md5)),
    ("hash-sha1", Algorithm::Digest(Hash::Sha1)),
    ("hash-sha256", Algorithm::Digest(Hash::Sha256)),
    ("hash-sha384", Algorithm::Digest(Hash::Sha384)),
    ("hash-sha512", Algorithm::Digest(Hash::Sha512)),
    ("ed25519", Algorithm::Public(PublicAlgorithm::Ed25519)),
    ("ecdsa-p256-sha256", ecdsa(Curve::P256, Form::Der)),
    ("ecdsa-p256-sha1", ecdsa(Curve::P256Sha1, Form::Der)),
    ("ecdsa-p384-sha384", ecdsa(Curve::P384, Form::Der)),
    ("rsa-pkcs1-sha1", rsa(Padding::Pkcs1, Hash::Sha1)),
    ("rsa-pkcs1-sha256", rsa(Padding::Pkcs1, Hash::Sha256)),
    ("rsa-pkcs1-sha384", rsa(Padding::Pkcs1, Hash::Sha384)),
    ("rsa-pkcs1-sha512", rsa(Padding::Pkcs1, Hash::Sha512)),
    ("rsa-pss-sha256", rsa(Padding::Pss, Hash::Sha256)),
    ("rsa-pss-sha384", rsa(Padding::Pss, Hash::Sha384)),
    ("rsa-pss-sha512", rsa(Padding::Pss, Hash::Sha512)),
    ("token", Algorithm::Token),
    ("basic", Algorithm::Basic),
];

/// The same of JSON Web Signatures (RFC 7518, RFC 8037); `none` is not among them.
const JWS: [(&str, Algorithm); 13] = [
    ("HS256", Algorithm::Hmac(Hash::Sha256)),
    ("HS384", Algorithm::Hmac(Hash::Sha384)),
    ("HS512", Algorithm::Hmac(Hash::Sha512)),
    ("RS256", rsa(Padding::Pkcs1, Hash::Sha256)),
    ("RS384", rsa(Padding::Pkcs1, Hash::Sha384)),
    ("RS512", rsa(Padding::Pkcs1, Hash::Sha512)),
    ("PS256", rsa(Padding::Pss, Hash::Sha256)),
    ("PS384", rsa(Padding::Pss, Hash::Sha384)),
    ("PS512", rsa(Padding::Pss, Hash::Sha512)),
    ("ES256", ecdsa(Curve::P256, Form::Fixed)),
    ("ES384", ecdsa(Curve::P384, Form::Fixed)),
    ("ES512", ecdsa(Curve::P521, Form::Fixed)),
    ("EdDSA", Algorithm::Public(PublicAlgorithm::Ed25519)),
];

/// What a word means, or which words there are.
pub(super) fn word<T: Copy>(text: &str, kind: &str, known: &[(&str, T)]) -> Result<T, String> {
    known.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning).ok_or_else(|| {
        let words: Vec<_> = known.iter().map(|(word, _)| *word).collect();
        format!("unknown {kind} `{text}`; known are {}", words.join(", "))
    })
}

impl Algorithm {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "jwt" => Err("`jwt` reads its algorithms from `jwt.algs`; a variant can't switch to it".to_owned()),
            "none" => Err("a scheme can't have the algorithm `none`; a route without authentication says `verify: none`".to_owned()),
            _ => word(text, "algorithm", &ALGORITHMS),
        }
    }

    /// An `alg` of a JSON Web Signature.
    pub(super) fn of_jws(text: &str) -> Result<Self, String> {
        word(text, "algorithm", &JWS)
    }

    /// The same algorithm with ECDSA signatures in the fixed form.
    pub(super) fn fixed(self) -> Self {
        match self {
            Self::Public(PublicAlgorithm::Ecdsa(curve, Form::Der)) => ecdsa(curve, Form::Fixed),
            Self::Public(_) | Self::Hmac(_) | Self::Digest(_) | Self::Token | Self::Basic => self,
        }
    }
}

impl PublicAlgorithm {
    pub(super) fn verification(self) -> Option<&'static dyn VerificationAlgorithm> {
        Some(match self {
            Self::Ed25519 => &ED25519,
            Self::Ecdsa(Curve::P256, Form::Der) => &ECDSA_P256_SHA256_ASN1,
            Self::Ecdsa(Curve::P256, Form::Fixed) => &ECDSA_P256_SHA256_FIXED,
            Self::Ecdsa(Curve::P256Sha1, _) => &ECDSA_P256_SHA1_ASN1,
            Self::Ecdsa(Curve::P384, Form::Der) => &ECDSA_P384_SHA384_ASN1,
            Self::Ecdsa(Curve::P384, Form::Fixed) => &ECDSA_P384_SHA384_FIXED,
            Self::Ecdsa(Curve::P521, _) => &ECDSA_P521_SHA512_FIXED,
            Self::Rsa(..) => self.rsa()?,
        })
    }

    /// The parameters of an RSA algorithm.
    pub(super) fn rsa(self) -> Option<&'static RsaParameters> {
        match self {
            Self::Rsa(Padding::Pkcs1, Hash::Sha1) => Some(&RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY),
            Self::Rsa(Padding::Pkcs1, Hash::Sha256) => Some(&RSA_PKCS1_2048_8192_SHA256),
            Self::Rsa(Padding::Pkcs1, Hash::Sha384) => Some(&RSA_PKCS1_2048_8192_SHA384),
            Self::Rsa(Padding::Pkcs1, Hash::Sha512) => Some(&RSA_PKCS1_2048_8192_SHA512),
            Self::Rsa(Padding::Pss, Hash::Sha256) => Some(&RSA_PSS_2048_8192_SHA256),
            Self::Rsa(Padding::Pss, Hash::Sha384) => Some(&RSA_PSS_2048_8192_SHA384),
            Self::Rsa(Padding::Pss, Hash::Sha512) => Some(&RSA_PSS_2048_8192_SHA512),
            Self::Rsa(_, Hash::Md5 | Hash::Sha1) | Self::Ed25519 | Self::Ecdsa(..) => None,
        }
    }

    /// The digest that is signed; Ed25519 signs the message itself.
    pub(super) fn digest(self) -> Option<&'static aws::Algorithm> {
        match self {
            Self::Ed25519 | Self::Rsa(_, Hash::Md5) => None,
            Self::Ecdsa(Curve::P256Sha1, _) | Self::Rsa(_, Hash::Sha1) => Some(&aws::SHA1_FOR_LEGACY_USE_ONLY),
            Self::Ecdsa(Curve::P256, _) | Self::Rsa(_, Hash::Sha256) => Some(&aws::SHA256),
            Self::Ecdsa(Curve::P384, _) | Self::Rsa(_, Hash::Sha384) => Some(&aws::SHA384),
            Self::Ecdsa(Curve::P521, _) | Self::Rsa(_, Hash::Sha512) => Some(&aws::SHA512),
        }
    }
}
