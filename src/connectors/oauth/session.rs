//! What is held of one authorization, when it is renewed, and in which order that is made durable. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Grant, TokenFailure};
use crate::model::{Secret, Timestamp};
use crate::signature::fingerprint;

/// How long a token counts whose server does not say so.
pub const LIFETIME_DEFAULT: Duration = Duration::from_secs(3600);

/// A shorter life is not believed: whoever says 0 would be asked before each request. If the token has ended after all,
/// the 401 says so. No longer than that, as a token that has really ended costs a request that is refused.
const LIFETIME_MIN: Duration = Duration::from_secs(5);

const LIFETIME_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// Tokens are renewed a tenth of their life before its end, at most so long before.
const EARLY_MAX: Duration = Duration::from_secs(600);

/// A token is not used in its last seconds: it would end on the way.
const LAST: Duration = Duration::from_secs(10);

/// Longest stored session.
pub const SESSION_BYTES_MAX: usize = 64 * 1024;

/// An access token and what renews it.
#[derive(Clone)]
pub struct Tokens {
    /// The access token.
    pub access: Secret,
    /// The refresh token.
    pub refresh: Option<Secret>,
    /// When it is to be renewed.
    pub renew_at: Timestamp,
    /// When it ends.
    pub ends_at: Timestamp,
}

impl Tokens {
    /// Tokens that were given now, for so long.
    pub fn new(access: Secret, refresh: Option<Secret>, now: Timestamp, lifetime: Option<Duration>) -> Self {
        let lifetime = lifetime.unwrap_or(LIFETIME_DEFAULT).clamp(LIFETIME_MIN, LIFETIME_MAX);
        let early = (lifetime / 10).min(EARLY_MAX);
        let renew_at = now.saturating_add(lifetime.saturating_sub(early));
        Self { access, refresh, renew_at, ends_at: now.saturating_add(lifetime) }
    }
}

/// What is held of one authorization. Each change is a new value, which counts once it is durable.
#[derive(Clone, Default)]
pub struct Session {
    tokens: Option<Tokens>,
    /// The refresh token of the settings that was last taken over.
    configured: Option<[u8; 16]>,
    /// Since when a renewal is under way.
    begun: Option<Timestamp>,
    /// A person must authorize before anything more is tried.
    lost: Option<String>,
}

/// What to do for a request that needs an access token.
#[derive(Clone)]
pub enum Next {
    /// Use it.
    Use(Secret),
    /// Use it, and renew it meanwhile.
    UseAndRenew(Secret, Grant),
    /// Renew first: commit [`Session::begun`], request, commit [`Session::obtained`].
    Renew(Grant),
    /// A person must authorize; the reason says why.
    Authorize(String),
}

impl Session {
    /// This session with the refresh token of the settings. One that was not seen before wins over what is held: an
    /// operator has put it there.
    #[must_use]
    pub fn with_configured(&self, refresh: Option<&Secret>) -> Self {
        let mark = refresh.map(|secret| fingerprint(&[b"refresh token", secret.expose()]));
        let (Some(refresh), true) = (refresh, mark != self.configured) else { return self.clone() };
        let past = Timestamp::from_millis(0);
        let tokens = Tokens { access: Secret::new(Vec::new()), refresh: Some(refresh.clone()), renew_at: past, ends_at: past };
        Self { tokens: Some(tokens), configured: mark, begun: None, lost: None }
    }

    /// What to do now. `by_client` says that the client's own credentials are a grant.
    pub fn next(&self, by_client: bool, now: Timestamp) -> Next {
        let grant = match self.tokens.as_ref().and_then(|tokens| tokens.refresh.clone()) {
            // Client credentials are a better grant than their refresh token: they can't be used up.
            _ if by_client => Some(Grant::ClientCredentials),
            Some(refresh) if self.lost.is_none() => Some(Grant::Refresh(refresh)),
            Some(_) | None => None,
        };
        let access = self.tokens.as_ref().filter(|tokens| !tokens.access.expose().is_empty());
        match (access, grant) {
            (Some(tokens), _) if now < tokens.renew_at => Next::Use(tokens.access.clone()),
            (Some(tokens), Some(grant)) if now.saturating_add(LAST) < tokens.ends_at => Next::UseAndRenew(tokens.access.clone(), grant),
            (Some(tokens), None) if now.saturating_add(LAST) < tokens.ends_at => Next::Use(tokens.access.clone()),
            (_, Some(grant)) => Next::Renew(grant),
            (_, None) => Next::Authorize(match (&self.lost, &self.tokens) {
                (Some(reason), _) => reason.clone(),
                (None, Some(_)) => "the access token has ended and there is no refresh token".to_owned(),
                (None, None) => "nobody has authorized yet".to_owned(),
            }),
        }
    }

    /// Since when a renewal is under way whose end is not known: the refresh token may be used up.
    pub fn interrupted(&self) -> Option<Timestamp> {
        self.begun
    }

    /// The session before a renewal is requested.
    #[must_use]
    pub fn begun(&self, now: Timestamp) -> Self {
        Self { begun: self.begun.or(Some(now)), ..self.clone() }
    }

    /// The session with new tokens; they are used once this is durable.
    #[must_use]
    pub fn obtained(&self, tokens: Tokens) -> Self {
        Self { tokens: Some(tokens), configured: self.configured, begun: None, lost: None }
    }

    /// The session after a renewal failed. One that may have worked keeps its refresh token: the next attempt will tell.
    #[must_use]
    pub fn failed(&self, failure: &TokenFailure) -> Self {
        match failure {
            TokenFailure::Later { .. } => self.clone(),
            TokenFailure::Refused { .. } => Self { begun: None, ..self.clone() },
            TokenFailure::Renew { reason } => {
                let reason = match self.begun {
                    Some(since) => format!("{reason}; the renewal begun at {since} may have used up the refresh token"),
                    None => reason.clone(),
                };
                Self { lost: Some(reason), begun: None, ..self.clone() }
            }
        }
    }

    /// The session after the system refused this access token (401): it is renewed before its end. A token that has been
    /// replaced meanwhile changes nothing.
    #[must_use]
    pub fn refused(&self, access: &Secret) -> Self {
        let mut session = self.clone();
        if let Some(tokens) = &mut session.tokens
            && tokens.access.expose() == access.expose()
        {
            tokens.access = Secret::new(Vec::new());
        }
        session
    }

    /// As bytes, to be sealed and stored.
    pub fn to_bytes(&self) -> Secret {
        let text = |secret: &Secret| String::from_utf8_lossy(secret.expose()).into_owned();
        let stored = Stored {
            access: self.tokens.as_ref().map(|tokens| text(&tokens.access)),
            refresh: self.tokens.as_ref().and_then(|tokens| tokens.refresh.as_ref().map(text)),
            renew_at: self.tokens.as_ref().map_or(0, |tokens| tokens.renew_at.millis()),
            ends_at: self.tokens.as_ref().map_or(0, |tokens| tokens.ends_at.millis()),
            configured: self.configured,
            begun: self.begun.map(Timestamp::millis),
            lost: self.lost.clone(),
        };
        // Plain data: it can always be written.
        Secret::new(serde_json::to_vec(&stored).unwrap_or_default())
    }

    /// The session of these bytes.
    ///
    /// # Errors
    /// When they are none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, &'static str> {
        const WRONG: &str = "the stored authorization can't be read; authorize again";
        if bytes.len() > SESSION_BYTES_MAX {
            return Err(WRONG);
        }
        let stored: Stored = serde_json::from_slice(bytes).map_err(|_error| WRONG)?;
        let secret = |text: &String| Secret::new(text.clone().into_bytes());
        Ok(Self {
            tokens: stored.access.as_ref().map(|access| Tokens {
                access: secret(access),
                refresh: stored.refresh.as_ref().map(secret),
                renew_at: Timestamp::from_millis(stored.renew_at),
                ends_at: Timestamp::from_millis(stored.ends_at),
            }),
            configured: stored.configured,
            begun: stored.begun.map(Timestamp::from_millis),
            lost: stored.lost.clone(),
        })
    }
}

/// The stored form. Fields are only ever added, each with a default (I12).
#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(default)]
    access: Option<String>,
    #[serde(default)]
    refresh: Option<String>,
    #[serde(default)]
    renew_at: i64,
    #[serde(default)]
    ends_at: i64,
    #[serde(default)]
    configured: Option<[u8; 16]>,
    #[serde(default)]
    begun: Option<i64>,
    #[serde(default)]
    lost: Option<String>,
}

impl Drop for Stored {
    fn drop(&mut self) {
        for text in [self.access.take(), self.refresh.take()].into_iter().flatten() {
            drop(Zeroizing::new(text));
        }
    }
}
