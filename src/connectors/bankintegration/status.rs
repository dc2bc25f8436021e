//! The status of payments, followed until it is final. Each change is an event.

use std::collections::BTreeMap;

use http::header::AUTHORIZATION;
use serde_json::{Value, json};

use super::authorization::Authorization;
use super::settings::Settings;
use crate::connectors::{Outcome, Reply, Request, json as read, text};
use crate::model::Timestamp;

/// Most answers that are read of one reply.
const ANSWERS_MAX: usize = 10_000;

/// What has become of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// 1
    Created,
    /// 2
    Pending,
    /// 4
    Accepted,
    /// 8
    Succeeded,
    /// 16
    Rejected,
    /// 32
    Invalid,
    /// 64
    NotFound,
    /// 128
    Warning,
    /// 256
    Cancelling,
    /// 512
    WaitingForSignature,
    /// A number that the vendor did not document; followed on.
    Other(i64),
}

impl Status {
    /// The status of this number.
    pub fn from_number(number: i64) -> Self {
        match number {
            1 => Self::Created,
            2 => Self::Pending,
            4 => Self::Accepted,
            8 => Self::Succeeded,
            16 => Self::Rejected,
            32 => Self::Invalid,
            64 => Self::NotFound,
            128 => Self::Warning,
            256 => Self::Cancelling,
            512 => Self::WaitingForSignature,
            other => Self::Other(other),
        }
    }

    /// Its number.
    pub fn number(self) -> i64 {
        match self {
            Self::Created => 1,
            Self::Pending => 2,
            Self::Accepted => 4,
            Self::Succeeded => 8,
            Self::Rejected => 16,
            Self::Invalid => 32,
            Self::NotFound => 64,
            Self::Warning => 128,
            Self::Cancelling => 256,
            Self::WaitingForSignature => 512,
            Self::Other(other) => other,
        }
    }

    /// Its word in events.
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Pending => "pending",
            Self::Accepted => "accepted",
            Self::Succeeded => "succeeded",
            Self::Rejected => "rejected",
            Self::Invalid => "failed_validation",
            Self::NotFound => "not_found",
            Self::Warning => "warning",
            Self::Cancelling => "cancelling",
            Self::WaitingForSignature => "waiting_for_signature",
            Self::Other(_) => "unknown",
        }
    }

    /// Whether nothing more will happen to the payment.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Rejected | Self::Invalid | Self::NotFound)
    }
}

/// As a text for people: `waiting_for_signature (512)`.
pub fn status_text(status: Status) -> String {
    format!("{} ({})", status.word(), status.number())
}

/// What is said of one payment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Said {
    pub(super) payment_id: String,
    pub(super) status: Status,
    /// Its errors, in one line.
    pub(super) problem: String,
    whole: Value,
}

/// A payment's status changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Which payment.
    pub payment_id: String,
    /// Its status now.
    pub status: Status,
    /// What the event of it is known by.
    pub key: String,
    /// The event's body, with all that was said of the payment.
    pub body: Value,
}

/// The payments of one request that are followed, each with the status last heard of.
pub type Followed = BTreeMap<String, Option<Status>>;

/// The request for the status of the payments of this request.
///
/// # Errors
/// Why there is none.
pub fn status_request(settings: &Settings, request_id: &str, now: Timestamp) -> Result<Request, String> {
    let header = Authorization::new(settings, request_id, now)?.of_request()?;
    let mut url = settings.url("status");
    url.query_pairs_mut().append_pair("requestId", request_id);
    let mut request = Request::get(url);
    request.headers.insert(AUTHORIZATION, header);
    Ok(request)
}

/// What changed since the last answer; the payments followed are brought up to date. The caller has judged the reply.
///
/// # Errors
/// What to do instead.
pub fn changes(reply: &Reply<'_>, request_id: &str, followed: &mut Followed) -> Result<Vec<Change>, Outcome> {
    let mut changes = Vec::new();
    for said in answers(reply)? {
        // Others of the same request are not ours to tell of.
        let Some(known) = followed.get_mut(&said.payment_id) else { continue };
        if *known == Some(said.status) || known.is_some_and(Status::is_final) {
            continue;
        }
        let before = known.replace(said.status);
        changes.push(Change {
            key: format!("{request_id}:{}:{}", said.payment_id, said.status.number()),
            status: said.status,
            body: json!({
                "type": "bankintegration.status",
                "requestId": request_id,
                "paymentId": said.payment_id,
                "status": said.status.word(),
                "code": said.status.number(),
                "before": before.map(Status::word),
                "final": said.status.is_final(),
                "answer": said.whole,
            }),
            payment_id: said.payment_id,
        });
    }
    Ok(changes)
}

/// What the reply says of each payment.
pub(super) fn answers(reply: &Reply<'_>) -> Result<Vec<Said>, Outcome> {
    if reply.truncated {
        return Err(Outcome::retry("the answer is longer than what is read of one, or broke off"));
    }
    let document: Value = serde_json::from_slice(reply.body).map_err(|_error| Outcome::retry("the answer is not JSON"))?;
    let Some(Value::Array(answers)) = document.get("answers") else {
        return Err(Outcome::retry("the answer has no list of `answers`"));
    };
    if answers.len() > ANSWERS_MAX {
        return Err(Outcome::retry(format!("the answer has more than {ANSWERS_MAX} `answers`")));
    }
    Ok(answers.iter().filter_map(said).collect())
}

fn said(answer: &Value) -> Option<Said> {
    let errors = answer.get("errors").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let lines = errors.iter().filter_map(|error| {
        let (code, said) = (error.get("code").and_then(read::scalar), error.get("text").and_then(read::scalar));
        Some(format!("{} {}", code.unwrap_or_default(), said?).trim().to_owned())
    });
    Some(Said {
        payment_id: answer.get("paymentId").and_then(read::scalar)?,
        status: Status::from_number(answer.get("status").and_then(read::whole)?),
        problem: text::quoted(&lines.collect::<Vec<_>>().join(", ")),
        whole: answer.clone(),
    })
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::*;

    fn heard(followed: &mut Followed, answers: &str) -> Vec<(String, &'static str)> {
        let headers = HeaderMap::new();
        let body = format!(r#"{{"account":"1","requestId":"R","answers":[{answers}]}}"#);
        let reply = Reply { status: StatusCode::OK, headers: &headers, body: body.as_bytes(), truncated: false };
        changes(&reply, "R", followed).unwrap().into_iter().map(|change| (change.key, change.status.word())).collect()
    }

    #[test]
    fn numbers_and_finality_are_the_vendors() {
        for number in 0..=1024 {
            assert_eq!(Status::from_number(number).number(), number);
            let known = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512].contains(&number);
            assert_eq!(!matches!(Status::from_number(number), Status::Other(_)), known, "{number}");
            assert_eq!(Status::from_number(number).is_final(), [8, 16, 32, 64].contains(&number), "{number}");
        }
        assert_eq!(status_text(Status::WaitingForSignature), "waiting_for_signature (512)");
    }

    #[test]
    fn each_change_is_told_once_until_it_is_final() {
        let mut followed: Followed = [("A".to_owned(), None), ("7".to_owned(), None)].into();
        assert_eq!(heard(&mut followed, r#"{"paymentId":"A","status":2},{"paymentId":"X","status":8}"#), [("R:A:2".to_owned(), "pending")]);
        assert_eq!(heard(&mut followed, r#"{"paymentId":"A","status":2}"#), []);
        let both = heard(&mut followed, r#"{"paymentId":"A","status":"8"},{"paymentId":7,"status":1024}"#);
        assert_eq!(both, [("R:A:8".to_owned(), "succeeded"), ("R:7:1024".to_owned(), "unknown")]);
        assert_eq!(heard(&mut followed, r#"{"paymentId":"A","status":2},{"paymentId":"7"}"#), []);
        assert!(followed["A"].unwrap().is_final() && !followed["7"].unwrap().is_final());
    }

    #[test]
    fn an_answer_without_answers_is_a_fault() {
        let headers = HeaderMap::new();
        for (body, truncated) in [("", false), ("{}", false), (r#"{"answers":5}"#, false), (r#"{"answers":[]}"#, true)] {
            let reply = Reply { status: StatusCode::OK, headers: &headers, body: body.as_bytes(), truncated };
            assert!(changes(&reply, "R", &mut Followed::new()).is_err(), "{body}");
        }
    }
}
