//! From a packet as written to the packet that a client sends.

use std::{collections::HashMap, num::NonZeroU16};

use bytes::Bytes;
use codec::{
    Ack, Auth, ConnAck, Connect, Disconnect, Message, Packet, PacketId, PacketType, Properties,
    Property, PropertyId, ProtocolVersion, Publish, QoS, ReasonCode, RetainHandling, SubAck,
    Subscribe, SubscribeFilter, UnsubAck, Unsubscribe, Will,
};

use super::Names;
use crate::lang::{
    FieldSpec, PacketSpec, Pattern, RawItem, Value,
    fields::{self, Kind},
};

/// Session Expiry Interval that `keep` asks for, seconds.
const KEEP_S: u32 = 300;

/// What a packet's values depend on.
pub(super) struct Context<'a> {
    pub(super) names: &'a Names,
    pub(super) variables: &'a HashMap<String, Value>,
    /// The client's name, its Client Identifier by default.
    pub(super) client: &'a str,
    /// The version it speaks.
    pub(super) version: ProtocolVersion,
}

impl Context<'_> {
    /// The value of a field on the wire. A variable holds what came from the wire, so it gets no
    /// root.
    pub(super) fn value(&self, spec: &FieldSpec) -> Result<Value, String> {
        match &spec.pattern {
            Pattern::Is(value) => Ok(self.rooted(spec.field.kind, value)),
            Pattern::Variable(name) => match self.variables.get(name) {
                Some(value) => Ok(value.clone()),
                None => Err(format!("${name} is not bound yet")),
            },
            _ => Err(format!("{} has no definite value", spec.field.name)),
        }
    }

    /// A written value as it goes to the wire.
    pub(super) fn rooted(&self, kind: Kind, value: &Value) -> Value {
        match (kind, value) {
            (Kind::Topic, Value::Bytes(topic)) => {
                Value::Bytes(with_text(topic, |topic| self.names.topic(topic)))
            }
            (Kind::Filter, Value::Bytes(filter)) => {
                Value::Bytes(with_text(filter, |filter| self.names.filter(filter)))
            }
            (Kind::ClientId, Value::Bytes(id)) => {
                Value::Bytes(with_text(id, |id| self.names.client_id(id)))
            }
            (Kind::TopicAndBytes, Value::Pair(topic, payload)) => {
                Value::Pair(with_text(topic, |topic| self.names.topic(topic)), payload.clone())
            }
            _ => value.clone(),
        }
    }
}

fn with_text(bytes: &[u8], change: impl Fn(&str) -> String) -> Vec<u8> {
    match str::from_utf8(bytes) {
        Ok(text) => change(text).into_bytes(),
        Err(_) => bytes.to_vec(),
    }
}

/// The bytes of `raw`; `None` stands for any byte.
pub(super) fn raw(items: &[RawItem], names: &Names) -> Vec<Option<u8>> {
    let mut out = Vec::new();
    let text = |bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes();
        length.iter().chain(bytes).copied().map(Some).collect::<Vec<_>>()
    };
    for item in items {
        match item {
            RawItem::Bytes(bytes) => out.extend(bytes.iter().copied().map(Some)),
            RawItem::Text(bytes) => out.extend(text(bytes)),
            RawItem::Topic(topic) => out.extend(text(names.filter(topic).as_bytes())),
            RawItem::ClientId(id) => out.extend(text(names.client_id(id).as_bytes())),
            RawItem::Counted(items) => {
                let inside = raw(items, names);
                out.extend(variable_byte_integer(inside.len()).into_iter().map(Some));
                out.extend(inside);
            }
            RawItem::AnyByte => out.push(None),
        }
    }
    out
}

fn variable_byte_integer(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value % 128).unwrap_or(0);
        value /= 128;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// The packet that a `>` statement says.
pub(super) fn packet(spec: &PacketSpec, context: &Context<'_>) -> Result<Packet, String> {
    let fields = Fields::resolve(spec, context)?;
    Ok(match spec.packet {
        PacketType::Connect => Packet::Connect(Box::new(connect(spec, &fields, context)?)),
        PacketType::ConnAck => Packet::ConnAck(Box::new(ConnAck {
            session_present: fields.flag("session"),
            reason: fields.reason()?,
            properties: fields.properties()?,
        })),
        PacketType::Publish => Packet::Publish(publish(&fields)?),
        PacketType::PubAck => Packet::PubAck(ack(&fields)?),
        PacketType::PubRec => Packet::PubRec(ack(&fields)?),
        PacketType::PubRel => Packet::PubRel(ack(&fields)?),
        PacketType::PubComp => Packet::PubComp(ack(&fields)?),
        PacketType::Subscribe => Packet::Subscribe(Box::new(subscribe(&fields)?)),
        PacketType::SubAck => Packet::SubAck(Box::new(SubAck {
            packet_id: fields.id()?,
            properties: fields.properties()?,
            reasons: fields.reasons()?,
        })),
        PacketType::Unsubscribe => Packet::Unsubscribe(Box::new(Unsubscribe {
            packet_id: fields.id()?,
            properties: fields.properties()?,
            filters: fields.all("filter").map(text).collect::<Result<_, _>>()?,
        })),
        PacketType::UnsubAck => Packet::UnsubAck(Box::new(UnsubAck {
            packet_id: fields.id()?,
            properties: fields.properties()?,
            reasons: fields.reasons()?,
        })),
        PacketType::PingReq => Packet::PingReq,
        PacketType::PingResp => Packet::PingResp,
        PacketType::Disconnect => Packet::Disconnect(Box::new(Disconnect {
            reason: fields.reason()?,
            properties: fields.properties()?,
        })),
        PacketType::Auth => Packet::Auth(Box::new(Auth {
            reason: fields.reason()?,
            properties: fields.properties()?,
        })),
    })
}

fn connect(spec: &PacketSpec, fields: &Fields, context: &Context<'_>) -> Result<Connect, String> {
    let version = spec.version.unwrap_or(context.version);
    let mut properties = fields.properties()?;
    if fields.flag("keep") && version.is_v5() {
        properties.push(Property::SessionExpiryInterval(KEEP_S));
    }
    let default_id = || context.names.client_id(context.client);
    let (user_name, password) = match (fields.one("username"), fields.one("password")) {
        (None, None) => context.names.login(),
        (user_name, password) => (user_name.map(text).transpose()?, password.map(bytes)),
    };
    Ok(Connect {
        version,
        bridge: fields.flag("bridge"),
        clean_start: fields.flag("clean"),
        keep_alive_s: u16_of(fields.number("keep_alive").unwrap_or(0)),
        client_id: match fields.one("client_id") {
            Some(id) => text(id)?,
            None => default_id().into(),
        },
        will: will(fields)?.map(Box::new),
        user_name,
        password,
        properties,
    })
}

fn will(fields: &Fields) -> Result<Option<Will>, String> {
    let Some(Value::Pair(topic, payload)) = fields.one("will") else {
        let stray = fields.names().find(|name| name.starts_with("will_"));
        return stray
            .map_or(Ok(None), |name| Err(format!("{name} needs a will=TOPIC:\"payload\"")));
    };
    let properties: Properties = fields
        .0
        .iter()
        .filter_map(|(field, value)| {
            let name = field.name.strip_prefix("will_")?;
            let id = fields::find(PacketType::Publish, name)?.property?;
            (id != PropertyId::WillDelayInterval).then(|| property(id, value))
        })
        .collect::<Result<_, String>>()?;
    Ok(Some(Will {
        qos: qos(fields.number("will_qos").unwrap_or(0))?,
        retain: fields.flag("will_retain"),
        delay_s: u32_of(fields.number("will_delay").unwrap_or(0)),
        message: message(topic, &properties, payload)?,
    }))
}

fn publish(fields: &Fields) -> Result<Publish, String> {
    let mut properties = fields.properties()?;
    let mut aliases = properties.iter().filter_map(|property| match property {
        Property::TopicAlias(alias) => Some(*alias),
        _ => None,
    });
    let topic_alias = match (aliases.next(), aliases.next()) {
        (None, _) => None,
        (Some(alias), None) => {
            Some(NonZeroU16::new(alias).ok_or("write topic_alias=0 as raw bytes")?)
        }
        (Some(_), Some(_)) => return Err("write two topic aliases as raw bytes".to_owned()),
    };
    properties.retain(|property| !matches!(property, Property::TopicAlias(_)));
    let empty = Value::Bytes(Vec::new());
    let topic = bytes(fields.one("topic").unwrap_or(&empty));
    let payload = bytes(fields.one("payload").unwrap_or(&empty));
    let qos = qos(fields.number("qos").unwrap_or(0))?;
    Ok(Publish {
        dup: fields.flag("dup"),
        qos,
        retain: fields.flag("retain"),
        packet_id: if qos == QoS::AtMostOnce { None } else { Some(fields.id()?) },
        topic_alias,
        message: message(&topic, &properties, &payload)?,
    })
}

fn message(topic: &[u8], properties: &Properties, payload: &[u8]) -> Result<Message, String> {
    let topic =
        str::from_utf8(topic).map_err(|_| "write a topic that is not UTF-8 as raw bytes")?;
    Message::new(topic, properties, payload)
        .map_err(|error| format!("write this as raw bytes: the codec refuses it ({error:?})"))
}

fn ack(fields: &Fields) -> Result<Ack, String> {
    Ok(Ack { packet_id: fields.id()?, reason: fields.reason()?, properties: fields.properties()? })
}

/// In the order written, an option belongs to the filter before it.
fn subscribe(fields: &Fields) -> Result<Subscribe, String> {
    let mut filters: Vec<SubscribeFilter> = Vec::new();
    for (field, value) in &fields.0 {
        if field.name == fields::FILTER {
            filters.push(SubscribeFilter { filter: text(value)?, options: Default::default() });
        }
        let (Some(filter), Value::Number(number)) = (filters.last_mut(), value) else {
            continue;
        };
        match field.name {
            "qos" => filter.options.qos = qos(*number)?,
            "no_local" => filter.options.no_local = *number == 1,
            "retain_as_published" => filter.options.retain_as_published = *number == 1,
            "retain_handling" => {
                filter.options.retain_handling = match number {
                    0 => RetainHandling::Send,
                    1 => RetainHandling::SendIfNew,
                    _ => RetainHandling::DoNotSend,
                }
            }
            _ => {}
        }
    }
    Ok(Subscribe { packet_id: fields.id()?, properties: fields.properties()?, filters })
}

/// The fields of a packet with their values on the wire, in the order written.
struct Fields(Vec<(&'static fields::Field, Value)>);

impl Fields {
    fn resolve(spec: &PacketSpec, context: &Context<'_>) -> Result<Self, String> {
        let resolve = |spec: &FieldSpec| Ok((spec.field, context.value(spec)?));
        spec.fields.iter().map(resolve).collect::<Result<_, String>>().map(Self)
    }

    fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|(field, _)| field.name)
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(move |(field, _)| field.name == name).map(|(_, value)| value)
    }

    fn one(&self, name: &str) -> Option<&Value> {
        self.all(name).next()
    }

    fn number(&self, name: &str) -> Option<u64> {
        match self.one(name)? {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    fn flag(&self, name: &str) -> bool {
        self.number(name) == Some(1)
    }

    fn id(&self) -> Result<PacketId, String> {
        let id = self.number(fields::ID).and_then(|id| PacketId::new(u16_of(id)));
        id.ok_or_else(|| "write a Packet Identifier of 0 as raw bytes".to_owned())
    }

    fn reason(&self) -> Result<ReasonCode, String> {
        reason(self.number(fields::CODE).unwrap_or(0))
    }

    fn reasons(&self) -> Result<Vec<ReasonCode>, String> {
        self.all(fields::CODE)
            .map(|value| match value {
                Value::Number(code) => reason(*code),
                _ => Err("a code is a number".to_owned()),
            })
            .collect()
    }

    fn properties(&self) -> Result<Properties, String> {
        self.0.iter().filter_map(|(field, value)| Some(property(field.property?, value))).collect()
    }
}

fn reason(code: u64) -> Result<ReasonCode, String> {
    let code = u8::try_from(code).ok().and_then(ReasonCode::from_u8);
    code.ok_or_else(|| "write a code that the standard does not define as raw bytes".to_owned())
}

fn qos(level: u64) -> Result<QoS, String> {
    let level = u8::try_from(level).ok().and_then(QoS::from_bits);
    level.ok_or_else(|| "write QoS 3 as raw bytes".to_owned())
}

/// A property put together from its value.
fn property(id: PropertyId, value: &Value) -> Result<Property, String> {
    use PropertyId as Id;
    let number = if let Value::Number(number) = value { *number } else { 0 };
    Ok(match id {
        Id::PayloadFormatIndicator => Property::PayloadFormatIndicator(u8_of(number)),
        Id::MessageExpiryInterval => Property::MessageExpiryInterval(u32_of(number)),
        Id::ContentType => Property::ContentType(text(value)?),
        Id::ResponseTopic => Property::ResponseTopic(text(value)?),
        Id::CorrelationData => Property::CorrelationData(bytes(value)),
        Id::SubscriptionIdentifier => Property::SubscriptionIdentifier(u32_of(number)),
        Id::SessionExpiryInterval => Property::SessionExpiryInterval(u32_of(number)),
        Id::AssignedClientIdentifier => Property::AssignedClientIdentifier(text(value)?),
        Id::ServerKeepAlive => Property::ServerKeepAlive(u16_of(number)),
        Id::AuthenticationMethod => Property::AuthenticationMethod(text(value)?),
        Id::AuthenticationData => Property::AuthenticationData(bytes(value)),
        Id::RequestProblemInformation => Property::RequestProblemInformation(number == 1),
        Id::WillDelayInterval => Property::WillDelayInterval(u32_of(number)),
        Id::RequestResponseInformation => Property::RequestResponseInformation(number == 1),
        Id::ResponseInformation => Property::ResponseInformation(text(value)?),
        Id::ServerReference => Property::ServerReference(text(value)?),
        Id::ReasonString => Property::ReasonString(text(value)?),
        Id::ReceiveMaximum => Property::ReceiveMaximum(u16_of(number)),
        Id::TopicAliasMaximum => Property::TopicAliasMaximum(u16_of(number)),
        Id::TopicAlias => Property::TopicAlias(u16_of(number)),
        Id::MaximumQoS => Property::MaximumQoS(u8_of(number)),
        Id::RetainAvailable => Property::RetainAvailable(number == 1),
        Id::UserProperty => match value {
            Value::Pair(name, value) => {
                Property::UserProperty(utf8(name)?.into(), utf8(value)?.into())
            }
            _ => return Err("a User Property has a name and a value".to_owned()),
        },
        Id::MaximumPacketSize => Property::MaximumPacketSize(u32_of(number)),
        Id::WildcardSubscriptionAvailable => Property::WildcardSubscriptionAvailable(number == 1),
        Id::SubscriptionIdentifierAvailable => {
            Property::SubscriptionIdentifierAvailable(number == 1)
        }
        Id::SharedSubscriptionAvailable => Property::SharedSubscriptionAvailable(number == 1),
    })
}

fn bytes(value: &Value) -> Bytes {
    match value {
        Value::Bytes(bytes) => Bytes::copy_from_slice(bytes),
        Value::Number(_) | Value::Pair(..) => Bytes::new(),
    }
}

fn text(value: &Value) -> Result<Box<str>, String> {
    match value {
        Value::Bytes(bytes) => Ok(utf8(bytes)?.into()),
        Value::Number(_) | Value::Pair(..) => Err("expected a text".to_owned()),
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, String> {
    str::from_utf8(bytes).map_err(|_| "write text that is not UTF-8 as raw bytes".to_owned())
}

// The parser has judged the range of every number by the table of fields.

fn u8_of(number: u64) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

fn u16_of(number: u64) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

fn u32_of(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
