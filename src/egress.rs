//! Outbound HTTP for everyone: one request, one capped reply, or the kind of fault.
//!
//! It never follows a redirect, never uses a proxy from the environment, never keeps a cookie, never
//! decompresses, and never calls a cloud metadata address. What a destination does to us is a [`Fault`], not
//! an error. Who uses it knows nothing of the HTTP libraries beneath.

mod direct;
mod exchange;
mod fault;
mod guard;
mod http_client;
mod public;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use ipnet::IpNet;
use url::Url;

use crate::model::{ClientTls, FaultKind};

pub(crate) use fault::cut;
pub use http_client::{ADMIN_ANSWER_BYTES_MAX, FETCHED_BODY_BYTES_MAX, HttpTransport, REPLY_BODY_BYTES_MAX, TransportError, admin_call};
pub use public::{PUBLIC_REPLY_BYTES_MAX, PublicTransport};

/// One request to make.
#[derive(Clone)]
pub struct Outbound {
    /// Method.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// All headers, credentials included.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The longest time from here to the complete reply.
    pub timeout: Duration,
    /// The destination's own trust and identity, where the url is `https`.
    pub tls: Option<Arc<ClientTls>>,
    /// Where the url may lead.
    pub reach: Reach,
}

/// Where a url may lead.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Reach {
    /// Anywhere but cloud metadata addresses: it is the operator's own word.
    #[default]
    Anywhere,
    /// To public addresses and these ranges, as [`PublicTransport`] does it: it comes out of a payload.
    Public(Arc<[IpNet]>),
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The start of the body, at most the transport's cap.
    pub body: Bytes,
    /// Whether the body went on beyond the cap.
    pub truncated: bool,
}

/// Why nothing came back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", kind.word())]
pub struct Fault {
    /// What kind.
    pub kind: FaultKind,
    /// One line for the operator: no url, no credentials.
    pub detail: String,
}

/// Makes requests. The seam at which simulations put scripted destinations.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Makes the request: redirects are not followed, the reply's body is read up to the cap, then the
    /// connection is dropped.
    async fn send(&self, request: Outbound) -> Result<Reply, Fault>;
}
