//! What is configured: the same names always, with other numbers after a reload, and once without a destination.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kurier::config::{self, Config, LoadOptions, ProcessEnvironment};

/// The destinations.
pub(super) const DESTINATIONS: [&str; 3] = ["d0", "d1", "d2"];

/// The longest time of an attempt.
pub(super) const TIMEOUT: Duration = Duration::from_secs(2);

/// The shortest gap between two attempts.
pub(super) const GAP_MIN: Duration = Duration::from_millis(200);

/// The most attempts of a delivery.
pub(super) const ATTEMPTS_MAX: u32 = 40;

/// After so many failures a delivery of the route `parks` steps out of its lane.
pub(super) const PARKS_AFTER: u32 = 2;

/// Attempts per second at the destination that has a rate.
pub(super) const RATE: usize = 5;

/// Which destination has a rate.
pub(super) const RATED: &str = "d0";

/// Where the results of the route `reported` are reported.
pub(super) const REPORTS: &str = "reports.test";

/// Where transfers are fetched.
pub(super) const SOURCE: &str = "source.test";

/// Where orders are started.
pub(super) const ORDERS: &str = "orders.test";

/// The destination that is told what became of them.
pub(super) const SHOP: &str = "shop";

/// Which of the configurations is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variant {
    Usual,
    OtherNumbers,
    WithoutD2,
}

impl Variant {
    pub(super) const ALL: [Self; 3] = [Self::Usual, Self::OtherNumbers, Self::WithoutD2];

    /// Most attempts at a time, by destination.
    pub(super) fn concurrency(self, destination: &str) -> usize {
        let at = DESTINATIONS.iter().position(|name| *name == destination).unwrap();
        match self {
            Self::Usual | Self::WithoutD2 => [2, 4, 3][at],
            Self::OtherNumbers => [1, 2, 5][at],
        }
    }

    /// Where a route delivers.
    pub(super) fn delivers(self, route: &str) -> Vec<&'static str> {
        let all: &[&str] = match route {
            "blocks" | "reported" | "fetched" => &["d0", "d1"],
            "parks" => &["d1", "d2"],
            _ => &["d0", "d1", "d2"],
        };
        all.iter().copied().filter(|name| self != Self::WithoutD2 || *name != "d2").collect()
    }

    fn config(self) -> Config {
        let destination = |name: &&str| {
            let rate = if *name == RATED { format!(", rate: {RATE}/s") } else { String::new() };
            format!(
                "  {name}:\n    url: http://{name}/hook\n    timeout: 2s\n    retry: {{ first: 1s, min: 200ms, max: 30s, max_age: 2d, max_attempts: \
                 {ATTEMPTS_MAX}, never: [422] }}\n    limits: {{ concurrency: {}{rate} }}\n    breaker: {{ failures: 4, cool_down: 5s }}\n",
                self.concurrency(name)
            )
        };
        let known = DESTINATIONS.iter().filter(|name| self != Self::WithoutD2 || **name != "d2");
        let d2 = if self == Self::WithoutD2 { "" } else { "      - { to: d2, transform: '{item: (.body.n // .body.key)}' }\n" };
        let acknowledge =
            format!("{{ dvelop: {{ allowed_hosts: [{REPORTS}], timeout: 2s, retry: {{ first: 1s, min: 200ms, max: 30s }} }} }}");
        let text = format!(
            r#"
routes:
  blocks:
    path: /blocks
    verify: none
    order_by: '{{header:x-lane}}'
    deliver: [{blocks}]
  parks:
    path: /parks
    verify: none
    order_by: {{ key: '{{header:x-lane}}', failing: {{ park: {{ after: {PARKS_AFTER} }} }} }}
    deliver: [{parks}]
  free:
    path: /free
    verify: none
    dedupe: {{ key: '{{header:x-key}}', window: 3d }}
    deliver:
      - d0
      - {{ to: d1, when: '(.body.n // .body.key) % 2 == 0' }}
{d2}  reported:
    path: /reported
    verify: none
    deliver: [{reported}]
    acknowledge: {acknowledge}
  fetched:
    pull: {{ dvelop: {{ base_url: 'http://{SOURCE}', integration_key: abc, every: 5s, timeout: 2s, retry: {{ first: 1s, min: 200ms, max: 30s }} }} }}
    deliver: [{fetched}]
    acknowledge: {acknowledge}
  orders:
    path: /orders
    methods: [GET]
    verify: none
    inpasy: {{ start_url: 'http://{ORDERS}/start', vkz: '1', result: {{ param: status, success: [ok], failure: [abbruch] }}, expire: 1min }}
    deliver: [{SHOP}]
destinations:
  {SHOP}: {{ url: 'http://{SHOP}/hook', timeout: 2s, retry: {{ first: 1s, min: 200ms, max: 30s, max_age: 2d }} }}
{destinations}"#,
            blocks = self.delivers("blocks").join(", "),
            parks = self.delivers("parks").join(", "),
            reported = self.delivers("reported").join(", "),
            fetched = self.delivers("fetched").join(", "),
            destinations = known.map(destination).collect::<String>()
        );
        match config::parse(&text, Path::new("routes.yaml"), Path::new("."), &ProcessEnvironment, &LoadOptions::default()) {
            Ok(loaded) => loaded.config,
            Err(error) => panic!("{error}\n{text}"),
        }
    }

    /// The configuration, made once for all seeds.
    pub(super) fn shared(self) -> Arc<Config> {
        static CONFIGS: [OnceLock<Arc<Config>>; 3] = [const { OnceLock::new() }; 3];
        let at = Self::ALL.iter().position(|variant| *variant == self).unwrap();
        CONFIGS[at].get_or_init(|| Arc::new(self.config())).clone()
    }
}
