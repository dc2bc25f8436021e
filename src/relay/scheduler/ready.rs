//! What may go next to one destination: by due time, live deliveries and replays in turn.

use std::collections::BTreeSet;

use crate::model::DeliveryKind;
use crate::relay::moment::Moment;

/// A waiting delivery: its due time, and its position among those of the same.
pub(super) type Place = (Moment, u64);

/// The waiting deliveries of one destination that are not behind another of their lane.
#[derive(Debug, Default)]
pub(super) struct Ready {
    live: BTreeSet<Place>,
    replays: BTreeSet<Place>,
    /// Whose turn it is where both have something due: neither a mass replay nor live traffic starves the other.
    replay_is_next: bool,
}

impl Ready {
    fn of(&mut self, kind: DeliveryKind) -> &mut BTreeSet<Place> {
        match kind {
            DeliveryKind::Original | DeliveryKind::Acknowledgement => &mut self.live,
            DeliveryKind::Replay => &mut self.replays,
        }
    }

    pub(super) fn insert(&mut self, kind: DeliveryKind, place: Place) {
        self.of(kind).insert(place);
    }

    pub(super) fn remove(&mut self, kind: DeliveryKind, place: Place) {
        self.of(kind).remove(&place);
    }

    /// One of this kind is about to start: the next turn is the other's.
    pub(super) fn starts(&mut self, kind: DeliveryKind) {
        self.replay_is_next = kind != DeliveryKind::Replay;
    }

    /// What is due first; replays count only where they may go.
    pub(super) fn first(&self, replays_may: bool) -> Option<Place> {
        let replay = self.replays.first().filter(|_| replays_may);
        self.live.first().into_iter().chain(replay).min().copied()
    }

    /// What is due and whose turn it is.
    pub(super) fn pick(&self, now: Moment, replays_may: bool) -> Option<Place> {
        let due = |place: &&Place| place.0 <= now;
        let live = self.live.first().filter(due);
        let replay = self.replays.first().filter(|_| replays_may).filter(due);
        let (first, second) = if self.replay_is_next { (replay, live) } else { (live, replay) };
        first.or(second).copied()
    }
}
