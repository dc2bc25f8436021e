//! A hint that something of an event was settled, for whoever waits for its outcome.
//!
//! What it came to stands in the store and is read there; a hint that nobody waits for is lost, and one too
//! many does no harm. Look at the store after asking for the watch, so that no hint comes in between.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::model::EventId;

/// Most events that are waited for at a time.
pub const WAITED_FOR_MAX: usize = 10_000;

/// Who waits for what. Clones share it.
#[derive(Clone, Default)]
pub struct Settled(Arc<Mutex<HashMap<EventId, watch::Sender<()>>>>);

/// A place in the queue for one event's hints; dropped, it is given up.
pub struct Waiting {
    settled: Settled,
    event: EventId,
    hints: watch::Receiver<()>,
}

impl Settled {
    /// Waits for hints about this event; none when too many events are waited for.
    pub fn wait_for(&self, event: EventId) -> Option<Waiting> {
        let mut waited_for = self.0.lock();
        if waited_for.len() >= WAITED_FOR_MAX && !waited_for.contains_key(&event) {
            return None;
        }
        let hints = waited_for.entry(event).or_insert_with(|| watch::Sender::new(())).subscribe();
        drop(waited_for);
        Some(Waiting { settled: self.clone(), event, hints })
    }

    /// A delivery of this event was settled, durably.
    pub fn hint(&self, event: EventId) {
        if let Some(waiting) = self.0.lock().get(&event) {
            waiting.send_replace(());
        }
    }

    /// How many events are waited for.
    pub fn waited_for(&self) -> usize {
        self.0.lock().len()
    }
}

impl Waiting {
    /// The next hint since the last one, or since the wait began.
    pub async fn hint(&mut self) {
        if self.hints.changed().await.is_err() {
            // Its sender lives as long as this does.
            std::future::pending().await
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut waited_for = self.settled.0.lock();
        if waited_for.get(&self.event).is_some_and(|sender| sender.receiver_count() <= 1) {
            waited_for.remove(&self.event);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_hint_reaches_everybody_who_waits_and_nobody_else() {
        let settled = Settled::default();
        let (one, other) = (EventId::from_bits(1), EventId::from_bits(2));
        let (mut first, mut second, mut third) =
            (settled.wait_for(one).unwrap(), settled.wait_for(one).unwrap(), settled.wait_for(other).unwrap());
        settled.hint(one);
        first.hint().await;
        second.hint().await;
        assert!(first.hint().now_or_never().is_none() && third.hint().now_or_never().is_none());
        drop(first);
        settled.hint(one);
        second.hint().await;
        drop((second, third));
        assert_eq!(settled.waited_for(), 0, "who waits no more is forgotten");
    }
}
