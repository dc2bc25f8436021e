//! d.velop smart invoice: transfers that wait, and their results.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{Answer, Call, Simulator};

/// The key of its API.
pub const API_KEY: &str = "d-velop-api-key";
/// The key of the one integration that it knows.
pub const INTEGRATION_KEY: &str = "abc";

const PATH: &str = "/smartinvoice/api/v1/transfers";

/// The system.
pub struct Dvelop {
    /// Where it is.
    pub server: Simulator,
    transfers: Arc<Mutex<Vec<Transfer>>>,
}

struct Transfer {
    listed: String,
    result: Option<Value>,
}

impl Dvelop {
    /// So many transfers wait, in pages of so many.
    ///
    /// # Errors
    /// There is no port.
    pub async fn start(count: usize, per_page: usize) -> anyhow::Result<Self> {
        let transfers: Arc<Mutex<Vec<Transfer>>> = Arc::default();
        let shared = transfers.clone();
        let server = Simulator::start(move |call| answer(call, &mut shared.lock(), per_page)).await?;
        for id in 0..count {
            let href = server.url(&format!("{PATH}/{id}"));
            // Blanks and trailing zeros, which a re-written JSON would lose.
            let listed = format!(
                r#"{{ "_links": {{"report_results_async": {{"href": "{href}"}}}}, "workflow": {{"id": {id}, "voucher": {{"gross_amount": 119.00}}}} }}"#
            );
            transfers.lock().push(Transfer { listed, result: None });
        }
        Ok(Self { server, transfers })
    }

    /// The transfers as they are listed.
    pub fn listed(&self) -> Vec<Vec<u8>> {
        self.transfers.lock().iter().map(|transfer| transfer.listed.clone().into_bytes()).collect()
    }

    /// The results reported so far.
    pub fn results(&self) -> Vec<Option<Value>> {
        self.transfers.lock().iter().map(|transfer| transfer.result.clone()).collect()
    }
}

fn answer(call: &Call, transfers: &mut [Transfer], per_page: usize) -> Answer {
    if call.header("authorization") != format!("Bearer {API_KEY}") {
        return Answer::status(401);
    }
    match (call.method.as_str(), call.path.strip_prefix(PATH)) {
        ("GET", Some("")) => list(call, transfers, per_page),
        ("POST", Some(id)) => {
            let waiting = id.strip_prefix('/').and_then(|id| transfers.get_mut(id.parse::<usize>().ok()?));
            match waiting.filter(|transfer| transfer.result.is_none()) {
                Some(transfer) => report(call, transfer),
                None => Answer::status(404),
            }
        }
        _ => Answer::status(404),
    }
}

fn list(call: &Call, transfers: &[Transfer], per_page: usize) -> Answer {
    if call.value("integration_key").as_deref() != Some(INTEGRATION_KEY) || call.header("accept") != "application/json" {
        return Answer::status(400);
    }
    let Ok(start) = call.value("start").map_or(Ok(0), |start| start.parse::<usize>()) else { return Answer::status(400) };
    let waiting: Vec<&str> =
        transfers.iter().filter(|transfer| transfer.result.is_none()).map(|transfer| transfer.listed.as_str()).collect();
    let end = (start + per_page).min(waiting.len());
    let next = if end < waiting.len() {
        format!(r#""next": {{"href": "http://{}{PATH}?integration_key={INTEGRATION_KEY}&start={end}"}}"#, call.header("host"))
    } else {
        String::new()
    };
    let page = format!(r#"{{"_links": {{{next}}}, "transfers": [{}]}}"#, waiting[start.min(end)..end].join(", "));
    Answer { status: 200, headers: vec![("content-type", "application/json".to_owned())], body: page.into_bytes() }
}

/// `successful` is mandatory; `error` with both languages stands beside false, and never beside true.
fn report(call: &Call, transfer: &mut Transfer) -> Answer {
    let refused = |why: &str| Answer::json(400, &json!({ "reason": why }));
    if call.header("content-type") != "application/json" {
        return refused("content type");
    }
    let Some(body) = call.json() else { return refused("no JSON") };
    let said = |language: &str| body.pointer(&format!("/error/{language}")).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    match body.get("successful").and_then(Value::as_bool) {
        Some(true) if body.get("error").is_none() => {}
        Some(false) if said("de") && said("en") => {}
        Some(_) => return refused("error"),
        None => return refused("successful"),
    }
    transfer.result = Some(body);
    Answer::status(204)
}
