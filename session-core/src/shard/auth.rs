//! The conversation about who a client is: questions to the outside, AUTH packets, answers.

use alloc::{boxed::Box, sync::Arc};

use bytes::Bytes;
use codec::{Auth, Frame, Packet, PacketType, Property, ReasonCode};

use super::{
    Cx, Shard,
    conn::{Pending, Phase, Reauth, paused},
    msg::Retained,
    timer::Timer,
};
use crate::{Action, Answer, ConnId, Effect, Event, Exchange, Grants, Request, Subject, Ticket};

/// Clients that are asked about again in one call.
const JUDGED_PER_CALL: u32 = 1_000;
/// The least time between two lines of what the same connection may not do.
const DENIAL_PAUSE_MS: u64 = 10_000;

impl Shard {
    /// Asks the outside about a connection; no answer in time is a refusal.
    pub(super) fn ask(&mut self, cx: &mut Cx<'_>, id: ConnId, request: Request) -> Ticket {
        self.last_ticket = self.last_ticket.wrapping_add(1);
        let ticket = Ticket(self.last_ticket);
        self.tickets.insert(ticket, id);
        let deadline = cx.now.plus_ms(self.config.limits.ask_timeout_ms);
        self.timers.insert((deadline, Timer::Answer(ticket)));
        self.emit(cx, Effect::Ask { ticket, request: Box::new(request) });
        ticket
    }

    pub(super) fn on_answer(&mut self, cx: &mut Cx<'_>, ticket: Ticket, answer: Answer) {
        if let Some(publisher) = self.publisher_tickets.remove(&ticket) {
            return self.on_publisher_judged(publisher, answer);
        }
        let Some(id) = self.tickets.remove(&ticket) else { return };
        let Some(conn) = self.conns.get_mut(id) else { return };
        let (reauth, judged) = (conn.rare().reauth, conn.rare().judged);
        match &mut conn.phase {
            Phase::Authenticating(pending) if pending.ticket == Some(ticket) => {
                pending.ticket = None;
                self.on_connect_answer(cx, id, answer);
            }
            Phase::Connected(_) if reauth == Some(Reauth::Asked(ticket)) => {
                self.on_reauth_answer(cx, id, answer);
            }
            Phase::Connected(_) if judged == Some(ticket) => self.on_judged(cx, id, answer),
            _ => {}
        }
    }

    fn on_connect_answer(&mut self, cx: &mut Cx<'_>, id: ConnId, answer: Answer) {
        match answer {
            Answer::Accept { principal, data } => {
                let Some(conn) = self.conns.get_mut(id) else { return };
                let phase = core::mem::replace(&mut conn.phase, Phase::Opened(None));
                let Phase::Authenticating(pending) = phase else { return };
                let Pending { connect, assigned, .. } = *pending;
                self.accept(cx, id, connect, assigned, principal, data);
                self.resume(cx, id, paused::ANSWER);
            }
            Answer::Continue { data, exchange } => {
                if let Some(conn) = self.conns.get_mut(id) {
                    conn.edit_rare(|rare| rare.exchange = exchange);
                }
                //= [MQTT-4.12.0-2]
                let deadline = cx.now.plus_ms(self.config.limits.connect_timeout_ms);
                self.arm(id, Some(deadline));
                self.send_auth(cx, id, ReasonCode::ContinueAuthentication, data);
                self.resume(cx, id, paused::ANSWER);
            }
            //= [MQTT-4.12.0-4] [MQTT-3.1.4-2]
            Answer::Refuse { reason } => {
                self.refuse_connect(cx, id, sayable(reason, PacketType::ConnAck));
            }
        }
    }

    pub(super) fn on_auth_before_connack(&mut self, cx: &mut Cx<'_>, id: ConnId, auth: &Auth) {
        let Some(conn) = self.conns.get(id) else { return };
        let Phase::Authenticating(pending) = &conn.phase else { return };
        let client_id = pending.connect.client_id.clone();
        let exchange = conn.rare().exchange.clone();
        //= [MQTT-4.12.0-3] [MQTT-4.12.0-5]
        let method = conn.rare().auth_method.clone();
        let same = auth.properties.authentication_method() == method.as_deref();
        let Some(method) =
            method.filter(|_| same && auth.reason == ReasonCode::ContinueAuthentication)
        else {
            return self.refuse_connect(cx, id, ReasonCode::ProtocolError);
        };
        let data = auth.properties.authentication_data().cloned();
        let request = Request::Continue { client_id, method, data, again: false, exchange };
        let asked = self.ask(cx, id, request);
        self.pause(cx, id, paused::ANSWER);
        if let Some(conn) = self.conns.get_mut(id)
            && let Phase::Authenticating(pending) = &mut conn.phase
        {
            pending.ticket = Some(asked);
        }
    }

    /// AUTH on a running connection: a re-authentication begins or goes on `[MQTT-4.12.1-1]`.
    pub(super) fn on_auth(&mut self, cx: &mut Cx<'_>, id: ConnId, auth: &Auth) {
        //= [U5-3.15-a]
        let Some(conn) = self.conns.get(id) else { return };
        let method = conn.rare().auth_method.clone();
        let same = auth.properties.authentication_method() == method.as_deref();
        let again = auth.reason == ReasonCode::ReAuthenticate;
        let expected = match conn.rare().reauth {
            None => again,
            Some(Reauth::Challenged(_)) => auth.reason == ReasonCode::ContinueAuthentication,
            Some(Reauth::Asked(_)) => false,
        };
        //= [MQTT-4.12.0-7]
        let Some(method) = method.filter(|_| same && expected) else {
            return self.refuse(cx, id, ReasonCode::ProtocolError);
        };
        let session = conn.session().and_then(|session| self.sessions.get(session));
        let Some(client_id) = session.map(|session| session.client_id.clone()) else { return };
        let data = auth.properties.authentication_data().cloned();
        let exchange = match &conn.rare().subject {
            Some(subject) if again => {
                Some(Exchange { subject: subject.clone(), state: Bytes::new() })
            }
            _ => conn.rare().exchange.clone(),
        };
        let request = Request::Continue { client_id, method, data, again, exchange };
        let ticket = self.ask(cx, id, request);
        if let Some(conn) = self.conns.get_mut(id) {
            conn.edit_rare(|rare| rare.reauth = Some(Reauth::Asked(ticket)));
        }
        self.rearm(cx, id);
    }

    fn on_reauth_answer(&mut self, cx: &mut Cx<'_>, id: ConnId, answer: Answer) {
        //= [U5-4.12.1-a]
        let Some(conn) = self.conns.get_mut(id) else { return };
        match answer {
            Answer::Accept { principal, data } => {
                conn.grants = principal.grants;
                conn.edit_rare(|rare| {
                    rare.reauth = None;
                    rare.exchange = None;
                    rare.subject = principal.subject;
                    rare.authority_ends = principal.expires;
                    rare.lapsed = false;
                });
                self.rearm(cx, id);
                self.send_auth(cx, id, ReasonCode::Success, data);
                self.recheck(cx, id);
            }
            Answer::Continue { data, exchange } => {
                let until = cx.now.plus_ms(self.config.limits.connect_timeout_ms);
                conn.edit_rare(|rare| {
                    rare.reauth = Some(Reauth::Challenged(until));
                    rare.exchange = exchange;
                });
                self.rearm(cx, id);
                self.send_auth(cx, id, ReasonCode::ContinueAuthentication, data);
            }
            //= [MQTT-4.12.1-2]
            Answer::Refuse { reason } => {
                self.refuse(cx, id, sayable(reason, PacketType::Disconnect));
            }
        }
    }

    /// Rights may have changed: whoever has any is asked about again, as far as one call goes.
    pub(super) fn judge_waiting(&mut self, cx: &mut Cx<'_>) {
        for _ in 0..JUDGED_PER_CALL {
            let Some(id) = self.to_judge.pop() else {
                let Some(subject) = self.publishers_to_judge.pop() else { return };
                self.judge_publisher(cx, subject);
                continue;
            };
            let Some(conn) = self.conns.get(id) else { continue };
            let Some(subject) = conn.rare().subject.clone() else { continue };
            let ticket = self.ask(cx, id, Request::Judge { subject });
            if let Some(conn) = self.conns.get_mut(id) {
                conn.edit_rare(|rare| rare.judged = Some(ticket));
            }
        }
    }

    /// Whether somebody is still to be asked about.
    pub(super) const fn has_to_judge(&self) -> bool {
        !self.to_judge.is_empty() || !self.publishers_to_judge.is_empty()
    }

    /// Asks whether what somebody has published, and is retained, may still be there.
    fn judge_publisher(&mut self, cx: &mut Cx<'_>, subject: Arc<Subject>) {
        self.last_ticket = self.last_ticket.wrapping_add(1);
        let ticket = Ticket(self.last_ticket);
        let publisher = (subject.client_id.clone(), subject.user.clone());
        self.publisher_tickets.insert(ticket, publisher);
        let deadline = cx.now.plus_ms(self.config.limits.ask_timeout_ms);
        self.timers.insert((deadline, Timer::Answer(ticket)));
        let request = Box::new(Request::Judge { subject });
        self.emit(cx, Effect::Ask { ticket, request });
    }

    /// What is retained of a publisher who may not publish it any more stays, and goes to nobody: rights may come
    /// back, as when a block ends.
    fn on_publisher_judged(&mut self, publisher: (Box<str>, Option<Box<str>>), answer: Answer) {
        let grants = match answer {
            Answer::Accept { principal, .. } => principal.grants,
            Answer::Continue { .. } | Answer::Refuse { .. } => Grants::none(),
        };
        match grants {
            Grants::All => drop(self.publishers.remove(&publisher)),
            grants => drop(self.publishers.insert(publisher, grants)),
        }
    }

    /// Whether the publisher of a retained message may still publish it, as far as it is known.
    pub(super) fn is_still_allowed(&self, retained: &Retained) -> bool {
        let Retained { message, qos, by, .. } = retained;
        by.as_ref().is_none_or(|by| {
            self.is_known_to(by, |grants| grants.may_publish(message.topic_str(), *qos, true))
        })
    }

    /// Whether somebody's rights allow something, as far as they have changed since.
    pub(super) fn is_known_to(
        &self,
        by: &Subject,
        is_allowed: impl FnOnce(&Grants) -> bool,
    ) -> bool {
        if self.publishers.is_empty() {
            return true;
        }
        let publisher = (by.client_id.clone(), by.user.clone());
        self.publishers.get(&publisher).is_none_or(is_allowed)
    }

    /// What a client may do now. Its proof is as old as before, so that it lapses when it would have.
    fn on_judged(&mut self, cx: &mut Cx<'_>, id: ConnId, answer: Answer) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.edit_rare(|rare| rare.judged = None);
        match answer {
            Answer::Accept { principal, .. } => {
                conn.grants = principal.grants;
                conn.edit_rare(|rare| rare.subject = principal.subject);
                self.recheck(cx, id);
            }
            // Nobody has begun an exchange: whoever wants one does not know what it was asked.
            Answer::Continue { .. } => self.refuse(cx, id, ReasonCode::NotAuthorized),
            Answer::Refuse { reason } => {
                self.refuse(cx, id, sayable(reason, PacketType::Disconnect));
            }
        }
    }

    /// Ends what a client may no longer have: subscriptions, and a Will.
    fn recheck(&mut self, cx: &mut Cx<'_>, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        let Some(session) = conn.session() else { return };
        let will = self.sessions.get(session).and_then(|session| session.will.as_ref());
        let may_have = will.is_none_or(|pending| {
            let will = &pending.will;
            conn.grants.may_publish(will.message.topic_str(), will.qos, will.retain)
        });
        if !may_have {
            self.set_will(cx, session, None);
        }
        self.recheck_subscriptions(cx, id);
    }

    /// Tells of something that a client may not do, and which rule says so: not more often than every
    /// [`DENIAL_PAUSE_MS`], and then how many were not told.
    pub(super) fn note_denied(
        &mut self,
        cx: &mut Cx<'_>,
        id: ConnId,
        action: Action,
        topic: &str,
        rule: Option<Arc<str>>,
    ) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let (next, untold) = conn.rare().denials.unwrap_or((cx.now, 0));
        if cx.now < next {
            let untold = untold.saturating_add(1);
            return conn.edit_rare(|rare| rare.denials = Some((next, untold)));
        }
        let next = cx.now.plus_ms(DENIAL_PAUSE_MS);
        conn.edit_rare(|rare| rare.denials = Some((next, 0)));
        let user = conn.rare().subject.as_ref().and_then(|subject| subject.user.clone());
        let session = conn.session().and_then(|session| self.sessions.get(session));
        let client_id = session.map(|session| session.client_id.clone()).unwrap_or_default();
        let topic = topic.into();
        let event = Event::Denied { conn: id, client_id, user, action, topic, rule, untold };
        cx.out.push(Effect::Note(Box::new(event)));
    }

    fn send_auth(&mut self, cx: &mut Cx<'_>, id: ConnId, reason: ReasonCode, data: Option<Bytes>) {
        let Some(conn) = self.conns.get(id) else { return };
        //= [MQTT-4.12.0-5]
        let method = conn.rare().auth_method.clone().map(Property::AuthenticationMethod);
        let data = data.map(Property::AuthenticationData);
        let properties = method.into_iter().chain(data).collect();
        let packet = Packet::Auth(Box::new(Auth { reason, properties }));
        let frame = Frame::Packet(conn.version, Box::new(packet));
        if frame.len() <= conn.packet_max as usize {
            return self.send(cx, id, frame);
        }
        // The client would wait for it for ever.
        match conn.phase {
            Phase::Connected(_) => self.refuse(cx, id, ReasonCode::PacketTooLarge),
            _ => self.refuse_connect(cx, id, ReasonCode::PacketTooLarge),
        }
    }
}

/// What a refusal says in this packet: CONNACK and DISCONNECT each have codes that the other has
/// not (tables 3-1 and 3-10 of 5.0), and whoever refuses need not know which.
//= [MQTT-3.2.2-8] [MQTT-3.14.2-1]
const fn sayable(reason: ReasonCode, packet: PacketType) -> ReasonCode {
    if reason.is_error() && reason.allowed_in(packet) { reason } else { ReasonCode::NotAuthorized }
}
