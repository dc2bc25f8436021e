//! What an operator says of d.velop smart invoice.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

use super::link::AllowedHosts;
use super::report::Texts;
use crate::connectors::keys::{Holds, Invalid, Key, Problems};
use crate::model::{Timestamp, is_metadata, is_public};

/// A transfer waits two days; an administrator can shorten that, never lengthen it.
pub const DEADLINE_MAX: Duration = Duration::from_secs(48 * 3600);
/// An hour before the transfer counts as failed.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(47 * 3600);
const DEADLINE_MIN: Duration = Duration::from_secs(60);

/// Pages of one poll, unless `max_pages` says otherwise.
pub const MAX_PAGES_DEFAULT: u32 = 100;
const MAX_PAGES_MAX: u32 = 10_000;

const HOSTS_DEFAULT: [&str; 2] = ["*.d-velop.cloud", "*.d-velop.de"];
const DE_DEFAULT: &str = "Übergabe fehlgeschlagen.";
const EN_DEFAULT: &str = "Transfer failed.";

/// The keys of `acknowledge.dvelop`.
pub const ACKNOWLEDGE_KEYS: &[Key] = &[
    Key::optional("auth", Holds::Auth, "How the report is authenticated; d.velop asks for its API key as `bearer`."),
    Key::default("origin", Holds::Flag, "true", "Whether `Origin: <tenant's base uri>` is sent along."),
    Key::default(
        "allowed_hosts",
        Holds::Texts,
        "*.d-velop.cloud, *.d-velop.de",
        "Hosts that a report link may name; narrow it to your own.",
    ),
    Key::optional("allow_private", Holds::Networks, "Ranges that a report link may lead to although they are not public."),
    Key::default("timeout", Holds::Duration { min: 1, max: 3_600_000 }, "15s", "Longest time for one report."),
    Key::optional("retry", Holds::Retry, "As for a destination; the deadline ends it in any case."),
    Key::default(
        "deadline",
        Holds::Duration { min: 60_000, max: 172_800_000 },
        "47h",
        "After first sight; then the failure is reported even though deliveries are still pending.",
    ),
    Key::default(
        "after_deadline",
        Holds::Word(&["dead", "continue"]),
        "dead",
        "What becomes of deliveries that are still pending once the failure is reported.",
    ),
    Key::optional(
        "error",
        Holds::Object(&[
            Key::default("de", Holds::Text, DE_DEFAULT, "What users read in German; the reason follows, or stands at `{reason}`."),
            Key::default("en", Holds::Text, EN_DEFAULT, "What users read in English."),
        ]),
        "The texts of a failure, shown to the users of d.velop.",
    ),
];

/// The keys of `pull.dvelop`.
pub const PULL_KEYS: &[Key] = &[
    Key::required("base_url", Holds::Url, "The tenant's address, such as `https://acme.d-velop.cloud`."),
    Key::required("integration_key", Holds::TextOrSecret, "From the administration of d.velop; it selects transfers and is no secret."),
    Key::default("every", Holds::Duration { min: 1000, max: 86_400_000 }, "60s", "How often to ask."),
    Key::optional("auth", Holds::Auth, "How the request is authenticated; d.velop asks for its API key as `bearer`."),
    Key::default("max_pages", Holds::Integer { min: 1, max: 10_000 }, "100", "Most pages of one poll; the rest comes with the next."),
    Key::default("timeout", Holds::Duration { min: 1, max: 3_600_000 }, "30s", "Longest time for one page."),
    Key::optional("retry", Holds::Retry, "How a failed poll is repeated."),
];

/// `acknowledge.dvelop` as written; what is `None` has a default.
#[derive(Debug, Clone, Default)]
pub struct AcknowledgeDraft {
    /// Whether to send `Origin`.
    pub origin: Option<bool>,
    /// Patterns of hosts.
    pub allowed_hosts: Option<Vec<String>>,
    /// Ranges that need not be public.
    pub allow_private: Vec<IpNet>,
    /// From first sight.
    pub deadline: Option<Duration>,
    /// Whether pending deliveries go on after the deadline.
    pub continue_after_deadline: bool,
    /// German text.
    pub error_de: Option<String>,
    /// English text.
    pub error_en: Option<String>,
}

/// How results are reported.
#[derive(Debug, Clone)]
pub struct Acknowledge {
    /// Whether to send `Origin`.
    pub origin: bool,
    /// Hosts that a report link may name.
    pub allowed_hosts: AllowedHosts,
    /// Ranges that need not be public.
    pub allow_private: Vec<IpNet>,
    /// From first sight to our own report of failure.
    pub deadline: Duration,
    /// Whether pending deliveries go on after the deadline.
    pub continue_after_deadline: bool,
    /// What users read.
    pub texts: Texts,
}

impl Acknowledge {
    /// Checked settings.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn new(draft: AcknowledgeDraft) -> Result<Self, Vec<Invalid>> {
        let mut problems = Problems::default();
        let patterns = draft.allowed_hosts.unwrap_or_else(|| HOSTS_DEFAULT.map(str::to_owned).to_vec());
        let allowed_hosts = AllowedHosts::new(&patterns).map_err(|message| problems.add("allowed_hosts", message)).ok();
        let deadline = draft.deadline.unwrap_or(DEADLINE_DEFAULT);
        if deadline > DEADLINE_MAX {
            problems.add("deadline", "is longer than 48h, after which d.velop itself counts the transfer as failed");
        } else if deadline < DEADLINE_MIN {
            problems.add("deadline", "is shorter than a minute");
        }
        let texts = Texts::new(draft.error_de.as_deref().unwrap_or(DE_DEFAULT), draft.error_en.as_deref().unwrap_or(EN_DEFAULT));
        let texts = texts.map_err(|(key, message)| problems.add(key, message)).ok();
        let settings = || {
            Some(Self {
                origin: draft.origin.unwrap_or(true),
                allowed_hosts: allowed_hosts?,
                allow_private: draft.allow_private,
                deadline,
                continue_after_deadline: draft.continue_after_deadline,
                texts: texts?,
            })
        };
        let settings = settings();
        problems.finish(settings)
    }

    /// When the failure is reported unless everything is settled before.
    pub fn due(&self, first_seen: Timestamp) -> Timestamp {
        first_seen.saturating_add(self.deadline)
    }

    /// Whether this address, to which a report link leads, may be connected to.
    pub fn may_connect(&self, address: IpAddr) -> bool {
        !is_metadata(address) && (is_public(address) || self.allow_private.iter().any(|net| net.contains(&address)))
    }
}

/// `pull.dvelop` as written; what is `None` has a default.
#[derive(Debug, Clone, Default)]
pub struct PullDraft {
    /// The tenant.
    pub base_url: Option<Url>,
    /// Which transfers.
    pub integration_key: Option<String>,
    /// Most pages of one poll.
    pub max_pages: Option<u32>,
}

/// How transfers are fetched.
#[derive(Debug, Clone)]
pub struct Pull {
    /// The tenant; its path ends with a slash.
    pub base_url: Url,
    /// Which transfers.
    pub integration_key: String,
    /// Most pages of one poll.
    pub max_pages: u32,
}

impl Pull {
    /// Checked settings.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn new(draft: PullDraft) -> Result<Self, Vec<Invalid>> {
        let mut problems = Problems::default();
        let base_url = problems.need("base_url", draft.base_url).map(crate::connectors::folder);
        let integration_key = problems.need("integration_key", draft.integration_key);
        if integration_key.as_deref().is_some_and(|key| key.trim().is_empty()) {
            problems.add("integration_key", "is empty");
        }
        let max_pages = draft.max_pages.unwrap_or(MAX_PAGES_DEFAULT);
        if max_pages == 0 || max_pages > MAX_PAGES_MAX {
            problems.add("max_pages", format!("must be from 1 to {MAX_PAGES_MAX}"));
        }
        let settings = || Some(Self { base_url: base_url?, integration_key: integration_key?, max_pages });
        let settings = settings();
        problems.finish(settings)
    }
}
