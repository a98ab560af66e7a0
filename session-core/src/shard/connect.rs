//! From an open connection to CONNACK: who may come in, and to which session.

use alloc::{boxed::Box, format, sync::Arc, vec::Vec};

use bytes::Bytes;
use codec::{
    ConnAck, Connect, DecodeError, Disconnect, Frame, Packet, Properties, Property,
    ProtocolVersion, QoS, ReasonCode,
};

use super::{
    Cx, Shard,
    conn::{Conn, PACKET_BYTES_MAX, Pending, Phase, Rare, paused},
    record::Record,
    table::SessionId,
    timer::Timer,
};
use crate::{
    Action, Authentication, Cause, ConnId, Effect, Event, Grants, Limits, Origin, Principal,
    Request, Subject, Time,
};

impl Shard {
    pub(super) fn on_opened(
        &mut self,
        cx: &mut Cx<'_>,
        id: ConnId,
        origin: Box<Origin>,
        credit: u32,
    ) {
        self.conns.insert(Conn::new(id, origin, self.told.clone(), credit, cx.now));
        if self.stopping {
            return self.close(cx, id, Cause::Shutdown);
        }
        //= [U5-3.1.4-a]
        let deadline = cx.now.plus_ms(self.config.limits.connect_timeout_ms);
        self.arm(id, Some(deadline));
    }

    pub(super) fn on_packet_before_connack(&mut self, cx: &mut Cx<'_>, id: ConnId, packet: Packet) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        match (&conn.phase, packet) {
            (Phase::Opened(_), Packet::Connect(connect)) => {
                conn.version = connect.version;
                conn.packet_max =
                    connect.properties.maximum_packet_size().unwrap_or(PACKET_BYTES_MAX);
                self.on_connect(cx, id, connect);
            }
            (Phase::Authenticating(pending), Packet::Auth(auth)) if pending.ticket.is_none() => {
                self.on_auth_before_connack(cx, id, &auth);
            }
            (Phase::Authenticating(_), Packet::Disconnect(disconnect)) => {
                self.close(cx, id, Cause::Disconnected(disconnect.reason));
            }
            //= [MQTT-3.1.0-1] [MQTT-3.1.2-30] [MQTT-3.14.0-1]
            (Phase::Authenticating(_), _) => {
                self.refuse_connect(cx, id, ReasonCode::ProtocolError);
            }
            _ => self.close(cx, id, Cause::Refused(ReasonCode::ProtocolError)),
        }
    }

    pub(super) fn on_malformed(
        &mut self,
        cx: &mut Cx<'_>,
        id: ConnId,
        error: DecodeError,
        version: Option<ProtocolVersion>,
    ) {
        //= [MQTT-3.1.4-1 of 3.1.1]
        //= [MQTT-4.13.1-1]
        let Some(conn) = self.conns.get_mut(id) else { return };
        let cause = Cause::Malformed(error);
        match conn.phase {
            Phase::Connected(_) => self.disconnect(cx, id, error.reason(), cause),
            Phase::Authenticating(_) => {
                self.send_connack_error(cx, id, error.reason(), &format!("{error}"));
                self.close(cx, id, cause);
            }
            Phase::Opened(_) => {
                // A CONNECT of a known version that breaks a rule is told which in 5.0; before,
                // only an unknown level and a bad identifier have a return code, and a packet that
                // breaks a rule gets none [MQTT-3.1.4-1 of 3.1.1].
                let reason = error.reason();
                let tell = version == Some(ProtocolVersion::V5)
                    || reason == ReasonCode::UnsupportedProtocolVersion;
                conn.version = version.unwrap_or(ProtocolVersion::V311);
                if tell {
                    self.send_connack_error(cx, id, reason, &format!("{error}"));
                }
                self.close(cx, id, cause);
            }
        }
    }

    fn on_connect(&mut self, cx: &mut Cx<'_>, id: ConnId, mut connect: Box<Connect>) {
        let assigned = connect.client_id.is_empty();
        if let Err(reason) = self.judge_connect(&connect) {
            return self.refuse_connect(cx, id, reason);
        }
        if assigned {
            connect.client_id = self.assign_client_id();
        }
        let owner = self.config.map.session(&connect.client_id);
        if owner != self.config.id {
            self.arm(id, None);
            self.conns.remove(id);
            return self.emit(cx, Effect::Move { conn: id, connect, to: owner });
        }
        let method = connect.properties.authentication_method();
        match self.config.authentication {
            //= [MQTT-4.12.0-1]
            Authentication::Anonymous if method.is_some() => {
                self.refuse_connect(cx, id, ReasonCode::BadAuthenticationMethod);
            }
            Authentication::Anonymous => {
                let name = connect.user_name.clone();
                let principal = Principal { name, ..Principal::default() };
                self.accept(cx, id, connect, assigned, principal, None);
            }
            Authentication::Ask => {
                let origin = self.conns.get_mut(id).and_then(|conn| match &mut conn.phase {
                    Phase::Opened(origin) => origin.take(),
                    _ => None,
                });
                let Some(origin) = origin else { return };
                let request = Request::Authenticate { connect: connect.clone(), origin };
                let ticket = Some(self.ask(cx, id, request));
                self.pause(cx, id, paused::ANSWER);
                if let Some(conn) = self.conns.get_mut(id) {
                    let method = method.map(Box::from);
                    conn.edit_rare(|rare| rare.auth_method = method);
                    conn.phase =
                        Phase::Authenticating(Box::new(Pending { connect, assigned, ticket }));
                }
            }
        }
    }

    /// What is wrong with a CONNECT before anything is known of its sender.
    fn judge_connect(&self, connect: &Connect) -> Result<(), ReasonCode> {
        //= [MQTT-3.1.3-8 of 3.1.1] [MQTT-3.1.3-9 of 3.1.1] [U3-3.1.3.1-a] [D31-3] [D31-4]
        //= [MQTT-3.1.3-5]
        let features = &self.config.features;
        if connect.client_id.is_empty() {
            //= [MQTT-3.1.3-8 of 3.1.1], and 3.1 knows no empty identifier at all.
            let may_be_assigned = match connect.version {
                ProtocolVersion::V31 => false,
                ProtocolVersion::V311 => connect.clean_start,
                ProtocolVersion::V5 => true,
            };
            if !may_be_assigned {
                return Err(ReasonCode::ClientIdentifierNotValid);
            }
        }
        //= [MQTT-3.1.3-8]
        if connect.client_id.len() > usize::from(self.config.limits.client_id_bytes_max) {
            return Err(ReasonCode::ClientIdentifierNotValid);
        }
        if let Some(will) = &connect.will {
            //= [MQTT-3.2.2-12]
            if will.qos > features.maximum_qos {
                return Err(ReasonCode::QoSNotSupported);
            }
            //= [MQTT-3.2.2-13]
            if will.retain && !features.retain {
                return Err(ReasonCode::RetainNotSupported);
            }
            self.judge_topic(will.message.topic())?;
        }
        Ok(())
    }

    /// A Client Identifier that nobody uses and whose session belongs here `[MQTT-3.2.2-16]`.
    /// The search ends after as many steps as there are shards on average.
    fn assign_client_id(&mut self) -> Box<str> {
        //= [MQTT-3.1.3-6] [MQTT-3.2.2-16]
        loop {
            self.last_assigned = self.last_assigned.wrapping_add(1);
            let id = format!("auto-{:016x}-{:x}", self.config.instance, self.last_assigned);
            let is_ours = self.config.map.session(&id) == self.config.id;
            if is_ours && self.session_of(&id).is_none() {
                return id.into();
            }
        }
    }

    /// Lets a client in.
    pub(super) fn accept(
        &mut self,
        cx: &mut Cx<'_>,
        id: ConnId,
        connect: Box<Connect>,
        assigned: bool,
        principal: Principal,
        data: Option<Bytes>,
    ) {
        self.end_absence(cx, &connect.client_id);
        let room = self.judge_room(&connect);
        if let Err(reason) = room.and_then(|()| judge_will(cx, id, &connect, &principal)) {
            return self.refuse_connect(cx, id, reason);
        }
        let (session, present) = self.take_session(cx, &connect);
        let session_expiry_s = self.granted_expiry_s(&connect);
        let Principal { name, grants, expires, subject, limits } = principal;
        self.begin_connection(id, session, &connect, grants, subject, expires);
        if let Some(conn) = self.conns.get_mut(id) {
            conn.limit(limits.as_ref().unwrap_or(&self.config.limits.client), cx.now);
        }
        //= [MQTT-3.1.3-9] a Will that was due is due no longer.
        self.set_will(cx, session, connect.will.clone());
        self.rearm(cx, id);
        self.send_connack(cx, id, &connect, assigned, present, session_expiry_s, data);
        self.note_connected(cx, id, &connect, name, present);
        self.recheck_subscriptions(cx, id);
        self.pump(cx, session);
    }

    /// What the absence of this client has ended by now is over, even if the shard is late and the
    /// timers have not fired: a session whose time is up is not resumed, and a Will that was due is
    /// published `[MQTT-3.1.2-23]` `[MQTT-3.1.3-9]`.
    fn end_absence(&mut self, cx: &mut Cx<'_>, client_id: &str) {
        let Some(id) = self.session_of(client_id) else { return };
        let Some(session) = self.sessions.get(id) else { return };
        if session.conn.is_some() || seeded!(ResumesLate) {
            return;
        }
        let is_over = |time: Option<Time>| time.is_some_and(|time| time <= cx.now);
        if is_over(session.ends) {
            self.end_session(cx, id);
        } else if is_over(session.will.as_ref().and_then(|will| will.due)) {
            self.publish_will(cx, id);
        }
    }

    /// The session of a client.
    pub(super) fn session_of(&self, client_id: &str) -> Option<SessionId> {
        self.by_client.get(&self.sessions, client_id)
    }

    /// Whether there is room for one more connection, and for its session.
    fn judge_room(&self, connect: &Connect) -> Result<(), ReasonCode> {
        let limits = &self.config.limits;
        // Who takes its own session over brings no further connection.
        let present = self.session_of(&connect.client_id);
        let taken_over = present
            .and_then(|id| self.sessions.get(id))
            .is_some_and(|session| session.conn.is_some());
        let connections = self.conns.len().saturating_sub(usize::from(taken_over));
        if connections > limits.connections_max as usize {
            return Err(ReasonCode::QuotaExceeded);
        }
        if present.is_none() && self.sessions.len() >= limits.sessions_max as usize {
            return Err(ReasonCode::QuotaExceeded);
        }
        Ok(())
    }

    /// The session of a CONNECT and whether it existed: taken over, resumed or made anew.
    fn take_session(&mut self, cx: &mut Cx<'_>, connect: &Connect) -> (SessionId, bool) {
        //= [MQTT-3.1.2-6 of 3.1.1]
        //= [MQTT-3.1.2-4 of 3.1.1]
        //= [MQTT-3.1.3-2] [MQTT-3.1.4-4]
        let mut old = self.session_of(&connect.client_id);
        //= [MQTT-3.1.4-3]
        if let Some(conn) = old.and_then(|old| self.sessions.get(old)?.conn)
            && !seeded!(KeepsOldConnection)
        {
            self.take_over(cx, conn, connect.clean_start);
            old = self.session_of(&connect.client_id);
        }
        //= [MQTT-3.1.2-4]
        let mut kept = None;
        if connect.clean_start
            && let Some(session) = old.take()
        {
            if seeded!(KeepsInboundAtCleanStart) {
                kept = self.sessions.get(session).map(|session| session.traffic.inbound.clone());
            }
            self.end_session(cx, session);
        }
        //= [MQTT-3.1.2-5] [MQTT-3.1.2-6]
        let session = old.unwrap_or_else(|| self.sessions.vacancy());
        let expiry_s = self.granted_expiry_s(connect);
        let ends = self.sessions.get(session).and_then(|session| session.ends);
        if let Some(ends) = ends {
            self.timers.remove((ends, Timer::Session(session)));
        }
        let client_id = connect.client_id.clone();
        if self.config.durable && (expiry_s > 0 || self.logs(session)) {
            let client_id = client_id.clone();
            self.log(cx, Record::Session { session, client_id, expiry_s });
        }
        self.apply_session(session, client_id, expiry_s);
        for (packet_id, held) in kept.into_iter().flatten() {
            self.apply_held(session, packet_id, held.publication, false);
        }
        (session, old.is_some())
    }

    /// Session Expiry Interval as granted. A Clean Session of earlier versions ends with the
    /// connection, any other never.
    fn granted_expiry_s(&self, connect: &Connect) -> u32 {
        let wanted = match connect.version {
            ProtocolVersion::V5 => connect.properties.session_expiry_interval().unwrap_or(0),
            _ if connect.clean_start => 0,
            _ => u32::MAX,
        };
        wanted.min(self.config.limits.session_expiry_s_max)
    }

    fn begin_connection(
        &mut self,
        id: ConnId,
        session: SessionId,
        connect: &Connect,
        grants: Grants,
        subject: Option<Arc<Subject>>,
        expires: Option<Time>,
    ) {
        //= [U5-4.9-a]
        let limits = &self.config.limits;
        let Some(conn) = self.conns.get_mut(id) else { return };
        let properties = &connect.properties;
        conn.phase = Phase::Connected(session);
        conn.told = self.told.clone();
        conn.bridge = connect.bridge;
        //= [MQTT-4.9.0-1]
        conn.window = properties.receive_maximum().unwrap_or(u16::MAX).min(limits.send_window_max);
        conn.problem_info = properties.request_problem_information().unwrap_or(true);
        //= [MQTT-3.1.2-27]
        conn.alias_out_max =
            properties.topic_alias_maximum().unwrap_or(0).min(limits.topic_alias_out_max);
        conn.grants = grants;
        let method = properties.authentication_method().map(Box::from);
        // Most clients have none of it, and need not make room for it.
        let is_rare = method.is_some() || expires.is_some() || subject.is_some() || conn.has_rare();
        let fill = |rare: &mut Rare| {
            rare.auth_method = method;
            rare.authority_ends = expires;
            rare.exchange = None;
            rare.subject = subject;
        };
        if is_rare {
            conn.edit_rare(fill);
        }
        //= [MQTT-3.1.2-22]
        let keep_alive_s = granted_keep_alive_s(connect, limits);
        conn.set_keep_alive(keep_alive_s);
        if let Some(session) = self.sessions.get_mut(session) {
            session.conn = Some(id);
        }
    }

    #[allow(clippy::too_many_arguments, reason = "each is one fact that CONNACK tells")]
    fn send_connack(
        &mut self,
        cx: &mut Cx<'_>,
        id: ConnId,
        connect: &Connect,
        assigned: bool,
        present: bool,
        session_expiry_s: u32,
        data: Option<Bytes>,
    ) {
        //= [U3-3.1.4-c] [D31-5]
        //= [MQTT-3.1.4-5] [MQTT-3.2.0-2] [U5-3.1.4-b]
        let properties = if connect.version.is_v5() {
            self.connack_properties(connect, assigned, session_expiry_s, data)
        } else {
            Properties::new()
        };
        //= [MQTT-3.2.2-2] [MQTT-3.2.2-3]; 3.1 has no such flag.
        let session_present = present && connect.version != ProtocolVersion::V31;
        let reason = ReasonCode::Success;
        let packet = Packet::ConnAck(Box::new(ConnAck { session_present, reason, properties }));
        let frame = Frame::Packet(connect.version, Box::new(packet));
        //= [MQTT-3.1.2-24] what CONNACK has to say cannot be left out.
        if self.conns.get(id).is_some_and(|conn| frame.len() > conn.packet_max as usize) {
            return self.close(cx, id, Cause::Refused(ReasonCode::PacketTooLarge));
        }
        //= [MQTT-3.2.0-1]
        self.send(cx, id, frame);
    }

    fn connack_properties(
        &self,
        connect: &Connect,
        assigned: bool,
        session_expiry_s: u32,
        data: Option<Bytes>,
    ) -> Properties {
        //= [U5-3.2.2.3-a] [U5-3.2.2.3.4-a]
        use Property as P;
        let (limits, features) = (&self.config.limits, &self.config.features);
        let asked = &connect.properties;
        let keep_alive_s = granted_keep_alive_s(connect, limits);
        let response = match &features.response_topic_prefix {
            //= [MQTT-3.1.2-28]
            Some(prefix) if asked.request_response_information() == Some(true) => {
                Some(format!("{prefix}{}", connect.client_id).into_boxed_str())
            }
            _ => None,
        };
        let optional = [
            //= [U5-3.2.2.3.2-a]
            (session_expiry_s != asked.session_expiry_interval().unwrap_or(0))
                .then_some(P::SessionExpiryInterval(session_expiry_s)),
            Some(P::ReceiveMaximum(limits.receive_maximum)),
            //= [MQTT-3.2.2-9]
            (features.maximum_qos < QoS::ExactlyOnce)
                .then_some(P::MaximumQoS(features.maximum_qos as u8)),
            (!features.retain).then_some(P::RetainAvailable(false)),
            Some(P::MaximumPacketSize(limits.packet_bytes_max)),
            //= [MQTT-3.1.3-7]
            assigned.then(|| P::AssignedClientIdentifier(connect.client_id.clone())),
            Some(P::TopicAliasMaximum(limits.topic_alias_maximum)),
            (!features.wildcard_subscriptions).then_some(P::WildcardSubscriptionAvailable(false)),
            (!features.subscription_identifiers)
                .then_some(P::SubscriptionIdentifierAvailable(false)),
            (!features.shared_subscriptions).then_some(P::SharedSubscriptionAvailable(false)),
            (keep_alive_s != connect.keep_alive_s).then_some(P::ServerKeepAlive(keep_alive_s)),
            response.map(P::ResponseInformation),
            //= [MQTT-4.12.0-5] [MQTT-4.12.0-6]
            asked.authentication_method().map(|method| P::AuthenticationMethod(method.into())),
            data.map(P::AuthenticationData),
        ];
        optional.into_iter().flatten().collect()
    }

    fn note_connected(
        &self,
        cx: &mut Cx<'_>,
        id: ConnId,
        connect: &Connect,
        user: Option<Box<str>>,
        session_present: bool,
    ) {
        if self.conns.get(id).is_none() {
            return;
        }
        cx.out.push(Effect::Note(Box::new(Event::Connected {
            conn: id,
            client_id: connect.client_id.clone(),
            user,
            version: connect.version,
            session_present,
            keep_alive_s: granted_keep_alive_s(connect, &self.config.limits),
        })));
    }

    /// Ends subscriptions that a client may no longer have: rights may have changed since.
    pub(super) fn recheck_subscriptions(&mut self, cx: &mut Cx<'_>, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        let Some(session) = conn.session() else { return };
        if conn.grants == Grants::All {
            return;
        }
        let Some(state) = self.sessions.get(session) else { return };
        let lost: Vec<Arc<str>> = state
            .subscriptions
            .iter()
            .filter(|(filter, subscription)| {
                let plain = match codec::topic::split_shared(filter) {
                    Some(Ok((_, plain))) => plain,
                    _ => filter,
                };
                !conn.grants.may_subscribe(plain, subscription.options.qos)
            })
            .map(|(filter, _)| Arc::from(filter))
            .collect();
        for filter in lost {
            self.forget_subscription(cx, session, filter, None);
        }
    }

    /// Refuses a CONNECT: the reason if the version has a way to say it, then the end
    /// `[MQTT-3.2.2-7]` `[MQTT-3.1.4-6]`.
    pub(super) fn refuse_connect(&mut self, cx: &mut Cx<'_>, id: ConnId, reason: ReasonCode) {
        //= [MQTT-3.1.4-6] [MQTT-3.2.2-7]
        self.send_connack_error(cx, id, reason, reason.name());
        self.close(cx, id, Cause::Refused(reason));
    }

    fn send_connack_error(&mut self, cx: &mut Cx<'_>, id: ConnId, reason: ReasonCode, why: &str) {
        //= [U3-3.2.2.3-a] [D31-15]
        //= [MQTT-4.13.2-1] [U5-4.13.1-a]
        let Some(conn) = self.conns.get(id) else { return };
        //= [MQTT-3.2.2-6 of 3.1.1]
        if !conn.version.is_v5() && reason.v3_connect_return_code().is_none() {
            return;
        }
        //= [MQTT-3.2.2-6] [MQTT-3.2.2-19]
        self.send_explained(cx, id, Some(why), |properties| {
            Packet::ConnAck(Box::new(ConnAck { session_present: false, reason, properties }))
        });
    }

    /// Ends the connection that a session had: another one takes it over.
    fn take_over(&mut self, cx: &mut Cx<'_>, conn: ConnId, clean_start: bool) {
        let reason = ReasonCode::SessionTakenOver;
        self.send_disconnect(cx, conn, reason, reason.name());
        self.detach(cx, conn, Cause::TakenOver, clean_start);
    }

    pub(super) fn send_disconnect(
        &mut self,
        cx: &mut Cx<'_>,
        id: ConnId,
        reason: ReasonCode,
        why: &str,
    ) {
        //= [MQTT-3.14.4-1] [MQTT-3.14.4-2]
        let Some(conn) = self.conns.get(id) else { return };
        //= [MQTT-3.14.0-1]
        if conn.version.is_v5() && conn.session().is_some() {
            //= [MQTT-3.14.2-3] [MQTT-3.14.2-2]
            self.send_explained(cx, id, Some(why), |properties| {
                Packet::Disconnect(Box::new(Disconnect { reason, properties }))
            });
        }
    }
}

/// Whether a client may leave the Will that it comes with; what forbids it is told.
fn judge_will(
    cx: &mut Cx<'_>,
    conn: ConnId,
    connect: &Connect,
    who: &Principal,
) -> Result<(), ReasonCode> {
    let Some(will) = &connect.will else { return Ok(()) };
    let topic = will.message.topic_str();
    let verdict = who.grants.judge_publish(topic, will.qos, will.retain);
    if verdict.allowed {
        return Ok(());
    }
    cx.out.push(Effect::Note(Box::new(Event::Denied {
        conn,
        client_id: connect.client_id.clone(),
        user: who.subject.as_ref().and_then(|subject| subject.user.clone()),
        action: Action::Publish,
        topic: topic.into(),
        rule: verdict.rule.map(|rule| rule.source.clone()),
        untold: 0,
    })));
    Err(ReasonCode::NotAuthorized)
}

/// The Keep Alive in force, seconds `[MQTT-3.1.2-21]`. Before 5.0 a client cannot be told another.
fn granted_keep_alive_s(connect: &Connect, limits: &Limits) -> u16 {
    let maximum_s = limits.keep_alive_s_max;
    //= [MQTT-3.2.2-22]
    let asked = connect.keep_alive_s;
    let is_left_alone = !connect.version.is_v5() && !limits.keep_alive_v3_cut;
    if maximum_s == 0 || is_left_alone || (asked != 0 && asked <= maximum_s) {
        return asked;
    }
    maximum_s
}
