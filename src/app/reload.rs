//! Reload: on SIGHUP, and when a file that the configuration was read from has changed.
//!
//! Parse, resolve and build first; then one pointer is swapped. Any error keeps the old configuration, whole.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::keys::Keeper;
use super::{warn, wire};
use crate::clock::Clock;
use crate::config::{self, Config, Fingerprints, Live, LoadOptions, ProcessEnvironment, Watcher};
use crate::server::LiveOptions;
use crate::store::Store;
use crate::telemetry::Metrics;

/// How often the files are looked at: a rotated secret counts within a second.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Watches the files and reloads.
pub(super) struct Reloader {
    asked: Arc<Notify>,
    task: JoinHandle<()>,
}

/// What a reload changes.
pub(super) struct Target {
    pub(super) file: PathBuf,
    pub(super) config: Live,
    pub(super) changed: watch::Sender<()>,
    pub(super) public: LiveOptions,
    pub(super) store: Arc<dyn Store>,
    pub(super) keys: Keeper,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Reloader {
    pub(super) fn start(target: Target, read: &Fingerprints) -> Self {
        let asked = Arc::new(Notify::new());
        let task = tokio::spawn(target.watch(Watcher::since(read), asked.clone()));
        Self { asked, task }
    }

    /// Asks for a reload whether or not a file has changed.
    pub(super) fn reload_now(&self) {
        self.asked.notify_one();
    }

    pub(super) fn stop(&self) {
        self.task.abort();
    }
}

impl Target {
    async fn watch(self, mut watcher: Watcher, asked: Arc<Notify>) {
        loop {
            let demanded = tokio::select! {
                biased;
                () = asked.notified() => true,
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
            if watcher.changed() || demanded {
                match self.reload() {
                    Ok(read) => watcher.follow(&read),
                    Err(read) => watcher.follow_also(&read),
                }
            }
        }
    }

    /// Reloads. Either way it returns what was read, so that a change of it is noticed.
    fn reload(&self) -> Result<Fingerprints, Fingerprints> {
        let file = self.file.display();
        let options = LoadOptions { now: Some(self.clock.now()), ..LoadOptions::default() };
        let refused = |problems: &dyn std::fmt::Display| {
            tracing::error!("{file} is not reloaded, the configuration of before stays in force:\n{problems}");
            self.metrics.reloaded(false);
        };
        let loaded = match config::load(&self.file, &ProcessEnvironment, &options) {
            Ok(loaded) => loaded,
            Err(error) => {
                refused(&error);
                return Err(error.read);
            }
        };
        let refusals = config::reload_refusals(&self.config.load(), &loaded);
        if !refusals.is_empty() {
            let name = file.to_string();
            let lines: Vec<String> = refusals.iter().map(|problem| problem.located(&name).to_string()).collect();
            refused(&lines.join("\n"));
            return Err(loaded.read);
        }
        warn(&self.file, &loaded.warnings);
        self.put_in_force(loaded.config);
        self.metrics.reloaded(true);
        tracing::info!("{file} is reloaded");
        Ok(loaded.read)
    }

    fn put_in_force(&self, new: Config) {
        let counts = self.store.counts();
        for name in config::removed_destinations(&self.config.load(), &new) {
            let pending = counts.get(&name).map_or(0, |count| count.pending);
            tracing::warn!(destination.name = %name, pending, "destination {name} is gone: its {pending} pending deliveries end dead");
        }
        self.metrics.prepare(new.routes.iter().map(|route| &route.name), new.destinations.keys());
        self.public.store(Arc::new(wire::public_options(&new)));
        self.config.store(Arc::new(new));
        self.keys.configured_anew();
        self.changed.send_replace(());
    }
}
