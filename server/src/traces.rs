//! Traces that are switched on while the broker runs, each for a time.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use runtime_mio::{Desk, TraceFilter};
use tracing::info;

/// Traces at a time.
const TRACES_MAX: usize = 32;

/// What is traced, and until when.
#[derive(Default)]
pub(crate) struct Traces(Mutex<Vec<(TraceFilter, Instant)>>);

impl Traces {
    /// Traces this too, for so long.
    ///
    /// # Errors
    /// There are too many.
    pub(crate) fn add(
        &self,
        desk: &Desk,
        filter: TraceFilter,
        lasts: Duration,
    ) -> Result<(), String> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(other, _)| *other != filter);
        if all.len() >= TRACES_MAX {
            return Err(format!(
                "there are {TRACES_MAX} traces already; end them by `trace --off`"
            ));
        }
        info!("tracing {filter} for {} s", lasts.as_secs());
        all.push((filter, Instant::now() + lasts));
        tell(desk, &all);
        Ok(())
    }

    /// Traces nothing any more; how much it was.
    pub(crate) fn clear(&self, desk: &Desk) -> usize {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = std::mem::take(&mut *all).len();
        tell(desk, &all);
        count
    }

    /// What is traced, and for how long from now on.
    pub(crate) fn list(&self) -> Vec<(String, Duration)> {
        let now = Instant::now();
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(filter, until)| (filter.to_string(), until.duration_since(now))).collect()
    }

    /// Ends what is over.
    pub(crate) fn expire(&self, desk: &Desk, now: Instant) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = all.len();
        all.retain(|(_, until)| now < *until);
        if all.len() < before {
            info!("{} traces are over", before - all.len());
            tell(desk, &all);
        }
    }
}

fn tell(desk: &Desk, all: &[(TraceFilter, Instant)]) {
    desk.trace(all.iter().map(|(filter, _)| filter.clone()).collect());
}
