//! Access tokens: who has which, renewed early, by one refresher at a time.
//!
//! What a client's own credentials bring is kept in memory only: a restart asks anew. What a person has authorized is
//! kept sealed: before a refresh token is traded in that is noted, and its successor is durable before the access token
//! is used. It never hands out a token that the system has refused, and never asks again and again for one that it does
//! not get.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use url::Url;

use crate::clock::Clock;
use crate::connectors::oauth::{AuthorizeError, Client, Grant, Next, Pending, Session, TokenFailure};
use crate::connectors::{Reply, Request};
use crate::egress::{Outbound, Reach, Transport};
use crate::model::{Name, Secret};
use crate::signature::fingerprint;
use crate::store::SealedStates;

/// The longest time for one request for tokens.
const TIMEOUT: Duration = Duration::from_secs(15);

/// After a failure nobody asks again for so long, unless the server names another time.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// The longest time for which a server's word that it wants to be left alone counts.
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(3600);

/// Most clients whose tokens are held; they are configured, so this is only reached by reloads without end.
const HELD_MAX: usize = 10_000;

/// Why there is no access token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct NoToken {
    /// What is to be done about it.
    pub remedy: Remedy,
    /// One line for the operator, free of secrets.
    pub reason: String,
}

/// What helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Time; at least this much of it, where it is known.
    Wait(Option<Duration>),
    /// An operator who mends the settings.
    Settings,
    /// A person who authorizes again.
    Authorize,
}

/// Who needs a token.
#[derive(Clone, Copy)]
pub struct Who<'a> {
    /// The destination, or what stands for a route's polls.
    pub name: &'a Name,
    /// The client.
    pub client: &'a Client,
    /// Whether the client's own credentials are the grant; else a person's authorization is.
    pub by_client: bool,
    /// A refresh token of the settings to start from.
    pub refresh: Option<&'a Secret>,
}

/// Why an authorization did not come about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unauthorized {
    /// It can't be begun with these settings.
    #[error("{0}")]
    Settings(String),
    /// The browser that came back brings none.
    #[error(transparent)]
    Callback(#[from] AuthorizeError),
    /// The code brought no tokens, or they could not be kept.
    #[error(transparent)]
    Tokens(#[from] NoToken),
}

/// The tokens of all clients. Clones share them.
#[derive(Clone)]
pub struct Tokens(Arc<Inner>);

struct Inner {
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    sealed: Arc<SealedStates>,
    held: Mutex<BTreeMap<Name, Arc<Slot>>>,
    /// Authorizations that were begun here; a restart asks to begin again.
    begun: Mutex<BTreeMap<Name, Pending>>,
}

/// One client's tokens. Whoever holds the lock is its only refresher.
struct Slot {
    client: [u8; 16],
    held: tokio::sync::Mutex<Held>,
}

#[derive(Default)]
struct Held {
    session: Session,
    /// Whether the session is as it was kept.
    is_read: bool,
    /// Whether it has changed since it was kept last.
    is_unkept: bool,
    /// Why there was none, and until when (on the boot clock) nobody asks again.
    failed: Option<(Duration, NoToken)>,
}

impl Tokens {
    /// None yet.
    pub fn new(transport: Arc<dyn Transport>, clock: Arc<dyn Clock>, sealed: Arc<SealedStates>) -> Self {
        Self(Arc::new(Inner { transport, clock, sealed, held: Mutex::default(), begun: Mutex::default() }))
    }

    /// An access token.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn access(&self, who: Who<'_>) -> Result<Secret, NoToken> {
        if who.by_client {
            return self.usable(who).await;
        }
        // Whoever waits may be given up in between, and a refresh token that was traded in must not be lost for it.
        let (tokens, owned) = (self.clone(), Owned::new(who));
        on_its_own(async move { tokens.usable(owned.who()).await }).await
    }

    async fn usable(&self, who: Who<'_>) -> Result<Secret, NoToken> {
        let slot = self.slot(who);
        let mut held = slot.held.lock().await;
        self.read(&mut held, who).await?;
        let (access, grant) = match held.session.next(who.by_client, self.0.clock.now()) {
            Next::Use(access) => return Ok(access),
            Next::UseAndRenew(access, grant) => (Some(access), grant),
            Next::Renew(grant) => (None, grant),
            Next::Authorize(reason) => return Err(NoToken { remedy: Remedy::Authorize, reason }),
        };
        let renewed = match held.failed.clone().filter(|(until, _)| self.0.clock.boot() < *until) {
            Some((_, failure)) => Err(failure),
            None => self.renew(&mut held, who, &grant).await,
        };
        // The old one counts a while longer.
        renewed.or_else(|failure| access.ok_or(failure))
    }

    /// The system has refused this token: it is not handed out again.
    pub async fn refused(&self, who: Who<'_>, access: &Secret) {
        let slot = self.slot(who);
        let mut held = slot.held.lock().await;
        held.session = held.session.refused(access);
    }

    /// Begins an authorization: where to send the browser of the person who authorizes.
    ///
    /// # Errors
    /// Why there is no such address.
    pub fn authorize(&self, who: Who<'_>) -> Result<Url, Unauthorized> {
        let mut random = [0; 64];
        getrandom::fill(&mut random).map_err(|error| Unauthorized::Settings(format!("drawing random bytes: {error}")))?;
        let (url, pending) =
            who.client.authorize(&random, self.0.clock.now()).map_err(|reason| Unauthorized::Settings(reason.to_owned()))?;
        self.0.begun.lock().insert(who.name.clone(), pending);
        Ok(url)
    }

    /// Ends an authorization with the query that the browser brings back.
    ///
    /// # Errors
    /// Why there is none; [`AuthorizeError::Foreign`] also when it is another one's.
    pub async fn authorized(&self, who: Who<'_>, query: &[u8]) -> Result<(), Unauthorized> {
        let pending = self.0.begun.lock().get(who.name).cloned().ok_or(AuthorizeError::Foreign)?;
        let grant = match pending.complete(query, self.0.clock.now()) {
            Err(AuthorizeError::Foreign) => return Err(AuthorizeError::Foreign.into()),
            other => {
                // It counts once, however it ends.
                self.0.begun.lock().remove(who.name);
                other?
            }
        };
        // The browser may be closed in between.
        let (tokens, owned) = (self.clone(), Owned::new(who));
        Ok(on_its_own(async move { tokens.trade_in(owned.who(), &grant).await }).await?)
    }

    async fn trade_in(&self, who: Who<'_>, grant: &Grant) -> Result<(), NoToken> {
        let slot = self.slot(who);
        let mut held = slot.held.lock().await;
        let tokens = self.ask(who.client, grant).await.map_err(no_token)?;
        *held = Held { session: held.session.with_configured(who.refresh).obtained(tokens), is_read: true, is_unkept: true, failed: None };
        self.keep(&mut held, who).await
    }

    /// What a person has authorized, as it was kept; a change that could not be kept is kept now.
    async fn read(&self, held: &mut Held, who: Who<'_>) -> Result<(), NoToken> {
        if who.by_client {
            return Ok(());
        }
        if !held.is_read {
            let sealed = self.0.sealed.get(&state_name(who)).await.map_err(|error| settings(error.to_string()))?;
            let kept = sealed.secret.map(|bytes| Session::from_bytes(bytes.expose())).transpose();
            let kept = kept.map_err(|reason| settings(format!("what was authorized: {reason}; authorize again")))?.unwrap_or_default();
            held.session = kept.with_configured(who.refresh);
            held.is_read = true;
        }
        if held.is_unkept { self.keep(held, who).await } else { Ok(()) }
    }

    /// Makes the session durable.
    async fn keep(&self, held: &mut Held, who: Who<'_>) -> Result<(), NoToken> {
        if !who.by_client {
            held.is_unkept = true;
            let kept = self.0.sealed.put(&state_name(who), &held.session.to_bytes()).await;
            kept.map_err(|error| NoToken { remedy: Remedy::Wait(None), reason: error.to_string() })?;
        }
        held.is_unkept = false;
        Ok(())
    }

    fn slot(&self, who: Who<'_>) -> Arc<Slot> {
        let (name, client) = (who.name, identity(who));
        let mut held = self.0.held.lock();
        if let Some(slot) = held.get(name).filter(|slot| slot.client == client) {
            return slot.clone();
        }
        if held.len() >= HELD_MAX {
            held.clear();
        }
        let slot = Arc::new(Slot { client, held: tokio::sync::Mutex::default() });
        held.insert(name.clone(), slot.clone());
        slot
    }

    async fn renew(&self, held: &mut Held, who: Who<'_>, grant: &Grant) -> Result<Secret, NoToken> {
        // A refresh token may be used up by what follows: whoever finds this note after a crash knows why.
        held.session = held.session.begun(self.0.clock.now());
        self.keep(held, who).await?;
        let asked = self.ask(who.client, grant).await;
        match asked {
            Ok(tokens) => {
                let access = tokens.access.clone();
                held.session = held.session.obtained(tokens);
                held.failed = None;
                self.keep(held, who).await?;
                Ok(access)
            }
            Err(failure) => {
                held.session = held.session.failed(&failure);
                let mut no_token = no_token(failure);
                if let Next::Authorize(why) = held.session.next(who.by_client, self.0.clock.now()) {
                    // It knows of a renewal whose answer was lost, too.
                    no_token.reason = why;
                }
                let wait = match no_token.remedy {
                    Remedy::Wait(Some(wait)) => wait.min(AGAIN_AFTER_MAX),
                    Remedy::Wait(None) | Remedy::Settings | Remedy::Authorize => AGAIN_AFTER,
                };
                held.failed = Some((self.0.clock.boot().saturating_add(wait), no_token.clone()));
                self.keep(held, who).await?;
                Err(no_token)
            }
        }
    }

    async fn ask(&self, client: &Client, grant: &Grant) -> Result<crate::connectors::oauth::Tokens, TokenFailure> {
        let Request { method, url, headers, body } = client.request(grant).map_err(|reason| TokenFailure::Refused { reason })?;
        let request = Outbound { method, url, headers, body, timeout: TIMEOUT, tls: None, reach: Reach::Anywhere };
        let reply =
            self.0.transport.send(request).await.map_err(|fault| TokenFailure::Later {
                after: None,
                reason: format!("the authorization server does not answer: {fault}"),
            })?;
        let seen = Reply { status: reply.status, headers: &reply.headers, body: &reply.body, truncated: reply.truncated };
        client.tokens(grant, &seen, self.0.clock.now())
    }
}

/// Who needs a token, for work that outlives whoever asked for it.
struct Owned {
    name: Name,
    client: Client,
    by_client: bool,
    refresh: Option<Secret>,
}

impl Owned {
    fn new(Who { name, client, by_client, refresh }: Who<'_>) -> Self {
        Self { name: name.clone(), client: client.clone(), by_client, refresh: refresh.cloned() }
    }

    fn who(&self) -> Who<'_> {
        Who { name: &self.name, client: &self.client, by_client: self.by_client, refresh: self.refresh.as_ref() }
    }
}

/// Does it to its end, even when nobody waits any more.
async fn on_its_own<T: Send + 'static>(work: impl Future<Output = Result<T, NoToken>> + Send + 'static) -> Result<T, NoToken> {
    let ended = tokio::spawn(work).await;
    ended.unwrap_or_else(|error| Err(NoToken { remedy: Remedy::Wait(None), reason: format!("a renewal was given up: {error}") }))
}

/// Another client, or another secret of the same one, has tokens of its own. What a person has authorized is the
/// client's, whatever its secret is by now, unless another refresh token was put into the settings.
fn identity(Who { client, by_client, refresh, .. }: Who<'_>) -> [u8; 16] {
    let scopes = client.scopes.join(" ");
    let secret = if by_client { client.secret.expose() } else { refresh.map_or(&[][..], Secret::expose) };
    fingerprint(&[client.token_url.as_str().as_bytes(), client.id.as_bytes(), secret, scopes.as_bytes()])
}

/// The name under which a person's authorization is kept.
fn state_name(Who { name, client, .. }: Who<'_>) -> String {
    let client = fingerprint(&[client.token_url.as_str().as_bytes(), client.id.as_bytes()]);
    format!("oauth/{name}/{}", hex::encode(client))
}

fn settings(reason: String) -> NoToken {
    NoToken { remedy: Remedy::Settings, reason }
}

fn no_token(failure: TokenFailure) -> NoToken {
    match failure {
        TokenFailure::Later { after, reason } => NoToken { remedy: Remedy::Wait(after), reason },
        TokenFailure::Refused { reason } => NoToken { remedy: Remedy::Settings, reason },
        TokenFailure::Renew { reason } => NoToken { remedy: Remedy::Authorize, reason },
    }
}

#[cfg(test)]
mod tests;
