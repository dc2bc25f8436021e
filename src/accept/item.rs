//! What comes in without a request: an item that was fetched, or an event that Kurier makes itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use xxhash_rust::xxh3::xxh3_64;

use super::Acceptor;
use crate::config::Route;
use crate::model::{Answer, Event, Lane, Name};
use crate::signature::fingerprint;
use crate::store::{DedupeKey, NewDelivery, NewEvent};

/// An item to accept.
#[derive(Debug, Clone)]
pub struct Item {
    /// The route that it belongs to.
    pub route: Name,
    /// The word for what happened.
    pub event_type: Option<Box<str>>,
    /// Its source's own id of it.
    pub source_id: Option<Box<str>>,
    /// Where it was fetched, for people; empty where Kurier made it.
    pub base: Arc<str>,
    /// Its bytes, which are JSON.
    pub body: Bytes,
    /// What makes two items the same, and for how long that is remembered.
    pub dedupe: Option<(Vec<u8>, Duration)>,
    /// Where it goes.
    pub deliver: Vec<Name>,
}

/// An item that a route has fetched.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The word for what happened.
    pub event_type: Option<Box<str>>,
    /// Where it was fetched.
    pub base: Arc<str>,
    /// Its bytes, which are JSON.
    pub body: Bytes,
    /// What it is known by, unless the route's `dedupe.key` says otherwise.
    pub key: Vec<u8>,
}

impl Acceptor {
    /// The event of what this route has fetched, with one delivery for each of its destinations (I4).
    pub(super) fn fetched(&self, route: &Route, fetched: Fetched) -> NewEvent {
        let Fetched { event_type, base, body, key } = fetched;
        let deliver = route.deliver.iter().map(|deliver| deliver.to.clone()).collect();
        let mut new = self.made(Item { route: route.name.clone(), event_type, source_id: None, base, body, dedupe: None, deliver });
        new.answer = route.respond.clone().unwrap_or_else(Answer::ok);
        if !route.dedupe_window.is_zero() {
            let own = route.dedupe_key.as_ref().and_then(|template| template.render_event(&new.event));
            let (kind, key) = own.map_or((&b"item"[..], key), |own| (b"key", own));
            let expires_at = new.event.received_at.saturating_add(route.dedupe_window);
            new.dedupe = Some(DedupeKey { hash: fingerprint(&[route.name.as_bytes(), kind, &key]), expires_at });
        }
        let lane = route.order_by.as_ref().and_then(|order_by| order_by.key.render_event(&new.event));
        let lane = lane.map(|value| Lane(xxh3_64(&value)));
        for delivery in &mut new.deliveries {
            delivery.lane = lane;
        }
        new
    }

    /// The event of this item, received now.
    pub(super) fn made(&self, item: Item) -> NewEvent {
        let received_at = self.clock.stamp(self.clock.now());
        let dedupe = item.dedupe.map(|(key, window)| DedupeKey {
            hash: fingerprint(&[item.route.as_bytes(), b"item", &key]),
            expires_at: received_at.saturating_add(window),
        });
        let deliveries = item.deliver.into_iter().map(|destination| NewDelivery { destination, lane: None, due: received_at }).collect();
        let event = Event {
            id: self.ids.mint(received_at),
            route: item.route,
            received_at,
            peer: None,
            source_id: item.source_id,
            event_type: item.event_type,
            method: Method::POST,
            target: Bytes::from_static(b"/"),
            base: item.base,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]),
            body: item.body,
        };
        NewEvent { event, dedupe, answer: Answer::ok(), deliveries }
    }
}
