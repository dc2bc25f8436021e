//! The duty to bring one event to one destination, and what became of it.

use std::fmt;

use bytes::Bytes;

use super::{DeliveryId, Name, Timestamp};

/// A lane: deliveries to one destination with the same lane go one after the other.
///
/// It is a hash of the route's `order_by` value. Two values that collide share a lane, which costs
/// concurrency and never order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(pub u64);

/// Why a delivery exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeliveryKind {
    /// It came with the event.
    Original,
    /// An operator asked for it.
    Replay,
    /// It tells the source what became of the event.
    Acknowledgement,
}

/// Where a delivery stands. All but `Pending` are final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryState {
    /// To be attempted at or after `due`.
    Pending {
        /// The earliest time of the next attempt.
        due: Timestamp,
    },
    /// The destination has taken it.
    Delivered,
    /// Given up; an operator may replay it.
    Dead(DeadReason),
    /// The delivery's `when` excluded it.
    Skipped,
    /// An operator called it off.
    Cancelled,
}

impl DeliveryState {
    /// The state's one word in the API, the command line and metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pending { .. } => "pending",
            Self::Delivered => "delivered",
            Self::Dead(_) => "dead",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more will happen to it by itself.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Pending { .. })
    }
}

/// Why a delivery is a dead letter: a code for programs, a detail for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadReason {
    /// The kind of reason.
    pub code: DeadCode,
    /// One line for the operator, free of secrets; may be empty.
    pub detail: Box<str>,
}

impl fmt::Display for DeadReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code.word())?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

macro_rules! stored_words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $code:literal, $word:literal;)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every value, in the order of their stored codes.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word in the API, the command line and metrics.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The stored code; never reused for another meaning (I12).
            pub fn code(self) -> u8 {
                match self { $(Self::$variant => $code,)+ }
            }

            /// The value with this stored code.
            pub fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

stored_words! {
    /// The kinds of reasons for a dead letter.
    DeadCode {
        /// The destination answered with a status of `retry.never`.
        Rejected = 1, "rejected";
        /// The destination answered 410 and was paused.
        Gone = 2, "gone";
        /// Older than `retry.max_age`, and attempted at least once.
        MaxAge = 3, "max_age";
        /// As many attempts as `retry.max_attempts`.
        MaxAttempts = 4, "max_attempts";
        /// The event's bytes no longer match their checksum.
        Damaged = 5, "damaged_in_store";
        /// The process died during three attempts of it.
        Interrupted = 6, "interrupted";
        /// The destination is no longer in the configuration.
        DestinationRemoved = 7, "destination_removed";
        /// No request could be made of it (its `transform` failed, say).
        Unsendable = 8, "unsendable";
        /// The time in which the source waits for its acknowledgement was about to end.
        Deadline = 9, "deadline";
    }
}

stored_words! {
    /// What an attempt came to.
    OutcomeKind {
        /// The destination has taken the event.
        Delivered = 1, "delivered";
        /// To be tried again later.
        Retry = 2, "retry";
        /// Never to be tried again.
        Rejected = 3, "rejected";
    }
}

stored_words! {
    /// Why there was no answer.
    FaultKind {
        /// The host name did not resolve.
        Dns = 1, "dns";
        /// No connection could be made.
        Connect = 2, "connect";
        /// The TLS handshake failed.
        Tls = 3, "tls";
        /// The answer did not come within the destination's `timeout`.
        Timeout = 4, "timeout";
        /// The connection broke before the answer was complete.
        Reset = 5, "reset";
        /// The answer was not HTTP.
        Protocol = 6, "protocol";
        /// The address is one that is never called.
        ForbiddenAddress = 7, "forbidden_address";
        /// The process died during the attempt.
        Interrupted = 8, "interrupted";
        /// No request could be made.
        Unsendable = 9, "unsendable";
    }
}

/// What came back from one request, or why nothing did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptResult {
    /// The destination answered.
    Response {
        /// Its status.
        status: u16,
        /// The start of its body; at most [`Attempt::EXCERPT_BYTES_MAX`].
        excerpt: Bytes,
    },
    /// There was no answer.
    Fault {
        /// What kind of fault.
        kind: FaultKind,
        /// One line for the operator; at most [`Attempt::DETAIL_BYTES_MAX`].
        detail: Box<str>,
    },
}

/// One request made for a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// 1 for the first.
    pub number: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took.
    pub duration_ms: u32,
    /// What came back.
    pub result: AttemptResult,
    /// What it came to.
    pub outcome: OutcomeKind,
}

impl Attempt {
    /// The longest excerpt of an answer that is kept.
    pub const EXCERPT_BYTES_MAX: usize = 1024;
    /// The longest detail of a fault that is kept.
    pub const DETAIL_BYTES_MAX: usize = 256;
}

/// A delivery with everything known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its identity.
    pub id: DeliveryId,
    /// Where to.
    pub destination: Name,
    /// Its lane, where the route has an `order_by`.
    pub lane: Option<Lane>,
    /// Why it exists.
    pub kind: DeliveryKind,
    /// When it was committed.
    pub created_at: Timestamp,
    /// Where it stands.
    pub state: DeliveryState,
    /// How many attempts were made.
    pub attempts: u32,
    /// Grows with every settlement; a settlement names the version it follows.
    pub version: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_codes_are_distinct_and_read_back() {
        for code in DeadCode::ALL {
            assert_eq!(DeadCode::from_code(code.code()), Some(*code));
        }
        for kind in FaultKind::ALL {
            assert_eq!(FaultKind::from_code(kind.code()), Some(*kind));
        }
        for kind in OutcomeKind::ALL {
            assert_eq!(OutcomeKind::from_code(kind.code()), Some(*kind));
        }
        assert_eq!(DeadCode::from_code(0), None);
    }
}
