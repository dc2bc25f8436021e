//! The settings of the five systems: read here, checked by the connectors themselves.

use std::sync::Arc;

use super::Compiler;
use crate::config::limits::{CONCURRENCY_DEFAULT, TIMEOUT_DEFAULT};
use crate::config::section::{Section, in_memory};
use crate::config::systems::acknowledgement_name;
use crate::config::wrong::Wrong;
use crate::config::{Breaker, Destination, Format, Target, scalar};
use crate::connectors::{Invalid, dvelop};

/// How a route's events are acknowledged, and the destination that stands for it.
pub(super) struct Acknowledging {
    pub(super) settings: Arc<dvelop::Acknowledge>,
    pub(super) destination: Destination,
}

impl Compiler<'_> {
    /// `acknowledge.dvelop` of a route.
    pub(super) fn acknowledge(&mut self, route: &str, section: &Section<'_>) -> Option<Acknowledging> {
        if !section.exists() {
            return None;
        }
        let error = section.section("error");
        let networks = section.items("allow_private");
        let draft = dvelop::AcknowledgeDraft {
            origin: section.flag("origin"),
            allowed_hosts: section.get("allowed_hosts").map(|_| section.texts("allowed_hosts")),
            allow_private: networks.iter().filter_map(|(node, _)| scalar::net(node.as_str()?).ok()).collect(),
            deadline: section.duration("deadline"),
            continue_after_deadline: section.text("after_deadline") == Some("continue"),
            error_de: error.text("de").map(str::to_owned),
            error_en: error.text("en").map(str::to_owned),
        };
        let auth = self.auth(&section.section("auth"));
        let retry = self.retry(&section.section("retry"));
        if auth.is_none() {
            let wrong = Wrong::new("nothing authenticates the report").hint("d.velop wants its API key: `auth: { bearer: { env: NAME } }`");
            self.report.warn(wrong, section.span("auth"), section.path("auth"));
        }
        let settings = Arc::new(self.checked(section, dvelop::Acknowledge::new(draft))?);
        let destination = Destination {
            name: acknowledgement_name(route),
            target: Target::DvelopReport(settings.clone()),
            format: Format::Original,
            signer: None,
            auth,
            headers: http::HeaderMap::new(),
            timeout: section.duration("timeout").unwrap_or(TIMEOUT_DEFAULT),
            retry,
            concurrency: in_memory(CONCURRENCY_DEFAULT),
            rate: None,
            breaker: Breaker::default(),
            tls: None,
        };
        Some(Acknowledging { settings, destination })
    }

    /// Settings that their connector has checked; what is wrong with them is reported where it stands.
    fn checked<T>(&mut self, section: &Section<'_>, settings: Result<T, Vec<Invalid>>) -> Option<T> {
        let invalid = match settings {
            Ok(settings) => return Some(settings),
            Err(invalid) => invalid,
        };
        for Invalid { key, message } in invalid {
            let (mut at, mut last) = (section.clone(), key);
            while let Some((outer, inner)) = last.split_once('.') {
                (at, last) = (at.section(outer), inner);
            }
            self.report.error(Wrong::new(format!("`{last}` {message}")), at.span(last), at.path(last));
        }
        None
    }
}
