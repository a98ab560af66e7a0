//! Queues that are longer than memory should hold: the rest is on disk only, and comes back in order
//! when its turn comes.

mod common;

use std::collections::VecDeque;

use codec::{
    Ack, Frame, Message, Packet, PacketId, Properties, Property, ProtocolVersion, Publish, QoS,
    ReasonCode, Subscribe, SubscribeFilter, SubscriptionOptions,
};
use session_core::{
    Cause, Command, CommitSeq, ConnId, DropReason, Effect, Event, Input, Load, Loaded, QueueFull,
    Queued, Record, Shard, ShardConfig, ShardId, ShardMap, Ticket, Time,
};

use common::opened;

/// A durable shard and a disk that answers when it is told to.
struct World {
    shard: Shard,
    now: Time,
    committed: CommitSeq,
    disk: Vec<Queued>,
    loads: VecDeque<Load>,
    /// `connection packet` in the order of sending.
    sent: Vec<String>,
    events: Vec<Event>,
    log: Vec<Record>,
}

const PUBLISHER: u32 = 0;
const SUBSCRIBER: u32 = 1;

fn config(change: impl FnOnce(&mut ShardConfig)) -> ShardConfig {
    let mut config = ShardConfig::new(ShardId(0), ShardMap::new(1, 2));
    config.durable = true;
    config.limits.session_resident_max = 4;
    config.limits.session_queue_max = 1000;
    change(&mut config);
    config
}

impl World {
    fn new(change: impl FnOnce(&mut ShardConfig)) -> Self {
        let mut world = Self::recovered(config(change), Vec::new(), Vec::new());
        world.connect(PUBLISHER, 1, "p", u16::MAX);
        world
    }

    fn recovered(config: ShardConfig, log: Vec<Record>, disk: Vec<Queued>) -> Self {
        let shard = Shard::recovered(config, log);
        let mut world = Self {
            shard,
            now: Time(0),
            committed: CommitSeq(0),
            disk,
            loads: VecDeque::new(),
            sent: Vec::new(),
            events: Vec::new(),
            log: Vec::new(),
        };
        let mut effects = Vec::new();
        world.shard.start(Time(0), &mut effects);
        world.carry_out(effects);
        world
    }

    fn input(&mut self, input: Input) {
        self.input_at(self.now, input);
    }

    fn input_at(&mut self, now: Time, input: Input) {
        let mut effects = Vec::new();
        self.shard.handle(now, input, &mut effects);
        self.shard.check().expect("invariants");
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects.into_iter().flat_map(Effect::each) {
            match effect {
                Effect::Persist { seq, record } => {
                    self.committed = seq;
                    match &*record {
                        Record::Enqueued { queued, .. } => self.disk.push((**queued).clone()),
                        Record::Dropped { place, .. } | Record::Acknowledged { place, .. } => {
                            self.disk.retain(|queued| queued.place != *place);
                        }
                        _ => {}
                    }
                    self.log.push(*record);
                    self.shard_persisted();
                }
                Effect::Load(load) => self.loads.push_back(*load),
                Effect::Send { conn, frame } => {
                    self.sent.push(format!("{} {}", conn.slot, show(&frame)));
                }
                Effect::Note(event) => self.events.push(*event),
                _ => {}
            }
        }
    }

    fn shard_persisted(&mut self) {
        let through = self.committed;
        self.input(Input::Persisted { through });
    }

    /// The disk answers the oldest question; false if there is none.
    fn load(&mut self) -> bool {
        let Some(load) = self.loads.pop_front() else { return false };
        let found = self.disk.iter().filter(|queued| {
            queued.place.number > load.after.number && queued.place.number <= load.through.number
        });
        let mut messages: Vec<Queued> = found.cloned().collect();
        let complete = messages.len() <= load.messages_max as usize;
        messages.truncate(load.messages_max as usize);
        self.input(Input::Loaded(Box::new(Loaded { load, messages, complete })));
        true
    }

    fn connect(&mut self, slot: u32, epoch: u32, client_id: &str, receive_maximum: u16) {
        let conn = ConnId { slot, epoch };
        self.input(opened(conn, 1 << 20));
        let connect = common::connect(
            ProtocolVersion::V5,
            client_id,
            Properties::from_iter([
                Property::SessionExpiryInterval(1000),
                Property::ReceiveMaximum(receive_maximum),
            ]),
        );
        self.input(Input::Packet { conn, packet: Packet::Connect(Box::new(connect)) });
    }

    fn subscribe(&mut self, epoch: u32, filter: &str) {
        let options =
            SubscriptionOptions { qos: QoS::ExactlyOnce, ..SubscriptionOptions::default() };
        let subscribe = Subscribe {
            packet_id: id(9),
            properties: Properties::new(),
            filters: vec![SubscribeFilter { filter: filter.into(), options }],
        };
        let conn = ConnId { slot: SUBSCRIBER, epoch };
        self.input(Input::Packet { conn, packet: Packet::Subscribe(Box::new(subscribe)) });
    }

    fn leave(&mut self, epoch: u32) {
        self.input(Input::Closed { conn: ConnId { slot: SUBSCRIBER, epoch } });
    }

    fn publish(&mut self, payload: u16) {
        self.publish_at(Time(0), payload);
    }

    fn publish_at(&mut self, now: Time, payload: u16) {
        let message =
            Message::new("t", &Properties::new(), &payload.to_be_bytes()).expect("a short message");
        let publish = Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            packet_id: Some(id(payload + 1)),
            topic_alias: None,
            message,
        };
        let conn = ConnId { slot: PUBLISHER, epoch: 1 };
        self.now = self.now.max(now);
        self.input(Input::Packet { conn, packet: Packet::Publish(publish) });
    }

    /// The subscriber reads and acknowledges, and the disk answers, until nothing comes any more.
    /// Returns the numbers of the messages in their order.
    fn drain(&mut self, epoch: u32) -> Vec<u16> {
        let mut got = Vec::new();
        loop {
            let sent = std::mem::take(&mut self.sent);
            let mut progress = false;
            for line in sent {
                let Some(rest) = line.strip_prefix("1 PUBLISH ") else { continue };
                let (number, packet_id) = rest.split_once(" id=").expect("a publish");
                got.push(number.parse().expect("a number"));
                let ack = Ack::success(id(packet_id.parse().expect("a number")));
                let conn = ConnId { slot: SUBSCRIBER, epoch };
                self.input(Input::Packet { conn, packet: Packet::PubAck(ack) });
                progress = true;
            }
            progress |= self.load();
            if !progress {
                return got;
            }
        }
    }

    fn reasons(&mut self) -> Vec<String> {
        let sent = std::mem::take(&mut self.sent);
        sent.into_iter().filter_map(|line| Some(line.strip_prefix("0 ")?.to_owned())).collect()
    }
}

fn id(value: u16) -> PacketId {
    PacketId::new(value).expect("not zero")
}

fn show(frame: &Frame) -> String {
    match frame {
        Frame::Publish { message, packet_id, .. } => {
            let number = message.payload().first_chunk().map_or(0, |n| u16::from_be_bytes(*n));
            format!("PUBLISH {number} id={packet_id}")
        }
        Frame::Ack { kind, reason, .. } => format!("{kind:?} {reason:?}"),
        Frame::Packet(_, packet) => match &**packet {
            Packet::PubAck(ack) => format!("PubAck {:?}", ack.reason),
            Packet::PubRec(ack) => format!("PubRec {:?}", ack.reason),
            _ => "other".into(),
        },
        _ => "other".into(),
    }
}

/// Somebody who subscribed and is away.
fn absent(change: impl FnOnce(&mut ShardConfig)) -> World {
    let mut world = World::new(change);
    world.connect(SUBSCRIBER, 1, "s", 3);
    world.subscribe(1, "t");
    world.leave(1);
    world.sent.clear();
    world
}

/// `[MQTT-4.6.0-5]` `[MQTT-3.3.4-9]`
#[test]
fn a_backlog_comes_in_order_and_within_the_window() {
    let mut world = absent(|_| ());
    (0..50).for_each(|number| world.publish(number));
    assert_eq!(world.shard.view().queued(), 50);
    assert!(world.loads.is_empty(), "nobody is there to want it");
    world.connect(SUBSCRIBER, 2, "s", 3);
    // One was in memory; the others come once they are loaded, three at a time.
    let first = world.sent.iter().filter(|line| line.starts_with("1 PUBLISH")).count();
    assert_eq!(first, 1);
    world.load();
    let window = world.sent.iter().filter(|line| line.starts_with("1 PUBLISH")).count();
    assert_eq!(window, 3);
    assert_eq!(world.drain(2), (0..50).collect::<Vec<_>>());
    assert_eq!(world.shard.view().queued(), 0);
    assert!(world.disk.is_empty());
}

/// What is published while a backlog drains goes behind it.
#[test]
fn what_comes_meanwhile_waits_behind_the_backlog() {
    let mut world = absent(|_| ());
    (0..10).for_each(|number| world.publish(number));
    world.connect(SUBSCRIBER, 2, "s", 3);
    (10..20).for_each(|number| world.publish(number));
    assert_eq!(world.drain(2), (0..20).collect::<Vec<_>>());
}

/// A snapshot says how far a backlog goes, and not what it is.
#[test]
fn a_backlog_survives_a_restart() {
    let mut world = absent(|_| ());
    (0..30).for_each(|number| world.publish(number));
    let snapshot: Vec<Record> = world.shard.snapshot().collect();
    let enqueued = snapshot.iter().filter(|one| matches!(one, Record::Enqueued { .. })).count();
    assert_eq!(enqueued, 1, "{snapshot:?}");
    assert!(snapshot.iter().any(|record| matches!(record, Record::Backlog { .. })));
    // A whole log says the same as a snapshot.
    for log in [snapshot, world.log.clone()] {
        let mut again = World::recovered(config(|_| ()), log, world.disk.clone());
        assert_eq!(again.shard.view().queued(), 30);
        again.connect(PUBLISHER, 1, "p", 10);
        again.publish(30);
        again.connect(SUBSCRIBER, 1, "s", 3);
        assert_eq!(again.drain(1), (0..31).collect::<Vec<_>>());
    }
}

/// The oldest messages make room also if they are on disk only: as soon as they are known.
#[test]
fn the_oldest_of_a_long_queue_are_dropped() {
    let mut world = absent(|config| {
        config.limits.session_queue_max = 10;
        config.limits.session_queue_full = QueueFull::DropOldest;
    });
    for number in 0..40 {
        world.publish(number);
        while world.load() {}
    }
    assert!(
        world
            .events
            .iter()
            .any(|event| matches!(event, Event::Dropped { reason: DropReason::QueueFull, .. }))
    );
    assert_eq!(world.shard.view().queued(), 10);
    world.connect(SUBSCRIBER, 2, "s", 3);
    assert_eq!(world.drain(2), (30..40).collect::<Vec<_>>());
}

/// A disk that is slow to answer does not make more than was agreed for good.
#[test]
fn what_was_taken_beyond_the_limit_is_made_up_for() {
    let mut world = absent(|config| {
        config.limits.session_queue_max = 10;
        config.limits.session_queue_full = QueueFull::DropOldest;
    });
    (0..25).for_each(|number| world.publish(number));
    assert!(world.shard.view().queued() > 10);
    while world.load() {}
    assert_eq!(world.shard.view().queued(), 10);
    world.connect(SUBSCRIBER, 2, "s", 3);
    assert_eq!(world.drain(2), (15..25).collect::<Vec<_>>());
}

#[test]
fn a_publisher_is_told_that_a_queue_takes_no_more() {
    let mut world = absent(|config| {
        config.limits.session_queue_max = 10;
        config.limits.session_queue_full = QueueFull::Reject;
    });
    (0..12).for_each(|number| world.publish(number));
    let reasons = world.reasons();
    let taken = reasons.iter().filter(|reason| *reason == "PubAck Success").count();
    assert_eq!((taken, reasons.len()), (10, 12));
    assert_eq!(reasons.last().map(String::as_str), Some("PubAck QuotaExceeded"));
    world.connect(SUBSCRIBER, 2, "s", 3);
    assert_eq!(world.drain(2), (0..10).collect::<Vec<_>>());
}

/// An answer that comes when its connection is gone is no harm, whatever memory holds by then.
#[test]
fn a_late_answer_loses_and_doubles_nothing() {
    let mut world = absent(|_| ());
    (0..20).for_each(|number| world.publish(number));
    world.connect(SUBSCRIBER, 2, "s", 1);
    assert_eq!(world.loads.len(), 1);
    world.leave(2);
    world.sent.clear();
    world.load();
    world.connect(SUBSCRIBER, 3, "s", 3);
    let got = world.drain(3);
    assert_eq!(got, (0..20).collect::<Vec<_>>());
}

/// What waits for too long is dropped, on disk or not, and that is said.
#[test]
fn messages_that_wait_for_too_long_are_dropped() {
    let mut world = absent(|config| config.limits.session_queue_age_s_max = 60);
    (0..20).for_each(|number| world.publish(number));
    world.publish_at(Time(70_000), 20);
    while world.load() {}
    let aged = |event: &Event| matches!(event, Event::Dropped { reason: DropReason::Aged, .. });
    assert_eq!(world.events.iter().filter(|event| aged(event)).count(), 1);
    for number in 21..40 {
        world.publish_at(Time(70_000), number);
        while world.load() {}
    }
    world.connect(SUBSCRIBER, 2, "s", 3);
    assert_eq!(world.drain(2), (20..40).collect::<Vec<_>>());
}

/// What the disk has lost is lost, and nothing behind it.
#[test]
fn a_lost_part_does_not_stop_the_rest() {
    let mut world = absent(|_| ());
    (0..20).for_each(|number| world.publish(number));
    world.disk.retain(|queued| !(5..=15).contains(&queued.place.number));
    world.connect(SUBSCRIBER, 2, "s", 3);
    let got = world.drain(2);
    assert_eq!(got, [0, 1, 2, 3, 15, 16, 17, 18, 19]);
    world.disk.clear();
    world.leave(2);
    (20..30).for_each(|number| world.publish(number));
    world.disk.clear();
    world.connect(SUBSCRIBER, 3, "s", 3);
    assert_eq!(world.drain(3), [20]);
    assert_eq!(world.shard.view().queued(), 0);
}

/// Bytes bound memory as well as numbers do.
#[test]
fn bytes_bound_what_is_in_memory() {
    let mut world = absent(|config| {
        config.limits.session_resident_max = 1000;
        config.limits.session_resident_bytes_max = 16 * 40;
    });
    (0..50).for_each(|number| world.publish(number));
    let snapshot: Vec<Record> = world.shard.snapshot().collect();
    let enqueued = snapshot.iter().filter(|one| matches!(one, Record::Enqueued { .. })).count();
    assert_eq!(enqueued, 3, "of 13 bytes each, within 40");
    world.connect(SUBSCRIBER, 2, "s", 3);
    assert_eq!(world.drain(2), (0..50).collect::<Vec<_>>());
}

/// A session that is not logged keeps all in memory.
#[test]
fn what_no_log_has_stays_in_memory() {
    let mut world = World::new(|config| config.durable = false);
    world.connect(SUBSCRIBER, 1, "s", 1);
    world.subscribe(1, "t");
    (0..20).for_each(|number| world.publish(number));
    assert!(world.loads.is_empty());
    assert_eq!(world.drain(1), (0..20).collect::<Vec<_>>());
}

/// `[U5-4.8.2-c]` leaves it open; that it happens is said.
#[test]
fn a_share_group_that_loses_a_backlog_is_reported() {
    let mut world = World::new(|_| ());
    world.connect(SUBSCRIBER, 1, "s", 3);
    world.subscribe(1, "$share/g/t");
    world.leave(1);
    (0..20).for_each(|number| world.publish(number));
    world.events.clear();
    world.input_at(Time(1_000_000), Input::Tick);
    let lost = Event::SharedBacklogLost { client_id: "s".into(), messages: 19 };
    assert!(world.events.contains(&lost), "{:?}", world.events);
}

/// A full disk takes no more messages; all else goes on.
#[test]
fn a_full_disk_refuses_messages_until_there_is_room() {
    let mut world = absent(|_| ());
    world.publish(0);
    let full = |world: &mut World, is_full| {
        let command = Box::new(Command::StorageFull(is_full));
        world.input(Input::Command { ticket: Ticket(7), command });
    };
    full(&mut world, true);
    world.publish(1);
    assert_eq!(world.reasons(), ["PubAck Success", "PubAck QuotaExceeded"]);
    world.connect(SUBSCRIBER, 2, "s", 3);
    assert_eq!(world.drain(2), [0], "what is there is delivered");
    full(&mut world, false);
    world.publish(2);
    assert_eq!(world.drain(2), [2]);
    let refused = |event: &Event| {
        matches!(
            event,
            Event::Disconnected { cause: Cause::Refused(ReasonCode::QuotaExceeded), .. }
        )
    };
    assert!(!world.events.iter().any(refused), "nobody is thrown out for it");
}
