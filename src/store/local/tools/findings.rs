//! What a check says.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::model::{DeliveryId, EventId, Name};

/// Something that damage took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// An event. With `body_only` it stays known, and its deliveries end dead (`damaged_in_store`); else it is gone
    /// with its deliveries.
    Event {
        /// Which one.
        id: EventId,
        /// Its route, `?` where that can't be read.
        route: Name,
        /// Where its deliveries were to go, as far as that can be read.
        destinations: Vec<Name>,
        /// Only its body is damaged.
        body_only: bool,
    },
    /// What became of a delivery: it may be delivered again.
    Settlement {
        /// Which one.
        delivery: DeliveryId,
    },
    /// Deliveries that an operator asked for.
    Replay {
        /// Of which event.
        event: EventId,
    },
    /// A value of a named state: an older one may be in force again.
    State {
        /// Its name, where that can be read.
        name: Option<String>,
    },
    /// A dedupe key: a repeat of its event would be stored again.
    Key {
        /// Which event had it.
        event: EventId,
    },
    /// Bytes that nobody can read any more.
    Bytes {
        /// How many.
        bytes: u64,
    },
    /// A whole segment.
    Segment {
        /// Its number.
        number: u64,
    },
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event { id, route, destinations, body_only } => {
                let word = if *body_only { "the body of event" } else { "event" };
                write!(f, "{word} {id} of route {route}")?;
                for (ordinal, destination) in (0..).zip(destinations) {
                    write!(f, ", delivery {} to {destination}", DeliveryId::new(*id, ordinal))?;
                }
                if *body_only { f.write_str(": they end dead, damaged_in_store") } else { Ok(()) }
            }
            Self::Settlement { delivery } => write!(f, "what became of delivery {delivery}: it may be made again"),
            Self::Replay { event } => write!(f, "a replay of event {event}"),
            Self::State { name: Some(name) } => write!(f, "a value of the state `{name}`: an older one may be in force"),
            Self::State { name: None } => f.write_str("a value of a state"),
            Self::Key { event } => write!(f, "the dedupe key of event {event}: a repeat of it would be stored again"),
            Self::Bytes { bytes } => write!(f, "{bytes} bytes that can't be read"),
            Self::Segment { number } => write!(f, "the whole segment {number:016x}"),
        }
    }
}

/// One damaged place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file, from the store's folder on.
    pub file: PathBuf,
    /// The byte where it begins.
    pub offset: u64,
    /// What is wrong.
    pub what: String,
    /// What it takes.
    pub lost: Vec<Lost>,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Segments read.
    pub segments: u64,
    /// Batches that count.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Damage, in the journal's order.
    pub damage: Vec<Finding>,
    /// Events that are gone with their records, and are known from what followed from them.
    pub missing: BTreeSet<EventId>,
}

impl Findings {
    pub(super) fn add(&mut self, name: &str, offset: usize, what: impl Into<String>, lost: Vec<Lost>) {
        self.damage.push(Finding { file: Path::new("journal").join(name), offset: offset as u64, what: what.into(), lost });
    }
}
