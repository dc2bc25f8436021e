//! Whether the wall clock is believed where a delivery's age decides over its life.
//!
//! Ages are told by the wall clock, for they outlive the process. A clock that was set hours ahead would make
//! every delivery look too old at its next failure, so after a jump against the boot clock nothing dies of age
//! until both have gone together for a while.

use std::time::Duration;

use super::moment::Moment;
use crate::model::Timestamp;

/// A disagreement beyond this is a jump; less is a clock being kept right.
const JUMP_MIN: Duration = Duration::from_secs(3600);

/// For so long the clocks must have gone together before the wall clock is believed again.
const AGREEMENT: Duration = Duration::from_secs(600);

/// The two clocks, as they stood together at some time.
#[derive(Debug, Clone, Copy)]
pub(super) struct WallTrust {
    wall: Timestamp,
    boot: Moment,
    /// Not believed before this moment.
    from: Moment,
}

impl WallTrust {
    /// The clocks as they stand now; believed.
    pub(super) fn new(wall: Timestamp, boot: Moment) -> Self {
        Self { wall, boot, from: boot }
    }

    /// Looks at both clocks again. `true`: the wall clock is believed.
    pub(super) fn look(&mut self, wall: Timestamp, boot: Moment) -> bool {
        let expected = self.wall.saturating_add(boot.since(self.boot));
        let off = wall.since(expected).max(expected.since(wall));
        if off > JUMP_MIN {
            tracing::warn!(off_s = off.as_secs(), "the wall clock has jumped; nothing dies of age for the next {} s", AGREEMENT.as_secs());
            self.from = boot.after(AGREEMENT);
        }
        // Small corrections are followed, or a slow drift would add up to a jump.
        (self.wall, self.boot) = (wall, boot);
        boot >= self.from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::at(Duration::from_secs(seconds))
    }

    fn wall(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn a_jump_either_way_is_not_believed_for_ten_minutes() {
        for jump in [7200, -7200] {
            let mut trust = WallTrust::new(wall(100_000), at(0));
            assert!(trust.look(wall(100_050), at(50)));
            assert!(!trust.look(wall(100_060 + jump), at(60)));
            assert!(!trust.look(wall(100_659 + jump), at(659)));
            assert!(trust.look(wall(100_660 + jump), at(660)));
        }
    }

    #[test]
    fn drift_is_followed() {
        let mut trust = WallTrust::new(wall(0), at(0));
        for hour in 1..100 {
            assert!(trust.look(wall(hour * 3900), at(hour.unsigned_abs() * 3600)), "five minutes an hour");
        }
    }
}
