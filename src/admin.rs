//! The operator's side of a running Kurier: health, metrics and the API, as one tower service.
//!
//! It shows what is stored and asks the store and the relay to act; it never makes a request of its own, and
//! no answer ever holds a secret of the configuration (I9). Every page, body and list has a limit (I10).

mod access;
mod answer;
mod destinations;
mod endpoint;
mod events;
mod health;
mod operate;
mod orders;
mod problem;
mod query;
mod refusals;
mod replays;
mod routes;
mod view;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};

use crate::clock::Clock;
use crate::config;
use crate::orders::Orders;
use crate::quarantine::Releases;
use crate::replays::Replays;
use crate::store::Store;
use crate::telemetry::Metrics;
use crate::tokens::Tokens;
use access::Caller;
use endpoint::{Action, Matched};
use problem::Problem;

pub use destinations::{DestinationView, Destinations, PauseError};

/// The longest body of a request to the admin side; a replay that names every destination is far shorter.
pub const REQUEST_BODY_BYTES_MAX: usize = 64 * 1024;

/// The longest time in which such a body must have come.
pub const REQUEST_BODY_TIME_MAX: Duration = Duration::from_secs(10);

/// What the admin side works with.
pub struct Parts {
    /// The configuration in force.
    pub config: config::Live,
    /// Where events are kept.
    pub store: Arc<dyn Store>,
    /// The relay, as far as operators see and steer it.
    pub destinations: Arc<dyn Destinations>,
    /// Refused requests that are kept, and their release.
    pub releases: Releases,
    /// Replays of many events.
    pub replays: Replays,
    /// Orders of InPaSy.
    pub orders: Orders,
    /// Access tokens, and how they are authorized.
    pub tokens: Tokens,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What has been counted.
    pub metrics: Arc<Metrics>,
    /// Set when the process is about to end: readiness says so.
    pub stopping: Arc<AtomicBool>,
}

/// The service; clones share everything.
#[derive(Clone)]
pub struct Admin(Arc<Inner>);

struct Inner {
    parts: Parts,
    shown: health::Shown,
}

impl Admin {
    /// A service over these parts.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(Inner { parts, shown: health::Shown::default() }))
    }
}

impl<B> tower::Service<Request<B>> for Admin
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let inner = self.0.clone();
        async move { Ok(inner.answer(request).await.unwrap_or_else(Problem::into_response)) }.boxed()
    }
}

impl Inner {
    async fn answer<B>(&self, request: Request<B>) -> Result<Response<Full<Bytes>>, Problem>
    where
        B: http_body::Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        let matched = endpoint::find(&head.method, head.uri.path())?;
        let config = self.parts.config.load_full();
        let caller = access::check(&config.admin, &head, matched.endpoint.access)?;
        // A body is read only by those who may act, and only where one means something.
        let body = if matched.endpoint.takes_body() { read(body).await? } else { Bytes::new() };
        let context = Call { parts: &self.parts, config: &config, caller, query: head.uri.query().unwrap_or(""), body };
        self.act(&context, &matched).await
    }

    async fn act(&self, call: &Call<'_>, matched: &Matched) -> Result<Response<Full<Bytes>>, Problem> {
        let name = matched.parameter.as_str();
        match matched.endpoint.action {
            Action::Live => Ok(health::live(&self.parts)),
            Action::Ready => Ok(health::ready(&self.parts)),
            Action::Metrics => Ok(health::metrics(&self.parts, call.config, &self.shown)),
            Action::Describe => Ok(answer::openapi()),
            Action::Events => events::list(call).await,
            Action::Event => events::show(call, name).await,
            Action::EventBody => events::body(call, name).await,
            Action::Replay => operate::replay(call, name).await,
            Action::Cancel => operate::cancel(call, name).await,
            Action::BeginReplay => replays::begin(call).await,
            Action::Replays => replays::list(call),
            Action::ShowReplay => replays::show(call, name),
            Action::StopReplay => replays::stop(call, name).await,
            Action::Refusals => refusals::list(call).await,
            Action::Refusal => refusals::show(call, name).await,
            Action::Release => refusals::release(call).await,
            Action::Destinations => destinations::list(call),
            Action::Pause => destinations::pause(call, name).await,
            Action::Resume => destinations::resume(call, name).await,
            Action::Authorize => destinations::authorize(call, name),
            Action::Routes => routes::list(call).await,
            Action::PlaceOrder => orders::place(call, name).await,
            Action::Order => orders::show(call, name).await,
            Action::BelieveClock => Ok(operate::believe_clock(call)),
        }
    }
}

/// One request whose caller may do what it asks.
struct Call<'a> {
    parts: &'a Parts,
    config: &'a Arc<config::Config>,
    caller: Caller,
    query: &'a str,
    body: Bytes,
}

async fn read<B>(body: B) -> Result<Bytes, Problem>
where
    B: http_body::Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let limited = Box::pin(Limited::new(body, REQUEST_BODY_BYTES_MAX).collect());
    match tokio::time::timeout(REQUEST_BODY_TIME_MAX, limited).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(Problem::body_too_large(REQUEST_BODY_BYTES_MAX)),
        Ok(Err(_)) => Err(Problem::bad_request("body", "the body broke off")),
        Err(_) => Err(Problem::body_too_slow(REQUEST_BODY_TIME_MAX)),
    }
}
