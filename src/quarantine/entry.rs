//! A refused request, written down: a head in JSON and the body, each with its checksum.
//!
//! `KURIERQ1`, the head's length (u32), the head's checksum and the body's (u64 each, XXH3-64), the head, the body; numbers
//! little-endian.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::model::{Inbound, Name, RefusalId, Timestamp};

const MAGIC: &[u8; 8] = b"KURIERQ1";

/// Bytes before the head.
pub(super) const PREFIX_BYTES: usize = 28;

/// What a request's head has besides its headers, about.
const HEAD_BYTES_ABOUT: usize = 512;

/// A refused request as it was received.
pub struct Kept {
    /// Its id.
    pub id: RefusalId,
    /// The route that refused it.
    pub route: Name,
    /// Why: the word of the metric.
    pub reason: Box<str>,
    /// As of when it was judged.
    pub judged_at: Timestamp,
    /// The request, credentials and all: without them it could not be judged again.
    pub inbound: Inbound,
}

/// What stands before a kept request's body.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Head {
    id: String,
    route: String,
    reason: String,
    method: String,
    base: String,
    /// Base64, as its bytes need not be text.
    target: String,
    peer: IpAddr,
    /// Milliseconds since 1970.
    received_at: i64,
    /// Milliseconds since 1970.
    judged_at: i64,
    body_bytes: u64,
    /// Names and values, these in base64.
    headers: Vec<(String, String)>,
}

impl Head {
    /// Whether it is the one that was looked for, and not another in its place.
    pub(super) fn is_of(&self, route: &Name, id: RefusalId) -> bool {
        *self.route == **route && self.id.parse() == Ok(id)
    }

    /// Why it was refused.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The request's method.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Who sent it.
    pub fn peer(&self) -> IpAddr {
        self.peer
    }

    /// When it was received.
    pub fn received_at(&self) -> Timestamp {
        Timestamp::from_millis(self.received_at)
    }

    /// The body's length.
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }
}

impl Kept {
    /// About how many bytes of memory and disk it takes.
    pub(super) fn bytes_about(&self) -> usize {
        let headers: usize = self.inbound.headers.iter().map(|(name, value)| name.as_str().len() + value.len() * 4 / 3 + 16).sum();
        HEAD_BYTES_ABOUT + headers + self.inbound.target.len() * 4 / 3 + self.inbound.body.len()
    }

    /// The request, written down. `None` where it can't be: never of what was received.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let Inbound { method, target, base, headers, body, peer, received_at } = &self.inbound;
        let head = Head {
            id: self.id.to_string(),
            route: self.route.to_string(),
            reason: self.reason.to_string(),
            method: method.to_string(),
            base: base.to_string(),
            target: STANDARD.encode(target),
            peer: *peer,
            received_at: received_at.millis(),
            judged_at: self.judged_at.millis(),
            body_bytes: body.len() as u64,
            headers: headers.iter().map(|(name, value)| (name.to_string(), STANDARD.encode(value))).collect(),
        };
        let head = serde_json::to_vec(&head).ok()?;
        let mut bytes = Vec::with_capacity(PREFIX_BYTES + head.len() + body.len());
        bytes.extend_from_slice(MAGIC);
        bytes.put_u32_le(u32::try_from(head.len()).ok()?);
        bytes.put_u64_le(xxh3_64(&head));
        bytes.put_u64_le(xxh3_64(body));
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(body);
        Some(bytes)
    }
}

/// How long the head is, by the bytes before it.
pub(super) fn head_bytes(prefix: &[u8]) -> Option<usize> {
    let length: [u8; 4] = prefix.get(8..12)?.try_into().ok()?;
    prefix.starts_with(MAGIC).then(|| usize::try_from(u32::from_le_bytes(length)).ok())?
}

fn checksum(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// Reads the head; what follows it need not be there.
pub(super) fn head(bytes: &[u8]) -> Option<Head> {
    let head = bytes.get(PREFIX_BYTES..PREFIX_BYTES.checked_add(head_bytes(bytes)?)?)?;
    if xxh3_64(head) != checksum(bytes, 12)? {
        return None;
    }
    serde_json::from_slice(head).ok()
}

/// Reads all of it.
pub(super) fn whole(bytes: Bytes) -> Option<Kept> {
    let head = head(&bytes)?;
    let body = bytes.slice(PREFIX_BYTES + head_bytes(&bytes)?..);
    if body.len() as u64 != head.body_bytes || xxh3_64(&body) != checksum(&bytes, 20)? {
        return None;
    }
    let mut headers = HeaderMap::new();
    for (name, value) in &head.headers {
        headers.append(HeaderName::try_from(name).ok()?, HeaderValue::from_bytes(&STANDARD.decode(value).ok()?).ok()?);
    }
    let inbound = Inbound {
        method: Method::from_bytes(head.method.as_bytes()).ok()?,
        target: STANDARD.decode(&head.target).ok()?.into(),
        base: head.base.as_str().into(),
        headers,
        body,
        peer: head.peer,
        received_at: head.received_at(),
    };
    let judged_at = Timestamp::from_millis(head.judged_at);
    Some(Kept { id: head.id.parse().ok()?, route: head.route.as_str().into(), reason: head.reason.into(), judged_at, inbound })
}
