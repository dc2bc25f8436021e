//! The report of an event's result to d.velop, made of what the store says about its deliveries.

use std::collections::BTreeMap;

use super::earlier::{is_among, may_arrive_now};
use super::{Ended, Exchanged, Job, Tools, access, outbound_of, read};
use crate::connectors::dvelop::{self, Acknowledge, Failure, Report, judge_report, report_link, tenant_base};
use crate::egress::{Outbound, Reach};
use crate::model::{Delivery, DeliveryKind, DeliveryState, Name};
use crate::store::{EventRecord, PendingDelivery};

/// Reports once.
pub(super) async fn report(tools: &Tools, job: &Job, settings: &Acknowledge) -> Result<Exchanged, Ended> {
    let record = read(tools.store.record(job.pending.id.event).await)?;
    let event = &record.event;
    let tenant = tenant_base(&event.headers, &event.body);
    let link = report_link(&event.body, tenant.as_ref(), settings).map_err(|error| Ended::Unmade(error.to_string()))?;
    let is_report = |ordinal: u32| {
        let reports = |delivery: &Delivery| delivery.id.ordinal == ordinal && delivery.destination == job.pending.destination;
        record.deliveries.iter().any(reports)
    };
    let unknown = is_among(&record.attempts, |id| is_report(id.ordinal));
    if !unknown {
        may_arrive_now(tools).await?;
    }
    let request = dvelop::report(link, &result(&record, &job.pending, settings), tenant.as_ref(), settings);
    drop(record);
    let reach = Reach::Public(settings.allow_private.clone().into());
    let request = Outbound { reach, ..outbound_of(request, &job.destination) };
    Ok(access::send(tools, &job.destination, request).await.judge(|reply| judge_report(reply, unknown)))
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
