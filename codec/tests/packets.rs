//! Packets as bytes and as values: what a peer sends, and what is made of it.

mod common;

use bytes::Bytes;
use codec::{
    Ack, ConnAck, Connect, Disconnect, Message, Packet, PacketId, Properties, Property,
    ProtocolVersion::{self, V5, V31, V311},
    Publish, QoS, ReasonCode, RetainHandling,
    Sender::{self, Client, Server},
    SubAck, Subscribe, SubscribeFilter, SubscriptionOptions, UnsubAck, Unsubscribe, Will,
};
use common::{decode, encode, hex};

fn id(value: u16) -> PacketId {
    PacketId::new(value).expect("not zero")
}

fn properties(list: &[Property]) -> Properties {
    list.iter().cloned().collect()
}

fn message(topic: &str, list: &[Property], payload: &[u8]) -> Message {
    Message::new(topic, &properties(list), payload).expect("a valid message")
}

/// The bytes are this packet and the packet is these bytes.
fn both_ways(version: ProtocolVersion, sender: Sender, bytes: &str, packet: Packet) {
    assert_eq!(decode(version, sender, &hex(bytes)).as_ref(), Ok(&packet), "{bytes}");
    assert_eq!(encode(version, &packet), hex(bytes), "{packet:?}");
}

fn connect(version: ProtocolVersion) -> Connect {
    Connect {
        version,
        bridge: false,
        clean_start: true,
        keep_alive_s: 60,
        client_id: "c".into(),
        will: None,
        user_name: None,
        password: None,
        properties: Properties::new(),
    }
}

#[test]
pub(crate) fn connect_with_little() {
    for (bytes, value) in [
        (r#"10 0F 00 06 "MQIsdp" 03 02 00 3C 00 01 "c""#, connect(V31)),
        (r#"10 0D 00 04 "MQTT" 04 02 00 3C 00 01 "c""#, connect(V311)),
        (r#"10 0E 00 04 "MQTT" 05 02 00 3C 00 00 01 "c""#, connect(V5)),
        (r#"10 0F 00 06 "MQIsdp" 83 02 00 3C 00 01 "c""#, Connect { bridge: true, ..connect(V31) }),
        (r#"10 0D 00 04 "MQTT" 84 02 00 3C 00 01 "c""#, Connect { bridge: true, ..connect(V311) }),
        // An empty Client Identifier without Clean Session is the core's to refuse.
        (
            r#"10 0C 00 04 "MQTT" 04 00 00 3C 00 00"#,
            Connect { clean_start: false, client_id: "".into(), ..connect(V311) },
        ),
    ] {
        both_ways(V5, Client, bytes, Packet::Connect(value.into()));
    }
}

#[test]
pub(crate) fn connect_with_everything() {
    let will_properties = [
        Property::MessageExpiryInterval(7),
        Property::UserProperty("k".into(), "v".into()),
        Property::UserProperty("k".into(), "w".into()),
    ];
    let value = Connect {
        clean_start: false,
        will: Some(Box::new(Will {
            qos: QoS::AtLeastOnce,
            retain: true,
            delay_s: 5,
            message: message("w", &will_properties, b"gone"),
        })),
        user_name: Some("user".into()),
        password: Some(Bytes::from_static(&[0, 0xFF])),
        properties: properties(&[
            Property::SessionExpiryInterval(u32::MAX),
            Property::ReceiveMaximum(10),
        ]),
        ..connect(V5)
    };
    let bytes = r#"10 42 00 04 "MQTT" 05 EC 00 3C
        08 11 FF FF FF FF 21 00 0A
        00 01 "c"
        18 18 00 00 00 05 02 00 00 00 07 26 00 01 "k" 00 01 "v" 26 00 01 "k" 00 01 "w"
        00 01 "w" 00 04 "gone"
        00 04 "user" 00 02 00 FF"#;
    both_ways(V5, Client, bytes, Packet::Connect(value.into()));
}

#[test]
pub(crate) fn the_will_delay_may_stand_anywhere() {
    let bytes = r#"10 1F 00 04 "MQTT" 05 06 00 3C 00 00 01 "c"
        0A 02 00 00 00 07 18 00 00 00 05
        00 01 "w" 00 01 "p""#;
    let Ok(Packet::Connect(connect)) = decode(V5, Client, &hex(bytes)) else { panic!() };
    let will = connect.will.expect("a will");
    assert_eq!(will.delay_s, 5);
    assert_eq!(will.message.expiry_interval_s(), Some(7));
    assert_eq!(will.message, message("w", &[Property::MessageExpiryInterval(7)], b"p"));
}

#[test]
pub(crate) fn a_password_without_user_name_is_for_5_0() {
    let bytes = r#"10 11 00 04 "MQTT" 05 42 00 3C 00 00 01 "c" 00 01 "p""#;
    let value = Connect { password: Some(Bytes::from_static(b"p")), ..connect(V5) };
    both_ways(V5, Client, bytes, Packet::Connect(value.into()));
}

#[test]
pub(crate) fn conn_ack() {
    let ack = |session_present, reason, list: &[Property]| {
        Packet::ConnAck(ConnAck { session_present, reason, properties: properties(list) }.into())
    };
    both_ways(V31, Server, "20 02 00 00", ack(false, ReasonCode::Success, &[]));
    both_ways(V311, Server, "20 02 01 00", ack(true, ReasonCode::Success, &[]));
    both_ways(V311, Server, "20 02 00 05", ack(false, ReasonCode::NotAuthorized, &[]));
    both_ways(V5, Server, "20 03 00 97 00", ack(false, ReasonCode::QuotaExceeded, &[]));
    let list = [Property::AssignedClientIdentifier("x".into()), Property::RetainAvailable(false)];
    let bytes = r#"20 09 01 00 06 12 00 01 "x" 25 00"#;
    both_ways(V5, Server, bytes, ack(true, ReasonCode::Success, &list));
    // A reason that 3.1.1 has no code for is written as the nearest.
    assert_eq!(encode(V311, &ack(false, ReasonCode::ServerMoved, &[])), hex("20 02 00 03"));
}

fn publish(message: Message) -> Publish {
    Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        packet_id: None,
        topic_alias: None,
        message,
    }
}

#[test]
pub(crate) fn publish_in_each_version() {
    let plain = message("a/b", &[], b"hi");
    both_ways(V311, Client, r#"30 07 00 03 "a/b" "hi""#, Packet::Publish(publish(plain.clone())));
    both_ways(V5, Server, r#"30 08 00 03 "a/b" 00 "hi""#, Packet::Publish(publish(plain.clone())));
    let value = Publish {
        dup: true,
        qos: QoS::ExactlyOnce,
        retain: true,
        packet_id: Some(id(0xFFFF)),
        ..publish(plain)
    };
    both_ways(V31, Client, r#"3D 09 00 03 "a/b" FF FF "hi""#, Packet::Publish(value));
}

#[test]
pub(crate) fn publish_with_properties() {
    let list = [
        Property::PayloadFormatIndicator(1),
        Property::MessageExpiryInterval(600),
        Property::ResponseTopic("r".into()),
        Property::CorrelationData(Bytes::from_static(&[0])),
    ];
    let value =
        Publish { topic_alias: std::num::NonZeroU16::new(3), ..publish(message("", &list, b"\0")) };
    // The Topic Alias is taken out wherever it stands, and written first.
    let before = "30 16 00 00 12 01 01 02 00 00 02 58 08 00 01 72 09 00 01 00 23 00 03 00";
    let middle = "30 16 00 00 12 01 01 23 00 03 02 00 00 02 58 08 00 01 72 09 00 01 00 00";
    let first = "30 16 00 00 12 23 00 03 01 01 02 00 00 02 58 08 00 01 72 09 00 01 00 00";
    for bytes in [before, middle] {
        let decoded = decode(V5, Client, &hex(bytes));
        assert_eq!(decoded, Ok(Packet::Publish(value.clone())), "{bytes}");
    }
    assert_eq!(value.message.expiry_interval_s(), Some(600));
    both_ways(V5, Client, first, Packet::Publish(value));
}

#[test]
pub(crate) fn control_characters_and_the_byte_order_mark_are_kept() {
    let bytes = "30 0A 00 07 EF BB BF 01 7F C2 85 00";
    let value = publish(message("\u{FEFF}\u{1}\u{7F}\u{85}", &[], b""));
    both_ways(V5, Client, bytes, Packet::Publish(value));
}

#[test]
pub(crate) fn acknowledgements_in_their_short_forms() {
    let success = Ack::success(id(1));
    let late = Ack { reason: ReasonCode::PacketIdentifierNotFound, ..success.clone() };
    let told =
        Ack { properties: properties(&[Property::ReasonString("x".into())]), ..late.clone() };
    both_ways(V311, Client, "40 02 00 01", Packet::PubAck(success.clone()));
    both_ways(V5, Server, "50 02 00 01", Packet::PubRec(success.clone()));
    both_ways(V5, Client, "62 03 00 01 92", Packet::PubRel(late.clone()));
    both_ways(V5, Client, "70 08 00 01 92 04 1F 00 01 78", Packet::PubComp(told));
    // Longer than they need to be.
    for bytes in ["40 03 00 01 00", "40 04 00 01 00 00"] {
        let decoded = decode(V5, Client, &hex(bytes));
        assert_eq!(decoded, Ok(Packet::PubAck(success.clone())), "{bytes}");
    }
}

#[test]
pub(crate) fn disconnect_in_its_short_forms() {
    let value = |reason, list: &[Property]| {
        Packet::Disconnect(Disconnect { reason, properties: properties(list) }.into())
    };
    both_ways(V31, Client, "E0 00", value(ReasonCode::Success, &[]));
    both_ways(V5, Client, "E0 00", value(ReasonCode::Success, &[]));
    both_ways(V5, Client, "E0 01 04", value(ReasonCode::DisconnectWithWill, &[]));
    let list = [Property::SessionExpiryInterval(1)];
    both_ways(V5, Client, "E0 07 00 05 11 00 00 00 01", value(ReasonCode::Success, &list));
    assert_eq!(encode(V311, &value(ReasonCode::ServerBusy, &list)), hex("E0 00"));
}

#[test]
pub(crate) fn subscribe_and_suback() {
    let options = SubscriptionOptions {
        qos: QoS::ExactlyOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::DoNotSend,
    };
    let entry = |filter: &str, options| SubscribeFilter { filter: filter.into(), options };
    let plain = SubscriptionOptions { qos: QoS::AtLeastOnce, ..SubscriptionOptions::default() };
    let value = |list: &[Property], filters: Vec<SubscribeFilter>| {
        let properties = properties(list);
        Packet::Subscribe(Subscribe { packet_id: id(10), properties, filters }.into())
    };
    // What is no valid filter is the core's to refuse.
    let filters = vec![entry("a/#", options), entry("", plain)];
    let bytes = r#"82 0F 00 0A 03 0B 80 01 00 03 "a/#" 2E 00 00 01"#;
    both_ways(V5, Client, bytes, value(&[Property::SubscriptionIdentifier(128)], filters));
    both_ways(V31, Client, "82 06 00 0A 00 01 61 01", value(&[], vec![entry("a", plain)]));

    let reasons = vec![ReasonCode::GrantedQoS1, ReasonCode::TopicFilterInvalid];
    let ack = SubAck { packet_id: id(10), properties: Properties::new(), reasons };
    let ack = Packet::SubAck(ack.into());
    both_ways(V5, Server, "90 05 00 0A 00 01 8F", ack.clone());
    assert_eq!(encode(V311, &ack), hex("90 04 00 0A 01 80"));
    let Ok(Packet::SubAck(ack)) = decode(V311, Server, &hex("90 04 00 0A 01 80")) else { panic!() };
    assert_eq!(ack.reasons, [ReasonCode::GrantedQoS1, ReasonCode::UnspecifiedError]);
}

#[test]
pub(crate) fn unsubscribe_and_unsuback() {
    let value = Unsubscribe {
        packet_id: id(1),
        properties: Properties::new(),
        filters: vec!["a".into(), "b".into()],
    };
    let value = Packet::Unsubscribe(value.into());
    both_ways(V5, Client, "A2 09 00 01 00 00 01 61 00 01 62", value.clone());
    both_ways(V311, Client, "A2 08 00 01 00 01 61 00 01 62", value);
    let ack = |reasons| {
        Packet::UnsubAck(
            UnsubAck { packet_id: id(1), properties: Properties::new(), reasons }.into(),
        )
    };
    both_ways(V5, Server, "B0 04 00 01 00 11", ack(vec![ReasonCode::NoSubscriptionExisted]));
    both_ways(V311, Server, "B0 02 00 01", ack(vec![]));
}

#[test]
pub(crate) fn pings() {
    both_ways(V31, Client, "C0 00", Packet::PingReq);
    both_ways(V5, Server, "D0 00", Packet::PingResp);
}

#[test]
pub(crate) fn a_string_too_long_for_its_length_is_cut_at_a_character() {
    let long: Box<str> = "ä".repeat(40_000).into();
    let list = properties(&[Property::ReasonString(long)]);
    let value =
        Packet::Disconnect(Disconnect { reason: ReasonCode::Success, properties: list }.into());
    let bytes = encode(V5, &value);
    let Ok(Packet::Disconnect(read)) = decode(V5, Server, &bytes) else { panic!() };
    assert_eq!(read.properties.reason_string().map(str::len), Some(65_534));
}
