//! The public side: takes a request in, bounds it, finds its route, has it verified and accepted, answers.
//!
//! Nothing here stores or delivers by itself, and nothing here can say 2xx to a sender without the store's
//! receipt (`response`), but for what is no event: a handshake that the route's scheme answers, and a HEAD by
//! which a sender tries the address. Checks go from cheap to costly: path, method, address rate, announced length, then the
//! body (counted while it arrives), then the signature, then the route's rate, then the commit. The body is
//! never parsed and never decompressed here, and copied at most once.
//!
//! Keeps I1 and I2 at the edge, I9 (no secret, body or raw path in a log), I10 (see `limits`) and I11.

mod body;
mod budget;
mod handle;
mod limits;
mod origin;
mod refusal;
mod response;
mod standing;
mod waiting;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, COOKIE, HeaderValue, PROXY_AUTHORIZATION, X_CONTENT_TYPE_OPTIONS};
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use tower::{Service, ServiceBuilder, service_fn};
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::accept::{Acceptor, IdSource};
use crate::clock::Clock;
use crate::config::{self, Live};
use crate::orders::Orders;
use crate::quarantine::Quarantine;
use crate::server::ServeOptions;
use crate::signature::KeyKeeper;
use crate::store::{Settled, Store};
use crate::telemetry::Metrics;
use crate::tokens::Tokens;

use budget::Budget;
use standing::Standing;

pub use response::{RETRY_AFTER, Unanswered};

/// What the server of the public port keeps to, by this configuration. A reload makes them anew.
pub fn serve_options(server: &config::Server) -> ServeOptions {
    ServeOptions {
        connections_max: server.limits.connections,
        head_bytes_max: server.limits.headers,
        head_timeout: server.limits.read_timeout,
        grace: server.grace,
        tls: server.tls.as_ref().map(|tls| tls.config.clone()),
        ..ServeOptions::default()
    }
}

/// What ingress is made of.
pub struct Parts {
    /// The configuration in force.
    pub config: Live,
    /// Where events go.
    pub store: Arc<dyn Store>,
    /// Hints that an event's deliveries were settled.
    pub settled: Settled,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where refusals and acceptances are counted.
    pub metrics: Arc<Metrics>,
    /// Who keeps the keys that senders publish.
    pub keys: Arc<dyn KeyKeeper>,
    /// Orders that callbacks complete.
    pub orders: Orders,
    /// Where refused requests are kept, of routes that keep them.
    pub quarantine: Quarantine,
    /// Authorizations that browsers bring back.
    pub tokens: Tokens,
    /// Where event ids come from.
    pub ids: IdSource,
    /// Whether new requests get 503 because the process is about to stop. Set it when the listener is closed
    /// for good; what has passed this point is finished.
    pub stopping: Arc<AtomicBool>,
}

/// The public side. Clones share everything.
#[derive(Clone)]
pub struct Ingress(Arc<Inner>);

struct Inner {
    config: Live,
    store: Arc<dyn Store>,
    settled: Settled,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    acceptor: Acceptor,
    keys: Arc<dyn KeyKeeper>,
    orders: Orders,
    quarantine: Quarantine,
    tokens: Tokens,
    stopping: Arc<AtomicBool>,
    standing: Standing,
    budget: Budget,
}

impl Ingress {
    /// The public side, made once; a reload changes only what `config` points to, and limiters and counters
    /// live on.
    pub fn new(parts: Parts) -> Self {
        let Parts { config, store, settled, clock, metrics, keys, orders, quarantine, tokens, ids, stopping } = parts;
        let acceptor = Acceptor::new(store.clone(), clock.clone(), ids);
        let standing = Standing::new(clock.clone(), metrics.clone());
        let budget = Budget::default();
        Self(Arc::new(Inner {
            config,
            store,
            settled,
            clock,
            metrics,
            acceptor,
            keys,
            orders,
            quarantine,
            tokens,
            stopping,
            standing,
            budget,
        }))
    }

    /// The service for `server::serve`.
    pub fn service<B>(
        &self,
    ) -> impl Service<Request<B>, Response = Response<Full<Bytes>>, Error = Unanswered, Future: Send + 'static> + Clone + Send + Sync + 'static
    where
        B: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + Unpin + 'static,
    {
        ServiceBuilder::new()
            // Outermost, so that not even a debug print of a request shows them.
            .layer(SetSensitiveRequestHeadersLayer::new([AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE]))
            // An answer's body may echo what an operator configured; no browser shall make more of it.
            .layer(SetResponseHeaderLayer::if_not_present(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")))
            // A GET callback that a cache answers would never reach us.
            .layer(SetResponseHeaderLayer::if_not_present(CACHE_CONTROL, HeaderValue::from_static("no-store")))
            // Its future is in no box: hyper has a place for it with every connection. Overload is told per request, where
            // there is something to answer with.
            .service(service_fn({
                let inner = self.0.clone();
                move |request| inner.clone().handle(request)
            }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a request takes while it is served, beside its own bytes. It is put into its place anew for each request, so what
    /// only some requests need stands in boxes of its own.
    #[test]
    fn a_request_that_is_served_costs_less_than_two_kilobytes() {
        fn size<A, F>(_: impl FnOnce(A) -> F) -> usize {
            size_of::<F>()
        }
        let bytes = size(|(inner, request): (Arc<Inner>, Request<Full<Bytes>>)| inner.handle(request));
        assert!(bytes < 2048, "{bytes} bytes");
    }
}
