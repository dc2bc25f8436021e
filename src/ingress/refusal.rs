//! Every way in which a request is not accepted. The reason goes to metrics and logs, never into the answer.

use std::time::Duration;

use http::Method;

use crate::signature;
use crate::telemetry::RefusalReason;

/// Why a request is refused: nothing of it is stored, and nothing of it ever will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refused {
    /// No route has this path.
    UnknownPath,
    /// The route takes other methods.
    Method(Vec<Method>),
    /// What came is HTTP, and yet nothing that could be kept; why, for the log.
    Malformed(&'static str),
    /// More headers than a request may have.
    TooManyHeaders,
    /// Over a rate; how long to wait.
    Rate(Duration),
    /// The body is longer than allowed.
    BodyTooLarge,
    /// The body came too slowly.
    BodyTooSlow,
    /// The body broke off, or its framing is wrong.
    BodyBroken,
    /// Too many bytes in flight.
    Overload,
    /// The process is about to stop.
    Stopping,
    /// The sender is not authenticated; with the scheme's status for that.
    Unauthenticated(signature::Refusal, u16),
    /// The store did not take it; why, for the log.
    Store(&'static str),
}

impl Refused {
    /// The metric's word for it.
    pub(super) fn reason(&self) -> RefusalReason {
        match self {
            Self::UnknownPath => RefusalReason::UnknownPath,
            Self::Method(_) => RefusalReason::Method,
            Self::Malformed(_) | Self::TooManyHeaders | Self::BodyBroken => RefusalReason::BadRequest,
            Self::Rate(_) => RefusalReason::Rate,
            Self::BodyTooLarge => RefusalReason::TooLarge,
            Self::BodyTooSlow => RefusalReason::TooSlow,
            Self::Overload | Self::Stopping => RefusalReason::Overload,
            Self::Unauthenticated(why, _) => authentication(*why),
            Self::Store(_) => RefusalReason::Store,
        }
    }

    /// What the log adds to the reason.
    pub(super) fn detail(&self) -> &'static str {
        match self {
            Self::Malformed(why) | Self::Store(why) => why,
            Self::TooManyHeaders => "too many headers",
            Self::BodyBroken => "the body broke off or its framing is wrong",
            Self::Stopping => "stopping",
            Self::Overload => "too many bytes in flight (server.limits.in_flight)",
            Self::UnknownPath | Self::Method(_) | Self::Rate(_) | Self::BodyTooLarge | Self::BodyTooSlow | Self::Unauthenticated(..) => "",
        }
    }
}

fn authentication(why: signature::Refusal) -> RefusalReason {
    match why {
        signature::Refusal::MissingHeader => RefusalReason::MissingHeader,
        // Ingress judges and never only verifies, so a handshake does not come here as a refusal.
        signature::Refusal::Malformed | signature::Refusal::Handshake => RefusalReason::Malformed,
        signature::Refusal::Mismatch => RefusalReason::Mismatch,
        signature::Refusal::Stale => RefusalReason::Stale,
        signature::Refusal::UnknownKey => RefusalReason::UnknownKey,
        signature::Refusal::KeyFetch => RefusalReason::KeyFetch,
        signature::Refusal::Address => RefusalReason::Address,
    }
}
