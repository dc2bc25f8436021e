//! Plain data: events, deliveries, attempts and their outcomes. No IO, no clock.

mod address;
mod delivery;
mod event;
mod figures;
mod headers;
mod id;
mod notice;
mod rate;
mod secret;
mod time;

use std::sync::Arc;

pub use address::{is_metadata, is_public, literal};
pub use delivery::{Attempt, AttemptResult, DeadCode, DeadReason, Delivery, DeliveryKind, DeliveryState, FaultKind, Lane, OutcomeKind};
pub use event::{Answer, Event, Inbound};
pub use figures::{DestinationCounts, StoreStats};
pub use headers::{is_hop_by_hop, keep_end_to_end};
pub use id::{DeliveryId, EventId, InvalidId, RefusalId};
pub use notice::{Notice, NoticeKind};
pub use rate::Rate;
pub use secret::{ClientTls, Secret};
pub use time::{InvalidTimestamp, Timestamp};

/// A configured name (of a route or a destination), shared by everything that mentions it.
pub type Name = Arc<str>;
