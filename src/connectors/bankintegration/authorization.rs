//! The `Authorization` of one request at one time.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderValue;
use serde::Serialize;
use sha2::Sha256;

use super::payment::Transaction;
use super::settings::Settings;
use crate::connectors::amount;
use crate::model::Timestamp;

/// Longest header: common servers refuse a request whose head is longer than 16 KiB.
pub const AUTHORIZATION_BYTES_MAX: usize = 12 * 1024;

/// The JSON behind the scheme's word, in the vendor's order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Content<'a> {
    service_provider: &'a str,
    account: &'a str,
    time: String,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    hash: Vec<Hash<'a>>,
}

#[derive(Serialize)]
struct Hash<'a> {
    id: &'a str,
    hash: String,
}

/// Computes headers as of one instant.
pub struct Authorization<'a> {
    settings: &'a Settings,
    request_id: &'a str,
    time: jiff::civil::DateTime,
}

impl<'a> Authorization<'a> {
    /// For the request of this id, made now.
    ///
    /// # Errors
    /// When the time is beyond what a calendar holds.
    pub fn new(settings: &'a Settings, request_id: &'a str, now: Timestamp) -> Result<Self, String> {
        let instant = jiff::Timestamp::from_second(now.unix_seconds()).map_err(|_error| "the time is beyond the calendar".to_owned())?;
        Ok(Self { settings, request_id, time: jiff::tz::Offset::UTC.to_datetime(instant) })
    }

    /// The header of a request for status, statement or balance.
    ///
    /// # Errors
    /// Why there is none.
    pub fn of_request(&self) -> Result<HeaderValue, String> {
        let hash = self.hash(&["", self.request_id, "", "", ""], self.request_id);
        self.header(vec![Hash { id: self.request_id, hash }])
    }

    /// The header of a request that makes payments: one hash for each.
    ///
    /// # Errors
    /// Why there is none.
    pub fn of_payments(&self, transactions: &[Transaction]) -> Result<HeaderValue, String> {
        let hashes = transactions.iter().map(|transaction| {
            let date = transaction.date.strftime("%Y%m%d").to_string();
            let amount = amount::fixed(transaction.amount, 2);
            let parts = [transaction.currency.as_str(), self.request_id, &date, &amount, &transaction.account];
            Hash { id: &transaction.payment_id, hash: self.hash(&parts, &transaction.payment_id) }
        });
        self.header(hashes.collect())
    }

    /// `parts`: currency, request id, date, amount, credited account; empty ones are kept.
    fn hash(&self, parts: &[&str; 5], payment_id: &str) -> String {
        let now = self.time.strftime("%Y%m%d%H%M%S").to_string();
        let [currency, request_id, date, amount, credited] = *parts;
        let token = self.settings.token.expose();
        let rest = [&self.settings.account, currency, request_id, date, amount, credited, &self.settings.erp, payment_id, &now];
        // Any length is a key of HMAC.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.settings.key.expose()) else { return String::new() };
        mac.update(token);
        for part in rest {
            mac.update(b"#");
            mac.update(part.as_bytes());
        }
        STANDARD.encode(mac.finalize().into_bytes())
    }

    fn header(&self, hash: Vec<Hash<'_>>) -> Result<HeaderValue, String> {
        let content = Content {
            service_provider: &self.settings.erp,
            account: &self.settings.account,
            time: self.time.strftime("%Y-%m-%dT%H:%M:%S").to_string(),
            request_id: self.request_id,
            user: self.settings.user.as_deref(),
            hash,
        };
        let json = serde_json::to_vec(&content).map_err(|_error| "the authorization can't be written".to_owned())?;
        let text = format!("{} {}", self.settings.scheme, STANDARD.encode(json));
        if text.len() > AUTHORIZATION_BYTES_MAX {
            return Err(format!("its authorization is longer than {AUTHORIZATION_BYTES_MAX} bytes: send fewer payments in one event"));
        }
        let mut value = HeaderValue::from_str(&text).map_err(|_error| "the authorization can't stand in a header".to_owned())?;
        value.set_sensitive(true);
        Ok(value)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::Value;

    use super::super::SettingsDraft;
    use super::*;
    use crate::model::Secret;

    pub(crate) fn settings() -> Settings {
        Settings::new(SettingsDraft {
            erp: Some("MyERP".to_owned()),
            api_key: Some(Secret::new(b"00112233-4455-6677-8899-aabbccddeeff".to_vec())),
            account: Some("5247 0021527478".to_owned()),
            integration_code: Some(Secret::new(b"kundekode".to_vec())),
            ..SettingsDraft::default()
        })
        .unwrap()
    }

    /// 2015-05-21T10:45:23Z.
    pub(crate) fn then() -> Timestamp {
        "2015-05-21T10:45:23Z".parse().unwrap()
    }

    pub(crate) fn content(value: &HeaderValue) -> Value {
        let text = value.to_str().unwrap().strip_prefix("Basic ").unwrap().to_owned();
        serde_json::from_slice(&STANDARD.decode(text).unwrap()).unwrap()
    }

    #[test]
    fn the_vector_of_a_report_is_met() {
        let settings = settings();
        assert_eq!(hex::encode(settings.key.expose()), "33221100554477668899aabbccddeeff");
        assert_eq!(settings.token.expose(), b"af151888f76245fe6559b9c2514c61267af45f762055bbc9fe77e7143135c53d");
        let header = Authorization::new(&settings, "REQ_01", then()).unwrap().of_request().unwrap();
        assert!(header.is_sensitive());
        let decoded = STANDARD.decode(header.to_str().unwrap().strip_prefix("Basic ").unwrap()).unwrap();
        let expected = r#"{"serviceProvider":"MyERP","account":"52470021527478","time":"2015-05-21T10:45:23","requestId":"REQ_01","hash":[{"id":"REQ_01","hash":"ve3BdYA0WF9yLiZxchaZBLrNY17PPuER2xSyWhNsa98="}]}"#;
        assert_eq!(String::from_utf8(decoded).unwrap(), expected);
    }

    #[test]
    fn the_vector_of_a_payment_is_met_whatever_zeros_its_amount_was_written_with() {
        for amount in ["154", "154.0", "154.00"] {
            let transaction = Transaction {
                payment_id: "PAY_01".to_owned(),
                date: jiff::civil::date(2015, 4, 15),
                amount: amount.parse().unwrap(),
                currency: "DKK".to_owned(),
                account: "80790000820049".to_owned(),
            };
            let settings = settings();
            let header = Authorization::new(&settings, "REQ_01", then()).unwrap().of_payments(&[transaction]).unwrap();
            assert_eq!(content(&header)["hash"][0]["hash"], "aYpwElsOyR11q0yH20KhKKlV0a12VxK0n+U37f6SAUY=");
            assert_eq!(content(&header)["hash"][0]["id"], "PAY_01");
        }
    }

    #[test]
    fn a_user_and_another_word_are_written_where_they_are_set() {
        let mut settings = settings();
        (settings.user, settings.scheme) = (Some("bob".to_owned()), "BI".to_owned());
        let header = Authorization::new(&settings, "R", then()).unwrap().of_request().unwrap();
        let text = header.to_str().unwrap().strip_prefix("BI ").unwrap();
        let json = String::from_utf8(STANDARD.decode(text).unwrap()).unwrap();
        assert!(json.contains(r#""requestId":"R","user":"bob","hash":"#), "{json}");
    }

    #[test]
    fn settings_are_checked_whole() {
        let keys = |draft| Settings::new(draft).err().unwrap().iter().map(|problem| problem.key).collect::<Vec<_>>();
        assert_eq!(keys(SettingsDraft::default()), ["erp", "api_key", "account", "integration_code"]);
        let wrong = SettingsDraft {
            erp: Some("a#b".to_owned()),
            api_key: Some(Secret::new(b"secret".to_vec())),
            account: Some("524700215274".to_owned()),
            integration_code: Some(Secret::new(vec![])),
            scheme: Some("Ba sic".to_owned()),
            ..SettingsDraft::default()
        };
        assert_eq!(keys(wrong), ["erp", "api_key", "account", "integration_code", "scheme"]);
    }
}
