//! One lane of one destination: deliveries that go one after the other.

use std::collections::BTreeSet;

use super::ready::Place;

/// The deliveries of one lane.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// In their order; only the first may go.
    line: BTreeSet<u64>,
    /// Those that failed so often that they stepped out of the line and wait by themselves.
    out: BTreeSet<Place>,
    /// How many are under way or being settled: at most one, unless their destination was removed.
    pub(super) busy: usize,
    /// The one that stands in `Queue::ready` for the lane.
    pub(super) offered: Option<u64>,
}

impl Members {
    /// A delivery waits: in the line, or out of it.
    pub(super) fn wait(&mut self, place: Place, out: bool) {
        if out {
            self.line.remove(&place.1);
            self.out.insert(place);
        } else {
            self.out.remove(&place);
            self.line.insert(place.1);
        }
    }

    /// A delivery that was waiting is taken. It keeps its place in the line until it has left for good.
    pub(super) fn take(&mut self, place: Place) {
        self.out.remove(&place);
        self.busy += 1;
    }

    /// A delivery that was taken will not come back.
    pub(super) fn leave(&mut self, position: u64) {
        self.line.remove(&position);
    }

    /// Those of which one may go next: the first in the line, and the earliest of those out of it.
    pub(super) fn candidates(&self) -> (Option<u64>, Option<Place>) {
        if self.busy > 0 { (None, None) } else { (self.line.first().copied(), self.out.first().copied()) }
    }

    /// How many that came before this one still wait, out of the line.
    pub(super) fn overtaken_by(&self, position: u64) -> usize {
        self.out.iter().filter(|(_, other)| *other < position).count()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.line.is_empty() && self.out.is_empty() && self.busy == 0
    }
}
