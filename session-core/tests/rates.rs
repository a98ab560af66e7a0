//! Limits of clients: what is beyond them is refused, held up or ends the connection, as the setting says.

mod common;

use std::sync::Arc;

use codec::{
    Frame, Message, Packet, PacketId, Properties, Property, ProtocolVersion, Publish, QoS,
    Subscribe, SubscribeFilter, SubscriptionOptions,
};
use session_core::{
    ClientLimits, ConnId, Effect, Event, Input, OverRate, Shard, ShardConfig, ShardId, ShardMap,
    Time,
};

struct World {
    shard: Shard,
    now: Time,
}

impl World {
    fn new(change: impl FnOnce(&mut ShardConfig)) -> Self {
        let mut config = ShardConfig::new(ShardId(0), ShardMap::new(1, 2));
        change(&mut config);
        let mut shard = Shard::new(config);
        shard.start(Time(1000), &mut Vec::new());
        Self { shard, now: Time(1000) }
    }

    fn limited(limits: ClientLimits) -> Self {
        Self::new(|config| config.limits.client = Arc::new(limits))
    }

    fn input(&mut self, input: Input) -> Vec<String> {
        let mut effects = Vec::new();
        self.shard.handle(self.now, input, &mut effects);
        self.shard.check().expect("a sound shard");
        effects.into_iter().flat_map(Effect::each).filter_map(|effect| show(&effect)).collect()
    }

    fn connect(&mut self, slot: u32, version: ProtocolVersion) {
        self.input(common::opened(conn(slot), 1 << 20));
        let properties = match version {
            ProtocolVersion::V5 => [Property::SessionExpiryInterval(100)].into_iter().collect(),
            _ => Properties::new(),
        };
        let connect = common::connect(version, &format!("c{slot}"), properties);
        self.packet(slot, Packet::Connect(Box::new(connect)));
    }

    fn packet(&mut self, slot: u32, packet: Packet) -> Vec<String> {
        self.input(Input::Packet { conn: conn(slot), packet })
    }

    fn wait(&mut self, ms: u64) -> Vec<String> {
        self.now = self.now.plus_ms(ms);
        self.input(Input::Tick)
    }
}

fn conn(slot: u32) -> ConnId {
    ConnId { slot, epoch: 0 }
}

fn publish(topic: &str, qos: QoS, packet_id: u16, bytes: usize) -> Packet {
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        packet_id: PacketId::new(packet_id),
        topic_alias: None,
        message: Message::new(topic, &Properties::new(), &vec![7; bytes]).expect("short"),
    })
}

fn subscribe(filter: &str, qos: QoS) -> Packet {
    let options = SubscriptionOptions { qos, ..Default::default() };
    let filters = vec![SubscribeFilter { filter: filter.into(), options }];
    let packet_id = PacketId::new(1).expect("not zero");
    Packet::Subscribe(Box::new(Subscribe { packet_id, properties: Properties::new(), filters }))
}

fn show(effect: &Effect) -> Option<String> {
    Some(match effect {
        Effect::Send { conn, frame } => match frame {
            Frame::Publish { message, .. } => {
                format!("{} PUBLISH {}", conn.slot, message.topic_str())
            }
            Frame::Ack { kind, reason, .. } => format!("{} {kind:?} {reason:?}", conn.slot),
            Frame::Packet(_, packet) => match &**packet {
                Packet::PubAck(ack) => format!("{} PubAck {:?}", conn.slot, ack.reason),
                Packet::PubRec(ack) => format!("{} PubRec {:?}", conn.slot, ack.reason),
                Packet::Disconnect(goodbye) => {
                    format!("{} Disconnect {:?}", conn.slot, goodbye.reason)
                }
                Packet::SubAck(ack) => format!("{} SubAck {:?}", conn.slot, ack.reasons),
                _ => return None,
            },
            _ => return None,
        },
        Effect::Close { conn, cause } => format!("{} closed {cause:?}", conn.slot),
        Effect::Pause { conn } => format!("{} paused", conn.slot),
        Effect::Resume { conn } => format!("{} resumed", conn.slot),
        Effect::Note(event) => match &**event {
            Event::OverRate { conn, untold, .. } => {
                format!("{} over its rate, untold {untold}", conn.slot)
            }
            _ => return None,
        },
        _ => return None,
    })
}

fn rates_in(rates: &str, over_rate: OverRate) -> ClientLimits {
    ClientLimits { publishes_in: rates.parse().unwrap(), over_rate, ..ClientLimits::default() }
}

const NOBODY: &str = "1 PubAck NoMatchingSubscribers";

#[test]
fn beyond_its_rate_a_client_of_5_0_is_refused_and_stays() {
    let mut world = World::limited(rates_in("2:1", OverRate::Refuse));
    world.connect(1, ProtocolVersion::V5);
    for number in 1..=2 {
        assert_eq!(world.packet(1, publish("t", QoS::AtLeastOnce, number, 1)), [NOBODY]);
    }
    let told = "1 over its rate, untold 0";
    assert_eq!(
        world.packet(1, publish("t", QoS::AtLeastOnce, 3, 1)),
        [told, "1 PubAck QuotaExceeded"]
    );
    assert_eq!(world.packet(1, publish("t", QoS::ExactlyOnce, 4, 1)), ["1 PubRec QuotaExceeded"]);
    assert_eq!(world.packet(1, publish("t", QoS::AtMostOnce, 0, 1)), [""; 0], "dropped");
    world.wait(500);
    assert_eq!(world.packet(1, publish("t", QoS::AtLeastOnce, 5, 1)), [NOBODY]);
    world.wait(9_500);
    for number in 6..=7 {
        world.packet(1, publish("t", QoS::AtLeastOnce, number, 1));
    }
    let told = "1 over its rate, untold 2";
    assert_eq!(
        world.packet(1, publish("t", QoS::AtLeastOnce, 8, 1)),
        [told, "1 PubAck QuotaExceeded"]
    );
}

#[test]
fn a_client_that_cannot_be_told_is_held_up_and_loses_nothing() {
    for (version, over_rate) in [
        (ProtocolVersion::V311, OverRate::Refuse),
        (ProtocolVersion::V5, OverRate::Pause),
        (ProtocolVersion::V31, OverRate::Pause),
    ] {
        let mut world = World::limited(rates_in("1:1", over_rate));
        world.connect(1, version);
        let acked = |line: &str| line.starts_with("1 PubAck Success") || line == NOBODY;
        let said = world.packet(1, publish("t", QoS::AtLeastOnce, 1, 1));
        assert!(said.len() == 1 && acked(&said[0]), "{said:?}");
        let said = world.packet(1, publish("t", QoS::AtLeastOnce, 2, 1));
        assert!(
            said.iter().any(|line| line == "1 paused") && said.iter().any(|line| acked(line)),
            "{said:?}"
        );
        assert_eq!(world.wait(999), [""; 0]);
        assert_eq!(world.wait(1), ["1 resumed"]);
        // It has paid for the second, so that the third waits for as long again.
        let said = world.packet(1, publish("t", QoS::AtLeastOnce, 3, 1));
        assert!(said.iter().any(|line| line == "1 paused"), "{said:?}");
        assert_eq!(world.wait(999), [""; 0]);
        assert_eq!(world.wait(1), ["1 resumed"]);
    }
}

#[test]
fn a_client_may_be_cut_off_instead() {
    for (version, expected) in [
        (
            ProtocolVersion::V5,
            vec!["1 Disconnect MessageRateTooHigh", "1 closed Refused(MessageRateTooHigh)"],
        ),
        (ProtocolVersion::V311, vec!["1 closed Refused(MessageRateTooHigh)"]),
    ] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut world = World::limited(rates_in("1:1", OverRate::Disconnect));
            world.connect(1, version);
            let number = u16::from(qos != QoS::AtMostOnce);
            world.packet(1, publish("t", qos, number, 1));
            assert_eq!(
                world.packet(1, publish("t", qos, number * 2, 1)),
                expected,
                "{version:?} {qos:?}"
            );
        }
    }
}

#[test]
fn bytes_count_too() {
    let limits = ClientLimits { bytes_in: "1000:1".parse().unwrap(), ..ClientLimits::default() };
    let mut world = World::limited(limits);
    world.connect(1, ProtocolVersion::V5);
    assert_eq!(world.packet(1, publish("t", QoS::AtLeastOnce, 1, 500)), [NOBODY]);
    let said = world.packet(1, publish("t", QoS::AtLeastOnce, 2, 600));
    assert_eq!(said.last().map(String::as_str), Some("1 PubAck QuotaExceeded"));
    assert_eq!(world.packet(1, publish("t", QoS::AtLeastOnce, 3, 100)), [NOBODY]);
}

#[test]
fn what_is_due_to_a_client_waits_for_its_rate() {
    let limits = ClientLimits { publishes_out: "2:1".parse().unwrap(), ..ClientLimits::default() };
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let mut world = World::limited(limits.clone());
        world.connect(1, ProtocolVersion::V5);
        world.packet(1, subscribe("t", qos));
        world.connect(2, ProtocolVersion::V5);
        let mut sent = Vec::new();
        for number in 1..=6 {
            let number = if qos == QoS::AtMostOnce { 0 } else { number };
            sent.extend(world.packet(2, publish("t", qos, number, 1)));
        }
        let count = |sent: &[String]| sent.iter().filter(|line| *line == "1 PUBLISH t").count();
        assert_eq!(count(&sent), 3, "two at once, and one on credit: {sent:?}");
        assert_eq!(world.wait(499), [""; 0]);
        let mut later = Vec::new();
        for _ in 0..8 {
            later.extend(world.wait(500));
        }
        assert_eq!(count(&later), 3, "nothing is lost: {later:?}");
    }
}

#[test]
fn all_clients_together_have_a_rate() {
    let mut world = World::new(|config| {
        config.limits.all = Arc::new(rates_in("3:1", OverRate::Refuse));
    });
    for slot in 1..=2 {
        world.connect(slot, ProtocolVersion::V5);
    }
    let mut refused = 0;
    for number in 1..=3 {
        for slot in 1..=2 {
            let said = world.packet(slot, publish("t", QoS::AtLeastOnce, number, 1));
            refused += usize::from(said.iter().any(|line| line.ends_with("QuotaExceeded")));
        }
    }
    assert_eq!(refused, 3);
}

#[test]
fn a_client_may_have_fewer_subscriptions_than_others() {
    let limits = ClientLimits { subscriptions_max: Some(1), ..ClientLimits::default() };
    let mut world = World::limited(limits);
    world.connect(1, ProtocolVersion::V5);
    assert_eq!(world.packet(1, subscribe("a", QoS::AtMostOnce)), ["1 SubAck [Success]"]);
    assert_eq!(world.packet(1, subscribe("b", QoS::AtMostOnce)), ["1 SubAck [QuotaExceeded]"]);
    assert_eq!(
        world.packet(1, subscribe("a", QoS::AtMostOnce)),
        ["1 SubAck [Success]"],
        "it has it"
    );
}

/// CVE-2020-13849: a client with a long Keep Alive, or none, held its socket for ever.
#[test]
fn a_long_keep_alive_of_an_old_client_may_be_cut() {
    for (cut, ends) in [(false, false), (true, true)] {
        let mut world = World::new(|config| {
            config.limits.keep_alive_s_max = 10;
            config.limits.keep_alive_v3_cut = cut;
        });
        world.connect(1, ProtocolVersion::V311);
        assert_eq!(world.wait(14_999), [""; 0]);
        assert_eq!(!world.wait(1).is_empty(), ends);
    }
}

#[test]
fn a_client_without_limits_costs_nothing_more() {
    let mut world = World::new(|_| {});
    world.connect(1, ProtocolVersion::V5);
    for _ in 0..1000 {
        assert_eq!(world.packet(1, publish("t", QoS::AtMostOnce, 0, 1)), [""; 0]);
    }
    assert_eq!(world.shard.next_timeout(), None);
}
