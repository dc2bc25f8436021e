//! Stand-in for the transport, which is built in the egress room: enough of it for the command line.

use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use url::Url;

use super::{Fault, Outbound, Reply, Transport};
use crate::model::{FaultKind, Secret};

/// The longest reply that is read: an event's body is at most a quarter of a store segment, a page of 500
/// events is smaller still.
pub const ADMIN_ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Calls the admin API: status and body of whatever it answers.
///
/// # Errors
/// Why nothing came back.
pub async fn admin_call(
    method: Method,
    url: Url,
    token: Option<&Secret>,
    body: Option<Bytes>,
    timeout: Duration,
) -> Result<(StatusCode, Bytes), Fault> {
    let mut headers = HeaderMap::new();
    if let Some(token) = token {
        let mut value = HeaderValue::from_bytes(&[b"Bearer ", token.expose()].concat())
            .map_err(|_error| unsendable("the token holds characters that no header can carry"))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    if body.is_some() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let body = body.unwrap_or_default();
    let reply = call(Outbound { method, url, headers, body, timeout, tls: None }).await?;
    if reply.truncated {
        return Err(Fault { kind: FaultKind::Protocol, detail: format!("the reply is longer than {ADMIN_ANSWER_BYTES_MAX} bytes") });
    }
    Ok((reply.status, reply.body))
}

/// Makes requests.
pub struct HttpTransport(());

impl HttpTransport {
    /// A transport.
    ///
    /// # Errors
    /// When no client can be built at all.
    pub fn new() -> Result<Self, Fault> {
        Ok(Self(()))
    }
}

#[async_trait]
impl Transport for HttpTransport {
    async fn send(&self, request: Outbound) -> Result<Reply, Fault> {
        call(request).await
    }
}

async fn call(request: Outbound) -> Result<Reply, Fault> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(request.timeout)
        .build()
        .map_err(|error| fault(error, FaultKind::Unsendable))?;
    let sent = client.request(request.method, request.url).headers(request.headers).body(request.body).send().await;
    let mut response = sent.map_err(|error| fault(error, FaultKind::Protocol))?;
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = BytesMut::new();
    let mut truncated = false;
    while let Some(chunk) = response.chunk().await.map_err(|error| fault(error, FaultKind::Reset))? {
        if body.len().saturating_add(chunk.len()) > ADMIN_ANSWER_BYTES_MAX {
            truncated = true;
            break;
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Reply { status, headers, body: body.freeze(), truncated })
}

fn unsendable(detail: &str) -> Fault {
    Fault { kind: FaultKind::Unsendable, detail: detail.to_owned() }
}

fn fault(error: reqwest::Error, otherwise: FaultKind) -> Fault {
    let kind = if error.is_timeout() {
        FaultKind::Timeout
    } else if error.is_connect() {
        FaultKind::Connect
    } else {
        otherwise
    };
    // The url may carry credentials; the innermost cause says what happened.
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    Fault { kind, detail: cause.to_string() }
}
