//! Time for shards: the wall clock at start plus monotonic time since.

use std::time::{Duration, Instant, SystemTime};

use session_core::Time;

/// One clock for all workers, so that what they tell one another about time agrees.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    wall_at_start: Duration,
    start: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        // A machine whose clock stands before 1970 gets an epoch of its own, which harms nothing.
        let wall_at_start = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self { wall_at_start: wall_at_start.unwrap_or_default(), start: Instant::now() }
    }

    pub(crate) fn now(&self) -> Time {
        let now = self.wall_at_start + self.start.elapsed();
        Time(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_at_the_wall_clock_and_never_goes_back() {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
        let clock = Clock::start();
        let first = clock.now();
        assert!(u128::from(first.0) >= wall && u128::from(first.0) < wall + 60_000);
        assert!(clock.now() >= first);
    }
}
