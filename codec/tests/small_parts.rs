//! Small parts that larger tests pass by.

use codec::{
    Auth, Frame, Framer, Message, Packet, PacketType, Properties, Property, PropertyId,
    ProtocolVersion, ReasonCode, Role, Sender,
};

/// The longest string or Binary Data, bytes.
const LONGEST: usize = 65_535;

#[test]
fn reason_codes_from_0x80_on_are_errors() {
    for reason in (0..=255).filter_map(ReasonCode::from_u8) {
        assert_eq!(reason.is_error(), reason.code() >= 0x80, "{reason:?}");
    }
}

#[test]
fn a_property_comes_only_from_the_side_that_sends_its_packet() {
    let id = PropertyId::UserProperty;
    for packet in [PacketType::Connect, PacketType::Subscribe, PacketType::Unsubscribe] {
        assert!(
            id.allowed_from(Sender::Client, packet) && !id.allowed_from(Sender::Server, packet)
        );
    }
    for packet in [PacketType::ConnAck, PacketType::SubAck, PacketType::UnsubAck] {
        assert!(
            id.allowed_from(Sender::Server, packet) && !id.allowed_from(Sender::Client, packet)
        );
    }
}

#[test]
fn properties_are_read_and_removed_in_order() {
    let all = [Property::TopicAlias(1), Property::ReceiveMaximum(2), Property::TopicAlias(3)];
    let mut properties: Properties = all.iter().cloned().collect();
    assert!((&properties).into_iter().eq(&all));
    properties.retain(|property| matches!(property, Property::TopicAlias(_)));
    assert!(properties.iter().eq([&all[0], &all[2]]));
}

/// A message with one property, which has a string or data of this length.
fn with_long(len: usize, property: impl Fn(String) -> Property) -> Result<Message, String> {
    let properties: Properties = [property("x".repeat(len))].into_iter().collect();
    Message::new("t", &properties, b"").map_err(|error| error.to_string())
}

#[test]
fn strings_and_data_are_as_long_as_two_bytes_can_tell() {
    type Make = fn(String) -> Property;
    let all: [Make; 4] = [
        |text| Property::ContentType(text.into()),
        |text| Property::CorrelationData(text.into_bytes().into()),
        |text| Property::UserProperty(text.into(), "".into()),
        |text| Property::UserProperty("".into(), text.into()),
    ];
    for property in all {
        assert!(with_long(LONGEST, property).is_ok());
        let error = with_long(LONGEST + 1, property).expect_err("it does not fit");
        assert!(error.contains("65,535") || error.contains("65535"), "{error:?} says how long");
    }
}

/// No side may send the short form, since the method is missing; others may ask for its bytes.
#[test]
fn an_auth_that_says_nothing_but_success_has_no_body() {
    let method = Property::AuthenticationMethod("m".into());
    for (reason, property, bytes) in [
        (ReasonCode::Success, None, &[0xF0, 0][..]),
        (ReasonCode::Success, Some(method), &[0xF0, 6, 0, 4, 0x15, 0, 1, b'm']),
        (ReasonCode::ContinueAuthentication, None, &[0xF0, 2, 0x18, 0]),
    ] {
        let auth = Auth { reason, properties: property.into_iter().collect() };
        let packet = Packet::Auth(Box::new(auth));
        let mut encoded = Vec::new();
        packet.encode(ProtocolVersion::V5, &mut encoded);
        assert_eq!(encoded, bytes);
        assert_eq!(packet.encoded_len(ProtocolVersion::V5), bytes.len());
    }
}

#[test]
fn no_frame_is_empty_and_a_message_shows_its_topic() {
    assert!(!Frame::PingResp.is_empty());
    let message = Message::new("some/topic", &Properties::new(), b"").expect("short");
    assert!(format!("{message:?}").contains("some/topic"));
}

/// 3.1 gives the flags of a CONNECT no meaning. Who sends a second one breaks another rule, and is told
/// that one.
#[test]
fn the_flags_of_a_31_connect_mean_nothing() {
    let body = b"\x0F\0\x06MQIsdp\x03\x02\0\0\0\x01c";
    let mut framer = Framer::new(Role::Server, u32::MAX, u32::MAX);
    for first in [0x10, 0x1F, 0x1F] {
        let bytes = [&[first], &body[..]].concat();
        let packet = framer.decode(&mut &*bytes);
        assert!(matches!(packet, Ok(Some(Packet::Connect(_)))), "{packet:?}");
    }
}
