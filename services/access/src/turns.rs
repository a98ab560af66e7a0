//! Who may do something at the same time as others, and who waits.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A bounded number of turns, with a bounded number of threads that wait for one.
#[derive(Debug)]
pub(crate) struct Turns {
    turns_max: usize,
    waiting_max: usize,
    taken: Mutex<Taken>,
    free: Condvar,
}

#[derive(Debug, Default)]
struct Taken {
    turns: usize,
    waiting: usize,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a Turns);

impl Turns {
    /// So many at a time, at least one.
    pub(crate) fn new(turns_max: usize, waiting_max: usize) -> Self {
        let turns_max = turns_max.max(1);
        Self { turns_max, waiting_max, taken: Mutex::default(), free: Condvar::new() }
    }

    /// A turn, now or when one is free; `None` if too many wait already, or none becomes free in time.
    pub(crate) fn take(&self, patience: Duration) -> Option<Turn<'_>> {
        let mut taken = self.taken();
        if taken.turns >= self.turns_max {
            if taken.waiting >= self.waiting_max {
                return None;
            }
            taken.waiting += 1;
            taken = self.wait(taken, patience);
            taken.waiting -= 1;
            if taken.turns >= self.turns_max {
                return None;
            }
        }
        taken.turns += 1;
        Some(Turn(self))
    }

    fn wait<'a>(
        &self,
        mut taken: MutexGuard<'a, Taken>,
        patience: Duration,
    ) -> MutexGuard<'a, Taken> {
        let begun = Instant::now();
        while taken.turns >= self.turns_max {
            let left = patience.saturating_sub(begun.elapsed());
            if left.is_zero() {
                break;
            }
            let waited = self.free.wait_timeout(taken, left);
            taken = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        taken
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.taken().waiting
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.taken().turns -= 1;
        self.0.free.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn no_more_than_so_many_have_a_turn_and_no_more_than_so_many_wait() {
        let turns = Turns::new(1, 1);
        let first = turns.take(LONG).unwrap();
        thread::scope(|scope| {
            let second = scope.spawn(|| turns.take(LONG).is_some());
            while turns.waiting() == 0 {
                thread::yield_now();
            }
            assert!(turns.take(LONG).is_none(), "one waits already");
            drop(first);
            assert!(second.join().unwrap(), "it gets the turn of the first");
        });
        assert!(turns.take(LONG).is_some(), "all turns have come back");
    }

    #[test]
    fn who_has_no_patience_has_no_turn() {
        let turns = Turns::new(1, 1);
        let _first = turns.take(LONG).unwrap();
        assert!(turns.take(Duration::ZERO).is_none());
        assert_eq!(turns.waiting(), 0);
    }
}
