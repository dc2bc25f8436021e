//! The report of a result: its body, its request, and what the answer to it means.

use http::header::ORIGIN;
use http::{HeaderValue, Method};
use serde_json::json;
use url::Url;

use super::settings::Acknowledge;
use crate::connectors::{Outcome, Reply, Request, text};
use crate::model::{DeadCode, DeadReason};

/// Longest text of a failure, in bytes: d.velop's users read it in a table.
const TEXT_BYTES_MAX: usize = 500;

/// Where a configured text wants the reason.
const PLACE: &str = "{reason}";

/// The configured texts of a failure.
#[derive(Debug, Clone)]
pub struct Texts {
    de: String,
    en: String,
}

impl Texts {
    /// Both are mandatory at d.velop.
    pub(super) fn new(de: &str, en: &str) -> Result<Self, (&'static str, String)> {
        for (key, text) in [("error.de", de), ("error.en", en)] {
            if text.trim().is_empty() {
                return Err((key, "is empty; d.velop wants a text".to_owned()));
            }
            if text.len() > TEXT_BYTES_MAX {
                return Err((key, format!("is longer than {TEXT_BYTES_MAX} bytes")));
            }
        }
        Ok(Self { de: de.to_owned(), en: en.to_owned() })
    }
}

/// Why a transfer failed.
#[derive(Debug, Clone, Copy)]
pub enum Failure<'a> {
    /// A delivery ended so.
    Dead(&'a DeadReason),
    /// An operator called a delivery off.
    Cancelled,
    /// The deadline is near and deliveries are still pending.
    Deadline,
}

/// What is reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// Every delivery is settled well.
    Successful,
    /// Something failed; what users read.
    Failed {
        /// German.
        de: String,
        /// English.
        en: String,
    },
}

impl Report {
    /// The report of this failure. The reasons are our own words: details of an attempt may name hosts or repeat what an
    /// application said, and are not for the users of another system.
    pub fn failed(texts: &Texts, failure: Failure<'_>) -> Self {
        let (de, en) = words(failure);
        Self::Failed { de: woven(&texts.de, de), en: woven(&texts.en, en) }
    }

    /// The body.
    pub fn body(&self) -> Vec<u8> {
        let body = match self {
            // `error` is not allowed beside a success.
            Self::Successful => json!({ "successful": true }),
            Self::Failed { de, en } => json!({ "successful": false, "error": { "de": de, "en": en } }),
        };
        body.to_string().into_bytes()
    }
}

fn woven(text: &str, reason: &str) -> String {
    let whole = if text.contains(PLACE) { text.replace(PLACE, reason) } else { format!("{} {reason}", text.trim_end()) };
    text::clip(&whole, TEXT_BYTES_MAX)
}

fn words(failure: Failure<'_>) -> (&'static str, &'static str) {
    let late = ("Das Zielsystem hat nicht rechtzeitig geantwortet.", "The receiving system did not answer in time.");
    let reason = match failure {
        Failure::Deadline => return late,
        Failure::Cancelled => return ("Die Zustellung wurde abgebrochen.", "The delivery was cancelled."),
        Failure::Dead(reason) => reason,
    };
    match reason.code {
        DeadCode::Rejected => ("Das Zielsystem hat den Beleg abgelehnt.", "The receiving system refused the document."),
        DeadCode::Gone => ("Das Zielsystem nimmt keine Belege mehr an.", "The receiving system takes no more documents."),
        DeadCode::MaxAge | DeadCode::MaxAttempts => ("Das Zielsystem war nicht erreichbar.", "The receiving system could not be reached."),
        DeadCode::Damaged => ("Der gespeicherte Beleg ist beschädigt.", "The stored document is damaged."),
        DeadCode::Interrupted => ("Die Zustellung wurde wiederholt unterbrochen.", "The delivery was interrupted repeatedly."),
        DeadCode::DestinationRemoved => ("Das Zielsystem ist nicht mehr eingerichtet.", "The receiving system is no longer configured."),
        DeadCode::Deadline => late,
        DeadCode::Unsendable => ("Der Beleg konnte nicht aufbereitet werden.", "The document could not be prepared for sending."),
    }
}

/// The request that reports to `link`. The caller adds `auth`. `tenant` is the tenant's address where it is known.
pub fn report(link: Url, report: &Report, tenant: Option<&Url>, settings: &Acknowledge) -> Request {
    let origin = settings.origin.then(|| {
        // A tenant's address out of a payload is repeated only where a link could have led as well.
        let known = tenant.filter(|base| base.host().is_some_and(|host| settings.allowed_hosts.allow(&host)));
        HeaderValue::from_str(&known.unwrap_or(&link).origin().ascii_serialization()).ok()
    });
    let mut request = Request::json(Method::POST, link, report.body());
    if let Some(origin) = origin.flatten() {
        request.headers.insert(ORIGIN, origin);
    }
    request
}

/// What the answer to a report means. `unknown` says that an earlier attempt of this report ended without an answer.
pub fn judge_report(reply: &Reply<'_>, unknown: bool) -> Outcome {
    match reply.status.as_u16() {
        200..=299 => Outcome::delivered(),
        // A transfer that is no longer listed was reported, by the attempt whose answer was lost.
        404 | 409 | 410 if unknown => {
            Outcome { reason: "the transfer is no longer open: an earlier attempt had arrived".to_owned(), ..Outcome::delivered() }
        }
        404 | 410 => Outcome::rejected("d.velop does not know the transfer any more: reported elsewhere, or its two days are over"),
        409 => Outcome::rejected("d.velop says that the transfer has a result already"),
        400 | 413 | 422 => Outcome::rejected(text::with_excerpt(&format!("d.velop refuses the report ({})", reply.status), reply.body)),
        // The two days go on: better to try on until the deadline than to wait for somebody.
        401 | 403 => Outcome::retry(format!("d.velop refuses the credentials ({}): check `auth` and its API key", reply.status)),
        300..=399 => Outcome::retry(format!("d.velop redirects ({}), which is not followed", reply.status)),
        _ => Outcome::retry(format!("d.velop answers {}", reply.status)),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::*;
    use crate::connectors::Verdict;
    use crate::connectors::dvelop::AcknowledgeDraft;

    fn dead(code: DeadCode) -> DeadReason {
        DeadReason { code, detail: "400 from http://erp.internal?token=geheim".into() }
    }

    #[test]
    fn bodies_are_the_seeds() {
        assert_eq!(Report::Successful.body(), br#"{"successful":true}"#);
        let failed = Report::Failed { de: "Transfer fehlgeschlagen.".into(), en: "Transfer failed.".into() };
        let seed = r#"{"successful": false, "error": {"de": "Transfer fehlgeschlagen.", "en": "Transfer failed."}}"#;
        let parsed = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
        assert_eq!(parsed(&failed.body()), parsed(seed.as_bytes()));
    }

    #[test]
    fn a_reason_is_woven_in_without_the_attempts_details() {
        let texts = Texts::new("Übergabe fehlgeschlagen.", "Failed ({reason}) today").unwrap();
        for code in DeadCode::ALL {
            let Report::Failed { de, en } = Report::failed(&texts, Failure::Dead(&dead(*code))) else { panic!("a failure") };
            assert!(de.starts_with("Übergabe fehlgeschlagen. ") && en.starts_with("Failed (") && en.ends_with(" today"), "{de} {en}");
            assert!(!de.contains("geheim") && !en.contains("geheim"));
        }
        let Report::Failed { de, .. } = Report::failed(&Texts::new(&"ü".repeat(250), "x").unwrap(), Failure::Deadline) else { panic!() };
        assert!(de.len() <= TEXT_BYTES_MAX);
        assert!(Texts::new("", "x").is_err() && Texts::new("x", " ").is_err() && Texts::new(&"x".repeat(501), "x").is_err());
    }

    #[test]
    fn the_origin_is_the_tenants_where_that_is_allowed() {
        let settings = Acknowledge::new(AcknowledgeDraft::default()).unwrap();
        let link: Url = "https://gw.d-velop.cloud/smartinvoice/api/v1/transfers/1".parse().unwrap();
        let origin = |tenant: Option<&str>, settings: &Acknowledge| {
            let tenant = tenant.map(|tenant| tenant.parse().unwrap());
            let request = report(link.clone(), &Report::Successful, tenant.as_ref(), settings);
            request.headers.get(ORIGIN).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(origin(Some("https://acme.d-velop.cloud/x"), &settings).as_deref(), Some("https://acme.d-velop.cloud"));
        assert_eq!(origin(Some("https://evil.example"), &settings).as_deref(), Some("https://gw.d-velop.cloud"));
        assert_eq!(origin(None, &settings).as_deref(), Some("https://gw.d-velop.cloud"));
        assert_eq!(origin(None, &Acknowledge { origin: false, ..settings }), None);
    }

    #[test]
    fn every_status_has_its_row() {
        let headers = HeaderMap::new();
        let verdict = |status: u16, unknown| {
            let status = StatusCode::from_u16(status).unwrap();
            judge_report(&Reply { status, headers: &headers, body: b"", truncated: false }, unknown).verdict
        };
        for status in 200..600 {
            let expected = match status {
                200..=299 => Verdict::Delivered,
                400 | 404 | 409 | 410 | 413 | 422 => Verdict::Rejected,
                _ => Verdict::Retry { after: None },
            };
            assert_eq!(verdict(status, false), expected, "{status}");
            let expected = if [404, 409, 410].contains(&status) { Verdict::Delivered } else { expected };
            assert_eq!(verdict(status, true), expected, "{status}");
        }
    }
}
