//! Deadlines.

use core::hash::{Hash, Hasher};

use codec::ReasonCode;

use super::{
    Cx, Shard,
    conn::{Phase, Reauth, paused},
    ordered::{At, Ordered},
    table::SessionId,
};
use crate::{Answer, Cause, ConnId, Ticket, Time};

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Timer {
    /// CONNECT or AUTH is late, the client is silent, or its right to be connected ends.
    Conn(ConnId),
    /// A Will is due.
    Will(SessionId),
    /// A session ends.
    Session(SessionId),
    /// An answer is late.
    Answer(Ticket),
}

/// What each deadline is for, in the order of the deadlines. A million are no more than that many
/// times 16 bytes if they come in rising order, as most do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Timers {
    entries: Ordered<Entry>,
}

impl Timers {
    pub(super) const fn new() -> Self {
        Self { entries: Ordered::new() }
    }

    pub(super) fn first(&self) -> Option<(Time, Timer)> {
        self.entries.get(At::FIRST).map(|entry| entry.unpack())
    }

    pub(super) fn insert(&mut self, timer: (Time, Timer)) {
        let entry = Entry::pack(timer);
        if let Err(at) = self.entries.find(|present| present.cmp(&entry)) {
            self.entries.insert(at, entry);
        }
    }

    pub(super) fn remove(&mut self, timer: (Time, Timer)) {
        let entry = Entry::pack(timer);
        if let Ok(at) = self.entries.find(|present| present.cmp(&entry)) {
            self.entries.remove(at);
        }
    }

    pub(super) fn contains(&self, timer: (Time, Timer)) -> bool {
        let entry = Entry::pack(timer);
        self.entries.find(|present| present.cmp(&entry)).is_ok()
    }

    #[cfg(test)]
    pub(super) fn clear(&mut self) {
        self.entries = Ordered::new();
    }
}

/// A deadline in two words, which are in the order of time, kind and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    /// Milliseconds, and in the lowest bits the kind.
    when: u64,
    who: u64,
}

const KIND_BITS: u32 = 2;

/// What is a hundred million years away never comes.
const LAST_MS: u64 = u64::MAX >> KIND_BITS;

impl Entry {
    fn pack((time, timer): (Time, Timer)) -> Self {
        let pair = |slot: u32, user: u32| (u64::from(slot) << 32) | u64::from(user);
        let (kind, who) = match timer {
            Timer::Conn(id) => (0, pair(id.slot, id.epoch)),
            Timer::Will(id) => (1, pair(id.slot, id.generation)),
            Timer::Session(id) => (2, pair(id.slot, id.generation)),
            Timer::Answer(ticket) => (3, ticket.0),
        };
        Self { when: (time.0.min(LAST_MS) << KIND_BITS) | kind, who }
    }

    fn unpack(self) -> (Time, Timer) {
        let ms = self.when >> KIND_BITS;
        let time = if ms == LAST_MS { Time::NEVER } else { Time(ms) };
        let (slot, user) = ((self.who >> 32) as u32, self.who as u32);
        let timer = match self.when & 3 {
            0 => Timer::Conn(ConnId { slot, epoch: user }),
            1 => Timer::Will(SessionId { slot, generation: user }),
            2 => Timer::Session(SessionId { slot, generation: user }),
            _ => Timer::Answer(Ticket(self.who)),
        };
        (time, timer)
    }
}

/// As what it stands for, which model checkers see by its distance from the present.
impl Hash for Entry {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.unpack().hash(state);
    }
}

/// Deadlines that are worked off in one call.
const TIMERS_PER_CALL: u32 = 10_000;

impl Shard {
    /// Sets the one timer of a connection, or takes it away.
    pub(super) fn arm(&mut self, id: ConnId, deadline: Option<Time>) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if let Some(old) = core::mem::replace(&mut conn.deadline, deadline) {
            self.timers.remove((old, Timer::Conn(id)));
        }
        if let Some(new) = deadline {
            self.timers.insert((new, Timer::Conn(id)));
        }
    }

    /// Works off what is due, as far as one call goes: when a network is cut, everybody's time is up at
    /// once. What is left makes [`Shard::next_timeout`] ask for another call.
    pub(super) fn on_tick(&mut self, cx: &mut Cx<'_>) {
        for _ in 0..TIMERS_PER_CALL {
            if !self.expire_retained(cx) && !self.fire_timer(cx) {
                return;
            }
        }
    }

    /// Removes a retained message that nobody asked for in time [MQTT-3.3.2-5]; false if there is none.
    fn expire_retained(&mut self, cx: &mut Cx<'_>) -> bool {
        let is_due = self.retained_expiry.first().is_some_and(|(time, _)| *time <= cx.now);
        if is_due && let Some((_, topic)) = self.retained_expiry.pop_first() {
            self.remove_retained(cx, &topic);
        }
        is_due
    }

    fn fire_timer(&mut self, cx: &mut Cx<'_>) -> bool {
        let Some((time, timer)) = self.timers.first().filter(|(time, _)| *time <= cx.now) else {
            return false;
        };
        self.timers.remove((time, timer));
        match timer {
            Timer::Conn(id) => self.on_conn_deadline(cx, id),
            Timer::Will(id) => self.on_will_due(cx, id, time),
            Timer::Session(id) => self.on_session_end(cx, id, time),
            //= an unanswered question is a refusal
            Timer::Answer(ticket) => {
                let reason = ReasonCode::ServerUnavailable;
                self.on_answer(cx, ticket, Answer::Refuse { reason });
            }
        }
        true
    }

    fn on_conn_deadline(&mut self, cx: &mut Cx<'_>, id: ConnId) {
        //= [U5-3.1.4-a]
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.deadline = None;
        match &conn.phase {
            Phase::Opened(_) => self.close(cx, id, Cause::ConnectTimeout),
            // While an answer is awaited, its own timer decides.
            Phase::Authenticating(pending) if pending.ticket.is_some() => {}
            Phase::Authenticating(_) => self.refuse_connect(cx, id, ReasonCode::NotAuthorized),
            Phase::Connected(_) => {
                if conn.authority_ends().is_some_and(|end| end <= cx.now) {
                    return self.on_lapsed(cx, id);
                }
                if self.resume_rates(cx, id) {
                    return self.rearm(cx, id);
                }
                let Some(conn) = self.conns.get_mut(id) else { return };
                // A client that we do not read from cannot be heard; one that does not read what
                // it gets is silent by its own doing.
                if conn.paused & !paused::CREDIT != 0 {
                    conn.heard = cx.now;
                }
                if conn.silent_at().is_some_and(|at| at <= cx.now) {
                    //= [MQTT-3.1.2-22]
                    let reason = ReasonCode::KeepAliveTimeout;
                    return self.disconnect(cx, id, reason, Cause::KeepAliveTimeout);
                }
                self.rearm(cx, id);
            }
        }
    }

    /// The right to be connected has lapsed. A client that can prove itself anew by AUTH has a moment to do it.
    fn on_lapsed(&mut self, cx: &mut Cx<'_>, id: ConnId) {
        let grace_ms = self.config.limits.reauthenticate_grace_ms;
        let Some(conn) = self.conns.get_mut(id) else { return };
        let rare = conn.rare();
        // Who does not meet a challenge in time is given up, lapsed or not.
        let is_given_up = matches!(rare.reauth, Some(Reauth::Challenged(until)) if until <= cx.now);
        let may_renew = rare.auth_method.is_some() && rare.subject.is_some() && !is_given_up;
        if grace_ms == 0 || rare.lapsed || !may_renew {
            return self.refuse(cx, id, ReasonCode::NotAuthorized);
        }
        let until = cx.now.plus_ms(grace_ms);
        conn.edit_rare(|rare| {
            rare.lapsed = true;
            rare.authority_ends = Some(until);
        });
        self.rearm(cx, id);
    }

    /// Arms the timer of a connected client. Each packet only notes its time; the timer finds out
    /// when it fires, so that a busy client costs nothing.
    pub(super) fn rearm(&mut self, cx: &Cx<'_>, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        let resumes = conn.rare().limiter.as_ref().and_then(|limiter| limiter.resumes());
        let ends = [conn.silent_at(), conn.authority_ends(), resumes];
        let deadline = ends.into_iter().flatten().min();
        // A deadline in the past would fire for ever.
        self.arm(id, deadline.map(|deadline| deadline.max(cx.now.plus_ms(1))));
    }

    fn on_will_due(&mut self, cx: &mut Cx<'_>, id: SessionId, time: Time) {
        let due = self.sessions.get(id).and_then(|session| session.will.as_ref()?.due);
        if due == Some(time) && !seeded!(LosesDueWill) {
            self.publish_will(cx, id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_words_keep_order_and_meaning() {
        let ids = [(0, 0), (0, 1), (0, u32::MAX), (1, 0), (u32::MAX, u32::MAX)];
        let mut timers = alloc::vec::Vec::new();
        for ms in [0, 1, 1 << 40, LAST_MS - 1, u64::MAX] {
            for (slot, user) in ids {
                let session = SessionId { slot, generation: user };
                let conn = ConnId { slot, epoch: user };
                let ticket = Ticket(u64::from(slot) << 32 | u64::from(user));
                let kinds = [
                    Timer::Conn(conn),
                    Timer::Will(session),
                    Timer::Session(session),
                    Timer::Answer(ticket),
                ];
                timers.extend(kinds.map(|kind| (Time(ms), kind)));
            }
        }
        timers.sort_unstable();
        let entries: alloc::vec::Vec<_> = timers.iter().copied().map(Entry::pack).collect();
        assert!(entries.is_sorted_by(|a, b| a < b));
        assert!(entries.iter().map(|entry| entry.unpack()).eq(timers.iter().copied()));
        let mut set = Timers::new();
        timers.iter().rev().for_each(|timer| set.insert(*timer));
        for timer in timers {
            assert_eq!(set.first(), Some(timer));
            assert!(set.contains(timer));
            set.insert(timer);
            set.remove(timer);
            assert!(!set.contains(timer));
        }
        assert_eq!((set.first(), &set), (None, &Timers::new()));
    }
}
