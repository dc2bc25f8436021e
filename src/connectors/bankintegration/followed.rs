//! Payments whose status is followed, as they are kept until it is final.

use serde::{Deserialize, Serialize};

use super::status::{Followed, Status};
use crate::model::Timestamp;

/// Payments of one account whose status is followed at a time.
pub const FOLLOWED_MAX: usize = 1000;

/// The payments of one request.
#[derive(Debug, Clone, PartialEq)]
pub struct Ordered {
    /// The request.
    pub request_id: String,
    /// When it was ordered.
    pub since: Timestamp,
    /// Each payment with the status last heard of.
    pub payments: Followed,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    since_ms: i64,
    payments: Vec<(String, Option<i64>)>,
}

/// The names under which the requests of an account are kept begin so.
pub fn state_prefix(account: &str) -> String {
    format!("bankintegration/{account}/")
}

impl Ordered {
    /// Payments that are about to be ordered.
    pub fn new(request_id: &str, payments: impl IntoIterator<Item = String>, now: Timestamp) -> Self {
        let payments = payments.into_iter().map(|id| (id, None)).collect();
        Self { request_id: request_id.to_owned(), since: now, payments }
    }

    /// Whether nothing more is to be heard of them.
    pub fn is_final(&self) -> bool {
        self.payments.values().all(|status| status.is_some_and(Status::is_final))
    }

    /// The name under which it is kept.
    pub fn state_name(&self, account: &str) -> String {
        format!("{}{}", state_prefix(account), self.request_id)
    }

    /// As bytes, to be kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        let payments = self.payments.iter().map(|(id, status)| (id.clone(), status.map(Status::number))).collect();
        serde_json::to_vec(&Stored { since_ms: self.since.millis(), payments }).unwrap_or_default()
    }

    /// What was kept under this name; `None` where it can't be read.
    pub fn from_state(account: &str, name: &str, bytes: &[u8]) -> Option<Self> {
        let request_id = name.strip_prefix(&state_prefix(account))?.to_owned();
        let stored: Stored = serde_json::from_slice(bytes).ok()?;
        let payments = stored.payments.into_iter().map(|(id, status)| (id, status.map(Status::from_number))).collect();
        Some(Self { request_id, since: Timestamp::from_millis(stored.since_ms), payments })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_reads_back_and_is_final_when_every_payment_is() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let mut ordered = Ordered::new("REQ/1", ["a".to_owned(), "b".to_owned()], now);
        ordered.payments.insert("a".to_owned(), Some(Status::Succeeded));
        let name = ordered.state_name("123");
        assert_eq!(Ordered::from_state("123", &name, &ordered.to_bytes()), Some(ordered.clone()));
        assert_eq!(Ordered::from_state("124", &name, &ordered.to_bytes()), None);
        assert!(!ordered.is_final());
        ordered.payments.insert("b".to_owned(), Some(Status::Rejected));
        assert!(ordered.is_final());
    }
}
