//! What a reload may not change, and what it takes away.

use super::Config;
use crate::document::{Problem, Span};
use crate::model::Name;

/// Why this change can't be made while running: one problem per setting. With one of them the whole reload is
/// refused and the old configuration stays.
pub fn reload_refusals(old: &Config, new: &Config) -> Vec<Problem> {
    let changed = [
        ("server.listen", old.server.listen != new.server.listen, format!("{} → {}", old.server.listen, new.server.listen)),
        ("admin.listen", old.admin.listen != new.admin.listen, format!("{} → {}", old.admin.listen, new.admin.listen)),
        ("store.path", old.store.path != new.store.path, format!("{} → {}", old.store.path.display(), new.store.path.display())),
        ("store.retention", old.store.retention != new.store.retention, format!("{:?} → {:?}", old.store.retention, new.store.retention)),
        ("store.max_size", old.store.max_size != new.store.max_size, format!("{} → {} bytes", old.store.max_size, new.store.max_size)),
    ];
    changed
        .into_iter()
        .filter(|(_, differs, _)| *differs)
        .map(|(path, _, change)| Problem::new(Span::default(), path, format!("restart needed for this change ({change})")))
        .collect()
}

/// Destinations that are no longer there: what is pending for them ends dead with that reason.
pub fn removed_destinations(old: &Config, new: &Config) -> Vec<Name> {
    old.destinations.keys().filter(|name| !new.destinations.contains_key(*name)).cloned().collect()
}
