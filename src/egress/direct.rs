//! Calls to `http://` urls, of which nothing that reqwest adds is wanted: for redirects, cookies, proxies and retries, all of
//! them off, it costs a tenth of a delivery (docs/decisions.md). Beneath lies the same client.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower::Service;

use super::exchange::{CONNECT_TIMEOUT, Call, IDLE_PER_HOST_MAX, IDLE_TIMEOUT, REPLY_HEADERS_MAX};
use super::fault::{self, Stage, fault};
use super::{Fault, guard};
use crate::model::FaultKind;

/// When a connection on which nothing comes is asked whether somebody is still there, and how often in vain.
const PROBE_AFTER: Duration = Duration::from_secs(15);
const PROBES_MAX: u32 = 3;

/// The longest that what was sent stays unacknowledged.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(30);

type Failure = Box<dyn Error + Send + Sync>;

/// Calls `http://` urls.
pub(super) struct Direct(Client<Connector, Full<Bytes>>);

impl Direct {
    pub(super) fn new() -> Self {
        let mut connector = HttpConnector::new_with_resolver(Resolver);
        connector.set_nodelay(true);
        // Shared by the addresses of a name, so that a silent one leaves time for the others.
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_keepalive(Some(PROBE_AFTER));
        connector.set_keepalive_interval(Some(PROBE_AFTER));
        connector.set_keepalive_retries(Some(PROBES_MAX));
        connector.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
            .http1_max_headers(REPLY_HEADERS_MAX)
            .build(Connector(connector));
        Self(client)
    }

    /// Makes the request; of its answer's body nothing is read yet.
    pub(super) async fn call(&self, call: Call) -> Result<Response<Incoming>, Fault> {
        let Call { method, url, headers, body } = call;
        let uri = Uri::try_from(url.as_str()).map_err(|_error| fault(FaultKind::Unsendable, "the request can't be built for this url"))?;
        let mut request = Request::new(Full::new(body));
        (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (method, uri, headers);
        request.headers_mut().entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        let stage = |is_connect: bool| if is_connect { Stage::Connecting } else { Stage::Exchanging };
        self.0.request(request).await.map_err(|error| fault::of(&error, stage(error.is_connect())))
    }
}

/// Connects within [`CONNECT_TIMEOUT`], whatever takes that long.
#[derive(Clone)]
struct Connector(HttpConnector<Resolver>);

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Failure>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(ready!(self.0.poll_ready(context)).map_err(Into::into))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connected = timeout(CONNECT_TIMEOUT, self.0.call(uri));
        Box::pin(async move { Ok(connected.await.map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))??) })
    }
}

/// Gives the addresses that may be connected to.
#[derive(Clone)]
struct Resolver;

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Failure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let host = name.as_str().to_owned();
        Box::pin(async move { Ok(guard::resolve(host).await?.into_iter()) })
    }
}
