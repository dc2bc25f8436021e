//! One payment request to BankIntegration.dk, signed for each attempt.

use std::sync::Arc;

use super::{Ended, Exchanged, Job, Tools, outbound_of};
use crate::config::{BankReport, Pull, Route, Source};
use crate::connectors::Verdict;
use crate::connectors::bankintegration::{FOLLOWED_MAX, Ordered, Payment, Settings, judge_payment, state_prefix};
use crate::egress::Reply;
use crate::model::Event;

/// Sends once; a refused authorization is made anew once, at once.
pub(super) async fn send(tools: &Tools, job: &Job, settings: &Settings, event: &Event) -> Result<Exchanged, Ended> {
    let payment = Payment::new(&event.body, event.id).map_err(|problem| Ended::Unmade(problem.reason()))?;
    let follows = follow(tools, job, settings, &payment).await?;
    let mut again = false;
    loop {
        let request = payment.request(settings, tools.clock.now()).map_err(Ended::Unmade)?;
        let result = tools.transport.send(outbound_of(request, &job.destination)).await;
        let mut exchanged = Exchanged::plain(result).judge(|reply| judge_payment(reply, &payment, settings, again));
        if !again && exchanged.judged.as_ref().is_some_and(|outcome| outcome.verdict == Verdict::Reauthorize) {
            again = true;
            continue;
        }
        if let Ok(Reply { body, .. }) = &mut exchanged.result {
            *body = settings.clean(body).into();
        }
        if let (Some(name), Some(Verdict::Rejected)) = (&follows, exchanged.judged.as_ref().map(|outcome| outcome.verdict)) {
            // Nothing was ordered, so nothing is followed; what is left of it would be found out at the next poll.
            drop(tools.store.set_state(name.clone(), None).await);
        }
        return Ok(exchanged);
    }
}

/// Notes what is ordered before it is, where a route fetches its status: what was ordered is never forgotten. The name
/// of the note.
async fn follow(tools: &Tools, job: &Job, settings: &Settings, payment: &Payment) -> Result<Option<String>, Ended> {
    let is_ours = |settings: &Settings, other: &Settings| settings.account == other.account && settings.base_url == other.base_url;
    let asks = |route: &Arc<Route>| match route.pull.as_deref() {
        Some(Pull { source: Source::BankIntegration { settings: other, report: BankReport::Status }, .. }) => is_ours(settings, other),
        Some(_) | None => false,
    };
    if !job.config.routes.iter().any(asks) {
        return Ok(None);
    }
    let ids = payment.transactions.iter().map(|transaction| transaction.payment_id.clone());
    let ordered = Ordered::new(&payment.request_id, ids, tools.clock.now());
    let name = ordered.state_name(&settings.account);
    let followed = tools.store.states(&state_prefix(&settings.account)).await.map_err(|error| Ended::NotNow(error.to_string()))?;
    if followed.contains_key(&name) {
        // An earlier attempt may have ordered it: what comes of this one must not end that note.
        return Ok(None);
    }
    if followed.len() >= FOLLOWED_MAX {
        tracing::warn!(event.id = %job.pending.id.event, "the status of {FOLLOWED_MAX} requests is followed already: that of this one is not");
        return Ok(None);
    }
    let noted = tools.store.set_state(name.clone(), Some(ordered.to_bytes().into())).await;
    noted.map_err(|error| Ended::NotNow(error.to_string()))?;
    Ok(Some(name))
}
