//! PayJoe: the upload of payments.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{Answer, Call, Simulator};

/// The customer.
pub const USER: &str = "kunde@payjoe.de";
/// The customer's key.
pub const API_KEY: &str = "3k5TStP?=k(!w";
/// The customer's access.
pub const ACCESS_ID: u64 = 5697;

/// The system.
pub struct PayJoe {
    /// Where it is.
    pub server: Simulator,
    payments: Arc<Mutex<BTreeMap<String, Value>>>,
}

impl PayJoe {
    /// Records whose `Buchungstext` is `refuse` are refused for reasons that no document names.
    ///
    /// # Errors
    /// There is no port.
    pub async fn start() -> anyhow::Result<Self> {
        let payments: Arc<Mutex<BTreeMap<String, Value>>> = Arc::default();
        let shared = payments.clone();
        let server = Simulator::start(move |call| answer(call, &mut shared.lock())).await?;
        Ok(Self { server, payments })
    }

    /// What was uploaded, by its UniqueIdentifier.
    pub fn payments(&self) -> BTreeMap<String, Value> {
        self.payments.lock().clone()
    }
}

fn answer(call: &Call, payments: &mut BTreeMap<String, Value>) -> Answer {
    if (call.method.as_str(), call.path.as_str()) != ("POST", "/zahlungsupload") {
        return Answer::status(404);
    }
    let Some(body) = call.json() else { return Answer::status(400) };
    let credentials = (body["UserName"].as_str(), body["APIKey"].as_str(), body["ZugangID"].as_u64());
    if credentials != (Some(USER), Some(API_KEY), Some(ACCESS_ID)) {
        return Answer::json(
            401,
            &json!({ "Message": "Authorization has been denied", "UserName": body["UserName"], "APIKey": body["APIKey"] }),
        );
    }
    let Some(records) = body["Zahlungen"].as_array() else { return Answer::status(400) };
    if records.len() > 500 {
        return Answer::status(413);
    }
    // All or nothing, and without a word about which.
    if records.is_empty() || !records.iter().all(acceptable) {
        return Answer::json(200, &json!({ "Erfolgreich": false, "Fehler": "Die Zahlungen konnten nicht verarbeitet werden." }));
    }
    for record in records {
        payments.insert(record["UniqueIdentifier"].as_str().unwrap_or_default().to_owned(), record.clone());
    }
    Answer::json(200, &json!({ "Erfolgreich": true, "LetztesZahlungsdatum": "2018-01-07T14:50:55.26" }))
}

/// The table of the document: name, mandatory, longest text.
fn acceptable(record: &Value) -> bool {
    let mandatory = ["Buchungsdatum", "Valutadatum", "Waehrung", "BruttoBetrag", "BruttoWaehrung"];
    let longest = [
        ("UniqueIdentifier", 80),
        ("BankleitzahlZahlender", 10),
        ("BIC", 11),
        ("KontonummerZahlender", 20),
        ("IBAN", 34),
        ("NameZahlender1", 100),
        ("NameZahlender2", 100),
        ("Belegnummer", 30),
        ("Bestellnummer", 30),
        ("TransaktionsID", 100),
        ("Kundennummer", 30),
        ("Referenz1", 50),
        ("Referenz2", 50),
        ("Referenz3", 50),
        ("Referenz4", 50),
        ("Marktplatz", 50),
        ("Zahlungstyp", 50),
        ("Buchungstext", 50),
    ];
    mandatory.iter().all(|name| !record[name].is_null())
        && longest
            .iter()
            .all(|(name, max)| record[name].is_null() || record[name].as_str().is_some_and(|text| text.chars().count() <= *max))
        && record["UniqueIdentifier"].is_string()
        && record["Buchungstext"] != "refuse"
}
