//! PostFinance SmartBusiness: tokens that end, refresh tokens that count once, invoices whose numbers are unique.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Answer, Call, Simulator};

/// The client.
pub const CLIENT_ID: &str = "client";
/// Its secret.
pub const CLIENT_SECRET: &str = "client-secret";
/// Where the client says that browsers come back to.
pub const REDIRECT: &str = "https://hooks.example.ch/oauth/smartbusiness";

/// The system.
pub struct SmartBusiness {
    /// Where it is.
    pub server: Simulator,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    issued: u64,
    access: BTreeSet<String>,
    refresh: BTreeSet<String>,
    /// Codes with their PKCE challenge.
    codes: BTreeMap<String, String>,
    invoices: Vec<Value>,
    /// Requests left before the limit.
    left: Option<u32>,
}

impl SmartBusiness {
    /// Empty, and without anybody's consent.
    ///
    /// # Errors
    /// There is no port.
    pub async fn start() -> anyhow::Result<Self> {
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = state.clone();
        let server = Simulator::start(move |call| answer(call, &mut shared.lock())).await?;
        Ok(Self { server, state })
    }

    /// The invoices that it has.
    pub fn invoices(&self) -> Vec<Value> {
        self.state.lock().invoices.clone()
    }

    /// So many invoices were made by others.
    pub fn add_invoices(&self, count: usize) {
        let invoices = &mut self.state.lock().invoices;
        for _ in 0..count {
            let id = invoices.len() + 1;
            invoices.push(json!({ "id": id, "number": format!("OLD-{id}"), "total": 10.50 }));
        }
    }

    /// All access tokens end now.
    pub fn end_access(&self) {
        self.state.lock().access.clear();
    }

    /// So many requests more.
    pub fn leave(&self, requests: u32) {
        self.state.lock().left = Some(requests);
    }

    /// The browser of a customer who says yes: where it is sent back to; none where the customer is not asked at all.
    pub fn approve(&self, authorize: &url::Url) -> Option<url::Url> {
        let value = |name: &str| authorize.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned());
        let expected = [("response_type", "code"), ("client_id", CLIENT_ID), ("redirect_uri", REDIRECT), ("code_challenge_method", "S256")];
        if expected.iter().any(|(name, right)| value(name).as_deref() != Some(right)) {
            return None;
        }
        let mut state = self.state.lock();
        state.issued += 1;
        let code = format!("code-{}", state.issued);
        state.codes.insert(code.clone(), value("code_challenge")?);
        let mut back: url::Url = REDIRECT.parse().ok()?;
        back.query_pairs_mut().append_pair("code", &code).append_pair("state", &value("state")?);
        Some(back)
    }
}

fn answer(call: &Call, state: &mut State) -> Answer {
    if (call.method.as_str(), call.path.as_str()) == ("POST", "/v2/auth/access-tokens") {
        return token(call, state);
    }
    let access = call.header("authorization").strip_prefix("Bearer ").unwrap_or_default().to_owned();
    if !state.access.contains(&access) {
        return error(401, "unauthorized", &json!([]));
    }
    match &mut state.left {
        Some(0) => return error(429, "too_many_requests", &json!([])).with("x-rate-limit-remaining", "0").with("x-rate-limit-reset", "42"),
        Some(left) => *left -= 1,
        None => {}
    }
    let limits = |answer: Answer, left: Option<u32>| match left {
        Some(left) => answer.with("x-rate-limit-remaining", left.to_string()).with("x-rate-limit-reset", "42"),
        None => answer,
    };
    let answer = match (call.method.as_str(), call.path.as_str()) {
        ("POST", "/v2/receivables/invoices") => create(call, state),
        ("GET", "/v2/receivables/invoices") => list(call, state),
        _ => error(404, "not_found", &json!([])),
    };
    limits(answer, state.left)
}

fn error(status: u16, code: &str, errors: &Value) -> Answer {
    Answer::json(status, &json!({ "code": code, "message": code, "meta": { "errors": errors } })).with("x-request-id", "req-77")
}

fn token(call: &Call, state: &mut State) -> Answer {
    let fields: BTreeMap<String, String> = match call.header("content-type") {
        "application/json" => serde_json::from_slice(&call.body).unwrap_or_default(),
        "application/x-www-form-urlencoded" => url::form_urlencoded::parse(&call.body).into_owned().collect(),
        _ => return Answer::status(415),
    };
    let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
    let refused = |word: &str| Answer::json(400, &json!({ "error": word }));
    if (field("client_id"), field("client_secret")) != (CLIENT_ID, CLIENT_SECRET) {
        return refused("invalid_client");
    }
    let personal = match field("grant_type") {
        "client_credentials" => false,
        // Used up, whatever becomes of the answer.
        "refresh_token" if state.refresh.remove(field("refresh_token")) => true,
        "authorization_code" => {
            let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(field("code_verifier")));
            if field("redirect_uri") != REDIRECT || state.codes.remove(field("code")) != Some(challenge) {
                return refused("invalid_grant");
            }
            true
        }
        "refresh_token" => return refused("invalid_grant"),
        _ => return refused("unsupported_grant_type"),
    };
    state.issued += 1;
    let (access, refresh) = (format!("access-{}", state.issued), format!("refresh-{}", state.issued));
    state.access.insert(access.clone());
    let mut body = json!({ "token_type": "Bearer", "expires_in": 43200, "access_token": access });
    if personal {
        state.refresh.insert(refresh.clone());
        body["refresh_token"] = refresh.into();
    }
    Answer::json(201, &body)
}

fn create(call: &Call, state: &mut State) -> Answer {
    let Some(invoice) = call.json().filter(Value::is_object) else { return error(400, "bad_request", &json!([])) };
    let missing: Vec<Value> = ["contact_id", "date", "positions"]
        .iter()
        .filter(|name| invoice[**name].is_null())
        .map(|name| json!({ "key": name, "code": 1000, "message": "is required" }))
        .collect();
    if !missing.is_empty() {
        return error(422, "validation_failed", &missing.into());
    }
    if state.invoices.iter().any(|other| other["number"] == invoice["number"]) {
        return error(422, "validation_failed", &json!([{ "key": "number", "code": 1105, "message": "already exists" }]));
    }
    let mut item = invoice;
    item["id"] = (state.invoices.len() + 1).into();
    state.invoices.push(item.clone());
    Answer::json(201, &json!({ "item": item }))
}

fn list(call: &Call, state: &State) -> Answer {
    let number = |name: &str| call.value(name).and_then(|text| text.parse::<usize>().ok());
    let (Some(limit @ 1..=200), Some(offset)) = (number("limit"), number("offset")) else { return error(400, "bad_request", &json!([])) };
    let items: Vec<&Value> = state.invoices.iter().skip(offset).take(limit).collect();
    Answer::json(200, &json!({ "items": items, "pagination": { "total": state.invoices.len() } }))
}
