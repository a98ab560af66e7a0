//! What a subscriber does: it decides, and does no I/O.

use std::collections::{BTreeMap, BTreeSet};

use codec::{
    Ack, Packet, PacketId, Properties, Property, Publish, QoS, ReasonCode, RetainHandling,
    Subscribe, SubscribeFilter, SubscriptionOptions, Unsubscribe,
};

use super::{args::SubArguments, reason};

const SUBSCRIBE: u16 = 1;
const UNSUBSCRIBE: u16 = 2;

/// Subscribes, acknowledges and counts.
pub(super) struct Subscriber<'a> {
    arguments: &'a SubArguments,
    aliases: BTreeMap<u16, Box<[u8]>>,
    /// QoS 2 messages that were shown, and whose PUBREL is still to come.
    received: BTreeSet<PacketId>,
    shown: u64,
    is_over: bool,
    problems: Vec<String>,
}

/// What a packet brings about.
#[derive(Default)]
pub(super) struct Heard {
    /// To be shown.
    pub(super) message: Option<Publish>,
    /// To be sent once it is shown.
    pub(super) answers: Vec<Packet>,
}

impl<'a> Subscriber<'a> {
    pub(super) const fn new(arguments: &'a SubArguments) -> Self {
        Self {
            arguments,
            aliases: BTreeMap::new(),
            received: BTreeSet::new(),
            shown: 0,
            is_over: false,
            problems: Vec::new(),
        }
    }

    /// What is sent at first.
    pub(super) fn begin(&self) -> Vec<Packet> {
        let mut packets = Vec::new();
        if let Some(packet_id) = PacketId::new(UNSUBSCRIBE)
            && !self.arguments.unsubscribe.is_empty()
        {
            let filters = self.arguments.unsubscribe.iter().map(|filter| (**filter).into());
            let (filters, properties) = (filters.collect(), Properties::new());
            let unsubscribe = Unsubscribe { packet_id, properties, filters };
            packets.push(Packet::Unsubscribe(Box::new(unsubscribe)));
        }
        if let Some(packet_id) = PacketId::new(SUBSCRIBE) {
            let id = self.arguments.subscription_id.map(Property::SubscriptionIdentifier);
            let filters = self.arguments.topics.iter().map(|filter| SubscribeFilter {
                filter: (**filter).into(),
                options: self.options(),
            });
            let (filters, properties) = (filters.collect(), id.into_iter().collect());
            let subscribe = Subscribe { packet_id, properties, filters };
            packets.push(Packet::Subscribe(Box::new(subscribe)));
        }
        packets
    }

    fn options(&self) -> SubscriptionOptions {
        SubscriptionOptions {
            qos: self.arguments.qos(),
            no_local: self.arguments.no_local,
            retain_as_published: self.arguments.retain_as_published,
            retain_handling: match self.arguments.retain_handling {
                0 => RetainHandling::Send,
                1 => RetainHandling::SendIfNew,
                _ => RetainHandling::DoNotSend,
            },
        }
    }

    /// Whether nothing more is wanted.
    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// What went wrong.
    pub(super) fn problems(&self) -> &[String] {
        &self.problems
    }

    pub(super) fn hear(&mut self, packet: Packet) -> Heard {
        match packet {
            Packet::SubAck(ack) => {
                for (filter, granted) in self.arguments.topics.iter().zip(&ack.reasons) {
                    self.judge("", filter, *granted);
                }
                self.is_over |= self.arguments.exit_after_suback;
                Heard::default()
            }
            Packet::UnsubAck(ack) => {
                for (filter, reason) in self.arguments.unsubscribe.iter().zip(&ack.reasons) {
                    self.judge("to unsubscribe from ", filter, *reason);
                }
                Heard::default()
            }
            Packet::Publish(publish) => self.take(publish),
            Packet::PubRel(ack) => {
                self.received.remove(&ack.packet_id);
                let answers = vec![Packet::PubComp(Ack::success(ack.packet_id))];
                Heard { message: None, answers }
            }
            _ => Heard::default(),
        }
    }

    fn judge(&mut self, what: &str, filter: &str, answer: ReasonCode) {
        if answer.is_error() {
            let why = reason(answer);
            self.problems.push(format!("the broker refused {what}{filter:?}: {why}"));
        }
    }

    fn take(&mut self, mut publish: Publish) -> Heard {
        if let Some(alias) = publish.topic_alias {
            let is_given = !publish.message.topic().is_empty();
            if is_given {
                self.aliases.insert(alias.get(), publish.message.topic().into());
            } else if let Some(topic) = self.aliases.get(&alias.get()) {
                publish.message = publish.message.with_topic(topic);
            } else {
                // Neither shown nor acknowledged: nobody knows what it is.
                self.problems
                    .push(format!("the broker uses Topic Alias {alias} and never gave it"));
                return Heard::default();
            }
        }
        let mut is_again = false;
        let answer = publish.packet_id.map(|id| match publish.qos {
            QoS::ExactlyOnce => {
                is_again = !self.received.insert(id);
                Packet::PubRec(Ack::success(id))
            }
            _ => Packet::PubAck(Ack::success(id)),
        });
        let answers = answer.into_iter().collect();
        if is_again || self.is_left_out(&publish) {
            return Heard { message: None, answers };
        }
        self.shown += 1;
        self.is_over |= self.arguments.count.is_some_and(|count| self.shown >= count);
        Heard { message: Some(publish), answers }
    }

    fn is_left_out(&self, publish: &Publish) -> bool {
        let topic = publish.message.topic_str();
        let out = |filter: &String| codec::topic::matches(filter, topic);
        (self.arguments.no_retained && publish.retain) || self.arguments.filter_out.iter().any(out)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use codec::{Message, SubAck, UnsubAck};

    use super::*;
    use crate::cli::{Arguments, Command};

    fn arguments(more: &[&str]) -> SubArguments {
        let all = [&["cairnmq", "sub", "-t", "t/#"], more].concat();
        match Arguments::parse_from(all).command {
            Some(Command::Sub(arguments)) => *arguments,
            other => panic!("{other:?}"),
        }
    }

    fn publish(topic: &str, qos: QoS, id: u16, retain: bool) -> Packet {
        let message = Message::new(topic, &Properties::new(), b"x").unwrap();
        let (packet_id, topic_alias) = (PacketId::new(id), std::num::NonZeroU16::new(7));
        Packet::Publish(Publish { dup: false, qos, retain, packet_id, topic_alias, message })
    }

    #[test]
    fn messages_are_acknowledged_and_shown_once() {
        let arguments = arguments(&["-C", "3"]);
        let mut subscriber = Subscriber::new(&arguments);
        let heard = subscriber.hear(publish("t/1", QoS::AtLeastOnce, 1, false));
        let id = |id| PacketId::new(id).unwrap();
        assert_eq!(heard.answers, [Packet::PubAck(Ack::success(id(1)))]);
        for is_first in [true, false] {
            let heard = subscriber.hear(publish("", QoS::ExactlyOnce, 2, false));
            assert_eq!(heard.answers, [Packet::PubRec(Ack::success(id(2)))]);
            assert_eq!(heard.message.is_some(), is_first);
            if let Some(message) = heard.message {
                assert_eq!(message.message.topic_str(), "t/1", "by its alias");
            }
        }
        let heard = subscriber.hear(Packet::PubRel(Ack::success(id(2))));
        assert_eq!(heard.answers, [Packet::PubComp(Ack::success(id(2)))]);
        assert!(!subscriber.is_over());
        subscriber.hear(publish("t/2", QoS::AtMostOnce, 0, false));
        assert!(subscriber.is_over());
    }

    #[test]
    fn what_is_left_out_is_acknowledged_and_not_counted() {
        let arguments = arguments(&["-T", "t/no/#", "-R", "-C", "1", "-q", "1"]);
        let mut subscriber = Subscriber::new(&arguments);
        for packet in [
            publish("t/no/x", QoS::AtLeastOnce, 1, false),
            publish("t/x", QoS::AtLeastOnce, 1, true),
        ] {
            let heard = subscriber.hear(packet);
            assert!(heard.message.is_none() && heard.answers.len() == 1 && !subscriber.is_over());
        }
    }

    #[test]
    fn an_alias_that_was_never_given_is_a_problem() {
        let arguments = arguments(&[]);
        let mut subscriber = Subscriber::new(&arguments);
        let heard = subscriber.hear(publish("", QoS::AtLeastOnce, 1, false));
        assert!(heard.message.is_none() && heard.answers.is_empty());
        assert_eq!(subscriber.problems(), ["the broker uses Topic Alias 7 and never gave it"]);
    }

    #[test]
    fn only_a_refusal_to_unsubscribe_is_a_problem() {
        let arguments = arguments(&["-U", "a", "-U", "b"]);
        let mut subscriber = Subscriber::new(&arguments);
        subscriber.hear(Packet::UnsubAck(Box::new(UnsubAck {
            packet_id: PacketId::new(2).unwrap(),
            properties: Properties::new(),
            reasons: vec![ReasonCode::NoSubscriptionExisted, ReasonCode::NotAuthorized],
        })));
        assert_eq!(
            subscriber.problems(),
            ["the broker refused to unsubscribe from \"b\": 0x87 Not authorized"]
        );
    }

    #[test]
    fn a_refused_subscription_is_a_problem() {
        let arguments = arguments(&[]);
        let mut subscriber = Subscriber::new(&arguments);
        subscriber.hear(Packet::SubAck(Box::new(SubAck {
            packet_id: PacketId::new(1).unwrap(),
            properties: Properties::new(),
            reasons: vec![ReasonCode::NotAuthorized],
        })));
        assert_eq!(subscriber.problems(), ["the broker refused \"t/#\": 0x87 Not authorized"]);
    }
}
