//! The pause between two batches in which more comes together.
//!
//! A batch costs a write, a sync and changes of threads, whatever it holds. A committer that takes the next one at once finds
//! what came during the sync. Where many callers wait for processors rather than for the disk that is little, and small
//! batches cost them the processors that they wait for. So it pauses for as long as the batch took that it has just
//! committed, and finds about twice as much. Where callers wait for nothing but the disk, those that were just answered
//! send again in the pause and share the next batch, instead of having to wait for the one behind it. A single caller
//! that comes after a crowd waits for the pause at most.

use std::time::Duration;

/// Entries of a batch that is followed by a pause. Of fewer callers nearly all wait for the next batch already.
const CROWD: usize = 12;

/// The longest pause, whatever the disk does.
const PAUSE_MAX: Duration = Duration::from_millis(2);

/// The pause after a batch of so many entries that took so long.
pub(super) fn pause(entries: usize, took: Duration) -> Option<Duration> {
    (entries >= CROWD).then(|| took.min(PAUSE_MAX)).filter(|pause| !pause.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_crowd_is_waited_for_and_never_for_long() {
        let (short, long) = (Duration::from_micros(300), Duration::from_secs(1));
        assert_eq!(pause(CROWD - 1, short), None);
        assert_eq!(pause(CROWD, short), Some(short));
        assert_eq!(pause(CROWD, long), Some(PAUSE_MAX));
        assert_eq!(pause(CROWD, Duration::ZERO), None);
    }
}
