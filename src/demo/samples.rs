//! The demo's configuration and its sample callbacks.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use url::Url;

use super::systems::{SECRETS, Systems};

use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::egress::{HttpTransport, Outbound, Reach, Transport};
use crate::model::Inbound;
use crate::signature::new_signing_secret;

/// A d.velop smart invoice notification, after the vendor's description of the format.
const INVOICE: &str = r#"{"event_type":"integration.export","_links":{"dmsobject":{"href":"https://demo.d-velop.cloud/dms/o2/4711"},"report_results_async":{"href":"REPORT_LINK"}},"workflow":{"id":"4711","voucher":{"doc_id":"D0815","vendor":{"nr":"70001","name":"Müller & Söhne GmbH"},"currency":{"code":"EUR"},"net_amount":1000.00,"gross_amount":1190.00,"external_number":"RE-2026-0042"}}}"#;
const PAYMENT: &str = r#"{"type":"invoice.paid","timestamp":"2026-11-24T08:00:00Z","data":{"id":"inv_42","amount":"1190.00","currency":"EUR","paid_at":"2026-11-24","payer":"Müller & Söhne GmbH"}}"#;
const WAGES: &str = r#"{"requestId":"WAGES-2026-12","transactions":[{"paymentId":"W-1","paymentDate":"2026-12-01","amount":"1190.00","currency":"DKK","account":"80790000820049","text":"Løn"}]}"#;
const ORDER: &str = r#"{"type":"order.placed","timestamp":"2026-11-24T08:00:00Z","data":{"order":"B42","customer":1,"date":"2026-11-24","text":"2 Karten","price":595.00,"quantity":2}}"#;
const PUSH: &str = r#"{"ref":"refs/heads/main","after":"0d1a26e67d8f5eaf1f6ba5c57fc3c7d91ac0fd1c","repository":{"full_name":"acme/shop"}}"#;
const BASKET: &str = "aid=1&amount=11%2C90&basketid=B42&currency=EUR&directPosErrorCode=0&orderid=123456789014&rc=000&retrefnum=R42&sessionid=S42&trefnum=T42";

/// The demo's secrets, fresh at every start.
pub(super) struct Secrets {
    dvelop: String,
    pub(super) signing: String,
    others: Vec<(&'static str, String)>,
}

impl Secrets {
    pub(super) fn fresh() -> anyhow::Result<Self> {
        let signing = || new_signing_secret().map_err(|problem| anyhow!(problem));
        // Letters and digits only: it stands in a shell command that is to be pasted.
        let plain = || signing().map(|secret| secret.trim_start_matches("whsec_").replace(['+', '/', '='], "x"));
        let known = SECRETS.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let mut others =
            vec![("inpasy", plain()?), ("standard", signing()?), ("github", plain()?), ("kasse", plain()?), ("giro", plain()?)];
        others.extend(known);
        Ok(Self { dvelop: plain()?, signing: signing()?, others })
    }

    /// Writes each into a file of its own, as a container's secrets would be mounted.
    pub(super) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let all = self.others.iter().map(|(name, value)| (*name, value)).chain([("dvelop", &self.dvelop), ("signing", &self.signing)]);
        for (name, value) in all {
            std::fs::write(folder.join(format!("{name}.secret")), value).context("writing a secret of the demo")?;
        }
        Ok(())
    }
}

/// The demo's routes.yaml.
pub(super) fn routes_yaml(systems: &Systems, erp: &str, shop: &str, till: &str) -> String {
    let (inpasy, destinations) = (systems.inpasy(), destinations(systems, erp, shop, till));
    format!(
        r#"# Written by `kurier demo`; gone when it ends.
server: {{ listen: 127.0.0.1:0 }}
admin: {{ listen: 127.0.0.1:0 }}
# A demonstration may lie on a container's own file system; what has to last may not.
store: {{ path: ./data, allow_file_systems: [overlay] }}
routes:
  invoices:
    path: /callbacks/dvelop
    verify: {{ preset: dvelop-smart-invoice, secrets: [{{ file: dvelop.secret }}] }}
    deliver: [erp]
    acknowledge: # d.velop is told what became of it
      dvelop:
        auth: {{ bearer: {{ file: dvelop-api.secret }} }}
        allowed_hosts: [127.0.0.1]
        allow_private: [127.0.0.0/8]
        error: {{ de: "Übergabe fehlgeschlagen: {{reason}}", en: "Transfer failed: {{reason}}" }}
  payments:
    path: /callbacks/inpasy
    methods: [GET, POST]
    verify: {{ basic: {{ user: inpasy, password: {{ file: inpasy.secret }} }} }}
    inpasy: {inpasy}
    deliver: [till]
  billing:
    path: /callbacks/billing
    verify: {{ preset: standard-webhooks, secrets: [{{ file: standard.secret }}] }}
    deliver:
      - erp
      - to: bookkeeping # the payment as a record of PayJoe
        transform: |
          .body.data | {{
            UniqueIdentifier: .id, Buchungsdatum: .paid_at, Valutadatum: .paid_at, Waehrung: .currency,
            BruttoBetrag: .amount, BruttoWaehrung: .currency, NameZahlender1: .payer
          }}
  wages:
    path: /callbacks/wages
    verify: {{ preset: standard-webhooks, secrets: [{{ file: standard.secret }}] }}
    deliver: [bank]
  orders:
    path: /callbacks/orders
    verify: {{ preset: standard-webhooks, secrets: [{{ file: standard.secret }}] }}
    deliver:
      - to: invoicing # the order as an invoice of SmartBusiness
        transform: |
          .body.data | {{
            number: ("R-" + .order), contact_id: .customer, date: .date,
            positions: [{{ type: "N", name: .text, price: .price, amount: .quantity }}]
          }}
  code:
    path: /callbacks/github
    verify: {{ preset: github, secrets: [{{ file: github.secret }}] }}
    deliver: [shop]
  kasse:
    path: /callbacks/kasse
    verify:
      preset: sparkassen-internetkasse
      secrets: [{{ file: kasse.secret }}]
      config: {{ success_url: "https://shop.example/danke", failure_url: "https://shop.example/abbruch" }}
    deliver: [shop]
  giro:
    path: /callbacks/giro
    verify: {{ preset: girocheckout, secrets: [{{ file: giro.secret }}] }}
    deliver: [till]
{destinations}"#
    )
}

fn destinations(systems: &Systems, erp: &str, shop: &str, till: &str) -> String {
    let mut destinations = format!(
        r#"destinations:
  erp:
    url: {erp}
    sign: {{ secrets: [{{ file: signing.secret }}] }}
    retry: {{ first: 500ms, min: 300ms, max: 1s }}
  shop:
    url: {shop}
    sign: {{ secrets: [{{ file: signing.secret }}] }}
    retry: {{ first: 500ms, min: 300ms, max: 1s }}
  till: # a GET has no body: its query comes as JSON
    url: {till}
    as: json
    sign: {{ secrets: [{{ file: signing.secret }}] }}
    retry: {{ first: 500ms, min: 300ms, max: 1s }}
"#
    );
    destinations += &systems.destinations();
    destinations
}

/// One callback to send and what must come of it.
pub(super) struct Sample {
    pub(super) title: &'static str,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) expected_status: u16,
    /// Whether a delivery of its own must arrive.
    pub(super) arrives: bool,
    /// Whether it is sent for the second time.
    pub(super) repeat: bool,
    request: Inbound,
}

impl Sample {
    /// Sends it and returns the answer's status.
    pub(super) async fn send(&self, base: &str, transport: &HttpTransport) -> anyhow::Result<u16> {
        let target = std::str::from_utf8(&self.request.target).context("the sample's target")?;
        let url = Url::parse(&format!("{base}{target}")).context("the sample's url")?;
        let request = Outbound {
            method: self.request.method.clone(),
            url,
            headers: self.request.headers.clone(),
            body: self.request.body.clone(),
            timeout: Duration::from_secs(10),
            tls: None,
            reach: Reach::Anywhere,
        };
        let reply = transport.send(request).await.with_context(|| format!("sending {}", self.title))?;
        Ok(reply.status.as_u16())
    }
}

/// All samples, signed for the routes of this configuration: a transfer whose result is to be reported there, and the
/// completion of this order.
pub(super) fn all(config: &Config, report_link: &Url, lid: &str) -> anyhow::Result<Vec<Sample>> {
    let invoice = INVOICE.replace("REPORT_LINK", report_link.as_str());
    let (paid, paid_by_get) = (format!("lid={lid}&status=ok"), format!("/callbacks/inpasy?lid={lid}&status=ok"));
    let json = ("content-type", "application/json");
    let form = ("content-type", "application/x-www-form-urlencoded");
    let mut samples = vec![
        signed(config, "d.velop smart invoice", "invoices", Method::POST, "/callbacks/dvelop", &[json], &invoice)?,
        signed(config, "InPaSy completion, by GET", "payments", Method::GET, &paid_by_get, &[], "")?,
        Sample {
            arrives: false,
            repeat: true,
            ..signed(config, "InPaSy completion, again by form", "payments", Method::POST, "/callbacks/inpasy", &[form], &paid)?
        },
        signed(config, "Standard Webhooks", "billing", Method::POST, "/callbacks/billing", &[json], PAYMENT)?,
        Sample { arrives: false, ..signed(config, "an order to pay wages", "wages", Method::POST, "/callbacks/wages", &[json], WAGES)? },
        Sample { arrives: false, ..signed(config, "an order of a shop", "orders", Method::POST, "/callbacks/orders", &[json], ORDER)? },
        signed(config, "GitHub push", "code", Method::POST, "/callbacks/github", &[json, ("x-github-event", "push")], PUSH)?,
        signed(config, "Sparkassen-Internetkasse", "kasse", Method::POST, "/callbacks/kasse", &[form], BASKET)?,
        signed(
            config,
            "GiroCheckout",
            "giro",
            Method::GET,
            "/callbacks/giro?gcReference=ref-42&gcMerchantTxId=123456789015&gcBackendTxId=BTX42&gcAmount=1190&gcCurrency=EUR&gcResultPayment=4000",
            &[],
            "",
        )?,
    ];
    let push = samples.iter().find(|sample| sample.title == "GitHub push").ok_or_else(|| anyhow!("no sample to repeat"))?;
    let again = Sample {
        title: "GitHub push, sent again",
        arrives: false,
        repeat: true,
        request: push.request.clone(),
        method: push.method.clone(),
        path: push.path.clone(),
        ..*push
    };
    let mut forged = signed(config, "d.velop smart invoice, forged", "invoices", Method::POST, "/callbacks/dvelop", &[json], &invoice)?;
    forged.request.body = Bytes::from(invoice.replace("1190.00", "9990.00"));
    samples.extend([again, Sample { expected_status: 401, arrives: false, ..forged }]);
    Ok(samples)
}

fn signed(
    config: &Config,
    title: &'static str,
    route: &str,
    method: Method,
    target: &str,
    headers: &[(&'static str, &'static str)],
    body: &str,
) -> anyhow::Result<Sample> {
    let route = config.route(route).ok_or_else(|| anyhow!("the demo has no route {route}"))?;
    let headers: HeaderMap = headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect();
    let now = SystemClock.now();
    let draft = Inbound {
        method: method.clone(),
        target: Bytes::copy_from_slice(target.as_bytes()),
        base: Arc::from("http://127.0.0.1"),
        headers,
        body: Bytes::copy_from_slice(body.as_bytes()),
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        received_at: now,
    };
    let request = route.verifier.sample(draft, now).map_err(|problem| anyhow!("signing {title}: {problem}"))?;
    let path = target.split('?').next().unwrap_or(target).to_owned();
    let expected_status = if *route.name == *"invoices" { 202 } else { 200 };
    Ok(Sample { title, method, path, expected_status, arrives: true, repeat: false, request })
}

/// What the demo says when it stays up: how to send a callback of one's own.
pub(super) fn invitation(public: SocketAddr, admin: SocketAddr, secrets: &Secrets) -> String {
    let text = String::from("\nAll samples arrived. Send a signed callback of your own:\n\n");
    let secret = &secrets.dvelop;
    let lines = [
        "  body='{\"event_type\":\"integration.export\",\"workflow\":{\"id\":\"mine-1\"}}'; t=$(date +%s)".to_owned(),
        format!("  sig=$(printf '%s.%s' \"$t\" \"$body\" | openssl dgst -sha256 -hmac '{secret}' | sed 's/^.* //')"),
        format!(
            "  curl -i http://{public}/callbacks/dvelop -H 'Content-Type: application/json' -H \"X-Smart-Invoice-Signature: t=$t,v1=$sig\" -d \"$body\""
        ),
        String::new(),
        format!("  kurier events --admin-url http://{admin}        # what was taken in, and where it went"),
        format!("  curl http://{admin}/metrics"),
        String::new(),
        "Ctrl-C ends the demo.".to_owned(),
    ];
    text + &lines.join("\n")
}
