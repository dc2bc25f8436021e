//! The life of one request, from its head to its answer.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::header::TRANSFER_ENCODING;
use http::request::Parts;
use http::{Method, Request, Response, Version};
use http_body::Body;
use http_body_util::Full;

use super::Inner;
use super::body::{Bounds, collect};
use super::origin::{Origin, origin, rate_key};
use super::refusal::Refused;
use super::response::{self, Unanswered};
use super::waiting;
use crate::accept::Unaccepted;
use crate::config::{Config, Route};
use crate::connectors::inpasy;
use crate::connectors::oauth::AuthorizeError;
use crate::model::{Inbound, Name, Timestamp};
use crate::orders::{Completed, Incomplete};
use crate::server::{Connection, HEADERS_MAX};
use crate::signature::{Handshake, Judged, Verified};
use crate::store::Receipt;
use crate::telemetry::{RefusalReason, UNKNOWN_ROUTE};
use crate::tokens::{Unauthorized, Who};

/// How a request that has a route ends well.
enum Done {
    /// It is durable.
    Accepted(Receipt),
    /// It said once more what was said before, which is counted.
    Counted,
    /// It was a question about the address itself.
    Handshake(Handshake),
    /// It was a HEAD by which the sender tries the address.
    Tried,
}

/// How a request that has a route ends without a receipt.
enum Failure {
    /// It gets an answer that says so.
    Refused(Refused),
    /// Its sender must not be told anything.
    Unknown,
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// A request, and the configuration by which it is judged to its end. It stays where it is while it is served: handed on
/// from future to future it would be copied each time, and each of them would have room for it.
struct Asked<B> {
    config: Arc<Config>,
    parts: Parts,
    body: B,
    connection: Connection,
    received_at: Timestamp,
}

/// What a refusal needs of its request once the head has been used up.
struct Refusing<'a> {
    route: Option<&'a Route>,
    peer: IpAddr,
    method: Method,
    version: Version,
    /// Whether bytes of this request may still arrive.
    unread: bool,
}

impl Inner {
    /// Answers a request, or errs where nothing may be said.
    pub(super) fn handle<B>(self: Arc<Self>, request: Request<B>) -> impl Future<Output = Result<Response<Full<Bytes>>, Unanswered>> + Send
    where
        B: Body<Data = Bytes> + Send + Unpin,
    {
        let received_at = self.clock.now();
        let (parts, body) = request.into_parts();
        // Without the server's note of the connection nobody is trusted and everybody counts as one address.
        let nobody = Connection { peer: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0), tls: false };
        let connection = parts.extensions.get::<Connection>().copied().unwrap_or(nobody);
        let mut asked = Asked { config: self.config.load_full(), parts, body, connection, received_at };
        async move { self.answer(&mut asked).await }
    }

    async fn answer<B>(&self, asked: &mut Asked<B>) -> Result<Response<Full<Bytes>>, Unanswered>
    where
        B: Body<Data = Bytes> + Send + Unpin,
    {
        let mut refusing = Refusing {
            route: None,
            peer: asked.connection.peer.ip(),
            method: asked.parts.method.clone(),
            version: asked.parts.version,
            unread: !asked.body.is_end_stream(),
        };
        if let Some(refused) = unfit(&asked.parts) {
            return Ok(self.refuse(&refusing, &refused));
        }
        let Some(target) = target(&asked.parts) else {
            return Ok(self.refuse(&refusing, &Refused::Malformed("the request target is not a path")));
        };
        let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
        let Some(route) = asked.config.route_for(path).cloned() else {
            if let Some(names) = std::str::from_utf8(path).ok().and_then(|path| asked.config.redirects.get(path)) {
                let query = target.get(path.len() + 1..).unwrap_or_default();
                return Ok(Box::pin(self.authorized(&refusing, &asked.config, names, query)).await);
            }
            return Ok(self.without_route(&refusing, path));
        };
        refusing.route = Some(&route);
        match self.receive(&route, asked, target, &mut refusing.unread).await {
            Ok(Done::Accepted(receipt)) => {
                let earned = match &route.wait {
                    Some(wait) => Box::pin(waiting::answer(&*self.store, &self.settled, wait, receipt.event())).await,
                    None => None,
                };
                Ok(response::accepted(receipt, earned))
            }
            Ok(Done::Counted) => Ok(response::counted(route.respond.as_ref())),
            Ok(Done::Handshake(handshake)) => {
                tracing::info!(route.name = %route.name, peer = %refusing.peer, "answered a handshake");
                Ok(response::handshake(handshake))
            }
            Ok(Done::Tried) => Ok(response::tried()),
            Err(Failure::Refused(refused)) => Ok(self.refuse(&refusing, &refused)),
            Err(Failure::Unknown) => {
                self.metrics.refused(&route.name, RefusalReason::Store).inc();
                tracing::warn!(route.name = %route.name, "closing a connection without an answer: the outcome of its commit can't be known");
                Err(Unanswered)
            }
        }
    }

    /// From the head of a request that has a route to its receipt; the cheap checks first.
    async fn receive<B>(&self, route: &Arc<Route>, asked: &mut Asked<B>, target: Bytes, unread: &mut bool) -> Result<Done, Failure>
    where
        B: Body<Data = Bytes> + Send + Unpin,
    {
        let Asked { config, parts, body, connection, received_at } = asked;
        let takes = route.methods.contains(&parts.method);
        let tries = !takes && parts.method == Method::HEAD && route.verifier.head_ok();
        if !takes && !tries && !route.verifier.may_ask(&parts.method) {
            return Err(Refused::Method(route.methods.clone()).into());
        }
        let server = &config.server;
        let Origin { peer, base } = origin(parts, *connection, server)?;
        self.standing.check_address(server.limits.per_address, peer).map_err(Refused::Rate)?;
        if tries {
            return Ok(Done::Tried);
        }
        let bounds =
            Bounds { bytes_max: route.body_limit, read_timeout: server.limits.read_timeout, in_flight_max: server.limits.in_flight };
        let announced = body.size_hint().lower();
        if announced > u64::try_from(bounds.bytes_max).unwrap_or(u64::MAX) {
            return Err(Refused::BodyTooLarge.into());
        }
        if self.stopping.load(Ordering::Acquire) {
            return Err(Refused::Stopping.into());
        }
        if !self.budget.has_room(announced, bounds.in_flight_max) {
            return Err(Refused::Overload.into());
        }
        // Held until the commit's outcome: until then the bytes are in memory.
        let mut held = self.budget.hold(rate_key(peer));
        let body = collect(body, bounds, &mut held).await?;
        *unread = false;
        let (method, headers) = (parts.method.clone(), std::mem::take(&mut parts.headers));
        let inbound = Inbound { method, target, base, headers, body, peer, received_at: *received_at };
        // Fetched keys are waited for here, before anything of the way in is held but the request's own bytes.
        for wanted in route.verifier.wanted_keys(&inbound) {
            self.keys.fetch(&wanted).await;
        }
        match self.judge(route, inbound, takes)? {
            Judged::Handshake(handshake) => Ok(Done::Handshake(handshake)),
            Judged::Event(_) if !takes => Err(Refused::Method(route.methods.clone()).into()),
            Judged::Event(verified) => {
                self.standing.check_route(route).map_err(Refused::Rate)?;
                match &route.inpasy {
                    Some(settings) => Box::pin(self.complete(route, settings, *verified)).await,
                    None => self.committed(route, self.acceptor.accept(route, *verified).await).map(Done::Accepted),
                }
            }
        }
    }

    fn judge(&self, route: &Route, inbound: Inbound, takes: bool) -> Result<Judged, Refused> {
        let (verifier, now) = (&route.verifier, self.clock.now());
        verifier.judge_or_return(inbound, now, &*self.keys).map_err(|unverified| {
            let why = unverified.refusal;
            if takes {
                self.quarantine.keep(route, *unverified, now);
            }
            Refused::Unauthenticated(why, verifier.on_invalid())
        })
    }

    fn committed(&self, route: &Route, receipt: Result<Receipt, Unaccepted>) -> Result<Receipt, Failure> {
        let receipt = receipt.map_err(|unaccepted| match unaccepted {
            Unaccepted::Refused(why) => Failure::Refused(Refused::Store(why)),
            Unaccepted::Unknown => Failure::Unknown,
        })?;
        let standing = self.standing.route(&route.name);
        if receipt.is_repeat() {
            standing.repeated.inc()
        } else {
            standing.accepted.inc()
        };
        Ok(receipt)
    }

    /// A callback about an order: it is decided what it comes to, and that is made durable.
    async fn complete(&self, route: &Arc<Route>, settings: &Arc<inpasy::Settings>, verified: Verified) -> Result<Done, Failure> {
        let (inbound, _facts) = verified.into_parts();
        let completed = self.orders.complete(route.clone(), settings.clone(), inbound).await.map_err(|incomplete| match incomplete {
            Incomplete::Refused(why) => Failure::Refused(Refused::Store(why)),
            Incomplete::Unknown => Failure::Unknown,
        })?;
        let standing = self.standing.route(&route.name);
        match completed {
            Completed::Event(receipt) => {
                if receipt.is_repeat() {
                    standing.repeated.inc()
                } else {
                    standing.accepted.inc()
                };
                Ok(Done::Accepted(receipt))
            }
            Completed::Counted => {
                standing.repeated.inc();
                Ok(Done::Counted)
            }
        }
    }

    /// A browser that comes back from an authorization. What it brings is tied to the one that was begun here.
    async fn authorized(&self, refusing: &Refusing<'_>, config: &Config, names: &[Name], query: &[u8]) -> Response<Full<Bytes>> {
        if refusing.method != Method::GET {
            return self.refuse(refusing, &Refused::Method(vec![Method::GET]));
        }
        let mut failed = None;
        for name in names {
            let Some((client, by_client, refresh)) = config.destinations.get(name).and_then(|destination| destination.client()) else {
                continue;
            };
            match self.tokens.authorized(Who { name, client, by_client, refresh }, query).await {
                Ok(()) => {
                    tracing::info!(destination.name = %name, "{name} is authorized");
                    return response::authorized(name);
                }
                // It may be another one's of the same path.
                Err(Unauthorized::Callback(AuthorizeError::Foreign)) => {}
                Err(error) => {
                    tracing::warn!(destination.name = %name, %error, "{name} is not authorized");
                    failed = Some(error);
                }
            }
        }
        response::not_authorized(&failed.unwrap_or(Unauthorized::Callback(AuthorizeError::Foreign)).to_string())
    }

    /// Health for load balancers where no route has that path; else 404.
    fn without_route(&self, refusing: &Refusing<'_>, path: &[u8]) -> Response<Full<Bytes>> {
        let well = match path {
            b"/livez" => true,
            b"/readyz" => !self.stopping.load(Ordering::Acquire) && self.store.stats().unwritable.is_none(),
            _ => return self.refuse(refusing, &Refused::UnknownPath),
        };
        if !matches!(refusing.method, Method::GET | Method::HEAD) {
            return self.refuse(refusing, &Refused::Method(vec![Method::GET, Method::HEAD]));
        }
        response::health(well)
    }

    /// Counts a refusal, logs it when that is not too often, and makes its answer. What could stand in a log
    /// line is the operator's word or the peer's address: the path may hold a secret, so it never does (I9).
    fn refuse(&self, refusing: &Refusing<'_>, refused: &Refused) -> Response<Full<Bytes>> {
        let unknown = Name::from(UNKNOWN_ROUTE);
        let name = refusing.route.map_or(&unknown, |route| &route.name);
        let reason = refused.reason();
        self.metrics.refused(name, reason).inc();
        if self.standing.may_log() {
            let (peer, reason, detail) = (refusing.peer, reason.word(), refused.detail());
            match refused {
                Refused::UnknownPath | Refused::Method(_) | Refused::Malformed(_) | Refused::TooManyHeaders => {
                    tracing::debug!(route.name = %name, %peer, reason, detail, "refused a request: {reason}");
                }
                Refused::Store(_) => tracing::warn!(route.name = %name, %peer, reason, detail, "refused a request: {reason}"),
                Refused::Rate(_)
                | Refused::BodyTooLarge
                | Refused::BodyTooSlow
                | Refused::BodyBroken
                | Refused::Overload
                | Refused::Stopping
                | Refused::Unauthenticated(..) => tracing::info!(route.name = %name, %peer, reason, detail, "refused a request: {reason}"),
            }
        }
        let setting = refusing.route.map(|route| format!("routes.{}.limits.body", route.name)).unwrap_or_default();
        let mut response = response::refused(refused, &setting);
        let at_odds = matches!(refused, Refused::Malformed(_) | Refused::Stopping);
        if (refusing.unread || at_odds) && refusing.version <= Version::HTTP_11 {
            // What is left of this request must never be read as the next one.
            response::close(&mut response);
        }
        response
    }
}

/// What hyper lets through and no destination could be given: over HTTP/2 it caps the bytes of headers only, and
/// a body in another transfer coding than `chunked` would be stored in a form that nobody is told of.
fn unfit(parts: &Parts) -> Option<Refused> {
    if parts.headers.len() > HEADERS_MAX {
        return Some(Refused::TooManyHeaders);
    }
    let mut codings = parts.headers.get_all(TRANSFER_ENCODING).into_iter();
    let coded = codings.next().is_some_and(|coding| !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
    (coded || codings.next().is_some()).then_some(Refused::Malformed("a transfer coding that is not just `chunked`"))
}

/// Path and query exactly as sent. `None` for what has no path, such as `OPTIONS *` and `CONNECT`.
fn target(parts: &Parts) -> Option<Bytes> {
    let target = parts.uri.path_and_query()?.as_str();
    target.starts_with('/').then(|| Bytes::copy_from_slice(target.as_bytes()))
}
