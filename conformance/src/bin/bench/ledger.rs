//! Who has received what: every message once and in order, and how far publishers may run ahead.

/// What went wrong, counted in deliveries.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Faults {
    /// Never came.
    pub(crate) lost: u64,
    /// Came again, or after a later one.
    pub(crate) misordered: u64,
    /// Connections that the broker closed, and acknowledgements and packets that are wrong.
    pub(crate) broken: u64,
}

impl Faults {
    pub(crate) fn any(&self) -> bool {
        *self != Faults::default()
    }

    pub(crate) fn add(&mut self, other: Faults) {
        self.lost += other.lost;
        self.misordered += other.misordered;
        self.broken += other.broken;
    }
}

/// The sequence numbers that one subscriber has seen, one for each publisher of its group.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// The number that comes next, by publisher.
    next: Vec<u64>,
    /// Deliveries that counted: the first of each message.
    pub(crate) received: u64,
    gaps: u64,
    misordered: u64,
}

impl Ledger {
    pub(crate) fn new(publishers: usize) -> Ledger {
        Ledger { next: vec![0; publishers], received: 0, gaps: 0, misordered: 0 }
    }

    /// Enters one delivery; whether it is news.
    pub(crate) fn enter(&mut self, publisher: usize, sequence: u64) -> bool {
        let Some(next) = self.next.get_mut(publisher) else {
            self.misordered += 1;
            return false;
        };
        if sequence < *next {
            self.misordered += 1;
            return false;
        }
        self.gaps += sequence - *next;
        *next = sequence + 1;
        self.received += 1;
        true
    }

    /// What is wrong when `sent` messages of each publisher should have come by now.
    pub(crate) fn faults(&self, sent: &[u64]) -> Faults {
        let tail: u64 =
            sent.iter().zip(&self.next).map(|(sent, next)| sent.saturating_sub(*next)).sum();
        Faults { lost: self.gaps + tail, misordered: self.misordered, broken: 0 }
    }

    /// Whether everything that is to come has come, or can no longer come in order.
    pub(crate) fn is_complete(&self, sent: &[u64]) -> bool {
        sent.iter().zip(&self.next).all(|(sent, next)| next >= sent)
    }

    /// Messages on their way when all publishers together have sent `total`.
    pub(crate) fn outstanding(&self, total: u64) -> u64 {
        total.saturating_sub(self.received + self.gaps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(deliveries: &[(usize, u64)]) -> Ledger {
        let mut ledger = Ledger::new(2);
        for &(publisher, sequence) in deliveries {
            ledger.enter(publisher, sequence);
        }
        ledger
    }

    #[test]
    fn publishers_are_ordered_each_for_itself() {
        let ledger = ledger(&[(0, 0), (1, 0), (1, 1), (0, 1)]);
        assert!(ledger.is_complete(&[2, 2]));
        assert_eq!(ledger.faults(&[2, 2]), Faults::default());
    }

    #[test]
    fn a_gap_is_a_loss() {
        let faults = ledger(&[(0, 0), (0, 2)]).faults(&[3, 0]);
        assert_eq!(faults, Faults { lost: 1, ..Faults::default() });
    }

    #[test]
    fn a_missing_end_is_a_loss() {
        let ledger = ledger(&[(0, 0), (1, 0)]);
        assert!(!ledger.is_complete(&[1, 3]));
        assert_eq!(ledger.faults(&[1, 3]), Faults { lost: 2, ..Faults::default() });
        assert_eq!(ledger.outstanding(4), 2);
    }

    #[test]
    fn a_second_copy_is_misordered() {
        let faults = ledger(&[(0, 0), (0, 0)]).faults(&[1, 0]);
        assert_eq!(faults, Faults { misordered: 1, ..Faults::default() });
    }

    #[test]
    fn a_swap_is_a_gap_and_misordered() {
        let faults = ledger(&[(0, 1), (0, 0)]).faults(&[2, 0]);
        assert_eq!(faults, Faults { lost: 1, misordered: 1, broken: 0 });
    }
}
