//! Outbound packets: small values that become bytes when a connection's buffer takes them.

use alloc::{boxed::Box, vec::Vec};
use core::num::NonZeroU16;

use crate::{
    Message, Packet, PacketId, PacketType, ProtocolVersion, QoS, ReasonCode,
    encode::{self, PublishHead},
};

/// The four packets that acknowledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub enum AckKind {
    PubAck,
    PubRec,
    PubRel,
    PubComp,
}

impl AckKind {
    /// The packet's type.
    pub const fn packet_type(self) -> PacketType {
        match self {
            Self::PubAck => PacketType::PubAck,
            Self::PubRec => PacketType::PubRec,
            Self::PubRel => PacketType::PubRel,
            Self::PubComp => PacketType::PubComp,
        }
    }
}

/// Whether an acknowledgement without properties says its reason.
const fn has_reason(version: ProtocolVersion, reason: ReasonCode) -> bool {
    version.is_v5() && !matches!(reason, ReasonCode::Success)
}

/// One outbound packet. 24 bytes; cloning never copies a payload.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Frame {
    /// A PUBLISH without receiver-specific properties.
    Publish {
        /// The shared layout.
        message: Message,
        /// Decides whether properties are written.
        version: ProtocolVersion,
        /// DUP, QoS and RETAIN as in the lower four bits of the first byte.
        flags: u8,
        /// Packet Identifier; 0 for QoS 0.
        packet_id: u16,
        /// What is left of the Message Expiry Interval in seconds; written only if the message
        /// has that property.
        expiry_s: u32,
    },
    /// A PUBLISH with a Topic Alias or Subscription Identifiers.
    PublishWith(Box<PublishFrame>),
    /// An acknowledgement without properties. A reason of `Success` takes the short form; before
    /// 5.0 the reason is not written.
    Ack {
        /// Which of the four.
        kind: AckKind,
        /// Decides whether the reason is written.
        version: ProtocolVersion,
        /// The identifier of the exchange.
        packet_id: PacketId,
        /// The reason.
        reason: ReasonCode,
    },
    /// PINGRESP.
    PingResp,
    /// Any other packet, or an acknowledgement with properties.
    Packet(ProtocolVersion, Box<Packet>),
}

/// The parts of a PUBLISH that are one receiver's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PublishFrame {
    /// The shared layout.
    pub message: Message,
    /// Decides whether properties are written.
    pub version: ProtocolVersion,
    /// DUP, QoS and RETAIN as in the lower four bits of the first byte.
    pub flags: u8,
    /// Packet Identifier; absent for QoS 0.
    pub packet_id: Option<PacketId>,
    /// What is left of the Message Expiry Interval, as in [`Frame::Publish`].
    pub expiry_s: u32,
    /// Topic Alias to write.
    pub topic_alias: Option<NonZeroU16>,
    /// Write an empty topic: the receiver knows the alias.
    pub omit_topic: bool,
    /// Subscription Identifiers to write, in this order.
    pub subscription_ids: Vec<u32>,
}

impl Frame {
    /// The lower four bits of a PUBLISH's first byte.
    pub const fn publish_flags(dup: bool, qos: QoS, retain: bool) -> u8 {
        ((dup as u8) << 3) | ((qos as u8) << 1) | retain as u8
    }

    /// Bytes this frame takes on the wire, fixed header included.
    ///
    /// A frame of more than 268,435,460 bytes cannot be sent to anybody; a message that was
    /// received gets there only by the Subscription Identifiers of its receiver.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Self::Publish { message, version, flags, .. } => {
                encode::packet_len(message.body_len(*version, encode::has_packet_id(*flags)))
            }
            Self::PublishWith(_) => {
                self.publish_head().map_or(0, |head| encode::packet_len(head.body_len()))
            }
            Self::Ack { version, reason, .. } if has_reason(*version, *reason) => 5,
            Self::Ack { .. } => 4,
            Self::PingResp => 2,
            Self::Packet(version, packet) => packet.encoded_len(*version),
        }
    }

    /// The message and its QoS, if it is a PUBLISH.
    #[inline]
    pub fn published(&self) -> Option<(&Message, QoS)> {
        let (message, flags) = match self {
            Self::Publish { message, flags, .. } => (message, *flags),
            Self::PublishWith(parts) => (&parts.message, parts.flags),
            _ => return None,
        };
        Some((message, QoS::from_bits((flags >> 1) & 3).unwrap_or_default()))
    }

    /// Always false: every packet has a fixed header.
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Appends everything but [`Frame::payload`] to `out`.
    ///
    /// A caller that queues large payloads by reference writes the head, then the payload.
    #[inline]
    pub fn encode_head(&self, out: &mut Vec<u8>) {
        match self {
            Self::Publish { .. } | Self::PublishWith(_) => {
                if let Some(head) = self.publish_head() {
                    head.encode(out);
                }
            }
            Self::Ack { kind, version, packet_id, reason } => {
                let first = encode::first_byte(kind.packet_type());
                let [high, low] = packet_id.get().to_be_bytes();
                if has_reason(*version, *reason) {
                    out.extend_from_slice(&[first, 3, high, low, reason.code()]);
                } else {
                    out.extend_from_slice(&[first, 2, high, low]);
                }
            }
            Self::PingResp => {
                out.extend_from_slice(&[encode::first_byte(PacketType::PingResp), 0]);
            }
            Self::Packet(version, packet) => packet.encode_head(*version, out),
        }
    }

    /// The payload of a PUBLISH; empty for every other packet.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        match self {
            Self::Publish { message, .. } => message.payload(),
            Self::PublishWith(publish) => publish.message.payload(),
            Self::Packet(_, packet) => packet.payload(),
            Self::Ack { .. } | Self::PingResp => &[],
        }
    }

    /// Both forms of PUBLISH as one; `None` for other packets.
    #[inline]
    fn publish_head(&self) -> Option<PublishHead<'_>> {
        match self {
            Self::Publish { message, version, flags, packet_id, expiry_s } => Some(PublishHead {
                message,
                v5: version.is_v5(),
                flags: *flags,
                packet_id: *packet_id,
                expiry_s: Some(*expiry_s),
                topic_alias: None,
                omit_topic: false,
                subscription_ids: &[],
            }),
            Self::PublishWith(publish) => Some(PublishHead {
                message: &publish.message,
                v5: publish.version.is_v5(),
                flags: publish.flags,
                packet_id: publish.packet_id.map_or(0, PacketId::get),
                expiry_s: Some(publish.expiry_s),
                topic_alias: publish.topic_alias.map(NonZeroU16::get),
                omit_topic: publish.omit_topic,
                subscription_ids: &publish.subscription_ids,
            }),
            _ => None,
        }
    }

    /// The same packet under another Packet Identifier, if it is a PUBLISH without properties of its
    /// receiver; `None` is for QoS 0.
    #[must_use]
    pub fn with_packet_id(&self, id: Option<PacketId>) -> Self {
        let mut frame = self.clone();
        if let Self::Publish { packet_id, .. } = &mut frame {
            *packet_id = id.map_or(0, PacketId::get);
        }
        frame
    }

    /// Where in the encoded packet the Packet Identifier is, if it is a PUBLISH that has one and no
    /// properties of its receiver: who lays it out once for many can put theirs there.
    pub fn packet_id_at(&self) -> Option<usize> {
        let Self::Publish { message, version, flags, .. } = self else { return None };
        if !encode::has_packet_id(*flags) {
            return None;
        }
        let body_len = message.body_len(*version, true);
        let header_len = encode::packet_len(body_len).checked_sub(body_len)?;
        header_len.checked_add(2)?.checked_add(message.topic().len())
    }

    /// Appends the whole packet to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        if let Self::Publish { message, version, flags, packet_id, .. } = self
            && let Some(parts) = message.plain_parts()
        {
            let body_len = message.body_len(*version, encode::has_packet_id(*flags));
            return encode::put_plain_publish(*version, *flags, *packet_id, body_len, parts, out);
        }
        self.encode_head(out);
        out.extend_from_slice(self.payload());
    }
}

const _: () = assert!(size_of::<Frame>() <= 24, "a frame fits an effect of 32 bytes");

#[cfg(test)]
mod tests {
    use alloc::{boxed::Box, vec, vec::Vec};

    use super::*;
    use crate::{Properties, Property};

    fn message() -> Message {
        let properties = [Property::MessageExpiryInterval(9), Property::ContentType("x".into())]
            .into_iter()
            .collect();
        Message::new("a/b", &properties, b"hi").unwrap()
    }

    fn bytes(frame: &Frame) -> Vec<u8> {
        let mut out = vec![0xEE];
        frame.encode(&mut out);
        assert_eq!(out.len() - 1, frame.len());
        assert!(out.ends_with(frame.payload()));
        out.split_off(1)
    }

    fn publish(version: ProtocolVersion, qos: QoS, packet_id: u16) -> Frame {
        let flags = Frame::publish_flags(false, qos, true);
        Frame::Publish { message: message(), version, flags, packet_id, expiry_s: 258 }
    }

    #[test]
    fn a_publish_is_written_for_each_version() {
        assert_eq!(
            bytes(&publish(ProtocolVersion::V311, QoS::AtMostOnce, 0)),
            *b"\x31\x07\0\x03a/bhi"
        );
        assert_eq!(
            bytes(&publish(ProtocolVersion::V5, QoS::AtLeastOnce, 0x1234)),
            *b"\x33\x13\0\x03a/b\x12\x34\x09\x02\0\0\x01\x02\x03\0\x01xhi"
        );
    }

    #[test]
    fn the_packet_identifier_is_where_it_is_said_to_be() {
        let ids = [0x0102, 0x0304].map(PacketId::new);
        for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
            let frame = publish(version, QoS::AtLeastOnce, 0x0102);
            let mut laid_out = bytes(&frame);
            let at = frame.packet_id_at().unwrap();
            assert_eq!(laid_out[at..at + 2], [1, 2]);
            laid_out[at..at + 2].copy_from_slice(&[3, 4]);
            assert_eq!(bytes(&frame.with_packet_id(ids[1])), laid_out);
            assert_eq!(frame.with_packet_id(ids[0]), frame);
            assert_eq!(publish(version, QoS::AtMostOnce, 0).packet_id_at(), None);
        }
        assert_eq!(Frame::PingResp.packet_id_at(), None);
        assert_eq!(Frame::PingResp.with_packet_id(ids[0]), Frame::PingResp);
    }

    #[test]
    fn a_publish_without_properties_is_the_same() {
        for (version, qos) in [
            (ProtocolVersion::V31, QoS::AtMostOnce),
            (ProtocolVersion::V311, QoS::AtMostOnce),
            (ProtocolVersion::V311, QoS::ExactlyOnce),
            (ProtocolVersion::V5, QoS::AtMostOnce),
            (ProtocolVersion::V5, QoS::AtLeastOnce),
        ] {
            for payload in [0, 1, 121, 122, 20_000] {
                let payload = vec![b'p'; payload];
                let message = Message::new("a/b", &Properties::new(), &payload).unwrap();
                let flags = Frame::publish_flags(false, qos, true);
                let packet_id = u16::from(qos != QoS::AtMostOnce);
                let frame = Frame::Publish { message, version, flags, packet_id, expiry_s: 0 };
                let mut in_parts = vec![];
                frame.encode_head(&mut in_parts);
                in_parts.extend_from_slice(frame.payload());
                assert_eq!(bytes(&frame), in_parts);
            }
        }
    }

    #[test]
    fn a_publish_carries_its_receivers_properties() {
        let frame = Frame::PublishWith(Box::new(PublishFrame {
            message: message(),
            version: ProtocolVersion::V5,
            flags: 0x0A,
            packet_id: PacketId::new(1),
            expiry_s: 1,
            topic_alias: NonZeroU16::new(5),
            omit_topic: true,
            subscription_ids: vec![1, 128],
        }));
        assert_eq!(
            bytes(&frame),
            *b"\x3A\x18\0\0\0\x01\x11\x23\0\x05\x0B\x01\x0B\x80\x01\x02\0\0\0\x01\x03\0\x01xhi"
        );
    }

    #[test]
    fn acknowledgements_take_the_short_form() {
        let ack = |kind, version, reason| {
            let packet_id = PacketId::new(258).unwrap();
            bytes(&Frame::Ack { kind, version, packet_id, reason })
        };
        let (v311, v5) = (ProtocolVersion::V311, ProtocolVersion::V5);
        assert_eq!(ack(AckKind::PubAck, v5, ReasonCode::Success), [0x40, 2, 1, 2]);
        assert_eq!(ack(AckKind::PubRec, v5, ReasonCode::QuotaExceeded), [0x50, 3, 1, 2, 0x97]);
        assert_eq!(ack(AckKind::PubRel, v311, ReasonCode::QuotaExceeded), [0x62, 2, 1, 2]);
        assert_eq!(ack(AckKind::PubComp, v311, ReasonCode::Success), [0x70, 2, 1, 2]);
        assert_eq!(bytes(&Frame::PingResp), [0xD0, 0]);
    }

    #[test]
    fn other_packets_are_written_by_version() {
        let ack = crate::ConnAck {
            session_present: true,
            reason: ReasonCode::Success,
            properties: [Property::ReceiveMaximum(3)].into_iter().collect::<Properties>(),
        };
        let conn_ack = |version| {
            bytes(&Frame::Packet(version, Box::new(Packet::ConnAck(Box::new(ack.clone())))))
        };
        assert_eq!(conn_ack(ProtocolVersion::V31), [0x20, 2, 0, 0]);
        assert_eq!(conn_ack(ProtocolVersion::V311), [0x20, 2, 1, 0]);
        assert_eq!(conn_ack(ProtocolVersion::V5), [0x20, 6, 1, 0, 3, 0x21, 0, 3]);
    }
}
