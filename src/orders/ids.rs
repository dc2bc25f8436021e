//! Transaction ids that are made here: never the same twice, also after a crash.
//!
//! A durable counter is reserved in blocks; each number is mapped to an id by a multiplication that takes no two numbers
//! to the same one, so that ids don't tell how many orders there are.

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::Trouble;
use crate::connectors::inpasy::Lid;
use crate::store::Store;

const STATE: &str = "inpasy-ids";

/// Numbers that are reserved at a time; a crash leaves the rest of a block unused.
const BLOCK: u64 = 1000;

/// How many ids there are.
const IDS: u64 = 900_000_000_000;

/// Shares no divisor with [`IDS`], so the multiplication meets every id once.
const SPREAD: u128 = 370_370_370_371;

#[derive(Default)]
pub(super) struct Ids(Mutex<Option<Block>>);

struct Block {
    next: u64,
    end: u64,
    offset: u64,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    /// The first number that was never reserved.
    next: u64,
    /// Where this store's ids begin.
    offset: u64,
}

impl Ids {
    /// An id that was never given out before.
    pub(super) async fn next(&self, store: &dyn Store) -> Result<Lid, Trouble> {
        let mut held = self.0.lock().await;
        let block = match held.take().filter(|block| block.next < block.end) {
            Some(block) => block,
            None => reserve(store).await?,
        };
        let lid = id(block.next, block.offset);
        *held = Some(Block { next: block.next + 1, ..block });
        Ok(lid)
    }
}

async fn reserve(store: &dyn Store) -> Result<Block, Trouble> {
    let states = store.states(STATE).await?;
    let stored = states.get(STATE).and_then(|bytes| serde_json::from_slice(bytes).ok());
    let Stored { next, offset } = stored.unwrap_or_else(|| Stored { next: 0, offset: rand::random_range(0..IDS) });
    let end = next.saturating_add(BLOCK);
    let bytes = serde_json::to_vec(&Stored { next: end, offset }).unwrap_or_default();
    store.set_state(STATE.to_owned(), Some(bytes.into())).await?;
    Ok(Block { next, end, offset })
}

fn id(number: u64, offset: u64) -> Lid {
    let spread = u128::from(number) * SPREAD % u128::from(IDS);
    Lid::from_random((u64::try_from(spread).unwrap_or(0) + offset) % IDS)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::store::memory::MemoryStore;

    #[tokio::test]
    async fn no_id_is_given_out_twice_whatever_crashes() {
        let store = MemoryStore::new();
        let mut seen = BTreeSet::new();
        for life in 0..5 {
            let ids = Ids::default();
            for _ in 0..(700 + life * 300) {
                assert!(seen.insert(ids.next(&store).await.unwrap()), "given out twice");
            }
        }
    }

    #[test]
    fn the_multiplication_takes_no_two_numbers_to_one_id() {
        let divides = |divisor: u64| IDS.is_multiple_of(divisor) && SPREAD.is_multiple_of(u128::from(divisor));
        assert!(![2, 3, 5].into_iter().any(divides), "900,000,000,000 has the divisors 2, 3 and 5 only");
    }
}
