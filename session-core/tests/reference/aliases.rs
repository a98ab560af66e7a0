//! Topic Aliases in both directions against plain maps.

use std::{cell::Cell, collections::BTreeMap, num::NonZeroU16};

use codec::{Packet, Property, Publish, QoS, ReasonCode, SubscriptionOptions};
use proptest::{prelude::*, sample};
use session_core::Cause;

use crate::{
    broker::Broker,
    cases::for_all,
    packets::{connect, message, publish, subscribe},
};

const PUBLISHER: usize = 0;
const SUBSCRIBER: usize = 1;
const TOPICS: [&str; 5] = ["a", "b", "a/b", "c", "d/e/f"];
/// The broker's Topic Alias Maximum, and how many it uses towards a client.
const IN_MAX: u16 = 3;
const OUT_MAX: u16 = 4;

#[derive(Clone, Debug)]
enum Op {
    /// Without a topic, the alias alone; 0 is no alias.
    Publish {
        topic: Option<&'static str>,
        alias: u16,
        qos: QoS,
    },
    ReconnectPublisher,
    /// With a Topic Alias Maximum; 0 is left out.
    ReconnectSubscriber {
        maximum: u16,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let topic = prop::option::weighted(0.6, sample::select(&TOPICS[..]));
    let alias = prop_oneof![9 => 0..=IN_MAX, 1 => Just(IN_MAX + 1), 1 => Just(u16::MAX)];
    let qos = sample::select(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][..]);
    prop_oneof![
        12 => (topic, alias, qos).prop_map(|(topic, alias, qos)| {
            // A packet with neither is no PUBLISH of this standard: the codec's business.
            let topic = if alias == 0 { topic.or(Some(TOPICS[0])) } else { topic };
            Op::Publish { topic, alias, qos }
        }),
        1 => Just(Op::ReconnectPublisher),
        1 => (0..7_u16).prop_map(|maximum| Op::ReconnectSubscriber { maximum }),
    ]
}

struct World {
    broker: Broker,
    /// What the broker knows of the publisher's aliases on this connection.
    known: BTreeMap<u16, &'static str>,
    /// What the subscriber knows of the broker's.
    learnt: BTreeMap<u16, String>,
    /// The subscriber's Topic Alias Maximum.
    maximum: u16,
}

impl World {
    fn new() -> Self {
        let mut broker = Broker::new(1, 2, |config| {
            config.limits.topic_alias_maximum = IN_MAX;
            config.limits.topic_alias_out_max = OUT_MAX;
        });
        broker.connect(SUBSCRIBER, connect(SUBSCRIBER, u32::MAX));
        let options = SubscriptionOptions { qos: QoS::ExactlyOnce, ..Default::default() };
        broker.send(SUBSCRIBER, subscribe("#", options, 0));
        broker.take(SUBSCRIBER);
        let mut world =
            Self { broker, known: BTreeMap::new(), learnt: BTreeMap::new(), maximum: 0 };
        world.reconnect_publisher();
        world
    }

    /// `[MQTT-3.3.2-7]` Aliases end with the connection, on both sides.
    fn reconnect_publisher(&mut self) {
        self.broker.drop_connection(PUBLISHER);
        self.broker.take(PUBLISHER);
        self.broker.connect(PUBLISHER, connect(PUBLISHER, 0));
        self.known.clear();
        let connack = self.broker.take(PUBLISHER);
        let [Packet::ConnAck(connack)] = &connack[..] else { panic!("{connack:?}") };
        assert_eq!(connack.properties.topic_alias_maximum(), Some(IN_MAX));
    }

    fn reconnect_subscriber(&mut self, maximum: u16) {
        self.broker.drop_connection(SUBSCRIBER);
        let mut connect = connect(SUBSCRIBER, u32::MAX);
        connect.clean_start = false;
        if maximum > 0 {
            connect.properties.push(Property::TopicAliasMaximum(maximum));
        }
        self.broker.connect(SUBSCRIBER, connect);
        self.broker.take(SUBSCRIBER);
        self.learnt.clear();
        self.maximum = maximum;
    }

    /// The topic that a PUBLISH means, or why the broker hangs up.
    fn resolve(
        &mut self,
        topic: Option<&'static str>,
        alias: u16,
    ) -> Result<&'static str, ReasonCode> {
        // [MQTT-3.3.2-9] [MQTT-3.2.2-18]
        if alias > IN_MAX {
            return Err(ReasonCode::TopicAliasInvalid);
        }
        match topic {
            // U5-3.3.2.3.4-b: an alias that is not known yet.
            None => self.known.get(&alias).copied().ok_or(ReasonCode::ProtocolError),
            Some(topic) => {
                // [MQTT-3.3.2-12], U5-3.3.2.3.4-a: it means this topic from now on.
                self.known.extend((alias > 0).then_some((alias, topic)));
                Ok(topic)
            }
        }
    }

    /// Returns whether the message came under an alias.
    fn publish(
        &mut self,
        payload: &str,
        topic: Option<&'static str>,
        alias: u16,
        qos: QoS,
    ) -> bool {
        let message = message(topic.unwrap_or_default(), payload.as_bytes(), None);
        let mut packet = publish(message, qos, false, 1);
        packet.topic_alias = NonZeroU16::new(alias);
        self.broker.publish(PUBLISHER, packet);
        let got = self.broker.take_publishes(SUBSCRIBER);
        match self.resolve(topic, alias) {
            Ok(topic) => {
                let [publish] = &got[..] else { panic!("{got:?}") };
                assert_eq!(publish.message.payload(), payload.as_bytes());
                assert_eq!(self.read(publish), topic);
                publish.message.topic().is_empty()
            }
            Err(reason) => {
                assert_eq!(got, []);
                let closed = self.broker.clients[PUBLISHER].closed;
                assert_eq!(closed, Some(Cause::Refused(reason)));
                let goodbye = self.broker.take(PUBLISHER);
                let Some(Packet::Disconnect(goodbye)) = goodbye.last() else { panic!("silence") };
                assert_eq!(goodbye.reason, reason);
                self.reconnect_publisher();
                false
            }
        }
    }

    /// The topic of a PUBLISH as the subscriber understands it.
    fn read(&mut self, publish: &Publish) -> String {
        let topic = publish.message.topic_str().to_owned();
        let Some(alias) = publish.topic_alias else {
            // Aliases are used as long as there are any.
            let most = usize::from(self.maximum.min(OUT_MAX));
            assert_eq!(self.learnt.len(), most, "{topic} comes without an alias");
            return topic;
        };
        // [MQTT-3.1.2-26] [MQTT-3.3.2-8]
        assert!(alias.get() <= self.maximum, "{alias} of {}", self.maximum);
        if topic.is_empty() {
            return self.learnt[&alias.get()].clone();
        }
        self.learnt.insert(alias.get(), topic.clone());
        assert!(self.learnt.len() <= usize::from(OUT_MAX));
        topic
    }
}

#[test]
fn aliases_mean_what_they_were_said_to_mean() {
    let aliased = Cell::new(0);
    for_all(300, &prop::collection::vec(op(), 1..60), |ops| {
        let mut world = World::new();
        for (number, op) in ops.iter().enumerate() {
            match *op {
                Op::Publish { topic, alias, qos } => {
                    let short = world.publish(&number.to_string(), topic, alias, qos);
                    aliased.set(aliased.get() + u32::from(short));
                }
                Op::ReconnectPublisher => world.reconnect_publisher(),
                Op::ReconnectSubscriber { maximum } => world.reconnect_subscriber(maximum),
            }
        }
    });
    assert!(aliased.get() > 500, "{aliased:?} aliases are not enough to judge by");
}
