//! The end of the loop: what is under way finishes, or is given up in time.

use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::select;
use tokio::time::{Instant, sleep_until};

use super::Dispatcher;

/// The part of the grace period that is kept for settlements, after attempts that did not finish are given up.
const SETTLE_SHARE: u32 = 5;

/// No more than this is kept for settlements.
const SETTLE_MAX: Duration = Duration::from_secs(2);

impl Dispatcher {
    /// Starts nothing more, and ends once everything begun is settled or the grace period is over.
    pub(super) async fn drain(mut self, grace: Duration) {
        let end = Instant::now() + grace;
        let give_up = end - (grace / SETTLE_SHARE).min(SETTLE_MAX);
        self.commands.close();
        while let Ok(change) = self.commands.try_recv() {
            self.pausing.push(change);
        }
        loop {
            self.pausing.advance(&self.board.lock().pauses, &self.tools.store, &*self.tools.clock);
            if self.attempts.is_empty() && self.commits.is_empty() && self.pausing.is_idle() {
                return;
            }
            select! {
                biased;
                changed = self.pausing.changed() => self.paused(changed),
                Some(committed) = self.commits.next() => self.committed(committed),
                Some(ended) = self.attempts.join_next() => self.ended(ended),
                () = sleep_until(give_up), if !self.attempts.is_empty() => self.give_up(),
                () = sleep_until(end) => {
                    tracing::warn!(settlements = self.commits.len(), "settlements could not be stored in time; these deliveries will be repeated");
                    return;
                }
            }
        }
    }

    /// Abandons the attempts under way. They are simply due again, not interrupted: a stop is no crash. Only where an answer
    /// means something else after an attempt that may have arrived, the note of it stays for the next start.
    fn give_up(&mut self) {
        tracing::warn!(attempts = self.attempts.len(), "attempts did not finish in time; they will be made again");
        self.attempts = tokio::task::JoinSet::new();
        for (delivery, destination) in std::mem::take(&mut self.in_flight) {
            if !destination.target.is_judged_by_history() {
                self.tools.store.attempt_ends(delivery);
            }
        }
    }
}
