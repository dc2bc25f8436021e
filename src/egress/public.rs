//! Calls to urls that come out of a payload or a sender's documents: `https` only, to public addresses only.
//!
//! What is checked is what is connected to: the resolver gives public addresses or none, so a name that resolves
//! otherwise a moment later (DNS rebinding) leads nowhere. Redirects are not followed, as for every call.

use std::sync::Arc;

use async_trait::async_trait;
use ipnet::IpNet;
use reqwest::Client;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::Url;

use super::exchange::{Call, exchange};
use super::fault::fault;
use super::guard::{NotPublic, may_call, resolve_public};
use super::http_client::{TransportError, call, client};
use super::{Fault, Outbound, Reply, Transport};
use crate::model::{FaultKind, is_public, literal};

/// The most that is read of a reply: a set of keys or a chain of certificates.
pub const PUBLIC_REPLY_BYTES_MAX: usize = 256 * 1024;

/// Calls public addresses and no others, save those that an operator allows by range.
pub struct PublicTransport {
    client: Client,
    allowed: Arc<[IpNet]>,
}

impl PublicTransport {
    /// A transport with the system's certificate authorities.
    ///
    /// # Errors
    /// When no client can be built at all.
    pub fn new() -> Result<Self, TransportError> {
        Self::and_private([])
    }

    /// The same, to addresses of these ranges too, which may also be called over plain http where a url names them as an
    /// address. Cloud metadata addresses are never called, whatever the ranges say.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn and_private(ranges: impl Into<Arc<[IpNet]>>) -> Result<Self, TransportError> {
        let allowed: Arc<[IpNet]> = ranges.into();
        let strict = || client().https_only(allowed.is_empty()).dns_resolver(PublicResolver(allowed.clone()));
        // Without authorities every handshake fails, which is what nobody to trust comes to.
        let client = strict().build().or_else(|_error| strict().tls_certs_only([]).build()).map_err(TransportError)?;
        Ok(Self { client, allowed })
    }

    fn check(&self, url: &Url) -> Result<(), Fault> {
        let address = literal(url);
        let private = address.is_some_and(|address| !is_public(address) && may_call(address, &self.allowed));
        if !(url.scheme() == "https" || url.scheme() == "http" && private) || !url.username().is_empty() || url.password().is_some() {
            return Err(fault(FaultKind::Unsendable, "the url is not plain https"));
        }
        match address {
            Some(address) if !may_call(address, &self.allowed) => Err(fault(FaultKind::ForbiddenAddress, NotPublic(address).to_string())),
            Some(_) | None => Ok(()),
        }
    }
}

#[async_trait]
impl Transport for PublicTransport {
    async fn send(&self, request: Outbound) -> Result<Reply, Fault> {
        let Outbound { method, url, headers, body, timeout: limit, tls: _, reach: _ } = request;
        self.check(&url)?;
        let request = Call::new(method, url, headers, body)?;
        let reply = exchange(call(&self.client, request), limit, PUBLIC_REPLY_BYTES_MAX).await?;
        if reply.truncated {
            return Err(fault(FaultKind::Protocol, format!("it broke off, or is longer than {PUBLIC_REPLY_BYTES_MAX} bytes")));
        }
        Ok(reply)
    }
}

struct PublicResolver(Arc<[IpNet]>);

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (host, allowed) = (name.as_str().to_owned(), self.0.clone());
        Box::pin(async move {
            let addresses = resolve_public(host, &allowed).await?;
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
    use crate::egress::Reach;

    fn request(url: &str) -> Outbound {
        let url = url.parse().unwrap();
        Outbound {
            method: Method::GET,
            url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            timeout: Duration::from_secs(5),
            tls: None,
            reach: Reach::Anywhere,
        }
    }

    async fn refused(url: &str) -> FaultKind {
        PublicTransport::new().unwrap().send(request(url)).await.unwrap_err().kind
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
    async fn an_allowed_range_is_called_over_plain_http_by_its_address_and_nothing_else_is() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = silent.local_addr().unwrap().port();
        drop(silent);
        let transport = PublicTransport::and_private(vec!["127.0.0.0/8".parse().unwrap(), "169.254.0.0/16".parse().unwrap()]).unwrap();
        for (url, kind) in [
            (format!("http://127.0.0.1:{port}/x"), FaultKind::Connect),
            (format!("https://localhost:{port}/x"), FaultKind::Connect),
            (format!("http://localhost:{port}/x"), FaultKind::Unsendable),
            ("http://8.8.8.8/x".to_owned(), FaultKind::Unsendable),
            ("https://10.0.0.1/x".to_owned(), FaultKind::ForbiddenAddress),
            ("https://169.254.169.254/x".to_owned(), FaultKind::ForbiddenAddress),
        ] {
            assert_eq!(transport.send(request(&url)).await.unwrap_err().kind, kind, "{url}");
        }
    }

    #[tokio::test]
    async fn what_is_not_plain_https_is_not_sent() {
        for url in ["http://sender.example/x", "ftp://sender.example/x", "https://user@sender.example/x", "https://:p@sender.example/x"] {
            assert_eq!(refused(url).await, FaultKind::Unsendable, "{url}");
        }
    }
}
