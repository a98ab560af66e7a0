//! One shard, and the least that drives it: inputs go in, and of what comes out only what answers
//! need is looked at.

use codec::{
    Ack, Connect, Disconnect, Frame, Message, Packet, PacketId, Properties, Property,
    ProtocolVersion, Publish, QoS, ReasonCode, Subscribe, SubscribeFilter, SubscriptionOptions,
    Unsubscribe,
};
use session_core::{
    ConnId, Effect, Effects, Input, Limits, Origin, Shard, ShardConfig, ShardId, ShardMap, Time,
    Transport,
};

/// Bytes that a socket takes before it is asked again.
const CREDIT_BYTES: u32 = 1 << 20;

/// What every message says.
const PAYLOAD: [u8; 64] = [b'x'; 64];

/// The slot of the one connection of clients that come and go; all others are numbered from 1.
const VISITOR: u32 = 0;

/// A shard and its clients.
pub(crate) struct World {
    pub(crate) shard: Shard,
    pub(crate) now: Time,
    /// How often the visitor's connection was used.
    visits: u32,
    /// What came out of the last inputs.
    pub(crate) effects: Effects,
}

impl World {
    /// A broker of one shard that keeps nothing on disk.
    pub(crate) fn new() -> Self {
        let mut world = Self::with(Shard::new(config()));
        world.shard.start(world.now, &mut world.effects);
        world.effects.clear();
        world
    }

    /// A broker that does not work yet.
    pub(crate) const fn with(shard: Shard) -> Self {
        Self { shard, now: Time(1_000_000), visits: 0, effects: Effects::new() }
    }

    /// Gives an input to the shard; what comes out joins the effects.
    pub(crate) fn handle(&mut self, input: Input) {
        self.shard.handle(self.now, input, &mut self.effects);
    }

    /// A packet arrives, and all that comes of it is thrown away.
    pub(crate) fn packet(&mut self, conn: ConnId, packet: Packet) {
        self.handle(Input::Packet { conn, packet });
        self.effects.clear();
    }

    /// How many PUBLISH packets came out since the effects were cleared.
    pub(crate) fn published(&self) -> usize {
        let count = |effect: &Effect| match effect {
            Effect::Send { frame: Frame::Publish { .. }, .. } => 1,
            Effect::SendMany(crowd) => crowd.conns.len(),
            _ => 0,
        };
        self.effects.iter().map(count).sum()
    }

    /// Connects a client for good.
    pub(crate) fn connect(&mut self, number: u32) -> ConnId {
        let conn = conn(number);
        self.open(conn, &name(number), u32::MAX);
        conn
    }

    /// Connects a client to where it may be sent away by [`World::leave`]. Its session ends so many
    /// seconds after that.
    pub(crate) fn visit(&mut self, number: u32, expiry_s: u32) -> ConnId {
        self.visits += 1;
        let conn = ConnId { slot: VISITOR, epoch: self.visits };
        self.open(conn, &name(number), expiry_s);
        conn
    }

    /// The visitor says good-bye, and its session stays.
    pub(crate) fn leave(&mut self, conn: ConnId) {
        self.packet(conn, disconnect());
    }

    fn open(&mut self, conn: ConnId, client_id: &str, expiry_s: u32) {
        self.handle(opened(conn));
        self.packet(conn, connect(client_id, expiry_s));
    }

    /// Subscribes to a filter.
    pub(crate) fn subscribe(&mut self, conn: ConnId, filter: &str, qos: QoS) {
        self.packet(conn, subscribe(filter, qos));
    }

    /// Publishes, and the broker's answer is taken off the wire.
    pub(crate) fn publish(&mut self, conn: ConnId, topic: &str, qos: QoS, retain: bool) {
        self.handle(Input::Packet { conn, packet: publish(topic, qos, retain) });
        self.drain();
    }

    /// Sockets take what was sent to them.
    pub(crate) fn drain(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..).flat_map(Effect::each) {
            if let Effect::Send { conn, frame } = effect {
                self.handle(sent(conn, &frame));
            }
        }
        effects.append(&mut self.effects);
        self.effects = effects;
    }
}

/// The configuration of a shard that may have as much of everything as there is memory for.
pub(crate) fn config() -> ShardConfig {
    let limits = Limits {
        connections_max: u32::MAX,
        sessions_max: u32::MAX,
        retained_max: u32::MAX,
        retained_bytes_max: u64::MAX,
        ..Limits::default()
    };
    ShardConfig { limits, ..ShardConfig::new(ShardId(0), ShardMap::new(1, 2)) }
}

/// A number that looks drawn at random and belongs to this one alone (the finish of MurmurHash3):
/// clients come in no order of their names, as serial numbers do.
pub(crate) const fn scrambled(number: u32) -> u32 {
    let number = (number ^ (number >> 16)).wrapping_mul(0x85eb_ca6b);
    let number = (number ^ (number >> 13)).wrapping_mul(0xc2b2_ae35);
    number ^ (number >> 16)
}

/// The Client Identifier of a number, 12 bytes.
pub(crate) fn name(number: u32) -> String {
    format!("dev-{:08x}", scrambled(number))
}

/// A filter or topic of its own for each number, 16 bytes: `dev/1a2b3c4d/cmd`.
pub(crate) fn own_topic(number: u32) -> String {
    format!("dev/{:08x}/cmd", scrambled(number))
}

/// The connection of a client that stays.
pub(crate) const fn conn(number: u32) -> ConnId {
    ConnId { slot: VISITOR + 1 + number, epoch: 0 }
}

/// The input that a connection was accepted.
pub(crate) fn opened(conn: ConnId) -> Input {
    let origin = Origin {
        listener: "tcp://127.0.0.1:1883".into(),
        peer: None,
        transport: Transport::Tcp,
        certificates: Vec::new(),
        server_name: None,
        proxied: None,
    };
    Input::Opened { conn, origin: Box::new(origin), credit: CREDIT_BYTES }
}

/// The input that a socket took a packet.
pub(crate) fn sent(conn: ConnId, frame: &Frame) -> Input {
    Input::Sent { conn, bytes: u32::try_from(frame.len()).expect("packets are small") }
}

/// A CONNECT of 5.0 to a session that was there or is made.
pub(crate) fn connect(client_id: &str, expiry_s: u32) -> Packet {
    Packet::Connect(Box::new(Connect {
        version: ProtocolVersion::V5,
        bridge: false,
        clean_start: false,
        keep_alive_s: 60,
        client_id: client_id.into(),
        will: None,
        user_name: None,
        password: None,
        properties: [Property::SessionExpiryInterval(expiry_s)].into_iter().collect(),
    }))
}

/// A DISCONNECT that leaves the session as it is.
pub(crate) fn disconnect() -> Packet {
    let properties = Properties::new();
    Packet::Disconnect(Box::new(Disconnect { reason: ReasonCode::Success, properties }))
}

/// A SUBSCRIBE with one filter.
pub(crate) fn subscribe(filter: &str, qos: QoS) -> Packet {
    let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
    Packet::Subscribe(Box::new(Subscribe {
        packet_id: packet_id(1),
        properties: Properties::new(),
        filters: vec![SubscribeFilter { filter: filter.into(), options }],
    }))
}

/// An UNSUBSCRIBE with one filter.
pub(crate) fn unsubscribe(filter: &str) -> Packet {
    Packet::Unsubscribe(Box::new(Unsubscribe {
        packet_id: packet_id(2),
        properties: Properties::new(),
        filters: vec![filter.into()],
    }))
}

/// A PUBLISH of 64 bytes.
pub(crate) fn publish(topic: &str, qos: QoS, retain: bool) -> Packet {
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain,
        packet_id: (qos != QoS::AtMostOnce).then(|| packet_id(1)),
        topic_alias: None,
        message: Message::new(topic, &Properties::new(), &PAYLOAD).expect("short"),
    })
}

/// A PUBACK.
pub(crate) fn puback(id: u16) -> Packet {
    Packet::PubAck(Ack::success(packet_id(id)))
}

fn packet_id(value: u16) -> PacketId {
    PacketId::new(value).expect("not zero")
}
