//! The connectors' wire functions against the simulated systems, over real sockets.

mod bankintegration;
mod dvelop;
mod inpasy;
mod payjoe;
mod smartbusiness;

use std::time::Duration;

use kurier::connectors::{Holds, Key, Reply, Request};
use kurier::egress::{FETCHED_BODY_BYTES_MAX, Fault, HttpTransport, Outbound, PublicTransport, Reach, Transport};
use kurier::model::{EventId, Secret};

/// Long enough for a busy machine, short enough for a hanging system.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Makes the request as an attempt does.
async fn send(request: Request) -> Result<kurier::egress::Reply, Fault> {
    send_within(request, TIMEOUT).await
}

async fn send_within(request: Request, timeout: Duration) -> Result<kurier::egress::Reply, Fault> {
    over(&HttpTransport::new().unwrap().reading(FETCHED_BODY_BYTES_MAX), request, timeout).await
}

/// Makes a request to a url that came out of a payload.
async fn send_to_payload_url(request: Request) -> Result<kurier::egress::Reply, Fault> {
    over(&PublicTransport::and_private(vec!["127.0.0.0/8".parse().unwrap()]).unwrap(), request, TIMEOUT).await
}

async fn over(transport: &dyn Transport, request: Request, timeout: Duration) -> Result<kurier::egress::Reply, Fault> {
    let Request { method, url, headers, body } = request;
    transport.send(Outbound { method, url, headers, body, timeout, tls: None, reach: Reach::Anywhere }).await
}

/// A reply as the connectors see it.
fn seen(reply: &kurier::egress::Reply) -> Reply<'_> {
    Reply { status: reply.status, headers: &reply.headers, body: &reply.body, truncated: reply.truncated }
}

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

fn event() -> EventId {
    "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap()
}

/// What the page says of one system.
fn section(title: &str) -> String {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/systems.md")).unwrap();
    let (_, rest) = page.split_once(&format!("\n## {title}\n")).unwrap();
    rest.split("\n## ").next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn missing(text: &str, keys: &[Key], complaints: &mut Vec<String>) {
    for key in keys {
        if !text.contains(&format!("`{}`", key.name)) {
            complaints.push(format!("the key `{}`", key.name));
        }
        if !matches!(key.holds, Holds::Object(_)) && !text.replace('`', "").contains(key.default) {
            complaints.push(format!("the default of `{}`, {}", key.name, key.default));
        }
        assert!(!key.doc.is_empty(), "{}", key.name);
        assert!(!key.required || key.default.is_empty(), "{}", key.name);
        if let Holds::Object(inner) = key.holds {
            missing(text, inner, complaints);
        }
    }
}

#[test]
fn the_page_about_the_systems_names_every_key() {
    use kurier::connectors::{bankintegration, dvelop, inpasy, payjoe, smartbusiness};
    for (title, tables) in [
        ("d.velop smart invoice", vec![dvelop::PULL_KEYS, dvelop::ACKNOWLEDGE_KEYS]),
        ("InPaSy", vec![inpasy::KEYS]),
        ("PayJoe", vec![payjoe::KEYS]),
        ("BankIntegration.dk", vec![bankintegration::KEYS, bankintegration::PULL_KEYS]),
        ("PostFinance SmartBusiness", vec![smartbusiness::KEYS, smartbusiness::PULL_KEYS]),
    ] {
        let mut complaints = Vec::new();
        let text = section(title);
        tables.into_iter().for_each(|keys| missing(&text, keys, &mut complaints));
        assert!(complaints.is_empty(), "docs/systems.md, {title}, lacks {complaints:?}");
    }
}

#[test]
fn the_page_names_every_parameter_that_an_order_needs_and_every_field_that_a_payment_needs() {
    let (orders, payments) = (section("InPaSy"), section("PayJoe"));
    for parameter in kurier::connectors::inpasy::PARAMETERS.iter().filter(|parameter| parameter.mandatory) {
        assert!(orders.contains(&format!("`{}`", parameter.name)), "{}", parameter.name);
    }
    for field in kurier::connectors::payjoe::FIELDS.iter().filter(|field| field.mandatory) {
        assert!(payments.contains(&format!("`{}`", field.name)), "{}", field.name);
    }
}
