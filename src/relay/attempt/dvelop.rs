//! The report of an event's result to d.velop, made of what the store says about its deliveries.

use std::collections::BTreeMap;

use super::{Ended, Exchanged, Job, Tools, attempt_timeout, authorize, read};
use crate::connectors::dvelop::{self, Acknowledge, Failure, Report, judge_report, report_link, tenant_base};
use crate::egress::{Outbound, Reach};
use crate::model::{Attempt, AttemptResult, Delivery, DeliveryKind, DeliveryState, FaultKind, Name};
use crate::store::{EventRecord, PendingDelivery};

/// Reports once.
pub(super) async fn report(tools: &Tools, job: &Job, settings: &Acknowledge) -> Result<Exchanged, Ended> {
    let record = read(tools.store.record(job.pending.id.event).await)?;
    let event = &record.event;
    let tenant = tenant_base(&event.headers, &event.body);
    let link = report_link(&event.body, tenant.as_ref(), settings).map_err(|error| Ended::Unmade(error.to_string()))?;
    let unknown = may_have_arrived(&record, &job.pending.destination);
    let request = dvelop::report(link, &result(&record, &job.pending, settings), tenant.as_ref(), settings);
    drop(record);
    let mut headers = request.headers;
    if let Some(auth) = &job.destination.auth
        && let Err(fault) = authorize(&mut headers, auth)
    {
        return Ok(Exchanged::plain(Err(fault)));
    }
    let sent = tools.transport.send(Outbound {
        method: request.method,
        url: request.url,
        headers,
        body: request.body,
        timeout: attempt_timeout(&job.destination),
        tls: None,
        reach: Reach::Public(settings.allow_private.clone().into()),
    });
    Ok(Exchanged::judged(sent.await, |reply| judge_report(reply, unknown)))
}

/// What there is to report. It is the same at every attempt: what it looks at was final when the report came to be.
fn result(record: &EventRecord, report: &PendingDelivery, settings: &Acknowledge) -> Report {
    let late = settings.continue_after_deadline && report.created_at >= settings.due(record.event.received_at);
    if late && report.kind == DeliveryKind::Acknowledgement {
        return Report::failed(&settings.texts, Failure::Deadline);
    }
    // Of several deliveries to one destination the last one counts: the others were replayed.
    let is_before = |delivery: &&Delivery| delivery.id.ordinal < report.id.ordinal && delivery.destination != report.destination;
    let newest: BTreeMap<&Name, &Delivery> =
        record.deliveries.iter().filter(is_before).map(|delivery| (&delivery.destination, delivery)).collect();
    let failure = newest.values().find_map(|delivery| match &delivery.state {
        DeliveryState::Dead(reason) => Some(Failure::Dead(reason)),
        DeliveryState::Cancelled => Some(Failure::Cancelled),
        DeliveryState::Pending { .. } => Some(Failure::Deadline),
        DeliveryState::Delivered | DeliveryState::Skipped => None,
    });
    failure.map_or(Report::Successful, |failure| Report::failed(&settings.texts, failure))
}

/// Whether an earlier report of this event ended without an answer, so that nobody knows whether it arrived.
fn may_have_arrived(record: &EventRecord, reports: &Name) -> bool {
    let is_report =
        |ordinal: u32| record.deliveries.iter().any(|delivery| delivery.id.ordinal == ordinal && delivery.destination == *reports);
    record.attempts.iter().any(|(id, attempt)| is_report(id.ordinal) && is_unanswered(attempt))
}

fn is_unanswered(attempt: &Attempt) -> bool {
    match &attempt.result {
        AttemptResult::Response { .. } => false,
        AttemptResult::Fault { kind, .. } => match kind {
            FaultKind::Timeout | FaultKind::Reset | FaultKind::Protocol | FaultKind::Interrupted => true,
            FaultKind::Dns | FaultKind::Connect | FaultKind::Tls | FaultKind::ForbiddenAddress | FaultKind::Unsendable => false,
        },
    }
}
