//! Where the random part of event ids comes from.

use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::model::{EventId, Timestamp};

/// A source of event ids: a cryptographic generator, seeded by the machine in production and by a number in
/// simulations, which then mint the same ids every time.
#[derive(Clone)]
pub struct IdSource(Arc<Mutex<StdRng>>);

impl IdSource {
    /// A source seeded by the operating system.
    ///
    /// # Errors
    /// The operating system has no randomness to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut seed = <StdRng as SeedableRng>::Seed::default();
        getrandom::fill(&mut seed)?;
        Ok(Self(Arc::new(Mutex::new(StdRng::from_seed(seed)))))
    }

    /// A source that mints the same ids whenever it is seeded with the same number.
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// A fresh id.
    pub fn mint(&self, received_at: Timestamp) -> EventId {
        let mut random = [0; 16];
        self.0.lock().fill_bytes(&mut random);
        EventId::new(received_at, u128::from_le_bytes(random))
    }
}
