//! The gate: nothing leaves a shard that depends on a record which is not durable, and a shard
//! that is rebuilt from any prefix of its log owes nobody anything.

mod common;

use std::collections::VecDeque;

use codec::{
    Ack, Disconnect, Frame, Message, Packet, PacketId, Properties, Property, ProtocolVersion,
    Publish, QoS, ReasonCode, Subscribe, SubscribeFilter, SubscriptionOptions,
};
use session_core::{
    CommitSeq, ConnId, Effect, Flight, Input, MsgId, Publication, Record, SessionId, SessionRef,
    Shard, ShardConfig, ShardId, ShardMap, ShardMsg, Subscription, Time, repartition, topic_mark,
};

use common::opened;

/// A durable shard, its log, and what left it.
struct World {
    shard: Shard,
    log: Vec<Record>,
    /// `name packet` in the order of sending.
    sent: Vec<String>,
    connections: u32,
}

fn config() -> ShardConfig {
    let mut config = ShardConfig::new(ShardId(0), ShardMap::new(1, 2));
    config.durable = true;
    config
}

impl World {
    fn new() -> Self {
        Self::recovered(Vec::new())
    }

    fn recovered(log: Vec<Record>) -> Self {
        let shard = Shard::recovered(config(), log.iter().cloned());
        let mut world = Self { shard, log, sent: Vec::new(), connections: 0 };
        let mut effects = Vec::new();
        world.shard.start(Time(0), &mut effects);
        world.carry_out(effects);
        world
    }

    fn input(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.shard.handle(Time(0), input, &mut effects);
        self.shard.check().expect("invariants");
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects.into_iter().flat_map(Effect::each) {
            match effect {
                Effect::Persist { record, .. } => self.log.push(*record),
                Effect::Send { conn, frame } => {
                    self.sent.push(format!("{} {}", conn.slot, show(&frame)))
                }
                _ => {}
            }
        }
    }

    /// The disk catches up, with what is committed meanwhile too.
    fn sync(&mut self) {
        let mut durable = usize::MAX;
        while durable != self.log.len() {
            durable = self.log.len();
            self.input(Input::Persisted { through: CommitSeq(u64::MAX) });
        }
    }

    fn connect(&mut self, slot: u32, client_id: &str) {
        self.connect_for(slot, client_id, 1000);
    }

    fn connect_for(&mut self, slot: u32, client_id: &str, expiry_s: u32) {
        self.connections += 1;
        let conn = ConnId { slot, epoch: self.connections };
        self.input(opened(conn, 1 << 20));
        let connect = common::connect(
            ProtocolVersion::V5,
            client_id,
            [Property::SessionExpiryInterval(expiry_s)].into_iter().collect(),
        );
        self.input(Input::Packet { conn, packet: Packet::Connect(Box::new(connect)) });
    }

    fn packet(&mut self, slot: u32, epoch: u32, packet: Packet) {
        self.input(Input::Packet { conn: ConnId { slot, epoch }, packet });
    }

    fn take_sent(&mut self) -> Vec<String> {
        std::mem::take(&mut self.sent)
    }
}

fn show(frame: &Frame) -> String {
    match frame {
        Frame::Publish { message, packet_id, flags, .. } => {
            let dup = if flags & 8 != 0 { " dup" } else { "" };
            format!("PUBLISH {} id={packet_id}{dup}", message.topic_str())
        }
        Frame::PublishWith(_) => "PUBLISH with".into(),
        Frame::Ack { kind, packet_id, .. } => format!("{kind:?} {}", packet_id.get()),
        Frame::PingResp => "PINGRESP".into(),
        Frame::Packet(_, packet) => match &**packet {
            Packet::ConnAck(ack) => format!("CONNACK present={}", ack.session_present),
            other => format!("{:?}", other.packet_type()),
        },
    }
}

fn id(value: u16) -> PacketId {
    PacketId::new(value).expect("not zero")
}

fn subscribe(filter: &str, qos: QoS) -> Packet {
    Packet::Subscribe(Box::new(Subscribe {
        packet_id: id(1),
        properties: Properties::new(),
        filters: vec![SubscribeFilter {
            filter: filter.into(),
            options: SubscriptionOptions { qos, ..Default::default() },
        }],
    }))
}

fn publish(topic: &str, qos: QoS, packet_id: u16) -> Packet {
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        packet_id: PacketId::new(packet_id),
        topic_alias: None,
        message: Message::new(topic, &Properties::new(), b"x").expect("short"),
    })
}

#[test]
fn nothing_leaves_before_the_disk_has_it() {
    let mut world = World::new();
    world.connect(0, "sub");
    assert_eq!(world.take_sent(), Vec::<String>::new(), "CONNACK waits for the session's record");
    world.sync();
    assert_eq!(world.take_sent(), ["0 CONNACK present=false"]);

    world.packet(0, 1, subscribe("t", QoS::AtLeastOnce));
    assert_eq!(world.take_sent(), Vec::<String>::new(), "SUBACK waits for the subscription");
    world.sync();
    assert_eq!(world.take_sent(), ["0 SubAck"]);

    world.connect(1, "pub");
    world.sync();
    world.take_sent();
    world.packet(1, 2, publish("t", QoS::AtLeastOnce, 7));
    assert_eq!(world.take_sent(), Vec::<String>::new(), "neither delivery nor PUBACK");
    world.sync();
    assert_eq!(world.take_sent(), ["0 PUBLISH t id=1", "1 PubAck 7"]);
}

#[test]
fn a_message_that_nobody_keeps_costs_no_record() {
    let mut world = World::new();
    world.connect(0, "pub");
    world.sync();
    let before = world.log.len();
    world.packet(0, 1, publish("t", QoS::AtLeastOnce, 7));
    assert_eq!(world.log.len(), before);
    assert_eq!(world.take_sent().last().map(String::as_str), Some("0 PubAck 7"));
}

/// Runs QoS 1 and 2 through a durable shard, crashes at every record, and lets the clients come
/// back: what was acknowledged arrives, and QoS 2 arrives once.
#[test]
fn a_crash_at_any_record_loses_nothing_that_was_acknowledged() {
    let mut world = World::new();
    world.connect(0, "sub");
    world.sync();
    world.packet(0, 1, subscribe("#", QoS::ExactlyOnce));
    world.sync();
    world.connect(1, "pub");
    world.sync();
    let from = world.log.len();
    world.packet(1, 2, publish("one", QoS::AtLeastOnce, 7));
    world.packet(1, 2, publish("two", QoS::ExactlyOnce, 8));
    world.packet(1, 2, Packet::PubRel(Ack::success(id(8))));
    // The subscriber takes both as far as PUBREC.
    world.packet(0, 1, Packet::PubAck(Ack::success(id(1))));
    world.packet(0, 1, Packet::PubRec(Ack::success(id(2))));
    assert!(world.log.len() >= from + 8, "each step is a record: {:#?}", &world.log[from..]);

    for cut in from..=world.log.len() {
        let mut after = World::recovered(world.log[..cut].to_vec());
        after.connect(0, "sub");
        after.connect(1, "pub");
        after.sync();
        let sent = after.take_sent();
        assert!(sent.contains(&"0 CONNACK present=true".into()), "cut {cut}: {sent:?}");
        // The publisher repeats what was not acknowledged to it: all of it, if the crash was early.
        after.packet(1, 2, publish("two", QoS::ExactlyOnce, 8));
        after.packet(1, 2, Packet::PubRel(Ack::success(id(8))));
        after.sync();
        let sent = [sent, after.take_sent()].concat();
        assert_eq!(sent.iter().filter(|line| *line == "1 PubComp 8").count(), 1, "cut {cut}");
        let resent = sent.iter().filter(|line| line.starts_with("0 PUBLISH two")).count();
        let released = sent.iter().any(|line| line.starts_with("0 PubRel"));
        assert!(resent > 0 || released, "cut {cut}: the receiver hears of the message: {sent:?}");
    }
}

#[test]
fn a_snapshot_rebuilds_what_the_log_built() {
    let mut world = World::new();
    world.connect(0, "sub");
    world.packet(0, 1, subscribe("#", QoS::ExactlyOnce));
    world.connect(1, "pub");
    for (packet_id, qos) in [(1, QoS::AtLeastOnce), (2, QoS::ExactlyOnce), (3, QoS::ExactlyOnce)] {
        world.packet(1, 2, publish("t", qos, packet_id));
    }
    world.packet(1, 2, Packet::PubRel(Ack::success(id(2))));
    world.sync();
    world.packet(0, 1, Packet::PubRec(Ack::success(id(2))));
    world.sync();
    let snapshot: Vec<_> = world.shard.snapshot().collect();
    let rebuilt = Shard::recovered(config(), snapshot.clone());
    assert_eq!(rebuilt.snapshot().collect::<Vec<_>>(), snapshot);
    assert!(snapshot.len() < world.log.len());
    assert!(snapshot.iter().any(|record| matches!(record, Record::Releasing { .. })));
    assert!(snapshot.iter().any(|record| matches!(record, Record::Held { .. })));
}

/// `[MQTT-3.1.2-23]` A session that was resumed with no expiry ends with its connection, and a
/// crash ends that too.
#[test]
fn a_session_resumed_without_expiry_does_not_outlive_a_crash() {
    let mut world = World::new();
    for (slot, expiry_s) in [(0, 1000), (1, 0)] {
        world.connect_for(slot, "c", expiry_s);
        world.sync();
    }
    world.packet(1, 2, subscribe("t", QoS::AtLeastOnce));
    world.sync();

    let snapshot: Vec<_> = World::recovered(world.log.clone()).shard.snapshot().collect();
    assert_eq!(snapshot, [], "it is gone when the broker starts");
    let compacted = Shard::recovered(config(), world.shard.snapshot());
    assert!(compacted.snapshot().eq(world.shard.snapshot()), "a snapshot keeps it until then");

    let mut after = World::recovered(world.log);
    after.shard.check().expect("invariants");
    after.sync();
    after.connect_for(0, "c", 1000);
    after.sync();
    assert_eq!(after.take_sent(), ["0 CONNACK present=false"]);
}

/// A damaged log has lost records from its middle: a session begins where another never ended, and
/// an identifier is used that never became free.
#[test]
fn a_log_that_lost_records_makes_a_sound_shard() {
    let mut world = World::new();
    world.connect(0, "sub");
    world.packet(0, 1, subscribe("#", QoS::AtLeastOnce));
    world.connect(1, "pub");
    world.sync();
    let from = world.log.len();
    world.packet(1, 2, publish("t", QoS::AtLeastOnce, 7));
    world.packet(0, 1, Packet::PubAck(Ack::success(id(1))));
    world.sync();
    // As if the identifiers had gone round.
    world.log.extend_from_within(from..);
    let properties = [Property::SessionExpiryInterval(0)].into_iter().collect();
    let goodbye = Disconnect { reason: ReasonCode::Success, properties };
    for (slot, epoch) in [(0, 1), (1, 2)] {
        world.packet(slot, epoch, Packet::Disconnect(Box::new(goodbye.clone())));
        world.sync();
    }
    // Each in the place that the other had.
    for (slot, client_id) in [(0, "sub"), (1, "pub")] {
        world.connect(slot, client_id);
        world.sync();
    }
    let log = world.log;
    assert!(log.len() > 12, "{log:#?}");
    for (from, to, end) in cuts(log.len()) {
        let mut after = World::recovered([&log[..from], &log[to..end]].concat());
        let sound = after.shard.check();
        sound.unwrap_or_else(|broken| panic!("without {from}..{to}, up to {end}: {broken}"));
        after.connect(0, "sub");
        after.connect(1, "pub");
        after.sync();
    }
}

/// What a log of this length may have lost: the first and the last record, and the length that it had
/// then.
fn cuts(len: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..=len).flat_map(|end| (0..end).flat_map(move |to| (0..to).map(move |from| (from, to, end))))
}

/// What one shard named is owed by two after a change of the map: what one of them has done with tells
/// nothing about the other's. A session forgot that it had the first message when it got the second.
#[test]
fn names_that_were_dealt_to_two_shards_are_kept_apart() {
    let map = ShardMap::new(2, 1);
    let named = |shard: u16, prefix: &str| {
        let mut names = (0..).map(|number| format!("{prefix}{number}"));
        names.find(|name| map.session(name) == ShardId(shard)).expect("names are spread")
    };
    let owner = map.topic(b"t2").0;
    let clients = [named(1 - owner, "p"), named(owner, "q"), named(owner, "s")];
    let ids = [0, 1, 2].map(|slot| SessionId::new(slot, 0));
    let mut log: Vec<Record> = clients
        .iter()
        .zip(ids)
        .map(|(client_id, session)| Record::Session {
            session,
            client_id: client_id.as_str().into(),
            expiry_s: u32::MAX,
        })
        .collect();
    let options = SubscriptionOptions { qos: QoS::ExactlyOnce, ..Default::default() };
    let subscription = Subscription { options, id: 0 };
    log.push(Record::Subscribed { session: ids[2], filter: "#".into(), subscription });
    for (number, publisher) in (1..).zip(&ids[..2]) {
        let topic = format!("t{number}");
        let message = Message::new(&topic, &Properties::new(), &[number]).expect("short");
        let publisher = SessionRef { shard: ShardId(0), session: *publisher };
        let publication = Publication {
            message,
            qos: QoS::ExactlyOnce,
            retain: false,
            at: Time(0),
            publisher: Some(publisher),
            by: None,
            origin: ShardId(0),
            flight: Flight::Unwatched,
        };
        let message = MsgId { epoch: 0, shard: ShardId(0), number: number.into() };
        log.push(Record::Outgoing { message, publication: Box::new(publication) });
    }
    // The subscriber has the first one.
    let first = MsgId { epoch: 0, shard: ShardId(0), number: 1 };
    log.push(Record::Seen { session: ids[2], message: first, topic: topic_mark(b"t1") });

    let before = Shard::recovered(config(), log);
    let mut under_way: VecDeque<(ShardId, ShardId, Box<ShardMsg>)> = VecDeque::new();
    let mut stored = Vec::new();
    let mut shards: Vec<Shard> = map
        .all()
        .zip(repartition(&[before], map))
        .map(|(id, log)| {
            let mut config = ShardConfig::new(id, map);
            config.durable = true;
            Shard::recovered(config, log)
        })
        .collect();
    let mut carry_out = |shards: &mut [Shard], from: ShardId, mut effects: Vec<Effect>| {
        let mut tells = Vec::new();
        while !effects.is_empty() {
            let mut persisted = false;
            for effect in std::mem::take(&mut effects) {
                match effect {
                    Effect::Persist { record, .. } => {
                        persisted = true;
                        if let Record::Enqueued { queued, .. } = *record {
                            stored.push(queued.message.payload().to_vec());
                        }
                    }
                    Effect::Tell { to, msg } => tells.push((from, to, msg)),
                    _ => {}
                }
            }
            if persisted {
                let input = Input::Persisted { through: CommitSeq(u64::MAX) };
                shards[usize::from(from.0)].handle(Time(0), input, &mut effects);
            }
        }
        tells
    };
    for id in map.all() {
        let mut effects = Vec::new();
        shards[usize::from(id.0)].start(Time(0), &mut effects);
        under_way.extend(carry_out(&mut shards, id, effects));
    }
    // The first message comes behind everything else.
    let is_first = |msg: &ShardMsg| match msg {
        ShardMsg::Publish(publication) => publication.message.payload() == [1],
        ShardMsg::Deliver(delivery) => delivery.publication.message.payload() == [1],
        _ => false,
    };
    let mut late = VecDeque::new();
    while let Some((from, to, msg)) = under_way.pop_front().or_else(|| late.pop_front()) {
        if is_first(&msg) && !under_way.is_empty() {
            late.push_back((from, to, msg));
            continue;
        }
        let mut effects = Vec::new();
        shards[usize::from(to.0)].handle(Time(0), Input::Told { from, msg }, &mut effects);
        under_way.extend(carry_out(&mut shards, to, effects));
    }
    // [MQTT-4.3.3-10]
    assert_eq!(stored, [vec![2]], "the first message came again");
}
