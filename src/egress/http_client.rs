//! The transport over real sockets, and the command line's call to the admin API. This file and
//! `public` alone know reqwest.
//!
//! Connections are pooled per distinct TLS setting. What is read of an answer has a cap; beyond it the
//! connection is dropped, so an endless body costs neither memory nor time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use ipnet::IpNet;
use parking_lot::Mutex;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Certificate, Client, Identity, Request, Response};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::fault::{self, Stage, fault};
use super::{Fault, Outbound, PublicTransport, Reach, Reply, Transport, guard};
use crate::model::{ClientTls, FaultKind, Secret};

/// The most that is read of a reply's body: enough to say what went wrong.
pub const REPLY_BODY_BYTES_MAX: usize = 16 * 1024;

/// The most that is read of what is fetched: a page of a list, a statement, a status page.
pub const FETCHED_BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The most that is read of an answer of the admin API: an event's body and its list of deliveries fit.
pub const ADMIN_ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The longest a connection may take to stand, TLS included; a destination's shorter `timeout` wins.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Idle connections kept per host. Of more attempts that end together some close theirs, and the next ones connect anew,
/// which costs more than the request; but each takes a descriptor, here and there, until it has been idle for long.
const IDLE_PER_HOST_MAX: usize = 256;

/// How long an idle connection is kept: shorter than the 60 s after which common servers close theirs, so
/// that requests seldom meet a connection that is just being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(45);

/// Most header fields of an answer.
const REPLY_HEADERS_MAX: usize = 256;

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
        Ok(Self { plain, cap: REPLY_BODY_BYTES_MAX, with_tls: Mutex::default(), public: Mutex::default() })
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
        Ok(Self { plain, cap: REPLY_BODY_BYTES_MAX, with_tls: Mutex::default(), public: Mutex::default() })
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
        let client = self.client(tls.as_ref())?;
        exchange(&client, Request::new(method, url), headers, body, limit, self.cap).await
    }
}

pub(super) async fn exchange(
    client: &Client,
    mut request: Request,
    mut headers: HeaderMap,
    body: Bytes,
    limit: Duration,
    cap: usize,
) -> Result<Reply, Fault> {
    guard::check_literal(request.url()).map_err(|forbidden| fault(FaultKind::ForbiddenAddress, forbidden.to_string()))?;
    let late = |_elapsed| fault(FaultKind::Timeout, format!("no complete answer within {limit:?}"));
    let deadline = Instant::now() + limit;
    let userinfo = take_userinfo(request.url_mut());
    // A server may insist on a length even where there is nothing (411), and for no body none is made.
    if body.is_empty() && ![Method::GET, Method::HEAD].contains(request.method()) {
        headers.entry(CONTENT_LENGTH).or_insert(HeaderValue::from_static("0"));
    }
    if let Some(credentials) = userinfo {
        headers.entry(AUTHORIZATION).or_insert(credentials);
    }
    *request.headers_mut() = headers;
    if !body.is_empty() {
        *request.body_mut() = Some(body.into());
    }
    let mut response = timeout_at(deadline, client.execute(request)).await.map_err(late)?.map_err(|error| of(&error))?;
    let mut body = BytesMut::new();
    let read = timeout_at(deadline, read(&mut response, &mut body, cap)).await.map_err(late).flatten();
    let truncated = match read {
        Ok(truncated) => truncated,
        // The status has said it all: to call again because the rest of a yes was lost would only deliver twice.
        Err(_) if response.status().is_success() => true,
        Err(fault) => return Err(fault),
    };
    Ok(Reply { status: response.status(), headers: std::mem::take(response.headers_mut()), body: body.freeze(), truncated })
}

/// Reads on into `body` up to the cap; whether there was more.
async fn read(response: &mut Response, body: &mut BytesMut, cap: usize) -> Result<bool, Fault> {
    while let Some(chunk) = response.chunk().await.map_err(|error| of(&error))? {
        let room = cap - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            return Ok(true);
        }
    }
    Ok(false)
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

/// Takes user and password out of a url: they travel as a header, never in a request line.
fn take_userinfo(url: &mut Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let decode = |text: &str| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
    let mut credentials = decode(url.username());
    credentials.push(b':');
    credentials.extend(decode(url.password().unwrap_or_default()));
    // Both fail only for urls without a host, which have no userinfo.
    url.set_username("").and_then(|()| url.set_password(None)).ok()?;
    let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(credentials))).ok()?;
    value.set_sensitive(true);
    Some(value)
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
    let request = Request::new(method, url);
    let reply = exchange(&transport.plain, request, headers, body.unwrap_or_default(), limit, ADMIN_ANSWER_BYTES_MAX).await?;
    if reply.truncated {
        return Err(fault(FaultKind::Protocol, format!("the answer broke off, or is longer than {ADMIN_ANSWER_BYTES_MAX} bytes")));
    }
    Ok((reply.status, reply.body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn userinfo_becomes_a_header_and_leaves_the_url() {
        let mut url: Url = "https://us%20er:p%3Aw@example.ch/x".parse().unwrap();
        let value = take_userinfo(&mut url).unwrap();
        assert_eq!(url.as_str(), "https://example.ch/x");
        assert_eq!(value.to_str().unwrap(), format!("Basic {}", STANDARD.encode("us er:p:w")));
        assert!(value.is_sensitive());
        assert_eq!(take_userinfo(&mut url), None);
    }

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
