//! What may not be configured, and what is said of it.

use super::*;
use kurier::signature::{Binding, Template};

#[test]
fn a_verify_that_says_nothing_is_an_error() {
    for empty in ["{ verify: }", "{ verify: {} }", "{ verify: '' }", "{ verify: [] }", "{ verify: ~ }"] {
        let root = document::parse(empty).unwrap();
        let mut found = Vec::new();
        assert!(Verifier::compile(root.get("verify").unwrap(), "verify", &mut Env, &mut found).is_none());
        assert!(!found.is_empty(), "{empty}");
    }
    assert!(problems("{ any: [] }").contains("at least one"));
    assert!(problems("{ allow_from: [] }").contains("networks"));
    assert!(problems("{ any: [none, { allow_from: [10.0.0.0/8] }] }").contains("void"));
}

#[test]
fn secrets_that_are_missing_empty_or_undecodable_never_become_a_key() {
    let hmac = |encoding: &str, secret: &str| {
        format!("{{ preset: hmac-body, key: {{ encoding: {encoding} }}, secrets: [{{ env: good-00 }}, {{ env: '{secret}' }}] }}")
    };
    for (encoding, secret) in
        [("utf8", ""), ("utf8", " \n"), ("hex", "xyz"), ("hex", "abc"), ("base64", "!!"), ("whsec", "whsec_"), ("whsec", "v1,whsec_")]
    {
        let found = problems(&hmac(encoding, secret));
        assert!(found.contains("verify.secrets[1]: this key is"), "{found}");
        assert!(secret.trim().is_empty() || secret.ends_with("whsec_") || !found.contains(&format!("`{secret}`")), "{found}");
    }
    assert!(problems("{ preset: github }").contains("there are no secrets"));
    assert!(problems("{ preset: github, secrets: [] }").contains("there are no secrets"));
    assert!(problems("{ basic: { user: u, password: { env: '' } } }").contains("empty"));
    assert!(problems("{ token: { header: x, secrets: [{ env: '' }] } }").contains("empty"));
    // One that can't be had is reported by whoever looks for it, and the scheme does without none of them.
    for unset in ["[{ env: good }, { env: unset }]", "[{ env: unset }]", "{ env: unset }"] {
        assert!(try_compile(&format!("{{ preset: github, secrets: {unset} }}")).err().unwrap().is_empty());
    }
}

#[test]
fn compiled_schemes_are_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Verifier>();
    shared::<Template>();
    shared::<kurier::signature::Signer>();
}

#[test]
fn a_word_that_others_take_for_a_placeholder_is_an_ordinary_secret() {
    let verifier = compile("{ preset: github, secrets: [{ env: changeme }] }");
    assert_eq!(refusal(verifier.verify(github(), at(NOW))), Some(Refusal::Mismatch));
    assert_eq!(refusal(verifier.verify(post("/in", &[], ""), at(NOW))), Some(Refusal::MissingHeader));
}

#[test]
fn a_public_key_cannot_be_a_shared_secret() {
    let pem = "-----BEGIN PUBLIC KEY-----\\nAAAA\\n-----END PUBLIC KEY-----";
    assert!(problems(&format!("{{ preset: github, secrets: [{{ env: \"{pem}\" }}] }}")).contains("public key"));
    assert!(problems("{ preset: github, key: { encoding: whpk }, secrets: [{ env: whpk_AAAA }] }").contains("public key"));
    assert!(problems("{ preset: wise, secrets: [{ env: not-pem }] }").contains("PEM"));
}

#[test]
fn unknown_names_are_errors_with_a_hint() {
    assert!(problems("{ preset: githb, secrets: [{ env: k }] }").contains("did you mean \"github\"?"));
    assert!(problems("{ preset: github, secretz: [{ env: k }], secrets: [{ env: k }] }").contains("did you mean \"secret"));
    assert!(problems("{ preset: github, secrets: [{ env: k }], signature: { form: plain } }").contains("did you mean"));
    assert!(problems("{ preset: github, secrets: [{ env: k }], algorithm: hmac-sha3 }").contains("unknown algorithm"));
    assert!(problems("{ preset: github, secrets: [{ env: k }], algorithm: none }").contains("verify: none"));
    assert!(problems("{ preset: github, secrets: [{ env: k }], signed: '{bdy}' }").contains("unknown placeholder"));
    assert!(problems("{ preset: github, secrets: [{ env: k }], signed: '{body|upper}' }").contains("unknown filter"));
    assert!(problems("{ preset: github, secrets: [{ env: k }], signed: '{cookie:x}' }").contains("unknown source"));
    assert!(problems("{ preset: github, secrets: [{ env: k }], allow_from: [10.0.0.0/8] }").contains("side by side"));
    assert!(problems("github").contains("preset: NAME"));
}

#[test]
fn every_problem_is_reported_at_its_place() {
    let yaml = "preset: github\nsecrets: [{ env: k }]\nsigned: '{bdy}'\non_invalid: 200\nbody_limit: 25\n";
    let found = problems(yaml);
    for place in ["f:3:9: verify.signed: unknown", "f:4:13: verify.on_invalid: a 4xx", "f:5:13: verify.body_limit: a size"] {
        assert!(found.contains(place), "{found}");
    }
}

#[test]
fn parts_of_the_language_that_do_not_fit_each_other_are_refused() {
    let github = "preset: github, secrets: [{ env: k }]";
    let token = "algorithm: jwt, secrets: [{ env: k }]";
    for (scheme, expected) in [
        (format!("{github}, jwt: {{ from: header:x }}"), "belongs to `algorithm: jwt`"),
        (format!("{github}, claims: {{ iss: x }}"), "belongs to `algorithm: jwt`"),
        (format!("{github}, signed: '{{claim:iss}}'"), "there is no token here"),
        (format!("{github}, signed: '{{body|hmac-hex}}'"), "belongs to the reply of a `challenge`"),
        (format!("{github}, signed: '{{digest}}'"), "belongs to the reply"),
        (format!("{github}, signed: '{{xml:}}'"), "names nothing"),
        (format!("{github}, charset: latin-17"), "unknown charset"),
        (format!("{github}, key: {{ encoding: jwk }}"), "is not a JSON Web Key"),
        (format!("{github}, key: {{ encoding: x509 }}"), "is not a PEM certificate"),
        (format!("{github}, key: {{ allow_hosts: [a.example] }}"), "no meaning without a `source`"),
        (token.to_owned(), "verify.jwt: is missing"),
        (format!("{token}, jwt: {{ from: header:x }}"), "`algs` is missing"),
        (format!("{token}, jwt: {{ from: header:x, algs: [none] }}"), "unknown algorithm `none`"),
        (format!("{token}, jwt: {{ from: header:x, algs: [HS256, RS256] }}, key: {{ encoding: utf8 }}"), "no public key"),
        (format!("{token}, jwt: {{ from: header:x, algs: [HS256] }}, signed: '{{body}}'"), "has no meaning with `algorithm: jwt`"),
        (format!("{token}, jwt: {{ from: header:x, algs: [HS256], leeway: 1m }}"), "a number of seconds"),
    ] {
        let found = problems(&format!("{{ {scheme} }}"));
        assert!(found.contains(expected), "{scheme}: {found}");
    }
}

#[test]
fn keys_are_fetched_only_from_where_they_may_be_and_only_public_ones() {
    let scheme = |algorithm: &str, key: &str| {
        format!("{{ algorithm: {algorithm}, key: {key}, signature: {{ from: header:x, encoding: base64 }}, signed: '{{body}}' }}")
    };
    let rsa = "rsa-pkcs1-sha256";
    compile(&scheme(rsa, "{ encoding: x509, source: 'url:{header:x-cert}', allow_hosts: [a.example] }"));
    compile(&scheme(rsa, "{ encoding: pem, by: 'header:kid', source: remote:bank }"));
    compile(&scheme(rsa, "{ encoding: jwk, by: 'header:kid', source: 'jwks:https://a.example/keys' }"));
    for (algorithm, key, expected) in [
        (rsa, "{ encoding: x509, source: 'url:{header:x-cert}' }", "`allow_hosts` is missing"),
        (rsa, "{ encoding: x509, source: 'url:{header:x-cert}', allow_hosts: ['*.a.example'] }", "is no host name"),
        (rsa, "{ encoding: x509, source: 'url:{header:x-cert}', allow_hosts: ['^a.example'] }", "no `$` at its end"),
        (rsa, "{ encoding: jwk, source: 'url:{header:x}', allow_hosts: [a.example] }", "with `by` a set of them"),
        (rsa, "{ encoding: jwk, by: 'header:kid', source: 'jwks:http://a.example/keys' }", "is no plain url"),
        (rsa, "{ encoding: jwk, source: 'jwks:https://a.example/keys' }", "`by` is missing"),
        (rsa, "{ encoding: pem, by: 'header:kid', source: 'jwks:https://a.example/keys' }", "goes with `encoding: jwk`"),
        (rsa, "{ encoding: pem, source: remote:bank }", "`by` is missing"),
        (rsa, "{ encoding: pem, source: ftp:x }", "unknown source `ftp:x`"),
        ("hmac-sha256", "{ encoding: utf8, by: 'header:kid', source: remote:bank }", "only a public key can be fetched"),
    ] {
        let found = problems(&scheme(algorithm, key));
        assert!(found.contains(expected), "{key}: {found}");
    }
    let both = "{ preset: plaid, secrets: { a: { env: k } }, key: { source: remote:plaid } }";
    assert!(problems(both).contains("fetched or configured, not both"));
}

#[test]
fn a_handshake_that_could_be_an_oracle_or_answer_everything_is_refused() {
    let with = |rule: &str| format!("{{ preset: github, secrets: [{{ env: k }}], challenge: [{rule}] }}");
    let when = "when: { method: GET, present: ['query:c'] }";
    compile(&with(&format!("{{ {when}, limit: {{ 'query:c': '^[a-z]{{1,9}}$' }}, reply: {{ body: '{{query:c|hmac-hex}}' }} }}")));
    for (rule, expected) in [
        (format!("{{ {when}, reply: {{ body: '{{query:c|hmac-hex}}' }} }}"), "for anybody"),
        (format!("{{ {when}, limit: {{ 'query:d': '^a$' }}, reply: {{ body: '{{query:c|hmac-b64}}' }} }}"), "for anybody"),
        (format!("{{ {when}, limit: {{ 'query:c': '[a-z]+' }}, reply: {{ body: '{{query:c}}' }} }}"), "from `^` to `$`"),
        (format!("{{ {when}, reply: {{ content_type: text/html, body: '{{query:c}}' }} }}"), "repeats a stranger's words"),
        (format!("{{ {when}, reply: {{ status: 302 }} }}"), "a 2xx status"),
        (format!("{{ {when}, reply: {{ headers: {{ Location: '{{query:c}}' }} }} }}"), "no header that a reply may have"),
        (format!("{{ {when}, keep: true }}"), "only what is `verified`"),
        ("{ reply: { body: x } }".to_owned(), "`when` is missing"),
        (format!("{{ {when}, replay: {{ body: x }} }}"), "did you mean \"reply\"?"),
    ] {
        let found = problems(&with(&rule));
        assert!(found.contains(expected), "{rule}: {found}");
    }
    assert!(problems("{ preset: meta, secrets: [{ env: k }] }").contains("config.verify_token"));
}

#[test]
fn schemes_that_prove_nothing_are_refused() {
    let plain = |signed: &str| {
        format!("{{ algorithm: hash-sha256, secrets: [{{ env: k }}], signature: {{ from: header:x, encoding: hex }}, signed: '{signed}' }}")
    };
    assert!(problems(&plain("{body}")).contains("can be made by anybody"));
    compile(&plain("{body}{secret}"));
    assert!(problems("{ preset: github, secrets: [{ env: k }], signed: '{body}{secret}' }").contains("plain digest"));
    let unsigned_time = "{ preset: github, secrets: [{ env: k }], timestamp: { from: header:x-time, unit: s, tolerance: 300 } }";
    assert!(problems(unsigned_time).contains("proves nothing"));
    assert!(problems("{ preset: wallee, secrets: [{ env: k }] }").contains("map by key id"));
    assert!(problems("{ preset: github, secrets: { id: { env: k } } }").contains("key.by"));
}

#[test]
fn a_route_may_override_any_key_even_over_a_variant() {
    let verifier =
        compile("{ preset: github, secrets: { env: k }, on_invalid: 404, body_limit: 25MiB, signature: { from: header:x-other } }");
    assert_eq!((verifier.on_invalid(), verifier.body_limit()), (404, Some(25 << 20)));
    let sample = verifier.sample(post("/in", &[], "{}"), at(NOW)).unwrap();
    assert!(sample.headers.contains_key("x-other") && !sample.headers.contains_key("x-hub-signature-256"));
    let wide = compile("{ preset: hubspot, secrets: [{ env: k }], timestamp: { tolerance: 100000 } }");
    let sample = wide.sample(post("/in", &[], "[]"), at(NOW)).unwrap();
    assert!(wide.verify(sample, at(NOW + 99_999)).is_ok());
}

#[test]
fn what_is_bound_is_computed() {
    for (preset, binding) in
        [("mercado-pago", Binding::None), ("midtrans", Binding::Fields), ("twilio", Binding::Whole), ("stripe", Binding::Whole)]
    {
        assert_eq!(compile(&format!("{{ preset: {preset}, secrets: [{{ env: k }}] }}")).binding(), binding, "{preset}");
    }
}

#[test]
fn headers_that_let_their_bearer_in_are_credentials() {
    let bearer = compile("{ preset: dvelop-cloud, secrets: [{ env: AAAA }] }");
    assert_eq!(bearer.credential_headers(), ["authorization"]);
    let token = compile("{ preset: gitlab-token, secrets: [{ env: k }] }");
    assert_eq!(token.credential_headers(), ["x-gitlab-token"]);
    assert!(compile(GITHUB).credential_headers().is_empty());
}

#[test]
fn an_answer_may_be_a_json_text_as_it_stands() {
    let invoice = compile("{ preset: dvelop-smart-invoice, secrets: [{ env: k }] }");
    let body =
        r#"{"_links":{"report_results_async":{"href":"https://a.example/r/1"}},"workflow":{"id":7},"event_type":"integration.export"}"#;
    let sample = invoice.sample(post("/in", &[], body), at(NOW)).unwrap();
    let (_, facts) = invoice.verify(sample, at(NOW)).unwrap().into_parts();
    let answer = facts.answer.unwrap();
    assert_eq!(
        (answer.status, &answer.body[..], answer.content_type.as_deref()),
        (202, &br#"{"successful":true}"#[..], Some("application/json"))
    );
    assert_eq!(facts.dedupe_key.unwrap(), b"https://a.example/r/1");
    assert_eq!((facts.source_id.as_deref(), facts.event_type.as_deref()), (Some("https://a.example/r/1"), Some("integration.export")));
    assert!(problems("{ preset: github, secrets: [{ env: k }], ack: { body: '{\"a\":\"{json:/a}\"}' } }").contains("literal brace"));
}

#[test]
fn templates_of_routes_render_or_have_no_value() {
    let render =
        |text: &str, inbound: &Inbound| Template::compile(text).unwrap().render(inbound).map(|bytes| String::from_utf8(bytes).unwrap());
    let inbound = post("/a?k=v%20w", &[("x-id", "7")], r#"{"workflow":{"id":12.0}}"#);
    assert_eq!(render("{json:/workflow/id}", &inbound).as_deref(), Some("12.0"));
    assert_eq!(render("{{{header:x-id}}}[-{query:k}][+{query:none}]|{method} {path}", &inbound).as_deref(), Some("{7}-v w|POST /a"));
    assert_eq!(render("{query:none}", &inbound), None);
    assert_eq!(render("{query:none|?}", &inbound).as_deref(), Some(""));
    assert_eq!(render("{json:/workflow}", &inbound), None);
    for bad in ["{", "}", "{json:x}", "{secret}", "{config:k}", "{sig.t}", "[x]", "[", "]", "{header:a b}"] {
        assert!(Template::compile(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_type_of_a_stored_event_is_read_later() {
    let verifier = compile("{ preset: standard-webhooks, secrets: [{ env: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw }] }");
    let sample = verifier.sample(post("/in", &[], r#"{"type":"user.created"}"#), at(NOW)).unwrap();
    let (inbound, facts) = verifier.verify(sample, at(NOW)).unwrap().into_parts();
    assert_eq!(facts.event_type, None, "the body was read only for its type");
    let event = kurier::model::Event {
        id: kurier::model::EventId::from_bits(1),
        route: "r".into(),
        received_at: inbound.received_at,
        peer: None,
        source_id: None,
        event_type: None,
        method: inbound.method,
        target: inbound.target,
        base: inbound.base,
        headers: inbound.headers,
        body: inbound.body,
    };
    assert_eq!(verifier.event_type(&event).as_deref(), Some("user.created"));
}

#[test]
fn a_setting_that_nothing_asks_for_is_an_error() {
    let found = problems("{ preset: meta, secrets: [{ env: k }], config: { verify_token: a, verfy_token: b } }");
    assert!(
        found.contains("verify.config.verfy_token: nothing in this scheme asks for `config.verfy_token`; did you mean \"verify_token\"?"),
        "{found}"
    );
    assert!(problems("{ preset: github, secrets: [{ env: k }], config: { foo: bar } }").contains("asks for `config.foo`"));
}
