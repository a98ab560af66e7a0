//! How connections and sessions end, and what becomes of Wills.

use alloc::{boxed::Box, format, sync::Arc};

use codec::{Disconnect, ProtocolVersion, QoS, ReasonCode, Will};

use super::{
    Cx, Shard,
    conn::Phase,
    msg::{Flight, Offer, Publication, SessionRef, ShardMsg},
    record::Record,
    session::{Queued, Session, Stage},
    table::SessionId,
    timer::Timer,
    traffic::Traffic,
};
use crate::{Cause, ConnId, Effect, Event, Grants, Subject, Time};

impl Shard {
    /// The runtime says that the connection is gone.
    pub(super) fn on_closed(&mut self, cx: &mut Cx<'_>, id: ConnId) {
        self.forget(cx, id, Cause::Lost, false);
    }

    /// Says DISCONNECT with a reason if there is a way to say it, and closes
    /// `[MQTT-4.13.2-1]` `[MQTT-3.14.4-2]`.
    pub(super) fn disconnect(
        &mut self,
        cx: &mut Cx<'_>,
        id: ConnId,
        reason: ReasonCode,
        cause: Cause,
    ) {
        match cause {
            Cause::Malformed(error) => self.send_disconnect(cx, id, reason, &format!("{error}")),
            _ => self.send_disconnect(cx, id, reason, reason.name()),
        }
        self.close(cx, id, cause);
    }

    /// Closes without a word.
    pub(super) fn close(&mut self, cx: &mut Cx<'_>, id: ConnId, cause: Cause) {
        self.detach(cx, id, cause, false);
    }

    /// Closes; `clean_start` tells that the session will not be resumed.
    pub(super) fn detach(&mut self, cx: &mut Cx<'_>, id: ConnId, cause: Cause, clean_start: bool) {
        if self.conns.get(id).is_some() {
            self.emit(cx, Effect::Close { conn: id, cause });
            self.forget(cx, id, cause, clean_start);
        }
    }

    /// Takes a connection out of the state, and its session into its next phase.
    fn forget(&mut self, cx: &mut Cx<'_>, id: ConnId, cause: Cause, clean_start: bool) {
        self.arm(id, None);
        let refused = || matches!(cause, Cause::Refused(_));
        if seeded!(KeepsRefusedConnections) && refused() {
            return;
        }
        let Some(conn) = self.conns.remove(id) else { return };
        self.link_waiters.remove(&id);
        for ticket in conn.questions() {
            self.tickets.remove(&ticket);
        }
        self.drop_waiters(id);
        let session = conn.session();
        let (client_id, user) = match &conn.phase {
            Phase::Opened(_) => Default::default(),
            Phase::Authenticating(pending) => {
                (pending.connect.client_id.clone(), pending.connect.user_name.clone())
            }
            Phase::Connected(session) => {
                let session = self.sessions.get(*session);
                (session.map(|session| session.client_id.clone()).unwrap_or_default(), None)
            }
        };
        let was_connected = session.is_some();
        let event = Event::Disconnected { conn: id, client_id, user, was_connected, cause };
        cx.out.push(Effect::Note(Box::new(event)));
        let Some(session) = session else { return };
        self.begin_absence(cx, session);
        self.decide_will(cx, session, cause, clean_start, conn.rare().subject.as_ref());
        if self.sessions.get(session).is_some_and(|session| session.expiry_s == 0) {
            self.end_session(cx, session);
        }
    }

    /// The session goes on without a connection until its expiry `[MQTT-3.1.2-23]`.
    fn begin_absence(&mut self, cx: &mut Cx<'_>, id: SessionId) {
        //= [MQTT-4.1.0-1 of 3.1.1]
        //= [MQTT-3.1.2-23] [MQTT-4.1.0-1] [U5-4.1-a]
        let Some(session) = self.sessions.get(id) else { return };
        let expiry_s = session.expiry_s;
        let ends = (expiry_s != u32::MAX).then(|| cx.now.plus_s(expiry_s));
        if self.logs(id) {
            self.log(cx, Record::Detached { session: id, expiry_s, ends });
        }
        self.apply_detached(id, expiry_s, ends);
        if expiry_s > 0
            && let Some(ends) = ends
        {
            self.timers.insert((ends, Timer::Session(id)));
        }
    }

    /// What becomes of the Will now that the connection is gone `[MQTT-3.1.2-8]`.
    fn decide_will(
        &mut self,
        cx: &mut Cx<'_>,
        id: SessionId,
        cause: Cause,
        clean_start: bool,
        by: Option<&Arc<Subject>>,
    ) {
        //= [MQTT-3.1.2-12 of 3.1.1] [D31-14]
        //= [MQTT-3.1.2-8] [U5-3.1.2.5-a] [U5-3.1.4-c] [U5-3.1.3.2.2-a] [U5-3.14-a]
        let Some(session) = self.sessions.get(id) else { return };
        let Some(will) = &session.will else { return };
        //= [MQTT-3.14.4-3] [MQTT-3.1.2-10]
        if cause == Cause::Disconnected(ReasonCode::Success) && !seeded!(PublishesWillAtGoodbye) {
            return self.set_will(cx, id, None);
        }
        //= [U5-3.1.4-c] a take-over with Clean Start ends the session, and with it the delay.
        if will.will.delay_s == 0 || session.expiry_s == 0 || clean_start {
            self.rest_will_on(id, by);
            return self.publish_will(cx, id);
        }
        let due = cx.now.plus_s(will.will.delay_s.min(session.expiry_s));
        let will = Some(Box::new(will.will.clone()));
        if self.logs(id) {
            let will = will.clone();
            self.log(cx, Record::WillSet { session: id, will, due: Some(due) });
        }
        self.apply_will(id, will, Some(due));
        self.rest_will_on(id, by);
        self.timers.insert((due, Timer::Will(id)));
    }

    /// Remembers whose right a Will rests on: it is judged again when it is published.
    fn rest_will_on(&mut self, id: SessionId, by: Option<&Arc<Subject>>) {
        if let Some(will) = self.sessions.get_mut(id).and_then(|session| session.will.as_mut()) {
            will.by = by.cloned();
        }
    }

    /// Sets the Will of a session, or takes it away; one that was due is no longer
    /// `[MQTT-3.1.3-9]`.
    pub(super) fn set_will(&mut self, cx: &mut Cx<'_>, id: SessionId, will: Option<Box<Will>>) {
        //= [MQTT-3.1.2-7]
        let Some(session) = self.sessions.get(id) else { return };
        if session.will.is_none() && will.is_none() {
            return;
        }
        if let Some(due) = session.will.as_ref().and_then(|will| will.due) {
            self.timers.remove((due, Timer::Will(id)));
        }
        if self.logs(id) {
            let will = will.clone();
            self.log(cx, Record::WillSet { session: id, will, due: None });
        }
        self.apply_will(id, will, None);
    }

    /// Publishes the Will, which is then gone `[MQTT-3.1.2-7]` `[MQTT-3.1.2-10]`.
    pub(super) fn publish_will(&mut self, cx: &mut Cx<'_>, id: SessionId) {
        let Some(session) = self.sessions.get(id) else { return };
        let Some(pending) = &session.will else { return };
        let Will { qos, retain, message, .. } = pending.will.clone();
        let by = pending.by.clone();
        self.set_will(cx, id, None);
        let is_allowed = |grants: &Grants| grants.may_publish(message.topic_str(), qos, retain);
        if by.as_ref().is_some_and(|by| !self.publishers.allow_will(by, is_allowed)) {
            return;
        }
        //= [MQTT-3.1.2-14] [MQTT-3.1.2-15]
        let publication = Publication {
            message,
            qos,
            retain,
            //= [U5-3.1.3.2.4-a] its expiry counts from here.
            at: cx.now,
            publisher: Some(SessionRef { shard: self.config.id, session: id }),
            by: by.filter(|_| retain),
            origin: self.config.id,
            flight: Flight::Unwatched,
        };
        self.publish_own(cx, publication);
    }

    /// A session is over: its Will is published, its subscriptions go, and what a share group had
    /// entrusted to it goes to other members `[MQTT-4.1.0-2]`.
    pub(super) fn end_session(&mut self, cx: &mut Cx<'_>, id: SessionId) {
        //= [MQTT-3.1.2-7 of 3.1.1]
        //= [MQTT-4.1.0-2]
        self.publish_will(cx, id);
        if self.logs(id) {
            self.log(cx, Record::Ended { session: id });
        }
        let Some(session) = self.apply_ended(id) else { return };
        if let Some(ends) = session.ends {
            self.timers.remove((ends, Timer::Session(id)));
        }
        let on_disk = session.last.number.saturating_sub(session.loaded.number);
        let Session { client_id, subscriptions, traffic, .. } = *session;
        let Traffic { queue, exchanges, .. } = traffic.into_inner();
        let has_shares = subscriptions.iter().any(|(filter, _)| filter.starts_with("$share/"));
        if !seeded!(KeepsIndexOfEnded) {
            self.unsubscribe_ended(cx, id, subscriptions.into_keys());
        }
        for exchange in exchanges {
            //= [MQTT-4.8.2-5] a QoS 2 message that was sent goes to no other member.
            if let Stage::Published(queued) = exchange.stage
                && (queued.qos == QoS::AtLeastOnce || seeded!(OffersSentQoS2))
            {
                self.reoffer(cx, queued);
            }
        }
        for queued in queue.messages {
            self.reoffer(cx, queued);
        }
        if has_shares && on_disk > 0 {
            let lost = Event::SharedBacklogLost { client_id, messages: on_disk };
            cx.out.push(Effect::Note(Box::new(lost)));
        }
    }

    /// A message of a share group looks for another member.
    fn reoffer(&mut self, cx: &mut Cx<'_>, queued: Queued) {
        //= [U5-4.8.2-c]
        let Some(share) = queued.share().cloned() else { return };
        let owner = self.config.map.topic(queued.message.topic());
        let publication = Publication {
            message: queued.message,
            qos: share.qos,
            retain: share.retain,
            at: queued.at,
            publisher: None,
            by: None,
            origin: self.config.id,
            flight: Flight::Unwatched,
        };
        let declined = alloc::vec::Vec::new();
        let offer = Offer { publication, share: share.filter, declined };
        self.tell(cx, owner, ShardMsg::Declined(Box::new(offer)));
    }

    /// The client says goodbye.
    pub(super) fn on_disconnect(
        &mut self,
        cx: &mut Cx<'_>,
        id: ConnId,
        session: SessionId,
        disconnect: &Disconnect,
    ) {
        //= [U5-3.14.2.2.2-a] [U5-3.14.2.2.2-b] [U5-3.14.4-a]
        let expiry = disconnect.properties.session_expiry_interval();
        if let Some(wanted_s) = expiry
            && let Some(state) = self.sessions.get_mut(session)
        {
            //= [U5-3.14.2.2.2-b] a session that was to end with its connection cannot be prolonged,
            // and the packet is no DISCONNECT then: the Will is published.
            if state.expiry_s == 0 && wanted_s > 0 {
                return self.refuse(cx, id, ReasonCode::ProtocolError);
            }
            state.expiry_s = wanted_s.min(self.config.limits.session_expiry_s_max);
        }
        let is_v5 = self.conns.get(id).is_some_and(|conn| conn.version == ProtocolVersion::V5);
        let reason = if is_v5 { disconnect.reason } else { ReasonCode::Success };
        self.close(cx, id, Cause::Disconnected(reason));
    }

    /// After recovery: nobody is connected. Sessions that were get their expiry and their Will as
    /// if the network had failed now.
    pub(super) fn wake_sessions(&mut self, cx: &mut Cx<'_>) {
        //= [U3-3.1.2.5-a]
        let all: alloc::vec::Vec<_> = self.sessions.iter().map(|(id, _)| id).collect();
        for id in all {
            let Some(session) = self.sessions.get(id) else { continue };
            let due = session.will.as_ref().map(|will| will.due);
            match session.ends {
                Some(ends) => self.timers.insert((ends, Timer::Session(id))),
                None if session.expiry_s != u32::MAX => self.begin_absence(cx, id),
                None => {}
            }
            match due {
                None => {}
                Some(Some(due)) => self.timers.insert((due, Timer::Will(id))),
                Some(None) => self.decide_will(cx, id, Cause::Lost, false, None),
            }
            if self.sessions.get(id).is_some_and(|session| session.expiry_s == 0) {
                self.end_session(cx, id);
            }
        }
    }

    /// A timer of a session fired.
    pub(super) fn on_session_end(&mut self, cx: &mut Cx<'_>, id: SessionId, at: Time) {
        if self.sessions.get(id).is_some_and(|s| s.conn.is_none() && s.ends == Some(at))
            && !seeded!(KeepsSessions)
        {
            self.drops.0.expired_sessions = self.drops.0.expired_sessions.saturating_add(1);
            self.end_session(cx, id);
        }
    }
}
