//! BankIntegration.dk: it believes nothing that is not signed for this request and this minute.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Answer, Call, Simulator};

/// The ERP system that is registered.
pub const ERP: &str = "MyERP";
/// Its key.
pub const API_KEY: &str = "00112233-4455-6677-8899-aabbccddeeff";
/// The customer's integration code.
pub const CODE: &str = "kundekode";
/// The customer's account.
pub const ACCOUNT: &str = "52470021527478";

/// The bank.
pub struct Bank {
    /// Where it is.
    pub server: Simulator,
    state: Arc<Mutex<State>>,
}

struct State {
    /// What its clock says, `yyyy-MM-ddTHH:mm`.
    minute: String,
    payments: BTreeMap<String, Payment>,
    /// Day, id, amount.
    entries: Vec<(String, u32, &'static str)>,
}

struct Payment {
    amount: String,
    /// How often its status was asked for.
    asked: usize,
}

impl Bank {
    /// A bank whose clock stands in this minute.
    ///
    /// # Errors
    /// There is no port.
    pub async fn start(minute: &str) -> anyhow::Result<Self> {
        let entries = (1..=28).map(|day| (format!("2026-02-{day:02}"), day, "-12.50")).collect();
        let state = Arc::new(Mutex::new(State { minute: minute.to_owned(), payments: BTreeMap::new(), entries }));
        let shared = state.clone();
        let server = Simulator::start(move |call| answer(call, &mut shared.lock())).await?;
        Ok(Self { server, state })
    }

    /// Sets its clock.
    pub fn set_minute(&self, minute: &str) {
        minute.clone_into(&mut self.state.lock().minute);
    }

    /// What was paid, by paymentId.
    pub fn paid(&self) -> BTreeMap<String, String> {
        self.state.lock().payments.iter().map(|(id, payment)| (id.clone(), payment.amount.clone())).collect()
    }
}

/// [`API_KEY`] as .NET writes a GUID's bytes: the first three groups from their end.
const KEY: [u8; 16] = [0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];

fn expected(parts: [&str; 10]) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(&KEY).ok()?;
    mac.update(parts.join("#").as_bytes());
    Some(STANDARD.encode(mac.finalize().into_bytes()))
}

/// The request's id, once its authorization is found right.
fn authorized(call: &Call, state: &State, transactions: Option<&[Value]>) -> Option<String> {
    let encoded = call.header("authorization").strip_prefix("Basic ")?.to_owned();
    let content: Value = serde_json::from_slice(&STANDARD.decode(encoded).ok()?).ok()?;
    let time = content["time"].as_str()?;
    let request_id = content["requestId"].as_str()?;
    let known = content["serviceProvider"] == ERP && content["account"] == ACCOUNT && time.starts_with(&state.minute);
    let now: String = time.chars().filter(char::is_ascii_digit).collect();
    let token = hex::encode(Sha256::digest(CODE));
    let hashes = content["hash"].as_array()?;
    let right = match transactions {
        None => {
            let hash = expected([&token, ACCOUNT, "", request_id, "", "", "", ERP, request_id, &now]);
            hashes.len() == 1 && hashes[0] == json!({ "id": request_id, "hash": hash })
        }
        Some(transactions) => {
            hashes.len() == transactions.len()
                && transactions.iter().zip(hashes).all(|(one, hash)| {
                    let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
                    let (day, id, currency, account) =
                        (text("paymentDate").replace('-', ""), text("paymentId"), text("currency"), text("account"));
                    let amount = one["amount"].to_string();
                    let parts = [&token, ACCOUNT, &currency, request_id, &day, &amount, &account, ERP, &id, &now];
                    *hash == json!({ "id": id, "hash": expected(parts) })
                })
        }
    };
    (known && right && now.len() == 14).then(|| request_id.to_owned())
}

fn answer(call: &Call, state: &mut State) -> Answer {
    let body = call.json().unwrap_or(Value::Null);
    let transactions = body["transactions"].as_array().cloned();
    let paying = call.path == "/payment";
    let Some(request_id) = authorized(call, state, transactions.as_deref().filter(|_| paying)) else { return Answer::status(401) };
    let asked = call.value("requestId").or_else(|| body["requestId"].as_str().map(str::to_owned));
    if asked.as_deref() != Some(request_id.as_str()) {
        return Answer::status(400);
    }
    match (call.method.as_str(), call.path.as_str()) {
        ("POST", "/payment") => pay(&request_id, &transactions.unwrap_or_default(), state),
        ("GET", "/status") => status(&request_id, state),
        ("GET", "/report/account") => statement(call, &request_id, state),
        ("GET", "/report/balance") => {
            let entries =
                json!([{ "date": "2026-02-28", "amount": 1000.50, "type": 1 }, { "date": "2026-02-28", "amount": 988.00, "type": 2 }]);
            Answer::json(200, &json!({ "account": ACCOUNT, "requestId": request_id, "entries": entries }))
        }
        _ => Answer::status(404),
    }
}

/// A payment that is known already is not made again. One to account 0 is refused.
fn pay(request_id: &str, transactions: &[Value], state: &mut State) -> Answer {
    let answers = transactions.iter().map(|one| {
        let id = one["paymentId"].as_str().unwrap_or_default().to_owned();
        if one["account"] == "0" {
            return json!({ "paymentId": id, "status": 32, "errors": [{ "code": "12", "text": "unknown account" }] });
        }
        state.payments.entry(id.clone()).or_insert(Payment { amount: one["amount"].to_string(), asked: 0 });
        json!({ "paymentId": id, "status": 1 })
    });
    let answers: Vec<Value> = answers.collect();
    Answer::json(202, &json!({ "account": ACCOUNT, "requestId": request_id, "answers": answers }))
}

/// Created, waiting, accepted, succeeded: one step each time.
fn status(request_id: &str, state: &mut State) -> Answer {
    let answers = state.payments.iter_mut().map(|(id, payment)| {
        payment.asked += 1;
        let status = [2, 512, 4, 8][(payment.asked - 1).min(3)];
        json!({ "paymentId": id, "status": status, "errors": [] })
    });
    let answers: Vec<Value> = answers.collect();
    Answer::json(200, &json!({ "account": ACCOUNT, "requestId": request_id, "answers": answers }))
}

fn statement(call: &Call, request_id: &str, state: &State) -> Answer {
    let (Some(from), Some(to)) = (call.value("from"), call.value("to")) else { return Answer::status(400) };
    let inside = state.entries.iter().filter(|(day, ..)| (from.as_str()..=to.as_str()).contains(&day.as_str()));
    let entries: Vec<String> =
        inside.map(|(day, id, amount)| format!(r#"{{"id": {id}, "amount": {amount}, "date": {{"booked": "{day}"}}}}"#)).collect();
    let body = format!(r#"{{"account": "{ACCOUNT}", "requestId": "{request_id}", "currency": "DKK", "entries": [{}]}}"#, entries.join(","));
    Answer { status: 200, headers: vec![], body: body.into_bytes() }
}
