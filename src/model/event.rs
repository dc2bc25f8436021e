//! What comes in: the request as received, the event it becomes, and the answer its sender gets.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method};

use super::{EventId, Name, Timestamp};

/// A request as received, whole: nothing about it has been believed yet.
#[derive(Debug, Clone)]
pub struct Inbound {
    /// The request method.
    pub method: Method,
    /// Path and query exactly as sent, percent-encoding and all; starts with `/`.
    pub target: Bytes,
    /// Scheme and authority that the sender called, such as `https://hooks.example.ch`: the configured
    /// `public_url`, else what trusted proxies say, else the connection itself. No slash at the end.
    pub base: Arc<str>,
    /// All request headers; values of one name in their order.
    pub headers: HeaderMap,
    /// The body's bytes as received; never decompressed.
    pub body: Bytes,
    /// The sender's address: the peer's, or what trusted proxies say it is.
    pub peer: IpAddr,
    /// When the head of the request had been read.
    pub received_at: Timestamp,
}

impl Inbound {
    /// The raw path, without the query.
    pub fn path(&self) -> &[u8] {
        split_target(&self.target).0
    }

    /// The raw query without its question mark, where there is one.
    pub fn query(&self) -> Option<&[u8]> {
        split_target(&self.target).1
    }
}

/// One accepted request or pulled item, byte for byte. Immutable.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its identity, minted at acceptance.
    pub id: EventId,
    /// The route that accepted it.
    pub route: Name,
    /// When the request was received.
    pub received_at: Timestamp,
    /// The sender's address; none for a pulled item.
    pub peer: Option<IpAddr>,
    /// The sender's own id of this event, where its scheme names one.
    pub source_id: Option<Box<str>>,
    /// The sender's word for what happened, where it was known without reading the body.
    pub event_type: Option<Box<str>>,
    /// The request method.
    pub method: Method,
    /// Path and query exactly as sent.
    pub target: Bytes,
    /// Scheme and authority that the sender called; see [`Inbound::base`].
    pub base: Arc<str>,
    /// The headers as received, less those that carry credentials of the route.
    pub headers: HeaderMap,
    /// The body's bytes as received.
    pub body: Bytes,
}

impl Event {
    /// The raw path, without the query.
    pub fn path(&self) -> &[u8] {
        split_target(&self.target).0
    }

    /// The raw query without its question mark, where there is one.
    pub fn query(&self) -> Option<&[u8]> {
        split_target(&self.target).1
    }
}

fn split_target(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    match target.iter().position(|byte| *byte == b'?') {
        Some(at) => (&target[..at], Some(&target[at + 1..])),
        None => (target, None),
    }
}

/// What the sender is told once its event is durable. Stored with the dedupe key, so that every repeat
/// within the window gets the first one's answer (I3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// A 2xx status.
    pub status: u16,
    /// The `content-type`, when there is a body.
    pub content_type: Option<Box<str>>,
    /// The body; at most [`Answer::BODY_BYTES_MAX`].
    pub body: Bytes,
}

impl Answer {
    /// The longest answer body: it is kept for every dedupe key in its window.
    pub const BODY_BYTES_MAX: usize = 4096;

    /// A 200 without a body.
    pub fn ok() -> Self {
        Self { status: 200, content_type: None, body: Bytes::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_splits_at_the_first_question_mark_only() {
        assert_eq!(split_target(b"/a%2Fb?x=1?y"), (&b"/a%2Fb"[..], Some(&b"x=1?y"[..])));
        assert_eq!(split_target(b"/a?"), (&b"/a"[..], Some(&b""[..])));
        assert_eq!(split_target(b"/a"), (&b"/a"[..], None));
    }
}
