//! Senders, operators, and whoever changes the destinations' moods and the configuration.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Method, Request};
use http_body_util::Full;
use kurier::clock::Clock;
use kurier::ingress::Ingress;
use kurier::model::{DeliveryKind, DeliveryState};
use kurier::orders::Orders;
use kurier::relay::RelayHandle;
use kurier::store::{NewDelivery, Settlement, Store};
use tokio::time::sleep;
use tower::ServiceExt;

use super::downstream::Mood;
use super::ledger::{Item, KEYED, REPORTED};
use super::life::World;
use super::plan::{DESTINATIONS, ORDERS, REPORTS, SHOP, SOURCE, Variant};
use crate::store::sim::SimClock;

/// In seconds.
pub(super) const DAY: i64 = 86_400;

/// What everybody in one life works with.
#[derive(Clone)]
pub(super) struct Life {
    pub(super) world: Arc<World>,
    pub(super) ingress: Ingress,
    pub(super) store: Arc<dyn Store>,
    pub(super) relay: RelayHandle,
    pub(super) orders: Orders,
    /// The time as it is, and the system's clock, which somebody sets now and then.
    pub(super) clock: Arc<dyn Clock>,
    pub(super) wall: SimClock,
}

impl Life {
    pub(super) async fn pause(&self, millis: u32) {
        sleep(Duration::from_millis(u64::from(self.world.roll(millis)))).await;
    }

    async fn send(&self, number: u64, route: &'static str, lane: Option<u64>) {
        let fresh = Item { route, lane, open: 0, kept: false, unknown: 0 };
        self.world.ledger.lock().items.entry(number).or_insert(fresh).open += 1;
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("/{route}"))
            .header("content-type", "application/json")
            .header("host", "hooks.test");
        if let Some(lane) = lane {
            request = request.header("x-lane", lane.to_string());
        }
        if (KEYED..REPORTED).contains(&number) {
            request = request.header("x-key", number.to_string());
        }
        let request = request.body(Full::new(Bytes::from(Item::body(number)))).unwrap();
        let answer = self.ingress.service().oneshot(request).await;
        self.world.ledger.lock().heard(number, answer.ok().map(|answer| answer.status().as_u16()));
    }

    /// Sends the events of one lane, each after the answer to the one before.
    pub(super) async fn lane(self, route: &'static str, lane: u64) {
        loop {
            let number = self.world.next();
            self.send(number, route, Some(lane)).await;
            self.pause(6000).await;
        }
    }

    /// Sends events without a lane; some have a key and are sent again and again.
    pub(super) async fn free(self) {
        loop {
            let number = if self.world.roll(2) == 0 { KEYED + u64::from(self.world.roll(12)) } else { self.world.next() };
            self.send(number, "free", None).await;
            if self.world.roll(8) == 0 {
                let burst: Vec<u64> = (0..12).map(|_| self.world.next()).collect();
                join_all(burst.into_iter().map(|number| self.send(number, "free", None))).await;
            }
            self.pause(5000).await;
        }
    }

    /// Sends events whose results are to be reported.
    pub(super) async fn reported(self) {
        loop {
            let number = REPORTED + self.world.next();
            self.send(number, "reported", None).await;
            self.pause(6000).await;
        }
    }

    /// Pauses, resumes, cancels and replays.
    pub(super) async fn operator(self) {
        loop {
            self.pause(15_000).await;
            let destination = DESTINATIONS[self.world.roll(3) as usize];
            match self.world.roll(5) {
                0 => {
                    if self.relay.pause(destination, "simulated").await.is_ok() {
                        self.world.ledger.lock().paused.insert(destination.to_owned());
                    }
                }
                1 | 2 => self.resume(destination).await,
                3 => self.cancel().await,
                _ => self.replay(destination).await,
            }
        }
    }

    pub(super) async fn resume(&self, destination: &str) {
        // From the asking on: it may be in force before it is told.
        self.world.ledger.lock().paused.remove(destination);
        drop(self.relay.resume(destination).await);
    }

    async fn cancel(&self) {
        let pending = self.store.pending_after(0, 20).await.unwrap();
        let Some(pending) = pending.get(self.world.roll(20) as usize) else { return };
        // From the asking on: it may be in force before it is told.
        let Ok(Some(event)) = self.store.event(pending.id.event).await else { return };
        if &*event.route == "orders" {
            return;
        }
        self.world.ledger.lock().cancelled.insert(Item::number(&event.body));
        let settlement = Settlement {
            delivery: pending.id,
            version: pending.version,
            attempt: None,
            attempts: pending.attempts,
            state: DeliveryState::Cancelled,
            acknowledgement: self
                .world
                .acknowledgement(&event.route, self.wall.now())
                .filter(|_| pending.kind != DeliveryKind::Acknowledgement),
        };
        if self.store.settle(settlement).await.is_ok() {
            self.relay.cancelled(pending.id);
        }
    }

    async fn replay(&self, destination: &str) {
        // The index may just have failed.
        let Ok((newest, _)) = self.store.list(&kurier::store::EventFilter::default(), None, 10).await else { return };
        let Some(event) = newest.get(self.world.roll(10) as usize) else { return };
        // As the admin side does it: a replay stands in its event's lane.
        let (due, lane) = (self.wall.now(), event.deliveries.iter().find_map(|delivery| delivery.lane));
        let deliveries = vec![NewDelivery { destination: destination.into(), lane, due }];
        // A replay to where the route never delivers would be transformed by nothing.
        if event.deliveries.iter().any(|delivery| *delivery.destination == *destination) {
            drop(self.store.replay(event.event.id, deliveries).await);
        }
    }

    /// Makes destinations ill and well again, reloads, and sets the clock.
    pub(super) async fn weather(self) {
        loop {
            self.pause(10_000).await;
            let [d0, d1, d2] = DESTINATIONS;
            let destination = [d0, d1, d2, REPORTS, SOURCE, ORDERS, SHOP][self.world.roll(7) as usize];
            let mood = if self.world.roll(2) == 0 { Mood::Well } else { Mood::BAD[self.world.roll(8) as usize] };
            // A destination that is gone for good would end everything.
            let mood = if mood == Mood::Gone && self.world.roll(3) > 0 { Mood::Failing } else { mood };
            self.world.moods.lock().insert(destination.to_owned(), mood);
            if self.world.roll(6) == 0 {
                self.wall.right();
                self.wall.jump([-100 * DAY, -DAY, -2 * 3600, -90, 90, 2 * 3600, 40 * DAY][self.world.roll(7) as usize]);
            }
            if self.world.roll(4) == 0 {
                let variant = Variant::ALL[self.world.roll(3) as usize];
                self.world.reload(variant, self.clock.now());
            }
        }
    }
}
