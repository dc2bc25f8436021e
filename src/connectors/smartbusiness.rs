//! PostFinance SmartBusiness (smallinvoice v2): requests made from events, lists polled for changes.
//!
//! There is no idempotency key. A deterministic `number` makes the repeat of an attempt whose answer was lost an error of
//! its own, which then counts as delivered. There are no webhooks: changes are found by polling.

mod lists;
mod reply;
mod settings;
mod template;

pub use lists::{Item, PAGE_ITEMS_MAX, Poll};
pub use reply::{RESET_MAX, RateLimit, judge, rate_limit};
pub use settings::{BASE_URL, KEYS, PULL_KEYS, Settings, SettingsDraft};
pub use template::{RequestTemplate, TemplateProblem};
