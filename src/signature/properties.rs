//! What holds for every preset: a sample verifies, and with one bit of body or signature flipped it does not.

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use proptest::prelude::*;

use super::algorithm::Algorithm;
use super::encoding::{Candidate, Encoding};
use super::extract::Format;
use super::scheme::{Plan, Scheme};
use super::source::Source;
use super::{KeyMaterial, SecretSource, Verifier, fuzz_scheme, preset_names, preset_settings};
use crate::document::{self, Node};
use crate::model::{Inbound, Secret, Timestamp};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// Presets whose signature or time stands inside the JSON body: a sample can't put it there.
const INSIDE_THE_BODY: [&str; 6] = ["adyen-standard", "linear", "mailgun", "microsoft-graph", "midtrans", "przelewy24"];

/// What the preset asks of a route's `config`.
fn config(preset: &str) -> String {
    let value = |name: &str| match name {
        "success_url" => "https://a.example/ok",
        "failure_url" => "https://a.example/no",
        _ => "token-of-the-tests",
    };
    let settings: Vec<String> = preset_settings(preset).iter().map(|name| format!("{name}: {}", value(name))).collect();
    settings.join(", ")
}

struct Literal(&'static str);

impl SecretSource for Literal {
    fn secret(&mut self, _node: &Node, _path: &str) -> Option<KeyMaterial> {
        Some(KeyMaterial { secret: Secret::new(self.0.as_bytes().to_vec()), not_after: None })
    }
}

/// The preset with a shared key, where it takes one.
fn shared(preset: &str) -> Option<Verifier> {
    let keys = ["0011223344556677889900112233445566778899", "user:password"];
    keys.iter().find_map(|key| {
        ["[{ env: X }]", "{ k1: { env: X } }"].iter().find_map(|secrets| {
            let yaml = format!("{{ preset: {preset}, secrets: {secrets}, config: {{ {} }} }}", config(preset));
            Verifier::compile(&document::parse(&yaml).unwrap(), "verify", &mut Literal(key), &mut Vec::new())
        })
    })
}

/// An event to every preset: to Xero a body without events is a handshake.
const ANY_EVENT: &[u8] = br#"{"events":[{}]}"#;

fn draft(body: &[u8]) -> Inbound {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    Inbound {
        method: Method::POST,
        target: Bytes::from_static(b"/in?x=1"),
        base: "https://hooks.example.ch".into(),
        headers,
        body: Bytes::copy_from_slice(body),
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        received_at: NOW,
    }
}

fn scheme(verifier: &Verifier) -> &Scheme {
    verifier.check().schemes()[0]
}

/// The presets that can be sampled.
fn sampled() -> Vec<(&'static str, Verifier)> {
    let ours = |plan: &Plan| !matches!(plan.algorithm, Algorithm::Public(_)) && !matches!(plan.carrier.format, Format::Message(_));
    preset_names()
        .filter(|preset| !INSIDE_THE_BODY.contains(preset))
        .filter_map(|preset| Some((preset, shared(preset)?)))
        .filter(|(_, verifier)| scheme(verifier).plans.iter().all(ours))
        .collect()
}

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    let bit = bit % (changed.len() * 8);
    changed[bit / 8] ^= 1 << (bit % 8);
    changed
}

/// Whether the whole body goes into the signature as it stands, not as the fields of a form.
fn signs_the_bytes(verifier: &Verifier) -> bool {
    scheme(verifier).plans.iter().all(|plan| {
        let claims = plan.claims.iter().flat_map(|claims| claims.wanted.iter().map(|(_, wanted)| wanted));
        plan.signed.names("body") || plan.checks.iter().map(|(_, right)| right).chain(claims).any(|program| program.names("body"))
    })
}

#[test]
fn nearly_every_preset_with_a_shared_key_can_be_sampled() {
    let presets = sampled();
    assert!(presets.len() > 85, "{}", presets.len());
    for (preset, verifier) in &presets {
        if let Err(what) = verifier.sample(draft(ANY_EVENT), NOW) {
            panic!("{preset}: {what}");
        }
    }
    for preset in INSIDE_THE_BODY {
        assert!(shared(preset).unwrap().sample(draft(ANY_EVENT), NOW).is_err(), "{preset}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_sample_verifies_and_one_flipped_bit_of_its_body_is_refused(body in prop::collection::vec(any::<u8>(), 1..200), bit in any::<usize>()) {
        // A body that could be a handshake's text is refused as an event, whatever its signature.
        let body = [b"{", &body[..]].concat();
        for (preset, verifier) in sampled().iter().filter(|(_, verifier)| signs_the_bytes(verifier)) {
            let sample = verifier.sample(draft(&body), NOW);
            prop_assert!(sample.is_ok(), "{}: {:?}", preset, sample.err());
            let mut forged = sample.unwrap();
            forged.body = Bytes::from(flipped(&forged.body, bit));
            prop_assert!(verifier.verify(forged, NOW).is_err(), "{}", preset);
        }
    }

    #[test]
    fn one_flipped_bit_of_a_signature_is_refused(bit in any::<usize>()) {
        for (preset, verifier) in sampled() {
            let sample = verifier.sample(draft(ANY_EVENT), NOW).unwrap();
            for carrier in scheme(&verifier).plans.iter().map(|plan| &plan.carrier) {
                let Some(Source::Header(name)) = carrier.from.first() else { continue };
                let Some(value) = sample.headers.get(name) else { continue };
                let changed = flipped(value.as_bytes(), bit);
                // Hex and the words of HTTP are the same in either case.
                let inner = |bytes: &[u8]| if carrier.wrapped { Encoding::Base64.decode(bytes) } else { Some(bytes.into()) };
                let case_only = |a: Option<Candidate>, b: Option<Candidate>| a.zip(b).is_some_and(|(a, b)| a.eq_ignore_ascii_case(&b));
                if changed.eq_ignore_ascii_case(value.as_bytes()) || case_only(inner(&changed), inner(value.as_bytes())) {
                    continue;
                }
                let Ok(changed) = HeaderValue::from_bytes(&changed) else { continue };
                let mut forged = sample.clone();
                forged.headers.insert(name, changed.clone());
                prop_assert!(verifier.verify(forged, NOW).is_err(), "{}: {:?}", preset, changed);
            }
        }
    }

    #[test]
    fn no_scheme_text_and_no_request_panics(
        preset in prop::sample::select(preset_names().collect::<Vec<_>>()),
        key in "[a-f0-9]{40}|user:pass",
        scheme in "[a-z:{}\\[\\] ,.\"]{0,60}",
        request in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        fuzz_scheme(&[scheme.as_bytes(), &[0], &request].concat());
        let known = format!("{{ preset: {preset}, secrets: [{{ env: '{key}' }}], config: {{ {} }} }}", config(preset));
        fuzz_scheme(&[known.as_bytes(), &[0], &request].concat());
    }
}

#[test]
fn the_fuzz_target_reaches_an_accepted_request() {
    let data = b"{ token: { header: x-token, secrets: [{ env: t }] } }\0POST /in\nx-token: t\n\nbody";
    assert_eq!(fuzz_scheme(data), (true, true));
    assert_eq!(fuzz_scheme(b"none\0"), (true, true));
    assert_eq!(fuzz_scheme(b"{}"), (false, false));
}
