//! Transfers of d.velop: page by page, each accepted before the next page is asked for.

use serde_json::Value;

use super::source::{Asking, seen, with_retry_after};
use crate::accept::Fetched;
use crate::connectors::Outcome;
use crate::connectors::dvelop::{Pull, Transfer, Walk};

/// Polls once.
pub(super) async fn poll(asking: &Asking<'_>, settings: &Pull) -> Result<(), Outcome> {
    let mut walk = Walk::new(settings);
    let base = settings.base_url.as_str().trim_end_matches('/');
    while let Some(request) = walk.request() {
        let reply = asking.ask(request).await?;
        let transfers = walk.take(&seen(&reply)).map_err(|outcome| with_retry_after(outcome, &reply))?;
        for Transfer { body, key } in transfers {
            let event_type = event_type(&body);
            asking.accept(Fetched { event_type, base: base.into(), body: body.into(), key }).await?;
        }
    }
    if walk.is_cut() {
        tracing::info!(route.name = %asking.route.name, "there are more pages than `max_pages`; the rest comes with the next poll");
    }
    Ok(())
}

/// What happened, as the transfer says it.
fn event_type(body: &[u8]) -> Option<Box<str>> {
    let transfer: Value = serde_json::from_slice(body).ok()?;
    transfer.get("event_type")?.as_str().map(Box::from)
}
