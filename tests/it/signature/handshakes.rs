//! Handshakes: answered as the sender asks, and no oracle for anybody.

use super::*;
use hmac::{Hmac, KeyInit, Mac};
use kurier::signature::{Handshake, Judged, NoKeys};
use sha2::Sha256;

fn judge(verifier: &Verifier, request: Inbound) -> Result<Judged, Refusal> {
    verifier.judge(request, at(NOW), &NoKeys)
}

#[track_caller]
fn answer(verifier: &Verifier, request: Inbound) -> Handshake {
    match judge(verifier, request) {
        Ok(Judged::Handshake(answer)) => answer,
        Ok(Judged::Event(_)) => panic!("an event"),
        Err(why) => panic!("refused: {why:?}"),
    }
}

#[track_caller]
fn body(verifier: &Verifier, request: Inbound) -> String {
    String::from_utf8(answer(verifier, request).body.to_vec()).unwrap()
}

fn refused(verifier: &Verifier, request: Inbound) -> Option<Refusal> {
    judge(verifier, request).err()
}

fn get(target: &str, headers: &[(&str, &str)]) -> Inbound {
    Inbound { method: Method::GET, ..post(target, headers, "") }
}

/// The request signed as the scheme asks.
fn signed(verifier: &Verifier, json: &str) -> Inbound {
    verifier.sample(post("/in", &[], r#"{"x":1}"#), at(NOW)).unwrap();
    let zoom = format!("v0:{NOW}:{json}");
    let mut mac = Hmac::<Sha256>::new_from_slice(b"zoomsecret").unwrap();
    mac.update(zoom.as_bytes());
    let value = format!("v0={}", hex::encode(mac.finalize().into_bytes()));
    post("/in", &[("x-zm-signature", &value), ("x-zm-request-timestamp", &NOW.to_string())], json)
}

#[test]
fn what_a_handshake_signs_is_no_event() {
    let x = compile("{ preset: x-twitter, secrets: [{ env: consumer }] }");
    let reply = body(&x, get("/in?crc_token=abc_DEF-1", &[]));
    let signature = reply.strip_prefix(r#"{"response_token":""#).unwrap().strip_suffix(r#""}"#).unwrap();
    // The answer is a genuine signature over `abc_DEF-1`; sent back as an event it must not be one.
    let forged = post("/in", &[("x-twitter-webhooks-signature", signature)], "abc_DEF-1");
    assert_eq!(refused(&x, forged), Some(Refusal::Mismatch));
    for asked in ["%7B%7D", "a%20b", "a%3Ab", "a%0Ab", "", &"a".repeat(129), "%C3%A4", "a&crc_token=b"] {
        assert!(refused(&x, get(&format!("/in?crc_token={asked}"), &[])).is_some(), "{asked}");
    }

    let braintree = compile("{ preset: braintree, secrets: [{ env: private }], config: { public_key: pk1 } }");
    let challenge = "20f9f8ed05f77439fe955c977e4c8a53";
    let reply = body(&braintree, get(&format!("/in?bt_challenge={challenge}"), &[]));
    let (key, mac) = reply.split_once('|').unwrap();
    assert_eq!((key, mac.len()), ("pk1", 40));
    let forged = post("/in", &[], &format!("bt_signature=pk1%7C{mac}&bt_payload={challenge}"));
    assert_eq!(refused(&braintree, forged), Some(Refusal::Mismatch));
    assert!(refused(&braintree, get("/in?bt_challenge=PD94bWwgdmVyc2lvbj0", &[])).is_some());
}

#[test]
fn a_handshake_that_has_to_be_signed_is_checked_first_and_answered_with_the_key_that_signed_it() {
    let zoom = compile("{ preset: zoom, secrets: [{ env: new }, { env: zoomsecret }] }");
    let json = r#"{"event":"endpoint.url_validation","payload":{"plainToken":"qgg8vlvZRS6UYooatFL8Aw"}}"#;
    let reply = body(&zoom, signed(&zoom, json));
    assert!(reply.contains("83b2a60d4bbe49dc93763ed9e727a9a7690cbe4c1f8bb0adc0ffccd09ecb1384"), "{reply}");
    assert_eq!(refused(&zoom, with(signed(&zoom, json), "x-zm-signature", &format!("v0={}", "0".repeat(64)))), Some(Refusal::Mismatch));
    assert_eq!(refused(&zoom, with(signed(&zoom, json), "x-zm-signature", "")), Some(Refusal::MissingHeader));
    // Shaped like what events are signed over.
    for token in [r"v0:1700000000:{}", "", " ", r"a\u0000b", r#"\"},\"x\":{"#] {
        let json = format!(r#"{{"event":"endpoint.url_validation","payload":{{"plainToken":"{token}"}}}}"#);
        assert_eq!(refused(&zoom, signed(&zoom, &json)), Some(Refusal::Malformed), "{token}");
    }
    let event = signed(&zoom, r#"{"event":"meeting.started","payload":{"plainToken":"a"}}"#);
    assert!(matches!(judge(&zoom, event), Ok(Judged::Event(_))));
}

#[test]
fn a_verify_token_opens_the_handshake_and_nothing_else() {
    let meta = compile("{ preset: meta, secrets: [{ env: app }], config: { verify_token: { env: meaty } } }");
    let ask = |token: &str| get(&format!("/in?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token={token}"), &[]);
    assert_eq!(body(&meta, ask("meaty")), "1158201444");
    for wrong in ["wrong", "", "meaty&hub.verify_token=x", "MEATY"] {
        assert!(refused(&meta, ask(wrong)).is_some(), "{wrong}");
    }
    assert_eq!(refused(&meta, get("/in?hub.mode=subscribe&hub.challenge=1", &[])), Some(Refusal::MissingHeader));
    let mut mac = Hmac::<Sha256>::new_from_slice(b"meaty").unwrap();
    mac.update(b"{}");
    let signed_by_it = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
    assert_eq!(refused(&meta, post("/in", &[("x-hub-signature-256", &signed_by_it)], "{}")), Some(Refusal::Mismatch));
    assert!(problems("{ preset: meta, secrets: [{ env: app }], config: { verify_token: { env: '' } } }").contains("is empty"));
}

#[test]
fn an_echo_is_plain_text_short_and_printable() {
    let dropbox = compile("{ preset: dropbox, secrets: [{ env: s }] }");
    let reply = answer(&dropbox, get("/in?challenge=%3Cscript%3Ealert(1)%3C/script%3E", &[]));
    assert_eq!((reply.content_type.as_deref(), &reply.body[..]), (Some("text/plain"), &b"<script>alert(1)</script>"[..]));
    for bad in ["a%0d%0aSet-Cookie:x", "%00", "%1b[2J", "%ff", &"a".repeat(4097)] {
        assert_eq!(refused(&dropbox, get(&format!("/in?challenge={bad}"), &[])), Some(Refusal::Malformed), "{bad}");
    }
    let okta = compile("{ preset: okta, secrets: [{ env: s }] }");
    let asked = get("/in", &[("x-okta-verification-challenge", r#"a","x":"b\"#)]);
    assert_eq!(body(&okta, asked), r#"{"verification":"a\",\"x\":\"b\\"}"#);
}

#[test]
fn ebay_and_worldline_get_the_answers_they_wait_for() {
    let vectors: serde_json::Value = serde_json::from_slice(include_bytes!("../../fixtures/vectors.json")).unwrap();
    let key = &vectors.as_array().unwrap().iter().find(|vector| vector["scheme"] == "ebay").unwrap()["secret"]["9936261a"];
    let ebay = compile(&format!(
        "{{ preset: ebay, secrets: {{ 9936261a: {{ env: {key} }} }}, config: {{ verification_token: vt, endpoint: https://a.example/e }} }}"
    ));
    let digest = hex::encode(<Sha256 as sha2::Digest>::digest("a8628072vthttps://a.example/e"));
    assert_eq!(body(&ebay, get("/in?challenge_code=a8628072", &[])), format!(r#"{{"challengeResponse":"{digest}"}}"#));
    assert!(refused(&ebay, get("/in?challenge_code=a:b", &[])).is_some());
    let worldline = compile("{ preset: worldline, secrets: { k: { env: s } } }");
    assert_eq!(body(&worldline, get("/in", &[("x-gcs-webhooks-endpoint-verification", "e4a8-1")])), "e4a8-1");
}

#[test]
fn rules_hold_only_where_they_say() {
    let monday = compile("{ preset: monday, secrets: [{ env: k }] }");
    assert_eq!(body(&monday, post("/in", &[], r#"{"challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"}"#)).len(), 68);
    assert!(refused(&monday, post("/in", &[], r#"{"challenge":"a b"}"#)).is_some());
    assert!(refused(&monday, post("/in", &[], r#"{"challenge":"a","event":{"type":"x"}}"#)).is_some(), "an event that has such a member");

    let graph = compile("{ preset: microsoft-graph, secrets: [{ env: state }] }");
    let asked = post("/in?validationToken=Validation%3A+Testing+1", &[], "");
    assert_eq!(body(&graph, asked), "Validation: Testing 1");

    let xero = compile("{ preset: xero, secrets: [{ env: k }] }");
    let intent = xero.sample(post("/in", &[], r#"{"events":[],"entropy":"S0m3r4Nd0m"}"#), at(NOW));
    assert!(intent.is_err(), "what is made for `kurier send` is an event");
    let event = xero.sample(post("/in", &[], r#"{"events":[{"eventType":"CREATE"}]}"#), at(NOW)).unwrap();
    assert!(matches!(judge(&xero, event), Ok(Judged::Event(_))));

    let websub = compile("{ preset: websub, secrets: [{ env: k }], config: { topic: 'https://a.example/feed' } }");
    let asked = "/in?hub.mode=subscribe&hub.challenge=abc&hub.topic=https%3A%2F%2Fa.example%2F";
    assert_eq!(body(&websub, get(&format!("{asked}feed"), &[])), "abc");
    assert_eq!(refused(&websub, get(&format!("{asked}other"), &[])), Some(Refusal::Mismatch));
}

#[test]
fn consent_of_cloudevents_is_given_to_the_configured_origin_only() {
    let events = compile("{ preset: cloudevents, secrets: [{ env: k }], config: { origin: eventgrid.azure.net, rate: '120' } }");
    let ask = |origin: &str| Inbound { method: Method::OPTIONS, ..post("/in", &[("webhook-request-origin", origin)], "") };
    let reply = answer(&events, ask("eventgrid.azure.net"));
    let header = |name: &str| reply.headers.iter().find(|(known, _)| known.as_str() == name).map(|(_, value)| value.to_str().unwrap());
    assert_eq!(
        (header("webhook-allowed-origin"), header("webhook-allowed-rate"), header("allow")),
        (Some("eventgrid.azure.net"), Some("120"), Some("POST"))
    );
    assert_eq!((reply.status, reply.content_type, reply.body.len()), (200, None, 0));
    assert_eq!(refused(&events, ask("evil.example")), Some(Refusal::Mismatch));
    assert!(events.may_ask(&Method::OPTIONS) && !events.may_ask(&Method::GET));
}

#[test]
fn an_address_that_is_not_allowed_gets_no_handshake() {
    let dropbox = "{ preset: dropbox, secrets: [{ env: s }] }";
    let both = compile(&format!("{{ all: [{dropbox}, {{ allow_from: [192.0.2.0/24] }}] }}"));
    assert_eq!(body(&both, get("/in?challenge=abc", &[])), "abc");
    let elsewhere = Inbound { peer: "203.0.113.1".parse().unwrap(), ..get("/in?challenge=abc", &[]) };
    assert_eq!(refused(&both, elsewhere), Some(Refusal::Address));
    assert_eq!(refusal(compile(dropbox).verify(get("/in?challenge=abc", &[]), at(NOW))), Some(Refusal::Handshake));
}
