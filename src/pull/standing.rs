//! How a route's polls stand: kept under `pull/<route>`, for the next start and for operators.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::model::{Name, Timestamp};
use crate::store::Store;

/// The longest error that is kept.
const ERROR_CHARS_MAX: usize = 500;

/// See the module. Fields are only ever added, each with a default (I12).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Standing {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_success_ms: Option<i64>,
    /// Polls in a row that failed.
    #[serde(default)]
    failures: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    /// The last day that was fetched whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fetched: Option<String>,
    /// The first day ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start: Option<String>,
}

/// The name under which a route's standing is kept.
fn state_name(route: &Name) -> String {
    format!("pull/{route}")
}

impl Standing {
    /// As it was kept; anew where it can't be read: what is fetched again is known by its key.
    pub(super) async fn read(store: &dyn Store, route: &Name) -> Self {
        let name = state_name(route);
        match store.states(&name).await {
            Ok(states) => states.get(&name).and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default(),
            Err(error) => {
                tracing::error!(route.name = %route, %error, "where the polls of {route} stand can't be read: they begin anew");
                Self::default()
            }
        }
    }

    /// Keeps it; what is not kept is fetched again after a start.
    pub(super) async fn write(&self, store: &dyn Store, route: &Name) {
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        if let Err(error) = store.set_state(state_name(route), Some(bytes.into())).await {
            tracing::warn!(route.name = %route, %error, "where the polls of {route} stand is not stored");
        }
    }

    pub(super) fn succeeded(&mut self, now: Timestamp) {
        self.last_success_ms = Some(now.millis());
        self.failures = 0;
        self.last_error = None;
    }

    /// Counts a failure; how many there were in a row.
    pub(super) fn failed(&mut self, reason: &str) -> u32 {
        self.failures = self.failures.saturating_add(1);
        self.last_error = Some(reason.chars().take(ERROR_CHARS_MAX).collect());
        self.failures
    }

    pub(super) fn last_error(&self) -> &str {
        self.last_error.as_deref().unwrap_or_default()
    }

    pub(super) fn fetched(&self) -> Option<Date> {
        self.fetched.as_deref()?.parse().ok()
    }

    pub(super) fn set_fetched(&mut self, day: Date) {
        self.fetched = Some(day.to_string());
    }

    /// The first day ever: as configured, else the day of the first poll.
    pub(super) fn start(&mut self, configured: Option<Date>, today: Date) -> Date {
        let start = configured.or_else(|| self.start.as_deref()?.parse().ok()).unwrap_or(today);
        self.start = Some(start.to_string());
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;

    #[tokio::test]
    async fn it_reads_back_and_the_first_day_stays_the_first() {
        let (store, route) = (MemoryStore::new(), Name::from("statements"));
        let day: Date = "2026-02-28".parse().unwrap();
        let mut standing = Standing::default();
        assert_eq!(standing.start(None, day), day);
        assert_eq!((standing.failed("no"), standing.failed(&"x".repeat(1000))), (1, 2));
        standing.set_fetched(day);
        standing.write(&store, &route).await;
        let mut read = Standing::read(&store, &route).await;
        assert_eq!(read, standing);
        assert_eq!(read.last_error().len(), ERROR_CHARS_MAX);
        assert_eq!(read.start(None, "2026-03-05".parse().unwrap()), day);
        read.succeeded(Timestamp::from_millis(7));
        assert_eq!((read.last_error(), read.fetched()), ("", Some(day)));
    }
}
