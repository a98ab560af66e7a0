//! Control packets as values, one type for all three protocol versions.

use alloc::{boxed::Box, vec::Vec};
use core::{fmt, num::NonZeroU16};

use bytes::Bytes;

use crate::{Message, Properties, ReasonCode, Sender};

/// The protocol versions a connection can speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ProtocolVersion {
    /// MQTT 3.1: protocol name "MQIsdp", level 3.
    V31 = 3,
    /// MQTT 3.1.1: protocol name "MQTT", level 4.
    V311 = 4,
    /// MQTT 5.0: protocol name "MQTT", level 5.
    V5 = 5,
}

impl ProtocolVersion {
    /// Whether packets of this version carry properties and reason codes.
    pub const fn is_v5(self) -> bool {
        matches!(self, Self::V5)
    }
}

/// Quality of Service: how often a message may arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum QoS {
    /// QoS 0: at most once.
    #[default]
    AtMostOnce = 0,
    /// QoS 1: at least once.
    AtLeastOnce = 1,
    /// QoS 2: exactly once.
    ExactlyOnce = 2,
}

impl QoS {
    /// The level of the two QoS bits; `None` for 3, which no packet may carry.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

/// A Packet Identifier, which is never zero `[MQTT-2.2.1-3]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(NonZeroU16);

impl PacketId {
    /// The identifier of this value; `None` for zero.
    pub const fn new(value: u16) -> Option<Self> {
        match NonZeroU16::new(value) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// The value on the wire.
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

/// The type of a control packet, as in the upper four bits of its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub enum PacketType {
    Connect = 1,
    ConnAck = 2,
    Publish = 3,
    PubAck = 4,
    PubRec = 5,
    PubRel = 6,
    PubComp = 7,
    Subscribe = 8,
    SubAck = 9,
    Unsubscribe = 10,
    UnsubAck = 11,
    PingReq = 12,
    PingResp = 13,
    Disconnect = 14,
    Auth = 15,
}

impl PacketType {
    /// Every packet type, in ascending order.
    pub const ALL: [Self; 15] = [
        Self::Connect,
        Self::ConnAck,
        Self::Publish,
        Self::PubAck,
        Self::PubRec,
        Self::PubRel,
        Self::PubComp,
        Self::Subscribe,
        Self::SubAck,
        Self::Unsubscribe,
        Self::UnsubAck,
        Self::PingReq,
        Self::PingResp,
        Self::Disconnect,
        Self::Auth,
    ];

    /// The type of these bits; `None` for 0 and for what four bits cannot hold.
    pub fn from_bits(bits: u8) -> Option<Self> {
        Self::ALL.get(usize::from(bits.checked_sub(1)?)).copied()
    }

    /// The standard's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::ConnAck => "CONNACK",
            Self::Publish => "PUBLISH",
            Self::PubAck => "PUBACK",
            Self::PubRec => "PUBREC",
            Self::PubRel => "PUBREL",
            Self::PubComp => "PUBCOMP",
            Self::Subscribe => "SUBSCRIBE",
            Self::SubAck => "SUBACK",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::UnsubAck => "UNSUBACK",
            Self::PingReq => "PINGREQ",
            Self::PingResp => "PINGRESP",
            Self::Disconnect => "DISCONNECT",
            Self::Auth => "AUTH",
        }
    }

    /// Whether this side may send it in this version: table 2-1.
    pub const fn is_sent_by(self, sender: Sender, version: ProtocolVersion) -> bool {
        let server = matches!(sender, Sender::Server);
        match self {
            Self::Connect | Self::Subscribe | Self::Unsubscribe | Self::PingReq => !server,
            Self::ConnAck | Self::SubAck | Self::UnsubAck | Self::PingResp => server,
            Self::Publish | Self::PubAck | Self::PubRec | Self::PubRel | Self::PubComp => true,
            Self::Disconnect => version.is_v5() || !server,
            Self::Auth => version.is_v5(),
        }
    }
}

impl fmt::Display for PacketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One control packet of any version. Fields that a version lacks are empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub enum Packet {
    Connect(Box<Connect>),
    ConnAck(Box<ConnAck>),
    Publish(Publish),
    PubAck(Ack),
    PubRec(Ack),
    PubRel(Ack),
    PubComp(Ack),
    Subscribe(Box<Subscribe>),
    SubAck(Box<SubAck>),
    Unsubscribe(Box<Unsubscribe>),
    UnsubAck(Box<UnsubAck>),
    PingReq,
    PingResp,
    Disconnect(Box<Disconnect>),
    Auth(Box<Auth>),
}

impl Packet {
    /// The packet's type.
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::ConnAck(_) => PacketType::ConnAck,
            Self::Publish(_) => PacketType::Publish,
            Self::PubAck(_) => PacketType::PubAck,
            Self::PubRec(_) => PacketType::PubRec,
            Self::PubRel(_) => PacketType::PubRel,
            Self::PubComp(_) => PacketType::PubComp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::SubAck(_) => PacketType::SubAck,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::UnsubAck(_) => PacketType::UnsubAck,
            Self::PingReq => PacketType::PingReq,
            Self::PingResp => PacketType::PingResp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }
}

/// CONNECT: a client asks for a session. Its password is not shown by `Debug`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Connect {
    /// Protocol name and level.
    pub version: ProtocolVersion,
    /// A 3.1 bridge set bit 0x80 of the level, a convention outside every standard.
    pub bridge: bool,
    /// Clean Start in 5.0, Clean Session before.
    pub clean_start: bool,
    /// Keep Alive in seconds; 0 turns it off.
    pub keep_alive_s: u16,
    /// The Client Identifier; empty asks the server to assign one.
    pub client_id: Box<str>,
    /// The Will Message.
    pub will: Option<Box<Will>>,
    /// User Name.
    pub user_name: Option<Box<str>>,
    /// Password, any bytes.
    pub password: Option<Bytes>,
    /// CONNECT properties (5.0).
    pub properties: Properties,
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Named one by one, so that a new field is thought of.
        let Self {
            version,
            bridge,
            clean_start,
            keep_alive_s,
            client_id,
            will,
            user_name,
            password,
            properties,
        } = self;
        f.debug_struct("Connect")
            .field("version", version)
            .field("bridge", bridge)
            .field("clean_start", clean_start)
            .field("keep_alive_s", keep_alive_s)
            .field("client_id", client_id)
            .field("will", will)
            .field("user_name", user_name)
            .field("password", &password.as_ref().map(|_| "***"))
            .field("properties", properties)
            .finish()
    }
}

/// The Will of a CONNECT: a message kept for the moment the connection breaks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Will {
    /// Will QoS.
    pub qos: QoS,
    /// Will Retain.
    pub retain: bool,
    /// Will Delay Interval in seconds; it is not part of the message that is published.
    pub delay_s: u32,
    /// Will Topic, the other Will Properties and Will Payload.
    pub message: Message,
}

/// CONNACK: the answer to CONNECT.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConnAck {
    /// Session Present (not in 3.1).
    pub session_present: bool,
    /// Connect Reason Code; versions before 5.0 carry the nearest of their return codes.
    pub reason: ReasonCode,
    /// CONNACK properties (5.0).
    pub properties: Properties,
}

/// PUBLISH: an Application Message on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Publish {
    /// DUP: this is a re-delivery.
    pub dup: bool,
    /// The packet's Quality of Service.
    pub qos: QoS,
    /// RETAIN.
    pub retain: bool,
    /// Present exactly when QoS is above 0 `[MQTT-2.2.1-2]`.
    pub packet_id: Option<PacketId>,
    /// Topic Alias (5.0); the message's topic is then possibly empty.
    pub topic_alias: Option<NonZeroU16>,
    /// Topic, properties except Topic Alias, and payload.
    pub message: Message,
}

/// PUBACK, PUBREC, PUBREL and PUBCOMP, which share one form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ack {
    /// The identifier of the exchange.
    pub packet_id: PacketId,
    /// The reason; always `Success` before 5.0.
    pub reason: ReasonCode,
    /// Properties (5.0).
    pub properties: Properties,
}

impl Ack {
    /// A success without properties.
    pub fn success(packet_id: PacketId) -> Self {
        Self { packet_id, reason: ReasonCode::Success, properties: Properties::default() }
    }
}

/// When retained messages are sent for a subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// At every SUBSCRIBE.
    #[default]
    Send = 0,
    /// Only when the subscription did not exist before.
    SendIfNew = 1,
    /// Never.
    DoNotSend = 2,
}

/// Subscription Options; versions before 5.0 have only the QoS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionOptions {
    /// Maximum QoS the server may send.
    pub qos: QoS,
    /// No Local: messages of the subscribing client itself are not wanted.
    pub no_local: bool,
    /// Retain As Published: RETAIN is forwarded as received.
    pub retain_as_published: bool,
    /// When retained messages are sent.
    pub retain_handling: RetainHandling,
}

/// One entry of a SUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SubscribeFilter {
    /// The Topic Filter as sent: a UTF-8 string that may yet be an invalid filter.
    pub filter: Box<str>,
    /// How it is to be served.
    pub options: SubscriptionOptions,
}

/// SUBSCRIBE: at least one filter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subscribe {
    /// The identifier that SUBACK repeats.
    pub packet_id: PacketId,
    /// Properties (5.0): Subscription Identifier, User Property.
    pub properties: Properties,
    /// Filters in the order sent.
    pub filters: Vec<SubscribeFilter>,
}

/// SUBACK: one reason for each filter, in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SubAck {
    /// The identifier of the SUBSCRIBE.
    pub packet_id: PacketId,
    /// Properties (5.0).
    pub properties: Properties,
    /// Granted QoS or failure; any failure is 0x80 on the wire before 5.0.
    pub reasons: Vec<ReasonCode>,
}

/// UNSUBSCRIBE: at least one filter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unsubscribe {
    /// The identifier that UNSUBACK repeats.
    pub packet_id: PacketId,
    /// Properties (5.0).
    pub properties: Properties,
    /// Filters in the order sent.
    pub filters: Vec<Box<str>>,
}

/// UNSUBACK.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnsubAck {
    /// The identifier of the UNSUBSCRIBE.
    pub packet_id: PacketId,
    /// Properties (5.0).
    pub properties: Properties,
    /// One reason for each filter (5.0 only; not encoded before).
    pub reasons: Vec<ReasonCode>,
}

/// DISCONNECT, the last packet of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Disconnect {
    /// The reason; `Success` (normal disconnection) before 5.0.
    pub reason: ReasonCode,
    /// Properties (5.0).
    pub properties: Properties,
}

/// AUTH (5.0): one step of an enhanced authentication.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Auth {
    /// Success, continue or re-authenticate.
    pub reason: ReasonCode,
    /// Authentication Method and Data, Reason String, User Property.
    pub properties: Properties,
}
