//! BankIntegration.dk: payments out, their status until it is final, statements and balances in.
//!
//! The `Authorization` of each request is bound to its time and content: it is computed when a request is made for one
//! attempt and never stored. Amounts are decimals; the one in the HMAC and the one in the JSON come from the same value.

mod authorization;
mod followed;
mod payment;
mod reply;
mod reports;
mod settings;
mod status;

pub use authorization::{AUTHORIZATION_BYTES_MAX, Authorization};
pub use followed::{FOLLOWED_MAX, Ordered, state_prefix};
pub use payment::{Payment, PaymentProblem, TRANSACTIONS_MAX, Transaction, cancel};
pub use reply::{judge, judge_payment};
pub use reports::{
    Balance, DAYS_MAX, ENTRIES_MAX, Entry, OVERLAP_DAYS, Window, balance_request, balances, entries, statement_request, window,
};
pub use settings::{BASE_URL, KEYS, PULL_KEYS, Settings, SettingsDraft};
pub use status::{Change, Followed, Status, changes, status_request, status_text};
