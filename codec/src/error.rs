//! What can be wrong with bytes, one variant for each rule.

use core::fmt;

use crate::{PacketType, PropertyId, ReasonCode};

/// A rule that received bytes broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DecodeError {
    /// The first packet of a connection is something else than CONNECT.
    FirstPacketNotConnect,
    /// Packet type 0, or 15 before 5.0.
    PacketTypeReserved,
    /// A packet that only the other side may send.
    PacketFromWrongSide(PacketType),
    /// Flags of the fixed header that are reserved for this packet have another value.
    ReservedFlags(PacketType),
    /// A PUBLISH with both QoS bits set.
    PublishQoS3,
    /// A PUBLISH with DUP and QoS 0.
    DupWithQoS0,
    /// A Variable Byte Integer of more than four bytes.
    VariableByteIntegerTooLong,
    /// A Variable Byte Integer in more bytes than its value needs.
    VariableByteIntegerNotMinimal,
    /// A packet larger than the receiver takes, by its Remaining Length.
    PacketTooLarge(PacketType),
    /// A field reaches beyond the end of its packet or of the packet's properties.
    Truncated(PacketType),
    /// Bytes are left after the packet's last field.
    TrailingBytes(PacketType),
    /// A string that is no well-formed UTF-8.
    StringNotUtf8(Field),
    /// A string with the character U+0000.
    StringHasNull(Field),
    /// A Packet Identifier of 0.
    PacketIdentifierZero,

    /// A property identifier that the standard does not define.
    PropertyUnknown(u32),
    /// A property that this packet never carries.
    PropertyNotAllowed(PropertyId, PacketType),
    /// A property that is none of the Will Properties.
    PropertyNotAllowedInWill(PropertyId),
    /// A property that only the other side may send in this packet.
    PropertyFromWrongSide(PropertyId, PacketType),
    /// A property that may occur once occurs again.
    PropertyRepeated(PropertyId),
    /// A value that the property may not have.
    PropertyValueOutOfRange(PropertyId),
    /// Topic Alias 0.
    TopicAliasZero,
    /// A Response Topic with a wildcard.
    ResponseTopicWildcard,
    /// A CONNECT with Authentication Data and without Authentication Method.
    AuthenticationDataWithoutMethod,
    /// An AUTH without Authentication Method.
    AuthenticationMethodMissing,

    /// A reason code that the standard does not define; in a SUBACK or CONNACK before 5.0 a return
    /// code.
    ReasonCodeUndefined(PacketType, u8),
    /// A reason code that this packet never carries.
    ReasonCodeNotAllowed(PacketType, ReasonCode),
    /// A reason code that only the other side may send in this packet.
    ReasonCodeFromWrongSide(PacketType, ReasonCode),
    /// A SUBACK or UNSUBACK without any reason code.
    NoReasonCode(PacketType),

    /// A protocol name that is neither "MQTT" nor "MQIsdp".
    ProtocolNameUnknown,
    /// A protocol level that does not exist, or not under this protocol name. Before the version is
    /// known the answer is the CONNACK of 3.1.1 with return code 1.
    UnsupportedProtocolVersion(u8),
    /// Bit 0 of the Connect Flags is set.
    ConnectFlagReserved,
    /// Will QoS above 0 without a Will.
    WillQoSWithoutWill,
    /// Will QoS 3.
    WillQoS3,
    /// Will Retain without a Will.
    WillRetainWithoutWill,
    /// A password without a user name, before 5.0.
    PasswordWithoutUserName,
    /// A Will Topic of no characters.
    WillTopicEmpty,
    /// A Will Topic with a wildcard.
    WillTopicWildcard,
    /// Reserved bits in the acknowledge flags of a CONNACK.
    ConnAckFlagsReserved,
    /// A CONNACK with Session Present that refuses the connection.
    SessionPresentWithFailure,

    /// A PUBLISH to a Topic Name with a wildcard.
    TopicNameWildcard,
    /// A PUBLISH without a Topic Name, before 5.0.
    TopicNameEmpty,
    /// A PUBLISH with neither Topic Name nor Topic Alias.
    TopicNameEmptyWithoutAlias,

    /// A SUBSCRIBE or UNSUBSCRIBE without a Topic Filter.
    NoTopicFilter(PacketType),
    /// Reserved bits in the Subscription Options.
    SubscriptionOptionsReserved,
    /// A Maximum QoS of 3 in the Subscription Options.
    SubscriptionQoS3,
    /// A Retain Handling of 3 in the Subscription Options.
    RetainHandling3,
    /// No Local for a Shared Subscription.
    NoLocalOnShared,
}

/// A string field of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub enum Field {
    ClientIdentifier,
    WillTopic,
    UserName,
    TopicName,
    TopicFilter,
    Property(PropertyId),
}

impl DecodeError {
    /// The reason code that a 5.0 peer is told. Total: every rule has one.
    pub const fn reason(self) -> ReasonCode {
        match self {
            Self::PacketTypeReserved
            | Self::ReservedFlags(_)
            | Self::PublishQoS3
            | Self::DupWithQoS0
            | Self::VariableByteIntegerTooLong
            | Self::VariableByteIntegerNotMinimal
            | Self::Truncated(_)
            | Self::TrailingBytes(_)
            | Self::StringNotUtf8(_)
            | Self::StringHasNull(_)
            | Self::PacketIdentifierZero
            | Self::PropertyUnknown(_)
            | Self::PropertyNotAllowed(..)
            | Self::PropertyNotAllowedInWill(_)
            | Self::ReasonCodeUndefined(..)
            | Self::ConnectFlagReserved
            | Self::WillQoSWithoutWill
            | Self::WillQoS3
            | Self::WillRetainWithoutWill
            | Self::PasswordWithoutUserName
            | Self::ConnAckFlagsReserved
            | Self::SubscriptionOptionsReserved => ReasonCode::MalformedPacket,
            Self::FirstPacketNotConnect
            | Self::PacketFromWrongSide(_)
            | Self::PropertyFromWrongSide(..)
            | Self::PropertyRepeated(_)
            | Self::PropertyValueOutOfRange(_)
            | Self::ResponseTopicWildcard
            | Self::AuthenticationDataWithoutMethod
            | Self::AuthenticationMethodMissing
            | Self::ReasonCodeNotAllowed(..)
            | Self::ReasonCodeFromWrongSide(..)
            | Self::NoReasonCode(_)
            | Self::SessionPresentWithFailure
            | Self::TopicNameEmpty
            | Self::TopicNameEmptyWithoutAlias
            | Self::NoTopicFilter(_)
            | Self::SubscriptionQoS3
            | Self::RetainHandling3
            | Self::NoLocalOnShared => ReasonCode::ProtocolError,
            Self::ProtocolNameUnknown | Self::UnsupportedProtocolVersion(_) => {
                ReasonCode::UnsupportedProtocolVersion
            }
            Self::WillTopicEmpty | Self::WillTopicWildcard | Self::TopicNameWildcard => {
                ReasonCode::TopicNameInvalid
            }
            Self::TopicAliasZero => ReasonCode::TopicAliasInvalid,
            Self::PacketTooLarge(_) => ReasonCode::PacketTooLarge,
        }
    }

    /// The statement that was broken, as `MQTT-3.1.2-3` or `U5-2.1.2-a`.
    ///
    /// It is 5.0's, which states every rule of the older versions too, if under another number.
    /// Two exceptions: a rule that 5.0 lifted has the number of 3.1.1 behind `v3.1.1 `, and one
    /// that the tables of statements leave out is named by its section, as `5.0 section 3.14.2.2.5`.
    pub const fn rule(self) -> &'static str {
        match self {
            Self::FirstPacketNotConnect => "MQTT-3.1.0-1",
            Self::PacketTypeReserved | Self::PacketFromWrongSide(_) => "U5-2.1.2-a",
            Self::ReservedFlags(packet) => flags_rule(packet),
            Self::PublishQoS3 => "MQTT-3.3.1-4",
            Self::DupWithQoS0 => "MQTT-3.3.1-2",
            Self::VariableByteIntegerTooLong | Self::VariableByteIntegerNotMinimal => {
                "MQTT-1.5.5-1"
            }
            Self::PacketTooLarge(_) => "U5-3.2.2.3.6-a",
            Self::TrailingBytes(PacketType::PingReq | PacketType::PingResp) => "U5-3.12-a",
            Self::Truncated(_) | Self::TrailingBytes(_) => "U5-2.1.4-a",
            Self::StringNotUtf8(Field::Property(PropertyId::UserProperty))
            | Self::StringHasNull(Field::Property(PropertyId::UserProperty)) => "MQTT-1.5.7-1",
            Self::StringNotUtf8(_) => "MQTT-1.5.4-1",
            Self::StringHasNull(_) => "MQTT-1.5.4-2",
            Self::PacketIdentifierZero => "MQTT-2.2.1-3",
            Self::PropertyUnknown(_)
            | Self::PropertyNotAllowed(..)
            | Self::PropertyNotAllowedInWill(_) => "U5-2.2.2.2-a",
            Self::PropertyFromWrongSide(id, _) => match id {
                PropertyId::SubscriptionIdentifier => "MQTT-3.3.4-6",
                PropertyId::SessionExpiryInterval => "MQTT-3.14.2-2",
                _ => "5.0 section 3.14.2.2.5",
            },
            Self::PropertyRepeated(id) => repeat_rule(id),
            Self::PropertyValueOutOfRange(id) => value_rule(id),
            Self::TopicAliasZero => "MQTT-3.3.2-8",
            Self::ResponseTopicWildcard => "MQTT-3.3.2-14",
            Self::AuthenticationDataWithoutMethod => "U5-3.1.2.11.9-a",
            Self::AuthenticationMethodMissing => "U5-3.15-a",
            Self::ReasonCodeUndefined(packet, _)
            | Self::ReasonCodeNotAllowed(packet, _)
            | Self::ReasonCodeFromWrongSide(packet, _) => reason_rule(packet),
            Self::NoReasonCode(PacketType::UnsubAck) => "MQTT-3.11.3-1",
            Self::NoReasonCode(_) => "MQTT-3.8.4-6",
            Self::ProtocolNameUnknown => "MQTT-3.1.2-1",
            Self::UnsupportedProtocolVersion(_) => "MQTT-3.1.2-2",
            Self::ConnectFlagReserved => "MQTT-3.1.2-3",
            Self::WillQoSWithoutWill => "MQTT-3.1.2-11",
            Self::WillQoS3 => "MQTT-3.1.2-12",
            Self::WillRetainWithoutWill => "MQTT-3.1.2-13",
            Self::PasswordWithoutUserName => "v3.1.1 MQTT-3.1.2-22",
            Self::WillTopicEmpty | Self::TopicNameEmpty => "MQTT-4.7.3-1",
            Self::WillTopicWildcard => "MQTT-4.7.0-1",
            Self::ConnAckFlagsReserved => "MQTT-3.2.2-1",
            Self::SessionPresentWithFailure => "MQTT-3.2.2-6",
            Self::TopicNameWildcard => "MQTT-3.3.2-2",
            Self::TopicNameEmptyWithoutAlias => "U5-3.3.2.1-a",
            Self::NoTopicFilter(PacketType::Unsubscribe) => "MQTT-3.10.3-2",
            Self::NoTopicFilter(_) => "MQTT-3.8.3-2",
            Self::SubscriptionOptionsReserved => "MQTT-3.8.3-5",
            Self::SubscriptionQoS3 | Self::RetainHandling3 => "U5-3.8.3.1-a",
            Self::NoLocalOnShared => "MQTT-3.8.3-4",
        }
    }
}

/// Which statement fixes the flags of a packet.
const fn flags_rule(packet: PacketType) -> &'static str {
    match packet {
        PacketType::PubRel => "MQTT-3.6.1-1",
        PacketType::Subscribe => "MQTT-3.8.1-1",
        PacketType::Unsubscribe => "MQTT-3.10.1-1",
        PacketType::Disconnect => "MQTT-3.14.1-1",
        PacketType::Auth => "MQTT-3.15.1-1",
        _ => "MQTT-2.1.3-1",
    }
}

/// Which statement lists the reason codes of a packet.
const fn reason_rule(packet: PacketType) -> &'static str {
    match packet {
        PacketType::PubAck => "MQTT-3.4.2-1",
        PacketType::PubRec => "MQTT-3.5.2-1",
        PacketType::PubRel => "MQTT-3.6.2-1",
        PacketType::PubComp => "MQTT-3.7.2-1",
        PacketType::SubAck => "MQTT-3.9.3-2",
        PacketType::UnsubAck => "MQTT-3.11.3-2",
        PacketType::Disconnect => "MQTT-3.14.2-1",
        PacketType::Auth => "MQTT-3.15.2-1",
        _ => "MQTT-3.2.2-8",
    }
}

/// Which statement forbids a property to be repeated.
const fn repeat_rule(id: PropertyId) -> &'static str {
    match id {
        PropertyId::SessionExpiryInterval => "U5-3.1.2.11.2-a",
        PropertyId::ReceiveMaximum => "U5-3.1.2.11.3-a",
        PropertyId::MaximumPacketSize => "U5-3.1.2.11.4-a",
        PropertyId::TopicAliasMaximum => "U5-3.1.2.11.5-a",
        PropertyId::RequestResponseInformation => "U5-3.1.2.11.6-a",
        PropertyId::RequestProblemInformation => "U5-3.1.2.11.7-a",
        PropertyId::AuthenticationMethod | PropertyId::AuthenticationData => "U5-3.1.2.11.9-a",
        PropertyId::WillDelayInterval => "U5-3.1.3.2-a",
        PropertyId::PayloadFormatIndicator
        | PropertyId::MessageExpiryInterval
        | PropertyId::ContentType
        | PropertyId::ResponseTopic
        | PropertyId::CorrelationData => "U5-3.3.2.3.5-a",
        PropertyId::TopicAlias => "U5-3.3.2.3.4-b",
        PropertyId::SubscriptionIdentifier => "U5-3.8.2.1.2-a",
        PropertyId::ReasonString => "U5-3.4.2.2.2-a",
        _ => "U5-3.2.2.3-a",
    }
}

/// Which statement bounds the values of a property.
const fn value_rule(id: PropertyId) -> &'static str {
    match id {
        PropertyId::PayloadFormatIndicator => "5.0 section 3.3.2.3.2",
        PropertyId::SubscriptionIdentifier => "U5-3.3.2.3.8-a",
        PropertyId::ReceiveMaximum => "U5-3.1.2.11.3-a",
        PropertyId::MaximumPacketSize => "U5-3.1.2.11.4-a",
        PropertyId::RequestResponseInformation => "U5-3.1.2.11.6-a",
        PropertyId::RequestProblemInformation => "U5-3.1.2.11.7-a",
        PropertyId::MaximumQoS => "U5-3.2.2.3.4-a",
        PropertyId::RetainAvailable => "5.0 section 3.2.2.3.5",
        PropertyId::WildcardSubscriptionAvailable => "5.0 section 3.2.2.3.11",
        PropertyId::SubscriptionIdentifierAvailable => "5.0 section 3.2.2.3.12",
        PropertyId::SharedSubscriptionAvailable => "5.0 section 3.2.2.3.13",
        _ => "U5-2.2.2.2-a",
    }
}

impl fmt::Display for DecodeError {
    /// What is wrong and where, in one sentence without the statement's id.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::PacketFromWrongSide(packet) => {
                write!(f, "{packet} may only be sent by the other side")
            }
            Self::ReservedFlags(packet) => write!(f, "{packet} has wrong flags in its first byte"),
            Self::PacketTooLarge(packet) => {
                write!(f, "{packet} is longer by its Remaining Length than this side accepts")
            }
            Self::Truncated(packet) => write!(f, "{packet} ends in the middle of a field"),
            Self::TrailingBytes(packet) => write!(f, "{packet} has bytes after its last field"),
            Self::StringNotUtf8(field) => write!(f, "{field} is not well-formed UTF-8"),
            Self::StringHasNull(field) => write!(f, "{field} contains the character U+0000"),
            Self::PropertyUnknown(id) => write!(f, "property identifier 0x{id:02X} is undefined"),
            Self::PropertyNotAllowed(id, packet) => write!(f, "{packet} may not carry {id}"),
            Self::PropertyNotAllowedInWill(id) => write!(f, "Will Properties may not carry {id}"),
            Self::PropertyFromWrongSide(id, packet) => {
                write!(f, "{id} in {packet} may only be sent by the other side")
            }
            Self::PropertyRepeated(id) => write!(f, "{id} occurs more than once"),
            Self::PropertyValueOutOfRange(id) => write!(f, "{id} has a value it may not have"),
            Self::ReasonCodeUndefined(packet, code) => {
                write!(f, "{packet} has the undefined code 0x{code:02X}")
            }
            Self::ReasonCodeNotAllowed(packet, reason) => {
                write!(f, "{packet} may not carry reason 0x{:02X} ({reason})", reason.code())
            }
            Self::ReasonCodeFromWrongSide(packet, reason) => {
                let code = reason.code();
                write!(
                    f,
                    "reason 0x{code:02X} ({reason}) in {packet} may only be sent by the other side"
                )
            }
            Self::NoReasonCode(packet) => write!(f, "{packet} has no reason code"),
            Self::UnsupportedProtocolVersion(level) => {
                write!(f, "protocol level {level} of CONNECT is not supported")
            }
            Self::NoTopicFilter(packet) => write!(f, "{packet} has no Topic Filter"),
            other => f.write_str(other.text()),
        }
    }
}

impl DecodeError {
    /// The sentence of a rule without particulars.
    const fn text(self) -> &'static str {
        match self {
            Self::FirstPacketNotConnect => "the first packet is not CONNECT",
            Self::PacketTypeReserved => "the packet type is reserved",
            Self::PublishQoS3 => "PUBLISH has both QoS bits set",
            Self::DupWithQoS0 => "PUBLISH has DUP set with QoS 0",
            Self::VariableByteIntegerTooLong => "a Variable Byte Integer has more than four bytes",
            Self::VariableByteIntegerNotMinimal => {
                "a Variable Byte Integer has more bytes than its value needs"
            }
            Self::PacketIdentifierZero => "the Packet Identifier is 0",
            Self::TopicAliasZero => "the Topic Alias is 0",
            Self::ResponseTopicWildcard => "the Response Topic contains a wildcard",
            Self::AuthenticationDataWithoutMethod => {
                "CONNECT has Authentication Data but no Authentication Method"
            }
            Self::AuthenticationMethodMissing => "AUTH has no Authentication Method",
            Self::ProtocolNameUnknown => {
                "the protocol name of CONNECT is neither \"MQTT\" nor \"MQIsdp\""
            }
            Self::ConnectFlagReserved => "the reserved bit of the Connect Flags is set",
            Self::WillQoSWithoutWill => "CONNECT has a Will QoS but no Will",
            Self::WillQoS3 => "the Will QoS of CONNECT is 3",
            Self::WillRetainWithoutWill => "CONNECT has Will Retain but no Will",
            Self::PasswordWithoutUserName => "CONNECT has a password but no user name",
            Self::WillTopicEmpty => "the Will Topic is empty",
            Self::WillTopicWildcard => "the Will Topic contains a wildcard",
            Self::ConnAckFlagsReserved => "reserved acknowledge flags of CONNACK are set",
            Self::SessionPresentWithFailure => "CONNACK has Session Present but refuses",
            Self::TopicNameWildcard => "the Topic Name of PUBLISH contains a wildcard",
            Self::TopicNameEmpty => "the Topic Name of PUBLISH is empty",
            Self::TopicNameEmptyWithoutAlias => {
                "PUBLISH has neither a Topic Name nor a Topic Alias"
            }
            Self::SubscriptionOptionsReserved => {
                "reserved bits of the Subscription Options are set"
            }
            Self::SubscriptionQoS3 => "the Maximum QoS of the Subscription Options is 3",
            Self::RetainHandling3 => "the Retain Handling of the Subscription Options is 3",
            Self::NoLocalOnShared => "No Local is set for a Shared Subscription",
            _ => "",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientIdentifier => f.write_str("the Client Identifier"),
            Self::WillTopic => f.write_str("the Will Topic"),
            Self::UserName => f.write_str("the User Name"),
            Self::TopicName => f.write_str("the Topic Name"),
            Self::TopicFilter => f.write_str("a Topic Filter"),
            Self::Property(id) => write!(f, "the property {id}"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// Why a message cannot be laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EncodeError {
    /// The topic is longer than 65,535 bytes.
    TopicTooLong,
    /// A string or data in a property is longer than 65,535 bytes.
    ValueTooLong,
    /// A property that may not travel with a message.
    PropertyNotAllowed,
    /// A property that may occur once occurs twice.
    PropertyRepeated,
    /// Topic, properties and payload together are more than one packet holds, 268,435,455 bytes.
    MessageTooLarge,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TopicTooLong => "the topic is longer than 65,535 bytes",
            Self::ValueTooLong => "a value in a property is longer than 65,535 bytes",
            Self::PropertyNotAllowed => "a property that does not travel with a message",
            Self::PropertyRepeated => "a property that may occur only once is repeated",
            Self::MessageTooLarge => "the message does not fit a packet of 268,435,455 bytes",
        })
    }
}

impl core::error::Error for EncodeError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// The statement that is named stands in the section that defines the property.
    #[test]
    fn rules_are_those_of_the_section_of_the_property() {
        for (id, section) in [
            (PropertyId::SessionExpiryInterval, "3.1.2.11.2"),
            (PropertyId::ReceiveMaximum, "3.1.2.11.3"),
            (PropertyId::MaximumPacketSize, "3.1.2.11.4"),
            (PropertyId::TopicAliasMaximum, "3.1.2.11.5"),
            (PropertyId::RequestResponseInformation, "3.1.2.11.6"),
            (PropertyId::RequestProblemInformation, "3.1.2.11.7"),
            (PropertyId::AuthenticationMethod, "3.1.2.11.9"),
            (PropertyId::WillDelayInterval, "3.1.3.2"),
            (PropertyId::TopicAlias, "3.3.2.3.4"),
            (PropertyId::ReasonString, "3.4.2.2.2"),
        ] {
            assert!(repeat_rule(id).contains(&alloc::format!("-{section}-")), "{id:?}");
        }
        for (id, section) in [
            (PropertyId::WildcardSubscriptionAvailable, "3.2.2.3.11"),
            (PropertyId::SubscriptionIdentifierAvailable, "3.2.2.3.12"),
            (PropertyId::SharedSubscriptionAvailable, "3.2.2.3.13"),
        ] {
            assert!(value_rule(id).ends_with(section), "{id:?}");
        }
    }
}
