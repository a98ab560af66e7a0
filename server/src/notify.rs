//! What systemd is told, if it has started the broker.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::warn;

fn tell(states: &[NotifyState<'_>]) {
    // Without systemd there is nobody to tell, and that is no failure.
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "systemd does not hear");
    }
}

/// Clients are served.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The configuration is read again.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// The broker stops.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// All workers answer.
pub(crate) fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How often systemd wants to hear that all workers answer: twice within the time after which it acts.
pub(crate) fn watchdog_period() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|within| within / 2)
}
