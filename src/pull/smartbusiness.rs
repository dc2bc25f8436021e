//! A list of SmartBusiness: all of it each time, as the vendor tells of no change; what is known is passed over.

use tokio::time::sleep;

use super::known::Known;
use super::source::{Asking, retry, seen, with_retry_after};
use crate::accept::Fetched;
use crate::connectors::smartbusiness::{Item, Poll, Settings, judge, rate_limit};
use crate::connectors::{Outcome, Verdict};
use crate::egress::Reply;

/// Polls once.
pub(super) async fn poll(asking: &Asking<'_>, settings: &Settings) -> Result<(), Outcome> {
    let store = &*asking.shared.store;
    let mut known = Known::read(store, &asking.route.name).await.map_err(|error| retry(error.to_string()))?;
    let Some(mut poll) = Poll::new(settings) else { return Ok(()) };
    let base = settings.base_url.as_str().trim_end_matches('/');
    let mut listed: Vec<Vec<u8>> = Vec::new();
    while let Some(reply) = page(asking, settings, &poll).await? {
        for Item { key, body } in poll.take(&seen(&reply))? {
            let key = key.into_bytes();
            if !known.holds(&key) {
                asking.accept(Fetched { event_type: None, base: base.into(), body: body.into(), key: key.clone() }).await?;
            }
            listed.push(key);
        }
        if let Some(hold) = rate_limit(&reply.headers).and_then(|limit| limit.hold()) {
            sleep(hold).await;
        }
    }
    known.replace(store, listed.iter().map(Vec::as_slice)).await.map_err(|error| retry(error.to_string()))
}

/// The next page; a refused token is made anew once.
async fn page(asking: &Asking<'_>, settings: &Settings, poll: &Poll<'_>) -> Result<Option<Reply>, Outcome> {
    for again in [false, true] {
        let access = asking.access(asking.who(settings)).await?;
        let Some(request) = poll.request(&access).map_err(retry)? else { return Ok(None) };
        let reply = asking.ask(request).await?;
        let outcome = judge(&seen(&reply), false, again);
        match outcome.verdict {
            Verdict::Delivered => return Ok(Some(reply)),
            Verdict::Reauthorize => asking.refused(asking.who(settings), &access).await,
            Verdict::Retry { .. } | Verdict::Rejected | Verdict::Pause => return Err(with_retry_after(outcome, &reply)),
        }
    }
    Err(retry("the access token is refused again and again"))
}
