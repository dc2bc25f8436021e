//! Judging what is kept once more, and letting in what passes.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::limits::{RELEASE_MAX, RELEASE_TIME_MAX};
use super::{GetError, Kept, Phase, Quarantine, Received};
use crate::accept::{Acceptor, Unaccepted};
use crate::clock::Clock;
use crate::config::{Config, Route};
use crate::model::{EventId, Inbound, Name, RefusalId};
use crate::orders::{Completed, Incomplete, Orders};
use crate::signature::{Diagnosis, Judged, KeyKeeper, Step, Verified, Verifier};
use crate::store::{ReadError, Store};
use crate::telemetry::{Metrics, RefusalReason};

/// What a release works with.
pub struct Tools {
    /// What is kept.
    pub quarantine: Quarantine,
    /// Makes events of what passes.
    pub acceptor: Acceptor,
    /// Orders that callbacks complete.
    pub orders: Orders,
    /// Who keeps the keys that senders publish.
    pub keys: Arc<dyn KeyKeeper>,
    /// Where events are.
    pub store: Arc<dyn Store>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where releases are counted.
    pub metrics: Arc<Metrics>,
}

/// Releases, and the doctor for what is kept. Clones share everything.
#[derive(Clone)]
pub struct Releases(Arc<Inner>);

struct Inner {
    tools: Tools,
    /// One release at a time: two of the same request must see what the other did.
    turn: tokio::sync::Mutex<()>,
}

/// What to release.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// Received when.
    pub received: Received,
    /// After this one: where the page before ended.
    pub after: Option<RefusalId>,
    /// Say what would be released, and do nothing.
    pub dry_run: bool,
}

/// What came of one call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Requests that became events; of a dry run, that would. In the order of their receipt.
    pub released: Vec<EventId>,
    /// Requests that repeat an event that was there already; they are gone.
    pub repeated: u64,
    /// Requests that stay refused, by the reason.
    pub refused: BTreeMap<Box<str>, u64>,
    /// Where the next call has to go on; none: this was the last of them.
    pub next: Option<RefusalId>,
    /// What ended the call before its time; the request that it happened to is kept.
    pub trouble: Option<String>,
}

/// What became of one request.
enum Became {
    Event(EventId),
    Repeat,
    Refused(Box<str>),
}

/// Why a request can't be released just now.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the store refused: {0}")]
    Refused(&'static str),
    #[error("whether it was stored can't be known: look at the events before you go on")]
    Unknown,
}

impl From<Unaccepted> for Trouble {
    fn from(unaccepted: Unaccepted) -> Self {
        match unaccepted {
            Unaccepted::Refused(why) => Self::Refused(why),
            Unaccepted::Unknown => Self::Unknown,
        }
    }
}

impl From<Incomplete> for Trouble {
    fn from(incomplete: Incomplete) -> Self {
        match incomplete {
            Incomplete::Refused(why) => Self::Refused(why),
            Incomplete::Unknown => Self::Unknown,
        }
    }
}

impl Releases {
    /// Releases with these tools.
    pub fn new(tools: Tools) -> Self {
        Self(Arc::new(Inner { tools, turn: tokio::sync::Mutex::default() }))
    }

    /// What is kept.
    pub fn quarantine(&self) -> &Quarantine {
        &self.0.tools.quarantine
    }

    /// Judges at most [`RELEASE_MAX`] requests of this route once more, the oldest first, each as of when it was judged
    /// and by this configuration. What passes becomes an event and is kept no longer; what does not stays.
    pub async fn release(&self, config: &Config, route: &Arc<Route>, wanted: Wanted) -> Page {
        let _turn = self.0.turn.lock().await;
        self.quarantine().reached(Phase::Working).await;
        let begun = Instant::now();
        let ids = self.0.oldest_first(&route.name, wanted);
        let mut page = Page::default();
        let mut last = None;
        for id in ids.iter().take(RELEASE_MAX) {
            if last.is_some() && begun.elapsed() > RELEASE_TIME_MAX {
                page.next = last;
                return page;
            }
            match self.0.release_one(config, route, *id, wanted.dry_run).await {
                Ok(Some(Became::Event(event))) => page.released.push(event),
                Ok(Some(Became::Repeat)) => page.repeated += 1,
                Ok(Some(Became::Refused(why))) => *page.refused.entry(why).or_default() += 1,
                // It went meanwhile: too old, or the oldest of too many.
                Ok(None) => {}
                Err(trouble) => {
                    page.trouble = Some(format!("{id}: {trouble}"));
                    page.next = last.or(wanted.after);
                    return page;
                }
            }
            last = Some(*id);
        }
        page.next = last.filter(|_| ids.len() > RELEASE_MAX);
        page
    }

    /// What the doctor says of a kept request, by this configuration. `None`: it is gone.
    ///
    /// # Errors
    /// It can't be read.
    pub async fn diagnose(&self, config: &Arc<Config>, route: &Arc<Route>, id: RefusalId) -> Result<Option<Diagnosis>, GetError> {
        let Some(Kept { inbound, judged_at, .. }) = self.quarantine().get(&route.name, id).await? else { return Ok(None) };
        let inbound = as_called_now(config, inbound);
        let (config, route, keys) = (config.clone(), route.clone(), self.0.tools.keys.clone());
        for wanted in route.verifier.wanted_keys(&inbound) {
            keys.fetch(&wanted).await;
        }
        // It tries a body in many forms, and under every route: not where events come in.
        let work = tokio::task::spawn_blocking(move || {
            let others: Vec<(&str, &Verifier)> =
                config.routes.iter().filter(|other| other.name != route.name).map(|other| (&*other.name, &other.verifier)).collect();
            let diagnosis = route.verifier.diagnose_with(&inbound, judged_at, &others, &*keys);
            with_fitness(diagnosis, unfit(&route, &inbound))
        });
        Ok(Some(work.await.map_err(std::io::Error::other)?))
    }
}

impl Inner {
    fn oldest_first(&self, route: &Name, wanted: Wanted) -> Vec<RefusalId> {
        let rings = self.tools.quarantine.0.shared.rings.lock();
        rings.oldest_first(route, wanted.received, wanted.after, RELEASE_MAX + 1)
    }

    async fn release_one(&self, config: &Config, route: &Arc<Route>, id: RefusalId, dry_run: bool) -> Result<Option<Became>, Trouble> {
        let tools = &self.tools;
        // A crash between the commit and the removal leaves a request whose event is there.
        if tools.store.event(id.event()).await?.is_some() {
            if !dry_run {
                self.remove(&route.name, id).await;
            }
            return Ok(Some(Became::Repeat));
        }
        let kept = match tools.quarantine.get(&route.name, id).await {
            Ok(Some(kept)) => kept,
            Ok(None) => return Ok(None),
            Err(GetError::Damaged) => return Ok(Some(Became::Refused("damaged".into()))),
            // A bad sector is that of one request; those after it go on.
            Err(GetError::Io(error)) => {
                tracing::warn!(%error, "{id} can't be read and stays in quarantine: {error}");
                return Ok(Some(Became::Refused("unreadable".into())));
            }
        };
        let verified = match self.judge(config, route, kept).await {
            Ok(verified) => verified,
            Err(why) => return Ok(Some(Became::Refused(why.into()))),
        };
        if dry_run {
            return Ok(Some(Became::Event(id.event())));
        }
        let became = self.let_in(route, id, verified).await?;
        self.remove(&route.name, id).await;
        Ok(Some(became))
    }

    /// Judges a request as the way in does, as of when it did.
    async fn judge(&self, config: &Config, route: &Route, kept: Kept) -> Result<Verified, &'static str> {
        let Kept { inbound, judged_at, .. } = kept;
        let mut inbound = as_called_now(config, inbound);
        if let Some(unfit) = unfit(route, &inbound) {
            return Err(unfit.reason.word());
        }
        for wanted in route.verifier.wanted_keys(&inbound) {
            self.tools.keys.fetch(&wanted).await;
        }
        // From here on it is a request that comes in now: its age as an event, and that of its deliveries, begins.
        inbound.received_at = self.tools.clock.now();
        match route.verifier.judge(inbound, judged_at, &*self.tools.keys) {
            Ok(Judged::Event(verified)) => Ok(*verified),
            Ok(Judged::Handshake(_)) => Err("handshake"),
            Err(refusal) => Err(refusal.as_str()),
        }
    }

    async fn let_in(&self, route: &Arc<Route>, id: RefusalId, verified: Verified) -> Result<Became, Trouble> {
        let tools = &self.tools;
        let receipt = match &route.inpasy {
            Some(settings) => {
                let (inbound, _facts) = verified.into_parts();
                match tools.orders.complete(route.clone(), settings.clone(), inbound).await? {
                    Completed::Event(receipt) => receipt,
                    Completed::Counted => return Ok(Became::Repeat),
                }
            }
            None => tools.acceptor.accept_as(route, verified, id.event()).await?,
        };
        if receipt.is_repeat() {
            return Ok(Became::Repeat);
        }
        tools.metrics.accepted(&route.name).inc();
        tools.metrics.refusals_released(&route.name).inc();
        Ok(Became::Event(receipt.event()))
    }

    /// Only after the commit: what is lost in between is found again as an event that is there.
    async fn remove(&self, route: &Name, id: RefusalId) {
        let shared = &self.tools.quarantine.0.shared;
        shared.rings.lock().remove(route, id);
        shared.discard(vec![(route.clone(), id)]).await;
        shared.count();
    }
}

/// Why the route as it is by now would not even look at a request's signature.
struct Unfit {
    reason: RefusalReason,
    seen: &'static str,
}

/// What keeps a request out because the route has changed since it came. An old path's secret, too, is known as one by the
/// old path only, so what came there must not become an event.
fn unfit(route: &Route, inbound: &Inbound) -> Option<Unfit> {
    let is_at = route.path.as_ref().is_some_and(|path| path.matches(inbound.path()));
    let (reason, seen) = if !is_at {
        (RefusalReason::UnknownPath, "the route has another path by now, or another secret in it")
    } else if !route.methods.contains(&inbound.method) {
        (RefusalReason::Method, "the route does not take this method any more")
    } else if inbound.body.len() > route.body_limit {
        (RefusalReason::TooLarge, "the body is longer than the route takes by now")
    } else {
        return None;
    };
    Some(Unfit { reason, seen })
}

/// What a release would say, where the signature is not all that counts.
fn with_fitness(diagnosis: Diagnosis, unfit: Option<Unfit>) -> Diagnosis {
    let Some(Unfit { reason, seen }) = unfit else { return diagnosis };
    let step = Step { name: "route".into(), good: false, seen: seen.to_owned() };
    let steps = std::iter::once(step).chain(diagnosis.steps).collect();
    Diagnosis { accepted: false, verdict: reason.word().into(), steps, findings: vec!["change the route back to release it".to_owned()] }
}

/// The request as it would be taken now: at the address that the configuration says it has.
fn as_called_now(config: &Config, inbound: Inbound) -> Inbound {
    match &config.server.public_url {
        Some(url) => Inbound { base: url.clone(), ..inbound },
        None => inbound,
    }
}
