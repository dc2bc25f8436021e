//! Holding an event in memory while a replay of it is on its way.

use super::{EventId, Table};

/// What came of pinning an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store::local) enum Pin {
    /// It stays in memory.
    Held,
    /// It is not in memory.
    Elsewhere,
    /// Its segment is about to go.
    Gone,
}

impl Table {
    /// Holds an event in memory until a replay of it is applied or given up.
    pub(in crate::store::local) fn pin(&mut self, id: EventId) -> Pin {
        let Some(meta) = self.get(id) else { return Pin::Elsewhere };
        let Some(usage) = self.usage.get_mut(&meta.place.segment).filter(|usage| !usage.leaving) else { return Pin::Gone };
        usage.pins += 1;
        *self.pins.entry(meta.sequence).or_default() += 1;
        Pin::Held
    }

    /// Gives up a pin.
    pub(in crate::store::local) fn unpin(&mut self, id: EventId) {
        let Some(meta) = self.get(id) else { return };
        let Some(pins) = self.pins.get_mut(&meta.sequence) else { return };
        *pins -= 1;
        if *pins == 0 {
            self.pins.remove(&meta.sequence);
        }
        if let Some(usage) = self.usage.get_mut(&meta.place.segment) {
            usage.pins = usage.pins.saturating_sub(1);
        }
    }
}
