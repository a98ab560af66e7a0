//! What the members of a shared subscription have received together: every message exactly once.

use std::collections::VecDeque;

use super::ledger::Faults;

/// The sequence numbers that came to any member.
#[derive(Debug)]
pub(crate) struct ShareLedger {
    /// The number of the group's first stream.
    first: usize,
    streams: Vec<Seen>,
    /// For each member and stream, the sequence number that may come next at the earliest.
    next: Vec<Vec<u32>>,
    passed: u64,
    faults: Faults,
}

/// The messages of one stream that have come.
#[derive(Debug, Default)]
struct Seen {
    /// All before this one have.
    base: u32,
    /// Which of those from `base` on have.
    beyond: VecDeque<bool>,
}

impl ShareLedger {
    pub(crate) fn new(first: usize, streams: usize, members: usize) -> ShareLedger {
        ShareLedger {
            first,
            streams: (0..streams).map(|_| Seen::default()).collect(),
            next: vec![vec![0; streams]; members],
            passed: 0,
            faults: Faults::default(),
        }
    }

    /// Enters a delivery to one member.
    pub(crate) fn enter(&mut self, member: usize, stream: u32, sequence: u32) {
        let at = (stream as usize).wrapping_sub(self.first);
        let Some(seen) = self.streams.get_mut(at) else {
            self.faults.stray += 1;
            return;
        };
        if !seen.enter(sequence) {
            self.faults.duplicated += 1;
            return;
        }
        self.passed += 1;
        // Each member gets what it gets of a publisher in order.
        let next = &mut self.next[member][at];
        if sequence < *next {
            self.faults.misordered += 1;
        } else {
            *next = sequence + 1;
        }
    }

    /// Messages that have come to a member.
    pub(crate) fn passed(&self) -> u64 {
        self.passed
    }

    /// What is wrong when so many messages of each stream of the load should have come by now.
    pub(crate) fn faults(&self, sent: &[u32]) -> Faults {
        let sent = sent[self.first..].iter().zip(&self.streams);
        let lost = sent.map(|(&sent, seen)| u64::from(sent).saturating_sub(seen.count())).sum();
        Faults { lost, ..self.faults }
    }
}

impl Seen {
    /// Whether it is news.
    fn enter(&mut self, sequence: u32) -> bool {
        let Some(at) = sequence.checked_sub(self.base).map(|at| at as usize) else { return false };
        if at >= self.beyond.len() {
            self.beyond.resize(at + 1, false);
        }
        if std::mem::replace(&mut self.beyond[at], true) {
            return false;
        }
        while self.beyond.front() == Some(&true) {
            self.beyond.pop_front();
            self.base += 1;
        }
        true
    }

    fn count(&self) -> u64 {
        u64::from(self.base) + self.beyond.iter().filter(|&&seen| seen).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(deliveries: &[(usize, u32)]) -> ShareLedger {
        let mut ledger = ShareLedger::new(0, 1, 2);
        for &(member, sequence) in deliveries {
            ledger.enter(member, 0, sequence);
        }
        ledger
    }

    #[test]
    fn members_need_not_take_turns() {
        let ledger = ledger(&[(1, 1), (0, 0), (1, 4), (0, 2), (0, 3)]);
        assert_eq!(ledger.passed(), 5);
        assert_eq!(ledger.faults(&[5]), Faults::default());
    }

    #[test]
    fn two_members_with_one_message_are_a_fault() {
        let faults = ledger(&[(0, 0), (1, 0), (0, 2), (1, 2)]).faults(&[3]);
        assert_eq!(faults, Faults { lost: 1, duplicated: 2, ..Faults::default() });
    }

    #[test]
    fn one_member_gets_its_messages_in_order() {
        let faults = ledger(&[(0, 1), (0, 0)]).faults(&[2]);
        assert_eq!(faults, Faults { misordered: 1, ..Faults::default() });
    }

    #[test]
    fn other_streams_are_stray() {
        let mut ledger = ShareLedger::new(3, 1, 1);
        ledger.enter(0, 2, 0);
        assert_eq!(ledger.faults(&[0, 0, 0, 0]), Faults { stray: 1, ..Faults::default() });
    }
}
