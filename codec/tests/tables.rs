//! The standard's tables, line by line: every reason code and every property in every packet, from
//! both sides. `data/reason-codes.tsv` is written from the standard's text, not from this code.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use codec::{
    DecodeError, Packet, PacketType, Properties, PropertyId, ProtocolVersion, ReasonCode, Sender,
};
use common::{SENDERS, decode, hex};

const TABLE: &str = include_str!("data/reason-codes.tsv");

/// The lines of one kind, as (packet, number, name, senders, type, repeats).
fn lines(kind: &str) -> Vec<[&'static str; 6]> {
    let lines = TABLE.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let lines: Vec<_> = lines
        .filter(|columns| columns[0] == kind && columns[2] != "-")
        .map(|c| [c[1], c[2], c[3], c[4], c[5], c[6]])
        .collect();
    assert!(lines.len() > 60, "the table is there");
    lines
}

fn number(text: &str) -> u8 {
    u8::from_str_radix(text.strip_prefix("0x").expect("hexadecimal"), 16).expect("one byte")
}

/// Whether a `sent-by` column names this side.
fn sends(column: &str, sender: Sender) -> bool {
    column.contains(match sender {
        Sender::Client => "client",
        Sender::Server => "server",
    })
}

fn packet_named(name: &str) -> PacketType {
    PacketType::ALL.into_iter().find(|packet| packet.name() == name).expect("a packet's name")
}

/// A 5.0 packet around a body.
fn packet_bytes(packet: PacketType, body: &[u8]) -> Vec<u8> {
    let flags = match packet {
        PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe => 2,
        _ => 0,
    };
    let mut bytes = vec![((packet as u8) << 4) | flags, u8::try_from(body.len()).expect("short")];
    assert!(body.len() < 128);
    bytes.extend_from_slice(body);
    bytes
}

fn reason_of(packet: &Packet) -> ReasonCode {
    match packet {
        Packet::ConnAck(ack) => ack.reason,
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            ack.reason
        }
        Packet::SubAck(ack) => ack.reasons[0],
        Packet::UnsubAck(ack) => ack.reasons[0],
        Packet::Disconnect(disconnect) => disconnect.reason,
        Packet::Auth(auth) => auth.reason,
        other => panic!("{other:?} has no reason"),
    }
}

#[test]
pub(crate) fn every_reason_code_in_every_packet() {
    let mut table = BTreeMap::new();
    for [packet, code, _, senders, ..] in lines("reason") {
        table.insert((packet_named(packet), number(code)), senders);
    }
    let packets: BTreeSet<PacketType> = table.keys().map(|(packet, _)| *packet).collect();
    assert_eq!(packets.len(), 9);
    let codes: BTreeSet<u8> = table.keys().map(|(_, code)| *code).collect();
    assert_eq!(codes, ReasonCode::ALL.iter().map(|reason| reason.code()).collect());
    for (packet, code, sender) in packets.iter().flat_map(|packet| {
        (0..=255).flat_map(move |code| SENDERS.map(|sender| (*packet, code, sender)))
    }) {
        let body = match packet {
            PacketType::ConnAck => vec![0, code, 0],
            PacketType::SubAck | PacketType::UnsubAck => vec![0, 1, 0, code],
            PacketType::Disconnect => vec![code],
            PacketType::Auth => vec![code, 4, 0x15, 0, 1, b'm'],
            _ => vec![0, 1, code],
        };
        let decoded = decode(ProtocolVersion::V5, sender, &packet_bytes(packet, &body));
        let known = ReasonCode::from_u8(code);
        let context = format!("{packet} 0x{code:02X} from {sender:?}");
        if !packet.is_sent_by(sender, ProtocolVersion::V5) {
            assert_eq!(decoded, Err(DecodeError::PacketFromWrongSide(packet)), "{context}");
            continue;
        }
        match (table.get(&(packet, code)), known) {
            (Some(senders), Some(reason)) if sends(senders, sender) => {
                assert_eq!(reason_of(&decoded.expect(&context)), reason, "{context}");
            }
            (Some(_), Some(reason)) => {
                let error = DecodeError::ReasonCodeFromWrongSide(packet, reason);
                assert_eq!(decoded, Err(error), "{context}");
            }
            (_, Some(reason)) => {
                let error = DecodeError::ReasonCodeNotAllowed(packet, reason);
                assert_eq!(decoded, Err(error), "{context}");
            }
            (_, None) => {
                let error = DecodeError::ReasonCodeUndefined(packet, code);
                assert_eq!(decoded, Err(error), "{context}");
            }
        }
    }
}

#[test]
pub(crate) fn reason_codes_have_the_names_of_the_standard() {
    for [packet, code, name, ..] in lines("reason") {
        let reason = ReasonCode::from_u8(number(code)).expect("a defined code");
        let other_names = ["Normal disconnection", "Granted QoS 0"];
        assert!(reason.name() == name || other_names.contains(&name), "{packet} {code} {name}");
        assert_eq!(reason.to_string(), reason.name());
    }
}

/// A property with the smallest value that is valid for its type.
fn property_bytes(id: u8, kind: &str) -> Vec<u8> {
    let value: &[u8] = match kind {
        "Byte" | "Variable Byte Integer" => &[1],
        "Two Byte Integer" => &[0, 1],
        "Four Byte Integer" => &[0, 0, 0, 1],
        "UTF-8 Encoded String" | "Binary Data" => &[0, 1, b'm'],
        "UTF-8 String Pair" => &[0, 1, b'n', 0, 1, b'v'],
        other => panic!("unknown type {other}"),
    };
    [&[id], value].concat()
}

/// Property Length and properties.
fn block(properties: &[&[u8]]) -> Vec<u8> {
    let properties = properties.concat();
    [&[u8::try_from(properties.len()).expect("short")][..], &properties].concat()
}

/// A packet with these properties, and with those that they need beside them.
fn packet_with(place: &str, id: u8, properties: &[&[u8]]) -> Vec<u8> {
    let method = property_bytes(0x15, "UTF-8 Encoded String");
    let needs_method = matches!((place, id), ("CONNECT", 0x16) | ("AUTH", _)) && id != 0x15;
    let needed: &[&[u8]] = if needs_method { &[&method] } else { &[] };
    let block = block(&[needed, properties].concat());
    let body = match place {
        "CONNECT" => {
            [&hex(r#"00 04 "MQTT" 05 02 00 00"#)[..], &block, &hex(r#"00 01 "c""#)].concat()
        }
        "Will Properties" => {
            let head = hex(r#"00 04 "MQTT" 05 06 00 00 00 00 01 "c""#);
            [&head[..], &block, &hex(r#"00 01 "w" 00 01 "p""#)].concat()
        }
        "CONNACK" => [&[0, 0][..], &block].concat(),
        "PUBLISH" => [&hex(r#"00 01 "t""#)[..], &block, b"payload"].concat(),
        "SUBSCRIBE" => [&[0, 1][..], &block, &hex(r#"00 01 "t" 00"#)].concat(),
        "UNSUBSCRIBE" => [&[0, 1][..], &block, &hex(r#"00 01 "t""#)].concat(),
        "SUBACK" | "UNSUBACK" => [&[0, 1][..], &block, &[0]].concat(),
        "DISCONNECT" => [&[0][..], &block].concat(),
        "AUTH" => [&[0x18][..], &block].concat(),
        _ => [&[0, 1, 0][..], &block].concat(),
    };
    packet_bytes(packet_of(place), &body)
}

fn packet_of(place: &str) -> PacketType {
    if place == "Will Properties" { PacketType::Connect } else { packet_named(place) }
}

/// How many properties of this identifier a packet carries, wherever they are kept.
fn count(packet: &Packet, place: &str, id: PropertyId) -> usize {
    let of = |list: &Properties| list.iter().filter(|property| property.id() == id).count();
    match packet {
        Packet::Connect(connect) if place == "Will Properties" => {
            let will = connect.will.as_ref().expect("a will");
            of(&will.message.properties())
                + usize::from(id == PropertyId::WillDelayInterval && will.delay_s == 1)
        }
        Packet::Connect(connect) => of(&connect.properties),
        Packet::ConnAck(ack) => of(&ack.properties),
        Packet::Publish(publish) => {
            of(&publish.message.properties())
                + usize::from(id == PropertyId::TopicAlias && publish.topic_alias.is_some())
        }
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            of(&ack.properties)
        }
        Packet::Subscribe(subscribe) => of(&subscribe.properties),
        Packet::SubAck(ack) => of(&ack.properties),
        Packet::Unsubscribe(unsubscribe) => of(&unsubscribe.properties),
        Packet::UnsubAck(ack) => of(&ack.properties),
        Packet::Disconnect(disconnect) => of(&disconnect.properties),
        Packet::Auth(auth) => of(&auth.properties),
        Packet::PingReq | Packet::PingResp => 0,
    }
}

#[test]
pub(crate) fn every_property_in_every_packet() {
    let mut table = BTreeMap::new();
    let mut kinds = BTreeMap::new();
    for [place, id, name, senders, kind, repeats] in lines("property") {
        let id = number(id);
        table.insert((place, id), (senders, repeats.starts_with("yes")));
        kinds.insert(id, kind);
        assert_eq!(PropertyId::from_u8(id).expect("a defined property").name(), name);
    }
    assert!(kinds.keys().copied().eq(PropertyId::ALL.map(|id| id as u8)));
    let places: BTreeSet<&str> = table.keys().map(|(place, _)| *place).collect();
    assert_eq!(places.len(), 13 + 1, "13 packets carry properties, and the Will");
    for (place, id, sender) in places
        .iter()
        .flat_map(|place| (0..128).flat_map(move |id| SENDERS.map(|sender| (*place, id, sender))))
    {
        let packet = packet_of(place);
        if !packet.is_sent_by(sender, ProtocolVersion::V5) {
            continue;
        }
        let one = property_bytes(id, kinds.get(&id).unwrap_or(&"Byte"));
        let decode_with = |properties: &[&[u8]]| {
            decode(ProtocolVersion::V5, sender, &packet_with(place, id, properties))
        };
        let context = format!("{place} 0x{id:02X} from {sender:?}");
        let Some(known) = PropertyId::from_u8(id) else {
            let error = DecodeError::PropertyUnknown(u32::from(id));
            assert_eq!(decode_with(&[&one]), Err(error), "{context}");
            continue;
        };
        match table.get(&(place, id)) {
            Some((senders, repeats)) if sends(senders, sender) => {
                let decoded = decode_with(&[&one]).expect(&context);
                assert_eq!(count(&decoded, place, known), 1, "{context}");
                if *repeats {
                    let decoded = decode_with(&[&one, &one]).expect(&context);
                    assert_eq!(count(&decoded, place, known), 2, "{context}");
                } else {
                    let error = DecodeError::PropertyRepeated(known);
                    assert_eq!(decode_with(&[&one, &one]), Err(error), "{context}");
                }
            }
            Some(_) => {
                let error = DecodeError::PropertyFromWrongSide(known, packet);
                assert_eq!(decode_with(&[&one]), Err(error), "{context}");
            }
            None if place == "Will Properties" => {
                let error = DecodeError::PropertyNotAllowedInWill(known);
                assert_eq!(decode_with(&[&one]), Err(error), "{context}");
            }
            None => {
                let error = DecodeError::PropertyNotAllowed(known, packet);
                assert_eq!(decode_with(&[&one]), Err(error), "{context}");
            }
        }
    }
}

#[test]
pub(crate) fn return_codes_before_5_0() {
    let codes = |reason: ReasonCode| reason.v3_connect_return_code();
    for code in 0..=5 {
        let reason = ReasonCode::from_v3_connect_return_code(code).expect("0 to 5 are defined");
        assert_eq!(codes(reason), Some(code));
    }
    assert_eq!(ReasonCode::from_v3_connect_return_code(6), None);
    assert_eq!(codes(ReasonCode::Banned), Some(5));
    assert_eq!(codes(ReasonCode::BadAuthenticationMethod), Some(5));
    for busy in [0x89, 0x97, 0x9F] {
        assert_eq!(codes(ReasonCode::from_u8(busy).expect("defined")), Some(3));
    }
    let fitting = ReasonCode::ALL.into_iter().filter(|reason| codes(*reason).is_some());
    assert_eq!(fitting.count(), 11);
}
