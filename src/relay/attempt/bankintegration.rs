//! One payment request to BankIntegration.dk, signed for each attempt.

use super::{Ended, Exchanged, Job, Tools, outbound_of};
use crate::connectors::Verdict;
use crate::connectors::bankintegration::{Payment, Settings, judge_payment};
use crate::egress::Reply;
use crate::model::Event;

/// Sends once; a refused authorization is made anew once, at once.
pub(super) async fn send(tools: &Tools, job: &Job, settings: &Settings, event: &Event) -> Result<Exchanged, Ended> {
    let payment = Payment::new(&event.body, event.id).map_err(|problem| Ended::Unmade(problem.reason()))?;
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
        return Ok(exchanged);
    }
}
