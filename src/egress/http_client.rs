//! The transport over real sockets, and the command line's call to the admin API. This file and
//! `public` alone know reqwest, which makes the calls over TLS; those to `http://` urls are `direct`.
//!
//! Over TLS connections are pooled per distinct setting. What is read of an answer has a cap; beyond it the
//! connection is dropped, so an endless body costs neither memory nor time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use ipnet::IpNet;
use parking_lot::Mutex;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Certificate, Client, Identity, Request};
use url::Url;

use super::direct::Direct;
use super::exchange::{CONNECT_TIMEOUT, Call, IDLE_PER_HOST_MAX, IDLE_TIMEOUT, REPLY_HEADERS_MAX, exchange};
use super::fault::{self, Stage, fault};
use super::{Fault, Outbound, PublicTransport, Reach, Reply, Transport, guard};
use crate::model::{ClientTls, FaultKind, Secret};

/// The most that is read of a reply's body: enough to say what went wrong.
pub const REPLY_BODY_BYTES_MAX: usize = 16 * 1024;

/// The most that is read of what is fetched: a page of a list, a statement, a status page.
pub const FETCHED_BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The most that is read of an answer of the admin API: an event's body and its list of deliveries fit.
pub const ADMIN_ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Most bytes of an HTTP/2 answer's header fields.
const REPLY_HEADER_LIST_BYTES_MAX: u32 = 64 * 1024;

/// Most clients with TLS settings of their own that are kept; beyond it the one used longest ago goes, which
/// costs its pooled connections and nothing else.
const TLS_CLIENTS_MAX: usize = 64;

/// Most clients for urls out of payloads that are kept, one for each distinct setting of allowed ranges.
const PUBLIC_CLIENTS_MAX: usize = 16;

/// Why there is no transport.
#[derive(Debug, thiserror::Error)]
#[error("setting up outbound HTTP")]
pub struct TransportError(#[source] pub(super) reqwest::Error);

/// A transport to public addresses, and the ranges that it allows besides.
type Public = (Arc<[IpNet]>, Arc<PublicTransport>);

/// Makes requests over real sockets.
pub struct HttpTransport {
    direct: Direct,
    /// Over TLS as the system has it.
    plain: Client,
    /// The most that is read of a reply's body.
    cap: usize,
    /// Most recently used first.
    with_tls: Mutex<VecDeque<(Arc<ClientTls>, Client)>>,
    /// For urls out of payloads, by the ranges that are allowed besides public addresses; most recently used first.
    public: Mutex<VecDeque<Public>>,
}

impl HttpTransport {
    /// A transport with the system's certificate authorities. Without any, destinations over TLS that bring
    /// no `tls.ca` of their own fail their handshake; the others work.
    ///
    /// # Errors
    /// When no client can be built at all.
    pub fn new() -> Result<Self, TransportError> {
        let plain = match client().build() {
            Ok(client) => client,
            Err(_) => {
                tracing::warn!(
                    "no certificate authorities found on this system: only destinations with their own `tls.ca` can be called over TLS"
                );
                client().tls_certs_only([]).build().map_err(TransportError)?
            }
        };
        Ok(Self::over(plain))
    }

    fn over(plain: Client) -> Self {
        Self { direct: Direct::new(), plain, cap: REPLY_BODY_BYTES_MAX, with_tls: Mutex::default(), public: Mutex::default() }
    }

    /// The same, reading up to so many bytes of a reply: for what is fetched, not only answered.
    #[must_use]
    pub fn reading(mut self, bytes_max: usize) -> Self {
        self.cap = bytes_max;
        self
    }

    /// The same for calling one's own server at its listening address: its certificate names the public host, and
    /// nobody stands between, so it is not checked. Never for any other address.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn to_own_server() -> Result<Self, TransportError> {
        let plain = client().tls_danger_accept_invalid_certs(true).build().map_err(TransportError)?;
        Ok(Self::over(plain))
    }

    fn public(&self, ranges: &Arc<[IpNet]>) -> Result<Arc<PublicTransport>, Fault> {
        let mut known = self.public.lock();
        let at = known.iter().position(|(setting, _)| setting == ranges);
        let found = match at.and_then(|at| known.remove(at)) {
            Some((_, found)) => found,
            None => {
                Arc::new(PublicTransport::and_private(ranges.clone()).map_err(|error| fault(FaultKind::Unsendable, error.to_string()))?)
            }
        };
        known.push_front((ranges.clone(), found.clone()));
        known.truncate(PUBLIC_CLIENTS_MAX);
        Ok(found)
    }

    fn client(&self, tls: Option<&Arc<ClientTls>>) -> Result<Client, Fault> {
        let Some(tls) = tls else { return Ok(self.plain.clone()) };
        let mut known = self.with_tls.lock();
        let at = known.iter().position(|(setting, _)| same(setting, tls));
        if let Some(found) = at.and_then(|at| known.remove(at)) {
            let client = found.1.clone();
            known.push_front(found);
            return Ok(client);
        }
        let client = client_with(tls).map_err(|_error| fault(FaultKind::Tls, "the destination's `tls` settings can't be used"))?;
        known.push_front((tls.clone(), client.clone()));
        known.truncate(TLS_CLIENTS_MAX);
        Ok(client)
    }
}

fn same(a: &Arc<ClientTls>, b: &Arc<ClientTls>) -> bool {
    let identity = |tls: &ClientTls| tls.identity.as_ref().map(|secret| secret.expose().to_vec());
    Arc::ptr_eq(a, b) || (a.ca == b.ca && identity(a) == identity(b))
}

pub(super) fn client() -> reqwest::ClientBuilder {
    Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .referer(false)
        .dns_resolver(GuardedResolver)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .http1_max_headers(REPLY_HEADERS_MAX)
        .http2_max_header_list_size(REPLY_HEADER_LIST_BYTES_MAX)
}

fn client_with(tls: &ClientTls) -> Result<Client, reqwest::Error> {
    let mut builder = client();
    if let Some(ca) = &tls.ca {
        builder = builder.tls_certs_only(Certificate::from_pem_bundle(ca)?);
    }
    if let Some(identity) = &tls.identity {
        builder = builder.identity(Identity::from_pem(identity.expose())?);
    }
    builder.build()
}

struct GuardedResolver;

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        Box::pin(async move {
            let addresses = guard::resolve(host).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[async_trait]
impl Transport for HttpTransport {
    async fn send(&self, request: Outbound) -> Result<Reply, Fault> {
        if let Reach::Public(ranges) = &request.reach {
            return self.public(ranges)?.send(request).await;
        }
        let Outbound { method, url, headers, body, timeout: limit, tls, reach: _ } = request;
        if url.scheme() == "http" {
            let request = Call::new(method, url, headers, body)?;
            return exchange(self.direct.call(request), limit, self.cap).await;
        }
        let client = self.client(tls.as_ref())?;
        let request = Call::new(method, url, headers, body)?;
        exchange(call(&client, request), limit, self.cap).await
    }
}

/// Makes the request; of its answer's body nothing is read yet.
pub(super) async fn call(client: &Client, call: Call) -> Result<http::Response<reqwest::Body>, Fault> {
    let (method, url, headers, body) = call.into_parts();
    let mut request = Request::new(method, url);
    *request.headers_mut() = headers;
    if !body.is_empty() {
        *request.body_mut() = Some(body.into());
    }
    client.execute(request).await.map(Into::into).map_err(|error| of(&error))
}

fn of(error: &reqwest::Error) -> Fault {
    if error.is_builder() {
        return fault(FaultKind::Unsendable, "the request can't be built for this url");
    }
    if error.is_connect() {
        if error.is_timeout() {
            return fault(FaultKind::Connect, "connecting took too long");
        }
        return fault::of(error, Stage::Connecting);
    }
    fault::of(error, Stage::Exchanging)
}

/// One call to the admin API of a running server, for the command line: JSON in and out, no redirects.
///
/// # Errors
/// Why there is no answer; the url is not in it.
pub async fn admin_call(
    method: Method,
    url: Url,
    token: Option<&Secret>,
    body: Option<Bytes>,
    limit: Duration,
) -> Result<(StatusCode, Bytes), Fault> {
    let transport = HttpTransport::new().map_err(|error| fault(FaultKind::Unsendable, error.to_string()))?;
    let transport = transport.reading(ADMIN_ANSWER_BYTES_MAX);
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    if body.is_some() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if let Some(token) = token {
        let mut value = HeaderValue::from_bytes(&[b"Bearer ", token.expose()].concat())
            .map_err(|_error| fault(FaultKind::Unsendable, "the token holds characters that no header can carry"))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    let body = body.unwrap_or_default();
    let reply = transport.send(Outbound { method, url, headers, body, timeout: limit, tls: None, reach: Reach::Anywhere }).await?;
    if reply.truncated {
        return Err(fault(FaultKind::Protocol, format!("the answer broke off, or is longer than {ADMIN_ANSWER_BYTES_MAX} bytes")));
    }
    Ok((reply.status, reply.body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_shared_by_equal_tls_settings_and_their_number_is_bounded() {
        let transport = HttpTransport::new().unwrap();
        let ca = |_| {
            let key = rcgen::KeyPair::generate().unwrap();
            let pem = rcgen::CertificateParams::new(vec!["a.test".into()]).unwrap().self_signed(&key).unwrap().pem();
            Arc::new(ClientTls { ca: Some(pem.into_bytes()), identity: None })
        };
        let first = ca(0);
        transport.client(Some(&first)).unwrap();
        transport.client(Some(&Arc::new(ClientTls::clone(&first)))).unwrap();
        assert_eq!(transport.with_tls.lock().len(), 1);
        for n in 0..TLS_CLIENTS_MAX + 3 {
            transport.client(Some(&ca(n))).unwrap();
        }
        assert_eq!(transport.with_tls.lock().len(), TLS_CLIENTS_MAX);
        let broken =
            Arc::new(ClientTls { ca: Some(b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----".to_vec()), identity: None });
        assert_eq!(transport.client(Some(&broken)).unwrap_err().kind, FaultKind::Tls);
    }
}
