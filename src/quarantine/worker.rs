//! The one who writes and who tidies up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::limits::{BATCH_MAX, REST_FACTOR, REST_MAX, REST_MIN};
use super::{Item, Phase, Received, Shared, Waiting};
use crate::config::Quarantine;
use crate::model::{Name, RefusalId};

/// Requests by route and id.
type Entries = Vec<(Name, RefusalId)>;

/// The longest sleep: after it the wall clock is looked at again, as it may have been set.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// The shortest.
const SLEEP_MIN: Duration = Duration::from_millis(50);

/// What it is told.
pub(super) struct Told {
    /// That the configuration is another one.
    pub(super) changes: watch::Receiver<()>,
    /// By its end: that nothing more comes.
    pub(super) closing: watch::Receiver<()>,
}

pub(super) async fn run(shared: Arc<Shared>, mut inbox: mpsc::Receiver<Waiting>, told: Told, phase: watch::Sender<Phase>) {
    let Told { mut changes, mut closing } = told;
    shared.read().await;
    phase.send_replace(Phase::Working);
    let (mut batch, mut well, mut watched) = (Vec::new(), true, true);
    loop {
        let sleep = shared.next_expiry();
        tokio::select! {
            biased;
            // Without anybody who would tell of a change there is none.
            changed = changes.changed(), if watched => {
                watched = changed.is_ok();
                shared.tidy().await;
            }
            taken = inbox.recv_many(&mut batch, BATCH_MAX) => {
                if taken == 0 {
                    break;
                }
                let begun = Instant::now();
                shared.write(&mut batch, &mut well).await;
                let rest = begun.elapsed().saturating_mul(REST_FACTOR).clamp(REST_MIN, REST_MAX);
                drop(tokio::time::timeout(rest, closing.changed()).await);
            }
            () = wait(sleep) => shared.tidy().await,
        }
    }
    phase.send_replace(Phase::Ended);
}

async fn wait(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

impl Shared {
    /// Learns what lies on the shelf.
    async fn read(&self) {
        match self.shelf.list().await {
            Ok(found) => {
                let mut rings = self.rings.lock();
                found.into_iter().for_each(|(route, id, bytes)| rings.add(&route, id, bytes));
                if let Some((_, newest)) = rings.newest(None, Received::default(), None, 1).first() {
                    // As with the store's last commit: a machine that starts with a wrong date must end nothing by it.
                    self.clock.overhear(newest.received_at());
                }
            }
            Err(error) => tracing::warn!(%error, "the quarantine can't be read, and what lies in it is not shown: {error}"),
        }
        self.tidy().await;
    }

    /// Until the oldest request of any route is too old; none while none is kept.
    fn next_expiry(&self) -> Option<Duration> {
        let (config, now, rings) = (self.config.load(), self.clock.date(), self.rings.lock());
        let left = config.routes.iter().filter_map(|route| {
            let (oldest, max_age) = (rings.oldest(&route.name)?, route.quarantine?.max_age);
            Some(now.map_or(SLEEP_MAX, |now| max_age.saturating_sub(now.since(oldest))))
        });
        left.min().map(|left| left.clamp(SLEEP_MIN, SLEEP_MAX))
    }

    async fn write(&self, batch: &mut Vec<Waiting>, well: &mut bool) {
        let encode = |waiting: &Waiting| {
            let kept = &waiting.kept;
            Some(Item { route: kept.route.clone(), id: kept.id, bytes: kept.encode()? })
        };
        let items: Vec<Item> = batch.iter().filter_map(encode).collect();
        let noted: Vec<(Name, RefusalId, u64)> = items.iter().map(|item| (item.route.clone(), item.id, item.bytes.len() as u64)).collect();
        match self.shelf.put(items).await {
            Ok(()) => {
                if !std::mem::replace(well, true) {
                    tracing::info!("refused requests are kept again");
                }
                let mut rings = self.rings.lock();
                for (route, id, bytes) in noted {
                    rings.add(&route, id, bytes);
                }
            }
            Err(error) => {
                for waiting in batch.iter() {
                    self.metrics.refusals_dropped(&waiting.kept.route).inc();
                }
                if std::mem::replace(well, false) {
                    tracing::warn!(%error, "refused requests can't be kept and are only counted: {error}");
                }
            }
        }
        batch.clear();
        self.tidy().await;
    }

    /// Removes what is too much, too old, or of a route that keeps none any more.
    pub(super) async fn tidy(&self) {
        let (excess, gone) = self.excess();
        for (name, count) in gone {
            self.metrics.refusals_kept(&name, 0);
            tracing::warn!(route.name = %name, count, "{name} keeps no refused requests any more: {count} are removed");
        }
        self.discard(excess).await;
        self.count();
    }

    /// What has to go, and of it what belongs to routes without a quarantine.
    fn excess(&self) -> (Entries, Vec<(Name, usize)>) {
        // Without a date nothing is too old.
        let (config, now, mut rings) = (self.config.load(), self.clock.date().unwrap_or_default(), self.rings.lock());
        let (mut excess, mut gone) = (Vec::new(), Vec::new());
        let quarantines: BTreeMap<&Name, Quarantine> =
            config.routes.iter().filter_map(|route| Some((&route.name, route.quarantine?))).collect();
        for name in rings.routes() {
            let quarantine = quarantines.get(&name).copied();
            let ids = rings.excess(&name, quarantine, now);
            if quarantine.is_none() {
                gone.push((name.clone(), ids.len()));
            }
            for id in ids {
                rings.remove(&name, id);
                excess.push((name.clone(), id));
            }
        }
        while let Some((name, id)) = rings.beyond_total() {
            rings.remove(&name, id);
            excess.push((name, id));
        }
        (excess, gone)
    }

    /// Removes these from the shelf. What can't be removed comes back at the next start, and goes then.
    pub(super) async fn discard(&self, items: Entries) {
        if items.is_empty() {
            return;
        }
        if let Err(error) = self.shelf.remove(items).await {
            tracing::warn!(%error, "refused requests can't be removed from the quarantine: {error}");
        }
    }

    /// Sets the gauges of the routes that have a quarantine; so every series of theirs is there from the start.
    pub(super) fn count(&self) {
        let (config, rings) = (self.config.load(), self.rings.lock());
        for route in config.routes.iter().filter(|route| route.quarantine.is_some()) {
            self.metrics.refusals_kept(&route.name, rings.count(&route.name));
            drop((self.metrics.refusals_dropped(&route.name), self.metrics.refusals_released(&route.name)));
        }
    }
}
