//! Queues that are longer than memory should hold: their first messages are here, the others on
//! disk only, and come back in parts.

use alloc::boxed::Box;

use codec::Message;

use super::{
    Cx, Shard,
    session::{Queue, Queued, Session},
    table::SessionId,
};
use crate::{DropReason, Effect, Limits, Load, Loaded, Place};

/// A session without a connection keeps this part of what a connected one may have in memory.
const ABSENT_PART: u32 = 16;

impl Session {
    /// QoS 1 and 2 messages that wait, in memory or on disk.
    pub(super) fn waiting(&self) -> u64 {
        let on_disk = self.last.number.saturating_sub(self.loaded.number);
        on_disk.saturating_add(self.traffic.queue.len() as u64)
    }

    /// Their bytes.
    pub(super) fn waiting_bytes(&self) -> u64 {
        self.last.end.saturating_sub(self.loaded.end).saturating_add(self.traffic.queue.bytes)
    }

    /// Whether messages wait that are on disk only.
    pub(super) const fn is_behind(&self) -> bool {
        self.loaded.number < self.last.number
    }

    /// Whether one more message of this size breaks a limit of the queue.
    pub(super) fn is_full(&self, message: &Message, limits: &Limits) -> bool {
        let bytes = u64::try_from(message.size()).unwrap_or(u64::MAX);
        self.waiting() >= u64::from(limits.session_queue_max)
            || self.waiting_bytes().saturating_add(bytes) > limits.session_queue_bytes_max
    }

    /// Puts a message behind all others, into memory if there is room and nothing before it is on
    /// disk only.
    pub(super) fn push(&mut self, queued: Queued, may_leave: bool, limits: &Limits) {
        let was_behind = self.is_behind();
        self.last = queued.place;
        if !may_leave
            || (!was_behind && has_room(&self.traffic.queue, &queued, self.residence(limits)))
        {
            self.loaded = queued.place;
            self.traffic.queue.push(queued);
        }
    }

    /// The last place whose message is remembered. Once all are gone, a log may begin again with the
    /// first: the state that it tells is that of a shard which has forgotten them too.
    pub(super) fn remembered(&self) -> u64 {
        if self.is_behind() {
            return self.last.number;
        }
        let waiting = self.traffic.queue.messages.back().map_or(0, |queued| queued.place.number);
        waiting.max(self.traffic.exchanges.back().map_or(0, |exchange| exchange.place.number))
    }

    /// A place was given, although its message is not here.
    pub(super) fn note_place(&mut self, place: Place) {
        if place.number > self.last.number && !self.is_behind() {
            (self.last, self.loaded) = (place, place);
        }
    }

    /// Messages and bytes that may wait in memory.
    fn residence(&self, limits: &Limits) -> (u32, u64) {
        let part = if self.conn.is_some() { 1 } else { ABSENT_PART };
        let messages = limits.session_resident_max.checked_div(part).unwrap_or(0).max(1);
        let bytes = limits.session_resident_bytes_max.checked_div(part.into()).unwrap_or(0);
        (messages, bytes)
    }

    /// Leaves to the disk what an absent session should not keep.
    pub(super) fn shrink(&mut self, limits: &Limits) {
        let residence = self.residence(limits);
        let mut kept = Queue::default();
        for queued in &self.traffic.queue.messages {
            if !has_room(&kept, queued, residence) {
                break;
            }
            kept.push(queued.clone());
        }
        if let Some(last) = kept.messages.back()
            && kept.len() < self.traffic.queue.len()
        {
            self.loaded = last.place;
            self.traffic.queue = kept;
        }
    }
}

fn has_room(queue: &Queue, next: &Queued, (messages, bytes): (u32, u64)) -> bool {
    queue.is_empty()
        || (queue.len() < messages as usize && queue.bytes.saturating_add(next.bytes()) <= bytes)
}

impl Shard {
    /// Asks for the next part of a connected session's backlog before memory runs dry.
    pub(super) fn refill(&mut self, cx: &mut Cx<'_>, id: SessionId) {
        let Some(session) = self.sessions.get(id) else { return };
        if !session.is_behind() {
            return;
        }
        let (messages, bytes) = session.residence(&self.config.limits);
        let is_low = session.traffic.queue.len() <= messages as usize / 2
            && session.traffic.queue.bytes <= bytes / 2;
        if session.conn.is_some() && is_low {
            self.load(cx, id);
        }
    }

    /// Asks for the next part of a backlog, if there is one and it is not asked for.
    pub(super) fn load(&mut self, cx: &mut Cx<'_>, id: SessionId) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        if session.traffic.loading || !session.is_behind() {
            return;
        }
        session.traffic.loading = true;
        let (messages_max, bytes_max) = session.residence(&self.config.limits);
        let (after, through) = (session.loaded, session.last);
        let load = Load { session: id, after, through, messages_max, bytes_max };
        self.emit(cx, Effect::Load(Box::new(load)));
    }

    pub(super) fn on_loaded(&mut self, cx: &mut Cx<'_>, loaded: Loaded) {
        let Loaded { load, messages, complete } = loaded;
        let id = load.session;
        let Some(session) = self.sessions.get_mut(id) else { return };
        if !core::mem::take(&mut session.traffic.loading) {
            return;
        }
        // What was asked for before the connection went away may be more than is missing now.
        if session.loaded == load.after {
            let nothing = messages.is_empty();
            for queued in messages {
                if queued.place.number > session.loaded.number {
                    session.loaded = queued.place;
                    session.traffic.queue.push(queued);
                }
            }
            // A disk that has nothing to say has lost it.
            if complete || nothing {
                session.loaded = load.through;
            }
        }
        self.drop_overdue(cx, id);
        self.drop_aged(cx, id);
        self.pump(cx, id);
    }

    /// Drops the oldest waiting messages that have waited for too long. A few at a time: whoever comes
    /// with the next message drops more.
    pub(super) fn drop_aged(&mut self, cx: &mut Cx<'_>, id: SessionId) {
        const AT_ONCE: usize = 16;
        let age_s = self.config.limits.session_queue_age_s_max;
        if age_s == 0 {
            return;
        }
        for _ in 0..AT_ONCE {
            let Some(session) = self.sessions.get(id) else { return };
            let Some(first) = session.traffic.queue.messages.front() else {
                return self.load(cx, id);
            };
            if first.at.plus_s(age_s) > cx.now {
                return;
            }
            self.drop_first(cx, id, DropReason::Aged);
        }
    }

    /// Makes the room that was promised.
    fn drop_overdue(&mut self, cx: &mut Cx<'_>, id: SessionId) {
        while let Some(session) = self.sessions.get_mut(id)
            && session.traffic.overdue > 0
        {
            if session.traffic.queue.is_empty() {
                if !session.is_behind() {
                    session.traffic.overdue = 0;
                }
                return self.load(cx, id);
            }
            session.traffic.overdue = session.traffic.overdue.saturating_sub(1);
            self.drop_first(cx, id, DropReason::QueueFull);
        }
        let limits = &self.config.limits;
        if let Some(session) = self.sessions.get_mut(id)
            && session.conn.is_none()
        {
            session.shrink(limits);
        }
    }
}
