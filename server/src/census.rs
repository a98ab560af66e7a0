//! What is known of the whole broker at a moment, for metrics, `$SYS` and `cairnmq ctl`.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use runtime_mio::{Counts, Desk};
use session_core::{DropCounts, DropReason, DropRow, Queues, Totals};

use crate::{
    durable::{Storage, Writes},
    serving::Serving,
};

/// Sessions that are looked at in one turn of a worker.
pub(crate) const PAGE: u32 = 4096;
/// Clients that are told by name.
const NAMED_MAX: usize = 20;
/// Looking at all sessions takes no more than this part of the time.
const SHARE: u32 = 100;

/// Numbers that are known without looking at every session.
pub(crate) struct Snapshot {
    pub(crate) counts: Counts,
    pub(crate) totals: Totals,
    pub(crate) drops: DropCounts,
    pub(crate) expired_sessions: u64,
    /// Who lost most, first.
    pub(crate) dropped: Vec<DropRow>,
    pub(crate) writes: Option<Writes>,
    pub(crate) is_full: bool,
    pub(crate) uptime: Duration,
    pub(crate) lost_lines: usize,
    pub(crate) access: Option<access::AccessCounts>,
}

impl Snapshot {
    pub(crate) fn take(serving: &Serving) -> Self {
        let looks = serving.desk.look_at_all(|look| {
            let view = look.view;
            (view.totals(), view.drops(), view.drop_rows(), view.expired_sessions())
        });
        let mut totals = Totals::default();
        let mut drops = [0; DropReason::ALL.len()];
        let (mut dropped, mut expired_sessions) = (Vec::new(), 0);
        for (of_one, by_reason, rows, expired) in looks {
            totals.connections += of_one.connections;
            totals.sessions += of_one.sessions;
            totals.subscriptions += of_one.subscriptions;
            totals.retained += of_one.retained;
            totals.retained_bytes += of_one.retained_bytes;
            totals.held += of_one.held;
            drops.iter_mut().zip(by_reason).for_each(|(sum, count)| *sum += count);
            dropped.extend(rows);
            expired_sessions += expired;
        }
        dropped.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.client_id.cmp(&b.client_id)));
        dropped.truncate(NAMED_MAX);
        Self {
            counts: serving.desk.counts(),
            totals,
            drops,
            expired_sessions,
            dropped,
            writes: serving.storage.as_ref().map(Storage::writes),
            is_full: serving.storage.as_ref().is_some_and(Storage::is_full),
            uptime: serving.started.elapsed(),
            lost_lines: serving.log.lost_lines(),
            access: serving.guarded.access().map(|access| access.counts()),
        }
    }
}

/// What waits for all sessions, as it was when they were last looked at.
#[derive(Default)]
pub(crate) struct Census(Mutex<Known>);

#[derive(Default)]
struct Known {
    queues: Queues,
    next: Option<Instant>,
}

impl Census {
    /// As it was last known.
    pub(crate) fn queues(&self) -> Queues {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).queues.clone()
    }

    /// Looks at all sessions again, a page at a time, unless that would take too much of the workers' time.
    pub(crate) fn refresh(&self, desk: &Desk) {
        let began = Instant::now();
        let next = self.0.lock().unwrap_or_else(PoisonError::into_inner).next;
        if next.is_some_and(|next| began < next) {
            return;
        }
        let queues = count(desk);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.queues = queues;
        known.next = Some(began + began.elapsed() * SHARE);
    }
}

/// Looks at all sessions.
pub(crate) fn count(desk: &Desk) -> Queues {
    let mut all = Queues::default();
    for shard in desk.shards() {
        let mut from = Some(0);
        while let Some(at) = from {
            let Some((queues, next)) = desk.look(shard, move |look| look.view.queues(at, PAGE))
            else {
                break;
            };
            all.add(queues);
            from = next;
        }
    }
    all
}
