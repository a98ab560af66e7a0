//! Small parts of a shard that larger tests pass by: where a limit begins, what costs a record, what
//! is said once.

mod common;

use codec::{
    Ack, Auth, Connect, Disconnect, Frame, Message, Packet, PacketId, Properties, Property,
    ProtocolVersion, Publish, QoS, ReasonCode, Subscribe, SubscribeFilter, SubscriptionOptions,
    Unsubscribe, Will,
};
use session_core::{
    Actions, Answer, Authentication, Command, CommitSeq, ConnId, Effect, Event, Flight, Grants,
    Input, Limits, MsgId, Pattern, Principal, QueueFull, Record, Rule, Shard, ShardConfig, ShardId,
    ShardMap, ShardMsg, Ticket, Time, Violation,
};

use common::opened;

const HERE: ShardId = ShardId(0);
const ELSEWHERE: ShardId = ShardId(1);

/// One shard, whose disk is as slow as the test wants.
struct Broker {
    shard: Shard,
    now: Time,
    log: Vec<Record>,
}

impl Broker {
    fn new(change: impl FnOnce(&mut Limits)) -> Self {
        let mut config = ShardConfig::new(HERE, ShardMap::new(1, 2));
        change(&mut config.limits);
        Self::recovered(config, &[])
    }

    fn durable() -> Self {
        Self::recovered(durable(), &[])
    }

    fn recovered(config: ShardConfig, log: &[Record]) -> Self {
        let shard = Shard::recovered(config, log.iter().cloned());
        let mut broker = Self { shard, now: Time(1_000_000), log: log.to_vec() };
        let mut effects = Vec::new();
        broker.shard.start(broker.now, &mut effects);
        broker.keep(&effects);
        broker
    }

    /// The first of two shards, which has not heard from the other.
    fn starting(change: impl FnOnce(&mut Limits)) -> Self {
        let mut config = ShardConfig::new(HERE, two());
        change(&mut config.limits);
        Self::recovered(config, &[])
    }

    /// The first of two shards; the other has announced its subscriptions.
    fn of_two(change: impl FnOnce(&mut Limits)) -> Self {
        let mut broker = Self::starting(change);
        broker.told(ShardMsg::Announced);
        broker
    }

    fn told(&mut self, msg: ShardMsg) -> Vec<String> {
        self.input(Input::Told { from: ELSEWHERE, msg: Box::new(msg) })
    }

    /// What an input brings about.
    fn input(&mut self, input: Input) -> Vec<String> {
        self.effects(input).iter().map(show).collect()
    }

    fn effects(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.shard.handle(self.now, input, &mut effects);
        self.shard.check().expect("invariants");
        self.keep(&effects);
        effects.into_iter().flat_map(Effect::each).collect()
    }

    fn keep(&mut self, effects: &[Effect]) {
        for effect in effects {
            if let Effect::Persist { record, .. } = effect {
                self.log.push((**record).clone());
            }
        }
    }

    /// The disk catches up, with what is committed meanwhile too.
    fn sync(&mut self) -> Vec<String> {
        let mut shown = Vec::new();
        let mut durable = usize::MAX;
        while durable != self.log.len() {
            durable = self.log.len();
            shown.extend(self.input(Input::Persisted { through: CommitSeq(u64::MAX) }));
        }
        shown
    }

    fn open(&mut self, slot: u32, credit: u32) -> Vec<String> {
        self.input(opened(conn(slot), credit))
    }

    fn connect(&mut self, slot: u32, client_id: &str, expiry_s: u32) -> Vec<String> {
        self.connect_as(slot, v5(client_id, expiry_s))
    }

    fn connect_as(&mut self, slot: u32, connect: Connect) -> Vec<String> {
        self.open(slot, 1 << 20);
        self.packet(slot, Packet::Connect(Box::new(connect)))
    }

    fn packet(&mut self, slot: u32, packet: Packet) -> Vec<String> {
        self.input(Input::Packet { conn: conn(slot), packet })
    }
}

fn durable() -> ShardConfig {
    let mut config = ShardConfig::new(HERE, ShardMap::new(1, 2));
    config.durable = true;
    config
}

fn two() -> ShardMap {
    ShardMap::new(2, 2)
}

/// A name that the test may give to a client or a topic, for which `fits` holds.
fn name(fits: impl Fn(&str) -> bool) -> String {
    (0..).map(|n| format!("name-{n}")).find(|name| fits(name)).expect("one of so many")
}

fn conn(slot: u32) -> ConnId {
    ConnId { slot, epoch: 0 }
}

fn id(value: u16) -> PacketId {
    PacketId::new(value).expect("not zero")
}

fn v5(client_id: &str, expiry_s: u32) -> Connect {
    common::connect(
        ProtocolVersion::V5,
        client_id,
        [Property::SessionExpiryInterval(expiry_s)].into_iter().collect(),
    )
}

fn subscribe(filter: &str, qos: QoS) -> Packet {
    let options = SubscriptionOptions { qos, ..Default::default() };
    Packet::Subscribe(Box::new(Subscribe {
        packet_id: id(1),
        properties: Properties::new(),
        filters: vec![SubscribeFilter { filter: filter.into(), options }],
    }))
}

fn unsubscribe(filter: &str) -> Packet {
    let (packet_id, filters) = (id(2), vec![filter.into()]);
    Packet::Unsubscribe(Box::new(Unsubscribe { packet_id, properties: Properties::new(), filters }))
}

fn message(topic: &str) -> Message {
    Message::new(topic, &Properties::new(), b"x").expect("short")
}

/// A topic that the other of two shards owns.
fn topic_elsewhere() -> String {
    name(|name| two().topic(name.as_bytes()) == ELSEWHERE)
}

/// A client whose session is on the first of two shards.
fn client_here() -> String {
    name(|name| two().session(name) == HERE)
}

/// QoS 0 without an identifier.
fn publish(topic: &str, qos: QoS, packet_id: u16) -> Packet {
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        packet_id: PacketId::new(packet_id),
        topic_alias: None,
        message: message(topic),
    })
}

fn retain(topic: &str) -> Packet {
    let Packet::Publish(publish) = publish(topic, QoS::AtMostOnce, 0) else { unreachable!() };
    Packet::Publish(Publish { retain: true, ..publish })
}

fn pubrel(packet_id: u16) -> Packet {
    Packet::PubRel(Ack::success(id(packet_id)))
}

fn puback(packet_id: u16) -> Packet {
    Packet::PubAck(Ack::success(id(packet_id)))
}

fn show(effect: &Effect) -> String {
    match effect {
        Effect::Send { conn, frame } => format!("{} {}", conn.slot, show_frame(frame)),
        Effect::Close { conn, cause } => format!("{} closed {cause:?}", conn.slot),
        Effect::Pause { conn } => format!("{} paused", conn.slot),
        Effect::Resume { conn } => format!("{} resumed", conn.slot),
        Effect::Persist { record, .. } => {
            let record = format!("{record:?}");
            format!("record {}", record.split(' ').next().unwrap_or_default())
        }
        Effect::Note(event) => match &**event {
            Event::Dropped { reason, count, queued, .. } => {
                format!("note: {count} {}, {queued} wait", reason.name())
            }
            Event::Connected { .. } => "note: connected".into(),
            Event::Disconnected { client_id, .. } => format!("note: {client_id:?} gone"),
            other => format!("note: {other:?}"),
        },
        Effect::Reply { reply, .. } => format!("reply {reply:?}"),
        Effect::Tell { msg, .. } => match &**msg {
            ShardMsg::Credit(count) => format!("tell Credit {count}"),
            ShardMsg::Publish(_) => "tell Publish".into(),
            ShardMsg::Done { .. } => "tell Done".into(),
            ShardMsg::Deliver(_) => "tell Deliver".into(),
            other => format!("tell {other:?}"),
        },
        other => format!("{other:?}"),
    }
}

fn show_frame(frame: &Frame) -> String {
    match frame {
        Frame::Publish { message, packet_id, .. } => {
            format!("PUBLISH {} {packet_id}", message.topic_str())
        }
        Frame::PublishWith(_) => "PUBLISH with".into(),
        Frame::Ack { kind, packet_id, .. } => format!("{kind:?} {}", packet_id.get()),
        Frame::PingResp => "PINGRESP".into(),
        Frame::Packet(_, packet) => format!("{:?}", packet.packet_type()),
    }
}

/// Pauses go past the gate: a needless one is harmless but for the calls that it costs.
#[test]
fn who_need_not_wait_is_not_paused() {
    let mut broker = Broker::new(|_| {});
    broker.connect(0, "a", 0);
    assert_eq!(broker.packet(0, publish("t", QoS::AtMostOnce, 0)), [""; 0]);
    assert_eq!(broker.packet(0, publish("t", QoS::AtLeastOnce, 1)), ["0 PubAck 1"]);
}

#[test]
fn publishers_wait_until_a_link_is_half_empty() {
    let mut broker = Broker::of_two(|limits| limits.link_in_flight_max = 4);
    let topic = topic_elsewhere();
    broker.connect(0, &client_here(), 0);
    let publish = || publish(&topic, QoS::AtMostOnce, 0);
    for _ in 0..3 {
        assert_eq!(broker.packet(0, publish()), ["tell Publish"]);
    }
    assert_eq!(broker.packet(0, publish()), ["tell Publish", "0 paused"]);
    assert_eq!(broker.told(ShardMsg::Credit(1)), [""; 0]);
    assert_eq!(broker.told(ShardMsg::Credit(1)), ["0 resumed"]);
}

#[test]
fn a_view_counts_what_is_there() {
    let mut broker = Broker::new(|_| {});
    broker.connect(0, "sub", 1000);
    broker.packet(0, subscribe("#", QoS::AtLeastOnce));
    broker.connect(1, "pub", 0);
    broker.packet(1, retain("kept"));
    broker.packet(1, publish("t", QoS::AtLeastOnce, 1));
    broker.input(Input::Closed { conn: conn(0) });
    broker.packet(1, publish("t", QoS::AtLeastOnce, 2));
    let view = broker.shard.view();
    assert_eq!((view.connections(), view.sessions(), view.subscriptions()), (1, 2, 1));
    assert_eq!((view.retained(), view.queued()), (1, 2), "one was sent and one waits");
    assert!(view.clients().eq([("pub", true), ("sub", false)]));
}

#[test]
fn a_shutdown_takes_all_connections_and_lets_none_in() {
    let mut broker = Broker::new(|_| {});
    broker.connect(0, "a", 0);
    broker.open(1, 1 << 20);
    let command = Input::Command { ticket: Ticket(7), command: Box::new(Command::Shutdown) };
    let closed = [
        "0 Disconnect",
        "0 closed Shutdown",
        "note: \"a\" gone",
        "1 closed Shutdown",
        "note: \"\" gone",
        "reply Done",
    ];
    assert_eq!(broker.input(command), closed);
    assert_eq!(broker.open(2, 1 << 20), ["2 closed Shutdown", "note: \"\" gone"]);
}

/// What is exactly as much as the limit allows is taken.
#[test]
fn a_queue_holds_as_many_bytes_as_it_may() {
    let size = message("t").size() as u64;
    for (bytes_max, taken) in [(2 * size, 2), (2 * size - 1, 1)] {
        let mut broker = Broker::new(|limits| {
            limits.session_queue_bytes_max = bytes_max;
            limits.session_queue_full = QueueFull::Reject;
        });
        broker.connect(0, "sub", 1000);
        broker.packet(0, subscribe("t", QoS::AtLeastOnce));
        broker.input(Input::Closed { conn: conn(0) });
        broker.connect(1, "pub", 0);
        for packet_id in 1..=3 {
            broker.packet(1, publish("t", QoS::AtLeastOnce, packet_id));
        }
        assert_eq!(broker.shard.view().queued(), taken);
    }
}

/// The oldest messages make room for one that fills the queue alone, and not for a larger one.
#[test]
fn a_message_as_large_as_the_queue_takes_it_alone() {
    let size = message("t").size() as u64;
    for (bytes_max, answer) in [(size, "1 PubAck 2"), (size - 1, "1 PubAck")] {
        let mut broker = Broker::new(|limits| limits.session_queue_bytes_max = bytes_max);
        broker.connect(0, "sub", 1000);
        broker.packet(0, subscribe("#", QoS::AtLeastOnce));
        broker.input(Input::Closed { conn: conn(0) });
        broker.connect(1, "pub", 0);
        broker.packet(1, publish("t", QoS::AtLeastOnce, 1));
        let sent = broker.packet(1, publish("t", QoS::AtLeastOnce, 2));
        assert_eq!(sent.last().map(String::as_str), Some(answer), "{sent:?}");
    }
}

#[test]
fn an_overflow_is_reported_once_in_ten_seconds() {
    let mut broker = Broker::new(|limits| limits.session_queue_max = 2);
    broker.connect(0, "sub", 1000);
    broker.packet(0, subscribe("t", QoS::AtLeastOnce));
    broker.input(Input::Closed { conn: conn(0) });
    broker.connect(1, "pub", 0);
    let overflow = |broker: &mut Broker| {
        let publish = || publish("t", QoS::AtLeastOnce, 1);
        let effects: Vec<String> = (0..5).flat_map(|_| broker.packet(1, publish())).collect();
        effects.into_iter().filter(|effect| effect.starts_with("note")).collect::<Vec<_>>()
    };
    assert_eq!(overflow(&mut broker), ["note: 1 queue_full, 1 wait"]);
    assert_eq!(overflow(&mut broker), [""; 0]);
    broker.connect(2, "sub", 1000);
    assert_eq!(broker.shard.view().queued(), 2);
    for packet_id in [1, 2] {
        broker.packet(2, puback(packet_id));
    }
    broker.input(Input::Closed { conn: conn(2) });
    assert_eq!(overflow(&mut broker), [""; 0]);
    broker.now = broker.now.plus_ms(10_000);
    assert_eq!(overflow(&mut broker), ["note: 11 queue_full, 1 wait"]);
    assert_eq!(broker.shard.view().drops(), [16, 0, 0, 0, 0, 0]);
}

/// A session that ends with its connection is in no log, though another connection takes it over.
#[test]
fn a_session_without_expiry_costs_no_record() {
    let mut broker = Broker::durable();
    for slot in [0, 1] {
        broker.connect(slot, "c", 0);
        broker.packet(slot, subscribe("t", QoS::AtLeastOnce));
    }
    assert_eq!(broker.log, []);
}

/// The records of a Will that is published because the connection is lost.
fn lose_will(mut broker: Broker, qos: QoS, retain: bool) -> Vec<String> {
    let will = Will { qos, retain, delay_s: 0, message: message("will") };
    broker.connect_as(0, Connect { will: Some(Box::new(will)), ..v5("c", 0) });
    let closed = broker.input(Input::Closed { conn: conn(0) });
    closed.into_iter().filter(|effect| effect.starts_with("record")).collect()
}

/// Nobody would repeat a Will: the log has it until it is delivered, but for one that may be lost.
#[test]
fn a_will_is_logged_if_it_must_not_be_lost() {
    assert_eq!(lose_will(Broker::durable(), QoS::AtMostOnce, false), [""; 0]);
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let records = ["record Outgoing", "record Delivered"];
        assert_eq!(lose_will(Broker::durable(), qos, false), records, "{qos:?}");
        assert_eq!(lose_will(Broker::new(|_| {}), qos, false), [""; 0], "{qos:?}, no log");
    }
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let records = ["record Outgoing", "record Retained", "record Delivered"];
        assert_eq!(lose_will(Broker::durable(), qos, true), records, "{qos:?}");
    }
}

/// What its own session does not survive does not come again after a crash.
#[test]
fn only_what_may_come_again_is_remembered() {
    for (expiry_s, remembered) in [(0, false), (1000, true)] {
        let mut broker = Broker::durable();
        broker.connect(0, "sub", 1000);
        broker.packet(0, subscribe("t", QoS::AtLeastOnce));
        broker.connect(1, "pub", expiry_s);
        broker.packet(1, publish("t", QoS::ExactlyOnce, 1));
        broker.packet(1, pubrel(1));
        let stored = broker.log.iter().filter_map(|record| match record {
            Record::Enqueued { queued, source, .. } => {
                Some((source.is_some(), queued.extra.is_some()))
            }
            _ => None,
        });
        assert!(stored.eq([(remembered, false)]), "{:#?}", broker.log);
    }
}

/// `[MQTT-4.6.0-6]` What is routed again after a crash does not come behind a later message of its
/// topic; one of another topic is in nobody's way. What came to a share group before may have gone to
/// another member.
#[test]
fn what_comes_again_gives_way_to_its_own_topic_alone() {
    for (filter, later, comes) in
        [("#", "t", false), ("#", "other", true), ("$share/g/#", "t", true)]
    {
        let mut broker = Broker::durable();
        broker.connect(0, "sub", 1000);
        broker.packet(0, subscribe(filter, QoS::AtLeastOnce));
        broker.connect(1, "pub", 1000);
        for (packet_id, topic) in [(1, "t"), (2, later)] {
            broker.packet(1, publish(topic, QoS::ExactlyOnce, packet_id));
            broker.packet(1, pubrel(packet_id));
        }
        // The log of a receiver's shard that heard of the second message alone.
        let mut log = broker.log;
        let first = |message: &MsgId| message.number == 1;
        log.retain(|record| match record {
            Record::Enqueued { source: Some(source), .. } => !first(&source.id),
            Record::Delivered { message } => !first(message),
            _ => true,
        });
        let mut broker = Broker::recovered(durable(), &log);
        broker.sync();
        assert_eq!(broker.shard.view().queued(), 1 + usize::from(comes), "{filter} behind {later}");
    }
}

/// The floor tells receivers which publications to forget: none that may come again, and all else.
#[test]
fn what_is_stored_everywhere_is_forgotten() {
    let mut config = ShardConfig::new(HERE, two());
    config.durable = true;
    let mut broker = Broker::recovered(config, &[]);
    broker.told(ShardMsg::Announced);
    broker.connect(0, &client_here(), 1000);
    broker.sync();
    let topic = topic_elsewhere();
    let release = |broker: &mut Broker, packet_id| {
        broker.packet(0, publish(&topic, QoS::ExactlyOnce, packet_id));
        broker.packet(0, pubrel(packet_id));
        let through = CommitSeq(u64::MAX);
        let told = broker.effects(Input::Persisted { through }).into_iter().find_map(|effect| {
            let Effect::Tell { msg, .. } = effect else { return None };
            let ShardMsg::Publish(publication) = *msg else { return None };
            Some(publication.flight)
        });
        let Some(Flight::Outgoing { id, floor, .. }) = told else { panic!("{told:?}") };
        (id.number, floor)
    };
    for (packet_id, floor) in [(1, 1), (2, 1), (3, 1)] {
        assert_eq!(release(&mut broker, packet_id), (u64::from(packet_id), floor));
    }
    for (number, packet_id, floor) in [(1, 4, 2), (3, 5, 2), (2, 6, 4)] {
        let name = MsgId { epoch: 0, shard: HERE, number };
        let flight = Flight::Outgoing { id: name, floor: 0, again: false };
        broker.told(ShardMsg::Routed { flight, shards: 0, reason: ReasonCode::Success });
        assert_eq!(release(&mut broker, packet_id), (u64::from(packet_id), floor));
    }
}

/// News of subscriptions keeps its order while a slow link holds up what was published before it.
#[test]
fn an_unsubscribe_does_not_overtake_its_subscribe() {
    let mut broker = Broker::starting(|limits| limits.link_in_flight_max = 2);
    let topic = name(|name| two().topic(name.as_bytes()) == HERE);
    let elsewhere = topic_elsewhere();
    broker.connect(0, &client_here(), 0);
    broker.packet(0, publish(&topic, QoS::AtMostOnce, 0));
    broker.packet(0, subscribe(&topic, QoS::AtMostOnce));
    for _ in 0..2 {
        broker.packet(0, publish(&elsewhere, QoS::AtMostOnce, 0));
    }
    broker.told(ShardMsg::Announced);
    assert_eq!(broker.packet(0, unsubscribe(&topic)), [""; 0]);
    assert_eq!(broker.told(ShardMsg::Credit(2)), ["0 SubAck", "0 UnsubAck", "0 resumed"]);
    assert_eq!(broker.packet(0, publish(&topic, QoS::AtMostOnce, 0)), [""; 0]);
}

/// `[MQTT-3.1.2-22]` Who is not read from is not silent, but for who does not read.
#[test]
fn a_publisher_that_is_held_up_is_not_silent() {
    let mut broker = Broker::of_two(|limits| limits.link_in_flight_max = 1);
    broker.connect_as(0, Connect { keep_alive_s: 10, ..v5(&client_here(), 0) });
    let paused = broker.packet(0, publish(&topic_elsewhere(), QoS::AtMostOnce, 0));
    assert_eq!(paused, ["tell Publish", "0 paused"]);
    broker.now = broker.now.plus_s(60);
    assert_eq!(broker.input(Input::Tick), [""; 0]);

    let mut broker = Broker::new(|_| {});
    broker.open(0, 1);
    let connect = Connect { keep_alive_s: 10, ..v5("c", 0) };
    let paused = broker.packet(0, Packet::Connect(Box::new(connect)));
    assert!(paused.contains(&"0 paused".into()), "{paused:?}");
    broker.now = broker.now.plus_s(15);
    let closed = ["0 Disconnect", "0 closed KeepAliveTimeout", "note: \"c\" gone"];
    assert_eq!(broker.input(Input::Tick), closed);
}

/// The length of a PUBLISH of this QoS to a client that takes packets up to a length, if it is sent.
fn sent_to(packet_max: u32, qos: QoS, identifier: Option<u32>, aliases: u16) -> Option<u32> {
    let mut broker = Broker::new(|_| {});
    let limits = [Property::MaximumPacketSize(packet_max), Property::TopicAliasMaximum(aliases)];
    broker.connect_as(0, Connect { properties: limits.into_iter().collect(), ..v5("c", 0) });
    let Packet::Subscribe(mut subscribe) = subscribe("t", qos) else { unreachable!() };
    subscribe.properties = identifier.map(Property::SubscriptionIdentifier).into_iter().collect();
    broker.packet(0, Packet::Subscribe(subscribe));
    broker.connect(1, "pub", 0);
    let packet_id = u16::from(qos != QoS::AtMostOnce);
    let Packet::Publish(publish) = publish("t", qos, packet_id) else { unreachable!() };
    let message = Message::new("t", &Properties::new(), &[0; 100]).expect("short");
    let packet = Packet::Publish(Publish { message, ..publish });
    let effects = broker.effects(Input::Packet { conn: conn(1), packet });
    effects.into_iter().find_map(|effect| match effect {
        Effect::Send { conn, frame } if conn.slot == 0 => u32::try_from(frame.len()).ok(),
        _ => None,
    })
}

/// `[MQTT-3.1.2-24]` A packet as large as a client takes is sent.
#[test]
fn what_a_client_takes_is_judged_to_the_byte() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        for identifier in [None, Some(7)] {
            let sent_to = |packet_max| sent_to(packet_max, qos, identifier, 0);
            let len = sent_to(1000).expect("it is far below");
            let sent = (sent_to(len), sent_to(len - 1));
            assert_eq!(sent, (Some(len), None), "{qos:?} {identifier:?}");
        }
    }
}

/// What CONNACK has to say cannot be left out.
#[test]
fn a_connack_may_be_as_large_as_a_client_takes() {
    let sent_to = |packet_max| {
        let mut broker = Broker::new(|_| {});
        let limit = Property::MaximumPacketSize(packet_max);
        let connect = Connect { properties: [limit].into_iter().collect(), ..v5("c", 0) };
        broker.open(0, 1 << 20);
        let packet = Packet::Connect(Box::new(connect));
        let effects = broker.effects(Input::Packet { conn: conn(0), packet });
        effects.into_iter().find_map(|effect| match effect {
            Effect::Send { frame, .. } => u32::try_from(frame.len()).ok(),
            _ => None,
        })
    };
    let len = sent_to(1000).expect("it is far below");
    assert_eq!((sent_to(len), sent_to(len - 1)), (Some(len), None));
}

/// An alias that makes a packet too large is left out.
#[test]
fn a_topic_alias_is_given_where_there_is_room() {
    let sent_to = |packet_max, aliases| sent_to(packet_max, QoS::AtLeastOnce, None, aliases);
    let len = sent_to(1000, 0).expect("it is far below");
    for (room, sent) in [(0, len), (2, len), (3, len + 3), (4, len + 3)] {
        assert_eq!(sent_to(len + room, 5), Some(sent), "{room} bytes more");
    }
}

/// A SUBSCRIBE waits for what was owed at the start, and not for what a slow link holds up later.
#[test]
fn a_subscribe_does_not_wait_for_a_slow_link() {
    let mut broker = Broker::of_two(|limits| limits.link_in_flight_max = 1);
    let here = name(|name| two().topic(name.as_bytes()) == HERE);
    broker.connect(0, &client_here(), 0);
    broker.packet(0, publish(&topic_elsewhere(), QoS::AtMostOnce, 0));
    assert_eq!(broker.packet(0, publish(&here, QoS::AtLeastOnce, 1)), [""; 0], "it waits");
    assert_eq!(broker.packet(0, subscribe(&here, QoS::AtMostOnce)), ["0 SubAck"]);
}

#[test]
fn a_slow_consumer_is_reported_once_in_ten_seconds() {
    let mut broker = Broker::new(|limits| limits.session_queue_max = 2);
    broker.connect(0, "sub", 0);
    broker.packet(0, subscribe("t", QoS::AtMostOnce));
    broker.connect(1, "pub", 0);
    // As large as all credit: a message goes out as soon as the one before has left the socket.
    let flood = |broker: &mut Broker| {
        let large = Message::new("t", &Properties::new(), &[0; 1 << 20]).expect("short");
        let Packet::Publish(publish) = publish("t", QoS::AtMostOnce, 0) else { unreachable!() };
        let packet = || Packet::Publish(Publish { message: large.clone(), ..publish.clone() });
        let effects: Vec<String> = (0..6).flat_map(|_| broker.packet(1, packet())).collect();
        effects.into_iter().filter(|effect| effect.starts_with("note")).collect::<Vec<_>>()
    };
    assert_eq!(flood(&mut broker), ["note: 1 not_read, 2 wait"]);
    let one = broker.input(Input::Sent { conn: conn(0), bytes: 1 << 20 });
    assert_eq!(one, ["0 PUBLISH t 0"]);
    assert_eq!(flood(&mut broker), [""; 0], "one still waits");
    broker.input(Input::Sent { conn: conn(0), bytes: 2 << 20 });
    broker.now = broker.now.plus_ms(10_000);
    let said = flood(&mut broker);
    let dropped = broker.shard.view().drops()[2];
    assert_eq!(said.len(), 1, "{said:?}");
    let rows = broker.shard.view().drop_rows();
    assert_eq!((&*rows[0].client_id, rows[0].count), ("sub", dropped));
}

#[test]
fn a_publisher_waits_until_half_of_its_publishes_are_acknowledged() {
    let mut broker = Broker::of_two(|limits| limits.publishes_in_flight_max = 8);
    let topic = topic_elsewhere();
    broker.connect(0, &client_here(), 0);
    for packet_id in 1..8 {
        let told = broker.packet(0, publish(&topic, QoS::AtLeastOnce, packet_id));
        assert_eq!(told, ["tell Publish"]);
    }
    let told = broker.packet(0, publish(&topic, QoS::AtLeastOnce, 8));
    assert_eq!(told, ["tell Publish", "0 paused"]);
    for number in 0..4 {
        let flight = Flight::Ack { conn: conn(0), number };
        let routed = ShardMsg::Routed { flight, shards: 0, reason: ReasonCode::Success };
        let mut expected = vec![format!("0 PubAck {}", number + 1)];
        expected.extend((number == 3).then(|| "0 resumed".into()));
        assert_eq!(broker.told(routed), expected);
    }
}

/// A broker that asks who its clients are.
fn asking() -> Broker {
    let mut config = ShardConfig::new(HERE, ShardMap::new(1, 2));
    config.authentication = Authentication::Ask;
    Broker::recovered(config, &[])
}

/// The outside has no objection; its tickets count from 1.
fn accept(broker: &mut Broker, ticket: u64, grants: Grants) -> Vec<String> {
    let principal = Principal { grants, ..Principal::default() };
    let answer = Box::new(Answer::Accept { principal, data: None });
    broker.input(Input::Answer { ticket: Ticket(ticket), answer })
}

/// Rights may have changed while a client was away: it keeps the subscriptions that it may have.
#[test]
fn a_returning_client_loses_what_it_may_no_longer_read() {
    let mut broker = asking();
    broker.connect(1, "c", 1000);
    accept(&mut broker, 1, Grants::All);
    for filter in ["a", "b", "$share/g/a", "$share/g/b"] {
        broker.packet(1, subscribe(filter, QoS::AtMostOnce));
    }
    broker.input(Input::Closed { conn: conn(1) });
    broker.connect(2, "c", 1000);
    let rule = Rule::new(true, Actions::ALL, Pattern::of_filter("a"), "test");
    accept(&mut broker, 2, Grants::Rules(vec![rule].into()));
    assert_eq!(broker.shard.view().subscriptions(), 2);
    let all = broker.packet(2, publish("a", QoS::AtMostOnce, 0));
    assert_eq!(all, ["2 PUBLISH a 0", "2 PUBLISH a 0"], "one by each subscription");
}

/// Questions about others stay open when a client does not wait for its answer.
#[test]
fn an_answer_finds_its_client() {
    let mut broker = asking();
    for slot in [1, 2] {
        broker.connect(slot, &format!("c{slot}"), 0);
    }
    broker.input(Input::Closed { conn: conn(1) });
    assert_eq!(accept(&mut broker, 1, Grants::All), [""; 0]);
    let connected = ["2 ConnAck", "note: connected", "2 resumed"];
    assert_eq!(accept(&mut broker, 2, Grants::All), connected);
}

#[test]
fn whoever_comes_and_goes_is_noted() {
    let mut broker = Broker::new(|_| {});
    assert_eq!(broker.connect(0, "c", 0), ["0 ConnAck", "note: connected"]);
    assert_eq!(broker.input(Input::Closed { conn: conn(0) }), ["note: \"c\" gone"]);
}

/// A client that does not take the AUTH that it needs is told so in the way of its state.
#[test]
fn an_auth_that_is_too_large_ends_the_connection() {
    let method = || Property::AuthenticationMethod("m".into());
    let auth = |reason| {
        Packet::Auth(Box::new(Auth { reason, properties: [method()].into_iter().collect() }))
    };
    let too_large = || {
        let data = Some(vec![0; 100].into());
        Box::new(Answer::Continue { data, exchange: None })
    };
    let hello = |broker: &mut Broker| {
        let properties = [Property::MaximumPacketSize(50), method()].into_iter().collect();
        broker.connect_as(0, Connect { properties, ..v5("c", 0) });
    };
    let gone = ["0 closed Refused(PacketTooLarge)", "note: \"c\" gone"];

    let mut broker = asking();
    hello(&mut broker);
    let sent = broker.input(Input::Answer { ticket: Ticket(1), answer: too_large() });
    assert_eq!(sent[..2], ["0 ConnAck", "0 closed Refused(PacketTooLarge)"]);

    let mut broker = asking();
    hello(&mut broker);
    accept(&mut broker, 1, Grants::All);
    broker.packet(0, auth(ReasonCode::ReAuthenticate));
    let sent = broker.input(Input::Answer { ticket: Ticket(2), answer: too_large() });
    assert_eq!(sent[..1], ["0 Disconnect"]);
    assert_eq!(sent[1..], gone);
}

/// U5-3.14.2.2.2-b forbids to prolong a session that ends with its connection, and nothing else.
#[test]
fn a_goodbye_may_repeat_that_the_session_ends() {
    for (expiry_s, cause) in [(0, "Disconnected(Success)"), (1, "Refused(ProtocolError)")] {
        let mut broker = Broker::new(|_| {});
        broker.connect(0, "c", 0);
        let properties = [Property::SessionExpiryInterval(expiry_s)].into_iter().collect();
        let goodbye = Disconnect { reason: ReasonCode::Success, properties };
        let effects = broker.packet(0, Packet::Disconnect(Box::new(goodbye)));
        assert!(effects.contains(&format!("0 closed {cause}")), "{effects:?}");
    }
}

/// A retained message that is routed again after a crash is retained, and takes no place of a later
/// one.
#[test]
fn what_comes_again_is_not_retained_over_something_later() {
    let mut broker = Broker::durable();
    broker.connect(0, "pub", 1000);
    for packet_id in [1_u16, 2] {
        let payload = packet_id.to_be_bytes();
        let message = Message::new("t", &Properties::new(), &payload).expect("short");
        let Packet::Publish(publish) = publish("t", QoS::ExactlyOnce, packet_id) else {
            unreachable!()
        };
        broker.packet(0, Packet::Publish(Publish { retain: true, message, ..publish }));
        broker.packet(0, pubrel(packet_id));
        broker.now = broker.now.plus_ms(1);
    }
    // The crash came before the first was known to be everywhere, or before anything was retained.
    for (stored, expected) in [(true, 2_u16), (false, 1)] {
        let mut log = broker.log.clone();
        log.retain(|record| match record {
            Record::Delivered { message } => message.number != 1,
            Record::Retained { .. } => stored,
            _ => true,
        });
        let broker = Broker::recovered(durable(), &log);
        let retained = broker.shard.snapshot().find_map(|record| match record {
            Record::Retained { retained } => Some(retained.message.payload().to_vec()),
            _ => None,
        });
        assert_eq!(retained, Some(expected.to_be_bytes().to_vec()));
    }
}

/// What is owed at the start waits for the other shards, and goes out in its order.
#[test]
fn what_comes_again_keeps_its_order() {
    let mut config = ShardConfig::new(HERE, two());
    config.durable = true;
    let topic = name(|name| two().topic(name.as_bytes()) == HERE);
    let mut broker = Broker::recovered(config.clone(), &[]);
    broker.told(ShardMsg::Announced);
    broker.connect(0, &client_here(), 1000);
    broker.packet(0, subscribe(&topic, QoS::AtLeastOnce));
    for packet_id in [1_u16, 2, 3] {
        let payload = packet_id.to_be_bytes();
        let message = Message::new(&topic, &Properties::new(), &payload).expect("short");
        let Packet::Publish(publish) = publish(&topic, QoS::ExactlyOnce, packet_id) else {
            unreachable!()
        };
        broker.packet(0, Packet::Publish(Publish { message, ..publish }));
        broker.packet(0, pubrel(packet_id));
    }
    let mut log = broker.log;
    log.retain(|record| {
        use Record::{Delivered, Enqueued, Sent};
        !matches!(record, Delivered { .. } | Enqueued { .. } | Sent { .. })
    });
    let mut broker = Broker::recovered(config, &log);
    broker.log.clear();
    broker.told(ShardMsg::Announced);
    let stored = broker.log.iter().filter_map(|record| match record {
        Record::Enqueued { queued, .. } => Some(queued.message.payload().to_vec()),
        _ => None,
    });
    assert!(stored.eq([1_u16, 2, 3].map(|number| number.to_be_bytes().to_vec())));
}

/// A client whose socket has taken exactly what it said gets nothing more until it has room.
#[test]
fn a_socket_without_room_is_not_written_to() {
    let hello = |broker: &mut Broker, slot, credit| {
        broker.open(slot, credit);
        let mut sent = 0;
        for packet in [
            Packet::Connect(Box::new(v5(&format!("c{slot}"), 0))),
            subscribe("t", QoS::AtLeastOnce),
            subscribe("$share/g/s", QoS::AtLeastOnce),
        ] {
            for effect in broker.effects(Input::Packet { conn: conn(slot), packet }) {
                if let Effect::Send { frame, .. } = effect {
                    sent += u32::try_from(frame.len()).expect("short");
                }
            }
        }
        sent
    };
    let exact = hello(&mut Broker::new(|_| {}), 0, 1 << 20);
    for (credit, has_room) in [(exact, false), (exact + 1, true)] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let mut broker = Broker::new(|_| {});
            hello(&mut broker, 0, credit);
            hello(&mut broker, 1, 1 << 20);
            broker.connect(2, "pub", 0);
            let packet_id = u16::from(qos != QoS::AtMostOnce);
            let sent = broker.packet(2, publish("s", qos, packet_id));
            let member = if has_room { 0 } else { 1 };
            assert_eq!(sent[0], format!("{member} PUBLISH s {packet_id}"));

            let mut broker = Broker::new(|_| {});
            hello(&mut broker, 0, credit);
            broker.connect(2, "pub", 0);
            let sent = broker.packet(2, publish("t", qos, packet_id));
            let got = format!("0 PUBLISH t {packet_id}");
            assert_eq!(sent.contains(&got), has_room);
            if !has_room {
                assert_eq!(broker.input(Input::Sent { conn: conn(0), bytes: 1 }), [got]);
            }
        }
    }
}

#[test]
fn a_violation_names_its_invariant() {
    assert_eq!(Violation("this and that").to_string(), "broken invariant: this and that");
}

/// While a SUBSCRIBE waits for the topics' owners, nothing is sent that could overtake the retained
/// messages which they have, whatever else happens.
#[test]
fn messages_wait_for_an_open_subscribe() {
    let here = name(|name| two().topic(name.as_bytes()) == HERE);
    let mut broker = Broker::of_two(|_| {});
    broker.connect(0, &client_here(), 0);
    broker.packet(0, subscribe(&here, QoS::AtLeastOnce));
    let sent = broker.packet(0, publish(&here, QoS::AtLeastOnce, 1));
    assert_eq!(sent, [format!("0 PUBLISH {here} 1"), "0 PubAck 1".into()]);

    let packet = subscribe(&topic_elsewhere(), QoS::AtLeastOnce);
    let effects = broker.effects(Input::Packet { conn: conn(0), packet });
    let [Effect::Tell { msg, .. }] = &*effects else { panic!("{effects:?}") };
    let ShardMsg::Subscribe { who, filter, request: Some(request), .. } = &**msg else {
        panic!("{msg:?}")
    };
    assert_eq!(broker.packet(0, publish(&here, QoS::AtMostOnce, 0)), [""; 0]);
    assert_eq!(broker.packet(0, publish(&here, QoS::AtLeastOnce, 2)), ["0 PubAck 2"]);
    assert_eq!(broker.packet(0, puback(1)), [""; 0]);
    let (filter, retained) = (filter.clone(), Vec::new());
    let done = broker.told(ShardMsg::Done { who: *who, request: *request, filter, retained });
    assert_eq!(done[0], "0 SubAck");
    let rest = [format!("0 PUBLISH {here} 2"), format!("0 PUBLISH {here} 0")];
    assert_eq!(done[1..], rest);
}

/// As many deliveries as one call may make are made by one, and answered.
#[test]
fn a_call_makes_all_deliveries_that_it_may() {
    let mut broker = Broker::new(|limits| limits.deliveries_per_turn_max = 3);
    for slot in 0..3 {
        broker.connect(slot, &format!("c{slot}"), 0);
        broker.packet(slot, subscribe("t", QoS::AtMostOnce));
    }
    broker.connect(3, "pub", 0);
    let mut sent = broker.packet(3, publish("t", QoS::AtLeastOnce, 1));
    assert_eq!(sent.pop().as_deref(), Some("3 PubAck 1"));
    sent.sort();
    assert_eq!(sent, ["0 PUBLISH t 0", "1 PUBLISH t 0", "2 PUBLISH t 0"]);
    assert_eq!(broker.shard.next_timeout(), None, "nothing is left to be done");
}

/// Whoever was connected when the broker died is absent from its return on.
#[test]
fn a_session_ends_after_a_crash_too() {
    let mut broker = Broker::durable();
    broker.connect(0, "c", 1000);
    broker.connect(1, "d", u32::MAX);
    let mut broker = Broker::recovered(durable(), &broker.log);
    broker.sync();
    let ends = broker.now.plus_s(1000);
    assert_eq!(broker.shard.next_timeout(), Some(ends));
    broker.now = ends;
    broker.input(Input::Tick);
    assert!(broker.shard.view().clients().eq([("d", false)]));
}

/// What another shard owes since before a crash goes to nobody who subscribes after it.
#[test]
fn a_subscribe_waits_for_the_other_shards_to_start() {
    let here = name(|name| two().topic(name.as_bytes()) == HERE);
    let mut broker = Broker::starting(|_| {});
    broker.connect(0, &client_here(), 0);
    assert_eq!(broker.packet(0, subscribe(&here, QoS::AtMostOnce)), [""; 0]);
    assert_eq!(broker.told(ShardMsg::Announced), ["0 SubAck"]);
}

/// A Clean Start ends the earlier session and the delay of its Will: nothing is logged of a delay.
#[test]
fn a_clean_start_costs_four_records() {
    let mut broker = Broker::durable();
    let will = Will { qos: QoS::AtMostOnce, retain: false, delay_s: 5, message: message("will") };
    broker.connect_as(0, Connect { will: Some(Box::new(will)), ..v5("c", 1000) });
    broker.sync();
    let effects = broker.connect_as(1, Connect { clean_start: true, ..v5("c", 1000) });
    let records = effects.into_iter().filter(|effect| effect.starts_with("record"));
    assert!(
        records.eq(["Detached", "WillSet", "Ended", "Session"].map(|one| format!("record {one}")))
    );
}
