//! What a publisher does: it decides, and does no I/O.

use std::{collections::BTreeMap, num::NonZeroU16};

use codec::{Ack, ConnAck, Message, Packet, PacketId, Property, Publish, QoS, ReasonCode};

use super::{args::Template, reason};

/// Publishes messages of one QoS.
pub(super) struct Publisher {
    qos: QoS,
    /// Messages that may be unacknowledged at a time.
    window: usize,
    packet_max: usize,
    topic_alias_max: u16,
    may_retain: bool,
    last_id: u16,
    /// For each whether PUBREC has come.
    in_flight: BTreeMap<PacketId, bool>,
    /// The broker knows the alias.
    alias_known: bool,
    /// Nothing more is published.
    is_over: bool,
    /// Why, if that was not wanted, and what the broker refused.
    problems: Vec<String>,
}

/// What a packet brings about.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Heard {
    /// To be sent.
    pub(super) answer: Option<Packet>,
    /// The broker took the message, and nobody got it.
    pub(super) is_unheard: bool,
}

impl Publisher {
    /// What the broker told in its CONNACK holds.
    ///
    /// # Errors
    /// It takes no message of this QoS.
    pub(super) fn new(qos: QoS, connack: &ConnAck) -> Result<Self, String> {
        let mut publisher = Self {
            qos,
            window: usize::from(u16::MAX),
            packet_max: usize::MAX,
            topic_alias_max: 0,
            may_retain: true,
            last_id: 0,
            in_flight: BTreeMap::new(),
            alias_known: false,
            is_over: false,
            problems: Vec::new(),
        };
        for property in connack.properties.iter() {
            match property {
                Property::ReceiveMaximum(max) => publisher.window = usize::from(*max),
                Property::MaximumPacketSize(max) => publisher.packet_max = *max as usize,
                Property::TopicAliasMaximum(max) => publisher.topic_alias_max = *max,
                Property::RetainAvailable(is) => publisher.may_retain = *is,
                Property::MaximumQoS(max) if (qos as u8) > *max => {
                    return Err(format!("the broker takes messages up to QoS {max}; use -q {max}"));
                }
                _ => {}
            }
        }
        Ok(publisher)
    }

    /// Whether one more message may be sent now.
    pub(super) fn may_send(&self) -> bool {
        !self.is_over && self.in_flight.len() < self.window
    }

    /// Publishes nothing more.
    pub(super) const fn finish(&mut self) {
        self.is_over = true;
    }

    /// Publishes nothing more, since something is wrong; what was sent is still waited for.
    pub(super) fn give_up(&mut self, problem: String) {
        self.problems.push(problem);
        self.is_over = true;
    }

    /// Whether nothing more is sent, and everything that was is acknowledged.
    pub(super) fn is_done(&self) -> bool {
        self.is_over && self.in_flight.is_empty()
    }

    /// What went wrong, once the run has ended.
    pub(super) fn problems(mut self) -> Vec<String> {
        let open = self.in_flight.len();
        if open > 0 {
            self.problems.push(format!(
                "stopped before the broker had acknowledged {open} of the messages; it may have them"
            ));
        }
        self.problems
    }

    /// The packet for one more message.
    ///
    /// # Errors
    /// The broker does not take such a message.
    pub(super) fn publish(
        &mut self,
        template: &Template,
        payload: &[u8],
    ) -> Result<Packet, String> {
        if template.retain && !self.may_retain {
            return Err("the broker keeps no retained messages; leave --retain out".to_owned());
        }
        if template.topic_alias.is_some_and(|alias| alias == 0 || alias > self.topic_alias_max) {
            let max = self.topic_alias_max;
            return Err(format!("the broker takes Topic Aliases up to {max} (and not 0)"));
        }
        let topic_alias = template.topic_alias.and_then(NonZeroU16::new);
        let topic = if topic_alias.is_some() && self.alias_known { "" } else { &template.topic };
        let message = Message::new(topic, &template.properties, payload)
            .map_err(|error| format!("this message cannot be sent: {error}"))?;
        let packet_id = (self.qos > QoS::AtMostOnce).then(|| self.free_id()).flatten();
        let publish = Publish {
            dup: false,
            qos: self.qos,
            retain: template.retain,
            packet_id,
            topic_alias,
            message,
        };
        let packet = Packet::Publish(publish);
        let bytes = packet.encoded_len(codec::ProtocolVersion::V5);
        if bytes > self.packet_max {
            let max = self.packet_max;
            return Err(format!("the packet has {bytes} bytes, and the broker takes {max}"));
        }
        if let Some(id) = packet_id {
            self.in_flight.insert(id, false);
        }
        self.alias_known = topic_alias.is_some();
        Ok(packet)
    }

    fn free_id(&mut self) -> Option<PacketId> {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            let id = PacketId::new(self.last_id)?;
            if !self.in_flight.contains_key(&id) {
                return Some(id);
            }
        }
    }

    /// What a packet brings about.
    pub(super) fn hear(&mut self, packet: &Packet) -> Heard {
        let (Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubComp(ack)) = packet else {
            return Heard::default();
        };
        let is_unheard = ack.reason == ReasonCode::NoMatchingSubscribers;
        if matches!(packet, Packet::PubRec(_)) && !ack.reason.is_error() {
            let answer = self.in_flight.get_mut(&ack.packet_id).map(|released| {
                *released = true;
                Packet::PubRel(Ack::success(ack.packet_id))
            });
            return Heard { answer, is_unheard };
        }
        self.in_flight.remove(&ack.packet_id);
        self.judge(ack);
        Heard { answer: None, is_unheard }
    }

    fn judge(&mut self, ack: &Ack) {
        if !ack.reason.is_error() {
            return;
        }
        let why = ack.properties.iter().find_map(|property| match property {
            Property::ReasonString(why) => Some(format!(" ({why})")),
            _ => None,
        });
        let why = why.unwrap_or_default();
        self.problems.push(format!("the broker refused: {}{why}", reason(ack.reason)));
    }
}

#[cfg(test)]
mod tests {
    use codec::Properties;

    use super::*;

    fn connack(properties: &[Property]) -> ConnAck {
        let properties = properties.iter().cloned().collect();
        ConnAck { session_present: false, reason: ReasonCode::Success, properties }
    }

    fn template(retain: bool, topic_alias: Option<u16>) -> Template {
        Template { topic: "t".into(), properties: Properties::new(), retain, topic_alias }
    }

    fn id(packet: &Packet) -> PacketId {
        let Packet::Publish(publish) = packet else { panic!("{packet:?}") };
        publish.packet_id.unwrap()
    }

    #[test]
    fn the_receive_maximum_of_the_broker_holds() {
        let told = connack(&[Property::ReceiveMaximum(2)]);
        let mut publisher = Publisher::new(QoS::ExactlyOnce, &told).unwrap();
        let first = publisher.publish(&template(false, None), b"1").unwrap();
        let second = publisher.publish(&template(false, None), b"2").unwrap();
        assert!(!publisher.may_send() && id(&first) != id(&second));
        let heard = publisher.hear(&Packet::PubRec(Ack::success(id(&first))));
        assert_eq!(heard.answer, Some(Packet::PubRel(Ack::success(id(&first)))));
        assert!(!publisher.may_send(), "PUBREC gives no room yet");
        publisher.hear(&Packet::PubComp(Ack::success(id(&first))));
        assert!(publisher.may_send());
        publisher.finish();
        assert!(!publisher.may_send() && !publisher.is_done());
        let refused = Ack { reason: ReasonCode::QuotaExceeded, ..Ack::success(id(&second)) };
        assert_eq!(publisher.hear(&Packet::PubRec(refused)), Heard::default());
        assert!(publisher.is_done());
        assert_eq!(publisher.problems(), ["the broker refused: 0x97 Quota exceeded"]);
    }

    #[test]
    fn a_message_that_nobody_gets_is_no_problem() {
        let mut publisher = Publisher::new(QoS::AtLeastOnce, &connack(&[])).unwrap();
        let sent = publisher.publish(&template(false, None), b"").unwrap();
        let reason = ReasonCode::NoMatchingSubscribers;
        let heard = publisher.hear(&Packet::PubAck(Ack { reason, ..Ack::success(id(&sent)) }));
        assert_eq!(heard, Heard { answer: None, is_unheard: true });
        assert!(publisher.problems().is_empty());
    }

    #[test]
    fn what_is_not_acknowledged_is_a_problem() {
        let mut publisher = Publisher::new(QoS::AtLeastOnce, &connack(&[])).unwrap();
        publisher.publish(&template(false, None), b"").unwrap();
        publisher.give_up("it does not go on".to_owned());
        assert!(!publisher.may_send() && !publisher.is_done());
        let problems = publisher.problems();
        assert_eq!(problems.len(), 2);
        assert!(problems[1].contains("acknowledged 1 of the messages"), "{problems:?}");
    }

    #[test]
    fn what_the_broker_does_not_take_is_not_sent() {
        let told = connack(&[
            Property::MaximumQoS(1),
            Property::RetainAvailable(false),
            Property::MaximumPacketSize(20),
            Property::TopicAliasMaximum(1),
        ]);
        assert!(Publisher::new(QoS::ExactlyOnce, &told).is_err());
        let mut publisher = Publisher::new(QoS::AtMostOnce, &told).unwrap();
        assert!(publisher.publish(&template(true, None), b"").is_err());
        assert!(publisher.publish(&template(false, None), &[0; 20]).is_err());
        assert!(publisher.publish(&template(false, Some(2)), b"").is_err());
        let topics = [0, 1].map(|_| {
            let packet = publisher.publish(&template(false, Some(1)), b"").unwrap();
            let Packet::Publish(publish) = packet else { panic!("{packet:?}") };
            publish.message.topic_str().to_owned()
        });
        assert_eq!(topics, ["t", ""]);
    }
}
