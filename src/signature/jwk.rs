//! JSON Web Keys (RFC 7517, RFC 8037) and sets of them.

use aws_lc_rs::signature::{ParsedPublicKey, RsaPublicKeyComponents};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::algorithm::{Curve, PublicAlgorithm};
use super::key::public_key;
use super::limits::KEY_IDS_MAX;

/// One key, its numbers still in base64.
#[derive(Deserialize)]
pub(super) struct Jwk {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default, rename = "use")]
    purpose: Option<String>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    k: Option<String>,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

impl Jwk {
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(text).map_err(|_error| "is not a JSON Web Key".to_owned())
    }

    /// The key of this id in a set. What else stands in the set, and whatever can't be read of it, is no matter.
    pub(super) fn of_set(text: &[u8], id: &[u8]) -> Option<Self> {
        let set: Set = serde_json::from_slice(text).ok()?;
        let mut keys = set.keys.into_iter().take(KEY_IDS_MAX).filter_map(|key| serde_json::from_value::<Self>(key).ok());
        keys.find(|key| key.kid.as_ref().is_some_and(|kid| kid.as_bytes() == id) && key.purpose.as_deref().is_none_or(|use_| use_ == "sig"))
    }

    /// The public key, when it is one of this algorithm.
    pub(super) fn public(&self, algorithm: PublicAlgorithm) -> Result<ParsedPublicKey, String> {
        let curve = |wanted: &str| match self.crv.as_deref() {
            Some(curve) if curve == wanted => Ok(()),
            Some(_) | None => Err(format!("is no key of the curve {wanted}")),
        };
        match (self.kty.as_str(), algorithm) {
            ("OKP", PublicAlgorithm::Ed25519) => {
                curve("Ed25519")?;
                public_key(algorithm, &number(self.x.as_ref())?)
            }
            ("EC", PublicAlgorithm::Ecdsa(of, _)) => {
                let (name, length) = match of {
                    Curve::P256 | Curve::P256Sha1 => ("P-256", 32),
                    Curve::P384 => ("P-384", 48),
                    Curve::P521 => ("P-521", 66),
                };
                curve(name)?;
                let (x, y) = (number(self.x.as_ref())?, number(self.y.as_ref())?);
                if x.len() != length || y.len() != length {
                    return Err("has coordinates of another length than its curve".to_owned());
                }
                public_key(algorithm, &[&[4], &x[..], &y].concat())
            }
            ("RSA", PublicAlgorithm::Rsa(..)) => {
                let parameters = algorithm.rsa().ok_or("has an algorithm without such a signature")?;
                let (n, e) = (number(self.n.as_ref())?, number(self.e.as_ref())?);
                let bare = |number: &[u8]| number.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
                let components = RsaPublicKeyComponents { n: bare(&n), e: bare(&e) };
                components.to_parsed_public_key(parameters).map_err(|_error| "is no RSA key".to_owned())
            }
            _ => Err("is a key of another kind than the algorithm's".to_owned()),
        }
    }

    /// The shared secret, when it is one.
    pub(super) fn shared(&self) -> Result<Vec<u8>, String> {
        if self.kty == "oct" { number(self.k.as_ref()) } else { Err("is a public key, which can't be a shared secret".to_owned()) }
    }
}

fn number(text: Option<&String>) -> Result<Vec<u8>, String> {
    let bytes = text.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).filter(|bytes| !bytes.is_empty());
    bytes.ok_or_else(|| "lacks one of its numbers".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::algorithm::Algorithm;

    fn public(jwk: &str, alg: &str) -> Result<ParsedPublicKey, String> {
        let Algorithm::Public(algorithm) = Algorithm::of_jws(alg).unwrap() else { panic!("{alg} has no public key") };
        Jwk::parse(jwk.as_bytes())?.public(algorithm)
    }

    /// RFC 7515, appendix A.3.1 and RFC 8037, appendix A.2.
    const EC: &str =
        r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
    const OKP: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

    #[test]
    fn a_key_is_only_taken_for_the_algorithm_of_its_kind() {
        assert!(public(EC, "ES256").is_ok() && public(OKP, "EdDSA").is_ok());
        for (jwk, alg) in [(EC, "ES384"), (EC, "RS256"), (EC, "EdDSA"), (OKP, "ES256"), (OKP, "RS256")] {
            assert!(public(jwk, alg).is_err(), "{alg}");
        }
        assert!(public(&EC.replace("f83O", "g83O"), "ES256").is_err(), "a point that is not on the curve");
        assert!(Jwk::parse(EC.as_bytes()).unwrap().shared().is_err());
        assert_eq!(Jwk::parse(br#"{"kty":"oct","k":"AAEC"}"#).unwrap().shared().unwrap(), [0, 1, 2]);
    }

    #[test]
    fn a_set_gives_the_key_of_the_id_and_no_other() {
        let set = format!(r#"{{"keys":[7,{{"kty":"EC","kid":"e","use":"enc"}},{}]}}"#, EC.replace("{", r#"{"kid":"a","#));
        assert!(Jwk::of_set(set.as_bytes(), b"a").is_some());
        for other in ["b", "", "A", "e"] {
            assert!(Jwk::of_set(set.as_bytes(), other.as_bytes()).is_none(), "{other}");
        }
        assert!(Jwk::of_set(b"[]", b"a").is_none());
    }
}
