//! One fetch: the request to a place, and the key in its answer.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value as Json;
use url::Url;

use super::{FETCH_TIMEOUT, Fault, Inner};
use crate::config::{Auth, KeySource, key_source_name};
use crate::connectors::bearer;
use crate::connectors::oauth::Client;
use crate::egress::{self, Outbound, Reach, Reply};
use crate::model::{Name, Secret};
use crate::signature::WantedKey;
use crate::tokens::Who;

/// What is percent-encoded of an id in a url: all but what is unreserved.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Where a key is: a whole set stands at one place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Place {
    Url(Box<str>),
    Source { name: Box<str>, id: Box<str> },
}

impl Place {
    pub(super) fn of(wanted: &WantedKey) -> Self {
        match wanted {
            WantedKey::Url(url) | WantedKey::InSet { url, .. } => Self::Url(url.clone()),
            WantedKey::Named { source, id } => Self::Source { name: source.clone(), id: id.clone() },
        }
    }
}

/// As a log shows it: a host, or the operator's own word; a path or an id may be a stranger's.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => f.write_str(url.strip_prefix("https://").and_then(|rest| rest.split('/').next()).unwrap_or_default()),
            Self::Source { name, .. } => write!(f, "key_sources.{name}"),
        }
    }
}

impl Inner {
    /// The key's text, or why there is none.
    pub(super) async fn ask(&self, place: &Place) -> Result<Bytes, (Fault, String)> {
        let failed = |detail: &str| (Fault::Failed, detail.to_owned());
        let sent = |sent: Result<Reply, egress::Fault>| sent.map_err(|fault| (Fault::Failed, fault.to_string()));
        let (reply, pointer) = match place {
            Place::Url(url) => (sent(self.public.send(get(url)?).await)?, None),
            Place::Source { name, id } => {
                let config = self.config.load_full();
                let source = config.key_sources.get(&**name).ok_or_else(|| failed("it is no longer configured"))?;
                let request = request(source, id)?;
                let reply = match &source.auth {
                    Some(Auth::OAuth2(client)) => self.with_token(name, client, request).await?,
                    Some(Auth::Bearer(_) | Auth::Basic { .. } | Auth::Headers(_)) | None => sent(self.own.send(request).await)?,
                };
                (reply, source.pointer.clone())
            }
        };
        match reply.status {
            StatusCode::OK if reply.truncated => Err(failed("the answer is too long")),
            StatusCode::OK => match pointer {
                None => Ok(reply.body),
                Some(pointer) => at(&reply.body, &pointer).ok_or_else(|| failed("the answer has no key at `pointer`")),
            },
            StatusCode::NOT_FOUND | StatusCode::GONE => Err((Fault::Unknown, format!("the answer is {}", reply.status))),
            other => Err((Fault::Failed, format!("the answer is {other}"))),
        }
    }
}

impl Inner {
    /// Asks with an access token; where it is refused, once more with a fresh one.
    async fn with_token(&self, source: &str, client: &Arc<Client>, mut request: Outbound) -> Result<Reply, (Fault, String)> {
        let name = key_source_name(source);
        let mut reply = None;
        for _ in 0..2 {
            let access = self.access(name.clone(), client.clone()).await.map_err(|reason| (Fault::Failed, reason))?;
            let value = bearer(&access).map_err(|_error| (Fault::Failed, "the access token can't stand in a header".to_owned()))?;
            request.headers.insert(AUTHORIZATION, value);
            let got = self.own.send(request.clone()).await.map_err(|fault| (Fault::Failed, fault.to_string()))?;
            if got.status != StatusCode::UNAUTHORIZED {
                return Ok(got);
            }
            self.tokens.refused(Who { name: &name, client, by_client: true, refresh: None }, &access).await;
            reply = Some(got);
        }
        reply.ok_or_else(|| (Fault::Failed, "it was not asked".to_owned()))
    }

    /// An access token. The time for a fetch may end meanwhile; the token is had all the same, for the next one.
    async fn access(&self, name: Name, client: Arc<Client>) -> Result<Secret, String> {
        let tokens = self.tokens.clone();
        let asking = tokio::spawn(async move {
            let who = Who { name: &name, client: &client, by_client: true, refresh: None };
            tokens.access(who).await.map_err(|no_token| no_token.reason)
        });
        asking.await.unwrap_or_else(|_panic| Err("asking for an access token failed".to_owned()))
    }
}

fn get(url: &str) -> Result<Outbound, (Fault, String)> {
    let url = Url::parse(url).map_err(|error| (Fault::Failed, error.to_string()))?;
    Ok(Outbound {
        method: Method::GET,
        url,
        headers: HeaderMap::new(),
        body: Bytes::new(),
        timeout: FETCH_TIMEOUT,
        tls: None,
        reach: Reach::Anywhere,
    })
}

fn request(source: &KeySource, id: &str) -> Result<Outbound, (Fault, String)> {
    let mut request = get(&source.url.replace("{id}", &utf8_percent_encode(id, ENCODED).to_string()))?;
    request.headers.insert(ACCEPT, HeaderValue::from_static("application/json, */*;q=0.5"));
    // What can't stand in a header was refused when the configuration was read.
    for (name, value) in source.auth.as_ref().and_then(|auth| auth.headers().ok()).unwrap_or_default() {
        request.headers.insert(name, value);
    }
    if let Some(members) = &source.body {
        let text = |secret: &[u8]| if secret == b"{id}" { id.to_owned() } else { String::from_utf8_lossy(secret).into_owned() };
        let object: serde_json::Map<_, _> =
            members.iter().map(|(name, value)| (name.to_string(), Json::String(text(value.expose())))).collect();
        request.method = Method::POST;
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request.body = Json::Object(object).to_string().into();
    }
    Ok(request)
}

/// A text at a pointer is the key; an object there (a JSON Web Key) is one as it stands.
fn at(body: &[u8], pointer: &str) -> Option<Bytes> {
    let json: Json = serde_json::from_slice(body).ok()?;
    match json.pointer(pointer)? {
        Json::String(text) => Some(Bytes::copy_from_slice(text.as_bytes())),
        found @ Json::Object(_) => Some(found.to_string().into()),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) => None,
    }
}
