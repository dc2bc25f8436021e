//! Which records travel together, and what becomes of each when PayJoe refuses a batch. Pure.

use std::ops::Range;

use crate::connectors::{Outcome, Verdict};

/// Groups records of these lengths: at most `count_max` and, together, `bytes_max` in each group, in their order. A record
/// that is longer than that by itself stands alone.
pub fn batches(lengths: &[usize], count_max: usize, bytes_max: usize) -> Vec<Range<usize>> {
    let mut groups = Vec::new();
    let mut start = 0;
    let mut bytes: usize = 0;
    for (at, length) in lengths.iter().enumerate() {
        let together = bytes.saturating_add(*length);
        if at > start && (at - start >= count_max.max(1) || together > bytes_max) {
            groups.push(start..at);
            start = at;
            bytes = *length;
        } else {
            bytes = together;
        }
    }
    if start < lengths.len() {
        groups.push(start..lengths.len());
    }
    groups
}

/// The way of one batch: what to upload next, and what has become of each record so far. A refused part is split in halves
/// until a refused record stands alone, which takes at most 2n - 1 uploads for n records.
#[derive(Debug)]
pub struct Plan {
    /// Parts still to upload, the next one last.
    parts: Vec<Range<usize>>,
    outcomes: Vec<Option<Outcome>>,
}

impl Plan {
    /// A batch of so many records, to be uploaded whole at first.
    pub fn new(records: usize) -> Self {
        let whole = (records > 0).then_some(0..records);
        Self { parts: whole.into_iter().collect(), outcomes: vec![None; records] }
    }

    /// The records to upload next; `None` when each has its outcome.
    pub fn next(&self) -> Option<Range<usize>> {
        self.parts.last().cloned()
    }

    /// What the upload of [`next`](Self::next) came to.
    pub fn take(&mut self, outcome: &Outcome) {
        let Some(part) = self.parts.pop() else { return };
        match outcome.verdict {
            Verdict::Rejected if part.len() > 1 => {
                let middle = part.start + part.len() / 2;
                self.parts.push(middle..part.end);
                self.parts.push(part.start..middle);
            }
            Verdict::Delivered | Verdict::Rejected => self.settle(part, outcome),
            // It is not about these records: the rest would fare no better just now.
            Verdict::Retry { .. } | Verdict::Pause | Verdict::Reauthorize => {
                self.settle(part, outcome);
                while let Some(rest) = self.parts.pop() {
                    self.settle(rest, outcome);
                }
            }
        }
    }

    fn settle(&mut self, part: Range<usize>, outcome: &Outcome) {
        for record in part {
            self.outcomes[record] = Some(outcome.clone());
        }
    }

    /// What became of each record, in their order; `None` while [`next`](Self::next) still names something.
    pub fn outcomes(self) -> Option<Vec<Outcome>> {
        self.outcomes.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Plays a batch against a system that refuses every upload that holds a bad record.
    fn play(records: usize, bad: &[usize]) -> (Vec<Outcome>, usize) {
        let mut plan = Plan::new(records);
        let mut uploads = 0;
        while let Some(part) = plan.next() {
            uploads += 1;
            let refused = bad.iter().any(|bad| part.contains(bad));
            plan.take(&if refused { Outcome::rejected("no") } else { Outcome::delivered() });
        }
        (plan.outcomes().unwrap(), uploads)
    }

    proptest! {
        #[test]
        fn exactly_the_bad_records_are_rejected(records in 0_usize..600, bad in prop::collection::vec(0_usize..600, 0..8)) {
            let (outcomes, uploads) = play(records, &bad);
            prop_assert_eq!(outcomes.len(), records);
            for (at, outcome) in outcomes.iter().enumerate() {
                prop_assert_eq!(outcome.verdict == Verdict::Rejected, bad.contains(&at));
            }
            prop_assert!(uploads <= (2 * records).saturating_sub(1));
        }

        #[test]
        fn groups_hold_every_record_once_in_order_within_both_limits(
            lengths in prop::collection::vec(0_usize..100, 0..200), count in 1_usize..20, bytes in 1_usize..500,
        ) {
            let groups = batches(&lengths, count, bytes);
            prop_assert_eq!(groups.iter().cloned().flatten().collect::<Vec<_>>(), (0..lengths.len()).collect::<Vec<_>>());
            for group in groups {
                let sum: usize = lengths[group.clone()].iter().sum();
                prop_assert!(group.len() <= count && (sum <= bytes || group.len() == 1));
            }
        }
    }

    #[test]
    fn one_bad_record_of_500_is_found_in_few_uploads() {
        let (outcomes, uploads) = play(500, &[317]);
        assert_eq!(outcomes.iter().filter(|outcome| outcome.verdict == Verdict::Rejected).count(), 1);
        assert!(uploads <= 19, "{uploads}");
    }

    #[test]
    fn a_passing_fault_ends_the_plan_and_touches_nothing_that_is_settled() {
        for fault in [Outcome::retry("503"), Outcome::pause("401")] {
            let mut plan = Plan::new(4);
            plan.take(&Outcome::rejected("no"));
            assert_eq!(plan.next(), Some(0..2));
            plan.take(&Outcome::delivered());
            plan.take(&fault);
            assert_eq!(plan.next(), None);
            let outcomes = plan.outcomes().unwrap();
            assert_eq!(outcomes, [Outcome::delivered(), Outcome::delivered(), fault.clone(), fault]);
        }
        assert_eq!(Plan::new(2).outcomes(), None);
        assert_eq!(Plan::new(0).outcomes(), Some(vec![]));
    }
}
