//! The sessions' half: messages that come from clients.

use alloc::{boxed::Box, sync::Arc};

use codec::{AckKind, PacketId, ProtocolVersion, Publish, QoS, ReasonCode};

use super::{
    Cx, Shard,
    conn::{Conn, PendingAck, paused},
    msg::{Flight, Publication, SessionRef},
    record::Record,
    session::Waiting,
    table::SessionId,
};
use crate::{Action, ConnId, DeniedPublish, Grants, Subject};

impl Shard {
    pub(super) fn on_publish(
        &mut self,
        cx: &mut Cx<'_>,
        id: ConnId,
        session: SessionId,
        mut publish: Publish,
    ) {
        if let Err(reason) = self.resolve_alias(id, &mut publish) {
            return self.refuse(cx, id, reason);
        }
        let Some(conn) = self.conns.get(id) else { return };
        let features = &conn.told.features;
        //= [MQTT-3.2.2-14] [U5-3.2.2.3.5-a]
        if publish.retain && !features.retain {
            return self.refuse(cx, id, ReasonCode::RetainNotSupported);
        }
        //= [MQTT-3.2.2-11]
        if publish.qos > features.maximum_qos {
            return self.refuse(cx, id, ReasonCode::QoSNotSupported);
        }
        let publication = Publication {
            qos: publish.qos,
            retain: publish.retain,
            at: cx.now,
            publisher: Some(SessionRef { shard: self.config.id, session }),
            by: if publish.retain { self.subject_of(id) } else { None },
            origin: self.config.id,
            flight: Flight::Unwatched,
            message: publish.message,
        };
        //= [MQTT-3.3.4-1]
        match publish.packet_id {
            None => self.publish_qos0(cx, id, publication),
            Some(packet_id) if publish.qos == QoS::AtLeastOnce => {
                self.publish_qos1(cx, id, packet_id, publication);
            }
            Some(packet_id) => self.hold_qos2(cx, id, session, packet_id, publication),
        }
    }

    /// What the rights of a client are judged by, if it is known.
    fn subject_of(&self, id: ConnId) -> Option<Arc<Subject>> {
        self.conns.get(id)?.rare().subject.clone()
    }

    /// Puts the topic of a Topic Alias in its place, or learns the alias.
    fn resolve_alias(&mut self, id: ConnId, publish: &mut Publish) -> Result<(), ReasonCode> {
        //= [U5-3.3.2.3.4-a] [U5-3.3.2.3.4-b]
        let Some(alias) = publish.topic_alias else { return Ok(()) };
        //= [MQTT-3.3.2-9] [MQTT-3.2.2-18]
        let Some(conn) = self.conns.get_mut(id) else { return Ok(()) };
        if alias.get() > conn.told.topic_alias_maximum {
            return Err(ReasonCode::TopicAliasInvalid);
        }
        if publish.message.topic().is_empty() {
            let known = conn.rare().aliases_in.get(&alias.get());
            let topic = known.ok_or(ReasonCode::ProtocolError)?;
            publish.message = publish.message.with_topic(topic);
        } else {
            //= [MQTT-3.3.2-12]
            let topic = publish.message.topic().into();
            conn.edit_rare(|rare| drop(rare.aliases_in.insert(alias.get(), topic)));
        }
        Ok(())
    }

    fn publish_qos0(&mut self, cx: &mut Cx<'_>, id: ConnId, publication: Publication) {
        // There is no way to tell a QoS 0 publisher but to hang up, which would punish it for what
        // may be one wrong topic among many: the message is dropped.
        match self.judge_publish(cx, id, &publication) {
            Ok(()) => {
                self.publish(cx, publication);
                self.wait_for_links(cx, id);
            }
            Err(reason) => drop(self.hangs_up(cx, id, reason)),
        }
    }

    fn publish_qos1(
        &mut self,
        cx: &mut Cx<'_>,
        id: ConnId,
        packet_id: PacketId,
        mut publication: Publication,
    ) {
        //= [MQTT-3.3.5-2 of 3.1.1] [MQTT-4.3.2-2 of 3.1.1] [D31-13]
        //= [MQTT-4.3.2-4] [MQTT-4.3.2-5]
        let verdict = self.judge_publish(cx, id, &publication);
        if verdict.is_err_and(|reason| self.hangs_up(cx, id, reason)) || !self.take_quota(cx, id) {
            return;
        }
        let Some(conn) = self.conns.get_mut(id) else { return };
        let number =
            conn.acks_first.wrapping_add(u32::try_from(conn.acks.len()).unwrap_or(u32::MAX));
        let mut ack =
            PendingAck { packet_id, waiting: Waiting::default(), reason: ReasonCode::Success };
        if let Err(reason) = verdict {
            ack.waiting.routed = true;
            ack.reason = reason;
        }
        conn.acks.push_back(ack);
        if verdict.is_err() {
            return self.flush_acks(cx, id);
        }
        publication.flight = Flight::Ack { conn: id, number };
        self.publish(cx, publication);
        self.wait_for_links(cx, id);
        self.wait_for_flights(cx, id);
    }

    /// Takes a QoS 2 message into the session, to be routed at PUBREL: whatever breaks before it,
    /// the message is routed once.
    fn hold_qos2(
        &mut self,
        cx: &mut Cx<'_>,
        id: ConnId,
        session: SessionId,
        packet_id: PacketId,
        publication: Publication,
    ) {
        //= [MQTT-4.3.3-2 of 3.1.1]
        let counts = self.counts_qos2(id);
        let Some(state) = self.sessions.get_mut(session) else { return };
        if seeded!(LeaksHeldBytes) && state.traffic.inbound.contains_key(&packet_id) {
            let bytes = u64::try_from(publication.message.size()).unwrap_or(u64::MAX);
            state.traffic.inbound_bytes = state.traffic.inbound_bytes.saturating_add(bytes);
        }
        //= [MQTT-4.3.3-10] a repetition is acknowledged and not taken again.
        if let Some(held) = state.traffic.inbound.get_mut(&packet_id) {
            let counted = core::mem::replace(&mut held.counted, counts);
            if counted == counts || self.take_quota(cx, id) {
                self.send_ack(cx, id, AckKind::PubRec, packet_id, ReasonCode::Success);
            }
            return;
        }
        if counts && !self.take_quota(cx, id) {
            return;
        }
        let mut verdict = self.judge_publish(cx, id, &publication);
        if verdict.is_err_and(|reason| self.hangs_up(cx, id, reason)) {
            return;
        }
        // What the topic's owner would refuse is refused before the message is taken, as far as
        // this shard can know it.
        if publication.retain
            && self.config.map.topic(publication.message.topic()) == self.config.id
            && !publication.message.payload().is_empty()
            && !self.has_room_to_retain(&publication)
        {
            verdict = Err(ReasonCode::QuotaExceeded);
        }
        if !self.has_room_to_hold(session, &publication) {
            verdict = Err(ReasonCode::QuotaExceeded);
        }
        if let Err(reason) = verdict {
            if counts {
                self.return_quota(id);
            } else if reason == ReasonCode::QuotaExceeded {
                // A version without reasons would take this PUBREC for a yes.
                return;
            }
            return self.send_ack(cx, id, AckKind::PubRec, packet_id, reason);
        }
        if self.logs(session) {
            let publication = Box::new(publication.clone());
            self.log(cx, Record::Held { session, packet_id, publication });
        }
        self.apply_held(session, packet_id, publication, counts);
        //= [MQTT-4.3.3-8]
        self.send_ack(cx, id, AckKind::PubRec, packet_id, ReasonCode::Success);
    }

    /// Whether QoS 2 messages of this connection count against our Receive Maximum. Versions before
    /// 5.0 know no such number, and could not be held up either: the PUBREL that makes room comes
    /// behind the next PUBLISH. There the bytes alone are bounded.
    fn counts_qos2(&self, id: ConnId) -> bool {
        self.conns.get(id).is_some_and(|conn| conn.version.is_v5())
    }

    /// Whether a session may hold one more QoS 2 message that is not released.
    fn has_room_to_hold(&self, session: SessionId, publication: &Publication) -> bool {
        let Some(state) = self.sessions.get(session) else { return false };
        let bytes = u64::try_from(publication.message.size()).unwrap_or(u64::MAX);
        state.traffic.inbound_bytes.saturating_add(bytes)
            <= self.config.limits.session_queue_bytes_max
    }

    /// Counts a QoS 1 or 2 publish against our Receive Maximum `[MQTT-3.3.4-7]`. Versions before
    /// 5.0 know no such number: their excess waits in the socket at QoS 1.
    fn take_quota(&mut self, cx: &mut Cx<'_>, id: ConnId) -> bool {
        let Some(conn) = self.conns.get_mut(id) else { return false };
        if conn.inbound_used >= conn.told.receive_maximum {
            self.refuse(cx, id, ReasonCode::ReceiveMaximumExceeded);
            return false;
        }
        conn.inbound_used = conn.inbound_used.saturating_add(1);
        true
    }

    pub(super) fn return_quota(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.inbound_used = conn.inbound_used.saturating_sub(1);
        }
    }

    /// Whether a client may publish this.
    fn judge_publish(
        &mut self,
        cx: &mut Cx<'_>,
        id: ConnId,
        publication: &Publication,
    ) -> Result<(), ReasonCode> {
        //= [MQTT-4.7.0-1] [U5-4.3.3-a]
        let topic = publication.message.topic();
        self.judge_topic(topic)?;
        let Some(conn) = self.conns.get(id) else { return Err(ReasonCode::UnspecifiedError) };
        if self.storage_full && publication.qos > QoS::AtMostOnce {
            return Err(ReasonCode::QuotaExceeded);
        }
        if matches!(conn.grants, Grants::All) && !conn.limited && self.all_in.is_none() {
            return Ok(());
        }
        self.judge_rights(cx, id, publication)
    }

    /// Whether rights and limits allow a message.
    fn judge_rights(
        &mut self,
        cx: &mut Cx<'_>,
        id: ConnId,
        publication: &Publication,
    ) -> Result<(), ReasonCode> {
        let Some(conn) = self.conns.get(id) else { return Err(ReasonCode::UnspecifiedError) };
        let Publication { message, qos, retain, .. } = publication;
        let verdict = conn.grants.judge_publish(message.topic_str(), *qos, *retain);
        if verdict.allowed {
            return self.meter_in(cx, id, publication);
        }
        let rule = verdict.rule.map(|rule| rule.source.clone());
        self.note_denied(cx, id, Action::Publish, message.topic_str(), rule);
        Err(ReasonCode::NotAuthorized)
    }

    /// Closes the connection of a client that may not publish and cannot be told in another way, if
    /// that is wanted `[MQTT-3.3.5-2 of 3.1.1]`.
    fn hangs_up(&mut self, cx: &mut Cx<'_>, id: ConnId, reason: ReasonCode) -> bool {
        if reason == ReasonCode::MessageRateTooHigh {
            self.refuse(cx, id, reason);
            return true;
        }
        let is_old = self.conns.get(id).is_some_and(|conn| !conn.version.is_v5());
        let hangs_up = is_old
            && reason == ReasonCode::NotAuthorized
            && self.config.denied_publish_v3 == DeniedPublish::Disconnect;
        if hangs_up {
            self.refuse(cx, id, reason);
        }
        hangs_up
    }

    /// Whether a topic is within the limits and not one of the broker's own (U5-4.7.2-a).
    pub(super) fn judge_topic(&self, topic: &[u8]) -> Result<(), ReasonCode> {
        //= [U5-4.7.2-a] [U3-4.7.2-a]
        let limits = &self.config.limits;
        let levels_max = usize::from(limits.topic_levels_max);
        let separators = || topic.iter().filter(|byte| **byte == b'/').count();
        if topic.first() == Some(&b'$')
            || topic.len() > usize::from(limits.topic_bytes_max)
            // What has fewer bytes than levels are allowed need not be counted.
            || (topic.len() >= levels_max && separators() >= levels_max)
        {
            return Err(ReasonCode::TopicNameInvalid);
        }
        Ok(())
    }

    /// PUBREL: now the message is routed, once `[MQTT-4.3.3-11]` `[MQTT-4.3.3-12]`.
    pub(super) fn on_pubrel(
        &mut self,
        cx: &mut Cx<'_>,
        id: ConnId,
        session: SessionId,
        ack: &codec::Ack,
    ) {
        //= [MQTT-4.3.3-13]
        let packet_id = ack.packet_id;
        let is_held = self
            .sessions
            .get(session)
            .is_some_and(|state| state.traffic.inbound.contains_key(&packet_id));
        if is_held {
            if seeded!(SharesIdentifiers) {
                self.apply_acknowledged(session, packet_id);
            }
            self.release(cx, session, packet_id);
            return self.wait_for_links(cx, id);
        }
        // While its receivers' shards have not all answered, PUBCOMP is on its way.
        if !self.is_releasing(id, session, packet_id) {
            let reason = ReasonCode::PacketIdentifierNotFound;
            self.send_ack(cx, id, AckKind::PubComp, packet_id, reason);
        }
    }

    /// The topic's owner has routed a publish that somebody here waits for.
    pub(super) fn on_routed(
        &mut self,
        cx: &mut Cx<'_>,
        flight: Flight,
        shards: u16,
        reason: ReasonCode,
    ) {
        self.progress(cx, flight, |waiting, told| {
            waiting.routed = true;
            waiting.stored = waiting.stored.saturating_add(i32::from(shards));
            if reason.is_error() || *told == ReasonCode::Success {
                *told = reason;
            }
        });
    }

    /// The receivers of one shard have the message.
    pub(super) fn on_stored(&mut self, cx: &mut Cx<'_>, flight: Flight, refused: bool) {
        self.progress(cx, flight, |waiting, told| {
            waiting.stored = waiting.stored.saturating_sub(1);
            if refused {
                *told = ReasonCode::QuotaExceeded;
            }
        });
    }

    fn progress(
        &mut self,
        cx: &mut Cx<'_>,
        flight: Flight,
        change: impl FnOnce(&mut Waiting, &mut ReasonCode),
    ) {
        match flight {
            Flight::Unwatched => {}
            Flight::Ack { conn: id, number } => {
                let Some(conn) = self.conns.get_mut(id) else { return };
                let Some(ack) = conn.ack(number) else { return };
                change(&mut ack.waiting, &mut ack.reason);
                if ack.waiting.is_over() {
                    self.flush_acks(cx, id);
                }
            }
            Flight::Outgoing { id, .. } => {
                let Some(outgoing) = self.outgoing.get_mut(&id) else { return };
                // The message was taken with PUBREC: no receiver's refusal can undo that.
                change(&mut outgoing.waiting, &mut ReasonCode::Success);
                if outgoing.waiting.is_over() {
                    self.complete_outgoing(cx, id);
                }
            }
        }
    }

    /// Sends the PUBACKs whose turn has come: in the order of their publishes.
    fn flush_acks(&mut self, cx: &mut Cx<'_>, id: ConnId) {
        while let Some(conn) = self.conns.get_mut(id) {
            let early = seeded!(AcknowledgesEarly);
            let Some(ack) = conn.pop_ack(|ack| early || ack.waiting.is_over()) else { break };
            // A version without reasons is not told that its message was taken when it was not.
            let silent =
                conn.version != ProtocolVersion::V5 && ack.reason == ReasonCode::QuotaExceeded;
            if !silent {
                self.send_ack(cx, id, AckKind::PubAck, ack.packet_id, ack.reason);
            }
        }
        let Some(conn) = self.conns.get(id) else { return };
        let limits = &self.config.limits;
        let all = limits.publishes_in_flight_max as usize;
        let most = if seeded!(ReleasesPublishersLate) { all } else { self.flights_max(conn) };
        if conn.acks.len() <= most / 2 {
            self.resume(cx, id, paused::FLIGHTS);
        }
    }

    /// How many QoS 1 publishes of a connection may await their acknowledgement. A version without
    /// Receive Maximum is held up before it exceeds ours, which it cannot know.
    fn flights_max(&self, conn: &Conn) -> usize {
        let limits = &self.config.limits;
        let maximum = limits.publishes_in_flight_max;
        let is_told = conn.version.is_v5();
        let maximum =
            if is_told { maximum } else { maximum.min(u32::from(limits.receive_maximum)) };
        maximum as usize
    }

    /// Stops reading a publisher that is far ahead of its receivers' shards.
    fn wait_for_flights(&mut self, cx: &mut Cx<'_>, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        if conn.acks.len() >= self.flights_max(conn) {
            self.pause(cx, id, paused::FLIGHTS);
        }
    }

    /// Stops reading a publisher while this shard or another is far behind.
    fn wait_for_links(&mut self, cx: &mut Cx<'_>, id: ConnId) {
        let limits = &self.config.limits;
        let behind = self.links.iter().any(|link| link.in_flight >= limits.link_in_flight_max)
            || self.unrouted.len() >= limits.link_in_flight_max as usize
            || self.jobs.len() >= limits.publishes_in_flight_max as usize;
        if behind {
            self.link_waiters.insert(id);
            self.pause(cx, id, paused::LINK);
        }
    }
}
