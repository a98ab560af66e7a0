//! MQTT 5.0 properties: one enum, one list, one table of what is allowed where.

use alloc::{boxed::Box, vec::Vec};

use bytes::Bytes;

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

/// The properties of one packet in the order of the wire. Empty lists allocate nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Properties(Vec<Property>);

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
