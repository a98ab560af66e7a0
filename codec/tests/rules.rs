//! Every rule that one packet can break: the bytes, the error, the reason for the peer and the
//! statement for the log.

mod common;

use std::collections::BTreeSet;

use codec::{
    DecodeError, Field, Packet,
    PacketType::{
        self, Auth, ConnAck, Connect, Disconnect, PingReq, PubAck, PubRel, Publish, SubAck,
        Subscribe, UnsubAck, Unsubscribe,
    },
    PropertyId,
    ProtocolVersion::{self, V5, V31, V311},
    ReasonCode,
    Sender::{self, Client, Server},
};
use common::{connect_bytes, decode, framer, hex};

/// One broken rule: who sends what in which version, and what comes of it.
type Trace = (ProtocolVersion, Sender, &'static str, DecodeError, u8, &'static str);

#[rustfmt::skip]
const FIXED_HEADER: &[Trace] = &[
    (V5, Client, "00 00", DecodeError::PacketTypeReserved, 0x81, "U5-2.1.2-a"),
    (V311, Client, "F0 00", DecodeError::PacketTypeReserved, 0x81, "U5-2.1.2-a"),
    (V31, Server, "F0 00", DecodeError::PacketTypeReserved, 0x81, "U5-2.1.2-a"),
    (V5, Client, "20 03 00 00 00", DecodeError::PacketFromWrongSide(ConnAck), 0x82, "U5-2.1.2-a"),
    (V311, Client, "90 03 00 01 00", DecodeError::PacketFromWrongSide(SubAck), 0x82, "U5-2.1.2-a"),
    (V5, Client, "B0 04 00 01 00 00", DecodeError::PacketFromWrongSide(UnsubAck), 0x82, "U5-2.1.2-a"),
    (V31, Client, "D0 00", DecodeError::PacketFromWrongSide(PacketType::PingResp), 0x82, "U5-2.1.2-a"),
    (V5, Server, "C0 00", DecodeError::PacketFromWrongSide(PingReq), 0x82, "U5-2.1.2-a"),
    (V5, Server, "10 00", DecodeError::PacketFromWrongSide(Connect), 0x82, "U5-2.1.2-a"),
    (V311, Server, "E0 00", DecodeError::PacketFromWrongSide(Disconnect), 0x82, "U5-2.1.2-a"),
    (V5, Client, "41 02 00 01", DecodeError::ReservedFlags(PubAck), 0x81, "MQTT-2.1.3-1"),
    (V5, Client, "60 02 00 01", DecodeError::ReservedFlags(PubRel), 0x81, "MQTT-3.6.1-1"),
    (V311, Client, "6A 02 00 01", DecodeError::ReservedFlags(PubRel), 0x81, "MQTT-3.6.1-1"),
    (V31, Client, "68 02 00 01", DecodeError::ReservedFlags(PubRel), 0x81, "MQTT-3.6.1-1"),
    (V5, Client, "80 07 00 01 00 00 01 61 00", DecodeError::ReservedFlags(Subscribe), 0x81, "MQTT-3.8.1-1"),
    (V5, Client, "A3 06 00 01 00 00 01 61", DecodeError::ReservedFlags(Unsubscribe), 0x81, "MQTT-3.10.1-1"),
    (V5, Client, "E1 00", DecodeError::ReservedFlags(Disconnect), 0x81, "MQTT-3.14.1-1"),
    (V5, Client, "F8 00", DecodeError::ReservedFlags(Auth), 0x81, "MQTT-3.15.1-1"),
    (V5, Client, r#"36 05 00 01 "t" 00 01"#, DecodeError::PublishQoS3, 0x81, "MQTT-3.3.1-4"),
    (V311, Client, r#"38 03 00 01 "t""#, DecodeError::DupWithQoS0, 0x81, "MQTT-3.3.1-2"),
    (V5, Server, r#"38 04 00 01 "t" 00"#, DecodeError::DupWithQoS0, 0x81, "MQTT-3.3.1-2"),
    (V5, Client, "30 80 80 80 80 01", DecodeError::VariableByteIntegerTooLong, 0x81, "MQTT-1.5.5-1"),
    (V5, Client, "C0 80 00", DecodeError::VariableByteIntegerNotMinimal, 0x81, "MQTT-1.5.5-1"),
    (V311, Client, "30 81 80 40", DecodeError::PacketTooLarge(Publish), 0x95, "U5-3.2.2.3.6-a"),
];

#[rustfmt::skip]
const LENGTHS_AND_STRINGS: &[Trace] = &[
    (V5, Client, "C0 01 00", DecodeError::TrailingBytes(PingReq), 0x81, "U5-3.12-a"),
    (V311, Client, "E0 01 00", DecodeError::TrailingBytes(Disconnect), 0x81, "U5-2.1.4-a"),
    (V311, Client, "40 03 00 01 00", DecodeError::TrailingBytes(PubAck), 0x81, "U5-2.1.4-a"),
    (V5, Client, "40 05 00 01 00 00 00", DecodeError::TrailingBytes(PubAck), 0x81, "U5-2.1.4-a"),
    (V311, Server, "B0 03 00 01 00", DecodeError::TrailingBytes(UnsubAck), 0x81, "U5-2.1.4-a"),
    (V5, Client, "40 01 00", DecodeError::Truncated(PubAck), 0x81, "U5-2.1.4-a"),
    (V5, Client, r#"30 02 00 05"#, DecodeError::Truncated(Publish), 0x81, "U5-2.1.4-a"),
    (V5, Client, r#"30 03 00 01 "t""#, DecodeError::Truncated(Publish), 0x81, "U5-2.1.4-a"),
    (V5, Client, r#"30 06 00 01 "t" 03 01 00"#, DecodeError::Truncated(Publish), 0x81, "U5-2.1.4-a"),
    // Message Expiry Interval reaches beyond the properties into the payload.
    (V5, Client, r#"30 0A 00 01 "t" 02 02 00 00 00 00 00"#, DecodeError::Truncated(Publish), 0x81, "U5-2.1.4-a"),
    // A Property Length of two bytes, cut.
    (V5, Client, r#"30 04 00 01 "t" 80"#, DecodeError::Truncated(Publish), 0x81, "U5-2.1.4-a"),
    (V5, Client, r#"30 05 00 01 "t" 80 00"#, DecodeError::VariableByteIntegerNotMinimal, 0x81, "MQTT-1.5.5-1"),
    (V5, Client, "F0 01 18", DecodeError::Truncated(Auth), 0x81, "U5-2.1.4-a"),
    (V5, Client, "82 06 00 01 00 00 01 61", DecodeError::Truncated(Subscribe), 0x81, "U5-2.1.4-a"),
    (V5, Client, "32 06 00 01 61 00 00 00", DecodeError::PacketIdentifierZero, 0x81, "MQTT-2.2.1-3"),
    (V311, Client, "82 06 00 00 00 01 61 00", DecodeError::PacketIdentifierZero, 0x81, "MQTT-2.2.1-3"),
    (V5, Client, "50 02 00 00", DecodeError::PacketIdentifierZero, 0x81, "MQTT-2.2.1-3"),
    (V5, Client, "30 05 00 02 C0 80 00", DecodeError::StringNotUtf8(Field::TopicName), 0x81, "MQTT-1.5.4-1"),
    (V311, Client, "30 05 00 03 ED A0 80", DecodeError::StringNotUtf8(Field::TopicName), 0x81, "MQTT-1.5.4-1"),
    (V5, Client, "30 05 00 02 61 00 00", DecodeError::StringHasNull(Field::TopicName), 0x81, "MQTT-1.5.4-2"),
    (V31, Client, "82 06 00 01 00 01 00 00", DecodeError::StringHasNull(Field::TopicFilter), 0x81, "MQTT-1.5.4-2"),
    (V5, Client, "A2 06 00 01 00 00 01 80", DecodeError::StringNotUtf8(Field::TopicFilter), 0x81, "MQTT-1.5.4-1"),
    (V5, Client, "E0 0A 00 08 26 00 01 61 00 02 C3 28", DecodeError::StringNotUtf8(Field::Property(PropertyId::UserProperty)), 0x81, "MQTT-1.5.7-1"),
    (V5, Client, "E0 09 00 07 26 00 01 00 00 01 61", DecodeError::StringHasNull(Field::Property(PropertyId::UserProperty)), 0x81, "MQTT-1.5.7-1"),
    (V5, Client, "E0 06 00 04 1F 00 01 00", DecodeError::StringHasNull(Field::Property(PropertyId::ReasonString)), 0x81, "MQTT-1.5.4-2"),
];

#[rustfmt::skip]
const PUBLISH_AND_PROPERTIES: &[Trace] = &[
    (V5, Client, r#"30 06 00 03 "a/+" 00"#, DecodeError::TopicNameWildcard, 0x90, "MQTT-3.3.2-2"),
    (V311, Client, "30 03 00 01 23", DecodeError::TopicNameWildcard, 0x90, "MQTT-3.3.2-2"),
    (V311, Client, "30 02 00 00", DecodeError::TopicNameEmpty, 0x82, "MQTT-4.7.3-1"),
    (V5, Client, "30 03 00 00 00", DecodeError::TopicNameEmptyWithoutAlias, 0x82, "U5-3.3.2.1-a"),
    (V5, Client, r#"30 07 00 01 "t" 03 23 00 00"#, DecodeError::TopicAliasZero, 0x94, "MQTT-3.3.2-8"),
    (V5, Client, r#"30 06 00 01 "t" 02 0B 01"#, DecodeError::PropertyFromWrongSide(PropertyId::SubscriptionIdentifier, Publish), 0x82, "MQTT-3.3.4-6"),
    (V5, Server, r#"30 06 00 01 "t" 02 0B 00"#, DecodeError::PropertyValueOutOfRange(PropertyId::SubscriptionIdentifier), 0x82, "U5-3.3.2.3.8-a"),
    (V5, Client, r#"30 06 00 01 "t" 02 01 02"#, DecodeError::PropertyValueOutOfRange(PropertyId::PayloadFormatIndicator), 0x82, "5.0 section 3.3.2.3.2"),
    (V5, Client, r#"30 08 00 01 "t" 04 01 01 01 01"#, DecodeError::PropertyRepeated(PropertyId::PayloadFormatIndicator), 0x82, "U5-3.3.2.3.5-a"),
    (V5, Client, r#"30 08 00 01 "t" 04 08 00 01 "+""#, DecodeError::ResponseTopicWildcard, 0x82, "MQTT-3.3.2-14"),
    (V5, Client, r#"30 06 00 01 "t" 02 04 00"#, DecodeError::PropertyUnknown(4), 0x81, "U5-2.2.2.2-a"),
    (V5, Client, r#"30 07 00 01 "t" 03 80 01 00"#, DecodeError::PropertyUnknown(128), 0x81, "U5-2.2.2.2-a"),
    (V5, Client, r#"30 07 00 01 "t" 03 21 00 01"#, DecodeError::PropertyNotAllowed(PropertyId::ReceiveMaximum, Publish), 0x81, "U5-2.2.2.2-a"),
    (V5, Client, "E0 07 00 05 1C 00 02 61 62", DecodeError::PropertyFromWrongSide(PropertyId::ServerReference, Disconnect), 0x82, "5.0 section 3.14.2.2.5"),
    (V5, Server, "E0 07 00 05 11 00 00 00 01", DecodeError::PropertyFromWrongSide(PropertyId::SessionExpiryInterval, Disconnect), 0x82, "MQTT-3.14.2-2"),
    (V5, Server, "20 05 00 00 02 24 02", DecodeError::PropertyValueOutOfRange(PropertyId::MaximumQoS), 0x82, "U5-3.2.2.3.4-a"),
    (V5, Server, "20 05 00 00 02 25 02", DecodeError::PropertyValueOutOfRange(PropertyId::RetainAvailable), 0x82, "5.0 section 3.2.2.3.5"),
    (V5, Client, "82 09 00 01 02 0B 00 00 01 61 00", DecodeError::PropertyValueOutOfRange(PropertyId::SubscriptionIdentifier), 0x82, "U5-3.3.2.3.8-a"),
    (V5, Client, "82 0B 00 01 04 0B 01 0B 02 00 01 61 00", DecodeError::PropertyRepeated(PropertyId::SubscriptionIdentifier), 0x82, "U5-3.8.2.1.2-a"),
    (V5, Client, "82 0C 00 01 05 0B 80 80 80 80 00 01 61 00", DecodeError::VariableByteIntegerTooLong, 0x81, "MQTT-1.5.5-1"),
];

#[rustfmt::skip]
const ACKNOWLEDGEMENTS: &[Trace] = &[
    (V5, Client, "40 03 00 01 05", DecodeError::ReasonCodeUndefined(PubAck, 5), 0x81, "MQTT-3.4.2-1"),
    (V5, Client, "50 03 00 01 8B", DecodeError::ReasonCodeNotAllowed(PacketType::PubRec, ReasonCode::ServerShuttingDown), 0x82, "MQTT-3.5.2-1"),
    (V5, Client, "62 03 00 01 10", DecodeError::ReasonCodeNotAllowed(PubRel, ReasonCode::NoMatchingSubscribers), 0x82, "MQTT-3.6.2-1"),
    (V5, Client, "70 03 00 01 80", DecodeError::ReasonCodeNotAllowed(PacketType::PubComp, ReasonCode::UnspecifiedError), 0x82, "MQTT-3.7.2-1"),
    (V5, Client, "40 03 00 01 10", DecodeError::ReasonCodeFromWrongSide(PubAck, ReasonCode::NoMatchingSubscribers), 0x82, "MQTT-3.4.2-1"),
    (V5, Client, "E0 01 8E", DecodeError::ReasonCodeFromWrongSide(Disconnect, ReasonCode::SessionTakenOver), 0x82, "MQTT-3.14.2-1"),
    (V5, Server, "E0 01 04", DecodeError::ReasonCodeFromWrongSide(Disconnect, ReasonCode::DisconnectWithWill), 0x82, "MQTT-3.14.2-1"),
    (V5, Server, "90 04 00 01 00 03", DecodeError::ReasonCodeUndefined(SubAck, 3), 0x81, "MQTT-3.9.3-2"),
    (V311, Server, "90 03 00 01 87", DecodeError::ReasonCodeUndefined(SubAck, 0x87), 0x81, "MQTT-3.9.3-2"),
    (V5, Server, "B0 04 00 01 00 01", DecodeError::ReasonCodeNotAllowed(UnsubAck, ReasonCode::GrantedQoS1), 0x82, "MQTT-3.11.3-2"),
    (V311, Server, "20 02 00 06", DecodeError::ReasonCodeUndefined(ConnAck, 6), 0x81, "MQTT-3.2.2-8"),
    (V5, Server, "20 03 02 00 00", DecodeError::ConnAckFlagsReserved, 0x81, "MQTT-3.2.2-1"),
    (V5, Server, "20 03 01 87 00", DecodeError::SessionPresentWithFailure, 0x82, "MQTT-3.2.2-6"),
    (V311, Server, "20 02 01 05", DecodeError::SessionPresentWithFailure, 0x82, "MQTT-3.2.2-6"),
    (V5, Server, "90 03 00 01 00", DecodeError::NoReasonCode(SubAck), 0x82, "MQTT-3.8.4-6"),
    (V5, Server, "B0 03 00 01 00", DecodeError::NoReasonCode(UnsubAck), 0x82, "MQTT-3.11.3-1"),
    (V5, Client, "F0 00", DecodeError::AuthenticationMethodMissing, 0x82, "U5-3.15-a"),
    (V5, Server, "F0 02 18 00", DecodeError::AuthenticationMethodMissing, 0x82, "U5-3.15-a"),
    (V5, Client, "F0 06 00 04 15 00 01 6D", DecodeError::ReasonCodeFromWrongSide(Auth, ReasonCode::Success), 0x82, "MQTT-3.15.2-1"),
];

#[rustfmt::skip]
const SUBSCRIBE_AND_UNSUBSCRIBE: &[Trace] = &[
    (V5, Client, "82 03 00 01 00", DecodeError::NoTopicFilter(Subscribe), 0x82, "MQTT-3.8.3-2"),
    (V31, Client, "82 02 00 01", DecodeError::NoTopicFilter(Subscribe), 0x82, "MQTT-3.8.3-2"),
    (V311, Client, "A2 02 00 01", DecodeError::NoTopicFilter(Unsubscribe), 0x82, "MQTT-3.10.3-2"),
    (V5, Client, "82 07 00 01 00 00 01 61 40", DecodeError::SubscriptionOptionsReserved, 0x81, "MQTT-3.8.3-5"),
    (V311, Client, "82 06 00 01 00 01 61 04", DecodeError::SubscriptionOptionsReserved, 0x81, "MQTT-3.8.3-5"),
    (V5, Client, "82 07 00 01 00 00 01 61 03", DecodeError::SubscriptionQoS3, 0x82, "U5-3.8.3.1-a"),
    (V5, Client, "82 07 00 01 00 00 01 61 30", DecodeError::RetainHandling3, 0x82, "U5-3.8.3.1-a"),
    (V5, Client, r#"82 10 00 01 00 00 0A "$share/g/a" 04"#, DecodeError::NoLocalOnShared, 0x82, "MQTT-3.8.3-4"),
];

/// CONNECT packets; version and side are without meaning here.
#[rustfmt::skip]
const CONNECTS: &[(&str, DecodeError, u8, &str)] = &[
    ("C0 00", DecodeError::FirstPacketNotConnect, 0x82, "MQTT-3.1.0-1"),
    (r#""GET / HTTP/1.1""#, DecodeError::FirstPacketNotConnect, 0x82, "MQTT-3.1.0-1"),
    (r#"10 0D 00 04 "MQTX" 04 02 00 3C 00 01 "c""#, DecodeError::ProtocolNameUnknown, 0x84, "MQTT-3.1.2-1"),
    (r#"10 09 00 00 04 02 00 3C 00 01 "c""#, DecodeError::ProtocolNameUnknown, 0x84, "MQTT-3.1.2-1"),
    (r#"10 0D 00 04 "MQTT" 06 02 00 3C 00 01 "c""#, DecodeError::UnsupportedProtocolVersion(6), 0x84, "MQTT-3.1.2-2"),
    (r#"10 0D 00 04 "MQTT" 03 02 00 3C 00 01 "c""#, DecodeError::UnsupportedProtocolVersion(3), 0x84, "MQTT-3.1.2-2"),
    (r#"10 0D 00 04 "MQTT" 85 02 00 3C 00 01 "c""#, DecodeError::UnsupportedProtocolVersion(0x85), 0x84, "MQTT-3.1.2-2"),
    (r#"10 0F 00 06 "MQIsdp" 04 02 00 3C 00 01 "c""#, DecodeError::UnsupportedProtocolVersion(4), 0x84, "MQTT-3.1.2-2"),
    (r#"11 0D 00 04 "MQTT" 04 02 00 3C 00 01 "c""#, DecodeError::ReservedFlags(Connect), 0x81, "MQTT-2.1.3-1"),
    (r#"10 0D 00 04 "MQTT" 04 03 00 3C 00 01 "c""#, DecodeError::ConnectFlagReserved, 0x81, "MQTT-3.1.2-3"),
    (r#"10 0D 00 04 "MQTT" 04 0A 00 3C 00 01 "c""#, DecodeError::WillQoSWithoutWill, 0x81, "MQTT-3.1.2-11"),
    (r#"10 13 00 04 "MQTT" 04 1E 00 3C 00 01 "c" 00 01 "w" 00 01 "p""#, DecodeError::WillQoS3, 0x81, "MQTT-3.1.2-12"),
    (r#"10 0D 00 04 "MQTT" 04 22 00 3C 00 01 "c""#, DecodeError::WillRetainWithoutWill, 0x81, "MQTT-3.1.2-13"),
    (r#"10 10 00 04 "MQTT" 04 42 00 3C 00 01 "c" 00 01 "p""#, DecodeError::PasswordWithoutUserName, 0x81, "v3.1.1 MQTT-3.1.2-22"),
    (r#"10 0D 00 04 "MQTT" 04 06 00 3C 00 01 "c""#, DecodeError::Truncated(Connect), 0x81, "U5-2.1.4-a"),
    (r#"10 0D 00 04 "MQTT" 04 82 00 3C 00 01 "c""#, DecodeError::Truncated(Connect), 0x81, "U5-2.1.4-a"),
    (r#"10 0B 00 04 "MQTT" 05 02 00 3C 00"#, DecodeError::Truncated(Connect), 0x81, "U5-2.1.4-a"),
    (r#"10 0E 00 04 "MQTT" 04 02 00 3C 00 01 "c" 00"#, DecodeError::TrailingBytes(Connect), 0x81, "U5-2.1.4-a"),
    (r#"10 0D 00 04 "MQTT" 04 02 00 3C 00 01 00"#, DecodeError::StringHasNull(Field::ClientIdentifier), 0x81, "MQTT-1.5.4-2"),
    (r#"10 10 00 04 "MQTT" 04 82 00 3C 00 01 "c" 00 01 FF"#, DecodeError::StringNotUtf8(Field::UserName), 0x81, "MQTT-1.5.4-1"),
    (r#"10 13 00 04 "MQTT" 04 06 00 3C 00 01 "c" 00 01 FF 00 01 "p""#, DecodeError::StringNotUtf8(Field::WillTopic), 0x81, "MQTT-1.5.4-1"),
    (r#"10 12 00 04 "MQTT" 04 06 00 3C 00 01 "c" 00 00 00 01 "p""#, DecodeError::WillTopicEmpty, 0x90, "MQTT-4.7.3-1"),
    (r#"10 13 00 04 "MQTT" 04 06 00 3C 00 01 "c" 00 01 "+" 00 01 "p""#, DecodeError::WillTopicWildcard, 0x90, "MQTT-4.7.0-1"),
    (r#"10 18 00 04 "MQTT" 05 06 00 3C 00 00 01 "c" 03 23 00 01 00 01 "w" 00 01 "p""#, DecodeError::PropertyNotAllowedInWill(PropertyId::TopicAlias), 0x81, "U5-2.2.2.2-a"),
    (r#"10 11 00 04 "MQTT" 05 02 00 3C 03 21 00 00 00 01 "c""#, DecodeError::PropertyValueOutOfRange(PropertyId::ReceiveMaximum), 0x82, "U5-3.1.2.11.3-a"),
    (r#"10 13 00 04 "MQTT" 05 02 00 3C 05 27 00 00 00 00 00 01 "c""#, DecodeError::PropertyValueOutOfRange(PropertyId::MaximumPacketSize), 0x82, "U5-3.1.2.11.4-a"),
    (r#"10 10 00 04 "MQTT" 05 02 00 3C 02 17 02 00 01 "c""#, DecodeError::PropertyValueOutOfRange(PropertyId::RequestProblemInformation), 0x82, "U5-3.1.2.11.7-a"),
    (r#"10 10 00 04 "MQTT" 05 02 00 3C 02 19 02 00 01 "c""#, DecodeError::PropertyValueOutOfRange(PropertyId::RequestResponseInformation), 0x82, "U5-3.1.2.11.6-a"),
    (r#"10 12 00 04 "MQTT" 05 02 00 3C 04 16 00 01 "d" 00 01 "c""#, DecodeError::AuthenticationDataWithoutMethod, 0x82, "U5-3.1.2.11.9-a"),
];

fn judge(error: DecodeError, expected: DecodeError, reason: u8, rule: &str, context: &str) {
    assert_eq!(error, expected, "{context}");
    assert_eq!(error.reason().code(), reason, "{context}");
    assert_eq!(error.rule(), rule, "{context}");
}

fn traces() -> impl Iterator<Item = &'static Trace> {
    [
        FIXED_HEADER,
        LENGTHS_AND_STRINGS,
        PUBLISH_AND_PROPERTIES,
        ACKNOWLEDGEMENTS,
        SUBSCRIBE_AND_UNSUBSCRIBE,
    ]
    .into_iter()
    .flatten()
}

#[test]
pub(crate) fn a_broken_rule_is_named() {
    for (version, sender, bytes, expected, reason, rule) in traces() {
        // What follows is not looked at.
        let input = [hex(bytes), hex("C0 00")].concat();
        let error = framer(*version, *sender).decode(&mut &input[..]);
        let context = format!("{version:?} {sender:?} {bytes}");
        judge(error.expect_err(&context), *expected, *reason, rule, &context);
    }
}

#[test]
pub(crate) fn a_broken_rule_of_connect_is_named() {
    for (bytes, expected, reason, rule) in CONNECTS {
        let mut framer = codec::Framer::new(codec::Role::Server, 1000, 1000);
        let error = framer.decode(&mut &hex(bytes)[..]).expect_err(bytes);
        judge(error, *expected, *reason, rule, bytes);
    }
}

/// The error's name in the source, without what it carries.
fn variant(error: &DecodeError) -> String {
    let text = format!("{error:?}");
    text.split('(').next().expect("a name").to_owned()
}

#[test]
pub(crate) fn every_rule_has_a_trace_and_a_sentence() {
    let errors: Vec<DecodeError> =
        traces().map(|trace| trace.3).chain(CONNECTS.iter().map(|trace| trace.1)).collect();
    let source = include_str!("../src/error.rs");
    let body = source.split("pub enum DecodeError {").nth(1).expect("the enum");
    let body = body.split("\n}").next().expect("its end");
    let names = body.lines().map(str::trim).filter(|line| line.starts_with(char::is_uppercase));
    let variants: BTreeSet<String> =
        names.map(|line| line.split(['(', ',']).next().expect("a name").to_owned()).collect();
    assert!(variants.len() > 40);
    assert_eq!(errors.iter().map(variant).collect::<BTreeSet<_>>(), variants);
    let sentences: BTreeSet<String> = errors.iter().map(ToString::to_string).collect();
    assert!(!sentences.contains(""));
    assert_eq!(sentences.len(), errors.iter().collect::<BTreeSet<_>>().len(), "no two are alike");
}

#[test]
pub(crate) fn a_sentence_says_what_and_where() {
    for (error, sentence) in [
        (DecodeError::Truncated(Publish), "PUBLISH ends in the middle of a field"),
        (
            DecodeError::StringNotUtf8(Field::Property(PropertyId::ContentType)),
            "the property Content Type is not well-formed UTF-8",
        ),
        (
            DecodeError::ReasonCodeNotAllowed(PubAck, ReasonCode::ServerMoved),
            "PUBACK may not carry reason 0x9D (Server moved)",
        ),
        (DecodeError::ReasonCodeUndefined(Auth, 0x1A), "AUTH has the undefined code 0x1A"),
        (DecodeError::PropertyUnknown(4), "property identifier 0x04 is undefined"),
    ] {
        assert_eq!(error.to_string(), sentence);
    }
}

#[test]
pub(crate) fn every_wrong_flag_of_the_fixed_header_is_refused() {
    for (version, first) in [(V31, 0x10), (V311, 0x10), (V5, 0x10)]
        .into_iter()
        .chain([0x40, 0x50, 0x62, 0x70, 0x82, 0xA2, 0xC0, 0xE0].map(|first| (V311, first)))
        .chain([0x40, 0x50, 0x62, 0x70, 0x82, 0xA2, 0xC0, 0xE0, 0xF0].map(|first| (V5, first)))
    {
        let packet = PacketType::from_bits(first >> 4).expect("a type");
        for flags in (0..16).filter(|flags| *flags != first & 0x0F) {
            let decoded = if packet == Connect {
                let mut bytes = connect_bytes(version);
                bytes[0] = 0x10 | flags;
                codec::Framer::new(codec::Role::Server, 99, 99).decode(&mut &bytes[..])
            } else {
                framer(version, Client).decode(&mut &[(first & 0xF0) | flags][..])
            };
            if (version, packet) == (V31, Connect) {
                assert!(matches!(decoded, Ok(Some(Packet::Connect(_)))));
            } else {
                assert_eq!(decoded, Err(DecodeError::ReservedFlags(packet)), "{first:02X} {flags}");
            }
        }
    }
}

#[test]
pub(crate) fn what_3_1_leaves_open_is_accepted() {
    // PUBREL, SUBSCRIBE and UNSUBSCRIBE sent again with DUP, a PUBLISH with DUP and QoS 0.
    for bytes in
        ["6A 02 00 01", "8A 06 00 01 00 01 61 01", "AA 05 00 01 00 01 61", "38 03 00 01 61"]
    {
        assert!(decode(V31, Client, &hex(bytes)).is_ok(), "{bytes}");
        assert!(framer(V311, Client).decode(&mut &hex(bytes)[..]).is_err(), "{bytes}");
    }
    // Flags that announce a user name and a password which are not there; the reserved flag.
    let bytes = hex(r#"10 0F 00 06 "MQIsdp" 03 C3 00 3C 00 01 "c""#);
    let mut framer = codec::Framer::new(codec::Role::Server, 99, 99);
    let Ok(Some(Packet::Connect(connect))) = framer.decode(&mut &bytes[..]) else { panic!() };
    assert_eq!((connect.user_name, connect.password), (None, None));
    // The reserved byte of a CONNACK.
    assert!(decode(V31, Server, &hex("20 02 FF 00")).is_ok());
}
