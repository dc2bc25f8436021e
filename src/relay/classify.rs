//! What a reply means for its delivery. Pure.
//!
//! Only a 2xx delivers. Only a 410 and the statuses of `retry.never` end it; everything else, a 404 or a 401
//! during a deploy too, is tried again.

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};

use super::breaker::Health;
use crate::egress::{Fault, Reply};
use crate::model::{OutcomeKind, Timestamp};

/// What an attempt came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The destination has taken the event.
    Delivered,
    /// 410: the destination wants nothing more, not only not this event.
    Gone,
    /// It will never take this event: a status of `retry.never`, or what a system's own table says.
    Rejected,
    /// It takes nothing until an operator has mended something: the destination is paused, the delivery waits.
    Pause,
    /// To be tried again; after this long, where the destination asked for it.
    Retry { asked_for: Option<Duration> },
}

impl Verdict {
    /// The word for it in metrics and in the stored attempt.
    pub(super) fn outcome(self) -> OutcomeKind {
        match self {
            Self::Delivered => OutcomeKind::Delivered,
            Self::Gone | Self::Rejected => OutcomeKind::Rejected,
            Self::Retry { .. } | Self::Pause => OutcomeKind::Retry,
        }
    }

    /// What it says about the destination.
    pub(super) fn health(self) -> Health {
        match self {
            Self::Delivered | Self::Gone | Self::Rejected | Self::Pause => Health::Alive,
            Self::Retry { .. } => Health::Failing,
        }
    }
}

/// The verdict on a reply or a fault, received at `now`.
pub(super) fn classify(result: &Result<Reply, Fault>, never: &[u16], now: Timestamp) -> Verdict {
    match result {
        Ok(reply) if reply.status.is_success() => Verdict::Delivered,
        Ok(reply) if reply.status == StatusCode::GONE => Verdict::Gone,
        Ok(reply) if never.contains(&reply.status.as_u16()) => Verdict::Rejected,
        Ok(reply) => Verdict::Retry { asked_for: retry_after(&reply.headers, now) },
        Err(_) => Verdict::Retry { asked_for: None },
    }
}

/// `Retry-After` as a gap: whole seconds, or a date. Anything else is as if it weren't there.
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    let date = Timestamp::from_millis(i64::try_from(date.as_millis()).ok()?);
    Some(date.since(now))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::FaultKind;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn reply(status: u16, retry_after: Option<&str>) -> Result<Reply, Fault> {
        let mut headers = HeaderMap::new();
        if let Some(text) = retry_after {
            headers.insert(RETRY_AFTER, text.parse().unwrap());
        }
        Ok(Reply { status: StatusCode::from_u16(status).unwrap(), headers, body: Bytes::new(), truncated: false })
    }

    fn verdict(status: u16) -> Verdict {
        classify(&reply(status, None), &[400, 413, 422], NOW)
    }

    #[test]
    fn every_status_has_its_row_in_the_policy_table() {
        for status in 200..300 {
            assert_eq!(verdict(status), Verdict::Delivered);
        }
        assert_eq!(verdict(410), Verdict::Gone);
        for status in [400, 413, 422] {
            assert_eq!(verdict(status), Verdict::Rejected);
        }
        for status in (300..600).filter(|status| ![400, 410, 413, 422].contains(status)) {
            assert_eq!(verdict(status), Verdict::Retry { asked_for: None }, "{status}");
        }
        let fault = Err(Fault { kind: FaultKind::Dns, detail: String::new() });
        assert_eq!(classify(&fault, &[], NOW), Verdict::Retry { asked_for: None });
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let asked = |text| match classify(&reply(503, Some(text)), &[], NOW) {
            Verdict::Retry { asked_for } => asked_for,
            Verdict::Delivered | Verdict::Gone | Verdict::Rejected | Verdict::Pause => panic!("a 503 is a retry"),
        };
        assert_eq!(asked("120"), Some(Duration::from_secs(120)));
        assert_eq!(asked("0"), Some(Duration::ZERO));
        assert_eq!(asked("1000000000000"), Some(Duration::from_secs(1_000_000_000_000)));
        assert_eq!(asked("99999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        assert_eq!(asked("Tue, 14 Nov 2023 22:14:20 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(asked("Tue, 14 Nov 2000 22:14:20 GMT"), Some(Duration::ZERO));
        for text in ["-1", "+5", "1.5", "soon", "", "Tue, 14 Nov 1900 22:14:20 GMT"] {
            assert_eq!(asked(text), None, "{text}");
        }
    }
}
