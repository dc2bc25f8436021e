//! A server for any tower service: HTTP/1.1 and HTTP/2, with or without TLS, on a listener that is handed in.
//!
//! It bounds connections, request heads and every kind of waiting, and it stops in order: accept nothing new,
//! finish what was begun, then close by force. It never looks into a request and never answers one by itself,
//! except where hyper says 400, 414 or 431 to a head that can't be read.
//!
//! A service that returns an error makes the connection close without an answer: that is how an outcome that
//! can't be known is told (I2). A service that panics does the same.

mod activity;
mod connection;
mod drive;
mod limits;
mod listen;
mod stream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Buf;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;

pub use connection::serve_stream;
pub use limits::{HEAD_BYTES_MIN, HEADERS_MAX, IDLE_TIMEOUT, WRITE_TIMEOUT};
pub use listen::{Stopped, serve};

/// The error type that tower and hyper agree on.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a server keeps to. A reload swaps the pointer; connections that are open keep what they began with.
#[derive(Clone)]
pub struct ServeOptions {
    /// Most connections at a time. Further ones wait unaccepted in the kernel's backlog.
    pub connections_max: usize,
    /// Longest request head in bytes, at least [`HEAD_BYTES_MIN`]; a longer one gets 431.
    pub head_bytes_max: usize,
    /// The longest time to the first byte of a connection, through the TLS handshake, and from a head's first
    /// byte to its end. Whoever takes longer is disconnected.
    pub head_timeout: Duration,
    /// How long a connection may stay open between two requests.
    pub idle_timeout: Duration,
    /// How long a client may leave an answer unread.
    pub write_timeout: Duration,
    /// How long requests that were begun may go on after the stop.
    pub grace: Duration,
    /// Certificate and key, when TLS ends here. The application protocols offered are those it lists.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            head_bytes_max: 64 * 1024,
            head_timeout: Duration::from_secs(10),
            idle_timeout: IDLE_TIMEOUT,
            write_timeout: WRITE_TIMEOUT,
            grace: Duration::from_secs(25),
            tls: None,
        }
    }
}

/// Options that can change while the server runs.
pub type LiveOptions = Arc<ArcSwap<ServeOptions>>;

/// The connection a request came by; an extension of every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// The address at the other end.
    pub peer: SocketAddr,
    /// Whether TLS ends here.
    pub tls: bool,
}

/// A tower service that this room can serve. It keeps no request's body beyond its answer: a connection rests, and what of a body
/// comes after that would be read as a request.
pub trait HttpService:
    tower::Service<Request<Incoming>, Response = Response<Self::Body>, Error: Into<BoxError>, Future: Send + 'static>
    + Clone
    + Send
    + Sync
    + 'static
{
    /// The body of its answers.
    type Body: Body<Data: Buf + Send, Error: Into<BoxError>> + Send + Unpin + 'static;
}

impl<S, B> HttpService for S
where
    S: tower::Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Body + Send + Unpin + 'static,
    B::Data: Buf + Send,
    B::Error: Into<BoxError>,
{
    type Body = B;
}
