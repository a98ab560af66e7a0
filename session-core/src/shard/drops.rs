//! Messages that did not get to a client: counted by reason, and by client for those who lose most.

use alloc::{boxed::Box, collections::BTreeMap};

use super::{Cx, Shard, table::SessionId};
use crate::{DropCounts, DropReason, DropRow, Effect, Event, Time};

/// Clients that are counted by name.
const CLIENTS_MAX: usize = 128;
/// The least time between two lines about the same client.
const LINE_PAUSE_MS: u64 = 10_000;
/// Lines in one second about all clients together; what is not told is counted.
const LINES_PER_SECOND: u32 = 20;

/// What was dropped. It decides nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Drops {
    counts: DropCounts,
    by_client: BTreeMap<Box<str>, Client>,
    /// Sessions that ended by their expiry.
    pub(super) expired_sessions: u64,
    /// The second at hand, and the lines that were written in it.
    second: (u64, u32),
}

#[derive(Clone, Copy, Debug)]
struct Client {
    count: u64,
    over: u64,
    reason: DropReason,
    last: Time,
    /// No line before, and so many were not told.
    next_line: Time,
    untold: u64,
}

impl Drops {
    /// By reason.
    pub(super) const fn counts(&self) -> DropCounts {
        self.counts
    }

    /// By client.
    pub(super) fn rows(&self) -> impl Iterator<Item = DropRow> {
        self.by_client.iter().map(|(client_id, client)| {
            let Client { count, over, reason, last, .. } = *client;
            DropRow { client_id: client_id.clone(), count, over, reason, last }
        })
    }

    fn count(&mut self, reason: DropReason) {
        let at = DropReason::ALL.iter().position(|one| *one == reason);
        if let Some(count) = at.and_then(|at| self.counts.get_mut(at)) {
            *count = count.saturating_add(1);
        }
    }

    /// Counts one for a client; how many a line should tell of, if there should be one.
    fn count_client(&mut self, now: Time, client_id: &str, reason: DropReason) -> Option<u64> {
        if !self.by_client.contains_key(client_id) {
            self.make_place(now, client_id, reason);
        }
        let client = self.by_client.get_mut(client_id)?;
        client.count = client.count.saturating_add(1);
        client.untold = client.untold.saturating_add(1);
        (client.reason, client.last) = (reason, now);
        if now < client.next_line {
            return None;
        }
        let second = now.0 / 1000;
        if self.second.0 != second {
            self.second = (second, 0);
        }
        if self.second.1 >= LINES_PER_SECOND {
            return None;
        }
        self.second.1 = self.second.1.saturating_add(1);
        client.next_line = now.plus_ms(LINE_PAUSE_MS);
        Some(core::mem::take(&mut client.untold))
    }

    /// A client takes the place of the one that has lost least, and its count: so whoever loses much
    /// is in the list, whatever the order.
    fn make_place(&mut self, now: Time, client_id: &str, reason: DropReason) {
        let mut over = 0;
        if self.by_client.len() >= CLIENTS_MAX {
            let least = self.by_client.iter().min_by_key(|(_, client)| client.count);
            if let Some((name, client)) = least.map(|(name, client)| (name.clone(), *client)) {
                over = client.count;
                self.by_client.remove(&name);
            }
        }
        let client = Client { count: over, over, reason, last: now, next_line: Time(0), untold: 0 };
        self.by_client.insert(client_id.into(), client);
    }
}

impl Shard {
    /// A message did not get to a client, and will not.
    pub(super) fn note_dropped(&mut self, cx: &mut Cx<'_>, id: SessionId, reason: DropReason) {
        let drops = &mut self.drops.0;
        drops.count(reason);
        if !reason.is_news() {
            return;
        }
        let Some(session) = self.sessions.get(id) else { return };
        let Some(count) = drops.count_client(cx.now, &session.client_id, reason) else { return };
        let waiting = session.waiting().saturating_add(session.traffic.queue_qos0.len() as u64);
        let queued = u32::try_from(waiting).unwrap_or(u32::MAX);
        let client_id = session.client_id.clone();
        let event = Event::Dropped { client_id, reason, count, queued };
        cx.out.push(Effect::Note(Box::new(event)));
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, vec::Vec};

    use super::*;

    #[test]
    fn one_line_for_a_client_in_ten_seconds_and_twenty_in_a_second() {
        let mut drops = Drops::default();
        let mut drop = |ms, client: &str| drops.count_client(Time(ms), client, DropReason::Aged);
        assert_eq!(drop(0, "a"), Some(1));
        assert_eq!((drop(1, "a"), drop(9_999, "a")), (None, None));
        assert_eq!(drop(10_000, "a"), Some(3));
        let lines = (0..100).filter(|n| drop(10_001, &format!("c{n}")).is_some()).count();
        assert_eq!(lines, 19);
        assert_eq!(drop(11_000, "c99"), Some(2), "what was not told is told later");
    }

    #[test]
    fn who_loses_most_is_in_a_list_with_a_bound() {
        let mut drops = Drops::default();
        for round in 0..1000 {
            let _ = drops.count_client(Time(round), "worst", DropReason::NotRead);
            let _ = drops.count_client(Time(round), &format!("{round}"), DropReason::NotRead);
        }
        let rows: Vec<_> = drops.rows().collect();
        assert_eq!(rows.len(), CLIENTS_MAX);
        let worst = rows.iter().max_by_key(|row| row.count).unwrap();
        assert_eq!((&*worst.client_id, worst.count, worst.over), ("worst", 1000, 0));
        assert!(rows.iter().all(|row| row.count > row.over));
    }
}
