//! What makes two requests the same.

use crate::config::Route;
use crate::model::Timestamp;
use crate::signature::{Verified, fingerprint};
use crate::store::DedupeKey;

/// The request's dedupe key: the route's template, else the preset's key, else the request itself.
///
/// A key's kind is hashed with it, so that no sender can make a body whose hash is another request's key. The
/// request itself is its method, its whole target and its body: senders that name the order in the query send
/// the same body for each. A retry repeats all of these, and one that doesn't is delivered twice, not lost.
pub(super) fn dedupe(route: &Route, verified: &Verified, received_at: Timestamp) -> Option<DedupeKey> {
    if route.dedupe_window.is_zero() {
        return None;
    }
    let inbound = verified.inbound();
    let name = route.name.as_bytes();
    let composed = route.dedupe_key.as_ref().and_then(|template| template.render(inbound));
    let hash = match (&composed, &verified.facts().dedupe_key) {
        (Some(key), _) => fingerprint(&[name, b"key", key]),
        (None, Some(key)) => fingerprint(&[name, b"preset", key]),
        (None, None) => fingerprint(&[name, b"request", inbound.method.as_str().as_bytes(), &inbound.target, &inbound.body]),
    };
    Some(DedupeKey { hash, expires_at: received_at.saturating_add(route.dedupe_window) })
}
