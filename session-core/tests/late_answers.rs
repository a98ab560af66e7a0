//! Answers from another shard that come when their cause is gone.

mod common;

use codec::{
    Frame, Message, Packet, PacketId, Properties, ProtocolVersion, Publish, QoS, Subscribe,
    SubscribeFilter, SubscriptionOptions,
};
use session_core::{
    ConnId, Effect, Effects, Input, Shard, ShardConfig, ShardId, ShardMap, ShardMsg, Time,
};

use common::opened;

const HOME: ShardId = ShardId(0);
const OWNER: ShardId = ShardId(1);

fn map() -> ShardMap {
    ShardMap::new(2, 2)
}

/// A name that the test may give to a client or a topic, for which `fits` holds.
fn name(fits: impl Fn(&str) -> bool) -> String {
    (0..).map(|n| format!("name-{n}")).find(|name| fits(name)).expect("one of so many")
}

/// Two shards, and what each has said to the other and the other has not been told.
struct Pair {
    shards: [Shard; 2],
    under_way: [Vec<ShardMsg>; 2],
    sent: Vec<Frame>,
}

impl Pair {
    fn new() -> Self {
        let mut pair = Self::starting();
        pair.tell_all();
        pair
    }

    /// Neither has heard that the other announced its subscriptions.
    fn starting() -> Self {
        let shards = [HOME, OWNER].map(|id| Shard::new(ShardConfig::new(id, map())));
        let mut pair = Self { shards, under_way: [Vec::new(), Vec::new()], sent: Vec::new() };
        for id in [HOME, OWNER] {
            let mut effects = Effects::new();
            pair.shards[usize::from(id.0)].start(Time(0), &mut effects);
            pair.carry_out(effects);
        }
        pair
    }

    fn input(&mut self, id: ShardId, input: Input) {
        let mut effects = Effects::new();
        let shard = &mut self.shards[usize::from(id.0)];
        shard.handle(Time(0), input, &mut effects);
        shard.check().expect("invariants");
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Effects) {
        for effect in effects.into_iter().flat_map(Effect::each) {
            match effect {
                Effect::Tell { to, msg } => self.under_way[usize::from(to.0)].push(*msg),
                Effect::Send { frame, .. } => self.sent.push(frame),
                _ => {}
            }
        }
    }

    /// The first message that is under way to a shard arrives.
    fn tell_one(&mut self, to: ShardId) {
        let from = if to == HOME { OWNER } else { HOME };
        let msg = Box::new(self.under_way[usize::from(to.0)].remove(0));
        self.input(to, Input::Told { from, msg });
    }

    fn tell_all(&mut self) {
        for to in [HOME, OWNER].into_iter().cycle() {
            if self.under_way.iter().all(Vec::is_empty) {
                break;
            }
            while !self.under_way[usize::from(to.0)].is_empty() {
                self.tell_one(to);
            }
        }
    }

    fn connect(&mut self, shard: ShardId, slot: u32, client_id: &str) -> ConnId {
        let conn = ConnId { slot, epoch: 0 };
        let opened = opened(conn, 1 << 20);
        self.input(shard, opened);
        let connect = common::connect(ProtocolVersion::V311, client_id, Properties::new());
        let packet = Packet::Connect(Box::new(connect));
        self.input(shard, Input::Packet { conn, packet });
        self.sent.clear();
        conn
    }

    fn subscribe(&mut self, conn: ConnId, filter: &str) {
        let options = SubscriptionOptions::default();
        let packet = Packet::Subscribe(Box::new(Subscribe {
            packet_id: PacketId::new(1).expect("not zero"),
            properties: Properties::new(),
            filters: vec![SubscribeFilter { filter: filter.into(), options }],
        }));
        self.input(HOME, Input::Packet { conn, packet });
    }

    fn retain(&mut self, topic: &str) {
        let client_id = name(|name| map().session(name) == OWNER);
        let conn = self.connect(OWNER, 1, &client_id);
        self.publish(OWNER, conn, topic, true);
        self.tell_all();
    }

    fn publish(&mut self, shard: ShardId, conn: ConnId, topic: &str, retain: bool) {
        let message = Message::new(topic, &Properties::new(), b"kept").expect("short");
        let packet = Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain,
            packet_id: None,
            topic_alias: None,
            message,
        });
        self.input(shard, Input::Packet { conn, packet });
    }

    /// What clients got since this was asked last.
    fn received(&mut self) -> Vec<&'static str> {
        let frames = std::mem::take(&mut self.sent);
        let kind = |frame: &Frame| match frame {
            Frame::Packet(_, packet) if matches!(**packet, Packet::SubAck(_)) => "SUBACK",
            Frame::Publish { .. } => "PUBLISH",
            _ => "another packet",
        };
        frames.iter().map(kind).collect()
    }
}

/// `[MQTT-3.8.4-1]` A SUBSCRIBE is answered when the topics' owner has answered it, and not because
/// the owner answers late what a connection asked that is gone, though both have the same Packet
/// Identifier, filter and session.
#[test]
fn the_answer_to_a_dead_connections_subscribe_answers_no_other() {
    let client_id = name(|name| map().session(name) == HOME);
    let topic = name(|name| map().topic(name.as_bytes()) == OWNER);
    let mut pair = Pair::new();
    pair.retain(&topic);

    let first = pair.connect(HOME, 1, &client_id);
    pair.subscribe(first, &topic);
    pair.tell_one(OWNER);
    pair.input(HOME, Input::Closed { conn: first });

    let second = pair.connect(HOME, 2, &client_id);
    pair.subscribe(second, &topic);
    pair.tell_one(HOME);
    assert!(pair.received().is_empty(), "the answer was to the first connection");

    pair.tell_all();
    assert_eq!(pair.received(), ["SUBACK", "PUBLISH"], "and this is the second one's, once");
}

/// The same while the first connection is taken over instead of gone.
#[test]
fn the_answer_to_a_taken_over_connections_subscribe_answers_no_other() {
    let client_id = name(|name| map().session(name) == HOME);
    let topic = name(|name| map().topic(name.as_bytes()) == OWNER);
    let mut pair = Pair::new();
    pair.retain(&topic);

    let first = pair.connect(HOME, 1, &client_id);
    pair.subscribe(first, &topic);
    let second = pair.connect(HOME, 2, &client_id);
    pair.subscribe(second, &topic);
    pair.tell_one(OWNER);
    pair.tell_one(HOME);
    assert!(pair.received().is_empty(), "the answer was to the first connection");
    pair.tell_one(OWNER);
    pair.tell_one(HOME);
    assert_eq!(pair.received(), ["SUBACK", "PUBLISH"], "and this is the second one's, once");
}

/// What a client publishes behind its SUBSCRIBE comes to it, also while the broker starts: news of
/// subscriptions waits for the other shards then, and so does what was published after it.
#[test]
fn what_waits_at_the_start_keeps_its_order() {
    for owner in [HOME, OWNER] {
        let client_id = name(|name| map().session(name) == HOME);
        let topic = name(|name| map().topic(name.as_bytes()) == owner);
        let mut pair = Pair::starting();
        let conn = pair.connect(HOME, 1, &client_id);
        pair.publish(HOME, conn, &topic, false);
        pair.subscribe(conn, &topic);
        pair.publish(HOME, conn, &topic, false);
        pair.publish(HOME, conn, &topic, false);
        pair.tell_all();
        assert_eq!(pair.received(), ["SUBACK", "PUBLISH", "PUBLISH"], "the topic is {owner:?}'s");
    }
}
