//! One event as one record: checked against the vendor's table, then written as it is sent.

use std::fmt;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::check::{Passed, check};
use super::fields::{FIELDS, UNIQUE};
use crate::connectors::text;
use crate::model::EventId;

/// Longest record: the table's own fields need less than 4 KiB, the rest is for what is passed through.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;

/// A record that may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Its JSON.
    pub json: Bytes,
    /// What looks wrong and is sent all the same, one line each.
    pub warnings: Vec<String>,
}

/// Why a record is not sent. Every field that is wrong is named.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordProblem {
    /// It is no JSON object.
    #[error("the record is not a JSON object; the route's `transform` makes one PayJoeZahlung of an event")]
    NoObject,
    /// It is too long.
    #[error("the record is longer than {RECORD_BYTES_MAX} bytes")]
    TooLong,
    /// Fields are wrong.
    #[error("{}", Listed(.0))]
    Fields(Vec<(&'static str, String)>),
}

struct Listed<'a>(&'a [(&'static str, String)]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (field, problem)) in self.0.iter().enumerate() {
            let gap = if at == 0 { "" } else { "; " };
            write!(f, "{gap}`{field}`: {problem}")?;
        }
        Ok(())
    }
}

impl RecordProblem {
    /// As the reason of a dead letter.
    pub fn reason(&self) -> String {
        text::line(&self.to_string())
    }
}

/// The record of an event whose body (or what `transform` made of it) is `body`. Fields that the table does not know
/// pass through untouched.
///
/// # Errors
/// Why it can't be sent.
pub fn record(body: &[u8], event: EventId, strict: bool) -> Result<Checked, RecordProblem> {
    let Ok(Value::Object(mut fields)) = serde_json::from_slice(body) else { return Err(RecordProblem::NoObject) };
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    if !is_there(fields.get(UNIQUE)) {
        fields.insert(UNIQUE.to_owned(), event.to_string().into());
    }
    for field in FIELDS {
        let Some(value) = fields.get(field.name).filter(|value| is_there(Some(value))) else {
            if field.mandatory {
                problems.push((field.name, missing(&fields, field.name)));
            }
            continue;
        };
        match check(field.kind, value) {
            Ok(Passed { doubt: Some(doubt), .. }) if strict => problems.push((field.name, doubt)),
            Ok(Passed { value, doubt }) => {
                warnings.extend(doubt.map(|doubt| format!("`{}`: {doubt}", field.name)));
                fields.insert(field.name.to_owned(), value);
            }
            Err(problem) => problems.push((field.name, problem)),
        }
    }
    if !problems.is_empty() {
        return Err(RecordProblem::Fields(problems));
    }
    let json = Value::Object(fields).to_string();
    if json.len() > RECORD_BYTES_MAX { Err(RecordProblem::TooLong) } else { Ok(Checked { json: json.into(), warnings }) }
}

/// `null` and an empty text are as good as nothing: the vendor's own sample writes `null`.
fn is_there(value: Option<&Value>) -> bool {
    value.is_some_and(|value| !value.is_null() && value.as_str().is_none_or(|text| !text.trim().is_empty()))
}

fn missing(fields: &Map<String, Value>, name: &str) -> String {
    match fields.keys().find(|key| key.as_str() != name && key.eq_ignore_ascii_case(name)) {
        Some(other) => format!("is missing; `{}` is written differently", text::quoted(other)),
        None => "is missing".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event() -> EventId {
        "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap()
    }

    /// The seed's record.
    const SEED: &str = r#"{"BerichtID":45,"UniqueIdentifier":"1T46DG0575BX16SSD","Buchungsdatum":"2018-01-05T14:25:55.2426324+01:00","BerichtEndedatum":"2018-01-07T14:25:55.2426324+01:00","BerichtDepositdatum":"2018-01-09T14:25:55.2426324+01:00","Valutadatum":"2018-01-09T14:25:55.2426324+01:00","Waehrung":978,"NettoBetrag":"18.00","NettoWaehrung":978,"BruttoBetrag":"20.00","BruttoWaehrung":978,"GebuehrBetrag":"2.00","GebuehrWaehrung":978,"BankleitzahlZahlender":"50070024","BIC":"DEUTDEDBFRA","KontonummerZahlender":"0123456789","IBAN":"DE5850070024012346789","NameZahlender1":"monika.mustermann@gmx.net","NameZahlender2":"Monika Mustermann","Belegnummer":"6948593","Bestellnummer":"BN-654698","TransaktionsID":"1T46DG0575BX16SSD","Kundennummer":"2014","Referenz1":"T-Shirt Doppelpack","Referenz2":"aus Angebot 2365","Referenz3":null,"Referenz4":null,"Marktplatz":"Amazon.fr","Zahlungsstatus":1,"Zahlungstyp":"Payment","NichtSaldorelevant":0,"Buchungstext":"Completed"}"#;

    fn least() -> Value {
        json!({ "Buchungsdatum": "2018-01-05", "Valutadatum": "2018-01-05", "Waehrung": "EUR", "BruttoBetrag": "20.00", "BruttoWaehrung": "EUR" })
    }

    fn with(name: &str, value: Value) -> Result<Checked, RecordProblem> {
        let mut fields = least();
        fields[name] = value;
        record(fields.to_string().as_bytes(), event(), false)
    }

    fn sent(name: &str, value: Value) -> Value {
        let checked = with(name, value).unwrap();
        serde_json::from_slice::<Value>(&checked.json).unwrap()[name].clone()
    }

    #[test]
    fn the_seeds_record_passes_unchanged_with_a_warning_for_its_iban() {
        let checked = record(SEED.as_bytes(), event(), false).unwrap();
        assert_eq!(checked.json, SEED.as_bytes());
        assert_eq!(checked.warnings, ["`IBAN`: the IBAN's check digits are wrong"].map(String::from));
        let strict = record(SEED.as_bytes(), event(), true).unwrap_err();
        assert_eq!(strict.to_string(), "`IBAN`: the IBAN's check digits are wrong");
    }

    #[test]
    fn every_mandatory_field_that_is_missing_is_named() {
        let problem = record(b"{}", event(), false).unwrap_err();
        let RecordProblem::Fields(fields) = &problem else { panic!("{problem}") };
        let names: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["Buchungsdatum", "Valutadatum", "Waehrung", "BruttoBetrag", "BruttoWaehrung"]);
        for nothing in [json!(null), json!(""), json!("  ")] {
            assert!(with("Valutadatum", nothing).unwrap_err().to_string().contains("`Valutadatum`: is missing"));
        }
        let mistyped = record(br#"{"valutadatum":"2018-01-05"}"#, event(), false).unwrap_err().to_string();
        assert!(mistyped.contains("`valutadatum` is written differently"), "{mistyped}");
        for body in ["", "[]", "5", "null", "{"] {
            assert_eq!(record(body.as_bytes(), event(), false), Err(RecordProblem::NoObject), "{body}");
        }
    }

    #[test]
    fn texts_have_the_tables_lengths() {
        for field in FIELDS {
            if let super::super::Kind::Text(max) = field.kind {
                assert!(with(field.name, json!("ü".repeat(max))).is_ok(), "{}", field.name);
                let long = with(field.name, json!("ü".repeat(max + 1))).unwrap_err().to_string();
                assert!(long.contains(&format!("`{}`", field.name)) && long.contains(&format!("at most {max}")), "{long}");
            }
        }
        // The vendor's platform counts this as two.
        assert!(with("BankleitzahlZahlender", json!("😀".repeat(5))).is_ok());
        assert!(with("BankleitzahlZahlender", json!("😀".repeat(6))).is_err());
        assert_eq!(sent("Kundennummer", json!(2014)), json!("2014"));
        assert!(with("Kundennummer", json!(["2014"])).is_err());
    }

    #[test]
    fn a_record_without_an_identifier_gets_the_events_id() {
        for nothing in [json!(null), json!("")] {
            assert_eq!(sent(UNIQUE, nothing), json!(event().to_string()));
        }
        assert_eq!(sent(UNIQUE, json!("1T46")), json!("1T46"));
    }

    #[test]
    fn currencies_are_numbers_or_letters_of_iso_4217() {
        for (written, expected) in [
            (json!(978), json!(978)),
            (json!("978"), json!(978)),
            (json!("eur"), json!("EUR")),
            (json!("USD"), json!("USD")),
            (json!(826), json!(826)),
            (json!("008"), json!(8)),
        ] {
            assert_eq!(sent("Waehrung", written), expected);
        }
        for wrong in [json!("EURO"), json!(1), json!(-978), json!("€"), json!(97800), json!(9.78), json!(true)] {
            assert!(with("Waehrung", wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn amounts_flags_states_and_numbers_are_read_as_the_vendor_reads_them() {
        for (written, expected) in [(json!("18.00"), "18.00"), (json!(18), "18"), (json!("-2.50"), "-2.50")] {
            assert_eq!(sent("NettoBetrag", written), json!(expected));
        }
        assert!(with("NettoBetrag", json!("18,00")).unwrap_err().to_string().contains("comma"));
        for (written, expected) in [(json!(true), 1), (json!(0), 0), (json!("1"), 1), (json!("False"), 0)] {
            assert_eq!(sent("NichtSaldorelevant", written), json!(expected));
        }
        assert!(with("NichtSaldorelevant", json!(2)).is_err() && with("NichtSaldorelevant", json!("ja")).is_err());
        assert_eq!(sent("Zahlungsstatus", json!("1")), json!(1));
        assert!(with("Zahlungsstatus", json!(2)).is_err());
        assert_eq!(sent("BerichtID", json!("45")), json!(45));
        assert!(with("BerichtID", json!(2_147_483_648_i64)).is_err() && with("BerichtID", json!(4.5)).is_err());
    }

    #[test]
    fn dates_are_what_the_vendors_platform_reads() {
        for good in
            ["2018-01-05", "2018-01-05T14:25:55", "2018-01-05T14:25:55.26", "2018-01-05T14:25:55.2426324+01:00", "2018-01-05T14:25:55Z"]
        {
            assert_eq!(sent("Valutadatum", json!(good)), json!(good));
        }
        for bad in ["05.01.2018", "2018-02-30", "20180105", "2018-01-05 14:25", "2018-01-05T25:00:00", "0000-01-01", "2018-1-5"] {
            assert!(with("Valutadatum", json!(bad)).is_err(), "{bad}");
        }
        assert!(with("Valutadatum", json!(1_515_159_955)).is_err());
    }

    #[test]
    fn wrong_checksums_warn_and_unknown_fields_pass_through() {
        for (name, value, warned) in [
            ("IBAN", "DE89370400440532013000", false),
            ("IBAN", "DE89 3704 0044 0532 0130 00", false),
            ("IBAN", "DE88370400440532013000", true),
            ("IBAN", "hello", true),
            ("BIC", "DEUTDEDBFRA", false),
            ("BIC", "DEUTDEFF", false),
            ("BIC", "DEUT1EFF", true),
            ("BIC", "deutdeff", true),
        ] {
            let checked = with(name, json!(value)).unwrap();
            assert_eq!(!checked.warnings.is_empty(), warned, "{value} {:?}", checked.warnings);
            let mut fields = least();
            fields[name] = json!(value);
            assert_eq!(record(fields.to_string().as_bytes(), event(), true).is_err(), warned, "{value}");
        }
        assert_eq!(sent("NeuesFeld", json!({ "a": [1, null] })), json!({ "a": [1, null] }));
        assert_eq!(with("NeuesFeld", json!("x".repeat(RECORD_BYTES_MAX))), Err(RecordProblem::TooLong));
    }
}
