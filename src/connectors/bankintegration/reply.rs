//! What an answer of BankIntegration.dk means.

use serde_json::Value;

use super::payment::Payment;
use super::settings::Settings;
use super::status::{self, Status};
use crate::connectors::{Outcome, Reply, Verdict, json, text};

/// What the answer to a request of this id means. `again` says that the request was made again already after a 401.
pub fn judge(reply: &Reply<'_>, request_id: &str, settings: &Settings, again: bool) -> Outcome {
    let clean = settings.clean(reply.body);
    let said = |what: &str| text::with_excerpt(&format!("BankIntegration.dk {what} ({})", reply.status.as_u16()), &clean);
    match reply.status.as_u16() {
        200 | 201 | 202 | 204 => echoed(reply, request_id),
        401 if !again => Outcome::new(Verdict::Reauthorize, said("refuses the authorization")),
        401 | 403 => Outcome::pause(said(
            "refuses the authorization: check `erp`, `api_key`, `account`, `integration_code` and this machine's clock",
        )),
        400 | 409 | 413 | 422 => Outcome::rejected(said("refuses the request")),
        300..=399 => Outcome::retry(said("redirects, which is not followed")),
        404 | 405 => Outcome::retry(said("has nothing at this address: check `base_url`")),
        _ => Outcome::retry(said("answers with a fault")),
    }
}

/// An answer to somebody else's request is no answer to ours.
fn echoed(reply: &Reply<'_>, request_id: &str) -> Outcome {
    let said = serde_json::from_slice::<Value>(reply.body).ok().and_then(|document| json::at(&document, "/requestId"));
    match said {
        Some(other) if other != request_id => Outcome::retry(format!("the answer is to another request, `{}`", text::quoted(&other))),
        Some(_) | None => Outcome::delivered(),
    }
}

/// The same for a payment: where the answer says already that every transaction of it was refused, it is dead.
pub fn judge_payment(reply: &Reply<'_>, payment: &Payment, settings: &Settings, again: bool) -> Outcome {
    let outcome = judge(reply, &payment.request_id, settings, again);
    if outcome.verdict != Verdict::Delivered {
        return outcome;
    }
    let Ok(answers) = status::answers(reply) else { return outcome };
    let refused = |payment_id: &str| {
        answers
            .iter()
            .find(|answer| answer.payment_id == payment_id)
            .filter(|answer| matches!(answer.status, Status::Rejected | Status::Invalid))
    };
    let refusals: Option<Vec<_>> = payment.transactions.iter().map(|transaction| refused(&transaction.payment_id)).collect();
    match refusals.as_deref() {
        Some([first, ..]) => {
            let clean = settings.clean(first.problem.as_bytes());
            let why = if clean.is_empty() { first.status.word().to_owned() } else { String::from_utf8_lossy(&clean).into_owned() };
            Outcome::rejected(format!("the bank refuses `{}`: {}", text::quoted(&first.payment_id), text::quoted(&why)))
        }
        Some([]) | None => outcome,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::super::authorization::tests::settings;
    use super::*;

    fn outcome(status: u16, body: &str, again: bool) -> Outcome {
        let headers = HeaderMap::new();
        let reply = Reply { status: StatusCode::from_u16(status).unwrap(), headers: &headers, body: body.as_bytes(), truncated: false };
        judge(&reply, "REQ_01", &settings(), again)
    }

    #[test]
    fn every_status_has_its_row() {
        for status in 200..600 {
            let expected = match status {
                200 | 201 | 202 | 204 => Verdict::Delivered,
                401 => Verdict::Reauthorize,
                403 => Verdict::Pause,
                400 | 409 | 413 | 422 => Verdict::Rejected,
                _ => Verdict::Retry { after: None },
            };
            assert_eq!(outcome(status, "", false).verdict, expected, "{status}");
        }
        assert_eq!(outcome(401, "", true).verdict, Verdict::Pause);
    }

    #[test]
    fn an_answer_to_another_request_is_none() {
        assert_eq!(outcome(200, r#"{"requestId":"REQ_01"}"#, false), Outcome::delivered());
        let other = outcome(200, r#"{"requestId":"REQ_02"}"#, false);
        assert!(matches!(other.verdict, Verdict::Retry { .. }) && other.reason.contains("REQ_02"));
        assert!(!outcome(500, "code kundekode, key 00112233-4455-6677-8899-aabbccddeeff", false).reason.contains("kundekode"));
    }

    #[test]
    fn a_payment_of_which_everything_is_refused_is_dead() {
        let body = br#"{"requestId":"REQ_01","transactions":[
            {"paymentId":"A","paymentDate":"2015-04-15","amount":1,"currency":"DKK","account":"1"},
            {"paymentId":"B","paymentDate":"2015-04-15","amount":1,"currency":"DKK","account":"1"}]}"#;
        let payment = Payment::new(body, "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap()).unwrap();
        let headers = HeaderMap::new();
        let judged = |answers: &str| {
            let body = format!(r#"{{"requestId":"REQ_01","answers":[{answers}]}}"#);
            judge_payment(
                &Reply { status: StatusCode::OK, headers: &headers, body: body.as_bytes(), truncated: false },
                &payment,
                &settings(),
                false,
            )
        };
        let (a, b) = (r#"{"paymentId":"A","status":16,"errors":[{"code":"7","text":"no cover"}]}"#, r#"{"paymentId":"B","status":32}"#);
        assert!(judged(&format!("{a},{b}")).reason.contains("no cover"));
        assert_eq!(judged(&format!("{a},{b}")).verdict, Verdict::Rejected);
        for answers in ["", a, r#"{"paymentId":"A","status":16},{"paymentId":"B","status":2}"#] {
            assert_eq!(judged(answers).verdict, Verdict::Delivered, "{answers}");
        }
    }
}
