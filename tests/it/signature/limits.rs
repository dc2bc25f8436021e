//! Each limit of the language, at its edge.

use super::*;
use kurier::signature::limits::*;

fn list_scheme() -> Verifier {
    compile(
        "{ algorithm: hmac-sha256, secrets: [{ env: k }], signature: { from: header:x-sig, format: list, split: ',', encoding: hex }, signed: '{body}' }",
    )
}

fn check(verifier: &Verifier, value: &str) -> Option<Refusal> {
    refusal(verifier.verify(post("/in", &[("x-sig", value)], "{}"), at(NOW)))
}

#[test]
fn a_signature_header_is_at_most_8_kib() {
    assert_eq!(SIGNATURE_BYTES_MAX, 8192);
    let verifier = list_scheme();
    assert_eq!(check(&verifier, &format!("00,{}", "x".repeat(SIGNATURE_BYTES_MAX - 3))), Some(Refusal::Mismatch));
    assert_eq!(check(&verifier, &format!("00,{}", "x".repeat(SIGNATURE_BYTES_MAX - 2))), Some(Refusal::Malformed));
}

#[test]
fn a_signature_header_has_at_most_64_parts_and_32_candidates() {
    assert_eq!((PARTS_MAX, CANDIDATES_MAX), (64, 32));
    let verifier = list_scheme();
    let parts = |good: usize, bad: usize| ["00,".repeat(good), "x,".repeat(bad)].concat();
    assert_eq!(check(&verifier, &parts(1, PARTS_MAX - 1)), Some(Refusal::Mismatch));
    assert_eq!(check(&verifier, &parts(1, PARTS_MAX)), Some(Refusal::Malformed));
    assert_eq!(check(&verifier, &parts(CANDIDATES_MAX, 0)), Some(Refusal::Mismatch));
    assert_eq!(check(&verifier, &parts(CANDIDATES_MAX + 1, 0)), Some(Refusal::Malformed));
    assert_eq!(check(&verifier, &parts(10_000, 0)), Some(Refusal::Malformed));
}

#[test]
fn the_last_of_the_allowed_candidates_and_keys_is_still_tried() {
    let secrets = |count: usize| (1..=count).map(|n| format!("{{ env: k{n} }}")).collect::<Vec<_>>().join(", ");
    let yaml = |count| format!("{{ preset: stripe, secrets: [{}] }}", secrets(count));
    assert_eq!(KEYS_MAX, 4);
    assert!(problems(&yaml(KEYS_MAX + 1)).contains("at most 4"));
    let signer = compile("{ preset: stripe, secrets: [{ env: k4 }] }");
    let sample = signer.sample(post("/in", &[], "{}"), at(NOW)).unwrap();
    let right = sample.headers["stripe-signature"].to_str().unwrap().to_owned();
    let (time, right) = right.split_once(',').unwrap();
    let value = format!("{time},{}{right}", "v1=00,".repeat(CANDIDATES_MAX - 1));
    let request = post("/in", &[("stripe-signature", &value)], "{}");
    assert!(compile(&yaml(KEYS_MAX)).verify(request, at(NOW)).is_ok());
}

#[test]
fn fields_items_and_signed_headers_are_bounded() {
    let form = compile("{ preset: sparkassen-internetkasse, secrets: [{ env: k }], config: { success_url: a, failure_url: b } }");
    let sample = form.sample(post("/in", &[], &vec!["a=1"; FIELDS_MAX - 1].join("&")), at(NOW));
    assert!(sample.is_ok());
    assert!(form.sample(post("/in", &[], &vec!["a=1"; FIELDS_MAX].join("&")), at(NOW)).is_err());

    let cloud = compile("{ preset: dvelop-cloud, secrets: [{ env: AAAA }] }");
    let sample = cloud.sample(post("/in", &[], "{}"), at(NOW)).unwrap();
    let list = vec!["x-dv-signature-headers"; SIGNED_HEADERS_MAX + 1].join(",");
    assert_eq!(refusal(cloud.verify(with(sample, "x-dv-signature-headers", &list), at(NOW))), Some(Refusal::Malformed));
}

#[test]
fn schemes_are_bounded_too() {
    let nested = (0..=NESTING_MAX).fold("{ allow_from: [10.0.0.0/8] }".to_owned(), |inner, _| format!("{{ all: [{inner}] }}"));
    assert!(problems(&nested).contains("nested deeper"));
    let many = vec!["{ allow_from: [10.0.0.0/8] }"; MEMBERS_MAX + 1].join(", ");
    assert!(problems(&format!("{{ any: [{many}] }}")).contains("more than"));
    let long = "{method}x".repeat(OPS_MAX);
    assert!(problems(&format!("{{ preset: github, secrets: [{{ env: k }}], signed: '{long}' }}")).contains("more than"));
    let pointers: String = (0..=POINTERS_MAX).map(|n| format!("{{json:/{n}}}")).collect();
    assert!(problems(&format!("{{ preset: github, secrets: [{{ env: k }}], signed: '{pointers}' }}")).contains("JSON pointers"));
    let variants = vec!["{ when: { method: GET }, signed: '{body}' }"; VARIANTS_MAX + 1].join(", ");
    assert!(problems(&format!("{{ preset: github, secrets: [{{ env: k }}], variants: [{variants}] }}")).contains("variants"));
}
