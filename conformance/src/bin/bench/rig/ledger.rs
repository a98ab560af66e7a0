//! Who has received what: every message once and in order.

use std::collections::HashSet;
use std::fmt;

/// What went wrong, counted in deliveries.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Faults {
    /// Never came.
    pub(crate) lost: u64,
    /// Came after a later one.
    pub(crate) misordered: u64,
    /// Came again.
    pub(crate) duplicated: u64,
    /// Came to somebody who had not subscribed to it.
    pub(crate) stray: u64,
    /// Connections that the broker closed, and acknowledgements and packets that are wrong.
    pub(crate) broken: u64,
    /// Times that nothing happened any more though something was due.
    pub(crate) stalled: u64,
}

impl Faults {
    pub(crate) fn any(&self) -> bool {
        *self != Faults::default()
    }

    pub(crate) fn add(&mut self, other: Faults) {
        self.lost += other.lost;
        self.misordered += other.misordered;
        self.duplicated += other.duplicated;
        self.stray += other.stray;
        self.broken += other.broken;
        self.stalled += other.stalled;
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            (self.lost, "lost"),
            (self.misordered, "out of order"),
            (self.duplicated, "doubled"),
            (self.stray, "to the wrong subscriber"),
            (self.broken, "connections or packets broken"),
            (self.stalled, "stalled"),
        ];
        let wrong: Vec<String> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        formatter.write_str(&wrong.join(", "))
    }
}

/// Stands for the next number of a stream that is not subscribed to.
const NOT_EXPECTED: u32 = u32::MAX;

/// The sequence numbers that one subscriber has seen, for each stream of its group.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// The number of the group's first stream.
    first: usize,
    /// The sequence number that comes next, by stream.
    next: Vec<u32>,
    /// Messages that have come or can no longer come in order.
    passed: u64,
    /// Those that were left out so far.
    missing: HashSet<(u32, u32)>,
    faults: Faults,
}

impl Ledger {
    /// Expects everything of `streams` streams from the `first` on.
    pub(crate) fn new(first: usize, streams: usize) -> Ledger {
        let (missing, faults) = (HashSet::new(), Faults::default());
        Ledger { first, next: vec![0; streams], passed: 0, missing, faults }
    }

    /// Expects only streams that are listed, counted from the `first`.
    pub(crate) fn only(first: usize, expected: &[u32]) -> Ledger {
        let begin = expected.iter().copied().min().unwrap_or(0);
        let end = expected.iter().copied().max().map_or(0, |last| last + 1);
        let mut ledger = Ledger::new(first + begin as usize, (end.max(begin) - begin) as usize);
        ledger.next.fill(NOT_EXPECTED);
        for &stream in expected {
            ledger.next[(stream - begin) as usize] = 0;
        }
        ledger
    }

    /// Enters one delivery.
    pub(crate) fn enter(&mut self, stream: u32, sequence: u32) {
        let at = (stream as usize).wrapping_sub(self.first);
        let Some(next) = self.next.get_mut(at).filter(|next| **next != NOT_EXPECTED) else {
            self.faults.stray += 1;
            return;
        };
        if sequence == *next {
            *next += 1;
            self.passed += 1;
        } else if sequence > *next {
            self.missing.extend((*next..sequence).map(|missing| (stream, missing)));
            self.passed += u64::from(sequence - *next) + 1;
            *next = sequence + 1;
        } else if self.missing.remove(&(stream, sequence)) {
            self.faults.misordered += 1;
        } else {
            self.faults.duplicated += 1;
        }
    }

    /// Messages that have come or can no longer come in order.
    pub(crate) fn passed(&self) -> u64 {
        self.passed
    }

    /// What is wrong when so many messages of each stream of the load should have come by now.
    pub(crate) fn faults(&self, sent: &[u32]) -> Faults {
        let sent = sent[self.first..].iter().zip(&self.next);
        let tail: u64 = sent
            .filter(|(_, next)| **next != NOT_EXPECTED)
            .map(|(sent, next)| u64::from(sent.saturating_sub(*next)))
            .sum();
        Faults { lost: self.missing.len() as u64 + tail, ..self.faults }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(deliveries: &[(u32, u32)]) -> Ledger {
        let mut ledger = Ledger::new(0, 2);
        for &(stream, sequence) in deliveries {
            ledger.enter(stream, sequence);
        }
        ledger
    }

    #[test]
    fn streams_are_ordered_each_for_itself() {
        let ledger = ledger(&[(0, 0), (1, 0), (1, 1), (0, 1)]);
        assert_eq!(ledger.passed(), 4);
        assert_eq!(ledger.faults(&[2, 2]), Faults::default());
    }

    #[test]
    fn a_gap_is_a_loss() {
        let ledger = ledger(&[(0, 0), (0, 2)]);
        assert_eq!(ledger.passed(), 3);
        assert_eq!(ledger.faults(&[3, 0]), Faults { lost: 1, ..Faults::default() });
    }

    #[test]
    fn a_missing_end_is_a_loss() {
        let ledger = ledger(&[(0, 0), (1, 0)]);
        assert_eq!(ledger.passed(), 2);
        assert_eq!(ledger.faults(&[1, 3]), Faults { lost: 2, ..Faults::default() });
    }

    #[test]
    fn a_second_copy_is_no_news() {
        let ledger = ledger(&[(0, 0), (0, 0)]);
        assert_eq!(ledger.passed(), 1);
        assert_eq!(ledger.faults(&[1, 0]), Faults { duplicated: 1, ..Faults::default() });
    }

    #[test]
    fn a_swap_is_out_of_order_and_not_lost() {
        let ledger = ledger(&[(0, 1), (0, 0)]);
        assert_eq!(ledger.passed(), 2);
        assert_eq!(ledger.faults(&[2, 0]), Faults { misordered: 1, ..Faults::default() });
    }

    #[test]
    fn what_was_not_subscribed_to_is_stray() {
        let mut ledger = Ledger::only(10, &[3, 1]);
        for stream in [9, 10, 11, 12, 13, 14] {
            ledger.enter(stream, 0);
        }
        let sent = vec![1; 15];
        assert_eq!(ledger.passed(), 2);
        assert_eq!(ledger.faults(&sent), Faults { stray: 4, ..Faults::default() });
        assert_eq!(Ledger::only(10, &[]).faults(&sent), Faults::default());
    }

    #[test]
    fn faults_are_named_as_far_as_there_are_any() {
        let faults = Faults { lost: 3, stalled: 1, ..Faults::default() };
        assert_eq!(faults.to_string(), "3 lost, 1 stalled");
        assert_eq!(Faults::default().to_string(), "");
    }
}
