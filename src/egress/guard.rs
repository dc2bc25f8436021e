//! The check of what is connected to.
//!
//! Destinations are the operator's own words and may be private; the cloud metadata addresses are refused all
//! the same, because a typo or a rebound name would hand the machine's credentials to whoever answers. The
//! check stands in the resolver, so what is checked is what is connected to, without a second look-up between.

use std::io;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::model::{is_metadata, is_public, literal};

/// Why a name gives no addresses.
pub(super) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Nobody calls this address, whoever configured it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is a cloud metadata address")]
pub(super) struct Forbidden(pub(super) IpAddr);

/// A url out of a payload may not lead here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no public address")]
pub(super) struct NotPublic(pub(super) IpAddr);

/// The name did not resolve.
#[derive(Debug, thiserror::Error)]
#[error("the host name does not resolve")]
pub(super) struct Unresolved(#[source] pub(super) io::Error);

/// Resolves a name to the addresses that may be connected to. One forbidden address among them refuses the
/// name as a whole: a name that mixes them is an attack or a mistake.
pub(super) async fn resolve(host: String) -> Result<Vec<SocketAddr>, Failure> {
    let found: Vec<SocketAddr> = tokio::net::lookup_host((host, 0)).await.map_err(Unresolved)?.collect();
    match found.iter().find(|address| is_metadata(address.ip())) {
        Some(address) => Err(Box::new(Forbidden(address.ip()))),
        None => Ok(found),
    }
}

/// The same, to public addresses and those of the allowed ranges only.
pub(super) async fn resolve_public(host: String, allowed: &[IpNet]) -> Result<Vec<SocketAddr>, Failure> {
    let found = resolve(host).await?;
    match found.iter().find(|address| !may_call(address.ip(), allowed)) {
        Some(address) => Err(Box::new(NotPublic(address.ip()))),
        None => Ok(found),
    }
}

/// Whether a url out of a payload may lead to this address.
pub(super) fn may_call(address: IpAddr, allowed: &[IpNet]) -> bool {
    is_public(address) || (!is_metadata(address) && allowed.iter().any(|range| range.contains(&address)))
}

/// The check for a url whose host is an address already: no resolver is asked for those.
pub(super) fn check_literal(url: &url::Url) -> Result<(), Forbidden> {
    match literal(url) {
        Some(address) if is_metadata(address) => Err(Forbidden(address)),
        Some(_) | None => Ok(()),
    }
}
