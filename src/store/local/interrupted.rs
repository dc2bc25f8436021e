//! Which deliveries are in flight, in a small side file (rule 9).
//!
//! It keeps an event whose delivery kills the process from doing so for ever, which a power cut may forget. It is synced
//! only for attempts whose answers mean something else after one that may have arrived. The file is a row of slots of 32
//! bytes; a free one is zeros.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use bytes::BufMut;
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use super::codec::Cursor;
use super::disk::DiskFile;
use crate::model::{DeliveryId, EventId};

/// Most deliveries that are noted; more in flight at once go unnoted.
pub(super) const SLOTS_MAX: usize = 4096;

const SLOT: usize = 32;

/// Interrupted attempts in a row after which a delivery is dead.
pub(super) const INTERRUPTED_MAX: u8 = 3;

/// How long an interrupted delivery waits, by how often it was interrupted.
pub(super) fn backoff(interrupted: u8) -> Duration {
    Duration::from_secs(5 * 6_u64.pow(u32::from(interrupted.saturating_sub(1).min(2))))
}

#[derive(Debug, Default)]
struct Slots {
    taken: HashMap<DeliveryId, usize>,
    free: Vec<usize>,
    used: usize,
}

/// The side file.
pub(super) struct InFlight<F> {
    file: F,
    slots: Mutex<Slots>,
}

impl<F: DiskFile> InFlight<F> {
    pub(super) fn new(file: F) -> Self {
        Self { file, slots: Mutex::default() }
    }

    /// The deliveries that were in flight when the process ended, and their versions.
    pub(super) async fn left(&self) -> io::Result<Vec<(DeliveryId, u32)>> {
        let length = usize::try_from(self.file.length().await?).unwrap_or(usize::MAX).min(SLOTS_MAX * SLOT);
        let mut bytes = vec![0; length];
        self.file.read_at(0, &mut bytes).await?;
        let mut left: Vec<(DeliveryId, u32)> = bytes.chunks_exact(SLOT).filter_map(decode).collect();
        left.sort_unstable();
        left.dedup();
        Ok(left)
    }

    /// Forgets all of them.
    pub(super) async fn clear(&self) -> io::Result<()> {
        let length = usize::try_from(self.file.length().await?).unwrap_or(usize::MAX).min(SLOTS_MAX * SLOT);
        self.file.write_at(0, &vec![0; length]).await
    }

    /// An attempt begins. It is noted before this returns, so that even an abort right after finds it noted.
    pub(super) fn begins(&self, delivery: DeliveryId, version: u32) {
        let mut slots = self.slots.lock();
        if slots.taken.contains_key(&delivery) {
            return;
        }
        let slot = slots.free.pop().or_else(|| {
            let next = slots.used;
            (next < SLOTS_MAX).then(|| {
                slots.used += 1;
                next
            })
        });
        if let Some(slot) = slot {
            slots.taken.insert(delivery, slot);
            self.note(slot, &encode(delivery, version));
        }
    }

    /// Makes what was noted durable.
    pub(super) async fn keep(&self) -> io::Result<()> {
        self.file.sync_data().await
    }

    /// The attempt is over.
    pub(super) fn ends(&self, delivery: DeliveryId) {
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.taken.remove(&delivery) {
            slots.free.push(slot);
            self.note(slot, &[0; SLOT]);
        }
    }

    fn note(&self, slot: usize, bytes: &[u8]) {
        if let Err(error) = self.file.note_at((slot * SLOT) as u64, bytes) {
            tracing::debug!(%error, "the side file of attempts in flight can't be written");
        }
    }
}

fn encode(delivery: DeliveryId, version: u32) -> Vec<u8> {
    let mut slot = Vec::with_capacity(SLOT);
    slot.put_u128_le(delivery.event.to_bits());
    slot.put_u32_le(delivery.ordinal);
    slot.put_u32_le(version.saturating_add(1));
    slot.put_u64_le(xxh3_64(&slot));
    slot
}

fn decode(slot: &[u8]) -> Option<(DeliveryId, u32)> {
    let mut cursor = Cursor::new(slot);
    let event = EventId::from_bits(cursor.u128().ok()?);
    let ordinal = cursor.u32().ok()?;
    let version = cursor.u32().ok()?.checked_sub(1)?;
    let sound = cursor.u64().ok()? == xxh3_64(&slot[..SLOT - 8]);
    sound.then(|| (DeliveryId::new(event, ordinal), version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_reads_back_and_a_free_or_torn_one_is_nothing() {
        let delivery = DeliveryId::new(EventId::from_bits(7), 3);
        let slot = encode(delivery, 4);
        assert_eq!(slot.len(), SLOT);
        assert_eq!(decode(&slot), Some((delivery, 4)));
        assert_eq!(decode(&[0; SLOT]), None);
        let mut torn = slot;
        torn[0] ^= 1;
        assert_eq!(decode(&torn), None);
    }
}
