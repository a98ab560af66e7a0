//! A client that does nothing but ping, on a thread of its own.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::Result;
use crate::rig::link::{self, Session};
use crate::rig::packet;

/// How often a PINGREQ is due.
const EVERY: Duration = Duration::from_millis(1);
/// A broker may well be silent for longer than is usual for a connection.
const PATIENCE: Duration = Duration::from_secs(60);

/// Pings until it is told to stop.
pub(crate) struct Pinger {
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<std::result::Result<Vec<Duration>, String>>,
}

impl Pinger {
    pub(crate) fn start(broker: SocketAddr) -> Result<Pinger> {
        let mut socket = link::connect(broker, "pinger", Session::Clean)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let thread = thread::spawn(move || {
            let mut times = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                socket.write_all(&packet::PINGREQ).map_err(|error| error.to_string())?;
                link::expect(&mut socket, &packet::PINGRESP).map_err(|error| error.to_string())?;
                let took = began.elapsed();
                push(&mut times, took);
                thread::sleep(EVERY.saturating_sub(took));
            }
            Ok(times)
        });
        Ok(Pinger { stopping, thread })
    }

    /// The times from PINGREQ to PINGRESP, in order of length.
    pub(crate) fn finish(self) -> Result<Vec<Duration>> {
        self.stopping.store(true, Ordering::Relaxed);
        let times = self.thread.join().map_err(|_| "the pinger panicked")?;
        let mut times = times.map_err(|error| format!("no PINGRESP: {error}"))?;
        times.sort_unstable();
        Ok(times)
    }
}

/// Enters a time, and those of the pings that would have been due while this one waited.
fn push(times: &mut Vec<Duration>, took: Duration) {
    let mut left = took;
    times.push(left);
    while left > EVERY {
        left -= EVERY;
        times.push(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_counts_for_all_that_would_have_waited() {
        let mut times = Vec::new();
        push(&mut times, EVERY / 2);
        push(&mut times, EVERY * 5 / 2);
        assert_eq!(times, [EVERY / 2, EVERY * 5 / 2, EVERY * 3 / 2, EVERY / 2]);
    }
}
