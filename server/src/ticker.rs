//! What is done now and then: systemd hears that all is well, sessions are counted, `$SYS` is published, traces end.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crate::{census::Snapshot, notify, serving::Serving, sys::Sys};

/// How often it is looked whether something is due.
const PERIOD: Duration = Duration::from_millis(500);
/// Sessions are counted so often, if nobody wants `$SYS` more often.
const CENSUS: Duration = Duration::from_secs(10);

/// Begins.
///
/// # Errors
/// There is no thread for it.
pub(crate) fn start(serving: Arc<Serving>) -> Result<(), String> {
    let tick = move || run(&serving);
    let thread = thread::Builder::new().name("ticker".into()).spawn(tick);
    thread.map(drop).map_err(|error| format!("cannot start a thread: {error}"))
}

fn run(serving: &Serving) {
    let watchdog = notify::watchdog_period();
    let (mut sys, mut told, mut counted, mut published) = (Sys::default(), None, None, None);
    loop {
        let now = Instant::now();
        if let Some(period) = watchdog
            && is_due(&mut told, now, period)
            && serving.alive()
        {
            notify::alive();
        }
        let interval = serving.state().config.sys.interval_s;
        let interval = (interval > 0).then(|| Duration::from_secs(interval.into()));
        if is_due(&mut counted, now, interval.map_or(CENSUS, |interval| interval.min(CENSUS))) {
            serving.census.refresh(&serving.desk);
        }
        if let Some(interval) = interval
            && is_due(&mut published, now, interval)
        {
            sys.publish(serving, &Snapshot::take(serving), &serving.census.queues());
        }
        serving.traces.expire(&serving.desk, now);
        thread::sleep(PERIOD);
    }
}

/// Whether so much time has passed since the last time; if so, this is the last time.
fn is_due(last: &mut Option<Instant>, now: Instant, period: Duration) -> bool {
    if last.is_some_and(|last| now < last + period) {
        return false;
    }
    *last = Some(now);
    true
}
