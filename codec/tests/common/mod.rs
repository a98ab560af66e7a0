//! What the tests of the codec share: bytes from hexadecimal text, framers, and packets of every
//! kind as proptest strategies.
#![allow(dead_code, reason = "each test file takes what it needs")]

pub(crate) mod strategies;

use codec::{DecodeError, Framer, Packet, ProtocolVersion, Role, Sender};

/// More than any packet of the tests.
pub(crate) const PACKET_MAX: u32 = 1 << 20;

pub(crate) const VERSIONS: [ProtocolVersion; 3] =
    [ProtocolVersion::V31, ProtocolVersion::V311, ProtocolVersion::V5];

pub(crate) const SENDERS: [Sender; 2] = [Sender::Client, Sender::Server];

/// Bytes from hexadecimal digits; a word in quotation marks stands for its characters.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (at, part) in text.split('"').enumerate() {
        if at % 2 == 1 {
            bytes.extend_from_slice(part.as_bytes());
            continue;
        }
        for word in part.split_whitespace() {
            bytes.push(u8::from_str_radix(word, 16).expect("two hexadecimal digits"));
        }
    }
    bytes
}

/// A CONNECT of this version without anything that may be left out.
pub(crate) fn connect_bytes(version: ProtocolVersion) -> Vec<u8> {
    hex(match version {
        ProtocolVersion::V31 => r#"10 0F 00 06 "MQIsdp" 03 02 00 3C 00 01 "c""#,
        ProtocolVersion::V311 => r#"10 0D 00 04 "MQTT" 04 02 00 3C 00 01 "c""#,
        ProtocolVersion::V5 => r#"10 0E 00 04 "MQTT" 05 02 00 3C 00 00 01 "c""#,
    })
}

/// A framer that judges what `sender` sends, on a connection of this version.
pub(crate) fn framer(version: ProtocolVersion, sender: Sender) -> Framer {
    match sender {
        Sender::Server => Framer::new(Role::Client(version), PACKET_MAX, PACKET_MAX),
        Sender::Client => {
            let mut framer = Framer::new(Role::Server, PACKET_MAX, PACKET_MAX);
            let connect = framer.decode(&mut &connect_bytes(version)[..]);
            assert!(matches!(connect, Ok(Some(Packet::Connect(_)))), "{connect:?}");
            framer
        }
    }
}

/// The one packet that these bytes are.
pub(crate) fn decode(
    version: ProtocolVersion,
    sender: Sender,
    bytes: &[u8],
) -> Result<Packet, DecodeError> {
    let mut input = bytes;
    let packet = framer(version, sender).decode(&mut input)?;
    assert!(input.is_empty(), "{} bytes are left", input.len());
    Ok(packet.expect("a whole packet"))
}

/// A packet's bytes.
pub(crate) fn encode(version: ProtocolVersion, packet: &Packet) -> Vec<u8> {
    let mut out = Vec::new();
    packet.encode(version, &mut out);
    assert_eq!(out.len(), packet.encoded_len(version), "{packet:?}");
    out
}
