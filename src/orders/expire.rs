//! Orders that nobody calls back about.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::kept::{PREFIX, state_prefix};
use super::{Kept, Orders, Trouble};
use crate::accept::Fetched;
use crate::config::{Live, Route};
use crate::connectors::inpasy::{Kind, Lid, Settings, State};
use crate::model::Timestamp;

/// How often orders are looked through.
const LOOK_EVERY: Duration = Duration::from_secs(30);

impl Orders {
    /// Expires orders whose time is over, and forgets what nobody asks about any more; for ever.
    pub async fn expire(self, config: Live) {
        loop {
            let current = config.load_full();
            // A clock that is ahead must not end orders whose payments are under way (rule 17).
            let date = self.0.clock.date();
            if let Err(error) = self.count().await {
                tracing::error!(%error, "orders can't be counted; trying again");
            }
            for route in &current.routes {
                let (Some(settings), Some(now)) = (route.inpasy.as_ref(), date) else { continue };
                if let Err(error) = self.look(route, settings, current.store.retention, now).await {
                    tracing::error!(route.name = %route.name, %error, "orders can't be looked through; trying again");
                }
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Counts the orders that are kept, of routes that are gone too.
    pub(super) async fn count(&self) -> Result<(), Trouble> {
        let count = self.0.store.states(PREFIX).await?.len();
        self.0.count.store(count, Ordering::Relaxed);
        Ok(())
    }

    async fn look(&self, route: &Route, settings: &Settings, retention: Duration, now: Timestamp) -> Result<(), Trouble> {
        let inner = &*self.0;
        let prefix = state_prefix(&route.name);
        for (name, bytes) in inner.store.states(&prefix).await? {
            let Some(lid) = name.strip_prefix(&prefix).and_then(Lid::parse) else { continue };
            let Some(kept) = Kept::from_bytes(&bytes) else { continue };
            if kept.placed_at > now {
                self.date_anew(route, &lid, now).await?;
                continue;
            }
            let expires_at = settings.expires_at(kept.placed_at);
            if kept.state() == State::Open && now >= expires_at {
                self.expire_one(route, &lid).await?;
            } else if kept.state() != State::Open && now >= expires_at.saturating_add(retention) {
                let _lock = inner.lock(&route.name, &lid).await;
                inner.keep(&route.name, &lid, None).await?;
            }
        }
        Ok(())
    }

    /// The clock was ahead when this order was placed, and is believed now: its time begins here, not in a year.
    async fn date_anew(&self, route: &Route, lid: &Lid, now: Timestamp) -> Result<(), Trouble> {
        let inner = &*self.0;
        let _lock = inner.lock(&route.name, lid).await;
        // A callback may have come in between.
        let Some(kept) = inner.kept(&route.name, lid).await? else { return Ok(()) };
        tracing::warn!(route.name = %route.name, lid = %lid, placed_at = %kept.placed_at, "an order has a date to come: it counts from now on");
        inner.keep(&route.name, lid, Some(&Kept { placed_at: kept.placed_at.min(now), ..kept })).await.map_err(Trouble::from)
    }

    async fn expire_one(&self, route: &Route, lid: &Lid) -> Result<(), Trouble> {
        let inner = &*self.0;
        let _lock = inner.lock(&route.name, lid).await;
        // A callback may have come in between.
        let Some(kept) = inner.kept(&route.name, lid).await? else { return Ok(()) };
        let Some(track) = kept.track.expired() else { return Ok(()) };
        let kind = Kind::Expired.event_type();
        let body = json!({ "type": kind, "lid": lid.as_str(), "state": State::Expired.word(), "placed_at": kept.placed_at.to_string() });
        let key = format!("{kind}:{lid}").into_bytes();
        let fetched = Fetched { event_type: Some(kind.into()), base: "".into(), body: body.to_string().into(), key };
        match inner.acceptor.accept_fetched(route, fetched).await {
            Ok(_) => inner.keep(&route.name, lid, Some(&Kept { track, ..kept })).await.map_err(Trouble::from),
            Err(error) => {
                tracing::warn!(route.name = %route.name, %error, "an order's expiry is not stored yet; trying again");
                Ok(())
            }
        }
    }
}
