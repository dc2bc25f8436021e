//! One copy of each configured name, however many records mention it.

use std::collections::HashSet;

use foldhash::fast::RandomState;

use crate::model::Name;

/// Most names that are kept; a journal can't mention more routes and destinations than were ever configured,
/// and beyond this each mention simply gets its own copy.
const NAMES_MAX: usize = 10_000;

/// The names seen so far.
#[derive(Debug, Default)]
pub(super) struct Names(HashSet<Name, RandomState>);

impl Names {
    pub(super) fn get(&mut self, text: &str) -> Name {
        if let Some(name) = self.0.get(text) {
            return name.clone();
        }
        let name = Name::from(text);
        if self.0.len() < NAMES_MAX {
            self.0.insert(name.clone());
        }
        name
    }
}
