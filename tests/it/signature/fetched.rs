//! Keys that a request names and somebody else has: certificates and sets of keys.

use super::*;
use async_trait::async_trait;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kurier::signature::{Judged, KeyKeeper, KeyState, WantedKey};

/// Has one answer for everything, and the url that was asked for must be this one.
struct Fixed(WantedKey, KeyState);

#[async_trait]
impl KeyKeeper for Fixed {
    fn look(&self, wanted: &WantedKey) -> KeyState {
        assert_eq!(*wanted, self.0);
        self.1.clone()
    }

    async fn fetch(&self, _wanted: &WantedKey) {}
}

/// A key pair and a certificate for it that is valid in 2023.
struct Signer {
    pair: RsaKeyPair,
    pem: String,
}

impl Signer {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["sender.test".into()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2023, 1, 1);
        params.not_after = rcgen::date_time_ymd(2024, 1, 1);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pair: RsaKeyPair::from_pkcs8(&key.serialize_der()).unwrap(), pem }
    }

    fn sign(&self, message: &str) -> String {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
        STANDARD.encode(signature)
    }

    fn state(&self) -> KeyState {
        KeyState::Known(Bytes::from(self.pem.clone()))
    }
}

const CERT: &str = "https://api.paypal.com/v1/notifications/certs/CERT-1";

fn paypal(signer: &Signer, cert: &str) -> Inbound {
    let time = "2023-11-14T22:13:20Z";
    // CRC-32 of `{}`.
    let signature = signer.sign(&format!("id-1|{time}|WH-1|{}", 2_745_614_147_u32));
    let headers = [
        ("paypal-cert-url", cert),
        ("paypal-transmission-id", "id-1"),
        ("paypal-transmission-time", time),
        ("paypal-transmission-sig", signature.as_str()),
    ];
    post("/in", &headers, "{}")
}

#[test]
fn a_certificate_is_believed_from_an_allowed_host_and_while_it_is_valid() {
    let verifier = compile("{ preset: paypal, config: { webhook_id: WH-1 } }");
    let signer = Signer::new();
    let request = paypal(&signer, CERT);
    let wanted = WantedKey::Url(CERT.into());
    assert_eq!(verifier.wanted_keys(&request), std::slice::from_ref(&wanted));
    let judge = |request: Inbound, state: KeyState, now: i64| verifier.judge(request, at(now), &Fixed(wanted.clone(), state)).err();
    assert_eq!(judge(request.clone(), signer.state(), NOW), None);
    assert_eq!(judge(Inbound { body: Bytes::from("{} "), ..request.clone() }, signer.state(), NOW), Some(Refusal::Mismatch));
    assert_eq!(judge(request.clone(), Signer::new().state(), NOW), Some(Refusal::Mismatch));
    assert_eq!(judge(request.clone(), KeyState::Unavailable, NOW), Some(Refusal::KeyFetch));
    assert_eq!(judge(request.clone(), KeyState::Unknown, NOW), Some(Refusal::UnknownKey));
    assert_eq!(judge(request.clone(), KeyState::Known(Bytes::from("<html>")), NOW), Some(Refusal::UnknownKey));
    assert_eq!(judge(request, signer.state(), 1_704_067_201), Some(Refusal::UnknownKey), "expired");
    for elsewhere in
        ["https://api.paypal.com.evil.example/x", "http://api.paypal.com/x", "https://evil.example/x", "https://api.paypal.com:444/x"]
    {
        let request = paypal(&signer, elsewhere);
        assert_eq!(verifier.wanted_keys(&request), [], "{elsewhere}: nothing is fetched");
        assert_eq!(judge(request, signer.state(), NOW), Some(Refusal::UnknownKey), "{elsewhere}");
    }
}

#[test]
fn nothing_is_fetched_for_a_request_without_a_readable_signature() {
    let verifier = compile("{ preset: paypal, config: { webhook_id: WH-1 } }");
    let request = paypal(&Signer::new(), CERT);
    for signature in ["", "!!", &"A".repeat(9000)] {
        assert_eq!(verifier.wanted_keys(&with(request.clone(), "paypal-transmission-sig", signature)), [], "{signature}");
    }
    assert_eq!(compile(GITHUB).wanted_keys(&github()), []);
}

fn sns(signer: &Signer, kind: &str, extra: &str) -> Inbound {
    let cert = "https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-1.pem";
    let (time, topic) = ("2023-11-14T22:13:20Z", "arn:aws:sns:eu-central-1:1:t");
    let signed = match kind {
        "Notification" => format!("Message\nhello\nMessageId\nm-1\nTimestamp\n{time}\nTopicArn\n{topic}\nType\n{kind}\n"),
        _ => format!(
            "Message\nhello\nMessageId\nm-1\nSubscribeURL\nhttps://s\nTimestamp\n{time}\nToken\nt\nTopicArn\n{topic}\nType\n{kind}\n"
        ),
    };
    let signature = signer.sign(&signed);
    let body = format!(
        r#"{{"Type":"{kind}","MessageId":"m-1","TopicArn":"{topic}","Message":"hello","Timestamp":"{time}","SignatureVersion":"2","SigningCertURL":"{cert}","Signature":"{signature}"{extra}}}"#
    );
    post("/in", &[("x-amz-sns-message-type", "Notification")], &body)
}

#[test]
fn a_confirmation_is_kept_for_the_operator_and_never_called_a_notification() {
    let verifier = compile("{ preset: aws-sns, config: { topic_arn: 'arn:aws:sns:eu-central-1:1:t' } }");
    let signer = Signer::new();
    let wanted = WantedKey::Url("https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-1.pem".into());
    let judge = |request: Inbound| match verifier.judge(request, at(NOW), &Fixed(wanted.clone(), signer.state())) {
        Ok(Judged::Event(verified)) => Ok(verified.into_parts().1),
        Ok(Judged::Handshake(_)) => panic!("answered and not kept"),
        Err(why) => Err(why),
    };
    let facts = judge(sns(&signer, "Notification", "")).unwrap();
    assert_eq!((facts.event_type.as_deref(), facts.operator_only), (Some("Notification"), false));
    // SubscribeURL is not signed in a notification, so it must not make one of it.
    assert!(!judge(sns(&signer, "Notification", r#","SubscribeURL":"https://s","Token":"t""#)).unwrap().operator_only);
    let subscribe = r#","SubscribeURL":"https://s","Token":"t""#;
    for kind in ["SubscriptionConfirmation", "UnsubscribeConfirmation"] {
        let facts = judge(sns(&signer, kind, subscribe)).unwrap();
        assert_eq!((facts.event_type.as_deref(), facts.operator_only), (Some(kind), true));
        let forged = sns(&signer, kind, r#","SubscribeURL":"https://evil.example","Token":"t""#);
        assert_eq!(judge(forged).err(), Some(Refusal::Mismatch));
    }
    let s3 = sns(&signer, "Notification", "");
    let body = String::from_utf8(s3.body.to_vec()).unwrap().replace("sns.eu-central-1.amazonaws.com", "bucket.s3.amazonaws.com");
    assert_eq!(judge(Inbound { body: Bytes::from(body), ..s3 }).err(), Some(Refusal::UnknownKey));
}

#[test]
fn the_key_of_a_set_is_the_one_that_the_token_names() {
    let vectors: serde_json::Value = serde_json::from_slice(include_bytes!("../../fixtures/vectors.json")).unwrap();
    let vector = vectors.as_array().unwrap().iter().find(|vector| vector["id"] == "derived/plaid").unwrap();
    let token = vector["headers"]["plaid-verification"].as_str().unwrap();
    let jwk = vector["secret"]["derived-1"].to_string();
    let scheme = "algorithm: jwt, jwt: { from: header:plaid-verification, algs: [ES256], max_age: 300 }, claims: { request_body_sha256: '{body|sha256hex}' }";
    let request = post("/in", &[("plaid-verification", token)], vector["body"].as_str().unwrap());
    let now = at(vector["now"].as_i64().unwrap());

    let named = compile(&format!("{{ {scheme}, key: {{ encoding: jwk, by: 'jwt:kid', source: remote:plaid }} }}"));
    assert_eq!(named.key_sources(), ["plaid"]);
    let wanted = WantedKey::Named { source: "plaid".into(), id: "derived-1".into() };
    let known = |text: &str| KeyState::Known(Bytes::copy_from_slice(text.as_bytes()));
    assert!(named.judge(request.clone(), now, &Fixed(wanted, known(&jwk))).is_ok());

    let set = compile(&format!("{{ {scheme}, key: {{ encoding: jwk, by: 'jwt:kid', source: 'jwks:https://a.example/keys' }} }}"));
    let wanted = WantedKey::InSet { url: "https://a.example/keys".into(), id: "derived-1".into() };
    let judge = |text: &str| set.judge(request.clone(), now, &Fixed(wanted.clone(), known(text))).err();
    assert_eq!(judge(&format!(r#"{{"keys":[{{"kid":"other"}},{jwk}]}}"#)), None);
    assert_eq!(judge(&format!(r#"{{"keys":[{}]}}"#, jwk.replace("derived-1", "other"))), Some(Refusal::UnknownKey));
    assert_eq!(judge("{}"), Some(Refusal::UnknownKey));
    assert!(wanted.is_in(format!(r#"{{"keys":[{jwk}]}}"#).as_bytes()) && !wanted.is_in(b"{}"));
}
