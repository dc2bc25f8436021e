//! Calls to `http://` urls, of which nothing that reqwest adds is wanted: for redirects, cookies and proxies, all of them off,
//! it costs a tenth of a delivery (docs/decisions.md). Beneath lies the same client; as there, only a request of which nothing
//! was sent, because its idle connection had just been closed, is sent on another one.

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
use super::guard::Failure;
use super::{Fault, guard};
use crate::model::FaultKind;

/// When a connection on which nothing comes is asked whether somebody is still there.
const PROBE_AFTER: Duration = Duration::from_secs(15);

/// The longest that what was sent, such a question too, stays unacknowledged.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(30);

type Found = Pin<Box<dyn Future<Output = Result<Vec<SocketAddr>, Failure>> + Send>>;

/// Calls `http://` urls.
pub(super) struct Direct(Client<Connector, Full<Bytes>>);

impl Direct {
    pub(super) fn new() -> Self {
        Self::resolving_by(|host| Box::pin(guard::resolve(host)))
    }

    fn resolving_by(resolve: fn(String) -> Found) -> Self {
        let mut connector = HttpConnector::new_with_resolver(Resolver(resolve));
        connector.set_nodelay(true);
        // Shared by the addresses of a name, so that a silent one leaves time for the others.
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_keepalive(Some(PROBE_AFTER));
        connector.set_keepalive_interval(Some(PROBE_AFTER));
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
        let (method, url, headers, body) = call.into_parts();
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
struct Resolver(fn(String) -> Found);

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Failure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let found = (self.0)(name.as_str().to_owned());
        Box::pin(async move { Ok(found.await?.into_iter()) })
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};

    use super::*;

    async fn fault_by(resolve: fn(String) -> Found) -> (FaultKind, String) {
        let call = Call::new(Method::GET, "http://name.test/".parse().unwrap(), HeaderMap::new(), Bytes::new()).unwrap();
        let fault = Direct::resolving_by(resolve).call(call).await.unwrap_err();
        (fault.kind, fault.detail)
    }

    #[tokio::test]
    async fn a_name_whose_resolution_is_refused_is_not_connected_to() {
        let (kind, detail) = fault_by(|_| Box::pin(async { Err(guard::Forbidden("169.254.169.254".parse().unwrap()).into()) })).await;
        assert_eq!((kind, &*detail), (FaultKind::ForbiddenAddress, "169.254.169.254 is a cloud metadata address"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_does_not_resolve_in_time_is_no_connection() {
        let begun = tokio::time::Instant::now();
        assert_eq!(fault_by(|_| Box::pin(std::future::pending())).await, (FaultKind::Connect, "connecting took too long".to_owned()));
        assert_eq!(begun.elapsed().as_secs(), CONNECT_TIMEOUT.as_secs());
    }
}
