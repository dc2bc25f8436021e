//! Orders that nobody calls back about.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::kept::state_prefix;
use super::{Kept, Orders, Trouble};
use crate::accept::Fetched;
use crate::config::{Live, Route};
use crate::connectors::inpasy::{Kind, Lid, Settings, State};

/// How often orders are looked through.
const LOOK_EVERY: Duration = Duration::from_secs(30);

impl Orders {
    /// Expires orders whose time is over, and forgets what nobody asks about any more; for ever.
    pub async fn expire(self, config: Live) {
        loop {
            let current = config.load_full();
            for route in &current.routes {
                let Some(settings) = &route.inpasy else { continue };
                if let Err(error) = self.look(route, settings, current.store.retention).await {
                    tracing::error!(route.name = %route.name, %error, "orders can't be looked through; trying again");
                }
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn look(&self, route: &Route, settings: &Settings, retention: Duration) -> Result<(), Trouble> {
        let inner = &*self.0;
        let prefix = state_prefix(&route.name);
        for (name, bytes) in inner.store.states(&prefix).await? {
            let Some(lid) = name.strip_prefix(&prefix).and_then(Lid::parse) else { continue };
            let Some(kept) = Kept::from_bytes(&bytes) else { continue };
            let now = inner.clock.now();
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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use arc_swap::ArcSwap;

    use super::*;
    use crate::accept::{Acceptor, IdSource};
    use crate::clock::{Clock, TokioClock};
    use crate::config::{self, LoadOptions, ProcessEnvironment};
    use crate::egress::HttpTransport;
    use crate::model::{Name, Timestamp};
    use crate::store::memory::MemoryStore;
    use crate::store::{EventFilter, Store};

    const ROUTES: &str = "routes:\n  pay: { path: /in, verify: none, deliver: [shop], inpasy: { start_url: 'http://127.0.0.1:1/', vkz: '1', \
                          result: { present: paid }, expire: 24h } }\ndestinations: { shop: { url: 'http://127.0.0.1:1/' } }\n";

    #[tokio::test(start_paused = true)]
    async fn an_order_without_a_callback_expires_once_and_is_forgotten_in_the_end() {
        let file = Path::new("routes.yaml");
        let loaded = config::parse(ROUTES, file, Path::new("."), &ProcessEnvironment, &LoadOptions::default()).ok().unwrap();
        let live: Live = Arc::new(ArcSwap::from_pointee(loaded.config));
        let store = Arc::new(MemoryStore::new());
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(Timestamp::from_millis(1_700_000_000_000)));
        let acceptor = Acceptor::new(store.clone(), clock.clone(), IdSource::seeded(1));
        let orders = Orders::new(store.clone(), Arc::new(HttpTransport::new().unwrap()), clock.clone(), acceptor);
        let (route, lid) = (Name::from("pay"), Lid::parse("123456789012").unwrap());
        orders.0.keep(&route, &lid, Some(&Kept::open(clock.now()))).await.unwrap();
        let task = tokio::spawn(orders.clone().expire(live));
        let state = async || orders.order(&route, &lid).await.unwrap().map(|kept| kept.state());

        sleep(Duration::from_secs(24 * 3600 - 60)).await;
        assert_eq!(state().await, Some(State::Open));
        sleep(Duration::from_secs(3600)).await;
        assert_eq!(state().await, Some(State::Expired));
        let (events, _) = store.list(&EventFilter::default(), None, 10).await.unwrap();
        assert_eq!(events.iter().map(|event| event.event.event_type.as_deref()).collect::<Vec<_>>(), [Some("inpasy.expired")]);
        sleep(Duration::from_secs(9 * 24 * 3600)).await;
        assert_eq!(state().await, None);
        assert_eq!(store.len(), 1);
        task.abort();
    }
}
