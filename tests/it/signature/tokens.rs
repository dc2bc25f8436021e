//! Tokens and detached signatures: what a token says of itself is never believed.

use super::*;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

fn part(json: &str) -> String {
    URL_SAFE_NO_PAD.encode(json)
}

fn hs256(key: &[u8], header: &str, claims: &str) -> String {
    let input = format!("{}.{}", part(header), part(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(input.as_bytes());
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

/// A key pair with its public half as a JSON Web Key.
fn es256_key() -> (EcdsaKeyPair, String) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let point = pair.public_key().as_ref();
    let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
    (pair, format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}"}}"#))
}

fn es256(pair: &EcdsaKeyPair, header: &str, claims: &str) -> String {
    let input = format!("{}.{}", part(header), part(claims));
    let signature = pair.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
}

const HS: &str = "{ algorithm: jwt, jwt: { from: header:x-jwt, algs: [HS256], leeway: 10, max_age: 60 }, secrets: [{ env: k }], claims: { aud: kurier, ok: 'true' }, event: { id: 'claim:jti' } }";

fn check(verifier: &Verifier, token: &str) -> Option<Refusal> {
    refusal(verifier.verify(post("/in", &[("x-jwt", token)], "{}"), at(NOW)))
}

#[test]
fn a_genuine_token_says_what_it_must_and_when() {
    let verifier = compile(HS);
    let claims = |extra: &str| format!(r#"{{"aud":"kurier","ok":true,"iat":{NOW}{extra}}}"#);
    let hs = |claims: &str| check(&verifier, &hs256(b"k", r#"{"alg":"HS256"}"#, claims));
    assert_eq!(hs(&claims("")), None);
    assert_eq!(hs(&claims(&format!(r#","exp":{},"nbf":{}.5"#, NOW - 10, NOW + 10))), None);
    assert_eq!(hs(&claims(&format!(r#","exp":{}"#, NOW - 11))), Some(Refusal::Stale));
    assert_eq!(hs(&claims(&format!(r#","nbf":{}"#, NOW + 11))), Some(Refusal::Stale));
    let with_iat = |iat: String| hs(&format!(r#"{{"aud":"kurier","ok":true,"iat":{iat}}}"#));
    assert_eq!((with_iat((NOW - 60).to_string()), with_iat((NOW - 61).to_string())), (None, Some(Refusal::Stale)));
    assert_eq!(with_iat((NOW + 61).to_string()), Some(Refusal::Stale));
    for odd in ["\"x\"", "-1", "1e9", "99999999999999999999", "[1700000000,1700000000]"] {
        assert_eq!(with_iat(odd.to_owned()), Some(Refusal::Malformed), "{odd}");
    }
    assert_eq!(hs(r#"{"aud":"kurier","ok":true}"#), Some(Refusal::MissingHeader), "max_age needs iat");
    let several = format!(r#"{{"aud":["other","kurier"],"ok":true,"iat":{NOW},"jti":"j-1"}}"#);
    let token = hs256(b"k", r#"{"alg":"HS256"}"#, &several);
    let (_, facts) = verifier.verify(post("/in", &[("x-jwt", &token)], "{}"), at(NOW)).unwrap().into_parts();
    assert_eq!(facts.source_id.as_deref(), Some("j-1"));
}

#[test]
fn wrong_claims_are_refused() {
    let verifier = compile(HS);
    for (claims, expected) in [
        (format!(r#"{{"aud":"other","ok":true,"iat":{NOW}}}"#), Refusal::Mismatch),
        (format!(r#"{{"aud":["a","b"],"ok":true,"iat":{NOW}}}"#), Refusal::Mismatch),
        (format!(r#"{{"aud":"kurier","ok":false,"iat":{NOW}}}"#), Refusal::Mismatch),
        (format!(r#"{{"aud":"kurier","iat":{NOW}}}"#), Refusal::MissingHeader),
        (format!(r#"{{"aud":null,"ok":true,"iat":{NOW}}}"#), Refusal::MissingHeader),
        (format!(r#"{{"aud":{{"x":"kurier"}},"ok":true,"iat":{NOW}}}"#), Refusal::MissingHeader),
        (format!(r#"{{"aud":"other","aud":"kurier","ok":true,"iat":{NOW}}}"#), Refusal::Malformed),
    ] {
        assert_eq!(check(&verifier, &hs256(b"k", r#"{"alg":"HS256"}"#, &claims)), Some(expected), "{claims}");
    }
}

#[test]
fn a_token_does_not_choose_its_algorithm_its_key_or_its_reader() {
    let (pair, jwk) = es256_key();
    let jwk_text = serde_json::Value::from(jwk.as_str());
    let verifier = compile(&format!(
        "{{ algorithm: jwt, jwt: {{ from: header:x-jwt, algs: [ES256] }}, key: {{ encoding: jwk, by: 'jwt:kid' }}, secrets: {{ k1: {{ env: {jwk_text} }} }} }}"
    ));
    assert_eq!(check(&verifier, &es256(&pair, r#"{"alg":"ES256","kid":"k1"}"#, "{}")), None);
    let claims = part("{}");
    for (token, expected) in [
        (format!("{}.{claims}.", part(r#"{"alg":"none","kid":"k1"}"#)), Refusal::Malformed),
        (hs256(jwk.as_bytes(), r#"{"alg":"HS256","kid":"k1"}"#, "{}"), Refusal::Malformed),
        (es256(&pair, r#"{"alg":"ES256","kid":"../k1"}"#, "{}"), Refusal::UnknownKey),
        (es256(&pair, r#"{"alg":"ES256"}"#, "{}"), Refusal::MissingHeader),
        (es256(&pair, r#"{"alg":"ES256","kid":"k1","crit":["x"],"x":1}"#, "{}"), Refusal::Malformed),
        (es256(&pair, r#"{"alg":"ES256","kid":"k1","b64":false}"#, "{}"), Refusal::Malformed),
        (es256(&pair, r#"{"alg":"none","alg":"ES256","kid":"k1"}"#, "{}"), Refusal::Malformed),
        (es256(&es256_key().0, r#"{"alg":"ES256","kid":"k1"}"#, "{}"), Refusal::Mismatch),
        (es256(&pair, r#"{"alg":"ES256","kid":"k1"}"#, "[]"), Refusal::Malformed),
        ("a.b".to_owned(), Refusal::Malformed),
        ("a.b.c.d".to_owned(), Refusal::Malformed),
        (String::new(), Refusal::Malformed),
    ] {
        assert_eq!(check(&verifier, &token), Some(expected), "{token}");
    }
    let good = es256(&pair, r#"{"alg":"ES256","kid":"k1"}"#, r#"{"a":1}"#);
    let (head, rest) = good.split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    assert_eq!(check(&verifier, &format!("{head}.{}.{signature}", part(r#"{"a":2}"#))), Some(Refusal::Mismatch));
    // The other half of the curve's order gives a second signature of the same text to those who allow it.
    assert_eq!(check(&verifier, &format!("{good}=")), Some(Refusal::Malformed));
}

#[test]
fn one_of_several_algorithms_each_with_its_own_kind_of_key() {
    let (pair, jwk) = es256_key();
    let yaml = |algs: &str| {
        let jwk = serde_json::Value::from(jwk.as_str());
        format!("{{ algorithm: jwt, jwt: {{ from: header:x-jwt, algs: {algs} }}, key: {{ encoding: jwk }}, secrets: [{{ env: {jwk} }}] }}")
    };
    assert_eq!(check(&compile(&yaml("[ES256]")), &es256(&pair, r#"{"alg":"ES256"}"#, "{}")), None);
    assert!(problems(&yaml("[ES256, ES384]")).contains("P-384"));
}

#[test]
fn the_senders_of_tokens_can_be_sampled() {
    for preset in ["netlify", "vonage", "fusionauth", "monday", "messagebird"] {
        let verifier = compile(&format!("{{ preset: {preset}, secrets: [{{ env: a-key }}] }}"));
        let sample = verifier.sample(post("/in", &[], r#"{"id":"x"}"#), at(NOW)).unwrap();
        assert!(verifier.verify(sample.clone(), at(NOW)).is_ok(), "{preset}");
        let other = Inbound { body: Bytes::from("{}"), ..sample };
        assert_eq!(verifier.verify(other, at(NOW)).is_err(), verifier.binding() == kurier::signature::Binding::Whole, "{preset}");
    }
}

#[test]
fn an_opaque_token_of_the_cloud_has_the_right_audience_address_and_verified_mail() {
    let (pair, jwk) = es256_key();
    let jwk = serde_json::Value::from(jwk.as_str());
    let verifier = compile(&format!(
        "{{ preset: google-pubsub, jwt: {{ algs: [ES256] }}, secrets: {{ a: {{ env: {jwk} }} }}, config: {{ audience: 'https://hooks.example.ch/in', service_account: push@p.example }} }}"
    ));
    let check = |aud: &str, email: &str, verified: &str| {
        let claims = format!(r#"{{"aud":"{aud}","email":"{email}","email_verified":{verified},"exp":{}}}"#, NOW + 60);
        let token = format!("Bearer {}", es256(&pair, r#"{"alg":"ES256","kid":"a"}"#, &claims));
        refusal(verifier.verify(post("/in", &[("authorization", &token)], "{}"), at(NOW)))
    };
    let (aud, email) = ("https://hooks.example.ch/in", "push@p.example");
    assert_eq!(check(aud, email, "true"), None);
    assert_eq!(check("https://other.example", email, "true"), Some(Refusal::Mismatch));
    assert_eq!(check(aud, "other@p.example", "true"), Some(Refusal::Mismatch));
    assert_eq!(check(aud, email, "false"), Some(Refusal::Mismatch));
}

#[test]
fn a_detached_signature_covers_method_path_the_named_headers_and_the_body() {
    let vectors: serde_json::Value = serde_json::from_slice(include_bytes!("../../fixtures/vectors.json")).unwrap();
    let vector = vectors.as_array().unwrap().iter().find(|vector| vector["scheme"] == "code:truelayer").unwrap();
    let key = &vector["secret"];
    let verifier = compile(&format!("{{ preset: truelayer, secrets: [{{ env: {key} }}] }}"));
    let headers = &vector["headers"];
    let header = |name: &str| headers[name].as_str().unwrap().to_owned();
    // The vector is the sender's own with one header changed by a second; this is the sender's own.
    let genuine = post(
        "/tl-webhook",
        &[
            ("tl-signature", &header("Tl-Signature")),
            ("content-type", &header("Content-Type")),
            ("x-tl-webhook-timestamp", "2021-11-29T11:42:55Z"),
        ],
        vector["body"].as_str().unwrap(),
    );
    let now = at(vector["now"].as_i64().unwrap());
    assert_eq!(refusal(verifier.verify(genuine.clone(), now)), None);
    let changed = [
        with(genuine.clone(), "x-tl-webhook-timestamp", "2021-11-29T11:42:56Z"),
        with(genuine.clone(), "content-type", "text/plain"),
        Inbound { target: Bytes::from("/tl-webhook/"), ..genuine.clone() },
        Inbound { method: Method::PUT, ..genuine.clone() },
        Inbound { body: Bytes::from("{}"), ..genuine.clone() },
    ];
    for (index, request) in changed.into_iter().enumerate() {
        assert_eq!(refusal(verifier.verify(request, now)), Some(Refusal::Mismatch), "{index}");
    }
    assert_eq!(refusal(verifier.verify(genuine.clone(), at(1_638_186_175 + 301))), Some(Refusal::Stale));

    // The key set is fetched from the address that the signature names, when it is one of the sender's two.
    let fetching = compile("{ preset: truelayer }");
    let header = header("Tl-Signature");
    let (head, signature) = header.split_once("..").unwrap();
    let named = |url: &str| {
        let json = String::from_utf8(URL_SAFE_NO_PAD.decode(head).unwrap()).unwrap();
        let json = json.replace("https://webhooks.truelayer.com/.well-known/jwks", url);
        let other = with(genuine.clone(), "tl-signature", &format!("{}..{signature}", part(&json)));
        fetching.wanted_keys(&other).len()
    };
    assert_eq!(named("https://webhooks.truelayer.com/.well-known/jwks"), 1);
    assert_eq!(named("https://webhooks.truelayer-sandbox.com/.well-known/jwks"), 1);
    for elsewhere in ["https://webhooks.truelayer.com/uploads/jwks", "https://evil.example/.well-known/jwks", ""] {
        assert_eq!(named(elsewhere), 0, "{elsewhere}");
    }
}
