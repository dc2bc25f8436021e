//! The doctor names the one thing that is wrong, and shows nothing that would be right.

use super::*;
use hmac::{Hmac, KeyInit, Mac};
use kurier::signature::Diagnosis;
use sha2::Sha256;

const KEY: &str = "c2VjcmV0LW9mLXRoZS10ZXN0cw==";

fn mac(key: &[u8], message: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(message);
    hex::encode(mac.finalize().into_bytes())
}

fn stripe() -> Verifier {
    compile(&format!("{{ preset: stripe, secrets: [{{ env: '{KEY}' }}] }}"))
}

/// Signed over `signed`, sent with `body`.
fn request(key: &[u8], signed: &[u8], body: &[u8]) -> Inbound {
    let signature = mac(key, &[b"1700000000.", signed].concat());
    let header = format!("t=1700000000,v1={signature}");
    Inbound { body: Bytes::copy_from_slice(body), ..post("/in", &[("stripe-signature", &header)], "") }
}

#[track_caller]
fn finds(diagnosis: &Diagnosis, expected: &str) {
    assert!(!diagnosis.accepted && diagnosis.findings.iter().any(|finding| finding.contains(expected)), "{diagnosis:#?}");
}

fn diagnose(inbound: &Inbound) -> Diagnosis {
    stripe().diagnose(inbound, at(NOW), &[])
}

#[test]
fn a_genuine_request_is_accepted_step_by_step() {
    let diagnosis = diagnose(&request(KEY.as_bytes(), b"{}", b"{}"));
    assert!(diagnosis.accepted && diagnosis.findings.is_empty() && diagnosis.steps.iter().all(|step| step.good), "{diagnosis:#?}");
    let names: Vec<&str> = diagnosis.steps.iter().map(|step| &*step.name).collect();
    assert_eq!(names, ["variant", "signature", "keys", "signed text", "match", "time"]);
}

#[test]
fn bodies_that_were_changed_on_the_way_are_recognised() {
    let json = r#"{"b":"ä/1","a":1.50}"#.as_bytes();
    for (signed, sent, expected) in [
        (&b"{}"[..], &b"{}\n"[..], "had no trailing newline"),
        (b"{}", b"{}\r\n", "had no trailing CRLF"),
        (b"{}\n", b"{}", "ended in a newline"),
        (b"a\nb", b"a\r\nb", "LF in place of CRLF"),
        (b"a\r\nb", b"a\nb", "CRLF in place of LF"),
        (b"{}", b"\xef\xbb\xbf{}", "no byte order mark"),
        (b"\xef\xbb\xbf{}", b"{}", "began with a byte order mark"),
        (json, r#"{ "b": "\u00e4/1", "a": 1.50 }"#.as_bytes(), "written without blanks"),
        (r#"{"b": "ä/1", "a": 1.50}"#.as_bytes(), json, "blanks after commas"),
        (r#"{"a":1.50,"b":"ä/1"}"#.as_bytes(), json, "keys sorted"),
        (r#"{"b":"\u00e4/1","a":1.50}"#.as_bytes(), json, "in ASCII"),
        (r#"{"b":"ä\/1","a":1.50}"#.as_bytes(), json, "slashes escaped"),
        ("{\n  \"b\": \"ä/1\",\n  \"a\": 1.50\n}".as_bytes(), json, "on many lines"),
    ] {
        finds(&diagnose(&request(KEY.as_bytes(), signed, sent)), expected);
    }
}

#[test]
fn secrets_and_signatures_that_are_read_otherwise_are_recognised() {
    finds(&diagnose(&request(b"secret-of-the-tests", b"{}", b"{}")), "secret number 1 is read as base64");
    let spaced = compile(&format!("{{ preset: stripe, secrets: [{{ env: '{KEY} ' }}] }}"));
    finds(&spaced.diagnose(&request(KEY.as_bytes(), b"{}", b"{}"), at(NOW), &[]), "no blanks or newlines at its ends");
    let base64 = compile(&format!(
        "{{ algorithm: hmac-sha256, secrets: [{{ env: '{KEY}' }}], signature: {{ from: header:x-sig, encoding: base64 }}, signed: '{{body}}' }}"
    ));
    let hex = post("/in", &[("x-sig", &mac(KEY.as_bytes(), b"{}"))], "{}");
    finds(&base64.diagnose(&hex, at(NOW), &[]), "the signature is read as hex");
}

#[test]
fn times_and_keys_that_are_over_are_told_from_wrong_signatures() {
    let genuine = request(KEY.as_bytes(), b"{}", b"{}");
    finds(&stripe().diagnose(&genuine, at(NOW + 412), &[]), "its time is 412 s ago");
    finds(&stripe().diagnose(&genuine, at(NOW - 412), &[]), "its time is 412 s from now");
    let millis = compile(&format!("{{ preset: stripe, secrets: [{{ env: '{KEY}' }}], timestamp: {{ unit: ms }} }}"));
    finds(&millis.diagnose(&genuine, at(NOW), &[]), "`timestamp.unit: s`");
    let expired = compile(&format!("{{ preset: stripe, secrets: [{{ env: new }}, {{ env: '{KEY}', not_after: 2023-01-01T00:00:00Z }}] }}"));
    finds(&expired.diagnose(&genuine, at(NOW), &[]), "`not_after` has passed");
}

#[test]
fn another_url_or_another_route_is_recognised() {
    let url =
        compile("{ algorithm: hmac-sha256, secrets: [{ env: k }], signature: { from: header:x-sig, encoding: hex }, signed: '{url}' }");
    let signed = |called: &str| post("/a%20b?x=1", &[("x-sig", &mac(b"k", called.as_bytes())), ("host", "inner:8080")], "{}");
    for (called, expected) in [
        ("http://hooks.example.ch/a%20b?x=1", "called http://hooks.example.ch"),
        ("https://hooks.example.ch:443/a%20b?x=1", "called https://hooks.example.ch:443"),
        ("http://inner:8080/a%20b?x=1", "called http://inner:8080"),
        ("https://hooks.example.ch/a b?x=1", "percent-decoded"),
        ("https://hooks.example.ch/a%20b/?x=1", "slash at the path's end"),
        ("https://hooks.example.ch/a%20b", "without the query"),
    ] {
        finds(&url.diagnose(&signed(called), at(NOW), &[]), expected);
    }
    let other = compile("{ preset: stripe, secrets: [{ env: the-other-routes }] }");
    let open = compile("none");
    let diagnosis = stripe().diagnose(&request(b"the-other-routes", b"{}", b"{}"), at(NOW), &[("billing", &other), ("open", &open)]);
    finds(&diagnosis, "under the route `billing`");
    assert_eq!(diagnosis.findings.len(), 1);
}

#[test]
fn nothing_that_would_be_right_is_ever_shown() {
    let digest = compile(
        "{ algorithm: hash-sha256, secrets: [{ env: s3cr3t-s3cr3t }], signature: { from: header:x-sig, encoding: hex }, signed: '{body}{secret}' }",
    );
    let right = hex::encode(<Sha256 as sha2::Digest>::digest("{}s3cr3t-s3cr3t"));
    let forged = post("/in", &[("x-sig", &"0".repeat(64))], "{}");
    let told = format!("{:?}", digest.diagnose(&forged, at(NOW), &[]));
    assert!(!told.contains(&right[..8]) && !told.contains("s3cr3t"), "{told}");
    let told = format!("{:?}", diagnose(&request(b"wrong", b"{}", b"{}")));
    assert!(!told.contains(&mac(KEY.as_bytes(), b"1700000000.{}")[..8]) && !told.contains(KEY), "{told}");
    assert!(diagnose(&request(b"wrong", b"{}", b"{}")).findings.is_empty());
    let token = compile("{ preset: meta, secrets: [{ env: app }], config: { verify_token: meaty-hamhock } }");
    let asked = Inbound { method: Method::GET, ..post("/in?hub.mode=subscribe&hub.challenge=1&hub.verify_token=x", &[], "") };
    let told = format!("{:?}", token.diagnose(&asked, at(NOW), &[]));
    assert!(told.contains("asked for, and refused") && !told.contains("meaty"), "{told}");
}

#[test]
fn every_kind_of_scheme_can_be_explained() {
    for yaml in [
        "none",
        GITHUB,
        "{ any: [{ basic: { user: u, password: { env: p } } }, { allow_from: [10.0.0.0/8] }] }",
        "{ preset: adyen-standard, secrets: [{ env: 44782DEF547AAA06 }] }",
        "{ preset: hubspot, secrets: [{ env: k }] }",
        "{ preset: paypal, config: { webhook_id: w } }",
        "{ preset: plaid }",
        "{ preset: netlify, secrets: [{ env: k }] }",
        "{ preset: http-message-signatures, secrets: [{ env: k }] }",
        "{ preset: payzen, secrets: { a: { env: k } } }",
    ] {
        let diagnosis = compile(yaml).diagnose(&github(), at(NOW), &[]);
        assert!(!diagnosis.steps.is_empty(), "{yaml}");
    }
}
