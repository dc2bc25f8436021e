//! Which headers of a request are the sender's word to its receiver.

use std::collections::BTreeSet;

use http::header::CONNECTION;
use http::{HeaderMap, HeaderName};
use smallvec::SmallVec;

/// Whether a header belongs to one connection, or is made by whoever transports the message. `Accept-Encoding`
/// is among them because it is Kurier that reads the reply, and nothing is ever decompressed.
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "accept-encoding"
            | "connection"
            | "content-length"
            | "expect"
            | "host"
            | "http2-settings"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Whether a client shows with it who it is.
fn is_credential(name: &HeaderName) -> bool {
    matches!(name.as_str(), "authorization" | "cookie" | "proxy-authorization")
}

/// Leaves the end-to-end headers, every value in its order (I11), without credentials: those were meant for
/// Kurier's own door and are no business of any destination, nor of the disk (I9).
pub fn keep_end_to_end(headers: &mut HeaderMap) {
    let listed = headers.get_all(CONNECTION).into_iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let named: BTreeSet<Vec<u8>> = listed.map(|name| name.trim_ascii().to_ascii_lowercase()).collect();
    let unwanted = |name: &&HeaderName| is_hop_by_hop(name) || is_credential(name) || named.contains(name.as_str().as_bytes());
    let unwanted: SmallVec<[HeaderName; 4]> = headers.keys().filter(unwanted).cloned().collect();
    for name in unwanted {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn hop_by_hop_headers_and_credentials_stay_behind() {
        let names = "connection keep-alive proxy-connection te trailer transfer-encoding upgrade http2-settings host content-length expect \
                     accept-encoding proxy-authenticate authorization cookie proxy-authorization x-hop x-hop-too";
        let mut received: HeaderMap = names.split_whitespace().map(|name| (name.parse().unwrap(), HeaderValue::from_static("x"))).collect();
        received.insert(CONNECTION, HeaderValue::from_bytes(b"close, \xff, X-Hop").unwrap());
        received.append(CONNECTION, HeaderValue::from_static("x-hop-too"));
        received.insert("x-end", HeaderValue::from_static("to-end"));
        keep_end_to_end(&mut received);
        let kept: Vec<_> = received.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(kept, [("x-end", "to-end")]);
    }

    #[test]
    fn end_to_end_headers_stay_with_every_value_in_its_order() {
        let mut received = HeaderMap::new();
        for (name, value) in [("x-a", &b"1, 2"[..]), ("content-type", b"text/plain; charset=\xff"), ("x-a", b"3"), ("x-b", b"")] {
            received.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        let before = received.clone();
        keep_end_to_end(&mut received);
        assert_eq!(received, before);
    }
}
