//! What every poll does: ask under the lease, and accept what came.

use std::time::Duration;

use http::StatusCode;
use http::header::RETRY_AFTER;

use super::Shared;
use crate::accept::Fetched;
use crate::config::{Auth, Destination, Route};
use crate::connectors::oauth::Client;
use crate::connectors::smartbusiness::Settings;
use crate::connectors::{self, Outcome, Request, Verdict, bearer};
use crate::egress::{Outbound, Reach, Reply};
use crate::model::Secret;
use crate::store::CommitError;
use crate::tokens::{NoToken, Remedy, Who};

/// How much longer than one request a lease lasts.
const LEASE_SPARE: Duration = Duration::from_secs(60);

/// One poll at work.
pub(super) struct Asking<'a> {
    pub(super) shared: &'a Shared,
    pub(super) route: &'a Route,
    destination: &'a Destination,
}

pub(super) fn retry(reason: impl Into<String>) -> Outcome {
    Outcome { verdict: Verdict::Retry { after: None }, reason: reason.into() }
}

/// The reply as the connectors see it.
pub(super) fn seen(reply: &Reply) -> connectors::Reply<'_> {
    connectors::Reply { status: reply.status, headers: &reply.headers, body: &reply.body, truncated: reply.truncated }
}

/// A retry without a time of its own waits as long as the answer asks for.
pub(super) fn with_retry_after(outcome: Outcome, reply: &Reply) -> Outcome {
    let asked = || reply.headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs);
    match outcome.verdict {
        Verdict::Retry { after: None } => Outcome { verdict: Verdict::Retry { after: asked() }, ..outcome },
        Verdict::Retry { after: Some(_) } | Verdict::Delivered | Verdict::Rejected | Verdict::Reauthorize | Verdict::Pause => outcome,
    }
}

impl<'a> Asking<'a> {
    pub(super) fn new(shared: &'a Shared, route: &'a Route, destination: &'a Destination) -> Self {
        Self { shared, route, destination }
    }

    /// Whether this process is the one that polls, for the time of one request and a little more.
    pub(super) async fn holds_lease(&self) -> Result<bool, CommitError> {
        let term = self.destination.timeout.saturating_add(LEASE_SPARE);
        let lease = self.shared.store.lease(&self.destination.name, self.shared.holder, term).await?;
        Ok(lease.is_some())
    }

    /// Makes a request under the lease, with the configured credentials.
    pub(super) async fn ask(&self, request: Request) -> Result<Reply, Outcome> {
        match self.holds_lease().await {
            Ok(true) => {}
            Ok(false) => return Err(retry("another process polls by now")),
            Err(error) => return Err(retry(error.to_string())),
        }
        let Request { method, url, mut headers, body } = request;
        let client = match &self.destination.auth {
            Some(Auth::OAuth2(client)) => Some(client),
            Some(auth) => {
                for (name, value) in auth.headers().map_err(|error| retry(error.to_string()))? {
                    headers.insert(name, value);
                }
                None
            }
            None => None,
        };
        let (timeout, tls) = (self.destination.timeout, self.destination.tls.clone());
        let mut request = Outbound { method, url, headers, body, timeout, tls, reach: Reach::Anywhere };
        let Some(client) = client else { return self.send(request).await };
        for again in [false, true] {
            let access = self.access(self.own(client)).await?;
            let value = bearer(&access).map_err(|_error| retry("the access token can't stand in a header"))?;
            request.headers.insert(http::header::AUTHORIZATION, value);
            let reply = self.send(request.clone()).await?;
            if reply.status != StatusCode::UNAUTHORIZED || again {
                return Ok(reply);
            }
            self.refused(self.own(client), &access).await;
        }
        Err(retry("the access token is refused again and again"))
    }

    async fn send(&self, request: Outbound) -> Result<Reply, Outcome> {
        self.shared.transport.send(request).await.map_err(|fault| retry(fault.to_string()))
    }

    /// An access token.
    pub(super) async fn access(&self, who: Who<'_>) -> Result<Secret, Outcome> {
        self.shared.tokens.access(who).await.map_err(|NoToken { remedy, reason }| {
            let verdict = match remedy {
                Remedy::Wait(after) => Verdict::Retry { after },
                Remedy::Settings => Verdict::Pause,
                Remedy::Authorize => Verdict::Reauthorize,
            };
            Outcome { verdict, reason }
        })
    }

    /// The source has refused this token.
    pub(super) async fn refused(&self, who: Who<'_>, access: &Secret) {
        self.shared.tokens.refused(who, access).await;
    }

    /// A client whose own credentials are the grant.
    fn own<'c>(&'c self, client: &'c Client) -> Who<'c> {
        Who { name: &self.destination.name, client, by_client: true, refresh: None }
    }

    /// The client of these settings.
    pub(super) fn who<'c>(&'c self, settings: &'c Settings) -> Who<'c> {
        let refresh = settings.refresh_token.as_ref();
        Who { name: &self.destination.name, client: &settings.client, by_client: settings.by_client, refresh }
    }

    /// Commits what was fetched; whether it was new.
    pub(super) async fn accept(&self, fetched: Fetched) -> Result<bool, Outcome> {
        let receipt = self.shared.acceptor.accept_fetched(self.route, fetched).await.map_err(|error| retry(error.to_string()))?;
        let counter = if receipt.is_repeat() {
            self.shared.metrics.repeated(&self.route.name)
        } else {
            self.shared.metrics.accepted(&self.route.name)
        };
        counter.inc();
        Ok(!receipt.is_repeat())
    }
}
