//! One event as one payment request: checked, with its ids kept stable, and made anew for each attempt.

use http::Method;
use http::header::AUTHORIZATION;
use jiff::civil::Date;
use rust_decimal::Decimal;
use serde_json::{Map, Number, Value};

use super::authorization::Authorization;
use super::settings::Settings;
use crate::connectors::{Request, amount, json, text};
use crate::model::{EventId, Timestamp};

/// Most transactions of one request; the length of the header may allow fewer.
pub const TRANSACTIONS_MAX: usize = 200;

/// Longest request, payment or account id.
const ID_CHARS_MAX: usize = 64;

/// What of a transaction is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Its id, the same in every attempt: the vendor knows a repeat by it.
    pub payment_id: String,
    /// The day of the payment.
    pub date: Date,
    /// The amount.
    pub amount: Decimal,
    /// ISO 4217 letters.
    pub currency: String,
    /// The credited account.
    pub account: String,
}

/// A checked payment request.
#[derive(Debug, Clone, PartialEq)]
pub struct Payment {
    /// Its id, the same in every attempt.
    pub request_id: String,
    /// What of it is signed.
    pub transactions: Vec<Transaction>,
    body: Vec<u8>,
}

/// Why an event is no payment request. Every field that is wrong is named.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct PaymentProblem(Vec<String>);

impl PaymentProblem {
    /// As the reason of a dead letter.
    pub fn reason(&self) -> String {
        text::line(&self.to_string())
    }
}

impl Payment {
    /// The payment request of an event whose body (or what `transform` made of it) is `body`. A missing `requestId` is
    /// the event's id, a missing `paymentId` that with the transaction's number; other fields pass through untouched.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn new(body: &[u8], event: EventId) -> Result<Self, PaymentProblem> {
        let one = |problem: &str| PaymentProblem(vec![problem.to_owned()]);
        let Ok(Value::Object(mut fields)) = serde_json::from_slice(body) else {
            return Err(one("the payment request is not a JSON object"));
        };
        let mut problems = Vec::new();
        let request_id = id(&mut fields, "requestId", "requestId", || event.to_string(), &mut problems);
        if fields.get("options").and_then(|options| options.get("skipDuplicateCheck")).and_then(Value::as_bool) == Some(true) {
            problems.push("`options.skipDuplicateCheck`: must not be true: an event may be sent twice, and must be paid once".to_owned());
        }
        let Some(Value::Array(items)) = fields.get_mut("transactions") else {
            problems.push("`transactions`: is missing, or no list".to_owned());
            return Err(PaymentProblem(problems));
        };
        if items.is_empty() || items.len() > TRANSACTIONS_MAX {
            problems.push(format!("`transactions`: must be 1 to {TRANSACTIONS_MAX}"));
            return Err(PaymentProblem(problems));
        }
        let mut transactions: Vec<Transaction> = Vec::with_capacity(items.len());
        for (at, item) in items.iter_mut().enumerate() {
            let path = format!("transactions[{at}]");
            let Value::Object(item) = item else {
                problems.push(format!("`{path}`: is no object"));
                continue;
            };
            if let Some(transaction) = transaction(item, &path, || format!("{event}-{}", at + 1), &mut problems) {
                if transactions.iter().any(|other| other.payment_id == transaction.payment_id) {
                    problems.push(format!("`{path}.paymentId`: stands twice"));
                }
                transactions.push(transaction);
            }
        }
        match request_id {
            Some(request_id) if problems.is_empty() => {
                Ok(Self { request_id, transactions, body: Value::Object(fields).to_string().into() })
            }
            Some(_) | None => Err(PaymentProblem(problems)),
        }
    }

    /// The request, with the authorization as of `now`. It is made for one attempt.
    ///
    /// # Errors
    /// Why there is none; it won't be another time either.
    pub fn request(&self, settings: &Settings, now: Timestamp) -> Result<Request, String> {
        let header = Authorization::new(settings, &self.request_id, now)?.of_payments(&self.transactions)?;
        let mut request = Request::json(Method::POST, settings.url("payment"), self.body.clone());
        request.headers.insert(AUTHORIZATION, header);
        Ok(request)
    }
}

/// The request that calls these payments off.
///
/// # Errors
/// Why there is none.
pub fn cancel(settings: &Settings, request_id: &str, payments: &Payment, now: Timestamp) -> Result<Request, String> {
    let header = Authorization::new(settings, request_id, now)?.of_payments(&payments.transactions)?;
    let ids: Vec<Value> = payments.transactions.iter().map(|one| serde_json::json!({ "paymentId": one.payment_id })).collect();
    let body = serde_json::json!({ "requestId": request_id, "transactions": ids }).to_string();
    let mut request = Request::json(Method::POST, settings.url("payment/cancel"), body);
    request.headers.insert(AUTHORIZATION, header);
    Ok(request)
}

fn transaction(
    item: &mut Map<String, Value>,
    path: &str,
    default_id: impl FnOnce() -> String,
    problems: &mut Vec<String>,
) -> Option<Transaction> {
    let payment_id = id(item, "paymentId", &format!("{path}.paymentId"), default_id, problems);
    let mut wrong = |name: &str, problem: &str| problems.push(format!("`{path}.{name}`: {problem}"));
    let date = match item.get("paymentDate").and_then(Value::as_str).map(str::trim) {
        Some(text) if text.len() == 10 => text.parse::<Date>().ok(),
        Some(_) | None => None,
    };
    if date.is_none() {
        wrong("paymentDate", "is missing, or not a day such as 2015-04-15");
    }
    let amount = match item.get("amount").filter(|value| !value.is_null()).map(|value| amount::read(value, 2)) {
        Some(Ok(amount)) if amount > Decimal::ZERO => Some(amount),
        Some(Ok(_)) => {
            wrong("amount", "must be more than 0");
            None
        }
        Some(Err(problem)) => {
            wrong("amount", &problem);
            None
        }
        None => {
            wrong("amount", "is missing");
            None
        }
    };
    let currency = item.get("currency").and_then(Value::as_str).map(|code| code.trim().to_ascii_uppercase());
    let currency = currency.filter(|code| iso_currency::Currency::from_code(code).is_some());
    if currency.is_none() {
        wrong("currency", "is missing, or not a currency of ISO 4217 such as DKK");
    }
    let account = item.get("account").and_then(json::scalar);
    let account = account.filter(|account| account.chars().count() <= ID_CHARS_MAX && !account.contains('#'));
    if account.is_none() {
        wrong("account", "is missing, or no account");
    }
    let transaction = Transaction { payment_id: payment_id?, date: date?, amount: amount?, currency: currency?, account: account? };
    // What is signed and what is sent are the same values, written once.
    let number: Number = amount::fixed(transaction.amount, 2).parse().ok()?;
    item.insert("paymentDate".to_owned(), transaction.date.to_string().into());
    item.insert("amount".to_owned(), Value::Number(number));
    item.insert("currency".to_owned(), transaction.currency.clone().into());
    item.insert("account".to_owned(), transaction.account.clone().into());
    Some(transaction)
}

/// The id under this name, or the default, which is then written there.
fn id(
    fields: &mut Map<String, Value>,
    name: &str,
    path: &str,
    default: impl FnOnce() -> String,
    problems: &mut Vec<String>,
) -> Option<String> {
    let text = match fields.get(name).filter(|value| !value.is_null()) {
        None => default(),
        Some(value) => match json::scalar(value) {
            Some(text) if text.chars().count() <= ID_CHARS_MAX && !text.contains('#') && !text.chars().any(char::is_control) => text,
            Some(_) | None => {
                problems.push(format!("`{path}`: is empty, longer than {ID_CHARS_MAX} characters, or holds a `#`"));
                return None;
            }
        },
    };
    fields.insert(name.to_owned(), text.clone().into());
    Some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::authorization::tests::{content, settings, then};
    use super::*;

    fn event() -> EventId {
        "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap()
    }

    fn one(change: &Value) -> Value {
        let mut item = json!({ "paymentId": "PAY_01", "paymentDate": "2015-04-15", "amount": "154", "currency": "dkk", "account": "80790000820049", "text": "Løn" });
        for (name, value) in change.as_object().unwrap() {
            item[name] = value.clone();
        }
        json!({ "requestId": "REQ_01", "transactions": [item] })
    }

    fn problem(body: &Value) -> String {
        Payment::new(body.to_string().as_bytes(), event()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_sent_is_what_is_signed() {
        let payment = Payment::new(one(&json!({})).to_string().as_bytes(), event()).unwrap();
        let request = payment.request(&settings(), then()).unwrap();
        let body = String::from_utf8(request.body.to_vec()).unwrap();
        assert!(body.contains(r#""amount":154.00"#) && body.contains(r#""currency":"DKK""#) && body.contains("Løn"), "{body}");
        assert_eq!(request.url.as_str(), "https://api.bankintegration.dk/payment");
        let hash = content(&request.headers[AUTHORIZATION])["hash"][0].clone();
        assert_eq!(hash, json!({ "id": "PAY_01", "hash": "aYpwElsOyR11q0yH20KhKKlV0a12VxK0n+U37f6SAUY=" }));
    }

    #[test]
    fn each_attempt_is_signed_anew_and_its_ids_stay() {
        let payment = Payment::new(
            json!({ "transactions": [
                { "paymentDate": "2015-04-15", "amount": 1, "currency": "DKK", "account": 1 },
                { "paymentDate": "2015-04-15", "amount": 0.5, "currency": "DKK", "account": 2 }] })
            .to_string()
            .as_bytes(),
            event(),
        )
        .unwrap();
        assert_eq!(payment.request_id, event().to_string());
        let ids: Vec<_> = payment.transactions.iter().map(|transaction| transaction.payment_id.clone()).collect();
        assert_eq!(ids, [format!("{}-1", event()), format!("{}-2", event())]);
        let later = then().saturating_add(std::time::Duration::from_secs(60));
        let (first, second) = (payment.request(&settings(), then()).unwrap(), payment.request(&settings(), later).unwrap());
        assert_eq!(first.body, second.body);
        let (first, second) = (content(&first.headers[AUTHORIZATION]), content(&second.headers[AUTHORIZATION]));
        assert_eq!((&first["time"], &second["time"]), (&json!("2015-05-21T10:45:23"), &json!("2015-05-21T10:46:23")));
        assert_ne!(first["hash"], second["hash"]);
    }

    #[test]
    fn everything_that_is_wrong_is_named() {
        for (change, part) in [
            (json!({ "amount": "154,00" }), "`transactions[0].amount`"),
            (json!({ "amount": "0" }), "more than 0"),
            (json!({ "amount": "-1" }), "more than 0"),
            (json!({ "amount": "1.005" }), "decimal places"),
            (json!({ "amount": null }), "`transactions[0].amount`: is missing"),
            (json!({ "paymentDate": "15-04-2015" }), "paymentDate"),
            (json!({ "paymentDate": "2015-02-30" }), "paymentDate"),
            (json!({ "currency": "KR" }), "currency"),
            (json!({ "account": "" }), "account"),
            (json!({ "account": "1#2" }), "account"),
            (json!({ "paymentId": "a#b" }), "paymentId"),
            (json!({ "paymentId": "x".repeat(65) }), "paymentId"),
        ] {
            let said = problem(&one(&change));
            assert!(said.contains(part), "{change}: {said}");
        }
        let empty = problem(&json!({ "transactions": [{}] }));
        for name in ["paymentDate", "amount", "currency", "account"] {
            assert!(empty.contains(name), "{empty}");
        }
        for (body, part) in [
            (json!({}), "`transactions`: is missing"),
            (json!({ "transactions": [] }), "1 to 200"),
            (json!({ "transactions": vec![json!({}); 201] }), "1 to 200"),
            (json!({ "transactions": [5] }), "no object"),
            (json!([]), "not a JSON object"),
        ] {
            assert!(problem(&body).contains(part), "{body}");
        }
        let item = &one(&json!({}))["transactions"][0];
        assert!(problem(&json!({ "transactions": [item, item] })).contains("stands twice"));
        assert!(problem(&json!({ "transactions": [item], "options": { "skipDuplicateCheck": true } })).contains("paid once"));
    }

    #[test]
    fn a_header_that_no_server_takes_is_an_error_before_it_is_sent() {
        let items: Vec<_> = (0..150)
            .map(|n| json!({ "paymentId": format!("PAYMENT-{n}"), "paymentDate": "2015-04-15", "amount": 1, "currency": "DKK", "account": "1" }))
            .collect();
        let payment = Payment::new(json!({ "transactions": items }).to_string().as_bytes(), event()).unwrap();
        assert!(payment.request(&settings(), then()).err().unwrap().contains("fewer payments"));
        let fewer = Payment::new(json!({ "transactions": items[..100] }).to_string().as_bytes(), event()).unwrap();
        assert!(fewer.request(&settings(), then()).is_ok());
    }

    #[test]
    fn calling_off_names_every_payment() {
        let payment = Payment::new(one(&json!({})).to_string().as_bytes(), event()).unwrap();
        let request = cancel(&settings(), "CANCEL_01", &payment, then()).unwrap();
        assert_eq!(request.body, r#"{"requestId":"CANCEL_01","transactions":[{"paymentId":"PAY_01"}]}"#.as_bytes());
        assert_eq!(content(&request.headers[AUTHORIZATION])["requestId"], "CANCEL_01");
    }
}
