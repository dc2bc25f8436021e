//! The headers that a destination gets: the sender's end-to-end ones in their order, then ours.
//!
//! A sender can't pose as us, because its own `webhook-*` and `kurier-*` arrive as `kurier-original-*` (I9, I11).

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::model::is_hop_by_hop;

/// The event's headers under names that don't claim to be ours. What is not end-to-end was left out when the
/// event was accepted.
pub(super) fn of_sender(received: HeaderMap) -> HeaderMap {
    if !received.keys().any(claims_to_be_ours) {
        return received;
    }
    let mut sent = HeaderMap::with_capacity(received.len());
    for (name, value) in &received {
        sent.append(renamed(name), value.clone());
    }
    sent
}

fn claims_to_be_ours(name: &HeaderName) -> bool {
    name.as_str().starts_with("webhook-") || name.as_str().starts_with("kurier-")
}

/// A sender's header under a name that does not claim to be ours.
fn renamed(name: &HeaderName) -> HeaderName {
    if !claims_to_be_ours(name) {
        return name.clone();
    }
    // A header name with a prefix of the same characters is one; only an absurdly long one is left as it was.
    HeaderName::from_bytes(format!("kurier-original-{name}").as_bytes()).unwrap_or_else(|_| name.clone())
}

/// The destination's configured headers, in place of the sender's of the same names.
pub(super) fn configure(headers: &mut HeaderMap, configured: &HeaderMap) {
    for name in configured.keys().filter(|name| !is_hop_by_hop(name)) {
        headers.remove(name);
        for value in configured.get_all(name) {
            headers.append(name.clone(), value.clone());
        }
    }
}

/// Any text as a header's value: what no header can carry, and the percent sign then, is percent-encoded.
pub(super) fn text(bytes: &[u8]) -> HeaderValue {
    let carried = |byte: &u8| *byte >= 0x20 && *byte != 0x7f;
    // A blank at either end would be lost on the way.
    let trimmed = bytes.first() != Some(&b' ') && bytes.last() != Some(&b' ');
    let plain = if trimmed && bytes.iter().all(carried) { HeaderValue::from_bytes(bytes).ok() } else { None };
    if let Some(value) = plain {
        return value;
    }
    let encoded = percent_encoding::percent_encode(bytes, percent_encoding::NON_ALPHANUMERIC).to_string();
    // Letters, digits and percent signs only.
    HeaderValue::try_from(encoded).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static [u8])]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())).collect()
    }

    #[test]
    fn headers_pass_with_every_value_in_its_order() {
        let received = map(&[("x-a", b"1, 2"), ("content-type", b"text/plain; charset=\xff"), ("x-a", b"3"), ("x-b", b"")]);
        let sent = of_sender(received);
        let values: Vec<&[u8]> = sent.get_all("x-a").iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(values, [&b"1, 2"[..], b"3"]);
        assert_eq!(sent["content-type"].as_bytes(), b"text/plain; charset=\xff");
        assert_eq!(sent["x-b"], "");
    }

    #[test]
    fn a_sender_cannot_pose_as_us() {
        let received = map(&[("webhook-id", b"a"), ("kurier-replay", b"b"), ("kurier-original-webhook-id", b"c"), ("webhooks", b"d")]);
        let expected = map(&[
            ("kurier-original-webhook-id", b"a"),
            ("kurier-original-kurier-replay", b"b"),
            ("kurier-original-kurier-original-webhook-id", b"c"),
            ("webhooks", b"d"),
        ]);
        assert_eq!(of_sender(received), expected);
    }

    #[test]
    fn configured_headers_replace_the_senders_and_cannot_break_the_framing() {
        let mut headers = map(&[("x-tenant", b"evil"), ("x-tenant", b"worse"), ("x-b", b"b")]);
        configure(&mut headers, &map(&[("x-tenant", b"acme"), ("content-length", b"7"), ("host", b"x")]));
        assert_eq!(headers, map(&[("x-tenant", b"acme"), ("x-b", b"b")]));
    }

    #[test]
    fn every_text_becomes_a_header_value() {
        assert_eq!(text(b"a%20b/c?d"), "a%20b/c?d");
        assert_eq!(text("Zürich".as_bytes()).as_bytes(), "Zürich".as_bytes());
        assert_eq!(text(b"a\r\nx: y"), "a%0D%0Ax%3A%20y");
        assert_eq!(text(b" a"), "%20a");
        for byte in 0..=u8::MAX {
            text(&[byte]);
        }
    }
}
