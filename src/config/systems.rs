//! Who a destination is: any HTTP endpoint, or one of the systems that Kurier speaks to natively.

use std::fmt;
use std::sync::Arc;

use url::Url;

use super::Config;
use crate::connectors::{bankintegration, dvelop, payjoe, smartbusiness};
use crate::model::Name;

/// What an acknowledgement's destination is called: its route, then this. No configured name holds a colon.
const ACKNOWLEDGE: &str = ":acknowledge";

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
        }
    }

    /// Deliveries under way at a time, where so many requests may be.
    pub(super) fn concurrency(&self, requests: usize) -> usize {
        match self {
            // An upload holds a whole batch of them.
            Self::PayJoe { settings, .. } => requests.saturating_mul(settings.batch_max).min(BATCHED_MAX),
            Self::Http(_) | Self::BankIntegration(_) | Self::SmartBusiness(_) | Self::DvelopReport(_) => requests,
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
        let Some(mut url) = self.url().cloned() else { return f.write_str("the event's report link") };
        // Both fail only for urls that can't have a user.
        if url.set_username("").and_then(|()| url.set_password(None)).is_err() {
            return f.write_str("?");
        }
        url.set_query(None);
        url.set_fragment(None);
        f.write_str(url.as_str())
    }
}

/// The name of the destination to which a route's acknowledgements go.
pub fn acknowledgement_name(route: &str) -> Name {
    Name::from(format!("{route}{ACKNOWLEDGE}"))
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
