//! The gate: nothing leaves a shard that depends on a record which is not durable, and a shard
//! that is rebuilt from any prefix of its log owes nobody anything.

use codec::{
    Ack, Connect, Disconnect, Frame, Message, Packet, PacketId, Properties, Property,
    ProtocolVersion, Publish, QoS, ReasonCode, Subscribe, SubscribeFilter, SubscriptionOptions,
};
use session_core::{
    CommitSeq, ConnId, Effect, Input, Origin, Record, Shard, ShardConfig, ShardId, ShardMap, Time,
    Transport,
};

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
        let mut shard = Shard::new(config());
        for record in &log {
            shard.recover(record.clone());
        }
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
        for effect in effects {
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
        let origin = Origin {
            listener: "test".into(),
            peer: None,
            transport: Transport::Tcp,
            certificates: Vec::new(),
        };
        self.input(Input::Opened { conn, origin: Box::new(origin), credit: 1 << 20 });
        let connect = Connect {
            version: ProtocolVersion::V5,
            bridge: false,
            clean_start: false,
            keep_alive_s: 0,
            client_id: client_id.into(),
            will: None,
            user_name: None,
            password: None,
            properties: [Property::SessionExpiryInterval(expiry_s)].into_iter().collect(),
        };
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
    let mut rebuilt = Shard::new(config());
    for record in snapshot.clone() {
        rebuilt.recover(record);
    }
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
    let mut compacted = Shard::new(config());
    world.shard.snapshot().for_each(|record| compacted.recover(record));
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
