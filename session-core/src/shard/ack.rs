//! Acknowledgements: those of clients for what they got, and ours.

use alloc::boxed::Box;

use codec::{Ack, AckKind, Frame, Packet, PacketId, Properties, Property, QoS, ReasonCode};

use super::{
    Cx, Shard,
    record::Record,
    session::{Exchange, Stage},
    table::SessionId,
};
use crate::ConnId;

impl Shard {
    /// PUBACK ends a QoS 1 exchange, whatever its reason `[MQTT-4.4.0-2]`.
    pub(super) fn on_puback(&mut self, cx: &mut Cx<'_>, session: SessionId, ack: &Ack) {
        //= [MQTT-4.3.2-3] [MQTT-4.4.0-2] [MQTT-4.8.2-6]
        let is_qos1 = |exchange: &Exchange| matches!(&exchange.stage, Stage::Published(queued) if queued.qos == QoS::AtLeastOnce);
        self.end_exchange(cx, session, ack.packet_id, is_qos1);
    }

    /// PUBREC: the receiver has the message (then PUBREL), or refused it (then the exchange is
    /// over) `[MQTT-4.3.3-4]`.
    pub(super) fn on_pubrec(&mut self, cx: &mut Cx<'_>, id: ConnId, session: SessionId, ack: &Ack) {
        //= [MQTT-4.3.3-1 of 3.1.1]
        //= [MQTT-4.3.3-3] [MQTT-4.3.3-4] [MQTT-4.3.3-9] [U5-4.13.2-a]
        let packet_id = ack.packet_id;
        let is_qos2 = |exchange: &Exchange| match &exchange.stage {
            Stage::Published(queued) => queued.qos == QoS::ExactlyOnce,
            Stage::Released => true,
        };
        let exchange = self.sessions.get_mut(session).and_then(|session| {
            let exchange = session.exchange(packet_id)?;
            Some((is_qos2(exchange), exchange.stage.clone(), exchange.place))
        });
        match exchange {
            Some((true, Stage::Published(_), _)) if ack.reason.is_error() => {
                self.end_exchange(cx, session, packet_id, is_qos2);
            }
            Some((true, stage, place)) => {
                if stage != Stage::Released {
                    if self.logs(session) {
                        self.log(cx, Record::Received { session, packet_id, place });
                    }
                    self.apply_received(session, packet_id);
                }
                if let Some(session) = self.sessions.get_mut(session) {
                    session.traffic.mark_sent(packet_id);
                }
                self.send_ack(cx, id, AckKind::PubRel, packet_id, ReasonCode::Success);
            }
            // PUBREC for a QoS 1 delivery acknowledges nothing.
            Some((false, ..)) => {}
            None if ack.reason.is_error() => {}
            None => {
                let reason = ReasonCode::PacketIdentifierNotFound;
                self.send_ack(cx, id, AckKind::PubRel, packet_id, reason);
            }
        }
    }

    /// PUBCOMP ends a QoS 2 exchange `[MQTT-4.3.3-5]`.
    pub(super) fn on_pubcomp(&mut self, cx: &mut Cx<'_>, session: SessionId, ack: &Ack) {
        //= [U5-3.6.2.1-a]
        let released = |exchange: &Exchange| exchange.stage == Stage::Released;
        self.end_exchange(cx, session, ack.packet_id, released);
    }

    fn end_exchange(
        &mut self,
        cx: &mut Cx<'_>,
        id: SessionId,
        packet_id: PacketId,
        fits: impl FnOnce(&Exchange) -> bool,
    ) {
        //= [MQTT-4.3.3-5]
        let Some(session) = self.sessions.get_mut(id) else { return };
        let Some(exchange) = session.exchange(packet_id) else { return };
        if !fits(exchange) {
            return;
        }
        let place = exchange.place;
        if self.logs(id) {
            self.log(cx, Record::Acknowledged { session: id, packet_id, place });
        }
        self.apply_acknowledged(id, packet_id);
        self.pump(cx, id);
    }

    /// Sends one of the four acknowledgements; an error comes with a Reason String if the client
    /// wants such and the packet stays within its limit `[MQTT-3.1.2-29]` `[MQTT-3.4.2-2]`.
    pub(super) fn send_ack(
        &mut self,
        cx: &mut Cx<'_>,
        id: ConnId,
        kind: AckKind,
        packet_id: PacketId,
        reason: ReasonCode,
    ) {
        //= [MQTT-2.2.1-5]
        let Some(conn) = self.conns.get(id) else { return };
        let version = conn.version;
        let plain = Frame::Ack { kind, version, packet_id, reason };
        if !reason.is_error() || !version.is_v5() || !conn.problem_info {
            return self.send(cx, id, plain);
        }
        let properties = Properties::from_iter([Property::ReasonString(reason.name().into())]);
        let ack = Ack { packet_id, reason, properties };
        let packet = match kind {
            AckKind::PubAck => Packet::PubAck(ack),
            AckKind::PubRec => Packet::PubRec(ack),
            AckKind::PubRel => Packet::PubRel(ack),
            AckKind::PubComp => Packet::PubComp(ack),
        };
        let full = Frame::Packet(version, Box::new(packet));
        //= [MQTT-3.4.2-2] [MQTT-3.5.2-2] [MQTT-3.6.2-2] [MQTT-3.7.2-2]
        let fits = full.len() <= conn.packet_max as usize;
        self.send(cx, id, if fits { full } else { plain });
    }

    /// Sends a packet with a Reason String if there is one to say and it fits; false if not even
    /// the plain packet is within the client's Maximum Packet Size.
    pub(super) fn send_explained(
        &mut self,
        cx: &mut Cx<'_>,
        id: ConnId,
        why: Option<&str>,
        make: impl Fn(Properties) -> Packet,
    ) -> bool {
        //= [MQTT-3.1.2-29]
        let Some(conn) = self.conns.get(id) else { return false };
        let (version, packet_max) = (conn.version, conn.packet_max as usize);
        if version.is_v5()
            && let Some(why) = why
        {
            let properties = Properties::from_iter([Property::ReasonString(why.into())]);
            let full = Frame::Packet(version, Box::new(make(properties)));
            if full.len() <= packet_max {
                self.send(cx, id, full);
                return true;
            }
        }
        let plain = Frame::Packet(version, Box::new(make(Properties::new())));
        //= [MQTT-3.1.2-24] a packet that cannot be made small enough is not sent at all.
        let fits = plain.len() <= packet_max;
        if fits {
            self.send(cx, id, plain);
        }
        fits
    }
}
