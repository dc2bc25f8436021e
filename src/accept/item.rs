//! What comes in without a request: an item that was fetched, or an event that Kurier makes itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};

use super::Acceptor;
use crate::model::{Answer, Event, Name};
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

impl Acceptor {
    /// The event of this item, received now.
    pub(super) fn made(&self, item: Item) -> NewEvent {
        let received_at = self.clock.now();
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
