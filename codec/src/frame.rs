//! Outbound packets: small values that become bytes when a connection's buffer takes them.

use alloc::{boxed::Box, vec::Vec};
use core::num::NonZeroU16;

use crate::{Message, Packet, PacketId, ProtocolVersion, QoS, ReasonCode};

/// The four packets that acknowledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub enum AckKind {
    PubAck,
    PubRec,
    PubRel,
    PubComp,
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
    pub fn len(&self) -> usize {
        unimplemented!()
    }

    /// Always false: every packet has a fixed header.
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Appends everything but [`Frame::payload`] to `out`.
    ///
    /// A caller that queues large payloads by reference writes the head, then the payload.
    pub fn encode_head(&self, out: &mut Vec<u8>) {
        let _ = out;
        unimplemented!()
    }

    /// The payload of a PUBLISH; empty for every other packet.
    pub fn payload(&self) -> &[u8] {
        unimplemented!()
    }

    /// Appends the whole packet to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.encode_head(out);
        out.extend_from_slice(self.payload());
    }
}

const _: () = assert!(size_of::<Frame>() <= 24, "a frame fits an effect of 32 bytes");
