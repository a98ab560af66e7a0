//! The names of all fields and properties, and which packet has which.

use codec::{PacketType, PropertyId};

/// What may be written for a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A number up to this.
    Number(u64),
    /// UTF-8 text or bytes, which go out as they are.
    Bytes,
    /// A Topic Name, which gets the root of a live run.
    Topic,
    /// A Topic Filter, which gets the root of a live run.
    Filter,
    /// A Client Identifier, which gets the root of a live run.
    ClientId,
    /// `name:"value"`
    Pair,
    /// `TOPIC:"payload"`
    TopicAndBytes,
}

/// A field of a packet, or a property.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// Its name in scenarios.
    pub name: &'static str,
    /// What may be written for it.
    pub kind: Kind,
    /// The property it is, if it is one (of the packet itself, not of a Will).
    pub property: Option<PropertyId>,
}

const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, property: None }
}

const fn property(name: &'static str, kind: Kind, id: PropertyId) -> Field {
    Field { name, kind, property: Some(id) }
}

const FLAG: Kind = Kind::Number(1);
const BYTE: Kind = Kind::Number(0xFF);
const U16: Kind = Kind::Number(0xFFFF);
const U32: Kind = Kind::Number(0xFFFF_FFFF);

/// A reason or return code, positional.
pub const CODE: &str = "code";
/// A Topic Name, positional.
pub const TOPIC: &str = "topic";
/// A payload, positional.
pub const PAYLOAD: &str = "payload";
/// A Topic Filter, positional.
pub const FILTER: &str = "filter";
/// A Packet Identifier.
pub const ID: &str = "id";

/// Fields of packets that are no property.
static FIELDS: [Field; 30] = [
    field(CODE, BYTE),
    field(TOPIC, Kind::Topic),
    field(PAYLOAD, Kind::Bytes),
    field(FILTER, Kind::Filter),
    field(ID, U16),
    field("qos", Kind::Number(2)),
    field("retain", FLAG),
    field("dup", FLAG),
    field("wire_topic", Kind::Topic),
    field("session", FLAG),
    field("no_local", FLAG),
    field("retain_as_published", FLAG),
    field("retain_handling", Kind::Number(2)),
    field("clean", FLAG),
    field("keep", FLAG),
    field("bridge", FLAG),
    field("keep_alive", U16),
    field("client_id", Kind::ClientId),
    field("username", Kind::Bytes),
    field("password", Kind::Bytes),
    field("will", Kind::TopicAndBytes),
    field("will_qos", Kind::Number(2)),
    field("will_retain", FLAG),
    field("will_delay", U32),
    field("will_payload_format", BYTE),
    field("will_message_expiry", U32),
    field("will_content_type", Kind::Bytes),
    field("will_response_topic", Kind::Topic),
    field("will_correlation_data", Kind::Bytes),
    field("will_user", Kind::Pair),
];

/// The properties. In a CONNECT `will_delay` is that of its Will.
static PROPERTIES: [Field; 27] = [
    property("payload_format", BYTE, PropertyId::PayloadFormatIndicator),
    property("message_expiry", U32, PropertyId::MessageExpiryInterval),
    property("content_type", Kind::Bytes, PropertyId::ContentType),
    property("response_topic", Kind::Topic, PropertyId::ResponseTopic),
    property("correlation_data", Kind::Bytes, PropertyId::CorrelationData),
    property("subscription_id", U32, PropertyId::SubscriptionIdentifier),
    property("session_expiry", U32, PropertyId::SessionExpiryInterval),
    property("assigned_client_id", Kind::Bytes, PropertyId::AssignedClientIdentifier),
    property("server_keep_alive", U16, PropertyId::ServerKeepAlive),
    property("auth_method", Kind::Bytes, PropertyId::AuthenticationMethod),
    property("auth_data", Kind::Bytes, PropertyId::AuthenticationData),
    property("request_problem_info", FLAG, PropertyId::RequestProblemInformation),
    property("will_delay", U32, PropertyId::WillDelayInterval),
    property("request_response_info", FLAG, PropertyId::RequestResponseInformation),
    property("response_info", Kind::Bytes, PropertyId::ResponseInformation),
    property("server_reference", Kind::Bytes, PropertyId::ServerReference),
    property("reason_string", Kind::Bytes, PropertyId::ReasonString),
    property("receive_maximum", U16, PropertyId::ReceiveMaximum),
    property("topic_alias_maximum", U16, PropertyId::TopicAliasMaximum),
    property("topic_alias", U16, PropertyId::TopicAlias),
    property("maximum_qos", BYTE, PropertyId::MaximumQoS),
    property("retain_available", FLAG, PropertyId::RetainAvailable),
    property("user", Kind::Pair, PropertyId::UserProperty),
    property("maximum_packet_size", U32, PropertyId::MaximumPacketSize),
    property("wildcard_available", FLAG, PropertyId::WildcardSubscriptionAvailable),
    property("subscription_id_available", FLAG, PropertyId::SubscriptionIdentifierAvailable),
    property("shared_available", FLAG, PropertyId::SharedSubscriptionAvailable),
];

/// The field of this name in this packet.
pub fn find(packet: PacketType, name: &str) -> Option<&'static Field> {
    let own = own_fields(packet).contains(&name);
    let listed = own.then(|| FIELDS.iter().find(|field| field.name == name)).flatten();
    listed.or_else(|| {
        has_properties(packet).then(|| PROPERTIES.iter().find(|field| field.name == name)).flatten()
    })
}

/// The field of a property.
pub fn of_property(id: PropertyId) -> Option<&'static Field> {
    PROPERTIES.iter().find(|field| field.property == Some(id))
}

/// The names that [`find`] knows for this packet.
pub fn names(packet: PacketType) -> impl Iterator<Item = &'static str> {
    let properties = if has_properties(packet) { PROPERTIES.as_slice() } else { &[] };
    let own = own_fields(packet);
    let others = properties.iter().map(|field| field.name).filter(|name| !own.contains(name));
    own.iter().copied().chain(others)
}

/// Names of positional values in order; a last `…` stands for any number of the one before.
pub fn positional(packet: PacketType) -> &'static [&'static str] {
    match packet {
        PacketType::Publish => &[TOPIC, PAYLOAD],
        PacketType::Subscribe | PacketType::Unsubscribe => &[FILTER, "…"],
        PacketType::SubAck | PacketType::UnsubAck => &[CODE, "…"],
        PacketType::ConnAck
        | PacketType::PubAck
        | PacketType::PubRec
        | PacketType::PubRel
        | PacketType::PubComp
        | PacketType::Disconnect
        | PacketType::Auth => &[CODE],
        PacketType::Connect | PacketType::PingReq | PacketType::PingResp => &[],
    }
}

/// The packet type of this name.
pub fn packet(name: &str) -> Option<PacketType> {
    PACKETS.iter().find(|(known, _)| *known == name).map(|(_, packet)| *packet)
}

/// The name of a packet type.
pub fn packet_name(packet: PacketType) -> &'static str {
    PACKETS.iter().find(|(_, known)| *known == packet).map_or("?", |(name, _)| name)
}

/// Every packet by the standard's name.
pub static PACKETS: [(&str, PacketType); 15] = [
    ("CONNECT", PacketType::Connect),
    ("CONNACK", PacketType::ConnAck),
    ("PUBLISH", PacketType::Publish),
    ("PUBACK", PacketType::PubAck),
    ("PUBREC", PacketType::PubRec),
    ("PUBREL", PacketType::PubRel),
    ("PUBCOMP", PacketType::PubComp),
    ("SUBSCRIBE", PacketType::Subscribe),
    ("SUBACK", PacketType::SubAck),
    ("UNSUBSCRIBE", PacketType::Unsubscribe),
    ("UNSUBACK", PacketType::UnsubAck),
    ("PINGREQ", PacketType::PingReq),
    ("PINGRESP", PacketType::PingResp),
    ("DISCONNECT", PacketType::Disconnect),
    ("AUTH", PacketType::Auth),
];

fn own_fields(packet: PacketType) -> &'static [&'static str] {
    match packet {
        PacketType::Connect => &[
            "clean",
            "keep",
            "bridge",
            "keep_alive",
            "client_id",
            "username",
            "password",
            "will",
            "will_qos",
            "will_retain",
            "will_delay",
            "will_payload_format",
            "will_message_expiry",
            "will_content_type",
            "will_response_topic",
            "will_correlation_data",
            "will_user",
        ],
        PacketType::ConnAck => &[CODE, "session"],
        PacketType::Publish => &[TOPIC, PAYLOAD, ID, "qos", "retain", "dup", "wire_topic"],
        PacketType::PubAck | PacketType::PubRec | PacketType::PubRel | PacketType::PubComp => {
            &[CODE, ID]
        }
        PacketType::Subscribe => {
            &[FILTER, ID, "qos", "no_local", "retain_as_published", "retain_handling"]
        }
        PacketType::SubAck | PacketType::UnsubAck => &[CODE, ID],
        PacketType::Unsubscribe => &[FILTER, ID],
        PacketType::PingReq | PacketType::PingResp => &[],
        PacketType::Disconnect | PacketType::Auth => &[CODE],
    }
}

const fn has_properties(packet: PacketType) -> bool {
    !matches!(packet, PacketType::PingReq | PacketType::PingResp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_a_packet_owns_is_in_the_table() {
        for (name, packet) in PACKETS {
            for field in own_fields(packet) {
                assert!(find(packet, field).is_some(), "{name} {field}");
            }
        }
    }
}
