//! One request to SmartBusiness: its path is read from the event, its body is the event's or what `transform` made of it.

use parking_lot::Mutex;

use super::access::with_token;
use super::earlier::{may_arrive_now, may_have_arrived};
use super::{Ended, Exchanged, Job, Tools, outbound_of, unsendable};
use crate::connectors::smartbusiness::{Settings, judge, rate_limit};
use crate::model::Event;
use crate::tokens::Who;

/// Sends once. `event` is as it was accepted, `made` as it is to be delivered.
pub(super) async fn send(tools: &Tools, job: &Job, settings: &Settings, event: &Event, made: &Event) -> Result<Exchanged, Ended> {
    let Some(template) = &settings.request else { return Err(Ended::Unmade("the destination has no `request`".to_owned())) };
    let unknown = may_have_arrived(tools, &job.pending).await?;
    if !unknown {
        may_arrive_now(tools).await?;
    }
    // What keeps a request from being made would do so the next time too.
    let problem = Mutex::new(None);
    let who = Who {
        name: &job.destination.name,
        client: &settings.client,
        by_client: settings.by_client,
        refresh: settings.refresh_token.as_ref(),
    };
    let exchanged = with_token(tools, who, |access| {
        let request = template.request(&settings.base_url, made.body.clone(), access, |template| template.render_event(event));
        let request = request.map_err(|error| {
            let text = error.to_string();
            *problem.lock() = Some(text.clone());
            unsendable(text)
        })?;
        Ok(outbound_of(request, &job.destination))
    })
    .await;
    if let Some(problem) = problem.into_inner() {
        return Err(Ended::Unmade(problem));
    }
    let hold = exchanged.result.as_ref().ok().and_then(|reply| rate_limit(&reply.headers)?.hold());
    // A 401 that is left was given to a fresh token.
    let exchanged = exchanged.judge(|reply| judge(reply, unknown, true));
    Ok(Exchanged { hold, ..exchanged })
}
