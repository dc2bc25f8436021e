//! What a callback comes to: an event, or one more of the same.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Kept, Orders, Trouble};
use crate::accept::{Fetched, Unaccepted};
use crate::config::{Route, Segment};
use crate::connectors::inpasy::{Callback, CallbackError, Completion, Decision, Kind, Settings, Sources, State, Track, event_body};
use crate::model::Inbound;
use crate::store::{CommitError, Receipt};

/// A callback that is settled, durably.
#[derive(Debug)]
pub enum Completed {
    /// It is an event.
    Event(Receipt),
    /// It is an exact repeat, which is counted.
    Counted,
}

/// Why a callback can't be settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incomplete {
    /// Nothing of it is stored.
    Refused(&'static str),
    /// It may be stored or not.
    Unknown,
}

impl From<Trouble> for Incomplete {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Commit(CommitError::Refused(why)) => Self::Refused(why),
            Trouble::Read(_) => Self::Refused("the order can't be read just now"),
            Trouble::Commit(CommitError::Unknown | CommitError::Stale | CommitError::NotFound) => Self::Unknown,
        }
    }
}

impl From<Unaccepted> for Incomplete {
    fn from(unaccepted: Unaccepted) -> Self {
        match unaccepted {
            Unaccepted::Refused(why) => Self::Refused(why),
            Unaccepted::Unknown => Self::Unknown,
        }
    }
}

impl Orders {
    /// Settles a callback that the route's scheme has let in.
    ///
    /// # Errors
    /// Whether nothing is stored, or nobody knows.
    pub async fn complete(&self, route: Arc<Route>, settings: Arc<Settings>, inbound: Inbound) -> Result<Completed, Incomplete> {
        let orders = self.clone();
        // To its end: a sender that hangs up between the event's commit and the order's must not part them.
        let work = tokio::spawn(async move { orders.settle(&route, &settings, &inbound).await });
        work.await.unwrap_or(Err(Incomplete::Unknown))
    }

    async fn settle(&self, route: &Route, settings: &Settings, inbound: &Inbound) -> Result<Completed, Incomplete> {
        let read = read(route, settings, inbound);
        let (callback, completion) = match read {
            Ok((callback, Ok(completion))) => (callback, completion),
            // Nobody can say which order it is about: it is told, and kept whole.
            Ok((callback, Err(problem))) => return self.unmatched(route, inbound, Some(&callback), problem).await,
            Err(problem) => return self.unmatched(route, inbound, None, problem).await,
        };
        let inner = &*self.0;
        let _lock = inner.lock(&route.name, &completion.lid).await;
        let kept = inner.kept(&route.name, &completion.lid).await?;
        match Track::decide(kept.as_ref().map(|kept| &kept.track), &completion.finding) {
            Decision::Repeat(track) => {
                let placed_at = kept.map_or_else(|| inner.clock.now(), |kept| kept.placed_at);
                inner.keep(&route.name, &completion.lid, Some(&Kept { placed_at, track })).await.map_err(Trouble::from)?;
                Ok(Completed::Counted)
            }
            Decision::Event { kind, track, late } => {
                let state = track.as_ref().map(|track| track.state);
                let body = event_body(kind, &completion, late, state, &callback);
                let receipt = self.event(route, inbound, kind, &completion, &body).await?;
                if let (Some(track), Some(kept)) = (track, kept) {
                    let next = Kept { track, ..kept };
                    // The event is stored: a refusal would tell its sender that nothing of it is (I2). The repeat that
                    // comes of no answer finds the event by its key, and the order is kept then.
                    inner.keep(&route.name, &completion.lid, Some(&next)).await.map_err(|_error| Incomplete::Unknown)?;
                }
                Ok(Completed::Event(receipt))
            }
        }
    }

    async fn event(
        &self,
        route: &Route,
        inbound: &Inbound,
        kind: Kind,
        completion: &Completion,
        body: &Value,
    ) -> Result<Receipt, Unaccepted> {
        let key = format!("{}:{}", kind.event_type(), completion.key()).into_bytes();
        let fetched =
            Fetched { event_type: Some(kind.event_type().into()), base: inbound.base.clone(), body: body.to_string().into(), key };
        self.0.acceptor.accept_fetched(route, fetched).await
    }

    async fn unmatched(
        &self,
        route: &Route,
        inbound: &Inbound,
        callback: Option<&Callback>,
        problem: CallbackError,
    ) -> Result<Completed, Incomplete> {
        let kind = Kind::Unknown.event_type();
        let values: serde_json::Map<String, Value> =
            callback.map(|callback| callback.values().map(|(name, value)| (name.to_owned(), value.into())).collect()).unwrap_or_default();
        let state: Option<&str> = None;
        let body = json!({ "type": kind, "lid": state, "problem": problem.to_string(), "state": state, "callback": values });
        let key = [b"unmatched:", inbound.query().unwrap_or_default(), b":", &inbound.body[..]].concat();
        let fetched = Fetched { event_type: Some(kind.into()), base: inbound.base.clone(), body: body.to_string().into(), key };
        Ok(Completed::Event(self.0.acceptor.accept_fetched(route, fetched).await?))
    }
}

type Read = (Callback, Result<Completion, CallbackError>);

fn read(route: &Route, settings: &Settings, inbound: &Inbound) -> Result<Read, CallbackError> {
    let path = String::from_utf8_lossy(inbound.path()).into_owned();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let named = route.path.iter().flat_map(|pattern| &pattern.segments).zip(parts).filter_map(|(segment, value)| match segment {
        Segment::Any(name) => Some((&**name, value)),
        Segment::Literal(_) | Segment::Secret(_) => None,
    });
    let segments: Vec<(&str, &str)> = named.collect();
    let sources = Sources {
        path: &path,
        segments: &segments,
        query: &without_credentials(route, inbound.query().unwrap_or_default()),
        content_type: inbound.headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()),
        body: &inbound.body,
    };
    let callback = Callback::read(&sources, settings)?;
    let completion = callback.completion(settings);
    Ok((callback, completion))
}

/// The query without what let the sender in (I9).
fn without_credentials(route: &Route, query: &[u8]) -> Vec<u8> {
    let names = route.verifier.credential_parameters();
    let is_credential = |pair: &&[u8]| {
        let name: Vec<u8> = percent_encoding::percent_decode(pair.split(|byte| *byte == b'=').next().unwrap_or_default()).collect();
        names.iter().any(|secret| secret.as_bytes() == name)
    };
    query.split(|byte| *byte == b'&').filter(|pair| !is_credential(pair)).collect::<Vec<_>>().join(&b'&')
}

/// The word of a state, for whoever shows it.
impl Kept {
    /// Where it stands.
    pub fn state(&self) -> State {
        self.track.state
    }
}
