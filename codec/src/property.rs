//! MQTT 5.0 properties: one enum, one list, one table of what is allowed where.

use alloc::{boxed::Box, vec::Vec};
use core::fmt;

use bytes::Bytes;

use crate::{EncodeError, PacketType, Sender, wire};

/// One property with its value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub enum Property {
    PayloadFormatIndicator(u8),
    /// Seconds.
    MessageExpiryInterval(u32),
    ContentType(Box<str>),
    ResponseTopic(Box<str>),
    CorrelationData(Bytes),
    SubscriptionIdentifier(u32),
    /// Seconds; `u32::MAX` never expires.
    SessionExpiryInterval(u32),
    AssignedClientIdentifier(Box<str>),
    /// Seconds.
    ServerKeepAlive(u16),
    AuthenticationMethod(Box<str>),
    AuthenticationData(Bytes),
    RequestProblemInformation(bool),
    /// Seconds.
    WillDelayInterval(u32),
    RequestResponseInformation(bool),
    ResponseInformation(Box<str>),
    ServerReference(Box<str>),
    ReasonString(Box<str>),
    ReceiveMaximum(u16),
    TopicAliasMaximum(u16),
    TopicAlias(u16),
    MaximumQoS(u8),
    RetainAvailable(bool),
    UserProperty(Box<str>, Box<str>),
    /// Bytes.
    MaximumPacketSize(u32),
    WildcardSubscriptionAvailable(bool),
    SubscriptionIdentifierAvailable(bool),
    SharedSubscriptionAvailable(bool),
}

/// The identifier of a property on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub enum PropertyId {
    PayloadFormatIndicator = 0x01,
    MessageExpiryInterval = 0x02,
    ContentType = 0x03,
    ResponseTopic = 0x08,
    CorrelationData = 0x09,
    SubscriptionIdentifier = 0x0B,
    SessionExpiryInterval = 0x11,
    AssignedClientIdentifier = 0x12,
    ServerKeepAlive = 0x13,
    AuthenticationMethod = 0x15,
    AuthenticationData = 0x16,
    RequestProblemInformation = 0x17,
    WillDelayInterval = 0x18,
    RequestResponseInformation = 0x19,
    ResponseInformation = 0x1A,
    ServerReference = 0x1C,
    ReasonString = 0x1F,
    ReceiveMaximum = 0x21,
    TopicAliasMaximum = 0x22,
    TopicAlias = 0x23,
    MaximumQoS = 0x24,
    RetainAvailable = 0x25,
    UserProperty = 0x26,
    MaximumPacketSize = 0x27,
    WildcardSubscriptionAvailable = 0x28,
    SubscriptionIdentifierAvailable = 0x29,
    SharedSubscriptionAvailable = 0x2A,
}

impl PropertyId {
    /// Every property identifier, in ascending order.
    pub const ALL: [Self; 27] = [
        Self::PayloadFormatIndicator,
        Self::MessageExpiryInterval,
        Self::ContentType,
        Self::ResponseTopic,
        Self::CorrelationData,
        Self::SubscriptionIdentifier,
        Self::SessionExpiryInterval,
        Self::AssignedClientIdentifier,
        Self::ServerKeepAlive,
        Self::AuthenticationMethod,
        Self::AuthenticationData,
        Self::RequestProblemInformation,
        Self::WillDelayInterval,
        Self::RequestResponseInformation,
        Self::ResponseInformation,
        Self::ServerReference,
        Self::ReasonString,
        Self::ReceiveMaximum,
        Self::TopicAliasMaximum,
        Self::TopicAlias,
        Self::MaximumQoS,
        Self::RetainAvailable,
        Self::UserProperty,
        Self::MaximumPacketSize,
        Self::WildcardSubscriptionAvailable,
        Self::SubscriptionIdentifierAvailable,
        Self::SharedSubscriptionAvailable,
    ];

    /// The standard's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PayloadFormatIndicator => "Payload Format Indicator",
            Self::MessageExpiryInterval => "Message Expiry Interval",
            Self::ContentType => "Content Type",
            Self::ResponseTopic => "Response Topic",
            Self::CorrelationData => "Correlation Data",
            Self::SubscriptionIdentifier => "Subscription Identifier",
            Self::SessionExpiryInterval => "Session Expiry Interval",
            Self::AssignedClientIdentifier => "Assigned Client Identifier",
            Self::ServerKeepAlive => "Server Keep Alive",
            Self::AuthenticationMethod => "Authentication Method",
            Self::AuthenticationData => "Authentication Data",
            Self::RequestProblemInformation => "Request Problem Information",
            Self::WillDelayInterval => "Will Delay Interval",
            Self::RequestResponseInformation => "Request Response Information",
            Self::ResponseInformation => "Response Information",
            Self::ServerReference => "Server Reference",
            Self::ReasonString => "Reason String",
            Self::ReceiveMaximum => "Receive Maximum",
            Self::TopicAliasMaximum => "Topic Alias Maximum",
            Self::TopicAlias => "Topic Alias",
            Self::MaximumQoS => "Maximum QoS",
            Self::RetainAvailable => "Retain Available",
            Self::UserProperty => "User Property",
            Self::MaximumPacketSize => "Maximum Packet Size",
            Self::WildcardSubscriptionAvailable => "Wildcard Subscription Available",
            Self::SubscriptionIdentifierAvailable => "Subscription Identifier Available",
            Self::SharedSubscriptionAvailable => "Shared Subscription Available",
        }
    }

    /// The property of this identifier; `None` for a value that the standard does not define.
    pub fn from_u8(value: u8) -> Option<Self> {
        let at = Self::ALL.binary_search_by_key(&value, |id| *id as u8).ok()?;
        Self::ALL.get(at).copied()
    }

    /// Whether a packet of this type may carry it, whoever sends it. For CONNECT this tells of the
    /// packet's own properties, not of the Will's.
    pub const fn allowed_in(self, packet: PacketType) -> bool {
        self.allowed_from(Sender::Client, packet) || self.allowed_from(Sender::Server, packet)
    }

    /// Whether a packet of this type and from this side may carry it: table 2-4 and the text of
    /// each packet.
    pub const fn allowed_from(self, sender: Sender, packet: PacketType) -> bool {
        use PacketType::{
            Auth, ConnAck, Connect, Disconnect, PubAck, PubComp, PubRec, PubRel, Publish, SubAck,
            Subscribe, UnsubAck, Unsubscribe,
        };
        let server = matches!(sender, Sender::Server);
        let sent = match packet {
            Connect | Subscribe | Unsubscribe => !server,
            ConnAck | SubAck | UnsubAck => server,
            _ => true,
        };
        sent && match self {
            Self::PayloadFormatIndicator
            | Self::MessageExpiryInterval
            | Self::ContentType
            | Self::ResponseTopic
            | Self::CorrelationData
            | Self::TopicAlias => matches!(packet, Publish),
            //= [MQTT-3.3.4-6]
            Self::SubscriptionIdentifier => match packet {
                Publish => server,
                packet => matches!(packet, Subscribe),
            },
            //= [MQTT-3.14.2-2]
            Self::SessionExpiryInterval => match packet {
                Disconnect => !server,
                packet => matches!(packet, Connect | ConnAck),
            },
            Self::ServerReference => match packet {
                Disconnect => server,
                packet => matches!(packet, ConnAck),
            },
            Self::AuthenticationMethod | Self::AuthenticationData => {
                matches!(packet, Connect | ConnAck | Auth)
            }
            Self::RequestProblemInformation | Self::RequestResponseInformation => {
                matches!(packet, Connect)
            }
            Self::WillDelayInterval => false,
            Self::ReceiveMaximum | Self::TopicAliasMaximum | Self::MaximumPacketSize => {
                matches!(packet, Connect | ConnAck)
            }
            Self::AssignedClientIdentifier
            | Self::ServerKeepAlive
            | Self::ResponseInformation
            | Self::MaximumQoS
            | Self::RetainAvailable
            | Self::WildcardSubscriptionAvailable
            | Self::SubscriptionIdentifierAvailable
            | Self::SharedSubscriptionAvailable => matches!(packet, ConnAck),
            Self::ReasonString => matches!(
                packet,
                ConnAck
                    | PubAck
                    | PubRec
                    | PubRel
                    | PubComp
                    | SubAck
                    | UnsubAck
                    | Disconnect
                    | Auth
            ),
            Self::UserProperty => !matches!(packet, PacketType::PingReq | PacketType::PingResp),
        }
    }

    /// The property with this value; `None` if the value is of another type than the property's.
    pub(crate) fn with_value(self, value: Value<'_>) -> Option<Property> {
        Some(match (self, value) {
            (Self::PayloadFormatIndicator, Value::Byte(v)) => Property::PayloadFormatIndicator(v),
            (Self::MaximumQoS, Value::Byte(v)) => Property::MaximumQoS(v),
            (id, Value::Byte(v)) => return id.with_flag(v != 0),
            (Self::ServerKeepAlive, Value::TwoByteInteger(v)) => Property::ServerKeepAlive(v),
            (Self::ReceiveMaximum, Value::TwoByteInteger(v)) => Property::ReceiveMaximum(v),
            (Self::TopicAliasMaximum, Value::TwoByteInteger(v)) => Property::TopicAliasMaximum(v),
            (Self::TopicAlias, Value::TwoByteInteger(v)) => Property::TopicAlias(v),
            (Self::MessageExpiryInterval, Value::FourByteInteger(v)) => {
                Property::MessageExpiryInterval(v)
            }
            (Self::SessionExpiryInterval, Value::FourByteInteger(v)) => {
                Property::SessionExpiryInterval(v)
            }
            (Self::WillDelayInterval, Value::FourByteInteger(v)) => Property::WillDelayInterval(v),
            (Self::MaximumPacketSize, Value::FourByteInteger(v)) => Property::MaximumPacketSize(v),
            (Self::SubscriptionIdentifier, Value::VariableByteInteger(v)) => {
                Property::SubscriptionIdentifier(v)
            }
            (Self::ContentType, Value::String(v)) => Property::ContentType(v.into()),
            (Self::ResponseTopic, Value::String(v)) => Property::ResponseTopic(v.into()),
            (Self::AssignedClientIdentifier, Value::String(v)) => {
                Property::AssignedClientIdentifier(v.into())
            }
            (Self::AuthenticationMethod, Value::String(v)) => {
                Property::AuthenticationMethod(v.into())
            }
            (Self::ResponseInformation, Value::String(v)) => {
                Property::ResponseInformation(v.into())
            }
            (Self::ServerReference, Value::String(v)) => Property::ServerReference(v.into()),
            (Self::ReasonString, Value::String(v)) => Property::ReasonString(v.into()),
            (Self::CorrelationData, Value::Data(v)) => {
                Property::CorrelationData(Bytes::copy_from_slice(v))
            }
            (Self::AuthenticationData, Value::Data(v)) => {
                Property::AuthenticationData(Bytes::copy_from_slice(v))
            }
            (Self::UserProperty, Value::StringPair(name, value)) => {
                Property::UserProperty(name.into(), value.into())
            }
            _ => return None,
        })
    }

    /// The property whose one byte says yes or no.
    const fn with_flag(self, value: bool) -> Option<Property> {
        Some(match self {
            Self::RequestProblemInformation => Property::RequestProblemInformation(value),
            Self::RequestResponseInformation => Property::RequestResponseInformation(value),
            Self::RetainAvailable => Property::RetainAvailable(value),
            Self::WildcardSubscriptionAvailable => Property::WildcardSubscriptionAvailable(value),
            Self::SubscriptionIdentifierAvailable => {
                Property::SubscriptionIdentifierAvailable(value)
            }
            Self::SharedSubscriptionAvailable => Property::SharedSubscriptionAvailable(value),
            _ => return None,
        })
    }

    /// Whether it is one of the Will Properties.
    pub const fn allowed_in_will(self) -> bool {
        matches!(
            self,
            Self::PayloadFormatIndicator
                | Self::MessageExpiryInterval
                | Self::ContentType
                | Self::ResponseTopic
                | Self::CorrelationData
                | Self::WillDelayInterval
                | Self::UserProperty
        )
    }

    /// Whether a packet may carry it more than once. Subscription Identifier repeats only in a
    /// PUBLISH.
    pub(crate) const fn is_repeatable(self) -> bool {
        matches!(self, Self::UserProperty | Self::SubscriptionIdentifier)
    }
}

impl fmt::Display for PropertyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Property {
    /// The identifier on the wire.
    pub const fn id(&self) -> PropertyId {
        match self {
            Self::PayloadFormatIndicator(_) => PropertyId::PayloadFormatIndicator,
            Self::MessageExpiryInterval(_) => PropertyId::MessageExpiryInterval,
            Self::ContentType(_) => PropertyId::ContentType,
            Self::ResponseTopic(_) => PropertyId::ResponseTopic,
            Self::CorrelationData(_) => PropertyId::CorrelationData,
            Self::SubscriptionIdentifier(_) => PropertyId::SubscriptionIdentifier,
            Self::SessionExpiryInterval(_) => PropertyId::SessionExpiryInterval,
            Self::AssignedClientIdentifier(_) => PropertyId::AssignedClientIdentifier,
            Self::ServerKeepAlive(_) => PropertyId::ServerKeepAlive,
            Self::AuthenticationMethod(_) => PropertyId::AuthenticationMethod,
            Self::AuthenticationData(_) => PropertyId::AuthenticationData,
            Self::RequestProblemInformation(_) => PropertyId::RequestProblemInformation,
            Self::WillDelayInterval(_) => PropertyId::WillDelayInterval,
            Self::RequestResponseInformation(_) => PropertyId::RequestResponseInformation,
            Self::ResponseInformation(_) => PropertyId::ResponseInformation,
            Self::ServerReference(_) => PropertyId::ServerReference,
            Self::ReasonString(_) => PropertyId::ReasonString,
            Self::ReceiveMaximum(_) => PropertyId::ReceiveMaximum,
            Self::TopicAliasMaximum(_) => PropertyId::TopicAliasMaximum,
            Self::TopicAlias(_) => PropertyId::TopicAlias,
            Self::MaximumQoS(_) => PropertyId::MaximumQoS,
            Self::RetainAvailable(_) => PropertyId::RetainAvailable,
            Self::UserProperty(..) => PropertyId::UserProperty,
            Self::MaximumPacketSize(_) => PropertyId::MaximumPacketSize,
            Self::WildcardSubscriptionAvailable(_) => PropertyId::WildcardSubscriptionAvailable,
            Self::SubscriptionIdentifierAvailable(_) => PropertyId::SubscriptionIdentifierAvailable,
            Self::SharedSubscriptionAvailable(_) => PropertyId::SharedSubscriptionAvailable,
        }
    }

    /// The value by its data type, borrowed.
    fn value(&self) -> Value<'_> {
        match self {
            Self::PayloadFormatIndicator(v) | Self::MaximumQoS(v) => Value::Byte(*v),
            Self::RequestProblemInformation(v)
            | Self::RequestResponseInformation(v)
            | Self::RetainAvailable(v)
            | Self::WildcardSubscriptionAvailable(v)
            | Self::SubscriptionIdentifierAvailable(v)
            | Self::SharedSubscriptionAvailable(v) => Value::Byte(u8::from(*v)),
            Self::ServerKeepAlive(v)
            | Self::ReceiveMaximum(v)
            | Self::TopicAliasMaximum(v)
            | Self::TopicAlias(v) => Value::TwoByteInteger(*v),
            Self::MessageExpiryInterval(v)
            | Self::SessionExpiryInterval(v)
            | Self::WillDelayInterval(v)
            | Self::MaximumPacketSize(v) => Value::FourByteInteger(*v),
            Self::SubscriptionIdentifier(v) => Value::VariableByteInteger(*v),
            Self::ContentType(v)
            | Self::ResponseTopic(v)
            | Self::AssignedClientIdentifier(v)
            | Self::AuthenticationMethod(v)
            | Self::ResponseInformation(v)
            | Self::ServerReference(v)
            | Self::ReasonString(v) => Value::String(v),
            Self::CorrelationData(v) | Self::AuthenticationData(v) => Value::Data(v),
            Self::UserProperty(name, value) => Value::StringPair(name, value),
        }
    }

    /// Bytes on the wire, identifier included.
    pub fn encoded_len(&self) -> usize {
        match self.value() {
            Value::Byte(_) => 2,
            Value::TwoByteInteger(_) => 3,
            Value::FourByteInteger(_) => 5,
            Value::VariableByteInteger(v) => wire::sum(&[1, wire::variable_len(v as usize)]),
            Value::String(v) => wire::sum(&[1, wire::string_len(v)]),
            Value::Data(v) => wire::sum(&[1, wire::data_len(v)]),
            Value::StringPair(n, v) => wire::sum(&[1, wire::string_len(n), wire::string_len(v)]),
        }
    }

    /// Appends identifier and value.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.id() as u8);
        match self.value() {
            Value::Byte(v) => out.push(v),
            Value::TwoByteInteger(v) => out.extend_from_slice(&v.to_be_bytes()),
            Value::FourByteInteger(v) => out.extend_from_slice(&v.to_be_bytes()),
            Value::VariableByteInteger(v) => wire::put_variable(v as usize, out),
            Value::String(v) => wire::put_string(v, out),
            Value::Data(v) => wire::put_data(v, out),
            Value::StringPair(name, value) => {
                wire::put_string(name, out);
                wire::put_string(value, out);
            }
        }
    }

    /// Whether strings and data fit their two-byte lengths.
    pub(crate) fn check_lengths(&self) -> Result<(), EncodeError> {
        let longest = match self.value() {
            Value::String(v) => v.len(),
            Value::Data(v) => v.len(),
            Value::StringPair(name, value) => name.len().max(value.len()),
            _ => 0,
        };
        if longest > 0xFFFF { Err(EncodeError::ValueTooLong) } else { Ok(()) }
    }
}

/// A property's value by the data types of section 1.5.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    Byte(u8),
    TwoByteInteger(u16),
    FourByteInteger(u32),
    VariableByteInteger(u32),
    String(&'a str),
    Data(&'a [u8]),
    StringPair(&'a str, &'a str),
}

/// The properties of one packet in the order of the wire. Empty lists allocate nothing. `Debug` does not show
/// Authentication Data.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Properties(Vec<Property>);

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Properties")?;
        let shown = self.0.iter().map(|property| match property {
            Property::AuthenticationData(_) => None,
            property => Some(property),
        });
        let mut list = f.debug_list();
        for property in shown {
            match property {
                Some(property) => list.entry(property),
                None => list.entry(&format_args!("AuthenticationData(***)")),
            };
        }
        list.finish()
    }
}

impl Properties {
    /// No properties.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a property at the end. The caller keeps the rules of repetition.
    pub fn push(&mut self, property: Property) {
        self.0.push(property);
    }

    /// The properties in order.
    pub fn iter(&self) -> core::slice::Iter<'_, Property> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes every property for which `keep` is false.
    pub fn retain(&mut self, keep: impl FnMut(&Property) -> bool) {
        self.0.retain(keep);
    }
}

impl Properties {
    /// Bytes of all properties on the wire, without the Property Length in front of them.
    pub fn encoded_len(&self) -> usize {
        self.0.iter().fold(0, |total, property| total.saturating_add(property.encoded_len()))
    }

    /// Bytes of the properties with the Property Length in front of them.
    pub(crate) fn field_len(&self) -> usize {
        let len = self.encoded_len();
        wire::sum(&[wire::variable_len(len), len])
    }

    /// Appends Property Length and properties. `[MQTT-2.2.2-1]`
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        //= [MQTT-2.2.2-1]
        wire::put_variable(self.encoded_len(), out);
        for property in &self.0 {
            property.encode(out);
        }
    }
}

impl<'a> IntoIterator for &'a Properties {
    type Item = &'a Property;
    type IntoIter = core::slice::Iter<'a, Property>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Extend<Property> for Properties {
    fn extend<I: IntoIterator<Item = Property>>(&mut self, properties: I) {
        self.0.extend(properties);
    }
}

impl FromIterator<Property> for Properties {
    fn from_iter<I: IntoIterator<Item = Property>>(properties: I) -> Self {
        Self(properties.into_iter().collect())
    }
}

/// A getter for a property that occurs at most once.
macro_rules! getters {
    ($($(#[$doc:meta])* $name:ident => $variant:ident, $type:ty, $value:ident => $result:expr;)*) => {
        impl Properties {
            $($(#[$doc])*
            pub fn $name(&self) -> Option<$type> {
                self.0.iter().find_map(|property| match property {
                    Property::$variant($value) => Some($result),
                    _ => None,
                })
            })*
        }
    };
}

getters! {
    /// Session Expiry Interval in seconds.
    session_expiry_interval => SessionExpiryInterval, u32, v => *v;
    /// Receive Maximum.
    receive_maximum => ReceiveMaximum, u16, v => *v;
    /// Maximum Packet Size in bytes.
    maximum_packet_size => MaximumPacketSize, u32, v => *v;
    /// Topic Alias Maximum.
    topic_alias_maximum => TopicAliasMaximum, u16, v => *v;
    /// Request Response Information.
    request_response_information => RequestResponseInformation, bool, v => *v;
    /// Request Problem Information.
    request_problem_information => RequestProblemInformation, bool, v => *v;
    /// Authentication Method.
    authentication_method => AuthenticationMethod, &str, v => &**v;
    /// Authentication Data.
    authentication_data => AuthenticationData, &Bytes, v => v;
    /// Subscription Identifier (of a SUBSCRIBE, where it occurs at most once).
    subscription_identifier => SubscriptionIdentifier, u32, v => *v;
    /// Message Expiry Interval in seconds.
    message_expiry_interval => MessageExpiryInterval, u32, v => *v;
    /// Will Delay Interval in seconds.
    will_delay_interval => WillDelayInterval, u32, v => *v;
    /// Reason String.
    reason_string => ReasonString, &str, v => &**v;
    /// Response Topic.
    response_topic => ResponseTopic, &str, v => &**v;
    /// Assigned Client Identifier.
    assigned_client_identifier => AssignedClientIdentifier, &str, v => &**v;
    /// Server Keep Alive in seconds.
    server_keep_alive => ServerKeepAlive, u16, v => *v;
}
