//! The confirmation of a subscription to a topic of Amazon SNS.

use super::{Ended, Exchanged, Job, Tools, access, outbound_of, read};
use crate::connectors::sns::{self, Confirm, judge_confirmation};
use crate::egress::{Outbound, Reach};

/// Confirms once. The link is a payload's, so it leads to a public address, unless the operator says where the topic is.
pub(super) async fn confirm(tools: &Tools, job: &Job, settings: &Confirm) -> Result<Exchanged, Ended> {
    let event = read(tools.store.event(job.pending.id.event).await)?;
    let request = sns::confirmation(&event.body, settings).map_err(|error| Ended::Unmade(error.to_string()))?;
    let reach = if settings.endpoint.is_some() { Reach::Anywhere } else { Reach::Public([].into()) };
    let request = Outbound { reach, ..outbound_of(request, &job.destination) };
    Ok(access::send(tools, &job.destination, request).await.judge(judge_confirmation))
}
