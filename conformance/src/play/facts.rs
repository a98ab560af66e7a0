//! A packet from the broker as a list of named values.

use codec::{Packet, Properties, Property, PropertyId, ProtocolVersion, ReasonCode};

use crate::lang::{
    Value,
    fields::{self, Field},
};

/// One value that a packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fact {
    pub(super) field: &'static Field,
    pub(super) value: Value,
}

/// Everything that a packet carries, in the order of the wire. `topic` is the Topic Name of a
/// PUBLISH after its alias was looked up.
pub(super) fn facts(packet: &Packet, version: ProtocolVersion, topic: &[u8]) -> Vec<Fact> {
    let mut facts = Facts { packet, facts: Vec::new() };
    match packet {
        Packet::ConnAck(connack) => {
            facts.number("code", connack_code(connack.reason, version));
            facts.number("session", u64::from(connack.session_present));
            facts.properties(&connack.properties);
        }
        Packet::Publish(publish) => {
            facts.bytes("topic", topic);
            facts.bytes("payload", publish.message.payload());
            facts.number("qos", publish.qos as u64);
            if let Some(id) = publish.packet_id {
                facts.number("id", id.get().into());
            }
            facts.number("retain", publish.retain.into());
            facts.number("dup", publish.dup.into());
            facts.bytes("wire_topic", publish.message.topic());
            if let Some(alias) = publish.topic_alias {
                facts.number("topic_alias", alias.get().into());
            }
            facts.properties(&publish.message.properties());
        }
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            facts.number("code", ack.reason.code().into());
            facts.number("id", ack.packet_id.get().into());
            facts.properties(&ack.properties);
        }
        Packet::SubAck(suback) => {
            facts.number("id", suback.packet_id.get().into());
            facts.codes(&suback.reasons);
            facts.properties(&suback.properties);
        }
        Packet::UnsubAck(unsuback) => {
            facts.number("id", unsuback.packet_id.get().into());
            facts.codes(&unsuback.reasons);
            facts.properties(&unsuback.properties);
        }
        Packet::Disconnect(disconnect) => {
            facts.number("code", disconnect.reason.code().into());
            facts.properties(&disconnect.properties);
        }
        Packet::Auth(auth) => {
            facts.number("code", auth.reason.code().into());
            facts.properties(&auth.properties);
        }
        Packet::Connect(_)
        | Packet::Subscribe(_)
        | Packet::Unsubscribe(_)
        | Packet::PingReq
        | Packet::PingResp => {}
    }
    facts.facts
}

/// The code of a CONNACK as it is on the wire: before 5.0 the codec gives the reason that a return
/// code stands for.
pub(super) fn connack_code(reason: ReasonCode, version: ProtocolVersion) -> u64 {
    if version.is_v5() {
        return reason.code().into();
    }
    reason.v3_connect_return_code().unwrap_or(reason.code()).into()
}

struct Facts<'a> {
    packet: &'a Packet,
    facts: Vec<Fact>,
}

impl Facts<'_> {
    fn add(&mut self, name: &str, value: Value) {
        let field = fields::find(self.packet.packet_type(), name);
        let field = field.expect("the table of fields has every field named here");
        self.facts.push(Fact { field, value });
    }

    fn number(&mut self, name: &str, value: u64) {
        self.add(name, Value::Number(value));
    }

    fn bytes(&mut self, name: &str, value: &[u8]) {
        self.add(name, Value::Bytes(value.to_vec()));
    }

    fn codes(&mut self, reasons: &[ReasonCode]) {
        for reason in reasons {
            self.number("code", reason.code().into());
        }
    }

    fn properties(&mut self, properties: &Properties) {
        for property in properties.iter() {
            let (id, value) = taken_apart(property);
            let field = fields::of_property(id).expect("the table of fields has every property");
            self.facts.push(Fact { field, value });
        }
    }
}

fn taken_apart(property: &Property) -> (PropertyId, Value) {
    use PropertyId as Id;
    let number = |value: u64| Value::Number(value);
    let bytes = |value: &[u8]| Value::Bytes(value.to_vec());
    match property {
        Property::PayloadFormatIndicator(v) => (Id::PayloadFormatIndicator, number((*v).into())),
        Property::MessageExpiryInterval(v) => (Id::MessageExpiryInterval, number((*v).into())),
        Property::ContentType(v) => (Id::ContentType, bytes(v.as_bytes())),
        Property::ResponseTopic(v) => (Id::ResponseTopic, bytes(v.as_bytes())),
        Property::CorrelationData(v) => (Id::CorrelationData, bytes(v)),
        Property::SubscriptionIdentifier(v) => (Id::SubscriptionIdentifier, number((*v).into())),
        Property::SessionExpiryInterval(v) => (Id::SessionExpiryInterval, number((*v).into())),
        Property::AssignedClientIdentifier(v) => {
            (Id::AssignedClientIdentifier, bytes(v.as_bytes()))
        }
        Property::ServerKeepAlive(v) => (Id::ServerKeepAlive, number((*v).into())),
        Property::AuthenticationMethod(v) => (Id::AuthenticationMethod, bytes(v.as_bytes())),
        Property::AuthenticationData(v) => (Id::AuthenticationData, bytes(v)),
        Property::RequestProblemInformation(v) => {
            (Id::RequestProblemInformation, number((*v).into()))
        }
        Property::WillDelayInterval(v) => (Id::WillDelayInterval, number((*v).into())),
        Property::RequestResponseInformation(v) => {
            (Id::RequestResponseInformation, number((*v).into()))
        }
        Property::ResponseInformation(v) => (Id::ResponseInformation, bytes(v.as_bytes())),
        Property::ServerReference(v) => (Id::ServerReference, bytes(v.as_bytes())),
        Property::ReasonString(v) => (Id::ReasonString, bytes(v.as_bytes())),
        Property::ReceiveMaximum(v) => (Id::ReceiveMaximum, number((*v).into())),
        Property::TopicAliasMaximum(v) => (Id::TopicAliasMaximum, number((*v).into())),
        Property::TopicAlias(v) => (Id::TopicAlias, number((*v).into())),
        Property::MaximumQoS(v) => (Id::MaximumQoS, number((*v).into())),
        Property::RetainAvailable(v) => (Id::RetainAvailable, number((*v).into())),
        Property::UserProperty(name, value) => {
            (Id::UserProperty, Value::Pair(name.as_bytes().to_vec(), value.as_bytes().to_vec()))
        }
        Property::MaximumPacketSize(v) => (Id::MaximumPacketSize, number((*v).into())),
        Property::WildcardSubscriptionAvailable(v) => {
            (Id::WildcardSubscriptionAvailable, number((*v).into()))
        }
        Property::SubscriptionIdentifierAvailable(v) => {
            (Id::SubscriptionIdentifierAvailable, number((*v).into()))
        }
        Property::SharedSubscriptionAvailable(v) => {
            (Id::SharedSubscriptionAvailable, number((*v).into()))
        }
    }
}
