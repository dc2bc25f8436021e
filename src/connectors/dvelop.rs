//! d.velop smart invoice: the report of a transfer's result, and the transfers that wait to be fetched.
//!
//! The webhook's signature is a preset of the scheme language. Both ways of getting a transfer end alike: the result is
//! reported once, to the link that the transfer itself names.

mod link;
mod report;
mod settings;
mod transfers;

pub use link::{AllowedHosts, LinkError, report_link, tenant_base};
pub use report::{Failure, Report, Texts, judge_report, report};
pub use settings::{
    ACKNOWLEDGE_KEYS, Acknowledge, AcknowledgeDraft, DEADLINE_DEFAULT, DEADLINE_MAX, MAX_PAGES_DEFAULT, PULL_KEYS, Pull, PullDraft,
};
pub use transfers::{PAGE_TRANSFERS_MAX, Transfer, Walk};
