//! Crowds: many connections, many receivers, work that is too large for one call.

mod common;

use codec::{
    Connect, Message, Packet, PacketId, Properties, Property, ProtocolVersion, Publish, QoS,
    Subscribe, SubscribeFilter, SubscriptionOptions,
};
use session_core::{
    Cause, ConnId, Effect, Effects, Input, Shard, ShardConfig, ShardId, ShardMap, Time,
};

use common::opened;

fn started(config: ShardConfig) -> Shard {
    let mut shard = Shard::new(config);
    shard.start(Time(0), &mut Effects::new());
    shard
}

fn config() -> ShardConfig {
    ShardConfig::new(ShardId(0), ShardMap::new(1, 2))
}

fn open(shard: &mut Shard, slot: u32, effects: &mut Effects) -> ConnId {
    let conn = ConnId { slot, epoch: 0 };
    let input = opened(conn, 1 << 20);
    shard.handle(Time(0), input, effects);
    conn
}

fn connect(shard: &mut Shard, slot: u32, effects: &mut Effects) -> ConnId {
    let conn = open(shard, slot, effects);
    let client_id = format!("client-{slot}");
    let resuming = common::connect(ProtocolVersion::V311, &client_id, Properties::new());
    let connect = Connect { clean_start: true, ..resuming };
    let packet = Packet::Connect(Box::new(connect));
    shard.handle(Time(0), Input::Packet { conn, packet }, effects);
    conn
}

fn subscribe(filter: &str) -> Packet {
    Packet::Subscribe(Box::new(Subscribe {
        packet_id: PacketId::new(1).expect("not zero"),
        properties: Properties::new(),
        filters: vec![SubscribeFilter {
            filter: filter.into(),
            options: SubscriptionOptions::default(),
        }],
    }))
}

fn publish(payload: &[u8], packet_id: u16) -> Packet {
    let qos = if packet_id == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        packet_id: PacketId::new(packet_id),
        topic_alias: None,
        message: Message::new("t", &Properties::new(), payload).expect("short"),
    })
}

/// U5-3.1.4-a
#[test]
fn a_hundred_thousand_silent_connections_leave_nothing_behind() {
    let mut shard = started(config());
    let before = shard.clone();
    let mut effects = Effects::new();
    for slot in 0..100_000 {
        open(&mut shard, slot, &mut effects);
    }
    assert_eq!(shard.view().connections(), 100_000);
    assert!(effects.is_empty(), "nothing is said to whoever says nothing");

    let due = shard.next_timeout().expect("the connect timeout is armed");
    assert_eq!(due, Time(config().limits.connect_timeout_ms));
    shard.handle(Time(due.0 - 1), Input::Tick, &mut effects);
    assert_eq!(effects, [], "not before its time");
    let mut closed = 0;
    while shard.next_timeout().is_some_and(|at| at <= due) {
        shard.handle(due, Input::Tick, &mut effects);
        let is_close =
            |effect: &&Effect| matches!(effect, Effect::Close { cause: Cause::ConnectTimeout, .. });
        let now = effects.iter().filter(is_close).count();
        assert!((1..=10_000).contains(&now), "one call is bounded");
        closed += now;
        effects.clear();
    }
    assert_eq!(closed, 100_000);
    assert_eq!(shard, before, "the state is that from before they came");
}

#[test]
fn large_fan_out_takes_several_calls_and_keeps_the_order() {
    const RECEIVERS: u32 = 1000;
    let mut config = config();
    config.limits.deliveries_per_turn_max = 300;
    let mut shard = started(config);
    let mut effects = Effects::new();
    for slot in 0..RECEIVERS {
        let conn = connect(&mut shard, slot, &mut effects);
        shard.handle(Time(0), Input::Packet { conn, packet: subscribe("t") }, &mut effects);
    }
    let publisher = connect(&mut shard, RECEIVERS, &mut effects);
    effects.clear();

    let mut received = vec![Vec::new(); RECEIVERS as usize];
    let mut acknowledged = Vec::new();
    let mut calls = 0;
    let mut inputs = vec![publish(b"first", 1), publish(b"second", 2)].into_iter();
    loop {
        let input = match inputs.next() {
            Some(packet) => Input::Packet { conn: publisher, packet },
            None if shard.next_timeout().is_some() => Input::Tick,
            None => break,
        };
        shard.handle(Time(0), input, &mut effects);
        shard.check().expect("invariants");
        calls += 1;
        let sends = std::mem::take(&mut effects);
        assert!(sends.len() <= 301, "a call does bounded work");
        for effect in sends.into_iter().flat_map(Effect::each) {
            let Effect::Send { conn, frame } = effect else { continue };
            if conn == publisher {
                acknowledged.push(received.iter().map(Vec::len).sum::<usize>());
            } else {
                received[conn.slot as usize].push(frame.payload().to_vec());
            }
        }
    }
    assert!(calls >= 7, "2000 deliveries, 300 a call: {calls}");
    assert!(received.iter().all(|got| *got == [b"first".to_vec(), b"second".to_vec()]));
    assert_eq!(acknowledged, [1000, 2000], "PUBACK comes after the last delivery");
}

/// A publisher that is faster than its fan-out is not read from until the shard has caught up.
#[test]
fn a_flood_into_a_large_fan_out_is_held_up() {
    let mut config = config();
    config.limits.deliveries_per_turn_max = 1;
    config.limits.publishes_in_flight_max = 10;
    let mut shard = started(config);
    let mut effects = Effects::new();
    for slot in 0..20 {
        let conn = connect(&mut shard, slot, &mut effects);
        shard.handle(Time(0), Input::Packet { conn, packet: subscribe("t") }, &mut effects);
    }
    let publisher = connect(&mut shard, 20, &mut effects);
    effects.clear();
    let pause = Effect::Pause { conn: publisher };
    let mut published = 0;
    while !effects.contains(&pause) {
        let packet = publish(b"x", 0);
        shard.handle(Time(0), Input::Packet { conn: publisher, packet }, &mut effects);
        published += 1;
        assert!(published <= 20, "it is paused some time");
    }
    let resume = Effect::Resume { conn: publisher };
    while shard.next_timeout().is_some() {
        assert!(!effects.contains(&resume), "not before all is delivered");
        shard.handle(Time(0), Input::Tick, &mut effects);
        shard.check().expect("invariants");
    }
    assert!(effects.contains(&resume));
    let sent = effects.iter().filter(|effect| matches!(effect, Effect::Send { .. })).count();
    assert_eq!(sent, published * 20);
}

/// What is sent to a client that reads nothing is bounded, and the rest is reported once.
#[test]
fn a_client_that_never_reads_is_sent_its_credit_and_no_more() {
    let mut config = config();
    config.limits.session_queue_max = 10;
    let mut shard = started(config);
    let mut effects = Effects::new();
    let sleeper = connect(&mut shard, 0, &mut effects);
    shard.handle(Time(0), Input::Packet { conn: sleeper, packet: subscribe("t") }, &mut effects);
    let publisher = connect(&mut shard, 1, &mut effects);
    effects.clear();
    for _ in 0..100 {
        let packet = publish(&[0; 100_000], 0);
        shard.handle(Time(0), Input::Packet { conn: publisher, packet }, &mut effects);
        shard.check().expect("invariants");
    }
    let sent = effects.iter().filter(|effect| matches!(effect, Effect::Send { .. })).count();
    let notes = effects.iter().filter(|effect| matches!(effect, Effect::Note(_))).count();
    assert_eq!((sent, notes), (11, 1), "1 MiB of credit and one message that began within it");

    // It reads at last: what waited arrives, and the queue is empty again.
    effects.clear();
    let bytes = 11 * 100_009;
    shard.handle(Time(0), Input::Sent { conn: sleeper, bytes }, &mut effects);
    assert_eq!(effects.len(), 10);
}

/// A receiver that differs from others in what it gets.
#[derive(Clone, Debug)]
struct Receiver {
    version: ProtocolVersion,
    connect: Vec<Property>,
    subscription_id: Option<u32>,
    options: SubscriptionOptions,
    credit: u32,
}

/// One of each kind.
fn receivers() -> Vec<Receiver> {
    let plain = Receiver {
        version: ProtocolVersion::V311,
        connect: Vec::new(),
        subscription_id: None,
        options: SubscriptionOptions::default(),
        credit: 1 << 20,
    };
    let v5 = Receiver { version: ProtocolVersion::V5, ..plain.clone() };
    let options = SubscriptionOptions { retain_as_published: true, ..plain.options };
    let qos1 = SubscriptionOptions { qos: QoS::AtLeastOnce, ..plain.options };
    let qos2 = SubscriptionOptions { qos: QoS::ExactlyOnce, ..plain.options };
    vec![
        plain.clone(),
        Receiver { version: ProtocolVersion::V31, ..plain.clone() },
        v5.clone(),
        Receiver { options, ..v5.clone() },
        Receiver { options: qos1, ..v5.clone() },
        Receiver { options: qos1, ..plain.clone() },
        Receiver { options: qos2, ..v5.clone() },
        Receiver { options: qos1, connect: vec![Property::SessionExpiryInterval(9)], ..v5.clone() },
        Receiver { options: qos1, connect: vec![Property::ReceiveMaximum(1)], ..v5.clone() },
        Receiver { subscription_id: Some(7), ..v5.clone() },
        Receiver { connect: vec![Property::TopicAliasMaximum(2)], ..v5.clone() },
        // Takes the CONNACK, and no message; and one that takes only the shorter ones.
        Receiver { connect: vec![Property::MaximumPacketSize(100)], ..v5.clone() },
        Receiver { connect: vec![Property::MaximumPacketSize(1015)], ..v5.clone() },
        // Reads nothing: what comes waits behind the first message, or is too much to read on.
        Receiver { credit: 100, ..plain.clone() },
        Receiver { credit: 1, ..v5 },
    ]
}

/// What each of these gets, byte by byte, and whether it is read from, when all are receivers of what is
/// published with this QoS.
fn received(receivers: &[Receiver], qos: QoS) -> Vec<(Vec<u8>, bool)> {
    let mut shard = started(ShardConfig { durable: true, ..config() });
    let mut effects = Effects::new();
    let mut input = |shard: &mut Shard, input| {
        shard.handle(Time(0), input, &mut effects);
        shard.check().expect("invariants");
        // What leaves behind a record waits until it is durable.
        let is_record = |effect: &Effect| matches!(effect, Effect::Persist { .. });
        if let Some(Effect::Persist { seq, .. }) = effects.iter().rfind(|effect| is_record(effect))
        {
            let through = *seq;
            shard.handle(Time(0), Input::Persisted { through }, &mut effects);
            shard.check().expect("invariants");
        }
        effects.retain(|effect| !is_record(effect));
        std::mem::take(&mut effects)
    };
    for (slot, receiver) in (0..).zip(receivers) {
        let conn = ConnId { slot, epoch: 0 };
        input(&mut shard, opened(conn, receiver.credit));
        let properties = receiver.connect.iter().cloned().collect();
        let connect = common::connect(receiver.version, &format!("c{slot}"), properties);
        let connect = Connect { clean_start: true, ..connect };
        let id = receiver.subscription_id.map(Property::SubscriptionIdentifier);
        let subscribe = Subscribe {
            packet_id: PacketId::new(1).expect("not zero"),
            properties: id.into_iter().collect(),
            filters: vec![SubscribeFilter { filter: "t".into(), options: receiver.options }],
        };
        for packet in [Packet::Connect(Box::new(connect)), Packet::Subscribe(Box::new(subscribe))] {
            input(&mut shard, Input::Packet { conn, packet });
        }
    }
    let publisher = ConnId { slot: u32::try_from(receivers.len()).expect("few"), epoch: 0 };
    input(&mut shard, opened(publisher, 1 << 20));
    let connect = common::connect(ProtocolVersion::V5, "publisher", Properties::new());
    input(&mut shard, Input::Packet { conn: publisher, packet: Packet::Connect(connect.into()) });

    let mut got = vec![(Vec::new(), true); receivers.len()];
    let expiry: Properties = [Property::MessageExpiryInterval(60)].into_iter().collect();
    let none = Properties::new();
    let messages = [(1, false, none.clone(), 1000), (2, true, expiry, 1000), (3, true, none, 1010)];
    for (packet_id, retain, properties, len) in messages {
        let message = Message::new("t", &properties, &vec![b'x'; len]).expect("short");
        let packet = Packet::Publish(Publish {
            dup: false,
            qos,
            retain,
            packet_id: PacketId::new(packet_id).filter(|_| qos != QoS::AtMostOnce),
            topic_alias: None,
            message,
        });
        let effects = input(&mut shard, Input::Packet { conn: publisher, packet });
        for effect in effects.into_iter().flat_map(Effect::each) {
            match effect {
                Effect::Send { conn, .. } if conn == publisher => {}
                Effect::Send { conn, frame } => frame.encode(&mut got[conn.slot as usize].0),
                Effect::Pause { conn } => got[conn.slot as usize].1 = false,
                other => panic!("{other:?}"),
            }
        }
    }
    got
}

/// What goes to many at once is for each of them what it would get alone.
#[test]
fn in_a_crowd_each_gets_what_it_would_get_alone() {
    let kinds = receivers();
    let crowd: Vec<_> = (0..75).map(|number| kinds[number % kinds.len()].clone()).collect();
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let one = |kind: &Receiver| received(std::slice::from_ref(kind), qos).remove(0);
        let alone: Vec<_> = kinds.iter().map(one).collect();
        let lengths: Vec<usize> = alone.iter().map(|(bytes, _)| bytes.len()).collect();
        assert!(lengths.contains(&0) && lengths.iter().any(|len| *len > 3000));
        assert!(alone.iter().any(|(_, is_read)| !is_read), "one is not read from any more");

        for (number, got) in received(&crowd, qos).into_iter().enumerate() {
            assert!(got == alone[number % kinds.len()], "{qos:?} {number}");
        }
    }
}
