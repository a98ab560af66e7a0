//! Bytes into the codec. The first byte of an input says what is decoded, see [`framer`]; the rest
//! is what the peer sends.

use codec::{
    DecodeError, Frame, Framer, Message, Packet, ProtocolVersion, Publish, QoS, Role, topic,
};

/// The larger of the two packet limits of the framers.
const PACKET_MAX: u32 = 4_096;

/// The framer that an input's first byte asks for: 0 is a server's before CONNECT; 1, 2 and 3 are
/// a server's after a CONNECT of 3.1, 3.1.1 and 5.0; 4, 5 and 6 a client's of these versions;
/// further values begin again.
pub fn framer(mode: u8) -> Framer {
    let client = |version| Framer::new(Role::Client(version), 512, PACKET_MAX);
    let mut server = Framer::new(Role::Server, 512, PACKET_MAX);
    let connect: &[u8] = match mode % 7 {
        0 => &[],
        1 => b"\x10\x0F\0\x06MQIsdp\x03\x02\0\x3C\0\x01c",
        2 => b"\x10\x0D\0\x04MQTT\x04\x02\0\x3C\0\x01c",
        3 => b"\x10\x0E\0\x04MQTT\x05\x02\0\x3C\0\0\x01c",
        4 => return client(ProtocolVersion::V31),
        5 => return client(ProtocolVersion::V311),
        _ => return client(ProtocolVersion::V5),
    };
    let connected = server.decode(&mut &connect[..]).expect("a CONNECT that breaks no rule");
    assert_eq!(connected.is_some(), !connect.is_empty());
    server
}

/// Decoding never panics, takes all bytes, keeps no more than it got, and what it hands out keeps
/// the promises of the packet's types.
pub fn decode(data: &[u8]) {
    let Some((mode, bytes)) = data.split_first() else { return };
    let mut framer = framer(*mode);
    let mut input = bytes;
    loop {
        let before = input.len();
        match framer.decode(&mut input) {
            Ok(Some(packet)) => {
                assert!(input.len() < before, "a packet has bytes");
                assert_eq!(framer.buffered(), 0);
                check(&packet);
            }
            Ok(None) => {
                assert!(input.is_empty(), "the framer takes all bytes");
                assert_eq!(framer.buffered(), before);
                assert!(before <= PACKET_MAX as usize, "no more is kept than the largest packet");
                return;
            }
            Err(error) => {
                assert!(error.reason().is_error());
                assert!(!error.rule().is_empty());
                assert!(!error.to_string().is_empty());
                return;
            }
        }
    }
}

/// What the types of a decoded packet promise beyond their fields' types.
fn check(packet: &Packet) {
    match packet {
        Packet::Publish(publish) => check_publish(publish),
        Packet::Connect(connect) => {
            if let Some(will) = &connect.will {
                assert!(topic::is_valid_name(will.message.topic_str()));
                check_message(&will.message);
            }
        }
        Packet::Subscribe(subscribe) => assert!(!subscribe.filters.is_empty()),
        Packet::Unsubscribe(unsubscribe) => assert!(!unsubscribe.filters.is_empty()),
        Packet::SubAck(ack) => assert!(!ack.reasons.is_empty()),
        Packet::Auth(auth) => assert!(auth.properties.authentication_method().is_some()),
        _ => {}
    }
}

fn check_publish(publish: &Publish) {
    assert_eq!(publish.packet_id.is_some(), publish.qos != QoS::AtMostOnce);
    let name = publish.message.topic_str();
    assert!(topic::is_valid_name(name) || name.is_empty() && publish.topic_alias.is_some());
    check_message(&publish.message);
}

/// A message is what its parts make, and keeps them under another topic.
fn check_message(message: &Message) {
    let properties = message.properties();
    let again = Message::new(message.topic_str(), &properties, message.payload());
    assert_eq!(again.as_ref(), Ok(message));
    assert_eq!(message.expiry_interval_s(), properties.message_expiry_interval());
    let moved = message.with_topic(b"another/topic");
    assert_eq!(moved.topic(), b"another/topic");
    assert_eq!(moved.payload(), message.payload());
    assert_eq!(moved.expiry_interval_s(), message.expiry_interval_s());
    assert_eq!(moved.with_topic(message.topic()), *message);
}

/// What is accepted is written in no more bytes than it came in, is read as the same again, and
/// written the same from then on.
pub fn roundtrip(data: &[u8]) {
    let Some((mode, bytes)) = data.split_first() else { return };
    let mut framer = framer(*mode);
    let mut input = bytes;
    loop {
        let before = input.len();
        // What later packets are judged by: the framer as it is before this one.
        let mut second = framer.clone();
        let Ok(Some(packet)) = framer.decode(&mut input) else { return };
        let version = framer.version().expect("known after the first packet");
        let written = encode(version, &packet);
        assert!(written.len() <= before - input.len(), "the shortest form is written");
        let mut rest = &written[..];
        assert_eq!(second.decode(&mut rest), Ok(Some(packet.clone())));
        assert!(rest.is_empty());
        check_frame(version, packet, &written);
    }
}

fn encode(version: ProtocolVersion, packet: &Packet) -> Vec<u8> {
    let mut out = Vec::new();
    packet.encode(version, &mut out);
    assert_eq!(out.len(), packet.encoded_len(version));
    out
}

/// The frames of a packet are the packet's bytes.
fn check_frame(version: ProtocolVersion, packet: Packet, written: &[u8]) {
    let check = |frame: Frame| {
        let mut out = Vec::new();
        frame.encode(&mut out);
        assert_eq!(out, written);
        assert_eq!(out.len(), frame.len());
        assert!(out.ends_with(frame.payload()));
    };
    if let Packet::Publish(publish) = &packet
        && publish.topic_alias.is_none()
    {
        check(Frame::Publish {
            message: publish.message.clone(),
            version,
            flags: Frame::publish_flags(publish.dup, publish.qos, publish.retain),
            packet_id: publish.packet_id.map_or(0, |id| id.get()),
            expiry_s: publish.message.expiry_interval_s().unwrap_or(0),
        });
    }
    check(Frame::Packet(version, Box::new(packet)));
}

/// However the bytes arrive, the packets, the error and the version are the same.
///
/// The second byte of an input says where the rest is cut: its lower four bits are the number of
/// bytes that follow it, and these are the lengths of the first pieces.
pub fn split(data: &[u8]) {
    let [mode, count, rest @ ..] = data else { return };
    let Some((lengths, bytes)) = rest.split_at_checked(usize::from(count & 0x0F)) else { return };
    let whole = read(*mode, [bytes]);
    let mut pieces = Vec::new();
    let mut left = bytes;
    for length in lengths {
        let (piece, after) = left.split_at(left.len().min(usize::from(*length)));
        pieces.push(piece);
        left = after;
    }
    pieces.push(left);
    assert_eq!(read(*mode, pieces), whole);
    assert_eq!(read(*mode, bytes.chunks(1)), whole);
}

/// What comes out of a framer: packets, the first error, the version.
type Outcome = (Vec<Packet>, Option<DecodeError>, Option<ProtocolVersion>);

fn read<'a>(mode: u8, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut framer = framer(mode);
    let mut packets = Vec::new();
    for mut piece in pieces {
        loop {
            match framer.decode(&mut piece) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break,
                Err(error) => return (packets, Some(error), framer.version()),
            }
        }
    }
    (packets, None, framer.version())
}
