//! `any`, `all`, addresses, passwords and tokens.

use super::*;
use base64::Engine;
use kurier::signature::Binding;

fn basic(text: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
}

#[test]
fn passwords_are_compared_whole_and_the_header_is_a_credential() {
    let verifier = compile("{ basic: { user: inpasy, password: { env: 'pass:word' } } }");
    let check = |value: &str| refusal(verifier.verify(with(post("/in", &[], ""), "authorization", value), at(NOW)));
    assert_eq!(check(&basic("inpasy:pass:word")), None);
    assert_eq!(check(&basic("inpasy:pass:word").replace("Basic", "basic")), None);
    for wrong in ["inpasy:pass", "inpasy:", "inpasy", ":pass:word", "inpasy:pass:word ", ""] {
        assert!(check(&basic(wrong)).is_some(), "{wrong}");
    }
    assert_eq!(check("Basic !!"), Some(Refusal::Malformed));
    assert_eq!(check("Bearer x"), Some(Refusal::MissingHeader));
    assert_eq!(check(""), Some(Refusal::MissingHeader));
    assert_eq!(verifier.credential_headers(), [http::header::AUTHORIZATION]);
    assert_eq!((verifier.binding(), verifier.on_invalid()), (Binding::None, 401));
}

#[test]
fn tokens_may_be_any_of_several() {
    let verifier = compile("{ token: { header: X-Token, prefix: 'Bearer ', secrets: [{ env: one }, { env: two }] } }");
    let check = |value: &str| refusal(verifier.verify(with(post("/in", &[], ""), "x-token", value), at(NOW)));
    assert_eq!((check("Bearer one"), check("bearer two")), (None, None));
    assert_eq!((check("Bearer three"), check("one")), (Some(Refusal::Mismatch), Some(Refusal::MissingHeader)));
    assert_eq!(verifier.credential_headers(), ["x-token"]);
}

#[test]
fn addresses_are_matched_in_either_notation() {
    let verifier = compile("{ allow_from: [192.0.2.0/24, '2001:db8::/32', 198.51.100.1] }");
    let check = |peer: &str| refusal(verifier.verify(Inbound { peer: peer.parse().unwrap(), ..post("/in", &[], "") }, at(NOW)));
    for inside in ["192.0.2.255", "::ffff:192.0.2.1", "2001:db8::1", "198.51.100.1"] {
        assert_eq!(check(inside), None, "{inside}");
    }
    for outside in ["192.0.3.1", "2001:db9::1", "198.51.100.2"] {
        assert_eq!(check(outside), Some(Refusal::Address), "{outside}");
    }
}

#[test]
fn a_wrong_signature_is_not_rescued_by_a_weaker_alternative() {
    let either = compile(&format!(
        "{{ any: [{{ token: {{ header: x-token, secrets: [{{ env: t }}] }} }}, {GITHUB}, {{ allow_from: [192.0.2.0/24] }}] }}"
    ));
    let forged = with(github(), "x-hub-signature-256", &format!("sha256={}", "0".repeat(64)));
    assert_eq!(refusal(either.verify(with(forged.clone(), "x-token", "t"), at(NOW))), Some(Refusal::Mismatch));
    assert_eq!(refusal(either.verify(forged, at(NOW))), Some(Refusal::Mismatch));
    assert!(either.verify(post("/in", &[("x-token", "t")], ""), at(NOW)).is_ok());
    assert!(either.verify(post("/in", &[("x-token", "wrong")], ""), at(NOW)).is_ok());
    let (_, facts) = either.verify(github(), at(NOW)).unwrap().into_parts();
    assert_eq!(facts.source_id.as_deref(), Some("d-1"));
    assert_eq!(either.binding(), Binding::None);
}

#[test]
fn an_alternative_tells_what_was_there_and_wrong() {
    let either = compile("{ any: [{ basic: { user: u, password: { env: p } } }, { allow_from: [10.0.0.0/8] }] }");
    assert_eq!(refusal(either.verify(post("/in", &[], ""), at(NOW))), Some(Refusal::Address));
    let wrong = post("/in", &[("authorization", &basic("u:q"))], "");
    assert_eq!(refusal(either.verify(wrong, at(NOW))), Some(Refusal::Mismatch));
}

#[test]
fn all_means_every_one() {
    let both = compile(&format!("{{ all: [{GITHUB}, {{ allow_from: [192.0.2.0/24] }}] }}"));
    assert!(both.verify(github(), at(NOW)).is_ok());
    assert_eq!(refusal(both.verify(Inbound { peer: "203.0.113.1".parse().unwrap(), ..github() }, at(NOW))), Some(Refusal::Address));
    assert!(both.verify(post("/in", &[], ""), at(NOW)).is_err());
    assert_eq!(both.binding(), Binding::Whole);
    let elsewhere = Inbound { peer: "203.0.113.1".parse().unwrap(), ..post("/in", &[], "{}") };
    assert!(both.sample(elsewhere, at(NOW)).is_ok());
}

#[test]
fn none_lets_everything_in_and_vouches_for_nothing() {
    let open = compile("none");
    assert!(open.verify(post("/in", &[], "x"), at(NOW)).is_ok());
    assert_eq!(open.binding(), Binding::None);
}
