//! A client that behaves as a real one: it keeps its session over connections, sends again what
//! was not acknowledged when it resumes, and acknowledges when it likes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use codec::{
    Ack, Message, Packet, PacketId, Properties, Property, ProtocolVersion, Publish, QoS, ReasonCode,
};
use session_core::ConnId;

/// How far an exchange of the client's own has come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Sending {
    pub(super) packet_id: PacketId,
    pub(super) publish: Publish,
    /// PUBREC came.
    pub(super) received: bool,
}

/// A client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Client {
    version: ProtocolVersion,
    lazy: bool,
    /// Its present connection.
    pub(super) link: Option<ConnId>,
    /// CONNACK came on it.
    pub(super) online: bool,
    /// How many QoS 1 and 2 messages the broker takes at once.
    quota: u16,
    /// The session: exchanges it began, in their order.
    pub(super) sending: VecDeque<Sending>,
    /// The session: QoS 2 messages it got and was not released of, with their numbers.
    receiving: BTreeMap<PacketId, Option<u16>>,
    /// Acknowledgements it has not sent yet.
    pub(super) owed: VecDeque<Packet>,
    /// SUBSCRIBE and UNSUBSCRIBE packets without answer.
    pub(super) asked: BTreeSet<PacketId>,
    /// It broke rules with identifiers that mean something.
    pub(super) wild: bool,
    /// Its last CONNECT asked for a clean start.
    clean: bool,
    /// Its last CONNECT was not answered.
    unanswered: bool,
}

/// A message that arrived for the application.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    pub(super) message: Message,
    pub(super) qos: QoS,
}

impl Client {
    pub(super) fn new(version: ProtocolVersion, lazy: bool) -> Self {
        Self {
            version,
            lazy,
            link: None,
            online: false,
            quota: 0,
            sending: VecDeque::new(),
            receiving: BTreeMap::new(),
            owed: VecDeque::new(),
            asked: BTreeSet::new(),
            wild: false,
            clean: false,
            unanswered: false,
        }
    }

    /// Whether it has to ask for a clean start again, since it forgot its session and was not
    /// answered.
    pub(super) fn insists(&self) -> bool {
        self.unanswered && self.clean
    }

    /// Whether it cannot know which session it will find: the last CONNECT may have found none and
    /// begun one, so that the next answer says that there is one.
    pub(super) fn is_lost(&self) -> bool {
        self.unanswered && !(self.sending.is_empty() && self.receiving.is_empty())
    }

    /// It opens a connection; for a clean start it forgets its session too.
    pub(super) fn connects(&mut self, link: ConnId, clean: bool) {
        self.unanswered = true;
        self.clean = clean;
        self.link = Some(link);
        self.online = false;
        if clean {
            self.sending.clear();
            self.receiving.clear();
        }
    }

    /// Its end of the connection is gone.
    pub(super) fn disconnected(&mut self) {
        self.link = None;
        self.online = false;
        self.owed.clear();
        self.asked.clear();
        if self.clean && self.version != ProtocolVersion::V5 {
            // A Clean Session ends with its connection, at both ends.
            self.sending.clear();
            self.receiving.clear();
        }
    }

    /// The lowest Packet Identifier that nothing uses: what was free a moment ago is used first.
    pub(super) fn free_id(&self) -> Option<PacketId> {
        (1..=u16::MAX).filter_map(PacketId::new).find(|id| {
            !self.asked.contains(id) && self.sending.iter().all(|one| one.packet_id != *id)
        })
    }

    /// Whether one more QoS 1 or 2 message keeps the broker's Receive Maximum `[MQTT-3.3.4-7]`.
    pub(super) fn may_publish(&self) -> bool {
        self.online && self.sending.len() < usize::from(self.quota).min(40)
    }

    /// Nothing of its own is unfinished.
    pub(super) fn is_idle(&self) -> bool {
        self.online
            && self.sending.is_empty()
            && (self.receiving.is_empty() || self.wild)
            && self.owed.is_empty()
            && self.asked.is_empty()
    }

    /// What it waits for, in words.
    pub(super) fn state(&self) -> String {
        let sending: Vec<_> = self
            .sending
            .iter()
            .take(5)
            .map(|one| (one.packet_id.get(), one.publish.qos as u8, one.received))
            .collect();
        format!(
            "online {}, sending {} {sending:?}, receiving {:?}, owed {}, asked {:?}",
            self.online,
            self.sending.len(),
            self.receiving,
            self.owed.len(),
            self.asked,
        )
    }

    /// Takes a packet. What the client sends at once goes into `out`.
    pub(super) fn receive(&mut self, packet: Packet, out: &mut Vec<Packet>) -> Option<Taken> {
        match packet {
            Packet::ConnAck(ack) if !ack.reason.is_error() => {
                self.quota = ack.properties.receive_maximum().unwrap_or(u16::MAX);
                self.on_connack(ack.session_present, out);
            }
            Packet::Publish(publish) => return self.on_publish(publish, out),
            Packet::PubAck(ack) | Packet::PubComp(ack) => {
                self.sending.retain(|one| one.packet_id != ack.packet_id);
            }
            Packet::PubRec(ack) if ack.reason.is_error() => {
                self.sending.retain(|one| one.packet_id != ack.packet_id);
            }
            Packet::PubRec(ack) => {
                for one in &mut self.sending {
                    one.received |= one.packet_id == ack.packet_id;
                }
                self.answer(Packet::PubRel(Ack::success(ack.packet_id)), out);
            }
            Packet::PubRel(ack) => {
                let reason = if self.receiving.remove(&ack.packet_id).is_some()
                    || self.version != ProtocolVersion::V5
                {
                    ReasonCode::Success
                } else {
                    ReasonCode::PacketIdentifierNotFound
                };
                let (packet_id, properties) = (ack.packet_id, Properties::new());
                self.answer(Packet::PubComp(Ack { packet_id, reason, properties }), out);
            }
            Packet::SubAck(ack) => drop(self.asked.remove(&ack.packet_id)),
            Packet::UnsubAck(ack) => drop(self.asked.remove(&ack.packet_id)),
            _ => {}
        }
        None
    }

    /// Resumes what was not finished, in its order `[MQTT-4.4.0-1]`, or forgets it
    /// `[MQTT-3.2.2-5]`.
    fn on_connack(&mut self, session_present: bool, out: &mut Vec<Packet>) {
        self.online = true;
        self.unanswered = false;
        // A 3.1 CONNACK cannot tell; such a client trusts what it asked for.
        if !session_present && self.version != ProtocolVersion::V31 {
            self.sending.clear();
            self.receiving.clear();
        }
        for one in &self.sending {
            out.push(if one.received {
                Packet::PubRel(Ack::success(one.packet_id))
            } else {
                Packet::Publish(Publish { dup: true, ..one.publish.clone() })
            });
        }
    }

    fn on_publish(&mut self, publish: Publish, out: &mut Vec<Packet>) -> Option<Taken> {
        let taken = Taken { message: publish.message, qos: publish.qos };
        let Some(packet_id) = publish.packet_id else { return Some(taken) };
        if publish.qos == QoS::AtLeastOnce {
            self.answer(Packet::PubAck(Ack::success(packet_id)), out);
            return Some(taken);
        }
        let number = payload_number(&taken.message);
        let first = self.receiving.insert(packet_id, number).is_none();
        self.answer(Packet::PubRec(Ack::success(packet_id)), out);
        first.then_some(taken)
    }

    fn answer(&mut self, packet: Packet, out: &mut Vec<Packet>) {
        if self.lazy { self.owed.push_back(packet) } else { out.push(packet) }
    }

    /// The owed acknowledgements that may be sent now: each kind in its order
    /// `[MQTT-4.6.0-2]` `[MQTT-4.6.0-3]` `[MQTT-4.6.0-4]`, the kinds in any.
    pub(super) fn sendable(&self) -> impl Iterator<Item = usize> + '_ {
        let earlier = |nth: usize| {
            let kind = self.owed[nth].packet_type();
            self.owed.iter().take(nth).any(|one| one.packet_type() == kind)
        };
        (0..self.owed.len())
            .filter(move |nth| matches!(self.owed[*nth], Packet::PubComp(_)) || !earlier(*nth))
    }

    /// Whether there is a message to refuse.
    pub(super) fn can_refuse(&self) -> bool {
        self.owed.iter().any(|one| matches!(one, Packet::PubAck(_) | Packet::PubRec(_)))
    }

    /// Refuses the oldest message that it has not acknowledged: an error ends the exchange. The
    /// number is that of a QoS 2 message, which is then not taken after all.
    pub(super) fn refuse(&mut self) -> Option<(Packet, Option<u16>)> {
        let at = self
            .sendable()
            .find(|nth| matches!(self.owed[*nth], Packet::PubAck(_) | Packet::PubRec(_)))?;
        let packet = self.owed.remove(at)?;
        let reason = ReasonCode::ImplementationSpecificError;
        let properties: Properties = [Property::ReasonString("no".into())].into_iter().collect();
        Some(match packet {
            Packet::PubAck(ack) => (Packet::PubAck(Ack { reason, properties, ..ack }), None),
            Packet::PubRec(ack) => {
                let number = self.receiving.remove(&ack.packet_id).flatten();
                (Packet::PubRec(Ack { reason, properties, ..ack }), number)
            }
            other => (other, None),
        })
    }

    /// What a client without manners would send.
    pub(super) fn violation(&self, how: u8) -> Vec<Packet> {
        let id = |value| PacketId::new(value).unwrap_or_else(|| unreachable!("not zero"));
        let stranger = id(50_000);
        vec![match how % 8 {
            0 => Packet::PubAck(Ack::success(stranger)),
            1 => Packet::PubRec(Ack::success(stranger)),
            2 => Packet::PubComp(Ack::success(stranger)),
            3 => Packet::PubRel(Ack::success(stranger)),
            4 => Packet::PingResp,
            5 => Packet::PubComp(Ack::success(id(1))),
            6 => Packet::PubAck(Ack::success(id(1))),
            _ => Packet::PubRec(Ack::success(id(1))),
        }]
    }

    /// Remembers an exchange that begins.
    pub(super) fn began(&mut self, packet_id: PacketId, publish: Publish) {
        self.sending.push_back(Sending { packet_id, publish, received: false });
    }
}

/// The number that a payload carries.
pub(super) fn payload_number(message: &Message) -> Option<u16> {
    Some(u16::from_be_bytes(message.payload().try_into().ok()?))
}
