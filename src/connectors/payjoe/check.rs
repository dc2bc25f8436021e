//! The check of one field's value. What passes is written in the one way that the vendor's own sample has it.

use iban::{Iban, ParseIbanError};
use iso_currency::Currency;
use jiff::civil;
use serde_json::Value;

use super::fields::Kind;
use crate::connectors::{amount, json};

/// Most decimal places of an amount: no currency has more than four.
const PLACES_MAX: u32 = 4;

/// A value that passed.
#[derive(Debug, PartialEq)]
pub(super) struct Passed {
    /// How it is sent.
    pub(super) value: Value,
    /// A wrong checksum, say, which only `strict` refuses.
    pub(super) doubt: Option<String>,
}

impl From<Value> for Passed {
    fn from(value: Value) -> Self {
        Self { value, doubt: None }
    }
}

/// Checks a value that is there.
///
/// # Errors
/// What is wrong with it, as a fragment.
pub(super) fn check(kind: Kind, value: &Value) -> Result<Passed, String> {
    match kind {
        Kind::Text(max) => Ok(text(value, max)?.into()),
        Kind::Bic(max) => doubted(text(value, max)?, bic),
        Kind::Iban(max) => doubted(text(value, max)?, iban),
        Kind::Integer => integer(value).map(Passed::from),
        Kind::Date => date(value).map(Passed::from),
        Kind::Currency => currency(value).map(Passed::from),
        Kind::Amount => amount::read(value, PLACES_MAX).map(|amount| Value::from(amount.to_string()).into()),
        Kind::Flag => flag(value).map(Passed::from),
        Kind::Status => match json::whole(value) {
            Some(status @ (0 | 1)) => Ok(Value::from(status).into()),
            Some(_) | None => Err(format!("expected 0 (unknown) or 1 (paid), found {}", json::described(value))),
        },
    }
}

fn doubted(text: Value, rule: fn(&str) -> Option<String>) -> Result<Passed, String> {
    let doubt = text.as_str().filter(|text| !text.is_empty()).and_then(rule);
    Ok(Passed { value: text, doubt })
}

/// A number is taken as its digits: a customer's number is one here and a text there. The length counts as the vendor's
/// platform counts it, in UTF-16 units.
fn text(value: &Value, max: usize) -> Result<Value, String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            return Err(format!("expected a text, found {}", json::described(value)));
        }
    };
    let length = text.encode_utf16().count();
    if length > max { Err(format!("has {length} characters; at most {max} are allowed")) } else { Ok(text.into()) }
}

fn integer(value: &Value) -> Result<Value, String> {
    let number = json::whole(value).ok_or_else(|| format!("expected a whole number, found {}", json::described(value)))?;
    i32::try_from(number).map(Value::from).map_err(|_error| format!("{number} does not fit into PayJoe's `int`"))
}

/// As .NET reads it: a date, perhaps a time, perhaps an offset. Sent as it was written.
fn date(value: &Value) -> Result<Value, String> {
    let wrong = || format!("expected a date such as 2018-01-05T14:25:55+01:00, found {}", json::described(value));
    let text = value.as_str().ok_or_else(wrong)?.trim();
    // jiff reads more forms than .NET does.
    let plain = text.len() >= 10
        && text.bytes().take(10).enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    let tail_is_plain = text.len() == 10 || matches!(text.as_bytes().get(10), Some(b'T'));
    let read = text.parse::<jiff::Timestamp>().is_ok() || text.parse::<civil::DateTime>().is_ok();
    let year_one = text.get(..4) != Some("0000");
    if plain && tail_is_plain && read && year_one && !text.contains('[') { Ok(text.into()) } else { Err(wrong()) }
}

fn currency(value: &Value) -> Result<Value, String> {
    let wrong = || format!("expected a currency of ISO 4217, such as 978 or \"EUR\", found {}", json::described(value));
    if let Some(number) = json::whole(value) {
        let known = u16::try_from(number).ok().and_then(Currency::from_numeric).ok_or_else(wrong)?;
        return Ok(known.numeric().into());
    }
    let code = value.as_str().ok_or_else(wrong)?.trim().to_ascii_uppercase();
    Currency::from_code(&code).map(|currency| currency.code().into()).ok_or_else(wrong)
}

/// Sent as the vendor's sample has it, 0 or 1.
fn flag(value: &Value) -> Result<Value, String> {
    let known = match value {
        Value::Bool(truth) => Some(i64::from(*truth)),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Some(1),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Some(0),
        Value::String(_) | Value::Number(_) => json::whole(value).filter(|number| [0, 1].contains(number)),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    known.map(Value::from).ok_or_else(|| format!("expected true or false (or 1 or 0), found {}", json::described(value)))
}

fn iban(text: &str) -> Option<String> {
    match text.parse::<Iban>() {
        Ok(_) => None,
        Err(ParseIbanError::InvalidBaseIban { source: iban::ParseBaseIbanError::InvalidChecksum }) => {
            Some("the IBAN's check digits are wrong".to_owned())
        }
        Err(ParseIbanError::InvalidBaseIban { .. }) => Some("this is not an IBAN".to_owned()),
        Err(ParseIbanError::InvalidBban(_) | ParseIbanError::UnknownCountry(_)) => Some("the IBAN is not one of its country".to_owned()),
    }
}

/// ISO 9362 has no check digits: four letters or digits, a country, two and perhaps three letters or digits.
fn bic(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let shaped = matches!(bytes.len(), 8 | 11)
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            4 | 5 => byte.is_ascii_uppercase(),
            _ => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
        });
    (!shaped).then(|| "this is not a BIC".to_owned())
}
