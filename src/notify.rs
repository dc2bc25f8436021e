//! Tells a person what they should know: each notice becomes an event of Kurier's own, delivered to the destination that
//! `notify` names.
//!
//! It is an event like any other: durable, retried, visible. Of many notices about one thing the first goes at once and
//! the others together after a while, so a mass of dead letters is no flood of messages. Nothing is told about the
//! destination that is told: that would never end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::select;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::accept::{Acceptor, IdSource, Item};
use crate::clock::Clock;
use crate::config::Live;
use crate::model::{Name, Notice, NoticeKind};
use crate::store::Store;

/// The route that such events name; no configured name holds a colon.
pub const ROUTE: &str = "kurier:notify";

/// Most notices that wait to be taken up.
pub const WAITING_MAX: usize = 256;

/// After a notice, others about the same thing wait so long and go together.
const TOGETHER: Duration = Duration::from_secs(60);

/// Most things that are told about at a time.
const SUBJECTS_MAX: usize = 1000;

/// What notices are about: of one kind, at one destination.
type Subject = (NoticeKind, Name);

/// What was not told yet of one subject.
struct Held {
    until: Instant,
    /// The newest, and how many there were.
    newest: Option<Notice>,
    count: u64,
}

/// What it works with.
pub struct Parts {
    /// The configuration in force.
    pub config: Live,
    /// Where the events are kept.
    pub store: Arc<dyn Store>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where their ids come from.
    pub ids: IdSource,
    /// What there is to tell.
    pub inbox: mpsc::Receiver<Notice>,
}

/// Tells until the last teller has gone.
pub async fn run(parts: Parts) {
    let Parts { config, store, clock, ids, mut inbox } = parts;
    let acceptor = Acceptor::new(store, clock.clone(), ids);
    let mut held: BTreeMap<Subject, Held> = BTreeMap::new();
    loop {
        let next = held.values().map(|held| held.until).min();
        let due = next.unwrap_or_else(|| Instant::now() + TOGETHER);
        select! {
            biased;
            notice = inbox.recv() => {
                let Some(notice) = notice else { return };
                if let Some(notice) = hold(&mut held, notice) {
                    tell(&acceptor, &config, &*clock, notice, 1).await;
                }
            }
            () = sleep_until(due), if next.is_some() => {
                let now = Instant::now();
                let over: Vec<Subject> = held.iter().filter(|(_, held)| held.until <= now).map(|(subject, _)| subject.clone()).collect();
                for subject in over {
                    let Some(Held { newest, count, .. }) = held.remove(&subject) else { continue };
                    if let Some(notice) = newest {
                        held.insert(subject, Held { until: now + TOGETHER, newest: None, count: 0 });
                        tell(&acceptor, &config, &*clock, notice, count).await;
                    }
                }
            }
        }
    }
}

/// The notice, if it is to be told at once.
fn hold(held: &mut BTreeMap<Subject, Held>, notice: Notice) -> Option<Notice> {
    let subject = (notice.kind, notice.destination.clone());
    if let Some(held) = held.get_mut(&subject) {
        held.count += 1;
        held.newest = Some(notice);
        return None;
    }
    if held.len() < SUBJECTS_MAX {
        held.insert(subject, Held { until: Instant::now() + TOGETHER, newest: None, count: 0 });
    }
    Some(notice)
}

async fn tell(acceptor: &Acceptor, config: &Live, clock: &dyn Clock, notice: Notice, count: u64) {
    let Some(destination) = config.load().notify.clone() else { return };
    if notice.destination == destination {
        return;
    }
    let kind = notice.kind.event_type();
    let body = json!({
        "type": kind,
        "at": clock.now().to_string(),
        "destination": &*notice.destination,
        "route": notice.route.as_deref(),
        "event": notice.delivery.map(|delivery| delivery.event.to_string()),
        "delivery": notice.delivery.map(|delivery| delivery.to_string()),
        "reason": notice.reason,
        "count": count,
    });
    let item = Item {
        route: ROUTE.into(),
        event_type: Some(kind.into()),
        source_id: None,
        base: "".into(),
        body: body.to_string().into(),
        dedupe: None,
        deliver: vec![destination],
    };
    if let Err(error) = acceptor.accept_item(item).await {
        tracing::warn!(kind, destination.name = %notice.destination, %error, "nobody can be told: {}", notice.reason);
    }
}
