//! HTTP Message Signatures: the examples of RFC 9421, appendix B, and what must not pass beside them.

use super::*;
use kurier::signature::Binding;

const RSA_PSS: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAr4tmm3r20Wd/PbqvP1s2
+QEtvpuRaV8Yq40gjUR8y2Rjxa6dpG2GXHbPfvMs8ct+Lh1GH45x28Rw3Ry53mm+
oAXjyQ86OnDkZ5N8lYbggD4O3w6M6pAvLkhk95AndTrifbIFPNU8PPMO7OyrFAHq
gDsznjPFmTOtCEcN2Z1FpWgchwuYLPL+Wokqltd11nqqzi+bJ9cvSKADYdUAAN5W
Utzdpiy6LbTgSxP7ociU4Tn0g5I6aDZJ7A8Lzo0KSyZYoA485mqcO0GVAdVw9lq4
aOT9v6d+nb4bnNkQVklLQ3fVAvJm+xdDOp9LCNCN48V2pnDOkFV6+U9nV5oyc6XI
2wIDAQAB
-----END PUBLIC KEY-----";

const P256: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqIVYZVLCrPZHGHjP17CTW0/+D9Lf
w0EkjqF7xB4FivAxzic30tMM4GF+hR6Dxh71Z50VGGdldkkDXZCnTNnoXQ==
-----END PUBLIC KEY-----";

const ED25519: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=
-----END PUBLIC KEY-----";

const SHARED: &str = "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==";

const B21: &str = "d2pmTvmbncD3xQm8E9ZV2828BjQWGgiwAaw5bAkgibUopemLJcWDy/lkbbHAve4cRAtx31Iq786U7it++wgGxbtRxf8Udx7zFZsckzXaJMkA7ChG52eSkFxykJeNqsrWH5S+oxNFlD4dzVuwe8DhTSja8xxbR/Z2cOGdCbzR72rgFWhzx2VjBqJzsPLMIQKhO4DGezXehhWwE56YCE+O6c0mKZsfxVrogUvA4HELjVKWmAvtl6UnCh8jYzuVG5WSb/QEVPnP5TmcAnLH1g+s++v6d4s8m0gCw1fV5/SITLq9mhho8K3+7EPYTU8IU1bLhdxO5Nyt8C8ssinQ98Xw9Q==";
const B22: &str = "LjbtqUbfmvjj5C5kr1Ugj4PmLYvx9wVjZvD9GsTT4F7GrcQEdJzgI9qHxICagShLRiLMlAJjtq6N4CDfKtjvuJyE5qH7KT8UCMkSowOB4+ECxCmT8rtAmj/0PIXxi0A0nxKyB09RNrCQibbUjsLS/2YyFYXEu4TRJQzRw1rLEuEfY17SARYhpTlaqwZVtR8NV7+4UKkjqpcAoFqWFQh62s7Cl+H2fjBSpqfZUJcsIk4N6wiKYd4je2U/lankenQ99PZfB4jY3I5rSV2DSBVkSFsURIjYErOs0tFTQosMTAoxk//0RoKUqiYY8Bh0aaUEb0rQl3/XaVe4bXTugEjHSw==";
const B23: &str = "bbN8oArOxYoyylQQUU6QYwrTuaxLwjAC9fbY2F6SVWvh0yBiMIRGOnMYwZ/5MR6fb0Kh1rIRASVxFkeGt683+qRpRRU5p2voTp768ZrCUb38K0fUxN0O0iC59DzYx8DFll5GmydPxSmme9v6ULbMFkl+V5B1TP/yPViV7KsLNmvKiLJH1pFkh/aYA2HXXZzNBXmIkoQoLd7YfW91kE9o/CCoC1xMy7JA1ipwvKvfrs65ldmlu9bpG6A9BmzhuzF8Eim5f8ui9eH8LZH896+QIF61ka39VBrohr9iyMUJpvRX2Zbhl5ZJzSRxpJyoEZAFL2FUo5fTIztsDZKEgM4cUA==";
const B25: &str = "pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=";
const B26: &str = "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==";
const B3: &str = "xVMHVpawaAC/0SbHrKRs9i8I3eOs5RtTMGCWXm/9nvZzoHsIg6Mce9315T6xoklyy0yzhD9ah4JHRwMLOgmizw==";
const B4: &str = "ZT1kooQsEHpZ0I1IjCqtQppOmIqlJPeo7DHR3SoMn0s5JZ1eRGS0A+vyYP9t/LXlh5QMFFQ6cpLt2m0pmj3NDA==";

const CLIENT_CERT: &str = ":MIIBqDCCAU6gAwIBAgIBBzAKBggqhkjOPQQDAjA6MRswGQYDVQQKDBJMZXQncyBBdXRoZW50aWNhdGUxGzAZBgNVBAMMEkxBIEludGVybWVkaWF0ZSBDQTAeFw0yMDAxMTQyMjU1MzNaFw0yMTAxMjMyMjU1MzNaMA0xCzAJBgNVBAMMAkJDMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE8YnXXfaUgmnMtOXU/IncWalRhebrXmckC8vdgJ1p5Be5F/3YC8OthxM4+k1M6aEAEFcGzkJiNy6J84y7uzo9M6NyMHAwCQYDVR0TBAIwADAfBgNVHSMEGDAWgBRm3WjLa38lbEYCuiCPct0ZaSED2DAOBgNVHQ8BAf8EBAMCBsAwEwYDVR0lBAwwCgYIKwYBBQUHAwIwHQYDVR0RAQH/BBMwEYEPYmRjQGV4YW1wbGUuY29tMAoGCCqGSM49BAMCA0gAMEUCIBHda/r1vaL6G3VliL4/Di6YK0Q6bMjeSkC3dFCOOB8TAiEAx/kHSB4urmiZ0NX5r5XarmPk0wmuydBVoU4hBVZ1yhk=:";

const DIGEST: &str = "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:";
const CREATED: i64 = 1_618_884_473;

fn verifier(algorithm: &str, encoding: &str, key: &str, components: &str) -> Verifier {
    let key = serde_json::Value::from(key);
    compile(&format!(
        "{{ algorithm: {algorithm}, key: {{ encoding: {encoding} }}, secrets: [{{ env: {key} }}],
            signature: {{ format: http-message, components: {components} }}, timestamp: {{ from: 'sig:created', unit: s, tolerance: 300 }} }}"
    ))
}

/// `test-request` of appendix B.2, signed so.
fn request(input: &str, signature: &str) -> Inbound {
    let label = input.split('=').next().unwrap();
    let headers = [
        ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
        ("content-type", "application/json"),
        ("content-digest", DIGEST),
        ("content-length", "18"),
        ("signature-input", input),
        ("signature", &format!("{label}=:{signature}:")),
    ];
    Inbound { base: "https://example.com".into(), ..post("/foo?param=Value&Pet=dog", &headers, r#"{"hello": "world"}"#) }
}

fn check(verifier: &Verifier, request: Inbound) -> Option<Refusal> {
    refusal(verifier.verify(request, at(CREATED)))
}

const B22_INPUT: &str =
    r#"sig-b22=("@authority" "content-digest" "@query-param";name="Pet");created=1618884473;keyid="test-key-rsa-pss";tag="header-example""#;
const B23_INPUT: &str = r#"sig-b23=("date" "@method" "@path" "@query" "@authority" "content-type" "content-digest" "content-length");created=1618884473;keyid="test-key-rsa-pss""#;
const B25_INPUT: &str = r#"sig-b25=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret""#;
const B26_INPUT: &str =
    r#"sig-b26=("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519""#;

#[test]
fn the_examples_of_the_standard_verify() {
    let pss = |components: &str| verifier("rsa-pss-sha512", "pem", RSA_PSS, components);
    assert_eq!(check(&pss("[content-digest]"), request(B22_INPUT, B22)), None);
    assert_eq!(check(&pss(r#"["@method", "@path", "@query", content-digest]"#), request(B23_INPUT, B23)), None);
    assert_eq!(check(&verifier("hmac-sha256", "base64", SHARED, "[date]"), request(B25_INPUT, B25)), None);
    assert_eq!(check(&verifier("ed25519", "pem", ED25519, r#"["@method"]"#), request(B26_INPUT, B26)), None);

    let input = r#"ttrp=("@path" "@query" "@method" "@authority" "client-cert");created=1618884473;keyid="test-key-ecc-p256""#;
    let proxied = with(request(input, B3), "client-cert", CLIENT_CERT);
    let proxied = Inbound { base: "https://service.internal.example".into(), ..proxied };
    assert_eq!(check(&verifier("ecdsa-p256-sha256", "pem", P256, "[client-cert]"), proxied), None);

    let input = r#"transform=("@method" "@path" "@authority" "accept");created=1618884473;keyid="test-key-ed25519""#;
    let mut transformed = post(
        "/demo?name1=Value1&Name2=value2&param=added",
        &[("accept", "application/json"), ("accept", " */* "), ("signature-input", input), ("signature", &format!("transform=:{B4}:"))],
        "",
    );
    transformed = Inbound { method: Method::GET, base: "https://EXAMPLE.org:443".into(), ..transformed };
    let ed25519 = verifier("ed25519", "pem", ED25519, "[accept]");
    assert_eq!(check(&ed25519, transformed.clone()), None);
    assert_eq!(check(&ed25519, Inbound { method: Method::POST, ..transformed.clone() }), Some(Refusal::Mismatch));
    assert_eq!(check(&ed25519, with(transformed, "accept", "*/*, application/json")), Some(Refusal::Mismatch));
}

#[test]
fn a_signature_over_less_than_what_is_demanded_is_not_enough() {
    let minimal = r#"sig-b21=();created=1618884473;keyid="test-key-rsa-pss";nonce="b3k2pp5k7z-50gnwp.yemd""#;
    let pss = |components: &str| verifier("rsa-pss-sha512", "pem", RSA_PSS, components);
    assert_eq!(check(&pss("[content-digest]"), request(minimal, B21)), Some(Refusal::MissingHeader));
    assert_eq!(check(&pss(r#"["@method"]"#), request(B22_INPUT, B22)), Some(Refusal::MissingHeader));
    assert!(
        problems("{ algorithm: ed25519, key: { encoding: pem }, secrets: [{ env: k }], signature: { format: http-message } }")
            .contains("`components` is missing")
    );
    assert_eq!(pss("[content-digest]").binding(), Binding::Whole);
    assert_eq!(pss("[date]").binding(), Binding::None);
}

#[test]
fn whatever_is_signed_can_not_be_changed() {
    let pss = verifier("rsa-pss-sha512", "pem", RSA_PSS, "[content-digest]");
    let genuine = request(B23_INPUT, B23);
    for (changed, expected) in [
        (Inbound { body: Bytes::from(r#"{"hello":"world"}"#), ..genuine.clone() }, Refusal::Mismatch),
        (Inbound { target: Bytes::from("/foo?param=Value&Pet=cat"), ..genuine.clone() }, Refusal::Mismatch),
        (Inbound { base: "https://example.org".into(), ..genuine.clone() }, Refusal::Mismatch),
        (with(genuine.clone(), "date", "Tue, 20 Apr 2021 02:07:56 GMT"), Refusal::Mismatch),
        (with(genuine.clone(), "date", ""), Refusal::MissingHeader),
        (with(genuine.clone(), "content-digest", "sha-1=:AAAA:"), Refusal::Mismatch),
        (with(genuine.clone(), "content-digest", ""), Refusal::MissingHeader),
        (with(genuine.clone(), "signature-input", &B23_INPUT.replace("1618884473", "1618884474")), Refusal::Mismatch),
        (with(genuine.clone(), "signature-input", &B23_INPUT.replace(";created=1618884473", "")), Refusal::Mismatch),
        (with(genuine.clone(), "signature-input", &B23_INPUT.replace("\"date\"", "\"date\" \"date\"")), Refusal::Malformed),
        (with(genuine.clone(), "signature-input", &B23_INPUT.replace("\"date\"", "\"date\";bs")), Refusal::Malformed),
        (with(genuine.clone(), "signature-input", &B23_INPUT.replace("\"date\"", "\"@status\"")), Refusal::Malformed),
        (with(genuine.clone(), "signature-input", &format!("{B23_INPUT};alg=\"hmac-sha256\"")), Refusal::Malformed),
        (with(genuine.clone(), "signature-input", &format!("{B23_INPUT}, other=()")), Refusal::Malformed),
        (with(genuine.clone(), "signature-input", "sig-b23"), Refusal::Malformed),
        (with(genuine.clone(), "signature", "other=:AAAA:"), Refusal::MissingHeader),
        (with(genuine.clone(), "signature", "sig-b23=AAAA"), Refusal::Malformed),
        (with(genuine.clone(), "signature", ""), Refusal::MissingHeader),
    ] {
        assert_eq!(check(&pss, changed.clone()), Some(expected), "{:?}", changed.headers);
    }
    assert_eq!(refusal(pss.verify(genuine, at(CREATED + 301))), Some(Refusal::Stale));
}

#[test]
fn one_of_several_signatures_is_chosen_by_its_label_and_an_end_of_time_counts() {
    let yaml = "{ algorithm: hmac-sha256, key: { encoding: base64 }, secrets: [{ env: 'KEY' }], signature: { format: http-message, label: sig-b25, components: [date] } }";
    let labelled = compile(&yaml.replace("KEY", SHARED));
    let both = with(request(B25_INPUT, B25), "signature-input", &format!("other=(\"date\"), {B25_INPUT}"));
    assert_eq!(check(&labelled, both), None);
    assert_eq!(check(&labelled, with(request(B25_INPUT, B25), "signature-input", "other=(\"date\")")), Some(Refusal::MissingHeader));
    // The end of its time is looked at once the signature is right.
    let late = with(request(B25_INPUT, B25), "signature-input", &format!("{B25_INPUT};expires=1618884474"));
    assert_eq!(check(&labelled, late), Some(Refusal::Mismatch));
    let preset = compile(&format!("{{ preset: http-message-signatures, key: {{ encoding: base64 }}, secrets: [{{ env: '{SHARED}' }}] }}"));
    assert_eq!(preset.binding(), Binding::Whole);
}

fn draft(list: &str, key: &[u8], signed: &str, body: &str) -> Inbound {
    use base64::Engine;
    use hmac::{Hmac, KeyInit, Mac};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).unwrap();
    mac.update(signed.as_bytes());
    let signature = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
    let header = format!("keyId=\"k1\",algorithm=\"hs2019\",created=1700000000,headers=\"{list}\",signature=\"{signature}\"");
    let headers = [("signature", header.as_str()), ("host", "hooks.example.ch"), ("digest", EMPTY_OBJECT)];
    post("/in?x=1", &headers, body)
}

/// SHA-256 of `{}`.
const EMPTY_OBJECT: &str = "SHA-256=RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=";

#[test]
fn the_draft_before_the_standard_is_read_too() {
    let verifier = compile(
        "{ algorithm: hmac-sha256, secrets: { k1: { env: k } }, key: { by: 'sig:keyId' }, timestamp: { from: 'sig:created', unit: s, tolerance: 300 },
           signature: { format: http-signature, from: header:signature, components: ['(request-target)', '(created)', digest] } }",
    );
    let list = "(request-target) (created) host digest";
    let signed = format!("(request-target): post /in?x=1\n(created): 1700000000\nhost: hooks.example.ch\ndigest: {EMPTY_OBJECT}");
    let check = |request: Inbound| refusal(verifier.verify(request, at(NOW)));
    let genuine = draft(list, b"k", &signed, "{}");
    assert_eq!(check(genuine.clone()), None);
    assert_eq!(refusal(verifier.verify(genuine.clone(), at(NOW + 301))), Some(Refusal::Stale));
    assert_eq!(check(draft(list, b"other", &signed, "{}")), Some(Refusal::Mismatch));
    assert_eq!(check(draft(list, b"k", &signed, "{} ")), Some(Refusal::Mismatch), "the digest is checked against the body");
    assert_eq!(check(draft("(request-target) (created)", b"k", &signed, "{}")), Some(Refusal::MissingHeader));
    assert_eq!(check(draft(&format!("{list} date"), b"k", &signed, "{}")), Some(Refusal::MissingHeader));
    assert_eq!(check(draft(&format!("{list} host"), b"k", &signed, "{}")), Some(Refusal::Malformed));
    assert_eq!(check(Inbound { target: Bytes::from("/in?x=2"), ..genuine.clone() }), Some(Refusal::Mismatch));
    for broken in ["keyId=\"k1", "keyId", "a=1,a=2", "=x", "keyId=\"k1\" x"] {
        assert_eq!(check(with(genuine.clone(), "signature", broken)), Some(Refusal::Malformed), "{broken}");
    }
    assert_eq!(verifier.binding(), Binding::Whole);
    assert!(
        problems(
            "{ algorithm: ed25519, key: { encoding: pem }, secrets: [{ env: k }], signature: { format: http-signature, from: header:x } }"
        )
        .contains("`components` is missing")
    );
}
