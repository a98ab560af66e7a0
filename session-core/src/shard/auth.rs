//! The conversation about who a client is: questions to the outside, AUTH packets, answers.

use alloc::boxed::Box;

use bytes::Bytes;
use codec::{Auth, Frame, Packet, PacketType, Property, ReasonCode};

use super::{
    Cx, Shard,
    conn::{Pending, Phase, Reauth, paused},
    timer::Timer,
};
use crate::{Answer, ConnId, Effect, Exchange, Request, Ticket};

impl Shard {
    /// Asks the outside about a connection; no answer in time is a refusal.
    pub(super) fn ask(&mut self, cx: &mut Cx<'_>, id: ConnId, request: Request) -> Ticket {
        let ticket = self.put_question(cx, request);
        self.tickets.insert(ticket, id);
        ticket
    }

    /// Asks the outside, whoever wants to know.
    pub(super) fn put_question(&mut self, cx: &mut Cx<'_>, request: Request) -> Ticket {
        self.last_ticket = self.last_ticket.wrapping_add(1);
        let ticket = Ticket(self.last_ticket);
        let deadline = cx.now.plus_ms(self.config.limits.ask_timeout_ms);
        self.timers.insert((deadline, Timer::Answer(ticket)));
        self.emit(cx, Effect::Ask { ticket, request: Box::new(request) });
        ticket
    }

    pub(super) fn on_answer(&mut self, cx: &mut Cx<'_>, ticket: Ticket, answer: Answer) {
        let Some(id) = self.tickets.remove(&ticket) else {
            return self.on_publisher_judged(ticket, answer);
        };
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
                let mut judged = None;
                conn.edit_rare(|rare| {
                    rare.reauth = None;
                    rare.exchange = None;
                    rare.subject = principal.subject;
                    rare.authority_ends = principal.expires;
                    rare.lapsed = false;
                    judged = rare.judged.take();
                });
                // That answer will be about who the client was.
                if let Some(ticket) = judged {
                    self.tickets.remove(&ticket);
                    self.to_judge.push(id);
                }
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
pub(super) const fn sayable(reason: ReasonCode, packet: PacketType) -> ReasonCode {
    if reason.is_error() && reason.allowed_in(packet) { reason } else { ReasonCode::NotAuthorized }
}
