//! Cuts a byte stream into packets.

use alloc::vec::Vec;

use crate::{
    DecodeError, Packet, ProtocolVersion, Sender,
    decode::{self, Header},
};

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
    /// one, in bytes with the fixed header; both are judged from the length field alone. A client
    /// knows its version from the start, so only `packet_max` bounds what it is sent.
    pub fn new(role: Role, first_packet_max: u32, packet_max: u32) -> Self {
        let version = match role {
            Role::Server => None,
            Role::Client(version) => Some(version),
        };
        Self { role, version, first_packet_max, packet_max, partial: Vec::new() }
    }

    /// Bounds every packet but the first anew, bytes with the fixed header.
    pub fn set_packet_max(&mut self, packet_max: u32) {
        self.packet_max = packet_max;
    }

    /// The version that the CONNECT set, once it was seen: as soon as its protocol name and level
    /// are known, even if a later field of it breaks a rule.
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.version
    }

    /// Takes bytes from the front of `input` until a packet is complete or `input` is empty.
    ///
    /// A packet that lies in `input` as a whole is read in place; only a part is kept. What is
    /// wrong with a packet is reported as soon as the bytes that show it are there: type and flags
    /// with the first byte, the size with the Remaining Length, all else with the last byte.
    ///
    /// # Errors
    /// The bytes break a rule. The framer must not be used afterwards.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Packet>, DecodeError> {
        if self.partial.is_empty()
            && let Some(header) = self.header(input)?
            && let Some((packet, rest)) = split(input, header.packet_len())
        {
            *input = if seeded!(SwallowsNextPacket) { &[] } else { rest };
            return self.packet(header, packet).map(Some);
        }
        loop {
            let missing = match self.header(&self.partial)? {
                // The header tells how much is missing; without it one byte may complete it.
                None => 1,
                Some(header) => match header.packet_len().saturating_sub(self.partial.len()) {
                    0 => {
                        // The memory of the partial packet is given back with it.
                        let packet = core::mem::take(&mut self.partial);
                        return self.packet(header, &packet).map(Some);
                    }
                    missing => missing,
                },
            };
            if seeded!(ReservesRemainingLength) {
                self.partial.reserve_exact(missing);
            }
            if input.is_empty() {
                return Ok(None);
            }
            self.keep(input, missing);
        }
    }

    /// Moves up to `missing` bytes from `input` to the partial packet.
    ///
    /// Memory grows with the bytes that came, at most to twice their number and never beyond the
    /// packet, so that a large Remaining Length alone costs nothing.
    fn keep(&mut self, input: &mut &[u8], missing: usize) {
        let taken = missing.min(input.len());
        let spare = self.partial.capacity().saturating_sub(self.partial.len());
        if taken > spare {
            self.partial.reserve_exact(missing.min(taken.max(self.partial.len())));
        }
        if let Some((bytes, rest)) = input.split_at_checked(taken) {
            self.partial.extend_from_slice(bytes);
            *input = rest;
        }
    }

    /// The fixed header at the front of `bytes`.
    fn header(&self, bytes: &[u8]) -> Result<Option<Header>, DecodeError> {
        //= [U5-3.2.2.3.6-a]
        let packet_max =
            if self.version.is_none() { self.first_packet_max } else { self.packet_max };
        Header::read(bytes, self.sender(), self.version, packet_max)
    }

    /// Decodes a whole packet.
    fn packet(&mut self, header: Header, packet: &[u8]) -> Result<Packet, DecodeError> {
        let body = packet.get(header.len()..).unwrap_or_default();
        match self.version {
            Some(version) => decode::packet(header, body, self.sender(), version),
            None => decode::connect(header, body, &mut self.version),
        }
    }

    /// Whose packets these are.
    const fn sender(&self) -> Sender {
        match self.role {
            Role::Server => Sender::Client,
            Role::Client(_) => Sender::Server,
        }
    }

    /// Bytes held of an incomplete packet.
    pub fn buffered(&self) -> usize {
        self.partial.len()
    }
}

/// A packet of this length and what follows it, if all of it is there.
fn split(input: &[u8], packet_len: usize) -> Option<(&[u8], &[u8])> {
    if seeded!(TakesWhatIsThere) {
        return input.split_at_checked(packet_len.min(input.len()));
    }
    input.split_at_checked(packet_len)
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    const CONNECT_V5: &[u8] = b"\x10\x0E\0\x04MQTT\x05\x02\0\x3C\0\0\x01c";
    const PUBLISH: &[u8] = b"\x30\x08\0\x03a/b\0hi";

    fn server() -> Framer {
        Framer::new(Role::Server, 64, 1 << 20)
    }

    fn connected() -> Framer {
        let mut framer = server();
        assert!(matches!(framer.decode(&mut &CONNECT_V5[..]), Ok(Some(Packet::Connect(_)))));
        framer
    }

    #[test]
    fn whole_packets_are_read_in_place() {
        let mut framer = server();
        let bytes = [CONNECT_V5, PUBLISH, PUBLISH, &[0xC0]].concat();
        let mut input = &bytes[..];
        assert!(matches!(framer.decode(&mut input), Ok(Some(Packet::Connect(_)))));
        assert_eq!(framer.version(), Some(ProtocolVersion::V5));
        for _ in 0..2 {
            let Ok(Some(Packet::Publish(publish))) = framer.decode(&mut input) else { panic!() };
            assert_eq!(
                (publish.message.topic(), publish.message.payload()),
                (&b"a/b"[..], &b"hi"[..])
            );
            assert_eq!(framer.partial.capacity(), 0);
        }
        assert_eq!(framer.decode(&mut input), Ok(None));
        assert_eq!((input, framer.buffered()), (&[][..], 1));
        assert_eq!(framer.decode(&mut &[0][..]), Ok(Some(Packet::PingReq)));
        assert_eq!((framer.buffered(), framer.partial.capacity()), (0, 0));
    }

    #[test]
    fn memory_grows_with_the_bytes_that_came() {
        let mut framer = connected();
        let mut input = &[0x30, 0x80, 0x80, 0x20][..];
        assert_eq!(framer.decode(&mut input), Ok(None));
        assert!(framer.partial.capacity() <= 8);
        for _ in 0..10 {
            let came = framer.buffered() + 100;
            assert_eq!(framer.decode(&mut &[b'a'; 100][..]), Ok(None));
            assert_eq!(framer.buffered(), came);
            assert!(framer.partial.capacity() <= 2 * came);
        }
    }

    #[test]
    fn a_header_is_judged_before_the_rest_has_come() {
        let first = |byte| server().decode(&mut &[byte][..]);
        assert_eq!(first(0x10), Ok(None));
        for byte in [0x00, 0x20, 0x30, 0xC0, 0xF0, b'G'] {
            assert_eq!(first(byte), Err(DecodeError::FirstPacketNotConnect), "{byte:02X}");
        }
        let then = |bytes: &[u8]| connected().decode(&mut &bytes[..]);
        assert_eq!(then(&[0x36]), Err(DecodeError::PublishQoS3));
        assert_eq!(then(&[0x0F]), Err(DecodeError::PacketTypeReserved));
        assert_eq!(
            then(&[0x30, 0xFF, 0xFF, 0x3F]),
            Err(DecodeError::PacketTooLarge(crate::PacketType::Publish))
        );
        assert_eq!(then(&[0xC0, 0x80, 0x00]), Err(DecodeError::VariableByteIntegerNotMinimal));
        assert_eq!(
            then(&[0x30, 0x80, 0x80, 0x80, 0x80]),
            Err(DecodeError::VariableByteIntegerTooLong)
        );
        // 62 bytes and the header are 64, 63 are too many.
        assert_eq!(server().decode(&mut &[0x10, 62][..]), Ok(None));
        assert_eq!(
            server().decode(&mut &[0x10, 63][..]),
            Err(DecodeError::PacketTooLarge(crate::PacketType::Connect))
        );
    }

    #[test]
    fn a_failed_connect_still_tells_its_version() {
        let mut framer = server();
        // The reserved flag is set.
        let bytes = b"\x10\x0D\0\x04MQTT\x04\x03\0\x3C\0\x01c";
        assert_eq!(framer.decode(&mut &bytes[..]), Err(DecodeError::ConnectFlagReserved));
        assert_eq!(framer.version(), Some(ProtocolVersion::V311));
        let mut framer = server();
        let bytes = b"\x10\x0D\0\x04MQTT\x06\x02\0\x3C\0\x01c";
        assert_eq!(framer.decode(&mut &bytes[..]), Err(DecodeError::UnsupportedProtocolVersion(6)));
        assert_eq!(framer.version(), None);
    }

    #[test]
    fn any_split_gives_the_same_packets() {
        let bytes = [CONNECT_V5, PUBLISH, &[0xC0, 0], PUBLISH, &[0x36]].concat();
        let read = |chunk: usize| {
            let mut framer = server();
            let mut packets = vec![];
            for mut part in bytes.chunks(chunk) {
                loop {
                    match framer.decode(&mut part) {
                        Ok(Some(packet)) => packets.push(Ok(packet)),
                        Ok(None) => break,
                        Err(error) => {
                            packets.push(Err(error));
                            return packets;
                        }
                    }
                }
            }
            packets
        };
        let whole = read(bytes.len());
        assert_eq!((whole.len(), whole.last()), (5, Some(&Err(DecodeError::PublishQoS3))));
        for chunk in 1..bytes.len() {
            assert_eq!(read(chunk), whole, "{chunk}");
        }
    }
}
