//! Cuts a byte stream into packets.

use alloc::vec::Vec;

use crate::{DecodeError, Packet, ProtocolVersion};

/// Whose packets are decoded: rules differ by direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Decodes what clients send; the first packet must be CONNECT and sets the version.
    Server,
    /// Decodes what a server sends to a client of this version.
    Client(ProtocolVersion),
}

/// Cuts one connection's byte stream into packets.
///
/// Keeps at most one incomplete packet, never a slice of the caller's buffer; holds no heap memory
/// between packets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Framer {
    role: Role,
    version: Option<ProtocolVersion>,
    first_packet_max: u32,
    packet_max: u32,
    partial: Vec<u8>,
}

impl Framer {
    /// A framer. `first_packet_max` bounds the first packet (CONNECT) and `packet_max` every later
    /// one, in bytes with the fixed header; both are judged from the length field alone.
    pub fn new(role: Role, first_packet_max: u32, packet_max: u32) -> Self {
        let version = match role {
            Role::Server => None,
            Role::Client(version) => Some(version),
        };
        Self { role, version, first_packet_max, packet_max, partial: Vec::new() }
    }

    /// The version that the CONNECT set, once it was seen.
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.version
    }

    /// Takes bytes from the front of `input` until a packet is complete or `input` is empty.
    ///
    /// # Errors
    /// The bytes break a rule. The framer must not be used afterwards.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Packet>, DecodeError> {
        let _ = (input, self.role, self.first_packet_max, self.packet_max, &mut self.partial);
        unimplemented!()
    }

    /// Bytes held of an incomplete packet.
    pub fn buffered(&self) -> usize {
        self.partial.len()
    }
}
