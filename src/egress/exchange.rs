//! One request and its answer, whoever makes it: what every call has in common.

use std::error::Error;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_LENGTH};
use http::{HeaderMap, HeaderValue, Method, Response};
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::fault::{self, Stage, fault};
use super::{Fault, Reply, guard};
use crate::model::FaultKind;

/// The longest a connection may take to stand, its name's resolution and TLS included; a destination's shorter `timeout` wins.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Idle connections kept per host. Of more attempts that end together some close theirs, and the next ones connect anew,
/// which costs more than the request; but each takes a descriptor, here and there, until it has been idle for long.
pub(super) const IDLE_PER_HOST_MAX: usize = 512;

/// How long an idle connection is kept: shorter than the 60 s after which common servers close theirs, so
/// that requests seldom meet a connection that is just being closed.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(45);

/// Most header fields of an answer.
pub(super) const REPLY_HEADERS_MAX: usize = 256;

/// A request as it is put on a connection.
pub(super) struct Call {
    method: Method,
    /// Without user and password; not the literal address of cloud metadata.
    url: Url,
    headers: HeaderMap,
    body: Bytes,
}

impl Call {
    /// A request to where it may go.
    pub(super) fn new(method: Method, mut url: Url, mut headers: HeaderMap, body: Bytes) -> Result<Self, Fault> {
        guard::check_literal(&url).map_err(|forbidden| fault(FaultKind::ForbiddenAddress, forbidden.to_string()))?;
        if let Some(credentials) = take_userinfo(&mut url) {
            headers.entry(AUTHORIZATION).or_insert(credentials);
        }
        // A server may insist on a length even where there is nothing (411), and for no body none is made.
        if body.is_empty() && ![Method::GET, Method::HEAD].contains(&method) {
            headers.entry(CONTENT_LENGTH).or_insert(HeaderValue::from_static("0"));
        }
        Ok(Self { method, url, headers, body })
    }

    pub(super) fn into_parts(self) -> (Method, Url, HeaderMap, Bytes) {
        (self.method, self.url, self.headers, self.body)
    }
}

/// Waits for an answer and reads its body up to the cap, all of it within `limit`.
pub(super) async fn exchange<B>(
    answer: impl Future<Output = Result<Response<B>, Fault>>,
    limit: Duration,
    cap: usize,
) -> Result<Reply, Fault>
where
    B: Body<Data = Bytes, Error: Error + 'static> + Unpin,
{
    let late = |_elapsed| fault(FaultKind::Timeout, format!("no complete answer within {limit:?}"));
    let deadline = Instant::now() + limit;
    let mut response = timeout_at(deadline, answer).await.map_err(late).flatten()?;
    let mut body = BytesMut::new();
    let read = timeout_at(deadline, read(response.body_mut(), &mut body, cap)).await.map_err(late).flatten();
    let truncated = match read {
        Ok(truncated) => truncated,
        // The status has said it all: to call again because the rest of a yes was lost would only deliver twice.
        Err(_) if response.status().is_success() => true,
        Err(fault) => return Err(fault),
    };
    Ok(Reply { status: response.status(), headers: std::mem::take(response.headers_mut()), body: body.freeze(), truncated })
}

/// Reads on into `kept` up to the cap; whether there was more.
async fn read<B>(body: &mut B, kept: &mut BytesMut, cap: usize) -> Result<bool, Fault>
where
    B: Body<Data = Bytes, Error: Error + 'static> + Unpin,
{
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| fault::of(&error, Stage::Exchanging))?;
        let Ok(chunk) = frame.into_data() else { continue };
        let room = cap - kept.len();
        kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            return Ok(true);
        }
    }
    Ok(false)
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
}
