//! Calls to urls that come out of a payload or a sender's documents: `https` only, to public addresses only.
//!
//! What is checked is what is connected to: the resolver gives public addresses or none, so a name that resolves
//! otherwise a moment later (DNS rebinding) leads nowhere. Redirects are not followed, as for every call.

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Request};
use url::Url;

use super::fault::fault;
use super::guard::{NotPublic, resolve_public};
use super::http_client::{TransportError, client, exchange};
use super::{Fault, Outbound, Reply, Transport};
use crate::model::{FaultKind, is_public, literal};

/// The most that is read of a reply: a set of keys or a chain of certificates.
pub const PUBLIC_REPLY_BYTES_MAX: usize = 256 * 1024;

/// Calls public addresses and no others.
pub struct PublicTransport(Client);

impl PublicTransport {
    /// A transport with the system's certificate authorities.
    ///
    /// # Errors
    /// When no client can be built at all.
    pub fn new() -> Result<Self, TransportError> {
        let strict = || client().https_only(true).dns_resolver(PublicResolver);
        // Without authorities every handshake fails, which is what nobody to trust comes to.
        strict().build().or_else(|_error| strict().tls_certs_only([]).build()).map(Self).map_err(TransportError)
    }
}

#[async_trait]
impl Transport for PublicTransport {
    async fn send(&self, request: Outbound) -> Result<Reply, Fault> {
        let Outbound { method, url, headers, body, timeout: limit, tls: _ } = request;
        check(&url)?;
        let reply = exchange(&self.0, Request::new(method, url), headers, body, limit, PUBLIC_REPLY_BYTES_MAX).await?;
        if reply.truncated {
            return Err(fault(FaultKind::Protocol, format!("it broke off, or is longer than {PUBLIC_REPLY_BYTES_MAX} bytes")));
        }
        Ok(reply)
    }
}

fn check(url: &Url) -> Result<(), Fault> {
    if url.scheme() != "https" || !url.username().is_empty() || url.password().is_some() {
        return Err(fault(FaultKind::Unsendable, "the url is not plain https"));
    }
    match literal(url) {
        Some(address) if !is_public(address) => Err(fault(FaultKind::ForbiddenAddress, NotPublic(address).to_string())),
        Some(_) | None => Ok(()),
    }
}

struct PublicResolver;

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        Box::pin(async move {
            let addresses = resolve_public(host).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http::{HeaderMap, Method};

    use super::*;

    async fn refused(url: &str) -> FaultKind {
        let request = Outbound {
            method: Method::GET,
            url: url.parse().unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            timeout: Duration::from_secs(5),
            tls: None,
        };
        PublicTransport::new().unwrap().send(request).await.unwrap_err().kind
    }

    #[tokio::test]
    async fn what_is_not_public_is_not_connected_to() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in
            ["localhost", "127.0.0.1", "127.1", "2130706433", "0x7f000001", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "10.0.0.1"]
        {
            assert_eq!(refused(&format!("https://{host}:{port}/x")).await, FaultKind::ForbiddenAddress, "{host}");
        }
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "nobody has connected");
    }

    #[tokio::test]
    async fn what_is_not_plain_https_is_not_sent() {
        for url in ["http://sender.example/x", "ftp://sender.example/x", "https://user@sender.example/x", "https://:p@sender.example/x"] {
            assert_eq!(refused(url).await, FaultKind::Unsendable, "{url}");
        }
    }
}
