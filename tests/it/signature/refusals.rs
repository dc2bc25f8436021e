//! The bypasses that other relays had, one by one.

use super::*;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

fn hmac_hex(key: &str, message: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(message.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

fn stripe() -> Verifier {
    compile("{ preset: stripe, secrets: [{ env: whsec_test }] }")
}

fn stripe_request(header: &str, body: &str) -> Inbound {
    post("/in", &[("stripe-signature", header)], body)
}

fn stripe_signature(timestamp: &str, body: &str) -> String {
    hmac_hex("whsec_test", &format!("{timestamp}.{body}"))
}

#[test]
fn a_genuine_request_tells_its_id_type_and_key_without_its_body_being_read() {
    let (inbound, facts) = compile(GITHUB).verify(github(), at(NOW)).unwrap().into_parts();
    assert_eq!(inbound.body, "Hello, World!");
    assert_eq!((facts.source_id.as_deref(), facts.event_type.as_deref()), (Some("d-1"), Some("push")));
    assert_eq!((facts.dedupe_key.as_deref(), facts.answer), (Some(&b"d-1"[..]), None));
}

#[test]
fn a_signature_that_is_missing_cut_doubled_or_of_another_form_is_refused() {
    let verifier = compile(GITHUB);
    let hex = GITHUB_SIGNATURE.strip_prefix("sha256=").unwrap();
    let cases = [
        ("", Refusal::MissingHeader),
        ("sha256=", Refusal::Malformed),
        (hex, Refusal::MissingHeader),
        (&GITHUB_SIGNATURE[..70], Refusal::Malformed),
        (&GITHUB_SIGNATURE[..69], Refusal::Mismatch),
        (&format!("{GITHUB_SIGNATURE}00"), Refusal::Mismatch),
        (&format!("{GITHUB_SIGNATURE},"), Refusal::Malformed),
        ("sha256=zz", Refusal::Malformed),
        ("sha1=757107ea0eb2509fc211221cce984b8a37570b6d", Refusal::MissingHeader),
    ];
    for (value, expected) in cases {
        assert_eq!(refusal(verifier.verify(with(github(), "x-hub-signature-256", value), at(NOW))), Some(expected), "{value}");
    }
    let upper = format!("sha256={}", hex.to_uppercase());
    assert!(verifier.verify(with(github(), "x-hub-signature-256", &upper), at(NOW)).is_ok());
}

#[test]
fn a_header_that_stands_twice_counts_only_when_both_say_the_same() {
    let verifier = compile(GITHUB);
    let mut twice = github();
    twice.headers.append("x-hub-signature-256", HeaderValue::from_static(GITHUB_SIGNATURE));
    assert!(verifier.verify(twice.clone(), at(NOW)).is_ok());
    twice.headers.append("x-hub-signature-256", HeaderValue::from_static("sha256=00"));
    assert_eq!(refusal(verifier.verify(twice, at(NOW))), Some(Refusal::Malformed));
}

#[test]
fn any_of_several_signatures_may_be_right_and_unknown_versions_are_never_enough() {
    let right = stripe_signature("1700000000", "{}");
    let wrong = "0".repeat(64);
    let good = format!("t=1700000000,v1={wrong},v1=junk,v0={wrong},v1={right}");
    assert!(stripe().verify(stripe_request(&good, "{}"), at(NOW)).is_ok());
    for bad in [
        format!("t=1700000000,v0={right}"),
        format!("t=1700000000,v2={right}"),
        format!("t=1700000000,V1={right}"),
        format!("t=1700000000,{right}"),
        format!("v1={right}"),
        format!("t=1700000000,t=1700000000,v1={right}"),
        format!("t=1700000000,t=1700000001,v1={right}"),
    ] {
        assert!(stripe().verify(stripe_request(&bad, "{}"), at(NOW)).is_err(), "{bad}");
    }
}

#[test]
fn a_valid_weaker_header_does_not_make_up_for_a_wrong_stronger_one() {
    let forged = with(github(), "x-hub-signature-256", &format!("sha256={}", "0".repeat(64)));
    let both = with(forged, "x-hub-signature", "sha1=01dc10d0c83e72ed246219cdd91669667fe2ca59");
    assert_eq!(refusal(compile(GITHUB).verify(both, at(NOW))), Some(Refusal::Mismatch));

    let hook0 = compile("{ preset: hook0, secrets: [{ env: k }] }");
    let v0 = hmac_hex("k", "1700000000.{}");
    let alone = post("/in", &[("x-hook0-signature", &format!("t=1700000000,v0={v0}"))], "{}");
    assert!(hook0.verify(alone, at(NOW)).is_ok());
    let both = post("/in", &[("x-hook0-signature", &format!("t=1700000000,v0={v0},h=,v1={}", "0".repeat(64)))], "{}");
    assert!(hook0.verify(both, at(NOW)).is_err());
}

#[test]
fn times_are_digits_near_now_in_either_direction() {
    let check = |timestamp: &str, now: i64| {
        let header = format!("t={timestamp},v1={}", stripe_signature(timestamp, "{}"));
        refusal(stripe().verify(stripe_request(&header, "{}"), at(now)))
    };
    assert_eq!(check("1700000000", NOW + 300), None);
    assert_eq!(check("1700000000", NOW - 300), None);
    assert_eq!(check("1700000000", NOW + 301), Some(Refusal::Stale));
    assert_eq!(check("1700000000", NOW - 301), Some(Refusal::Stale));
    for stale in ["0", "1700000000000", "9999999999999999"] {
        assert!(matches!(check(stale, NOW), Some(Refusal::Stale | Refusal::Malformed)), "{stale}");
    }
    for malformed in ["-1", "+1700000000", "01700000000", "1e9", "1700000000.0", "9223372036854775807", "Infinity"] {
        assert_eq!(check(malformed, NOW), Some(Refusal::Malformed), "{malformed}");
    }
}

#[test]
fn the_bytes_are_signed_whatever_their_content_type_says() {
    let verifier = compile(GITHUB);
    for content_type in ["application/json", "application/x-www-form-urlencoded", "multipart/form-data"] {
        assert!(verifier.verify(with(github(), "content-type", content_type), at(NOW)).is_ok());
    }
    let changed = Inbound { body: Bytes::from("Hello%2C+World%21"), ..github() };
    assert_eq!(refusal(verifier.verify(changed, at(NOW))), Some(Refusal::Mismatch));
}

#[test]
fn a_signed_url_is_the_one_that_was_called_byte_for_byte() {
    let verifier = compile(
        "{ algorithm: hmac-sha256, secrets: [{ env: k }], signature: { from: header:x-sig, encoding: hex }, signed: '{url}{body}' }",
    );
    let signature = hmac_hex("k", "https://hooks.example.ch/a%2Fb?x=1&y=2{}");
    let request = |target: &str| post(target, &[("x-sig", &signature), ("x-forwarded-host", "evil.example")], "{}");
    assert!(verifier.verify(request("/a%2Fb?x=1&y=2"), at(NOW)).is_ok());
    for other in ["/a/b?x=1&y=2", "/a%2fb?x=1&y=2", "/a%2Fb?y=2&x=1", "/a%2Fb/?x=1&y=2", "/a%2Fb?x=1&y=2&"] {
        assert!(verifier.verify(request(other), at(NOW)).is_err(), "{other}");
    }
    let moved = Inbound { base: "https://hooks.example.ch:8443".into(), ..request("/a%2Fb?x=1&y=2") };
    assert!(verifier.verify(moved, at(NOW)).is_err());
}

#[test]
fn a_key_id_selects_its_key_and_no_other() {
    let verifier = compile("{ preset: payzen, secrets: { password: { env: one }, sha256_hmac: { env: two } } }");
    let answer = "%7B%7D";
    let body =
        |id: &str, key: &str| format!("kr-answer={answer}&kr-hash={}&kr-hash-key={id}&kr-hash-algorithm=sha256_hmac", hmac_hex(key, "{}"));
    assert!(verifier.verify(post("/in", &[], &body("password", "one")), at(NOW)).is_ok());
    assert_eq!(refusal(verifier.verify(post("/in", &[], &body("password", "two")), at(NOW))), Some(Refusal::Mismatch));
    assert_eq!(refusal(verifier.verify(post("/in", &[], &body("../password", "one")), at(NOW))), Some(Refusal::UnknownKey));
}

#[test]
fn a_key_past_its_time_is_not_tried() {
    let verifier =
        compile("{ preset: github, secrets: [{ env: new }, { env: \"It's a Secret to Everybody\", not_after: 2023-11-14T22:13:20Z }] }");
    assert!(verifier.verify(github(), at(NOW)).is_ok());
    assert_eq!(refusal(verifier.verify(github(), at(NOW + 1))), Some(Refusal::Mismatch));
}

#[test]
fn a_body_that_cannot_be_read_still_verifies_and_only_loses_its_key() {
    for body in ["not json", &"[".repeat(100_000), r#"{"id":"a","id":"b"}"#, r#"{"id":{"x":1}}"#] {
        let header = format!("t=1700000000,v1={}", stripe_signature("1700000000", body));
        let (_, facts) = stripe().verify(stripe_request(&header, body), at(NOW)).unwrap().into_parts();
        assert_eq!((facts.source_id, facts.dedupe_key), (None, None));
    }
    let body = r#"{"id":"evt_1","type":"invoice.paid"}"#;
    let header = format!("t=1700000000,v1={}", stripe_signature("1700000000", body));
    let (_, facts) = stripe().verify(stripe_request(&header, body), at(NOW)).unwrap().into_parts();
    assert_eq!((facts.source_id.as_deref(), facts.event_type.as_deref()), (Some("evt_1"), Some("invoice.paid")));
}

#[test]
fn a_signed_place_that_is_no_scalar_or_not_there_refuses() {
    let verifier = compile(
        "{ algorithm: hmac-sha256, secrets: [{ env: k }], signature: { from: header:x-sig, encoding: hex }, signed: '{json:/a}:{json:/b|?}' }",
    );
    let check = |body: &str, message: &str| refusal(verifier.verify(post("/in", &[("x-sig", &hmac_hex("k", message))], body), at(NOW)));
    assert_eq!(check(r#"{"a":1.50,"b":true}"#, "1.50:true"), None);
    assert_eq!(check(r#"{"a":"x"}"#, "x:"), None);
    assert_eq!(check(r#"{"a":"x","b":null}"#, "x:"), None);
    assert_eq!(check(r#"{"a":"x","b":["y"]}"#, "x:"), Some(Refusal::Malformed));
    assert_eq!(check(r#"{"a":"x","a":"x"}"#, "x:"), Some(Refusal::Malformed));
    assert_eq!(check(r#"{"b":"x"}"#, ":x"), Some(Refusal::MissingHeader));
    assert_eq!(check("x", ":"), Some(Refusal::Malformed));
}

#[test]
fn an_empty_list_of_signed_items_is_no_success() {
    let verifier = compile("{ preset: adyen-standard, secrets: [{ env: 44782DEF547AAA06 }] }");
    for empty in ["{}", r#"{"notificationItems":[]}"#, r#"{"notificationItems":{}}"#, r#"{"notificationItems":[7]}"#, ""] {
        assert!(verifier.verify(post("/in", &[], empty), at(NOW)).is_err(), "{empty}");
    }
}

#[test]
fn the_key_of_a_batch_covers_every_item() {
    let vectors: serde_json::Value = serde_json::from_slice(include_bytes!("../../fixtures/vectors.json")).unwrap();
    let body =
        |id: &str| vectors.as_array().unwrap().iter().find(|vector| vector["id"] == id).unwrap()["body"].as_str().unwrap().to_owned();
    let secret = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056";
    let verifier = compile(&format!("{{ preset: adyen-standard, secrets: [{{ env: {secret} }}] }}"));
    let facts = |body: &str| verifier.verify(post("/in", &[], body), at(NOW)).unwrap().into_parts().1;
    let both = facts(&body("adyen-standard/batch-both-valid"));
    assert_eq!(both.dedupe_key.as_ref().map(Vec::len), Some(16));
    assert_eq!((both.event_type.is_some(), both.answer.map(|answer| answer.status)), (true, Some(202)));
    let mut batch: serde_json::Value = serde_json::from_str(&body("adyen-standard/batch-both-valid")).unwrap();
    batch["notificationItems"].as_array_mut().unwrap().reverse();
    assert_ne!(facts(&batch.to_string()).dedupe_key, both.dedupe_key);
    batch["notificationItems"].as_array_mut().unwrap().pop();
    let one = facts(&batch.to_string());
    let id = one.source_id.unwrap();
    assert!(one.dedupe_key.unwrap().starts_with(id.as_bytes()));
}

#[test]
fn a_header_that_has_to_be_signed_must_be_in_the_list() {
    let list = "x-dv-signature-algorithm,x-dv-signature-headers";
    let genuine = compile("{ preset: dvelop-cloud, secrets: [{ env: AAAA }] }");
    let sample = genuine.sample(post("/in", &[], "{}"), at(NOW)).unwrap();
    assert!(genuine.verify(sample.clone(), at(NOW)).is_ok());
    // Signed by the key, but over a list that leaves the time out.
    let short = with(sample, "x-dv-signature-headers", list);
    let canonical = format!("POST\n/in\n\nx-dv-signature-algorithm:DV1-HMAC-SHA256\nx-dv-signature-headers:{list}\n\n{}", sha256_hex("{}"));
    let mut mac = Hmac::<Sha256>::new_from_slice(&[0, 0, 0]).unwrap();
    mac.update(sha256_hex(&canonical).as_bytes());
    let forged = with(short, "authorization", &format!("Bearer {}", hex::encode(mac.finalize().into_bytes())));
    assert_eq!(refusal(genuine.verify(forged, at(NOW))), Some(Refusal::Malformed));
}

#[test]
fn a_batch_without_an_id_of_its_own_has_no_key() {
    let verifier = compile("{ preset: gocardless, secrets: [{ env: k }] }");
    let sample = verifier.sample(post("/in", &[], r#"{"events":[{"id":"EV1","action":"paid"},{"id":"EV2"}]}"#), at(NOW)).unwrap();
    let (_, facts) = verifier.verify(sample, at(NOW)).unwrap().into_parts();
    assert_eq!((facts.source_id.as_deref(), facts.dedupe_key), (Some("EV1"), None));
    assert_eq!(verifier.on_invalid(), 498);
}

fn sha256_hex(text: &str) -> String {
    hex::encode(<Sha256 as sha2::Digest>::digest(text))
}

#[test]
fn of_several_headers_either_may_be_right_unless_the_first_decides() {
    let right = hmac_hex("k", "{}");
    let wrong = "0".repeat(64);
    let check = |verifier: &Verifier, headers: &[(&str, &str)]| refusal(verifier.verify(post("/in", headers, "{}"), at(NOW)));
    let gitea = compile("{ preset: gitea, secrets: [{ env: k }] }");
    assert_eq!(check(&gitea, &[("x-gitea-signature", &right)]), None);
    assert_eq!(check(&gitea, &[("x-forgejo-signature", &wrong), ("x-gitea-signature", &right)]), Some(Refusal::Mismatch));
    let signature = "signature: { from: ['header:x-one', 'header:x-many-*'], encoding: hex }";
    let either = compile(&format!("{{ algorithm: hmac-sha256, secrets: [{{ env: k }}], {signature}, signed: '{{body}}' }}"));
    assert_eq!(check(&either, &[("x-one", &wrong), ("x-many-2", &right)]), None);
    assert_eq!(check(&either, &[("x-one", &wrong), ("x-many-2", &wrong)]), Some(Refusal::Mismatch));
    assert_eq!(check(&either, &[("x-many", &right)]), Some(Refusal::MissingHeader));
}

#[test]
fn a_token_in_each_item_has_to_be_right_in_every_item() {
    let verifier = compile("{ algorithm: token, secrets: [{ env: state }], signature: { from: 'json:/value/*/clientState', all: true } }");
    let check = |body: &str| refusal(verifier.verify(post("/in", &[], body), at(NOW)));
    assert_eq!(check(r#"{"value":[{"clientState":"state"},{"clientState":"state"}]}"#), None);
    assert_eq!(check(r#"{"value":[{"clientState":"state"},{"clientState":"other"}]}"#), Some(Refusal::Mismatch));
    assert_eq!(check(r#"{"value":[{"clientState":"state"},{}]}"#), Some(Refusal::Mismatch));
    assert_eq!(check(r#"{"value":[{"clientState":"state"},{"clientState":""}]}"#), Some(Refusal::Mismatch));
    assert_eq!(check(r#"{"value":[{"clientState":["state"]}]}"#), Some(Refusal::Malformed));
    assert_eq!(check(r#"{"value":[]}"#), Some(Refusal::MissingHeader));
}

#[test]
fn a_parameter_that_stands_twice_with_different_values_is_no_value() {
    let verifier = compile("{ preset: girocheckout, secrets: [{ env: k }] }");
    let sample = verifier.sample(Inbound { method: Method::GET, ..post("/giro?gcAmount=100", &[], "") }, at(NOW)).unwrap();
    let more = |text: &str| Inbound { target: Bytes::from([&sample.target[..], text.as_bytes()].concat()), ..sample.clone() };
    assert!(verifier.verify(more("&gcAmount=100"), at(NOW)).is_ok());
    for doubled in ["&gcAmount=999", "&gcHash=00", "&gcReference="] {
        assert_eq!(refusal(verifier.verify(more(doubled), at(NOW))), Some(Refusal::Malformed), "{doubled}");
    }
}

#[test]
fn a_signature_may_be_json_inside_base64() {
    use base64::Engine;
    let verifier = compile(
        "{ algorithm: hmac-sha256, secrets: { k1: { env: one } }, key: { by: 'sig:kid' }, signed: '{body}',
           signature: { from: header:x-sig, decode: base64, format: json, take: [signature], encoding: hex } }",
    );
    let header = |json: String| base64::engine::general_purpose::STANDARD.encode(json);
    let check = |value: &str| refusal(verifier.verify(post("/in", &[("x-sig", value)], "{}"), at(NOW)));
    let right = hmac_hex("one", "{}");
    assert_eq!(check(&header(format!(r#"{{"kid":"k1","signature":"{right}","alg":"none"}}"#))), None);
    assert_eq!(check(&header(format!(r#"{{"kid":"k2","signature":"{right}"}}"#))), Some(Refusal::UnknownKey));
    assert_eq!(check(&header(format!(r#"{{"signature":"{right}"}}"#))), Some(Refusal::MissingHeader));
    assert_eq!(check(&header("[]".to_owned())), Some(Refusal::Malformed));
    assert_eq!(check("!"), Some(Refusal::Malformed));
    let sample = verifier.sample(post("/in", &[], "{}"), at(NOW)).unwrap();
    assert!(verifier.verify(sample, at(NOW)).is_ok());
}

#[test]
fn an_id_with_a_dot_in_it_is_refused_where_a_dot_separates_what_is_signed() {
    for (preset, id) in [("standard-webhooks", "webhook-id"), ("svix", "svix-id"), ("gitlab", "webhook-id"), ("clerk", "svix-id")] {
        let verifier = compile(&format!("{{ preset: {preset}, secrets: [{{ env: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw }}] }}"));
        assert!(verifier.sample(post("/in", &[(id, "msg_a-b")], "{}"), at(NOW)).is_ok(), "{preset}");
        for dotted in ["msg.1", ".", "a.1700000000"] {
            assert!(verifier.sample(post("/in", &[(id, dotted)], "{}"), at(NOW)).is_err(), "{preset}: {dotted}");
        }
    }
}
