//! Deadlines.

use codec::ReasonCode;

use super::{
    Cx, Shard,
    conn::{Phase, paused},
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

impl Shard {
    /// Sets the one timer of a connection, or takes it away.
    pub(super) fn arm(&mut self, id: ConnId, deadline: Option<Time>) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if let Some(old) = core::mem::replace(&mut conn.deadline, deadline) {
            self.timers.remove(&(old, Timer::Conn(id)));
        }
        if let Some(new) = deadline {
            self.timers.insert((new, Timer::Conn(id)));
        }
    }

    pub(super) fn on_tick(&mut self, cx: &mut Cx<'_>) {
        self.expire_retained(cx);
        while let Some((time, timer)) = self.timers.first().copied()
            && time <= cx.now
        {
            self.timers.pop_first();
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
        }
    }

    /// Removes retained messages that nobody asked for in time [MQTT-3.3.2-5].
    fn expire_retained(&mut self, cx: &mut Cx<'_>) {
        while self.retained_expiry.first().is_some_and(|(time, _)| *time <= cx.now)
            && let Some((_, topic)) = self.retained_expiry.pop_first()
        {
            self.remove_retained(cx, &topic);
        }
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
                    return self.refuse(cx, id, ReasonCode::NotAuthorized);
                }
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

    /// Arms the timer of a connected client. Each packet only notes its time; the timer finds out
    /// when it fires, so that a busy client costs nothing.
    pub(super) fn rearm(&mut self, cx: &Cx<'_>, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        let deadline = [conn.silent_at(), conn.authority_ends()].into_iter().flatten().min();
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
