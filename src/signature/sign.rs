//! Signing what we send, in Standard Webhooks form.

use std::fmt::Write as _;

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::encoding::lenient_base64;
use super::mac::{Hash, Keyed, Sink};
use crate::model::Secret;

/// Fewest and most bytes of a signing secret, as the standard asks.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Signs in Standard Webhooks form.
pub struct Signer(Vec<SigningKey>);

enum SigningKey {
    /// `v1`
    Shared(Keyed),
    /// `v1a`
    Private(Box<Ed25519KeyPair>),
}

impl Signer {
    /// A signer with several secrets: `whsec_…` (and plain base64) sign as `v1`, `whsk_…` as `v1a`.
    ///
    /// # Errors
    /// What is wrong with one of them, as a fragment that does not contain it.
    pub fn new(secrets: &[Secret]) -> Result<Self, String> {
        if secrets.is_empty() {
            return Err("there are no secrets".to_owned());
        }
        if secrets.len() > super::limits::KEYS_MAX {
            return Err(format!("more than {} secrets", super::limits::KEYS_MAX));
        }
        let keys = secrets.iter().enumerate().map(|(index, secret)| {
            SigningKey::new(secret).map_err(|what| if secrets.len() == 1 { what } else { format!("secret number {}: {what}", index + 1) })
        });
        keys.collect::<Result<_, _>>().map(Self)
    }

    /// The value of `webhook-signature`: one signature per secret, separated by blanks.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let head = format!("{id}.{timestamp}.");
        let mut value = String::new();
        for key in &self.0 {
            let (version, signature) = match key {
                SigningKey::Shared(keyed) => {
                    let mut keyed = keyed.clone();
                    keyed.put(head.as_bytes());
                    keyed.put(body);
                    ("v1", STANDARD.encode(keyed.finish().as_bytes()))
                }
                SigningKey::Private(pair) => ("v1a", STANDARD.encode(pair.sign(&[head.as_bytes(), body].concat()))),
            };
            let blank = if value.is_empty() { "" } else { " " };
            write!(value, "{blank}{version},{signature}").unwrap_or_default();
        }
        value
    }
}

impl SigningKey {
    fn new(secret: &Secret) -> Result<Self, String> {
        let text = secret.expose().trim_ascii();
        if text.is_empty() {
            return Err("is empty".to_owned());
        }
        if text.starts_with(b"whpk_") {
            return Err("is a public key (`whpk_`); signing takes the private one (`whsk_`)".to_owned());
        }
        if let Some(private) = text.strip_prefix(b"whsk_") {
            let bytes = Zeroizing::new(lenient_base64(private).ok_or("is not `whsk_` and base64")?);
            // 32 bytes are the seed; 64 are the seed and the public key, as libsodium writes it.
            let pair = match bytes.len() {
                32 => Ed25519KeyPair::from_seed_unchecked(&bytes),
                64 => Ed25519KeyPair::from_seed_and_public_key(&bytes[..32], &bytes[32..]),
                other => return Err(format!("holds {other} bytes; an Ed25519 key has 32, or 64 with its public half")),
            };
            return Ok(Self::Private(Box::new(pair.map_err(|_error| "is no Ed25519 key, or its two halves differ")?)));
        }
        let bytes = Zeroizing::new(lenient_base64(text.strip_prefix(b"whsec_").unwrap_or(text)).ok_or("is not base64")?);
        if !SECRET_BYTES.contains(&bytes.len()) {
            return Err(format!("holds {} bytes; {} to {} are needed", bytes.len(), SECRET_BYTES.start(), SECRET_BYTES.end()));
        }
        Keyed::new(Hash::Sha256, &bytes).map(Self::Shared).ok_or_else(|| "can't be a key".to_owned())
    }
}

/// A fresh signing secret: `whsec_` and 32 random bytes.
///
/// # Errors
/// The system's random numbers can't be had.
pub fn new_signing_secret() -> Result<String, String> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).map_err(|error| format!("no random numbers: {error}"))?;
    Ok(format!("whsec_{}", STANDARD.encode(*bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes().to_vec())
    }

    #[test]
    fn signs_the_vector_of_the_standard() {
        let signer = Signer::new(&[secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]).unwrap();
        assert_eq!(
            signer.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn every_secret_signs_and_private_keys_sign_as_v1a() {
        let fresh = new_signing_secret().unwrap();
        let private = format!("whsk_{}", STANDARD.encode([7; 32]));
        let value = Signer::new(&[secret(&fresh), secret(&private)]).unwrap().sign("msg_1", 1, b"{}");
        let (first, second) = value.split_once(' ').unwrap();
        assert!(first.starts_with("v1,") && second.starts_with("v1a,"), "{value}");
        assert_ne!(fresh, new_signing_secret().unwrap());
    }

    #[test]
    fn bad_secrets_are_named_by_what_is_wrong_and_not_shown() {
        for bad in ["", " ", "whsec_", "whsec_AAAA", "whsk_AAAA", "not base64!", "whpk_AAAA"] {
            let what = Signer::new(&[secret(bad)]).err().unwrap();
            assert!(bad.trim().is_empty() || !what.contains(bad) || bad == "whsec_", "{what}");
        }
        assert!(Signer::new(&[]).is_err());
    }
}
