//! Clients with overlapping subscriptions: who gets a message, once, at which QoS, with which
//! identifiers and RETAIN flag.

use std::collections::BTreeMap;

use codec::{Packet, PacketType, Publish, QoS, ReasonCode, RetainHandling, SubscriptionOptions};
use proptest::{prelude::*, sample};

use crate::{
    broker::Broker,
    cases::for_all,
    packets::{QOS, connect, identifiers, matches, message, publish, subscribe, unsubscribe},
};

const CLIENTS: usize = 3;

/// Few enough that most messages match several.
const FILTERS: [&str; 14] =
    ["#", "+", "a", "a/#", "a/+", "+/b", "a/b", "a/b/#", "+/+", "+/b/+", "/", "/#", "+/", "a//#"];
const TOPICS: [&str; 8] = ["a", "a/b", "b", "a/b/c", "/", "a/", "/b", "a//b"];

#[derive(Clone, Debug)]
enum Op {
    Subscribe { client: usize, filter: &'static str, options: SubscriptionOptions, id: u32 },
    Unsubscribe { client: usize, filter: &'static str },
    Publish { client: usize, topic: &'static str, qos: QoS, retain: bool },
}

fn op() -> impl Strategy<Value = Op> {
    let filter = || sample::select(&FILTERS[..]);
    let qos = || sample::select(&QOS[..]);
    let flags = (any::<bool>(), any::<bool>());
    let options = (qos(), flags).prop_map(|(qos, (no_local, retain_as_published))| {
        // What is retained is the business of another test.
        let retain_handling = RetainHandling::DoNotSend;
        SubscriptionOptions { qos, no_local, retain_as_published, retain_handling }
    });
    prop_oneof![
        3 => (0..CLIENTS, filter(), options, 0..4_u32)
            .prop_map(|(client, filter, options, id)| Op::Subscribe { client, filter, options, id }),
        1 => (0..CLIENTS, filter()).prop_map(|(client, filter)| Op::Unsubscribe { client, filter }),
        4 => (0..CLIENTS, sample::select(&TOPICS[..]), qos(), any::<bool>())
            .prop_map(|(client, topic, qos, retain)| Op::Publish { client, topic, qos, retain }),
    ]
}

/// The subscriptions of one client, by filter.
type Subscriptions = BTreeMap<&'static str, (SubscriptionOptions, u32)>;

/// What a subscriber is to see of a message.
#[derive(Debug, PartialEq)]
struct Copy {
    topic: String,
    payload: Vec<u8>,
    qos: QoS,
    retain: bool,
    dup: bool,
    identifiers: Vec<u32>,
}

impl Copy {
    fn of(publish: &Publish) -> Self {
        Self {
            topic: publish.message.topic_str().into(),
            payload: publish.message.payload().into(),
            qos: publish.qos,
            retain: publish.retain,
            dup: publish.dup,
            identifiers: identifiers(publish),
        }
    }
}

/// What a client with these subscriptions gets of a message.
fn expected(
    subscriptions: &Subscriptions,
    own: bool,
    topic: &str,
    payload: &[u8],
    (qos, retain): (QoS, bool),
) -> Option<Copy> {
    let wanted: Vec<(SubscriptionOptions, u32)> = subscriptions
        .iter()
        .filter(|(filter, _)| matches(filter, topic))
        .map(|(_, subscription)| *subscription)
        // [MQTT-3.8.3-3]
        .filter(|(options, _)| !(own && options.no_local))
        .collect();
    // [MQTT-3.3.4-2] the highest of all, and [MQTT-3.8.4-8] no higher than published.
    let granted = wanted.iter().map(|(options, _)| options.qos).max()?;
    let as_published = wanted.iter().any(|(options, _)| options.retain_as_published);
    // [MQTT-3.3.4-3] [MQTT-3.3.4-4]: all that have one.
    let mut identifiers: Vec<u32> = wanted.iter().map(|(_, id)| *id).filter(|id| *id > 0).collect();
    identifiers.sort_unstable();
    Some(Copy {
        topic: topic.into(),
        payload: payload.into(),
        qos: granted.min(qos),
        // [MQTT-3.3.1-12] [MQTT-3.3.1-13]
        retain: retain && as_published,
        dup: false,
        identifiers,
    })
}

fn run(ops: &[Op]) {
    let mut broker = Broker::new(1, CLIENTS, |_| {});
    let mut clients: [Subscriptions; CLIENTS] = Default::default();
    for client in 0..CLIENTS {
        broker.connect(client, connect(client, 0));
        broker.take(client);
    }
    for (number, op) in ops.iter().enumerate() {
        match op {
            Op::Subscribe { client, filter, options, id } => {
                clients[*client].insert(filter, (*options, *id));
                broker.send(*client, subscribe(filter, *options, *id));
                let answer = broker.take(*client);
                let [Packet::SubAck(answer)] = &answer[..] else { panic!("{answer:?}") };
                // [MQTT-3.8.4-6]
                assert_eq!(answer.reasons[0].code(), options.qos as u8);
            }
            Op::Unsubscribe { client, filter } => {
                let existed = clients[*client].remove(filter).is_some();
                broker.send(*client, unsubscribe(filter));
                let answer = broker.take(*client);
                let [Packet::UnsubAck(answer)] = &answer[..] else { panic!("{answer:?}") };
                // [MQTT-3.11.3-1]
                assert_eq!(answer.reasons[0] == ReasonCode::Success, existed);
            }
            Op::Publish { client: publisher, topic, qos, retain } => {
                let payload = number.to_string();
                let message = message(topic, payload.as_bytes(), None);
                broker.publish(*publisher, publish(message, *qos, *retain, 1));
                let copies = clients.each_ref().map(|subscriptions| {
                    let own = std::ptr::eq(subscriptions, &clients[*publisher]);
                    expected(subscriptions, own, topic, payload.as_bytes(), (*qos, *retain))
                });
                let reaches_nobody = copies.iter().all(Option::is_none);
                for (client, copy) in copies.into_iter().enumerate() {
                    let inbox = broker.take(client);
                    if client == *publisher {
                        check_answers(*qos, reaches_nobody, &inbox);
                    }
                    let got: Vec<Copy> =
                        inbox.iter().filter_map(as_publish).map(Copy::of).collect();
                    assert_eq!(got, Vec::from_iter(copy), "client {client} of op {number}");
                }
                let queued = broker.shards[0].view().queued();
                assert_eq!(queued, 0, "all receivers have acknowledged");
            }
        }
    }
    let all: usize = clients.iter().map(Subscriptions::len).sum();
    assert_eq!(broker.shards[0].view().subscriptions() as usize, all);
}

fn as_publish(packet: &Packet) -> Option<&Publish> {
    match packet {
        Packet::Publish(publish) => Some(publish),
        _ => None,
    }
}

/// `[MQTT-4.3.2-4]` `[MQTT-4.3.3-8]` `[MQTT-4.3.3-11]` What a publisher hears.
fn check_answers(qos: QoS, reaches_nobody: bool, inbox: &[Packet]) {
    let answers: Vec<(PacketType, ReasonCode)> = inbox
        .iter()
        .filter_map(|packet| match packet {
            Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubComp(ack) => {
                Some((packet.packet_type(), ack.reason))
            }
            _ => None,
        })
        .collect();
    let success = ReasonCode::Success;
    let expected = match qos {
        QoS::AtMostOnce => vec![],
        // U5-3.4.2.1-a
        QoS::AtLeastOnce if reaches_nobody => {
            vec![(PacketType::PubAck, ReasonCode::NoMatchingSubscribers)]
        }
        QoS::AtLeastOnce => vec![(PacketType::PubAck, success)],
        QoS::ExactlyOnce => vec![(PacketType::PubRec, success), (PacketType::PubComp, success)],
    };
    assert_eq!(answers, expected);
}

#[test]
fn overlapping_subscriptions_get_one_copy() {
    for_all(400, &prop::collection::vec(op(), 1..60), |ops| run(&ops));
}
