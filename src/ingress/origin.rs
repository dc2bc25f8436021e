//! Who sent a request and what they called: the connection, unless the peer is a trusted proxy that says
//! otherwise. Nobody else's `X-Forwarded-*` is believed.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Version};
use ipnet::IpNet;

use super::limits::{FORWARDED_HOPS_MAX, HOST_BYTES_MAX};
use super::refusal::Refused;
use crate::config::Server;
use crate::server::Connection;

/// Where a request comes from.
pub(super) struct Origin {
    /// The sender's address.
    pub(super) peer: IpAddr,
    /// Scheme and authority that the sender called.
    pub(super) base: Arc<str>,
}

/// Finds out. One host, or none before HTTP/1.1: two that disagree are how requests are smuggled past a proxy.
///
/// # Errors
/// The request doesn't name its host properly.
pub(super) fn origin(head: &Parts, connection: Connection, server: &Server) -> Result<Origin, Refused> {
    let host = host(head)?;
    let direct = connection.peer.ip().to_canonical();
    let trusted = is_trusted(direct, &server.trusted_proxies);
    let peer = if trusted { sender(direct, &head.headers, &server.trusted_proxies) } else { direct };
    let base = match &server.public_url {
        Some(url) => url.clone(),
        None => base(head, host, connection.tls, trusted),
    };
    Ok(Origin { peer, base })
}

/// The address whose rate is counted: IPv6 senders own at least a /64, so it stands for all of it.
pub(super) fn rate_key(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(_) => peer,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

fn is_trusted(address: IpAddr, proxies: &[IpNet]) -> bool {
    proxies.iter().any(|net| net.contains(&address))
}

/// Follows `X-Forwarded-For` from the right as long as each hop is trusted; the first that isn't is the sender.
fn sender(direct: IpAddr, headers: &HeaderMap, proxies: &[IpNet]) -> IpAddr {
    let mut address = direct;
    let lines: Vec<&[u8]> = headers.get_all("x-forwarded-for").iter().map(http::HeaderValue::as_bytes).collect();
    let hops = lines.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b','));
    for hop in hops.take(FORWARDED_HOPS_MAX) {
        if !is_trusted(address, proxies) {
            break;
        }
        match parse_hop(hop) {
            Some(next) => address = next,
            None => break,
        }
    }
    address
}

/// An address, with or without a port.
fn parse_hop(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip())).ok()?;
    Some(address.to_canonical())
}

fn host(head: &Parts) -> Result<Option<Authority>, Refused> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let header = match (hosts.next(), hosts.next()) {
        (None, _) => None,
        (Some(host), None) => Some(authority(host.as_bytes()).ok_or(Refused::Malformed("the Host header is not a host"))?),
        (Some(_), Some(_)) => return Err(Refused::Malformed("several Host headers")),
    };
    if header.is_none() && head.version == Version::HTTP_11 {
        return Err(Refused::Malformed("no Host header"));
    }
    let Some(called) = head.uri.authority() else { return Ok(header) };
    if called.as_str().contains('@') {
        return Err(Refused::Malformed("the request target has user information"));
    }
    if header.is_some_and(|header| header != *called) {
        return Err(Refused::Malformed("the request target and the Host header differ"));
    }
    Ok(Some(called.clone()))
}

fn authority(bytes: &[u8]) -> Option<Authority> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= HOST_BYTES_MAX && !text.contains('@'))?;
    Authority::from_str(text).ok()
}

fn base(head: &Parts, host: Option<Authority>, tls: bool, trusted: bool) -> Arc<str> {
    let forwarded = |name: &str| {
        // The last one is the trusted peer's own word; what stands before it, anybody may have sent.
        let value = if trusted { head.headers.get_all(name).iter().next_back() } else { None }?;
        value.as_bytes().rsplit(|byte| *byte == b',').next().map(<[u8]>::trim_ascii)
    };
    let https = match forwarded("x-forwarded-proto") {
        Some(proto) if proto.eq_ignore_ascii_case(b"https") => true,
        Some(proto) if proto.eq_ignore_ascii_case(b"http") => false,
        Some(_) | None => tls,
    };
    let host = forwarded("x-forwarded-host").and_then(authority).or(host);
    let scheme = if https { "https" } else { "http" };
    [scheme, "://", host.as_ref().map_or("", Authority::as_str)].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies() -> Vec<IpNet> {
        vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]
    }

    fn chain(direct: &str, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        sender(direct.parse().unwrap(), &headers, &proxies()).to_string()
    }

    #[test]
    fn the_sender_is_the_rightmost_hop_that_is_not_a_trusted_proxy() {
        assert_eq!(chain("10.0.0.1", &["192.0.2.7"]), "192.0.2.7");
        assert_eq!(chain("10.0.0.1", &["6.6.6.6, 192.0.2.7"]), "192.0.2.7", "what the sender claims is not followed");
        assert_eq!(chain("10.0.0.1", &["6.6.6.6", "192.0.2.7, 10.0.0.2"]), "192.0.2.7", "lines join in their order");
        assert_eq!(chain("10.0.0.1", &["[2001:db8::1]:4711"]), "2001:db8::1");
        assert_eq!(chain("10.0.0.1", &["::ffff:192.0.2.7"]), "192.0.2.7");
        assert_eq!(chain("fd00::1", &["192.0.2.7:80"]), "192.0.2.7");
        assert_eq!(chain("203.0.113.5", &["192.0.2.7"]), "203.0.113.5", "nobody else is believed");
        assert_eq!(chain("10.0.0.1", &["192.0.2.7, unknown"]), "10.0.0.1");
        assert_eq!(chain("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn an_ipv6_sender_is_counted_by_its_network() {
        let key = |text: &str| rate_key(text.parse().unwrap()).to_string();
        assert_eq!(key("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(key("192.0.2.7"), "192.0.2.7");
    }
}
