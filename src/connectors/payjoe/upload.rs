//! One upload: its request with the credentials, and what the answer means.

use std::time::Duration;

use http::Method;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::record::Checked;
use super::settings::Settings;
use crate::connectors::{Outcome, Reply, Request, json, text};

/// Longest body of one upload, less the credentials.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long PayJoe may take for one upload.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// The vendor's number for "uploaded before" in a list of errors.
const UPLOADED_BEFORE: i64 = 1;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Body<'a> {
    user_name: &'a str,
    #[serde(rename = "APIKey")]
    api_key: &'a str,
    #[serde(rename = "ZugangID")]
    access_id: i32,
    zahlungen: Vec<&'a RawValue>,
}

/// The request that uploads these records. It holds the credentials: it is made for one attempt and never stored.
///
/// # Errors
/// Why there is none.
pub fn upload(settings: &Settings, records: &[&Checked]) -> Result<Request, String> {
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_error| "a credential is not UTF-8".to_owned());
    let raw = |record: &&'_ Checked| serde_json::from_slice(&record.json).map_err(|_error| "a record is not JSON".to_owned());
    // Owned by the vector below; the records' bytes are not copied again.
    let zahlungen: Vec<Box<RawValue>> = records.iter().map(raw).collect::<Result<_, _>>()?;
    let body = Body {
        user_name: text(settings.user.expose())?,
        api_key: text(settings.api_key.expose())?,
        access_id: settings.access_id,
        zahlungen: zahlungen.iter().map(|raw| &**raw).collect(),
    };
    let body = serde_json::to_vec(&body).map(Zeroizing::new).map_err(|_error| "the upload can't be written".to_owned())?;
    Ok(Request::json(Method::POST, settings.url.clone(), body.to_vec()))
}

/// What a reply said, where it could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uploaded {
    /// `Erfolgreich` is true.
    Yes,
    /// It is false, and all that is listed was uploaded before.
    Before,
    /// It is false.
    No,
}

/// What the answer to an upload means for the records of it. `Rejected` is the batch's: [`Plan`](super::Plan) finds the
/// records.
pub fn judge(reply: &Reply<'_>, settings: &Settings) -> Outcome {
    let clean = settings.clean(reply.body);
    let said = |what: &str| text::with_excerpt(&format!("PayJoe {what} ({})", reply.status.as_u16()), &clean);
    match reply.status.as_u16() {
        200 => match uploaded(reply) {
            Some(Uploaded::Yes) => Outcome::delivered(),
            Some(Uploaded::Before) => Outcome { reason: "PayJoe had it already".to_owned(), ..Outcome::delivered() },
            Some(Uploaded::No) => Outcome::rejected(said("refuses the upload")),
            // It may have been taken; a repeat does no harm, as PayJoe knows records by their UniqueIdentifier.
            None => Outcome::retry(said("gave an answer that does not say whether it was `Erfolgreich`")),
        },
        400 | 413 | 422 => Outcome::rejected(said("refuses the upload")),
        401 | 403 => Outcome::pause(said("refuses the credentials: check `user`, `api_key` and `access_id`")),
        300..=399 => Outcome::retry(said("redirects, which is not followed")),
        404 | 405 => Outcome::retry(said("has nothing at this address: check `url`")),
        _ => Outcome::retry(said("answers with a fault")),
    }
}

fn uploaded(reply: &Reply<'_>) -> Option<Uploaded> {
    if reply.truncated {
        return None;
    }
    let document: Value = serde_json::from_slice(reply.body).ok()?;
    let successful = match document.get("Erfolgreich")? {
        Value::Bool(truth) => *truth,
        Value::String(text) if text.eq_ignore_ascii_case("true") => true,
        Value::String(text) if text.eq_ignore_ascii_case("false") => false,
        other @ (Value::Number(_) | Value::String(_) | Value::Null | Value::Array(_) | Value::Object(_)) => match json::whole(other)? {
            0 => false,
            1 => true,
            _ => return None,
        },
    };
    let reasons = || {
        let listed = document.get("Fehlerliste")?.as_array()?.iter().map(|entry| entry.get("OPBelegErrorReasons")?.as_array());
        let reasons = listed.collect::<Option<Vec<_>>>()?.into_iter().flatten().map(json::whole);
        reasons.collect::<Option<Vec<i64>>>()
    };
    Some(match reasons() {
        _ if successful => Uploaded::Yes,
        Some(reasons) if !reasons.is_empty() && reasons.iter().all(|reason| *reason == UPLOADED_BEFORE) => Uploaded::Before,
        Some(_) | None => Uploaded::No,
    })
}

/// `LetztesZahlungsdatum`, the newest payment that PayJoe holds, as it was written: it has no zone.
pub fn last_payment(body: &[u8]) -> Option<String> {
    let document: Value = serde_json::from_slice(body).ok()?;
    let text = document.get("LetztesZahlungsdatum")?.as_str()?;
    text.parse::<jiff::civil::DateTime>().ok().map(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};

    use super::*;
    use crate::connectors::Verdict;
    use crate::connectors::payjoe::SettingsDraft;
    use crate::model::Secret;

    /// The seed's credentials.
    fn settings() -> Settings {
        Settings::new(SettingsDraft {
            user: Some(Secret::new(b"kunde@payjoe.de".to_vec())),
            api_key: Some(Secret::new(b"3k5TStP?=k(!w".to_vec())),
            access_id: Some(5697),
            ..SettingsDraft::default()
        })
        .unwrap()
    }

    fn outcome(status: u16, body: &str) -> Outcome {
        let headers = HeaderMap::new();
        let reply = Reply { status: StatusCode::from_u16(status).unwrap(), headers: &headers, body: body.as_bytes(), truncated: false };
        judge(&reply, &settings())
    }

    #[test]
    fn the_body_is_the_seeds_with_the_credentials_in_it() {
        let record = Checked { json: Bytes::from_static(br#"{"BruttoBetrag":"20.00"}"#), warnings: vec![] };
        let request = upload(&settings(), &[&record, &record]).unwrap();
        let expected = r#"{"UserName":"kunde@payjoe.de","APIKey":"3k5TStP?=k(!w","ZugangID":5697,"Zahlungen":[{"BruttoBetrag":"20.00"},{"BruttoBetrag":"20.00"}]}"#;
        assert_eq!(request.body, expected.as_bytes());
        assert_eq!((request.method, request.url.as_str()), (Method::POST, "https://api.payjoe.de/zahlungsupload"));
    }

    #[test]
    fn success_is_the_status_and_the_body() {
        let seed = r#"{"Erfolgreich":true,"LetztesZahlungsdatum":"2018-01-07T14:50:55.26"}"#;
        assert_eq!(outcome(200, seed), Outcome::delivered());
        assert_eq!(last_payment(seed.as_bytes()).as_deref(), Some("2018-01-07T14:50:55.26"));
        assert_eq!(last_payment(b"{}"), None);
        for (body, verdict) in [
            (r#"{"Erfolgreich":1}"#, Verdict::Delivered),
            (r#"{"Erfolgreich":false,"Fehler":"x"}"#, Verdict::Rejected),
            (r#"{"Erfolgreich":false,"Fehlerliste":[{"OPBelegErrorReasons":[1]},{"OPBelegErrorReasons":[1,1]}]}"#, Verdict::Delivered),
            (r#"{"Erfolgreich":false,"Fehlerliste":[{"OPBelegErrorReasons":[1,2]}]}"#, Verdict::Rejected),
            (r#"{"Erfolgreich":false,"Fehlerliste":[{"OPBelegErrorReasons":[]}]}"#, Verdict::Rejected),
            (r#"{"Erfolgreich":false,"Fehlerliste":[]}"#, Verdict::Rejected),
            ("", Verdict::Retry { after: None }),
            ("<html>", Verdict::Retry { after: None }),
            (r#"{"Erfolgreich":null}"#, Verdict::Retry { after: None }),
            (r#"{"erfolgreich":true}"#, Verdict::Retry { after: None }),
        ] {
            assert_eq!(outcome(200, body).verdict, verdict, "{body}");
        }
        let headers = HeaderMap::new();
        let cut = Reply { status: StatusCode::OK, headers: &headers, body: seed.as_bytes(), truncated: true };
        assert_eq!(judge(&cut, &settings()).verdict, Verdict::Retry { after: None });
    }

    #[test]
    fn every_status_has_its_row() {
        for status in 201..600 {
            let expected = match status {
                400 | 413 | 422 => Verdict::Rejected,
                401 | 403 => Verdict::Pause,
                _ => Verdict::Retry { after: None },
            };
            assert_eq!(outcome(status, r#"{"Erfolgreich":true}"#).verdict, expected, "{status}");
        }
    }

    #[test]
    fn an_answer_that_repeats_the_credentials_is_shown_without_them() {
        let reason = outcome(400, r#"{"APIKey":"3k5TStP?=k(!w","UserName":"kunde@payjoe.de"}"#).reason;
        assert!(reason.contains("***") && !reason.contains("3k5TStP") && !reason.contains("kunde@"), "{reason}");
    }

    #[test]
    fn settings_are_checked_whole() {
        let problems = Settings::new(SettingsDraft::default()).err().unwrap();
        assert_eq!(problems.iter().map(|problem| problem.key).collect::<Vec<_>>(), ["user", "api_key", "access_id"]);
        let wrong = SettingsDraft {
            user: Some(Secret::new("x".repeat(101).into_bytes())),
            api_key: Some(Secret::new(vec![0xff])),
            access_id: Some(1 << 40),
            batch_max: Some(501),
            batch_wait: Some(Duration::from_secs(3601)),
            ..SettingsDraft::default()
        };
        let keys: Vec<_> = Settings::new(wrong).err().unwrap().iter().map(|problem| problem.key).collect();
        assert_eq!(keys, ["user", "api_key", "access_id", "batch.max", "batch.wait"]);
    }
}
