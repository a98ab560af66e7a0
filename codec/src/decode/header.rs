//! The fixed header: judged byte by byte, before anything else has come.

use super::wire::{Variable, read_variable};
use crate::{DecodeError, PacketType, ProtocolVersion, QoS, Sender, encode};

/// A complete fixed header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    packet: PacketType,
    flags: u8,
    len: usize,
    body_len: usize,
}

impl Header {
    /// Judges what is there of a fixed header; `None` if it is not complete yet.
    ///
    /// `version` is absent before CONNECT, `packet_max` counts the fixed header too. Flags of
    /// CONNECT are judged with its body, because 3.1 leaves them open.
    pub(crate) fn read(
        input: &[u8],
        sender: Sender,
        version: Option<ProtocolVersion>,
        packet_max: u32,
    ) -> Result<Option<Self>, DecodeError> {
        let Some((first, rest)) = input.split_first() else { return Ok(None) };
        let packet = judge_first_byte(*first, sender, version)?;
        let (value, length_len) = match read_variable(rest)? {
            Variable::Value { value, len } => (value, len),
            Variable::Incomplete => return Ok(None),
        };
        let header = Self {
            packet,
            flags: first & 0x0F,
            len: length_len.saturating_add(1),
            body_len: value as usize,
        };
        if header.packet_len() > packet_max as usize && !seeded!(IgnoresPacketSize) {
            return Err(DecodeError::PacketTooLarge(packet));
        }
        Ok(Some(header))
    }

    /// The packet's type.
    pub(crate) const fn packet_type(&self) -> PacketType {
        self.packet
    }

    /// The lower four bits of the first byte.
    pub(crate) const fn flags(&self) -> u8 {
        self.flags
    }

    /// Bytes of the fixed header.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Bytes of the packet, fixed header included.
    pub(crate) const fn packet_len(&self) -> usize {
        self.len.saturating_add(self.body_len)
    }
}

/// Judges type, direction and flags, which all stand in the first byte.
fn judge_first_byte(
    byte: u8,
    sender: Sender,
    version: Option<ProtocolVersion>,
) -> Result<PacketType, DecodeError> {
    //= [U5-3.12-a]
    //= [U5-2.1.2-a]
    let packet = PacketType::from_bits(byte >> 4);
    let Some(version) = version else {
        //= [MQTT-3.1.0-1]
        return match packet {
            Some(PacketType::Connect) => Ok(PacketType::Connect),
            _ => Err(DecodeError::FirstPacketNotConnect),
        };
    };
    let packet = match packet {
        Some(PacketType::Auth) if !version.is_v5() => None,
        packet => packet,
    }
    .ok_or(DecodeError::PacketTypeReserved)?;
    if !packet.is_sent_by(sender, version) {
        return Err(DecodeError::PacketFromWrongSide(packet));
    }
    judge_flags(packet, byte, version)?;
    Ok(packet)
}

/// `[MQTT-2.1.3-1]`: flags that are reserved have the value of the table.
fn judge_flags(packet: PacketType, first: u8, version: ProtocolVersion) -> Result<(), DecodeError> {
    //= [D31-12]
    let v31 = version == ProtocolVersion::V31;
    match packet {
        PacketType::Connect => Ok(()),
        PacketType::Publish => match QoS::from_bits((first >> 1) & 0b11) {
            None if seeded!(AcceptsQoS3) => Ok(()),
            //= [MQTT-3.3.1-4]
            None => Err(DecodeError::PublishQoS3),
            //= [MQTT-3.3.1-2]
            Some(QoS::AtMostOnce) if first & 0b1000 != 0 && !v31 => Err(DecodeError::DupWithQoS0),
            Some(_) => Ok(()),
        },
        // A 3.1 client sets DUP when it sends one of these again.
        PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe
            if v31 && first & 0x0F == 0b1010 =>
        {
            Ok(())
        }
        //= [MQTT-2.1.3-1] [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-3.14.1-1] [MQTT-3.15.1-1]
        packet if first == encode::first_byte(packet) => Ok(()),
        _ if seeded!(IgnoresReservedFlags) => Ok(()),
        packet => Err(DecodeError::ReservedFlags(packet)),
    }
}
