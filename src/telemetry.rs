//! Names of logs and metrics, and what may stand in them: configured names and ids, never bodies, secrets or
//! signatures (I9), and never a label that a sender can choose (I10).

pub mod logs;
mod metrics;

pub use metrics::{Backlog, Counter, Metrics, RefusalReason, UNKNOWN_ROUTE};
