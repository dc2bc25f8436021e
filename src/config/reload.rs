//! What a reload may not change, and what it takes away.

use std::collections::BTreeMap;
use std::time::Duration;

use super::units::{show_duration, show_size};
use super::{Config, Loaded};
use crate::document::{Node, Problem, Span};
use crate::model::{Name, Secret};

/// The settings that are fixed while the process runs.
const FIXED: [&str; 7] =
    ["server.listen", "admin.listen", "store.path", "store.retention", "store.max_size", "store.key", "store.allow_file_systems"];

/// Where the fixed settings stand in this tree; one that is left out stands where its section does.
pub(super) fn places(tree: &Node) -> BTreeMap<&'static str, Span> {
    let place = |path: &&'static str| {
        let section = path.split('.').next().and_then(|name| tree.get(name))?;
        let setting = path.split('.').nth(1).and_then(|name| section.get(name));
        Some((*path, setting.unwrap_or(section).span))
    };
    FIXED.iter().filter_map(place).collect()
}

/// Why this change can't be made while running: one problem per setting. With one of them the whole reload is
/// refused and the old configuration stays.
pub fn reload_refusals(old: &Config, loaded: &Loaded) -> Vec<Problem> {
    let new = &loaded.config;
    let age = |age: Duration| show_duration(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    let changed = [
        ("server.listen", old.server.listen != new.server.listen, format!("{} → {}", old.server.listen, new.server.listen)),
        ("admin.listen", old.admin.listen != new.admin.listen, format!("{} → {}", old.admin.listen, new.admin.listen)),
        ("store.path", old.store.path != new.store.path, format!("{} → {}", old.store.path.display(), new.store.path.display())),
        (
            "store.retention",
            old.store.retention != new.store.retention,
            format!("{} → {}", age(old.store.retention), age(new.store.retention)),
        ),
        (
            "store.max_size",
            old.store.max_size != new.store.max_size,
            format!("{} → {}", show_size(old.store.max_size), show_size(new.store.max_size)),
        ),
        ("store.key", differ(old.store.key.as_ref(), new.store.key.as_ref()), "another key".to_owned()),
        (
            "store.allow_file_systems",
            old.store.allow_file_systems != new.store.allow_file_systems,
            format!("[{}] → [{}]", old.store.allow_file_systems.join(", "), new.store.allow_file_systems.join(", ")),
        ),
    ];
    changed
        .into_iter()
        .filter(|(_, differs, _)| *differs)
        .map(|(path, _, change)| {
            Problem::new(loaded.fixed.get(path).copied().unwrap_or_default(), path, format!("restart needed for this change ({change})"))
        })
        .collect()
}

fn differ(old: Option<&Secret>, new: Option<&Secret>) -> bool {
    old.map(Secret::expose) != new.map(Secret::expose)
}

/// Destinations that are no longer there: what is pending for them ends dead with that reason.
pub fn removed_destinations(old: &Config, new: &Config) -> Vec<Name> {
    old.destinations.keys().filter(|name| !new.destinations.contains_key(*name)).cloned().collect()
}
