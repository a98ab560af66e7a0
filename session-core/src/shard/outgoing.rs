//! Publications that the shard owes by itself: QoS 2 messages that their publishers have released,
//! and Wills. They live from the moment that nobody else would repeat them until every receiver's
//! shard has them, and with a log they survive a crash in between: the shard then routes them
//! again, and a session that has one already takes it no second time.

use alloc::{boxed::Box, vec::Vec};

use codec::{AckKind, PacketId, QoS, ReasonCode};

use super::{
    Cx, Shard,
    msg::{Flight, MsgId, Publication},
    record::Record,
    session::{Held, Waiting},
    table::SessionId,
};
use crate::{Action, ConnId, Grants};

/// A publication of this shard that not all receivers' shards have confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Outgoing {
    pub(super) publication: Publication,
    pub(super) waiting: Waiting,
    /// The log knows of it.
    pub(super) logged: bool,
    /// The PUBCOMP that it owes.
    pub(super) answer: Option<Answer>,
}

/// A PUBCOMP that waits for its message to be stored. It goes to the connection that said PUBREL
/// last: one that has not said it yet would take the answer for that to a later message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Answer {
    pub(super) session: SessionId,
    pub(super) packet_id: PacketId,
    pub(super) asked: Option<ConnId>,
    /// The connection whose quota the message takes.
    pub(super) counted: Option<ConnId>,
}

/// What a session has to remember of a publication that may be routed twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// Its name.
    pub id: MsgId,
    /// Nothing of the same epoch and shard with a lower number will be routed again.
    pub floor: u64,
}

impl Publication {
    /// Its name, if it may be routed twice.
    pub(super) fn source(&self) -> Option<Source> {
        match self.flight {
            Flight::Outgoing { id, floor, .. } if floor > 0 => Some(Source { id, floor }),
            _ => None,
        }
    }

    /// It may have been routed before a crash.
    pub(super) const fn is_again(&self) -> bool {
        matches!(self.flight, Flight::Outgoing { again: true, .. })
    }
}

impl Shard {
    /// A client released a QoS 2 message: the shard owes it from now on
    /// `[MQTT-4.3.3-11]` `[MQTT-4.3.3-12]`.
    ///
    /// A message whose publisher has lost the right to send it meanwhile goes to nobody: its exchange is
    /// completed, since there is nothing else that PUBCOMP could say.
    pub(super) fn release(&mut self, cx: &mut Cx<'_>, session: SessionId, packet_id: PacketId) {
        let is_denied = self.deny_held(cx, session, packet_id);
        let message = self.next_outgoing();
        let logged = self.logs(session);
        if logged
            && let Some(held) = self
                .sessions
                .get(session)
                .and_then(|session| session.traffic.inbound.get(&packet_id))
        {
            let publication = Box::new(held.publication.clone());
            self.log(cx, Record::Released { session, packet_id, message, publication });
        }
        let Some(held) = self.apply_released(session, packet_id, message) else { return };
        let conn = self.sessions.get(session).and_then(|session| session.conn);
        if let Some(outgoing) = self.outgoing.get_mut(&message) {
            outgoing.logged = logged;
            let counted = conn.filter(|_| held);
            outgoing.answer = Some(Answer { session, packet_id, asked: conn, counted });
        }
        if is_denied {
            return self.complete_outgoing(cx, message);
        }
        self.send_out(cx, message, false);
    }

    /// Whether a message that was taken may not be published any more.
    fn deny_held(&mut self, cx: &mut Cx<'_>, session: SessionId, packet_id: PacketId) -> bool {
        let Some(state) = self.sessions.get(session) else { return false };
        let Some(id) = state.conn else { return false };
        let Some(conn) = self.conns.get(id).filter(|conn| conn.grants != Grants::All) else {
            return false;
        };
        let Some(held) = state.traffic.inbound.get(&packet_id) else { return false };
        let Publication { message, qos, retain, .. } = &held.publication;
        let verdict = conn.grants.judge_publish(message.topic_str(), *qos, *retain);
        if !verdict.allowed {
            let rule = verdict.rule.map(|rule| rule.source.clone());
            let message = message.clone();
            self.note_denied(cx, id, Action::Publish, message.topic_str(), rule);
            return true;
        }
        false
    }

    /// Publishes a message that nobody will repeat: a Will.
    pub(super) fn publish_own(&mut self, cx: &mut Cx<'_>, publication: Publication) {
        if !self.config.durable || (publication.qos == QoS::AtMostOnce && !publication.retain) {
            return self.publish(cx, publication);
        }
        let message = self.next_outgoing();
        self.log(cx, Record::Outgoing { message, publication: Box::new(publication.clone()) });
        self.apply_outgoing(message, publication);
        self.send_out(cx, message, false);
    }

    /// After recovery: what was not confirmed is routed again.
    pub(super) fn send_out_again(&mut self, cx: &mut Cx<'_>) {
        let all: Vec<MsgId> = self.outgoing.keys().copied().collect();
        for message in all {
            self.send_out(cx, message, true);
        }
    }

    /// The name of the next publication.
    const fn next_outgoing(&self) -> MsgId {
        let number = self.last_outgoing.saturating_add(1);
        MsgId { epoch: self.epoch, shard: self.config.id, number }
    }

    fn send_out(&mut self, cx: &mut Cx<'_>, message: MsgId, again: bool) {
        let Some(outgoing) = self.outgoing.get(&message) else { return };
        let floor = if outgoing.logged { self.outgoing_floor(message) } else { 0 };
        let mut publication = outgoing.publication.clone();
        publication.flight = Flight::Outgoing { id: message, floor, again };
        self.publish(cx, publication);
    }

    /// The lowest number of an epoch and shard that a crash would bring again. What was named before a
    /// change of the map may be owed by several shards, of which none knows what the others still owe:
    /// then it is the lowest that there is.
    fn outgoing_floor(&self, of: MsgId) -> u64 {
        if (of.epoch, of.shard) != (self.epoch, self.config.id) {
            return 1;
        }
        let mut all = self.outgoing.range(MsgId { number: 0, ..of }..=of);
        all.find(|(_, one)| one.logged).map_or(of.number, |(lowest, _)| lowest.number)
    }

    /// Every receiver's shard has it.
    pub(super) fn complete_outgoing(&mut self, cx: &mut Cx<'_>, message: MsgId) {
        //= [U3-4.3.3-a]
        //= [MQTT-4.3.3-11] [MQTT-4.3.3-12]
        let Some(outgoing) = self.outgoing.get(&message) else { return };
        let (logged, answer) = (outgoing.logged, outgoing.answer);
        if let Some(Answer { session, packet_id, asked, counted }) = answer
            && let Some(id) = self.sessions.get(session).and_then(|session| session.conn)
        {
            if counted == Some(id) {
                self.return_quota(id);
            }
            if asked == Some(id) {
                self.send_ack(cx, id, AckKind::PubComp, packet_id, ReasonCode::Success);
            }
        }
        if logged {
            self.log(cx, Record::Delivered { message });
        }
        self.apply_delivered(message);
    }

    /// A PUBREL came again: whether its release is under way, so that PUBCOMP will follow.
    pub(super) fn is_releasing(
        &mut self,
        id: ConnId,
        session: SessionId,
        packet_id: PacketId,
    ) -> bool {
        let mut answers = self.outgoing.values_mut().filter_map(|one| one.answer.as_mut());
        let found = answers.find(|to| to.session == session && to.packet_id == packet_id);
        found.map(|answer| answer.asked = Some(id)).is_some()
    }

    /// A name that was given is given to nothing else. One of a later epoch tells that the record of
    /// that epoch's beginning is lost.
    pub(super) fn note_used(&mut self, message: MsgId) {
        if message.shard == self.config.id {
            let last = (self.epoch, self.last_outgoing);
            (self.epoch, self.last_outgoing) = last.max((message.epoch, message.number));
        }
    }

    pub(super) fn apply_outgoing(&mut self, message: MsgId, publication: Publication) {
        self.note_used(message);
        let waiting = Waiting::default();
        let outgoing = Outgoing { publication, waiting, logged: true, answer: None };
        self.outgoing.insert(message, outgoing);
    }

    /// The session's half of an exchange is over; `Some(true)` if it counted against its
    /// connection's quota.
    pub(super) fn apply_released(
        &mut self,
        id: SessionId,
        packet_id: PacketId,
        message: MsgId,
    ) -> Option<bool> {
        let session = self.sessions.get_mut(id)?;
        let Held { publication, counted } = session.traffic.present()?.unhold(packet_id)?;
        session.traffic.rest(&mut self.spares.0);
        self.apply_outgoing(message, publication);
        if let Some(outgoing) = self.outgoing.get_mut(&message) {
            outgoing.answer = Some(Answer { session: id, packet_id, asked: None, counted: None });
        }
        Some(counted)
    }

    pub(super) fn apply_delivered(&mut self, message: MsgId) {
        self.outgoing.remove(&message);
    }
}
