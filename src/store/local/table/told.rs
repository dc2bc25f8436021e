//! What a segment's footer tells, beside what is known now.

use super::Table;

impl Table {
    /// An empty table for what a segment tells: what stands there as it stands here is packed alike.
    pub(in crate::store::local) fn beside(&self) -> Self {
        Self { live: self.live.beside(), ..Self::default() }
    }

    /// Forgets the events that stand as their segment's footer tells them, `limit` of them from this accept sequence on;
    /// others go into the index in time. Where to go on; none at the end.
    pub(in crate::store::local) fn forget_told(&mut self, told: &Self, from: u64, limit: usize) -> Option<u64> {
        let mut last = None;
        let is_alike = self.live.packs_alike(&told.live);
        for (sequence, packed) in told.live.from(from).take(limit) {
            last = Some(sequence);
            let Some(now) = self.live.packed(sequence) else { continue };
            let is_same = if is_alike {
                now.is_same(packed)
            } else {
                self.live.unpack((sequence, now)).is_same(&told.live.unpack((sequence, packed)))
            };
            let is_pending = now.is_pending();
            if is_pending {
                if is_same {
                    self.live.mark_told(sequence);
                }
            } else if is_same && !self.pins.contains_key(&sequence) {
                self.forget(sequence);
            } else {
                self.to_index.insert(sequence);
            }
        }
        last.and_then(|last| last.checked_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DeliveryMeta, EventId, Meta, Place};
    use super::*;
    use crate::model::{DeliveryId, DeliveryKind, DeliveryState, Timestamp};
    use crate::store::NewDelivery;
    use crate::store::local::record::{Replayed, Settled};

    const SEGMENT: u64 = 7;

    fn event(sequence: u64, destination: &str, state: DeliveryState) -> Meta {
        let at = Timestamp::from_millis(1_795_000_000_000);
        let mut meta = Meta::new(EventId::new(at, sequence.into()), sequence, Place::new(SEGMENT, 4096, 600, 1024), "invoices".into(), at);
        meta.deliveries.push(DeliveryMeta {
            position: sequence,
            destination: destination.into(),
            lane: None,
            kind: DeliveryKind::Original,
            created_at: at,
            state,
            attempts: 1,
            version: 1,
            interrupted: 0,
        });
        meta
    }

    fn pending() -> DeliveryState {
        DeliveryState::Pending { due: Timestamp::from_millis(1_795_000_000_000) }
    }

    fn holding(events: Vec<Meta>) -> Table {
        let mut table = Table::default();
        table.begin(SEGMENT);
        events.into_iter().for_each(|event| table.put(event));
        table
    }

    fn forget(table: &mut Table, told: &Table) {
        let mut next = Some(0);
        while let Some(from) = next {
            next = table.forget_told(told, from, 2);
        }
    }

    #[test]
    fn what_stands_as_its_footer_tells_it_is_forgotten_and_what_has_changed_is_not() {
        let mut table = holding(vec![
            event(1, "erp", DeliveryState::Delivered),
            event(2, "erp", pending()),
            event(3, "crm", DeliveryState::Delivered),
            event(4, "crm", DeliveryState::Cancelled),
        ]);
        let mut told = table.beside();
        told.begin(SEGMENT);
        for state in [event(1, "erp", DeliveryState::Delivered), event(2, "erp", pending()), event(3, "crm", pending())] {
            told.put(state);
        }
        forget(&mut table, &told);
        assert!(!table.holds(1), "the footer tells it");
        assert!(table.live.is_told(2), "it waits, as the footer says");
        assert!(table.holds(3) && table.to_index.contains(&3), "it was delivered since: the index is to tell it");
        assert!(table.holds(4), "the footer says nothing of it");
    }

    #[test]
    fn names_that_were_numbered_otherwise_are_not_taken_for_each_other() {
        let mut table = holding(vec![event(1, "erp", DeliveryState::Delivered), event(2, "crm", DeliveryState::Delivered)]);
        // In this table `crm` has the number that `erp` has in the other one.
        let told = holding(vec![event(2, "crm", DeliveryState::Delivered), event(1, "crm", DeliveryState::Delivered)]);
        forget(&mut table, &told);
        assert!(table.holds(1) && table.to_index.contains(&1), "it went to another destination than the footer says");
        assert!(!table.holds(2));
    }

    /// Its delivery has been delivered.
    fn delivered(event: &Meta, ordinal: u32, version: u32) -> Settled {
        let (delivery, sequence, state) = (DeliveryId::new(event.id, ordinal), event.sequence, DeliveryState::Delivered);
        Settled { delivery, sequence, version, attempts: 1, state, attempt: None }
    }

    #[test]
    fn what_changed_while_the_index_was_written_is_written_again() {
        let event = event(1, "erp", pending());
        let mut table = holding(vec![event.clone()]);
        table.seal(SEGMENT, 0);
        let place = Place::new(SEGMENT, 8192, 64, 0);
        assert!(table.settle(&delivered(&event, 0, 2), place));
        let written = table.to_index(9);
        assert_eq!(written.len(), 1);
        // A replay comes and ends meanwhile: nothing is pending, and the index knows nothing of it.
        let new = NewDelivery { destination: "erp".into(), lane: None, due: event.received_at };
        let replay = Replayed {
            event: event.id,
            kind: DeliveryKind::Replay,
            sequence: event.sequence,
            created_at: event.received_at,
            first_position: 2,
            first_ordinal: 1,
            deliveries: vec![new],
        };
        assert!(table.add_replay(replay) && table.settle(&delivered(&event, 1, 1), place));
        table.indexed(&written[0]);
        let again = table.to_index(9);
        assert_eq!(again.iter().map(|meta| meta.deliveries.len()).collect::<Vec<_>>(), [2]);
        table.indexed(&again[0]);
        assert!(table.get(event.id).is_none() && table.to_index(9).is_empty());
    }
}
