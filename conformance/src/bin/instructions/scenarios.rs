//! What is counted: each scenario prepares without being counted, then counts.

use std::num::NonZeroU16;

use codec::{
    AckKind, Connect, Frame, Framer, Message, Packet, Properties, Property, ProtocolVersion,
    Publish, PublishFrame, QoS, ReasonCode, Role,
};
use session_core::ShardId;

use Work::{Parts, Whole};

use crate::{
    counted::counted,
    lockstep::Shape,
    world::{self, Got, PAYLOAD, World, encoded, packet_id},
};

/// Bytes that a socket hands over at once: a full packet of TCP on Ethernet.
const READ_BYTES: usize = 1460;

/// Where most messages go.
const TOPIC: &str = "site/1/sensor/2";

/// Something that the broker does.
pub(crate) struct Scenario {
    /// Its name in the table of limits.
    pub(crate) name: &'static str,
    /// What it does, in short.
    pub(crate) what: &'static str,
    /// How it is done.
    pub(crate) work: Work,
}

/// How a scenario is done.
pub(crate) enum Work {
    /// Within a process of this program, by framer, shards and the frames that leave. It returns for
    /// how many messages (or what stands in their place), and panics if the broker did anything else.
    Parts(fn() -> u64),
    /// By the whole binary, over sockets.
    Whole(Shape),
}

/// All of them.
#[rustfmt::skip]
pub(crate) const ALL: [Scenario; 17] = [
    Scenario { name: "decode", what: "PUBLISH with properties, QoS 0 and 1, read in batches", work: Parts(decode) },
    Scenario { name: "encode", what: "PUBLISH with properties, with alias and identifiers, PUBACK", work: Parts(encode) },
    Scenario { name: "connect", what: "CONNECT to CONNACK", work: Parts(connect) },
    Scenario { name: "subscribe", what: "SUBSCRIBE to SUBACK, ten filters each; for each filter", work: Parts(subscribe) },
    Scenario { name: "pair-qos0", what: "1:1, QoS 0", work: Parts(pair_qos0) },
    Scenario { name: "pair-qos1", what: "1:1, QoS 1, both exchanges", work: Parts(pair_qos1) },
    Scenario { name: "pair-qos2", what: "1:1, QoS 2, both exchanges", work: Parts(pair_qos2) },
    Scenario { name: "fan-out", what: "1:100, QoS 0, 1 and 2; for each delivery", work: Parts(fan_out) },
    Scenario { name: "retained", what: "retained messages of 1,000 topics to a new #", work: Parts(retained) },
    Scenario { name: "routing", what: "10,000 filters of which three match: two deliveries", work: Parts(routing) },
    Scenario { name: "resume", what: "a session that has 100 messages in flight comes back", work: Parts(resume) },
    Scenario { name: "will", what: "connections with a Will break", work: Parts(will) },
    Scenario { name: "shared", what: "QoS 1 to a share group of ten", work: Parts(shared) },
    Scenario { name: "two-shards", what: "QoS 1, the topic on another shard than its clients", work: Parts(two_shards) },
    Scenario { name: "whole-pairs-qos0", what: "the binary: 50 times 1:1, QoS 0", work: Whole(PAIRS) },
    Scenario { name: "whole-pairs-qos1", what: "the binary: 50 times 1:1, QoS 1, both exchanges", work: Whole(PAIRS_QOS1) },
    Scenario { name: "whole-fan-out", what: "the binary: 1:100, QoS 0; for each delivery", work: Whole(FAN_OUT) },
];

/// Pairs, each with as many messages in one write as a busy publisher may gather.
const PAIRS: Shape =
    Shape { groups: 50, subscribers: 1, batch: 32, qos: QoS::AtMostOnce, rounds: 20 };

const PAIRS_QOS1: Shape = Shape { qos: QoS::AtLeastOnce, ..PAIRS };

const FAN_OUT: Shape =
    Shape { groups: 1, subscribers: 100, batch: 10, qos: QoS::AtMostOnce, rounds: 100 };

fn decode() -> u64 {
    const MESSAGES: u64 = 1000;
    let mut framer = Framer::new(Role::Server, 1 << 20, 1 << 20);
    let connect = encoded(&[Packet::Connect(Box::new(world::connect("c")))]);
    assert!(matches!(framer.decode(&mut &connect[..]), Ok(Some(Packet::Connect(_)))));
    let publishes: Vec<Packet> = [QoS::AtMostOnce, QoS::AtLeastOnce]
        .into_iter()
        .cycle()
        .take(MESSAGES as usize)
        .map(|qos| {
            Packet::Publish(Publish {
                dup: false,
                qos,
                retain: false,
                packet_id: (qos != QoS::AtMostOnce).then(|| packet_id(7)),
                topic_alias: None,
                message: message_with_properties(),
            })
        })
        .collect();
    let stream = encoded(&publishes);
    let decoded = counted(|| {
        let mut decoded = 0;
        for mut read in stream.chunks(READ_BYTES) {
            while let Some(packet) = framer.decode(&mut read).expect("it is valid") {
                decoded += u64::from(matches!(packet, Packet::Publish(_)));
            }
        }
        decoded
    });
    assert_eq!(decoded, MESSAGES);
    MESSAGES
}

fn encode() -> u64 {
    const ROUNDS: u64 = 400;
    let version = ProtocolVersion::V5;
    let message = message_with_properties();
    let flags = Frame::publish_flags(false, QoS::AtLeastOnce, false);
    let frames = [
        Frame::Publish { message: message.clone(), version, flags, packet_id: 7, expiry_s: 50 },
        Frame::PublishWith(Box::new(PublishFrame {
            message,
            version,
            flags,
            packet_id: Some(packet_id(8)),
            expiry_s: 50,
            topic_alias: NonZeroU16::new(3),
            omit_topic: true,
            subscription_ids: vec![1, 200],
        })),
        Frame::Ack {
            kind: AckKind::PubAck,
            version,
            packet_id: packet_id(9),
            reason: ReasonCode::Success,
        },
    ];
    let bytes: usize = frames.iter().map(Frame::len).sum();
    let mut out = Vec::with_capacity(bytes * ROUNDS as usize);
    counted(|| {
        for _ in 0..ROUNDS {
            frames.iter().for_each(|frame| frame.encode(&mut out));
        }
    });
    assert_eq!(out.len(), bytes * ROUNDS as usize);
    ROUNDS * frames.len() as u64
}

fn connect() -> u64 {
    const CLIENTS: u64 = 100;
    let mut world = World::new(1);
    world.count();
    for number in 0..CLIENTS {
        world.connect(&format!("client-{number}"));
    }
    assert_eq!(world.got(), Got { connacks: CLIENTS, ..Got::default() });
    CLIENTS
}

fn subscribe() -> u64 {
    const CLIENTS: u64 = 100;
    let mut world = World::new(1);
    let clients: Vec<usize> =
        (0..CLIENTS).map(|number| world.connect(&format!("client-{number}"))).collect();
    world.count();
    for client in clients {
        let mut filters: Vec<String> =
            (0..8).map(|number| format!("site/{client}/sensor/{number}")).collect();
        filters.push(format!("site/+/alarm/{client}"));
        filters.push(format!("command/{client}/#"));
        world.subscribe(client, &filters, QoS::AtLeastOnce);
    }
    assert_eq!(world.got(), Got { granted: 10 * CLIENTS, ..Got::default() });
    10 * CLIENTS
}

fn pair_qos0() -> u64 {
    pair(QoS::AtMostOnce)
}

fn pair_qos1() -> u64 {
    pair(QoS::AtLeastOnce)
}

fn pair_qos2() -> u64 {
    pair(QoS::ExactlyOnce)
}

fn pair(qos: QoS) -> u64 {
    const MESSAGES: u64 = 1000;
    let mut world = World::new(1);
    let publisher = world.connect("publisher");
    let subscriber = world.connect("subscriber");
    world.subscribe(subscriber, &[TOPIC.into()], qos);
    world.count();
    world.publish(publisher, times(MESSAGES), qos, false);
    let done = if qos == QoS::AtMostOnce { 0 } else { MESSAGES };
    assert_eq!(world.got(), Got { messages: MESSAGES, done, ..Got::default() });
    MESSAGES
}

fn fan_out() -> u64 {
    const SUBSCRIBERS: u64 = 100;
    const MESSAGES: u64 = 10;
    let mut world = World::new(1);
    let publisher = world.connect("publisher");
    for number in 0..SUBSCRIBERS {
        let subscriber = world.connect(&format!("subscriber-{number}"));
        world.subscribe(subscriber, &[TOPIC.into()], QoS::ExactlyOnce);
    }
    world.count();
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        world.publish(publisher, times(MESSAGES), qos, false);
    }
    let messages = 3 * MESSAGES * SUBSCRIBERS;
    assert_eq!(world.got(), Got { messages, done: 2 * MESSAGES, ..Got::default() });
    messages
}

fn retained() -> u64 {
    const TOPICS: u64 = 1000;
    let mut world = World::new(1);
    let publisher = world.connect("publisher");
    let subscriber = world.connect("subscriber");
    let topics: Vec<String> = (0..TOPICS)
        .map(|number| format!("site/{}/floor/{}/{}", number / 100, number / 10 % 10, number % 10))
        .collect();
    world.publish(publisher, topics.iter().map(String::as_str), QoS::AtMostOnce, true);
    world.count();
    world.subscribe(subscriber, &["#".into()], QoS::AtMostOnce);
    assert_eq!(world.got(), Got { granted: 1, messages: TOPICS, ..Got::default() });
    TOPICS
}

fn routing() -> u64 {
    const CLIENTS: u64 = 100;
    const MESSAGES: u64 = 1000;
    let mut world = World::new(1);
    let publisher = world.connect("publisher");
    for site in 0..CLIENTS {
        let client = world.connect(&format!("client-{site}"));
        let mut filters: Vec<String> =
            (0..98).map(|room| format!("site/{site}/room/{room}/+")).collect();
        filters.push(format!("site/+/room/{site}/temperature"));
        filters.push(format!("site/{site}/#"));
        world.subscribe(client, &filters, QoS::AtMostOnce);
    }
    // The first and the third filter are one client's, which gets one copy.
    let topics: Vec<String> = (0..MESSAGES)
        .map(|number| (number % CLIENTS, number / CLIENTS))
        .map(|(site, room)| (site, if room == site { room + 10 } else { room }))
        .map(|(site, room)| format!("site/{site}/room/{room}/temperature"))
        .collect();
    world.count();
    world.publish(publisher, topics.iter().map(String::as_str), QoS::AtMostOnce, false);
    assert_eq!(world.got(), Got { messages: 2 * MESSAGES, ..Got::default() });
    MESSAGES
}

fn resume() -> u64 {
    const MESSAGES: u64 = 100;
    let mut world = World::new(1);
    let publisher = world.connect("publisher");
    let subscriber = world.connect("subscriber");
    world.subscribe(subscriber, &[TOPIC.into()], QoS::ExactlyOnce);
    world.mute(subscriber);
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        world.publish(publisher, times(MESSAGES / 2), qos, false);
    }
    world.lose(subscriber);
    world.count();
    world.connect("subscriber");
    let got = Got { connacks: 1, resumed: 1, messages: MESSAGES, ..Got::default() };
    assert_eq!(world.got(), got);
    MESSAGES
}

fn will() -> u64 {
    const CLIENTS: u64 = 100;
    let mut world = World::new(1);
    let subscriber = world.connect("subscriber");
    world.subscribe(subscriber, &["status/+".into()], QoS::AtLeastOnce);
    let clients: Vec<usize> = (0..CLIENTS)
        .map(|number| {
            let will = Some(world::will(&format!("status/{number}")));
            let client_id = format!("client-{number}");
            world.connect_as(Connect { will, ..world::connect(&client_id) })
        })
        .collect();
    world.count();
    clients.into_iter().for_each(|client| world.lose(client));
    assert_eq!(world.got(), Got { messages: CLIENTS, ..Got::default() });
    CLIENTS
}

fn shared() -> u64 {
    const MESSAGES: u64 = 1000;
    let mut world = World::new(1);
    let publisher = world.connect("publisher");
    for number in 0..10 {
        let member = world.connect(&format!("member-{number}"));
        world.subscribe(member, &[format!("$share/group/{TOPIC}")], QoS::AtLeastOnce);
    }
    world.count();
    world.publish(publisher, times(MESSAGES), QoS::AtLeastOnce, false);
    assert_eq!(world.got(), Got { messages: MESSAGES, done: MESSAGES, ..Got::default() });
    MESSAGES
}

fn two_shards() -> u64 {
    const MESSAGES: u64 = 1000;
    let mut world = World::new(2);
    let elsewhere = ShardId(1 - world.owner(TOPIC).0);
    let publisher = world.connect(&world.client_of(elsewhere, "publisher"));
    let subscriber = world.connect(&world.client_of(elsewhere, "subscriber"));
    world.subscribe(subscriber, &[TOPIC.into()], QoS::AtLeastOnce);
    world.count();
    world.publish(publisher, times(MESSAGES), QoS::AtLeastOnce, false);
    assert_eq!(world.got(), Got { messages: MESSAGES, done: MESSAGES, ..Got::default() });
    MESSAGES
}

/// The usual topic, so many times.
fn times(messages: u64) -> impl Iterator<Item = &'static str> {
    (0..messages).map(|_| TOPIC)
}

/// A message with each property that may travel with it.
fn message_with_properties() -> Message {
    let properties: Properties = [
        Property::PayloadFormatIndicator(1),
        Property::MessageExpiryInterval(60),
        Property::ContentType("text/plain".into()),
        Property::ResponseTopic("site/1/answers".into()),
        Property::CorrelationData(PAYLOAD[..8].to_vec().into()),
        Property::UserProperty("unit".into(), "celsius".into()),
    ]
    .into_iter()
    .collect();
    Message::new(TOPIC, &properties, &PAYLOAD).expect("short")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_does_what_it_says() {
        for Scenario { name, work, .. } in ALL {
            let messages = match work {
                Parts(run) => run(),
                Whole(shape) => shape.messages(),
            };
            assert!(messages >= 100, "{name} is long enough to be divided");
        }
    }

    #[test]
    fn no_name_is_used_twice() {
        let mut names: Vec<&str> = ALL.iter().map(|scenario| scenario.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
