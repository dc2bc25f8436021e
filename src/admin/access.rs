//! Who is asking, and whether they may.
//!
//! With tokens, a request needs one whose scopes allow what it asks. Without tokens (allowed on a loopback
//! address only) everybody on this machine may do everything, and that must not include web pages: a page
//! whose name was rebound to 127.0.0.1 is known by its `Host`, one that posts across origins by its `Origin`.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::request::Parts as Head;
use http::uri::Authority;
use http::{HeaderName, Method};

use super::endpoint::Access;
use super::problem::Problem;
use crate::config;
use crate::model::Name;

/// Whoever sent a request, by the name that logs show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller(pub(super) Name);

pub(super) fn check(admin: &config::Admin, head: &Head, access: Access) -> Result<Caller, Problem> {
    let Access::Scope(needed) = access else { return Ok(Caller("anyone".into())) };
    if admin.tokens.is_empty() {
        return local(admin, head);
    }
    let presented = bearer(head)?;
    // Every token is compared, so that the time says nothing about which one was close.
    let mut found = None;
    for token in &admin.tokens {
        if token.matches(presented) {
            found = Some(token);
        }
    }
    let token = found.ok_or_else(Problem::token_unknown)?;
    if token.scopes.contains(&needed) { Ok(Caller(token.name.clone())) } else { Err(Problem::scope_missing(needed)) }
}

fn local(admin: &config::Admin, head: &Head) -> Result<Caller, Problem> {
    let listen = admin.listen.ip();
    if !listen.is_loopback() {
        // The configuration refuses this already; an open door to the network would be too high a price for a mistake there.
        return Err(Problem::forbidden("tokens_needed", "admin.listen is not a loopback address, so admin.tokens must be configured"));
    }
    let host = called_host(head).ok_or_else(|| Problem::forbidden("host", "exactly one Host header is needed"))?;
    if !is_local(host.host(), listen) {
        return Err(Problem::forbidden("host", "without admin.tokens only the names and addresses of this machine are answered"));
    }
    let safe = head.method == Method::GET || head.method == Method::HEAD;
    if !safe && !is_same_origin(head, &host) {
        return Err(Problem::forbidden("origin", "a page of another origin may not do this"));
    }
    Ok(Caller("local".into()))
}

fn bearer(head: &Head) -> Result<&[u8], Problem> {
    let value = single(head, &AUTHORIZATION).ok_or_else(Problem::token_missing)?;
    let (scheme, token) = value.split_at_checked("Bearer ".len()).ok_or_else(Problem::token_missing)?;
    let token = token.trim_ascii();
    if scheme.eq_ignore_ascii_case(b"Bearer ") && !token.is_empty() { Ok(token) } else { Err(Problem::token_missing()) }
}

/// The header's value, when there is exactly one.
fn single<'a>(head: &'a Head, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = head.headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value.as_bytes()),
        _ => None,
    }
}

/// What the caller believes to be talking to: HTTP/2's authority, else the Host header.
fn called_host(head: &Head) -> Option<Authority> {
    let host = match single(head, &HOST) {
        Some(value) => Some(Authority::try_from(value).ok()?),
        None if head.headers.contains_key(HOST) => return None,
        None => None,
    };
    match (head.uri.authority(), host) {
        (Some(authority), Some(host)) if *authority != host => None,
        (Some(authority), _) => Some(authority.clone()),
        (None, host) => host,
    }
}

fn is_local(host: &str, listen: IpAddr) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip == listen)
}

/// Whether no browser says that a page of another origin sent this.
fn is_same_origin(head: &Head, host: &Authority) -> bool {
    let origin = match single(head, &ORIGIN) {
        Some(origin) => Some(origin),
        None if head.headers.contains_key(ORIGIN) => return false,
        None => None,
    };
    let same = |origin: &[u8]| origin.strip_prefix(b"http://").is_some_and(|rest| rest.eq_ignore_ascii_case(host.as_str().as_bytes()));
    let fetched = head.headers.get("sec-fetch-site").is_none_or(|site| site == "same-origin" || site == "none");
    fetched && origin.is_none_or(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(headers: &[(&str, &str)]) -> Head {
        let mut request = http::Request::post("/x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn only_names_of_this_machine_are_local() {
        let listen = "127.0.0.2".parse().unwrap();
        for host in ["localhost", "LocalHost", "127.0.0.1", "127.9.9.9", "[::1]", "127.0.0.2"] {
            assert!(is_local(host, listen), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "10.0.0.1", "127.0.0.1.evil.example", ""] {
            assert!(!is_local(host, listen), "{host}");
        }
    }

    #[test]
    fn two_hosts_or_none_are_no_host() {
        assert!(called_host(&head(&[])).is_none());
        assert!(called_host(&head(&[("host", "localhost"), ("host", "evil.example")])).is_none());
        assert_eq!(called_host(&head(&[("host", "localhost:9090")])).unwrap().host(), "localhost");
    }

    #[test]
    fn a_page_of_another_origin_is_told_apart_from_our_own_and_from_programs() {
        let host = Authority::from_static("127.0.0.1:9090");
        assert!(is_same_origin(&head(&[]), &host));
        assert!(is_same_origin(&head(&[("origin", "http://127.0.0.1:9090"), ("sec-fetch-site", "same-origin")]), &host));
        for headers in [
            &[("origin", "https://evil.example")][..],
            &[("origin", "null")],
            &[("origin", "http://127.0.0.1:8081")],
            &[("sec-fetch-site", "cross-site")],
            &[("origin", "http://127.0.0.1:9090"), ("origin", "http://127.0.0.1:9090")],
        ] {
            assert!(!is_same_origin(&head(headers), &host), "{headers:?}");
        }
    }
}
