//! Which route a raw path is. Nothing is normalised: `%2e`, `//`, case and a trailing slash make another path.

use std::sync::Arc;

use crate::config::{Config, PathPattern, Route, Segment};

/// The route whose path this is.
pub(super) fn route_for<'a>(config: &'a Config, raw_path: &[u8]) -> Option<&'a Arc<Route>> {
    config.routes.iter().find(|route| matches(&route.path, raw_path))
}

fn matches(pattern: &PathPattern, raw_path: &[u8]) -> bool {
    let Some(rest) = raw_path.strip_prefix(b"/") else { return false };
    let mut parts = rest.split(|byte| *byte == b'/');
    let all = pattern.segments.iter().all(|segment| {
        parts.next().is_some_and(|part| match segment {
            Segment::Literal(text) => part == text.as_bytes(),
            Segment::Any(_) => !part.is_empty(),
        })
    });
    all && parts.next().is_none()
}
