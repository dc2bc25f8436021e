//! `when` and `transform` of one delivery: whether it goes, and with which body.

use std::sync::Arc;

use http::header::{
    CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LOCATION, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED,
};
use http::{HeaderName, HeaderValue};

use super::{Ended, body};
use crate::config::DeliverTo;
use crate::jq::{Engine, Failure, Made, Programs, Step, Task};
use crate::model::Event;

/// Headers that tell about the sender's own body, and would tell lies about another.
fn is_about_the_body(name: &HeaderName) -> bool {
    const NAMES: [HeaderName; 8] =
        [CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LOCATION, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED];
    NAMES.contains(name) || matches!(name.as_str(), "content-md5" | "content-digest" | "repr-digest" | "digest")
}

/// Whether this delivery has any.
pub(super) fn are_in(deliver: &DeliverTo) -> bool {
    deliver.when.is_some() || deliver.transform.is_some()
}

/// The event as it is to be delivered; an error where it is not to be, or not now.
pub(super) async fn apply(jq: &dyn Engine, programs: &Arc<Programs>, deliver: &DeliverTo, event: Event) -> Result<Event, Ended> {
    let task = Task { when: deliver.when.map(|when| when.id), transform: deliver.transform.map(|transform| transform.id) };
    let seen = body::json(&event).map_err(|_error| Ended::Unmade("the event can't be written as JSON".to_owned()))?;
    match jq.run(programs, task, seen.into()).await {
        Ok(Made::Skipped) => Err(Ended::Skipped),
        Ok(Made::Unchanged) => Ok(event),
        Ok(Made::Body(made)) => {
            let mut event = Event { body: made, ..event };
            let stale: Vec<HeaderName> = event.headers.keys().filter(|name| is_about_the_body(name)).cloned().collect();
            for name in stale {
                event.headers.remove(name);
            }
            event.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            Ok(event)
        }
        Err(Failure::Program { step, text }) => {
            let program = match step {
                Step::When => deliver.when,
                Step::Transform => deliver.transform,
            };
            let line = program.map_or(0, |program| program.line);
            Err(Ended::Unmade(format!("`{}` in line {line} {text}", step.word())))
        }
        Err(Failure::Unavailable(why)) => Err(Ended::NotNow(format!("no jq process: {why}"))),
    }
}
