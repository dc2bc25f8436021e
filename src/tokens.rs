//! Access tokens: who has which, renewed early, by one refresher at a time.
//!
//! What a client's own credentials bring is kept in memory only: a restart asks anew. It never hands out a token that the
//! system has refused, and never asks again and again for one that it does not get.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::connectors::oauth::{Client, Grant, Next, Session, TokenFailure};
use crate::connectors::{Reply, Request};
use crate::egress::{Outbound, Reach, Transport};
use crate::model::{Name, Secret};
use crate::signature::fingerprint;

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

/// The tokens of all clients. Clones share them.
#[derive(Clone)]
pub struct Tokens(Arc<Inner>);

struct Inner {
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    held: Mutex<BTreeMap<Name, Arc<Slot>>>,
}

/// One client's tokens. Whoever holds the lock is its only refresher.
struct Slot {
    client: [u8; 16],
    held: tokio::sync::Mutex<Held>,
}

#[derive(Default)]
struct Held {
    session: Session,
    /// Why there was none, and until when (on the boot clock) nobody asks again.
    failed: Option<(Duration, NoToken)>,
}

impl Tokens {
    /// None yet.
    pub fn new(transport: Arc<dyn Transport>, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner { transport, clock, held: Mutex::default() }))
    }

    /// An access token of this client, for whoever is called so.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn access(&self, name: &Name, client: &Client) -> Result<Secret, NoToken> {
        let slot = self.slot(name, client);
        let mut held = slot.held.lock().await;
        let (access, grant) = match held.session.next(true, self.0.clock.now()) {
            Next::Use(access) => return Ok(access),
            Next::UseAndRenew(access, grant) => (Some(access), grant),
            Next::Renew(grant) => (None, grant),
            Next::Authorize(reason) => return Err(NoToken { remedy: Remedy::Authorize, reason }),
        };
        let renewed = match held.failed.clone().filter(|(until, _)| self.0.clock.boot() < *until) {
            Some((_, failure)) => Err(failure),
            None => self.renew(&mut held, client, &grant).await,
        };
        // The old one counts a while longer.
        renewed.or_else(|failure| access.ok_or(failure))
    }

    /// The system has refused this token: it is not handed out again.
    pub async fn refused(&self, name: &Name, client: &Client, access: &Secret) {
        let slot = self.slot(name, client);
        let mut held = slot.held.lock().await;
        held.session = held.session.refused(access);
    }

    fn slot(&self, name: &Name, client: &Client) -> Arc<Slot> {
        let client = identity(client);
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

    async fn renew(&self, held: &mut Held, client: &Client, grant: &Grant) -> Result<Secret, NoToken> {
        let asked = self.ask(client, grant).await;
        match asked {
            Ok(tokens) => {
                let access = tokens.access.clone();
                *held = Held { session: held.session.obtained(tokens), failed: None };
                Ok(access)
            }
            Err(failure) => {
                held.session = held.session.failed(&failure);
                let no_token = no_token(failure);
                let wait = match no_token.remedy {
                    Remedy::Wait(Some(wait)) => wait.min(AGAIN_AFTER_MAX),
                    Remedy::Wait(None) | Remedy::Settings | Remedy::Authorize => AGAIN_AFTER,
                };
                held.failed = Some((self.0.clock.boot().saturating_add(wait), no_token.clone()));
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

/// Another client, or another secret of the same one, has tokens of its own.
fn identity(client: &Client) -> [u8; 16] {
    let scopes = client.scopes.join(" ");
    fingerprint(&[client.token_url.as_str().as_bytes(), client.id.as_bytes(), client.secret.expose(), scopes.as_bytes()])
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
