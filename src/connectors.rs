//! The systems that Kurier speaks to natively: what is said to them, what they answer, and what that means.
//!
//! Everything here is a pure function: from settings and an event (or records) to a [`Request`], from a [`Reply`] to
//! an [`Outcome`]. Nothing sends, waits, stores or asks for the time; whoever does tells it. Credentials are put into
//! a request when it is made for one attempt, and no reason or error repeats them.
//!
//! Each connector has its settings (a checked constructor, and its keys for whoever reads a file), its
//! wire functions, and one table of outcomes.

mod amount;
pub mod bankintegration;
pub mod dvelop;
pub mod inpasy;
mod json;
mod keys;
pub mod oauth;
pub mod payjoe;
pub mod smartbusiness;
pub mod sns;
mod text;

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use url::Url;

pub use keys::{Holds, Invalid, Key};
pub use text::scrub;

use crate::model::Secret;

/// A request to make. It may hold credentials: it is made for one attempt and never stored. The caller adds the
/// destination's time-out, TLS settings, and its `auth` where the connector has no credentials of its own.
#[derive(Clone)]
pub struct Request {
    /// Method.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// Headers; those that hold credentials are marked sensitive.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Request {
    /// A GET that expects JSON.
    fn get(url: Url) -> Self {
        Self { method: Method::GET, url, headers: HeaderMap::from_iter([(ACCEPT, JSON)]), body: Bytes::new() }
    }

    /// A request with a JSON body that expects JSON.
    fn json(method: Method, url: Url, body: impl Into<Bytes>) -> Self {
        Self { method, url, headers: HeaderMap::from_iter([(ACCEPT, JSON), (CONTENT_TYPE, JSON)]), body: body.into() }
    }
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What came back.
#[derive(Debug, Clone, Copy)]
pub struct Reply<'a> {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The body, or its start.
    pub body: &'a [u8],
    /// Whether the body went on beyond what was read.
    pub truncated: bool,
}

/// What a reply comes to, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What to do.
    pub verdict: Verdict,
    /// One line for the operator, free of credentials; empty where there is nothing to say.
    pub reason: String,
}

/// What a reply comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The system has taken it.
    Delivered,
    /// To be tried again; after this long where the connector knows. Without it the caller looks at `Retry-After`, then
    /// at its own backoff.
    Retry {
        /// How long to wait at least.
        after: Option<Duration>,
    },
    /// To be made again at once, once, with freshly made credentials.
    Reauthorize,
    /// Never to be tried again.
    Rejected,
    /// Nothing more is sent to this system until the operator has mended something; this stays pending.
    Pause,
}

impl Outcome {
    fn new(verdict: Verdict, reason: impl Into<String>) -> Self {
        Self { verdict, reason: text::line(&reason.into()) }
    }

    fn delivered() -> Self {
        Self { verdict: Verdict::Delivered, reason: String::new() }
    }

    fn retry(reason: impl Into<String>) -> Self {
        Self::new(Verdict::Retry { after: None }, reason)
    }

    fn rejected(reason: impl Into<String>) -> Self {
        Self::new(Verdict::Rejected, reason)
    }

    fn pause(reason: impl Into<String>) -> Self {
        Self::new(Verdict::Pause, reason)
    }
}

/// The url with a path that ends with a slash, so that relative paths are joined below it.
fn folder(mut url: Url) -> Url {
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    url
}

/// The value of an `Authorization: Bearer` header.
///
/// # Errors
/// When the token holds bytes that no header can carry.
pub fn bearer(token: &Secret) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
    let mut value = HeaderValue::from_bytes(&[b"Bearer ", token.expose()].concat())?;
    value.set_sensitive(true);
    Ok(value)
}
