//! What the path of a message costs: allocations, counted.

mod common;

use allocation_counter::{AllocationInfo, measure};
use codec::{
    AckKind, Frame, Message, Packet, PacketId, Properties, Property, ProtocolVersion, QoS,
    ReasonCode, Sender, Subscribe, SubscribeFilter,
};
use common::{encode, framer, hex};

/// Decodes one packet, which is dropped after the counting.
fn decoding(bytes: &[u8]) -> (AllocationInfo, Packet) {
    let mut framer = framer(ProtocolVersion::V5, Sender::Client);
    let mut packet = None;
    let info = measure(|| packet = framer.decode(&mut &bytes[..]).expect("a packet"));
    (info, packet.expect("a whole packet"))
}

#[test]
pub(crate) fn a_publish_makes_one_allocation_of_its_size() {
    let properties = "23 00 01 01 01 02 00 00 00 07 08 00 01 72 26 00 01 6B 00 01 76";
    let bytes = [&hex(r#"32 1F 00 03 "a/b" 00 01 15"#)[..], &hex(properties), b"hi"].concat();
    let (info, packet) = decoding(&bytes);
    let Packet::Publish(publish) = packet else { panic!() };
    assert_eq!(publish.message.properties().iter().count(), 4);
    assert_eq!(info.count_total, 1);
    // The layout and the two counters of the shared reference.
    let most = publish.message.size() + 2 * size_of::<usize>() + 7;
    assert!(info.bytes_total <= most as u64, "{info:?}");
}

#[test]
pub(crate) fn acknowledgements_and_pings_make_none() {
    for bytes in ["40 02 00 01", "50 03 00 01 97", "62 02 00 01", "70 04 00 01 00 00", "C0 00"] {
        assert_eq!(decoding(&hex(bytes)).0.count_total, 0, "{bytes}");
    }
}

#[test]
pub(crate) fn a_declared_length_costs_nothing() {
    let mut framer = codec::Framer::new(codec::Role::Server, u32::MAX, u32::MAX);
    // CONNECT of 268,435,455 bytes, of which none come.
    let info = measure(|| assert_eq!(framer.decode(&mut &hex("10 FF FF FF 7F")[..]), Ok(None)));
    assert!(info.bytes_max < 1_000, "{info:?}");
}

#[test]
pub(crate) fn a_list_grows_with_its_entries() {
    let info = measure(|| {
        let mut bytes = hex("82 FD FF 03 00 01 00");
        bytes.resize(bytes.len() + 65_530, 0);
        // 21,843 empty filters and a byte too many.
        assert!(framer(ProtocolVersion::V5, Sender::Client).decode(&mut &bytes[..]).is_err());
    });
    assert!(info.bytes_max < 2_000_000, "{info:?}");
}

/// Bytes that reading a SUBSCRIBE with so many User Properties allocates, one after the other.
fn with_user_properties(count: usize) -> u64 {
    let property = Property::UserProperty("k".into(), "v".into());
    let subscribe = Subscribe {
        packet_id: PacketId::new(1).expect("not zero"),
        properties: std::iter::repeat_n(property, count).collect(),
        filters: vec![SubscribeFilter { filter: "t".into(), options: Default::default() }],
    };
    let packet = Packet::Subscribe(Box::new(subscribe));
    decoding(&encode(ProtocolVersion::V5, &packet)).0.bytes_total
}

#[test]
pub(crate) fn user_properties_cost_in_proportion_to_their_number() {
    let (few, many) = (with_user_properties(500), with_user_properties(1_000));
    assert!(many < 3 * few, "{few} and {many} bytes");
}

#[test]
pub(crate) fn frames_are_written_without_allocation() {
    let list: Properties = [Property::MessageExpiryInterval(9)].into_iter().collect();
    let message = Message::new("a/b", &list, b"payload").expect("a valid message");
    let version = ProtocolVersion::V5;
    let packet_id = PacketId::new(1).expect("not zero");
    let flags = Frame::publish_flags(false, QoS::AtLeastOnce, false);
    let publish = Frame::Publish { message, version, flags, packet_id: 1, expiry_s: 8 };
    let reason = ReasonCode::QuotaExceeded;
    let ack = Frame::Ack { kind: AckKind::PubAck, version, packet_id, reason };
    let mut out = Vec::with_capacity(100);
    let info = measure(|| {
        publish.encode(&mut out);
        ack.encode(&mut out);
    });
    assert_eq!(info.count_total, 0);
    assert_eq!(out.len(), publish.len() + ack.len());
}
