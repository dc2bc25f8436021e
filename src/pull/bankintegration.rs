//! Statements, balances and the status of payments at BankIntegration.dk.

use std::time::Duration;

use jiff::civil::Date;

use super::known::Known;
use super::source::{Asking, retry, seen, with_retry_after};
use super::standing::Standing;
use crate::accept::Fetched;
use crate::config::BankReport;
use crate::connectors::bankintegration::{
    Ordered, Settings, balance_request, balances, changes, entries, judge, state_prefix, statement_request, status_request, window,
};
use crate::connectors::{Outcome, Request, Verdict};
use crate::egress::Reply;
use crate::model::Timestamp;

/// How long a request is followed that the bank doesn't know: it was noted before it was sent, and may never have arrived.
const FOLLOWED_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// Most windows of one poll: ten years of months.
const WINDOWS_MAX: usize = 120;

/// Polls once.
pub(super) async fn poll(asking: &Asking<'_>, settings: &Settings, report: BankReport, standing: &mut Standing) -> Result<(), Outcome> {
    match report {
        BankReport::Account { from } => statements(asking, settings, from, standing).await,
        BankReport::Balance => account_balances(asking, settings).await,
        BankReport::Status => statuses(asking, settings).await,
    }
}

/// Window by window up to today; the last days are fetched again, for what the bank entered late.
async fn statements(asking: &Asking<'_>, settings: &Settings, from: Option<Date>, standing: &mut Standing) -> Result<(), Outcome> {
    let store = &*asking.shared.store;
    let mut known = Known::read(store, &asking.route.name).await.map_err(|error| retry(error.to_string()))?;
    for _ in 0..WINDOWS_MAX {
        let today = day(asking.shared.clock.now())?;
        let window = window(standing.start(from, today), standing.fetched(), today);
        let reply = ask(asking, settings, |id, now| statement_request(settings, id, window, now)).await?;
        let entries = entries(&seen(&reply), settings).map_err(|outcome| with_retry_after(outcome, &reply))?;
        for entry in entries.iter().filter(|entry| !known.holds(entry.key.as_bytes())) {
            accept(asking, settings, "bankintegration.entry", &entry.key, entry.body.clone()).await?;
        }
        // The next window overlaps with this one only, so what this one listed is all that has to be known.
        let listed = entries.iter().map(|entry| entry.key.as_bytes());
        known.replace(store, listed).await.map_err(|error| retry(error.to_string()))?;
        standing.set_fetched(window.to);
        standing.write(store, &asking.route.name).await;
        if window.to >= today {
            break;
        }
    }
    Ok(())
}

async fn account_balances(asking: &Asking<'_>, settings: &Settings) -> Result<(), Outcome> {
    let store = &*asking.shared.store;
    let mut known = Known::read(store, &asking.route.name).await.map_err(|error| retry(error.to_string()))?;
    let reply = ask(asking, settings, |id, now| balance_request(settings, id, now)).await?;
    let balances = balances(&seen(&reply), settings).map_err(|outcome| with_retry_after(outcome, &reply))?;
    for balance in balances.iter().filter(|balance| !known.holds(balance.key.as_bytes())) {
        accept(asking, settings, "bankintegration.balance", &balance.key, balance.body.clone()).await?;
    }
    known.replace(store, balances.iter().map(|balance| balance.key.as_bytes())).await.map_err(|error| retry(error.to_string()))
}

/// What has become of the payments that were ordered; each change is an event. One request that can't be asked about
/// holds up no other.
async fn statuses(asking: &Asking<'_>, settings: &Settings) -> Result<(), Outcome> {
    let store = &*asking.shared.store;
    let states = store.states(&state_prefix(&settings.account)).await.map_err(|error| retry(error.to_string()))?;
    let mut failed = None;
    for (name, bytes) in states {
        let Some(mut ordered) = Ordered::from_state(&settings.account, &name, &bytes) else {
            tracing::error!(state = name, "what is followed of a payment can't be read");
            continue;
        };
        match status(asking, settings, &mut ordered).await {
            Ok(()) => {
                let left = (!ordered.is_final()).then(|| ordered.to_bytes().into());
                store.set_state(name, left).await.map_err(|error| retry(error.to_string()))?;
            }
            Err(outcome) if outcome.verdict == Verdict::Pause => return Err(outcome),
            Err(Outcome { verdict: Verdict::Rejected, reason }) if asking.shared.clock.now().since(ordered.since) > FOLLOWED_FOR => {
                tracing::warn!(route.name = %asking.route.name, request = ordered.request_id, reason, "a payment is followed no longer: the bank knows nothing of it");
                store.set_state(name, None).await.map_err(|error| retry(error.to_string()))?;
            }
            Err(outcome) => failed = Some(outcome),
        }
    }
    failed.map_or(Ok(()), Err)
}

async fn status(asking: &Asking<'_>, settings: &Settings, ordered: &mut Ordered) -> Result<(), Outcome> {
    let request_id = ordered.request_id.clone();
    let reply = authorized(asking, settings, &request_id, |now| status_request(settings, &request_id, now)).await?;
    for change in changes(&seen(&reply), &request_id, &mut ordered.payments)? {
        accept(asking, settings, "bankintegration.status", &change.key, change.body.to_string().into_bytes()).await?;
    }
    Ok(())
}

async fn accept(asking: &Asking<'_>, settings: &Settings, event_type: &str, key: &str, body: Vec<u8>) -> Result<(), Outcome> {
    let base = settings.base_url.as_str().trim_end_matches('/').into();
    asking.accept(Fetched { event_type: Some(event_type.into()), base, body: body.into(), key: key.as_bytes().to_vec() }).await?;
    Ok(())
}

/// Asks under a request id of its own.
async fn ask(
    asking: &Asking<'_>,
    settings: &Settings,
    request: impl Fn(&str, Timestamp) -> Result<Request, String>,
) -> Result<Reply, Outcome> {
    let id = asking.shared.ids.mint(asking.shared.clock.now()).to_string();
    authorized(asking, settings, &id, |now| request(&id, now)).await
}

/// Signs and asks; a refused authorization is made anew once.
async fn authorized(
    asking: &Asking<'_>,
    settings: &Settings,
    id: &str,
    request: impl Fn(Timestamp) -> Result<Request, String>,
) -> Result<Reply, Outcome> {
    for again in [false, true] {
        let reply = asking.ask(request(asking.shared.clock.now()).map_err(retry)?).await?;
        let outcome = judge(&seen(&reply), id, settings, again);
        match outcome.verdict {
            Verdict::Delivered => return Ok(reply),
            Verdict::Reauthorize => {}
            Verdict::Retry { .. } | Verdict::Rejected | Verdict::Pause => return Err(with_retry_after(outcome, &reply)),
        }
    }
    Err(retry("the authorization is refused again and again"))
}

/// The day, in UTC.
fn day(now: Timestamp) -> Result<Date, Outcome> {
    let now = jiff::Timestamp::from_millisecond(now.millis()).map_err(|_error| retry("this machine's clock shows no date"))?;
    Ok(jiff::tz::Offset::UTC.to_datetime(now).date())
}
