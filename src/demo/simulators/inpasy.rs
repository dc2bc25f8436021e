//! InPaSy: ids, the start of orders, and what it calls back.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use percent_encoding::percent_decode_str;

use super::{Answer, Call, Simulator};

/// The system.
pub struct InPaSy {
    /// Where it is.
    pub server: Simulator,
    orders: Arc<Mutex<BTreeMap<String, BTreeMap<String, String>>>>,
}

/// A callback as it is made.
pub struct CallBack {
    /// What stands behind the `?`.
    pub query: String,
    /// Of the body, where there is one.
    pub content_type: Option<&'static str>,
    /// The form.
    pub body: Vec<u8>,
}

impl InPaSy {
    /// One that speaks ISO-8859-1.
    ///
    /// # Errors
    /// There is no port.
    pub async fn start() -> anyhow::Result<Self> {
        let orders: Arc<Mutex<BTreeMap<String, BTreeMap<String, String>>>> = Arc::default();
        let shared = orders.clone();
        let issued = Mutex::new(0_u64);
        let server = Simulator::start(move |call| match call.path.as_str() {
            "/id" => {
                *issued.lock() += 1;
                Answer {
                    status: 200,
                    headers: vec![("content-type", "text/plain".to_owned())],
                    body: format!("{:012}\n", 480_000_000_000 + *issued.lock()).into(),
                }
            }
            "/start" => begin(call, &mut shared.lock()),
            _ => Answer::status(404),
        })
        .await?;
        Ok(Self { server, orders })
    }

    /// The orders by their lid.
    pub fn orders(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        self.orders.lock().clone()
    }

    /// How the end of an order is called back, by GET or by POST; none for one that was never started.
    pub fn call_back(&self, lid: &str, word: &str, post: bool) -> Option<CallBack> {
        if !self.orders.lock().contains_key(lid) {
            return None;
        }
        Some(if post {
            let body = [format!("lid={lid}&status={word}&grund=Abbruch+durch+K").as_bytes(), b"\xe4ufer"].concat();
            CallBack { query: String::new(), content_type: Some("application/x-www-form-urlencoded"), body }
        } else {
            CallBack { query: format!("lid={lid}&status={word}"), content_type: None, body: vec![] }
        })
    }
}

/// Each byte is one character.
fn latin1(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).map(char::from).collect()
}

fn begin(call: &Call, orders: &mut BTreeMap<String, BTreeMap<String, String>>) -> Answer {
    let pairs = call.query.split('&').filter_map(|pair| pair.split_once('='));
    let order: BTreeMap<String, String> = pairs.map(|(name, value)| (latin1(name), latin1(value))).collect();
    let mandatory = ["vkz", "lid", "auftragsart", "Name", "Mail", "hinweis", "menge", "betrag", "Bezahlverfahren"];
    let page = |status: u16, text: String| Answer { status, headers: vec![("content-type", "text/html".to_owned())], body: text.into() };
    if let Some(missing) = mandatory.iter().find(|name| order.get(**name).is_none_or(String::is_empty)) {
        return page(400, format!("Parameter {missing} fehlt"));
    }
    let lid = order["lid"].clone();
    if order["vkz"] != "575488" || lid.len() != 12 || order.get("betraggp").is_some_and(|amount| !amount.contains('.')) {
        return page(400, "Parameter falsch".to_owned());
    }
    let method = order["Bezahlverfahren"].clone();
    orders.insert(lid.clone(), order);
    match method.as_str() {
        "rechnung" | "kostenlos" => page(200, "<p>Ihr Auftrag wurde angenommen.</p>".to_owned()),
        "giropay" | "kreditkarte" | "lastschrift" => Answer::status(302).with("location", format!("https://kasse.example/vbv?lid={lid}")),
        _ => page(400, "Bezahlverfahren unbekannt".to_owned()),
    }
}
