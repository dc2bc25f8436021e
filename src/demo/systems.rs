//! The five systems of the demo: where they are, what they have seen, and whether each journey has come to its end.

use bytes::Bytes;
use serde_json::{Value, json};
use url::Url;

use super::journey::Printer;
use super::simulators::bankintegration::{ACCOUNT, Bank, CODE, ERP};
use super::simulators::dvelop::Dvelop;
use super::simulators::inpasy::InPaSy;
use super::simulators::payjoe::{ACCESS_ID, PayJoe, USER};
use super::simulators::smartbusiness::{CLIENT_ID, CLIENT_SECRET, SmartBusiness};
use super::simulators::{Call, Simulator, bankintegration, dvelop, payjoe};

/// The simulators.
pub(super) struct Systems {
    dvelop: Dvelop,
    inpasy: InPaSy,
    payjoe: PayJoe,
    bank: Bank,
    smartbusiness: SmartBusiness,
}

/// The secrets that they know Kurier by, and the file of each.
pub(super) const SECRETS: [(&str, &str); 5] = [
    ("dvelop-api", dvelop::API_KEY),
    ("payjoe", payjoe::API_KEY),
    ("bank-key", bankintegration::API_KEY),
    ("bank-code", CODE),
    ("smartbusiness", CLIENT_SECRET),
];

impl Systems {
    pub(super) async fn start() -> anyhow::Result<Self> {
        Ok(Self {
            dvelop: Dvelop::start(1, 10).await?,
            inpasy: InPaSy::start().await?,
            payjoe: PayJoe::start().await?,
            // Its clock is the machine's.
            bank: Bank::start("").await?,
            smartbusiness: SmartBusiness::start().await?,
        })
    }

    /// Where the result of the one transfer is to be reported.
    pub(super) fn report_link(&self) -> Url {
        self.dvelop.server.url("/smartinvoice/api/v1/transfers/0")
    }

    /// The `inpasy` of a route.
    pub(super) fn inpasy(&self) -> String {
        let (start, id) = (self.inpasy.server.url("/start"), self.inpasy.server.url("/id"));
        format!(
            "{{ start_url: {start}, id_url: {id}, vkz: '575488', result: {{ param: status, success: [ok], failure: [abbruch] }}, charset: iso-8859-1 }}"
        )
    }

    /// Their destinations.
    pub(super) fn destinations(&self) -> String {
        let (payjoe, bank) = (self.payjoe.server.url("/zahlungsupload"), self.bank.server.url(""));
        let smartbusiness = self.smartbusiness.server.url("/v2");
        format!(
            "  bookkeeping:
    payjoe: {{ url: {payjoe}, user: {USER}, api_key: {{ file: payjoe.secret }}, access_id: {ACCESS_ID}, batch: {{ wait: 200ms }} }}
  bank:
    bankintegration:
      base_url: {bank}
      erp: {ERP}
      api_key: {{ file: bank-key.secret }}
      account: '{ACCOUNT}'
      integration_code: {{ file: bank-code.secret }}
  invoicing:
    smartbusiness:
      base_url: {smartbusiness}
      client_id: {CLIENT_ID}
      client_secret: {{ file: smartbusiness.secret }}
      scopes: [invoice]
      request: POST /receivables/invoices
"
        )
    }

    /// An order as an application places it.
    pub(super) fn order() -> Bytes {
        let order = json!({
            "auftragsart": "H010002", "Name": "Müller", "Mail": "k.mueller@example.de", "hinweis": "Kartenbestellung",
            "menge": "2", "betrag": "10.00", "Bezahlverfahren": "giropay",
        });
        order.to_string().into()
    }

    /// Prints what was asked of them since the last time.
    pub(super) async fn tell(&self, printer: &Printer) {
        let all: [(&str, &Simulator); 5] = [
            ("d.velop", &self.dvelop.server),
            ("InPaSy", &self.inpasy.server),
            ("PayJoe", &self.payjoe.server),
            ("bank", &self.bank.server),
            ("SmartBusiness", &self.smartbusiness.server),
        ];
        for (name, server) in all {
            for (call, status) in server.take_answered() {
                printer.turn().await.asked(name, &call, status, meaning(&call));
            }
        }
    }

    /// What of the five journeys has not come to its end.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        let reported = self.dvelop.results().first().cloned().flatten() == Some(json!({ "successful": true }));
        let ends = [
            (reported, "d.velop: the result of the transfer"),
            (self.inpasy.orders().len() == 1, "InPaSy: the start of the order"),
            (self.payjoe.payments().len() == 1, "PayJoe: the record of the payment"),
            (self.bank.paid().values().map(String::as_str).eq(["1190.00"]), "BankIntegration.dk: the payment"),
            (self.smartbusiness.invoices().len() == 1, "SmartBusiness: the invoice"),
        ];
        ends.into_iter().filter(|(is_there, _)| !is_there).map(|(_, what)| what).collect()
    }
}

fn meaning(call: &Call) -> &'static str {
    match (call.method.as_str(), call.path.as_str()) {
        (_, path) if path.starts_with("/smartinvoice") => {
            match call.json().and_then(|body| body.get("successful").and_then(Value::as_bool)) {
                Some(true) => "the result is reported: the ERP system has the invoice",
                Some(false) | None => "the result is reported: the invoice did not arrive",
            }
        }
        (_, "/id") => "a transaction id is fetched",
        (_, "/start") => "the payment is started",
        (_, "/zahlungsupload") => "the payment is uploaded as a record",
        (_, "/payment") => "the payment request arrives, signed for this minute",
        (_, path) if path.ends_with("/access-tokens") => "a token for the client's credentials",
        ("POST", _) => "the invoice is made",
        _ => "",
    }
}
