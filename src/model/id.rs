//! Identities that leave the process: of events, of deliveries and of refused requests that are kept.

use std::fmt;
use std::str::FromStr;

use ulid::Ulid;

use super::Timestamp;

/// Length of a ULID in Crockford base32.
const ULID_CHARS: usize = 26;

/// An event's identity: `evt_` and a ULID in lower case.
///
/// It is the `webhook-id` that destinations see, so it holds no dot (the Standard Webhooks signature joins
/// its parts with dots). It sorts by the time of receipt, to the millisecond.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(u128);

/// A delivery's identity: its event and its ordinal among that event's deliveries, `dlv_<ulid>_<n>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId {
    /// The event that is to be delivered.
    pub event: EventId,
    /// 0 for the first destination of the route, counting on through replays; never reused.
    pub ordinal: u32,
}

/// The identity of a refused request that is kept: `ref_` and the ULID of the event that it becomes once it is released,
/// so that no two releases of it can make two events.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RefusalId(EventId);

/// A text that is no id of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct InvalidId {
    text: String,
    expected: &'static str,
}

impl EventId {
    /// An id from the time of receipt and 80 random bits (the upper bits of `random` are ignored).
    pub fn new(received_at: Timestamp, random: u128) -> Self {
        Self(Ulid::from_parts(received_at.millis().unsigned_abs(), random).0)
    }

    /// The 128 bits, as stored.
    pub fn to_bits(self) -> u128 {
        self.0
    }

    /// The inverse of [`EventId::to_bits`].
    pub fn from_bits(bits: u128) -> Self {
        Self(bits)
    }
}

impl RefusalId {
    /// The refusal that is released as this event.
    pub fn new(event: EventId) -> Self {
        Self(event)
    }

    /// The event that it becomes.
    pub fn event(self) -> EventId {
        self.0
    }

    /// When the request was received, to the millisecond.
    pub fn received_at(self) -> Timestamp {
        Timestamp::from_millis(i64::try_from(Ulid(self.0.0).timestamp_ms()).unwrap_or(i64::MAX))
    }
}

impl DeliveryId {
    /// The delivery of `event` with this ordinal.
    pub fn new(event: EventId, ordinal: u32) -> Self {
        Self { event, ordinal }
    }
}

fn parse_ulid(text: &str) -> Option<u128> {
    if text.len() != ULID_CHARS {
        return None;
    }
    Ulid::from_string(text).ok().map(|ulid| ulid.0)
}

impl FromStr for EventId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        text.strip_prefix("evt_")
            .and_then(parse_ulid)
            .map(Self)
            .ok_or_else(|| InvalidId { text: text.chars().take(64).collect(), expected: "an event id (`evt_` and 26 characters)" })
    }
}

impl FromStr for RefusalId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let id = text.strip_prefix("ref_").and_then(parse_ulid).map(|ulid| Self(EventId(ulid)));
        id.ok_or_else(|| InvalidId { text: text.chars().take(64).collect(), expected: "a refusal's id (`ref_` and 26 characters)" })
    }
}

impl FromStr for DeliveryId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let parse = || {
            let (ulid, ordinal) = text.strip_prefix("dlv_")?.split_once('_')?;
            Some(Self::new(EventId(parse_ulid(ulid)?), ordinal.parse().ok()?))
        };
        parse().ok_or_else(|| InvalidId {
            text: text.chars().take(64).collect(),
            expected: "a delivery id (`dlv_`, 26 characters, `_` and a number)",
        })
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "evt_{}", Ulid(self.0).to_string().to_ascii_lowercase())
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for RefusalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ref_{}", Ulid(self.0.0).to_string().to_ascii_lowercase())
    }
}

impl fmt::Debug for RefusalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dlv_{}_{}", Ulid(self.event.0).to_string().to_ascii_lowercase(), self.ordinal)
    }
}

impl fmt::Debug for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_what_they_print() {
        let event = EventId::new(Timestamp::from_millis(1_700_000_000_123), 0x1234_5678_9abc_def0_1234);
        assert_eq!(event.to_string().parse(), Ok(event));
        let delivery = DeliveryId::new(event, 7);
        assert_eq!(delivery.to_string().parse(), Ok(delivery));
        assert!(!event.to_string().contains('.'));
        let refusal = RefusalId::new(event);
        assert_eq!(refusal.to_string().parse(), Ok(refusal));
        assert_eq!(refusal.received_at(), Timestamp::from_millis(1_700_000_000_123));
        assert_eq!(refusal.to_string().replace("ref_", "evt_"), event.to_string());
    }

    #[test]
    fn other_texts_are_refused_with_what_was_expected() {
        for text in ["", "evt_", "evt_01", "dlv_01hf7yat1vs7k5g8n3kgdh9z8x_1", "evt_01hf7yat1vs7k5g8n3kgdh9z8u"] {
            assert!(text.parse::<EventId>().is_err() && text.parse::<RefusalId>().is_err(), "{text}");
        }
        assert_eq!(
            "x".parse::<DeliveryId>().unwrap_err().to_string(),
            "`x` is not a delivery id (`dlv_`, 26 characters, `_` and a number)"
        );
    }
}
