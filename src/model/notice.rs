//! What a person should know, told by whoever notices it.

use super::{DeliveryId, Name};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NoticeKind {
    /// A delivery is a dead letter.
    DeadLetter,
    /// An event was not settled in the time in which its source waits.
    Deadline,
    /// A destination was paused by what it answered.
    Paused,
    /// An authorization must be renewed by a person.
    Authorization,
}

impl NoticeKind {
    /// The type of the event that tells of it.
    pub fn event_type(self) -> &'static str {
        match self {
            Self::DeadLetter => "kurier.dead_letter",
            Self::Deadline => "kurier.deadline",
            Self::Paused => "kurier.paused",
            Self::Authorization => "kurier.authorization",
        }
    }
}

/// Something that a person should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What happened.
    pub kind: NoticeKind,
    /// The destination that it is about.
    pub destination: Name,
    /// The route, where it is about an event.
    pub route: Option<Name>,
    /// The delivery, where it is about one.
    pub delivery: Option<DeliveryId>,
    /// Why, free of secrets.
    pub reason: String,
}
