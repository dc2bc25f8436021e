//! Subscriptions to a topic of Amazon SNS: confirmed where the route says so, shown to the operator where it does not.

use std::sync::OnceLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kurier::clock::{Clock as _, SystemClock};
use serde_json::json;

use super::{SOON, home, look, wait_for_states};
use crate::harness::{Home, Serving, Sink, request};

const TOPIC: &str = "arn:aws:sns:eu-central-1:123456789012:orders";

/// SNS's key, and the certificate for it.
fn signer() -> &'static (RsaKeyPair, String) {
    static SIGNER: OnceLock<(RsaKeyPair, String)> = OnceLock::new();
    SIGNER.get_or_init(|| {
        let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
        let pem = rcgen::CertificateParams::new(vec!["sns.test".into()]).unwrap().self_signed(&key).unwrap().pem();
        (RsaKeyPair::from_pkcs8(&key.serialize_der()).unwrap(), pem)
    })
}

/// A message as SNS signs it.
fn message(kind: &str, id: &str, link: &str) -> String {
    let time = SystemClock.now().to_string();
    let about = if link.is_empty() { String::new() } else { format!("SubscribeURL\n{link}\n") };
    let token = if link.is_empty() { "" } else { "Token\nt\n" };
    let signed = format!("Message\nhello\nMessageId\n{id}\n{about}Timestamp\n{time}\n{token}TopicArn\n{TOPIC}\nType\n{kind}\n");
    let pair = &signer().0;
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
    let mut message = json!({
        "Type": kind, "MessageId": id, "TopicArn": TOPIC, "Message": "hello", "Timestamp": time, "SignatureVersion": "2",
        "SigningCertURL": "https://sns.eu-central-1.amazonaws.com/x.pem", "Signature": STANDARD.encode(signature),
    });
    if !link.is_empty() {
        message["SubscribeURL"] = link.into();
        message["Token"] = "t".into();
    }
    message.to_string()
}

fn link(base: &str) -> String {
    format!("{base}?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=t")
}

/// A Kurier with a route for the topic, its certificate pinned.
fn topic(erp: &Sink, acknowledge: &str) -> Home {
    let home = home(&format!(
        "routes:\n  topic:\n    path: /sns\n    verify: {{ preset: aws-sns, secrets: [{{ file: sns.pem }}], config: {{ topic_arn: '{TOPIC}' }} }}\n    \
         deliver: [erp]\n    {acknowledge}\ndestinations:\n  erp: {{ url: '{}' }}\n",
        erp.url("/")
    ));
    home.write("sns.pem", &signer().1);
    home
}

fn confirms(sns: &Sink) -> String {
    format!("acknowledge: {{ sns: {{ confirm: true, endpoint: '{}', retry: {SOON} }} }}", sns.url("/"))
}

fn send(kurier: &Serving, message: &str) -> u16 {
    request(kurier.public, "POST", "/sns", &[("content-type", "text/plain; charset=UTF-8")], message.as_bytes()).status()
}

#[test]
fn a_subscription_is_confirmed_through_faults_and_kill_9_and_only_notifications_are_delivered() {
    let (sns, erp) = (Sink::start(), Sink::start());
    sns.otherwise("503 Slow Down");
    let home = topic(&erp, &confirms(&sns));
    let kurier = home.serve();
    assert_eq!(send(&kurier, &message("SubscriptionConfirmation", "m-1", &link(&sns.url("/")))), 200);
    assert_eq!(send(&kurier, &message("SubscriptionConfirmation", "m-2", &link(&sns.url("/"))).replace("hello", "forged")), 401);
    sns.wait_for(2);
    kurier.kill();
    sns.otherwise("200 OK");
    let kurier = home.serve();
    wait_for_states(&kurier, "topic", &["delivered"]);
    let calls = sns.received();
    let asked = format!("GET /?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=t HTTP/1.1");
    assert!(calls.iter().all(|call| call.start == asked), "{calls:?}");
    let event = &look(&kurier, "/api/v1/events")["items"][0];
    assert_eq!((&event["type"], &event["deliveries"][0]["destination"]), (&json!("SubscriptionConfirmation"), &json!("topic:confirm")));

    let notification = message("Notification", "m-3", "");
    assert_eq!(send(&kurier, &notification), 200);
    assert_eq!(erp.wait_for(1)[0].text(), notification);
    // It tells of an end; the link in it would begin anew.
    assert_eq!(send(&kurier, &message("UnsubscribeConfirmation", "m-4", &link(&sns.url("/")))), 200);
    wait_for_states(&kurier, "topic", &["delivered", "delivered"]);
    let before = calls.len();
    assert!(kurier.terminate().success());
    assert_eq!((sns.received().len(), erp.received().len()), (before, 1));
}

#[test]
fn a_link_to_another_place_is_never_called_and_a_token_that_is_refused_is_a_dead_letter() {
    let (sns, elsewhere, erp) = (Sink::start(), Sink::start(), Sink::start());
    sns.otherwise("403 Forbidden");
    let home = topic(&erp, &confirms(&sns));
    let kurier = home.serve();
    assert_eq!(send(&kurier, &message("SubscriptionConfirmation", "m-1", &link(&elsewhere.url("/")))), 200);
    wait_for_states(&kurier, "topic", &["dead"]);
    assert_eq!(send(&kurier, &message("SubscriptionConfirmation", "m-2", &link(&sns.url("/")))), 200);
    wait_for_states(&kurier, "topic", &["dead", "dead"]);
    let events = look(&kurier, "/api/v1/events");
    let reasons: Vec<&str> = (0..2).map(|at| events["items"][at]["deliveries"][0]["reason"]["detail"].as_str().unwrap()).collect();
    assert!(reasons[0].contains("subscribe again") && reasons[1].contains("does not lead to where the topic is"), "{reasons:?}");
    // Once SNS takes it again, the replay goes where the confirmation went.
    sns.otherwise("200 OK");
    let id = events["items"][0]["id"].as_str().unwrap();
    let replayed = request(kurier.admin, "POST", &format!("/api/v1/events/{id}/replay"), &[], b"");
    assert_eq!(replayed.status(), 202, "{}", replayed.text());
    wait_for_states(&kurier, "topic", &["dead", "delivered", "dead"]);
    assert!(kurier.terminate().success());
    assert_eq!((sns.received().len(), elsewhere.received().len(), erp.received().len()), (2, 0, 0));

    // At the topic's own region it would be: nowhere on this machine.
    home.write(
        "routes.yaml",
        &std::fs::read_to_string(home.path().join("routes.yaml")).unwrap().replace("endpoint: ", "timeout: 1s } } # "),
    );
    let kurier = home.serve();
    assert_eq!(send(&kurier, &message("SubscriptionConfirmation", "m-3", &link(&elsewhere.url("/")))), 200);
    wait_for_states(&kurier, "topic", &["dead", "dead", "delivered", "dead"]);
    assert!(kurier.terminate().success());
    assert_eq!(elsewhere.received().len(), 0);
}

#[test]
fn without_the_setting_a_confirmation_is_only_shown() {
    let (sns, erp) = (Sink::start(), Sink::start());
    let home = topic(&erp, &format!("acknowledge: {{ sns: {{ confirm: false, endpoint: '{}' }} }}", sns.url("/")));
    let kurier = home.serve();
    assert_eq!(send(&kurier, &message("SubscriptionConfirmation", "m-1", &link(&sns.url("/")))), 200);
    let events = look(&kurier, "/api/v1/events");
    assert_eq!((events["items"].as_array().unwrap().len(), &events["items"][0]["deliveries"]), (1, &json!([])));
    assert!(kurier.terminate().success());
    assert_eq!((sns.received().len(), erp.received().len()), (0, 0));

    home.write(
        "routes.yaml",
        &std::fs::read_to_string(home.path().join("routes.yaml"))
            .unwrap()
            .replace("confirm: false", "confirm: true")
            .replace("preset: aws-sns", "preset: github")
            .replace("sns.pem }], config:", "hub.secret }] } #"),
    );
    home.write("hub.secret", "a secret of the tests");
    let checked = home.run(&["check"]);
    assert!(checked.code == Some(3) && checked.stderr.contains("no request of this route asks for a confirmation"), "{checked:?}");
}
