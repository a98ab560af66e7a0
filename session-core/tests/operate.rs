//! What an operator does while clients are connected: other settings, ends of sessions, a drain,
//! looks inside.

mod common;

use codec::{
    Connect, Frame, Message, Packet, PacketId, Properties, Property, ProtocolVersion, Publish, QoS,
    ReasonCode, Subscribe, SubscribeFilter, SubscriptionOptions,
};
use session_core::{
    Authentication, Cause, ClientLimits, Command, ConnId, DropReason, Effect, Event, Input, Record,
    Reply, Settings, Shard, ShardConfig, ShardId, ShardMap, Ticket, Time,
};

use common::opened;

struct Broker {
    shard: Shard,
    now: Time,
}

impl Broker {
    fn new(change: impl FnOnce(&mut ShardConfig)) -> Self {
        let mut config = ShardConfig::new(ShardId(0), ShardMap::new(1, 2));
        change(&mut config);
        let mut broker = Self { shard: Shard::new(config), now: Time(1_000_000) };
        let mut effects = Vec::new();
        broker.shard.start(broker.now, &mut effects);
        broker
    }

    fn input(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.shard.handle(self.now, input, &mut effects);
        self.shard.check().expect("invariants");
        effects.into_iter().flat_map(Effect::each).collect()
    }

    fn connect(&mut self, slot: u32, version: ProtocolVersion, client_id: &str) -> Vec<Effect> {
        let expiry = [Property::SessionExpiryInterval(100)];
        let properties = match version {
            ProtocolVersion::V5 => expiry.into_iter().collect(),
            _ => Properties::new(),
        };
        self.connect_as(slot, common::connect(version, client_id, properties))
    }

    fn connect_as(&mut self, slot: u32, connect: Connect) -> Vec<Effect> {
        self.input(opened(conn(slot), 1 << 20));
        self.input(Input::Packet { conn: conn(slot), packet: Packet::Connect(Box::new(connect)) })
    }

    fn packet(&mut self, slot: u32, packet: Packet) -> Vec<Effect> {
        self.input(Input::Packet { conn: conn(slot), packet })
    }

    fn command(&mut self, command: Command) -> Vec<Effect> {
        self.input(Input::Command { ticket: Ticket(7), command: Box::new(command) })
    }

    fn reconfigure(&mut self, change: impl FnOnce(&mut Settings)) -> Vec<Effect> {
        let mut settings = ShardConfig::new(ShardId(0), ShardMap::new(1, 2)).settings();
        change(&mut settings);
        self.command(Command::Reconfigure(Box::new(settings)))
    }
}

fn conn(slot: u32) -> ConnId {
    ConnId { slot, epoch: 0 }
}

fn publish(topic: &str, qos: QoS, packet_id: u16, retain: bool) -> Packet {
    let message = Message::new(topic, &Properties::new(), b"x").expect("short");
    let packet_id = PacketId::new(packet_id);
    Packet::Publish(Publish { dup: false, qos, retain, packet_id, topic_alias: None, message })
}

fn subscribe(filter: &str, qos: QoS) -> Packet {
    let options = SubscriptionOptions { qos, ..Default::default() };
    Packet::Subscribe(Box::new(Subscribe {
        packet_id: PacketId::new(1).expect("not zero"),
        properties: Properties::new(),
        filters: vec![SubscribeFilter { filter: filter.into(), options }],
    }))
}

/// Who was closed, and why.
fn closed(effects: &[Effect]) -> Vec<(u32, Cause)> {
    let closed = effects.iter().filter_map(|effect| match effect {
        Effect::Close { conn, cause } => Some((conn.slot, *cause)),
        _ => None,
    });
    closed.collect()
}

fn reply(effects: &[Effect]) -> Reply {
    let reply = effects.iter().find_map(|effect| match effect {
        Effect::Reply { ticket: Ticket(7), reply } => Some((**reply).clone()),
        _ => None,
    });
    reply.expect("each command is replied to")
}

/// The packets that were sent, DISCONNECT and CONNACK with their reason.
fn sent(effects: &[Effect]) -> Vec<(u32, Packet)> {
    let sent = effects.iter().filter_map(|effect| match effect {
        Effect::Send { conn, frame: Frame::Packet(_, packet) } => {
            Some((conn.slot, (**packet).clone()))
        }
        _ => None,
    });
    sent.collect()
}

/// What CONNACK told holds while a client is connected; who comes later is told the new.
#[test]
fn connected_clients_keep_what_they_were_told() {
    let mut broker = Broker::new(|_| ());
    broker.connect(0, ProtocolVersion::V5, "old");
    let change = |settings: &mut Settings| {
        settings.features.maximum_qos = QoS::AtMostOnce;
        settings.features.retain = false;
        settings.limits.receive_maximum = 1;
        settings.limits.topic_alias_maximum = 0;
    };
    assert_eq!(reply(&broker.reconfigure(change)), Reply::Done);
    let effects = broker.packet(0, publish("t", QoS::AtLeastOnce, 1, true));
    assert_eq!(closed(&effects), []);
    assert_eq!(broker.shard.view().retained(), 1);
    let effects = broker.packet(0, publish("t", QoS::ExactlyOnce, 2, false));
    assert_eq!(closed(&effects), []);
    let effects = broker.packet(0, publish("t", QoS::ExactlyOnce, 3, false));
    assert_eq!(closed(&effects), [], "the old Receive Maximum holds");

    let effects = broker.connect(1, ProtocolVersion::V5, "new");
    let Some((_, Packet::ConnAck(connack))) = sent(&effects).pop() else { panic!("{effects:?}") };
    let told: Vec<_> = connack.properties.iter().cloned().collect();
    assert!(told.contains(&Property::MaximumQoS(0)) && told.contains(&Property::ReceiveMaximum(1)));
    let effects = broker.packet(1, publish("t", QoS::AtLeastOnce, 1, false));
    let refused = Cause::Refused(ReasonCode::QoSNotSupported);
    assert_eq!(closed(&effects), [(1, refused)]);
}

/// Whoever was let in by nobody has to prove itself once somebody is asked.
#[test]
fn who_was_let_in_by_nobody_has_to_come_again() {
    let mut broker = Broker::new(|_| ());
    broker.connect(0, ProtocolVersion::V5, "a");
    broker.connect(1, ProtocolVersion::V311, "b");
    let effects = broker.reconfigure(|settings| settings.authentication = Authentication::Ask);
    let refused = Cause::Refused(ReasonCode::NotAuthorized);
    assert_eq!(closed(&effects), [(0, refused), (1, refused)]);
    let effects = broker.connect(2, ProtocolVersion::V5, "a");
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Ask { .. })));
}

/// A rate that everybody has is in force at once, and its end lets go on who waited.
#[test]
fn rates_change_for_who_is_connected() {
    let mut broker = Broker::new(|_| ());
    broker.connect(0, ProtocolVersion::V311, "a");
    let slow = ClientLimits { publishes_in: "1:10".parse().expect("a rate"), ..Default::default() };
    broker.reconfigure(|settings| settings.limits.client = slow.into());
    broker.packet(0, publish("t", QoS::AtMostOnce, 0, false));
    let effects = broker.packet(0, publish("t", QoS::AtMostOnce, 0, false));
    assert!(effects.contains(&Effect::Pause { conn: conn(0) }), "{effects:?}");
    let effects = broker.reconfigure(|_| ());
    assert!(effects.contains(&Effect::Resume { conn: conn(0) }), "{effects:?}");
    for _ in 0..5 {
        let effects = broker.packet(0, publish("t", QoS::AtMostOnce, 0, false));
        assert!(!effects.contains(&Effect::Pause { conn: conn(0) }));
    }
}

#[test]
fn a_session_ends_by_command_with_its_connection_or_without() {
    let mut broker = Broker::new(|_| ());
    broker.connect(0, ProtocolVersion::V5, "a");
    broker.packet(0, subscribe("t", QoS::AtLeastOnce));
    broker.connect(1, ProtocolVersion::V5, "b");
    broker.input(Input::Closed { conn: conn(1) });
    let end = |client_id: &str| Command::EndSession { client_id: client_id.into() };
    let effects = broker.command(end("a"));
    let cause = Cause::Administrative(ReasonCode::AdministrativeAction);
    assert_eq!((closed(&effects), reply(&effects)), (vec![(0, cause)], Reply::Done));
    assert_eq!(reply(&broker.command(end("b"))), Reply::Done);
    assert_eq!(reply(&broker.command(end("b"))), Reply::NotFound);
    assert_eq!((broker.shard.view().sessions(), broker.shard.view().subscriptions()), (0, 0));
}

/// A drain sends clients away a few at a time and takes no more; their sessions stay.
#[test]
fn a_drain_tells_where_to_go() {
    let mut broker = Broker::new(|_| ());
    broker.connect(0, ProtocolVersion::V5, "a");
    broker.connect(1, ProtocolVersion::V5, "b");
    broker.connect(2, ProtocolVersion::V311, "c");
    let server_reference = Some("other.example:1883".into());
    let drain = Command::Drain { max: 1, server_reference };
    let effects = broker.command(drain.clone());
    assert_eq!((closed(&effects), reply(&effects)), (vec![(0, Cause::Shutdown)], Reply::Left(2)));
    let packets = sent(&effects);
    let Some((0, Packet::Disconnect(disconnect))) = packets.first() else { panic!("{packets:?}") };
    assert_eq!(disconnect.reason, ReasonCode::UseAnotherServer);
    let told: Vec<_> = disconnect.properties.iter().cloned().collect();
    assert_eq!(told, [Property::ServerReference("other.example:1883".into())]);

    let effects = broker.command(Command::Drain { max: 1, server_reference: None });
    let packets = sent(&effects);
    let Some((1, Packet::Disconnect(disconnect))) = packets.first() else { panic!("{packets:?}") };
    assert_eq!(disconnect.reason, ReasonCode::ServerShuttingDown);
    let effects = broker.command(drain);
    assert_eq!((sent(&effects), reply(&effects)), (vec![], Reply::Left(0)), "3.1.1 is not told");
    let effects = broker.input(opened(conn(3), 1000));
    assert_eq!(closed(&effects), [(3, Cause::Shutdown)]);
    assert_eq!(broker.shard.view().sessions(), 3);
}

#[test]
fn rows_tell_what_is_there_page_by_page() {
    let mut broker = Broker::new(|_| ());
    for slot in 0..10 {
        broker.connect(slot, ProtocolVersion::V5, &format!("c{slot}"));
        broker.packet(slot, subscribe(&format!("t/{slot}"), QoS::AtLeastOnce));
        broker.packet(slot, publish(&format!("r/{slot}"), QoS::AtMostOnce, 0, true));
    }
    broker.input(Input::Closed { conn: conn(3) });
    broker.packet(0, publish("t/3", QoS::AtLeastOnce, 1, false));
    let view = broker.shard.view();
    let (mut sessions, mut from, mut pages) = (Vec::new(), Some(0), 0);
    while let Some(at) = from {
        let page = view.session_page(at, 3);
        sessions.extend(page.rows);
        (from, pages) = (page.next, pages + 1);
    }
    assert_eq!((sessions.len(), pages), (10, 4));
    let (mut retained, mut from) = (Vec::new(), Some(0));
    while let Some(at) = from {
        let page = view.retained_page(at, 3);
        retained.extend(page.rows.into_iter().map(|row| row.topic));
        from = page.next;
    }
    retained.sort();
    let wanted: Vec<Box<str>> = (0..10).map(|n| format!("r/{n}").into()).collect();
    assert_eq!(retained, wanted);

    let row = view.session("c3").expect("it is there");
    assert_eq!((row.connection, row.queued, row.subscriptions, row.expiry_s), (None, 1, 1, 100));
    assert!(row.ends.is_some() && row.queued_bytes > 0);
    let row = view.session("c4").and_then(|row| row.connection).expect("it is connected");
    assert_eq!((row.version, row.is_slow), (ProtocolVersion::V5, false));
    let filters = view.subscriptions_of("c3").expect("it is there");
    assert_eq!((&*filters[0].filter, filters[0].options.qos), ("t/3", QoS::AtLeastOnce));
    assert_eq!(view.subscription_page(0, 100).rows.len(), 10);
    let totals = view.totals();
    assert_eq!((totals.sessions, totals.connections, totals.retained), (10, 9, 10));
    assert_eq!((view.session("nobody"), view.subscriptions_of("nobody")), (None, None));
}

/// What the broker says of itself is published anew after a start: it is in no log.
#[test]
fn what_the_broker_retains_of_itself_is_in_no_log() {
    let mut broker = Broker::new(|config| config.durable = true);
    for topic in ["$SYS/broker/uptime", "t"] {
        let message = Message::new(topic, &Properties::new(), b"1").expect("short");
        let publish = Command::Publish { message, qos: QoS::AtMostOnce, retain: true };
        let effects = broker.command(publish);
        let is_logged = effects.iter().any(|effect| {
            matches!(effect, Effect::Persist { record, .. } if matches!(**record, Record::Retained { .. }))
        });
        assert_eq!(is_logged, topic == "t", "{effects:?}");
    }
    assert_eq!(broker.shard.view().retained(), 2);
}

/// Every message that a client does not get is counted by its reason.
#[test]
fn what_is_dropped_is_counted_by_reason() {
    let mut broker = Broker::new(|config| config.limits.session_queue_max = 1);
    broker.connect(0, ProtocolVersion::V5, "pub");
    broker.connect(1, ProtocolVersion::V5, "sub");
    broker.packet(1, subscribe("#", QoS::AtLeastOnce));
    broker.input(Input::Closed { conn: conn(1) });
    let properties = [Property::MessageExpiryInterval(1)].into_iter().collect();
    let expiring = Message::new("e", &properties, b"x").expect("short");
    let Packet::Publish(plain) = publish("e", QoS::AtLeastOnce, 1, false) else { unreachable!() };
    let mut notes = Vec::new();
    for packet_id in 1..=2 {
        let packet_id = PacketId::new(packet_id);
        let message = expiring.clone();
        let packet = Packet::Publish(Publish { packet_id, message, ..plain.clone() });
        notes.extend(broker.packet(0, packet));
    }
    let told = notes.iter().find_map(|effect| match effect {
        Effect::Note(event) => match &**event {
            Event::Dropped { client_id, reason, count, .. } => Some((client_id, *reason, *count)),
            _ => None,
        },
        _ => None,
    });
    assert_eq!(told, Some((&"sub".into(), DropReason::QueueFull, 1)));
    broker.now = broker.now.plus_s(2);
    let mut connect = common::connect(
        ProtocolVersion::V5,
        "sub",
        [Property::MaximumPacketSize(40)].into_iter().collect(),
    );
    connect.clean_start = false;
    broker.connect_as(2, connect);
    let large = Message::new("l", &Properties::new(), &[0; 100]).expect("short");
    let packet_id = PacketId::new(3);
    broker.packet(0, Packet::Publish(Publish { packet_id, message: large, ..plain }));
    let drops = broker.shard.view().drops();
    let by_reason: Vec<_> = DropReason::ALL.iter().zip(drops).filter(|(_, n)| *n > 0).collect();
    let wanted =
        [(&DropReason::QueueFull, 1), (&DropReason::Expired, 1), (&DropReason::TooLarge, 1)];
    assert_eq!(by_reason, wanted);
}
