//! Who a destination is: any HTTP endpoint, or one of the systems that Kurier speaks to natively.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use url::Url;

use super::{Config, Destination};
use crate::connectors::{bankintegration, dvelop, oauth, payjoe, smartbusiness, sns};
use crate::model::{Name, Secret};

/// What an acknowledgement's destination is called: its route, then this. No configured name holds a colon.
const ACKNOWLEDGE: &str = ":acknowledge";

/// The same for confirmations of a subscription.
const CONFIRM: &str = ":confirm";

/// The same for a key source's access tokens.
const KEYS: &str = ":keys";

/// The same for what a route fetches.
const PULL: &str = ":pull";

/// Most deliveries of one destination under way in batches: each is held in memory.
const BATCHED_MAX: usize = 1000;

/// What stands at a destination.
pub enum Target {
    /// An HTTP endpoint that takes events.
    Http(Url),
    /// PayJoe, and how many uploads go at a time.
    PayJoe {
        /// Its settings.
        settings: Arc<payjoe::Settings>,
        /// Most uploads at a time.
        uploads: usize,
    },
    /// Payments through BankIntegration.dk.
    BankIntegration(Arc<bankintegration::Settings>),
    /// Requests to PostFinance SmartBusiness.
    SmartBusiness(Arc<smartbusiness::Settings>),
    /// The report links of d.velop smart invoice, which every transfer names itself.
    DvelopReport(Arc<dvelop::Acknowledge>),
    /// The links by which Amazon SNS has subscriptions confirmed.
    SnsConfirm(Arc<sns::Confirm>),
    /// Where a route's events are fetched: nothing is ever delivered there.
    Pull(Arc<Pull>),
}

/// What a route fetches.
pub struct Pull {
    /// From where.
    pub source: Source,
    /// How often.
    pub every: Duration,
}

/// Where something is fetched.
pub enum Source {
    /// Transfers of d.velop smart invoice.
    Dvelop(dvelop::Pull),
    /// From BankIntegration.dk.
    BankIntegration {
        /// Whose account.
        settings: Arc<bankintegration::Settings>,
        /// What of it.
        report: BankReport,
    },
    /// A list of PostFinance SmartBusiness.
    SmartBusiness(Arc<smartbusiness::Settings>),
}

/// What is fetched from BankIntegration.dk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BankReport {
    /// The account's entries.
    Account {
        /// From this day on; the day of the first poll where none is said.
        from: Option<Date>,
    },
    /// Its balances.
    Balance,
    /// What has become of the payments that were ordered.
    Status,
}

impl Target {
    /// Its address; none where each event names one.
    pub fn url(&self) -> Option<&Url> {
        match self {
            Self::Http(url) => Some(url),
            Self::PayJoe { settings, .. } => Some(&settings.url),
            Self::BankIntegration(settings) => Some(&settings.base_url),
            Self::SmartBusiness(settings) => Some(&settings.base_url),
            Self::DvelopReport(_) => None,
            Self::SnsConfirm(settings) => settings.endpoint.as_ref(),
            Self::Pull(pull) => Some(match &pull.source {
                Source::Dvelop(settings) => &settings.base_url,
                Source::BankIntegration { settings, .. } => &settings.base_url,
                Source::SmartBusiness(settings) => &settings.base_url,
            }),
        }
    }

    /// Whether several deliveries travel in one request.
    pub fn takes_batches(&self) -> bool {
        matches!(self, Self::PayJoe { .. })
    }

    /// Whether an answer means something else after an attempt that may have arrived: a report's link is gone, an invoice's
    /// number exists.
    pub fn is_judged_by_history(&self) -> bool {
        matches!(self, Self::DvelopReport(_) | Self::SmartBusiness(_))
    }

    /// Deliveries under way at a time, where so many requests may be.
    pub(super) fn concurrency(&self, requests: usize) -> usize {
        match self {
            // An upload holds a whole batch of them.
            Self::PayJoe { settings, .. } => requests.saturating_mul(settings.batch_max).min(BATCHED_MAX),
            Self::Http(_)
            | Self::BankIntegration(_)
            | Self::SmartBusiness(_)
            | Self::DvelopReport(_)
            | Self::SnsConfirm(_)
            | Self::Pull(_) => requests,
        }
    }

    /// Scheme, host and port for operators: the rest of a url may be a secret.
    pub fn origin(&self) -> Option<String> {
        self.url().map(|url| url.origin().ascii_serialization())
    }
}

/// Shows the address without user, password, query and fragment.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(mut url) = self.url().cloned() else { return f.write_str("the link that the event names") };
        // Both fail only for urls that can't have a user.
        if url.set_username("").and_then(|()| url.set_password(None)).is_err() {
            return f.write_str("?");
        }
        url.set_query(None);
        url.set_fragment(None);
        f.write_str(url.as_str())
    }
}

impl Destination {
    /// The client with which it asks for access tokens, if it does: whether by its own credentials, and a refresh token to
    /// start from.
    pub fn client(&self) -> Option<(&oauth::Client, bool, Option<&Secret>)> {
        let settings = match &self.target {
            Target::SmartBusiness(settings) => settings,
            Target::Pull(pull) => match &pull.source {
                Source::SmartBusiness(settings) => settings,
                Source::Dvelop(_) | Source::BankIntegration { .. } => return None,
            },
            Target::Http(_) | Target::PayJoe { .. } | Target::BankIntegration(_) | Target::DvelopReport(_) | Target::SnsConfirm(_) => {
                return None;
            }
        };
        Some((&settings.client, settings.by_client, settings.refresh_token.as_ref()))
    }
}

/// The name of the destination to which a route's acknowledgements go.
pub fn acknowledgement_name(route: &str) -> Name {
    Name::from(format!("{route}{ACKNOWLEDGE}"))
}

/// The name of the destination to which confirmations of a route's subscription go.
pub(super) fn confirmation_name(route: &str) -> Name {
    Name::from(format!("{route}{CONFIRM}"))
}

/// The name under which a route's fetching is shown, measured, paused and resumed.
pub fn pull_name(route: &str) -> Name {
    Name::from(format!("{route}{PULL}"))
}

/// The name by which a key source's access tokens are known.
pub fn key_source_name(source: &str) -> Name {
    Name::from(format!("{source}{KEYS}"))
}

impl Config {
    /// Where events of this route are acknowledged, if they are.
    pub fn acknowledgement(&self, route: &str) -> Option<Name> {
        let name = acknowledgement_name(route);
        self.destinations.contains_key(&name).then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_target_has_neither_user_nor_query() {
        let shown = |url: &str| Target::Http(url.parse().unwrap()).to_string();
        assert_eq!(shown("https://u:p@erp.example.ch/hooks?token=x#y"), "https://erp.example.ch/hooks");
    }
}
