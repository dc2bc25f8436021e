//! Every preset compiles, recorded requests get their verdicts, samples verify.

use super::*;
use kurier::signature::{Binding, preset_names, vectors};

const VECTORS: &[u8] = include_bytes!("../../fixtures/vectors.json");

/// One key of each kind; a preset takes one of them.
const KEYS: [&str; 6] = [
    "a-key-of-the-tests-24-bytes-or-more",
    "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
    "TWF5IHRoZSBmb3JjZSBiZSB3aXRoIHlvdSwgYWx3YXlzIQ==",
    "whpk_0r0+Z02Sv1SRb1QjsKUnil6t2oqtAyhn5HHfKgbTXFs=",
    "0r0+Z02Sv1SRb1QjsKUnil6t2oqtAyhn5HHfKgbTXFs=",
    "user:password",
];

/// What the preset asks of a route's `config`.
fn config(preset: &str) -> String {
    let value = |name: &str| match name {
        "success_url" => "https://a.example/ok",
        "failure_url" => "https://a.example/no",
        _ => "token-of-the-tests",
    };
    let settings: Vec<String> = kurier::signature::preset_settings(preset).iter().map(|name| format!("{name}: {}", value(name))).collect();
    settings.join(", ")
}

fn yaml(preset: &str, key: &str, by_id: bool) -> String {
    let key = serde_json::Value::from(key);
    let secrets = if by_id { format!("{{ k1: {{ env: {key} }} }}") } else { format!("[{{ env: {key} }}]") };
    format!("{{ preset: {preset}, secrets: {secrets}, config: {{ {} }} }}", config(preset))
}

/// The preset with a key that it takes.
fn with_some_key(preset: &str) -> Verifier {
    let vectors: serde_json::Value = serde_json::from_slice(VECTORS).unwrap();
    let pems = ["lexware", "wallee", "paypal"].iter().map(|scheme| {
        let vector = vectors.as_array().unwrap().iter().find(|vector| vector["scheme"] == *scheme).unwrap();
        let secret = &vector["secret"];
        secret.as_str().or_else(|| secret.as_object()?.values().next()?.as_str()).unwrap()
    });
    let keys: Vec<&str> = KEYS.into_iter().chain(pems).collect();
    // Where the sender publishes its keys, none is configured.
    if let Ok(verifier) = try_compile(&format!("{{ preset: {preset}, config: {{ {} }} }}", config(preset))) {
        return verifier;
    }
    let mut last = String::new();
    for (key, by_id) in keys.iter().flat_map(|key| [(key, false), (key, true)]) {
        match try_compile(&yaml(preset, key, by_id)) {
            Ok(verifier) => return verifier,
            Err(problems) => last = format!("{problems:?}"),
        }
    }
    panic!("{preset} takes no key: {last}");
}

#[test]
fn every_preset_compiles() {
    assert!(preset_names().count() >= 130, "{}", preset_names().count());
    for preset in preset_names() {
        with_some_key(preset);
    }
}

#[test]
fn every_preset_says_how_sure_we_are_and_on_what_grounds() {
    let text = include_str!("../../../src/signature/presets.yaml");
    let lines: Vec<&str> = text.lines().skip_while(|line| *line != "presets:").collect();
    let root = document::parse(text).unwrap();
    for preset in preset_names() {
        let conf = root.get("presets").unwrap().get(preset).unwrap().get("conf").and_then(Node::as_str);
        assert!(conf.is_some_and(|conf| ["V", "v", "D", "T", "K"].contains(&conf)), "{preset}");
        let line = lines.iter().position(|line| line.starts_with(&format!("  {preset}:"))).unwrap();
        assert!(lines[line - 1].starts_with("  # "), "{preset} has no comment on its source");
    }
}

#[test]
fn recorded_requests_get_the_verdict_they_should() {
    let report = vectors::run(VECTORS).unwrap();
    let failed: Vec<_> = report.results.iter().filter(|result| result.failure.is_some()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(report.passed(), 240);
}

#[test]
fn a_vector_of_what_is_not_built_has_failed_and_says_so() {
    let unknown = br#"[{"id":"a","scheme":"nobody","secret":"s","method":"POST","url":"https://a.example/x","headers":{},"body":"","now":null,"expected":"invalid"}, 7]"#;
    let report = vectors::run(unknown).unwrap();
    assert_eq!((report.passed(), report.failed()), (0, 2));
    assert!(report.results[0].failure.as_ref().unwrap().contains("unknown preset `nobody`"));
    assert!(vectors::run(b"{}").is_err());
}

#[test]
fn the_nine_presets_basic_and_token_make_samples_of_their_own() {
    let json = r#"{"event_type":"integration.export","workflow":{"id":7,"step":{"id":"s"}}}"#;
    for preset in ["dvelop-smart-invoice", "dvelop-cloud", "dvelop-sig1", "standard-webhooks", "github", "stripe", "hmac-body", "svix"] {
        let verifier = with_some_key(preset);
        let sample = verifier.sample(post("/in", &[("content-type", "application/json")], json), at(NOW)).unwrap();
        assert!(verifier.verify(sample.clone(), at(NOW)).is_ok(), "{preset}");
        assert_eq!(sample.body, json, "{preset}");
        if verifier.binding() == Binding::Whole {
            assert!(verifier.verify(Inbound { body: Bytes::from("{}"), ..sample }, at(NOW)).is_err(), "{preset}");
        }
    }
    let giro = with_some_key("girocheckout");
    let sample = giro.sample(Inbound { method: Method::GET, ..post("/giro", &[], "") }, at(NOW)).unwrap();
    assert!(String::from_utf8_lossy(&sample.target).contains("gcHash="));
    let kasse = with_some_key("sparkassen-internetkasse");
    let sample = kasse.sample(post("/kasse", &[], "orderid=1&trefnum=T1&directPosErrorCode=0"), at(NOW)).unwrap();
    let (_, facts) = kasse.verify(sample, at(NOW)).unwrap().into_parts();
    assert_eq!(facts.answer.unwrap().body, "redirecturls=https://a.example/ok");
    assert_eq!((facts.source_id.as_deref(), facts.dedupe_key.as_deref()), (Some("T1"), Some(&b"1:T1:0"[..])));
    for form in ["{ basic: { user: u, password: { env: p } } }", "{ token: { header: x-token, secrets: [{ env: t }] } }"] {
        let verifier = compile(form);
        verifier.sample(post("/in", &[], ""), at(NOW)).unwrap();
    }
}

#[test]
fn public_keys_can_verify_but_not_make_samples() {
    let verifier = with_some_key("standard-webhooks-ed25519");
    assert!(verifier.sample(post("/in", &[], "{}"), at(NOW)).unwrap_err().contains("private key"));
}

#[test]
fn self_made_vectors_of_the_smart_invoice_signature() {
    let verifier = compile("{ preset: dvelop-smart-invoice, secrets: [{ env: test-secret }] }");
    for (body, signature) in [
        ("{}", "87d3ed18b9b403e7da0fc3a3ae8b9394303805a049ea06f87c2ef4380b521fa9"),
        (r#"{"event_type":"integration.export","note":"Prüfung ä"}"#, "05ecd4f8841a22e76bcb246aff579ecfc70ad8f5ecb47044918aac6b3cc65480"),
    ] {
        for value in [
            format!("t=1700000000,v1={signature}"),
            format!("v2=x, v1={}, v1={signature},  t=1700000000", "0".repeat(64)),
            format!("t=1700000000,v1={}", signature.to_uppercase()),
        ] {
            let request = post("/in", &[("x-smart-invoice-signature", &value)], body);
            assert!(verifier.verify(request, at(NOW)).is_ok(), "{value}");
        }
    }
}

#[test]
fn self_made_vectors_of_the_other_systems() {
    for secret in ["ptuQ0b0BskmLLxXsjjhH9Su8ozTvZl6Z/5/HlaORoRg=", "ptuQ0b0BskmLLxXsjjhH9Su8ozTvZl6Z/5/HlaORoRh="] {
        let verifier = compile(&format!("{{ preset: dvelop-sig1, secrets: [{{ env: \"{secret}\" }}] }}"));
        let headers = [
            ("x-dv-baseuri", "https://header.example.com"),
            ("x-dv-tenant-id", "a12be5"),
            ("x-dv-sig-1", "Zjcf28p5aQ6amtbs6s9b9cPyBPdziwUslR2DZqaGUTQ="),
        ];
        assert!(verifier.verify(post("/in", &headers, ""), at(NOW)).is_ok());
        assert!(verifier.verify(post("/in", &headers[1..], ""), at(NOW)).is_err());
    }
    let verifier = compile("{ preset: girocheckout, secrets: [{ env: secure }] }");
    let target = "/giro?gcReference=1234567&gcMerchantTxId=1234&gcBackendTxId=Wert1&gcAmount=Wert2&gcHash=4233d4d15a75d651d60ebabe99b3d846";
    assert!(verifier.verify(Inbound { method: Method::GET, ..post(target, &[], "") }, at(NOW)).is_ok());
    assert_eq!(verifier.methods(), Some(&[Method::GET][..]));
    let form = "aid=1&amount=10%2C00&basketid=B1&currency=EUR&directPosErrorCode=0&orderid=123456789012&rc=000&retrefnum=R1&sessionid=S1&trefnum=T1";
    let verifier = compile("{ preset: sparkassen-internetkasse, secrets: [{ env: secret }], config: { success_url: a, failure_url: b } }");
    let signed = format!("{form}&mac=1b33771f5112dfc1c678d99a6c9f543269258f0a");
    assert!(verifier.verify(post("/in", &[], &signed), at(NOW)).is_ok());
    assert!(verifier.verify(post("/in", &[], &format!("{signed}&extra=1")), at(NOW)).is_err());
}

/// With KURIER_UPDATE_DOCS set it writes the page instead.
#[test]
fn the_page_of_senders_is_current() {
    let page = kurier::signature::senders_page();
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/senders.md");
    if std::env::var_os("KURIER_UPDATE_DOCS").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        page == written,
        "docs/senders.md is not what the presets say: run KURIER_UPDATE_DOCS=1 cargo test --test it the_page_of_senders"
    );
    assert!(!page.contains("Body: unknown"));
    for preset in preset_names() {
        assert!(page.contains(&format!("\n## {preset}\n")), "{preset}");
    }
}

/// Every block of the page is a configuration that loads, once its dots are filled in.
#[test]
fn what_the_page_says_to_write_is_accepted() {
    let page = kurier::signature::senders_page();
    for block in page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
        let text = format!("{}destinations:\n  app: {{ url: https://app.example }}\n", block.replace('…', "filled-in"));
        let environment = |_: &str| Some("0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0".to_owned());
        let options = kurier::config::LoadOptions::default();
        let file = std::path::Path::new("routes.yaml");
        let problems = match kurier::config::parse(&text, file, file, &environment, &options) {
            Ok(_) => continue,
            Err(error) => error.problems,
        };
        // The one secret of this test fits no public key; everything else has to be right.
        assert!(problems.iter().all(|problem| problem.message.starts_with("this key ")), "{text}{problems:#?}");
    }
}
