//! Messages at a fixed rate, whatever the broker does meanwhile: each carries the time when it was
//! due, so that a pause counts for all that had to wait.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::load::{Limit, Load};
use super::open::wait;
use crate::Result;

/// No client has it.
const TIMER: Token = Token(usize::MAX);

impl Load {
    /// Publishers send in turn, so many messages a second in all, first for `warm_up`, then for
    /// `measured`. Returns the nanoseconds from when each measured message was due to when it came,
    /// in order of length.
    pub(crate) fn run_paced(
        &mut self,
        rate: u64,
        warm_up: Duration,
        measured: Duration,
    ) -> Result<Vec<u64>> {
        self.paced(rate, warm_up)?;
        let mut ages = self.paced(rate, measured)?;
        ages.sort_unstable();
        Ok(ages)
    }

    fn paced(&mut self, rate: u64, time: Duration) -> Result<Vec<u64>> {
        let mut events = Events::with_capacity(256);
        let mut buffer = vec![0; 64 * 1024];
        // The timeout of a poll counts whole milliseconds, which is too coarse.
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let descriptor = timer.as_raw_fd();
        let mut source = SourceFd(&descriptor);
        self.poll.registry().register(&mut source, TIMER, Interest::READABLE)?;
        self.clock = Instant::now();
        self.ages = Some(Vec::new());
        let count = (time.as_secs_f64() * rate as f64) as u64;
        let due = |number: u64| number * 1_000_000_000 / rate;
        let mut next = 0;
        while next < count {
            let now = self.clock.elapsed().as_nanos() as u64;
            while next < count && due(next) <= now {
                let publisher = (next % self.publishers.len() as u64) as usize;
                // What a full window of QoS 1 holds up stays due, and is late.
                if !self.publish_one(publisher, due(next)) {
                    break;
                }
                next += 1;
            }
            let left = due(next).saturating_sub(self.clock.elapsed().as_nanos() as u64).max(1);
            let value = Timespec {
                tv_sec: (left / 1_000_000_000) as i64,
                tv_nsec: (left % 1_000_000_000) as i64,
            };
            let never = Timespec { tv_sec: 0, tv_nsec: 0 };
            let once = Itimerspec { it_interval: never, it_value: value };
            timerfd_settime(&timer, TimerfdTimerFlags::empty(), &once)?;
            wait(&mut self.poll, &mut events, Duration::from_millis(100))?;
            for event in events.iter().filter(|event| event.token() != TIMER) {
                self.serve(event.token().0, &mut buffer);
            }
            if self.broken() > 0 || self.clock.elapsed() > 3 * time + Duration::from_secs(5) {
                break;
            }
        }
        self.poll.registry().deregister(&mut source)?;
        self.run_until(Limit { messages: 0, time: Duration::MAX });
        Ok(self.ages.take().unwrap_or_default())
    }
}
