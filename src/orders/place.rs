//! Placing an order: checked, given an id, made durable as open, started.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use url::Url;

use super::{Kept, ORDERS_MAX, Orders, Trouble};
use crate::connectors::inpasy::{Lid, Order, ParameterProblem, Settings, Started, id_request, judge_id, judge_start, start};
use crate::connectors::{Outcome, Reply, Request, Verdict};
use crate::egress::{Outbound, Reach};
use crate::model::Name;

/// The longest time for one request to InPaSy: somebody waits for it in a browser.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How often an id is asked for, if one comes that was used before.
const IDS_TRIED_MAX: usize = 3;

/// An order that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Its id.
    pub lid: Lid,
    /// What the payer sees next.
    pub answered: Answered,
}

/// What the payer sees next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answered {
    /// They go on there.
    Location(Url),
    /// A status page.
    Page {
        /// Its content type.
        content_type: Option<String>,
        /// Its bytes.
        body: Vec<u8>,
    },
}

/// Why an order was not placed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PlaceError {
    /// Parameters are wrong; nothing was done.
    #[error("{} parameters are wrong", .0.len())]
    Parameters(Vec<ParameterProblem>),
    /// There is an order of this id already.
    #[error("there is an order {0} already")]
    Exists(Lid),
    /// There is no id; nothing was done.
    #[error("there is no transaction id: {0}")]
    NoId(String),
    /// InPaSy refuses the order; it is forgotten.
    #[error("{0}")]
    Refused(String),
    /// Nobody knows whether it was started: it stays open, and its callback counts.
    #[error("{reason}")]
    Unclear {
        /// Its id.
        lid: Lid,
        /// What is known.
        reason: String,
    },
    /// [`ORDERS_MAX`] are kept; nothing was done.
    #[error("{ORDERS_MAX} orders are kept already")]
    TooMany,
    /// The store.
    #[error(transparent)]
    Store(#[from] Trouble),
}

impl Orders {
    /// Places an order of this route.
    ///
    /// # Errors
    /// Why it was not placed.
    pub async fn place(&self, route: &Name, settings: &Settings, posted: &Value) -> Result<Placed, PlaceError> {
        let order = Order::new(posted, settings).map_err(PlaceError::Parameters)?;
        if self.0.count.load(Ordering::Relaxed) >= ORDERS_MAX {
            return Err(PlaceError::TooMany);
        }
        let lid = self.opened(route, settings, &order).await?;
        let request = start(settings, &order, &lid).map_err(PlaceError::Refused);
        let started = match request {
            Ok(request) => self.ask(request, |reply| judge_start(reply, settings)).await,
            Err(refused) => {
                self.forget(route, &lid).await;
                return Err(refused);
            }
        };
        match started {
            Ok(Started::Redirect(url)) => Ok(Placed { lid, answered: Answered::Location(url) }),
            Ok(Started::Page { content_type, body }) => Ok(Placed { lid, answered: Answered::Page { content_type, body } }),
            Err(Outcome { verdict: Verdict::Rejected | Verdict::Pause, reason }) => {
                self.forget(route, &lid).await;
                Err(PlaceError::Refused(reason))
            }
            Err(Outcome { verdict: Verdict::Retry { .. } | Verdict::Delivered | Verdict::Reauthorize, reason }) => {
                Err(PlaceError::Unclear { lid, reason })
            }
        }
    }

    /// An id under which the order is durable as open.
    async fn opened(&self, route: &Name, settings: &Settings, order: &Order) -> Result<Lid, PlaceError> {
        let inner = &*self.0;
        for _ in 0..IDS_TRIED_MAX {
            let lid = match (&order.lid, id_request(settings)) {
                (Some(lid), _) => lid.clone(),
                (None, Some(request)) => {
                    let fetched = self.ask(request, |reply| judge_id(reply, settings)).await;
                    fetched.map_err(|outcome| PlaceError::NoId(outcome.reason))?
                }
                (None, None) => inner.ids.next(&*inner.store).await?,
            };
            let _lock = inner.lock(route, &lid).await;
            if inner.kept(route, &lid).await?.is_none() {
                inner.keep(route, &lid, Some(&Kept::open(inner.clock.stamp(inner.clock.now())))).await.map_err(Trouble::from)?;
                inner.count.fetch_add(1, Ordering::Relaxed);
                return Ok(lid);
            }
            if order.lid.is_some() {
                return Err(PlaceError::Exists(lid));
            }
        }
        Err(PlaceError::NoId("the ids that were given are in use already".to_owned()))
    }

    /// An order that was never started.
    async fn forget(&self, route: &Name, lid: &Lid) {
        let _lock = self.0.lock(route, lid).await;
        if let Err(error) = self.0.keep(route, lid, None).await {
            tracing::warn!(route.name = %route, lid = %lid, %error, "an order that was refused stays open until it expires");
        }
    }

    async fn ask<T>(&self, request: Request, judge: impl FnOnce(&Reply<'_>) -> Result<T, Outcome>) -> Result<T, Outcome> {
        let Request { method, url, headers, body } = request;
        let request = Outbound { method, url, headers, body, timeout: TIMEOUT, tls: None, reach: Reach::Anywhere };
        let reply = self
            .0
            .transport
            .send(request)
            .await
            .map_err(|fault| Outcome { verdict: Verdict::Retry { after: None }, reason: format!("InPaSy does not answer: {fault}") })?;
        judge(&Reply { status: reply.status, headers: &reply.headers, body: &reply.body, truncated: reply.truncated })
    }
}
