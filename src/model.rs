//! Plain data: events, deliveries, attempts and their outcomes. No IO, no clock.

mod delivery;
mod event;
mod figures;
mod id;
mod rate;
mod secret;
mod time;

use std::sync::Arc;

pub use delivery::{Attempt, AttemptResult, DeadCode, DeadReason, Delivery, DeliveryKind, DeliveryState, FaultKind, Lane, OutcomeKind};
pub use event::{Answer, Event, Inbound};
pub use figures::{DestinationCounts, StoreStats};
pub use id::{DeliveryId, EventId, InvalidId};
pub use rate::Rate;
pub use secret::{ClientTls, Secret};
pub use time::{InvalidTimestamp, Timestamp};

/// A configured name (of a route or a destination), shared by everything that mentions it.
pub type Name = Arc<str>;
