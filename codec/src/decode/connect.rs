//! CONNECT and CONNACK.

use alloc::boxed::Box;

use bytes::Bytes;
use nom::number::complete::{be_u16, u8};

use super::{
    Context, Fault, Parsed, ack, broken,
    properties::{Carried, Place, carried, properties},
    require,
    wire::{data, string},
};
use crate::{
    ConnAck, Connect, DecodeError, Field, Message, Packet, PacketType, ProtocolVersion, QoS,
    ReasonCode, Sender, Will, topic,
};

/// The bits of the Connect Flags.
mod flag {
    pub(super) const RESERVED: u8 = 0x01;
    pub(super) const CLEAN_START: u8 = 0x02;
    pub(super) const WILL: u8 = 0x04;
    pub(super) const WILL_RETAIN: u8 = 0x20;
    pub(super) const PASSWORD: u8 = 0x40;
    pub(super) const USER_NAME: u8 = 0x80;
}

/// Parses a CONNECT and sets `version` as soon as name and level are known.
/// `[MQTT-3.1.3-1]` `[MQTT-3.1.4-1]`
pub(super) fn connect<'a>(
    input: &'a [u8],
    header_flags: u8,
    version: &mut Option<ProtocolVersion>,
) -> Parsed<'a, Packet> {
    //= [MQTT-3.1.3-11 of 3.1.1] [D31-11]
    //= [MQTT-3.1.3-1] [MQTT-3.1.4-1]
    let (rest, (spoken, bridge)) = protocol(input)?;
    *version = Some(spoken);
    let context = Context { sender: Sender::Client, version: spoken };
    // 3.1 gives the flags of the fixed header no meaning here.
    let lax = spoken == ProtocolVersion::V31;
    require(lax || header_flags == 0, DecodeError::ReservedFlags(PacketType::Connect))?;
    let (rest, flags) = u8(rest)?;
    judge_flags(flags, spoken)?;
    let (rest, keep_alive_s) = be_u16(rest)?;
    let (rest, properties) = properties(rest, PacketType::Connect, context)?;
    let data_alone =
        properties.authentication_data().is_some() && properties.authentication_method().is_none();
    //= [U5-3.1.2.11.9-a]
    require(!data_alone, DecodeError::AuthenticationDataWithoutMethod)?;
    //= [MQTT-3.1.3-3] [MQTT-3.1.3-4]
    let (rest, client_id) = string(rest, Field::ClientIdentifier)?;
    let (rest, will) = will(rest, flags, spoken)?;
    //= [MQTT-3.1.3-12]
    let (rest, user_name) =
        optional(rest, flags & flag::USER_NAME != 0, lax, |input| string(input, Field::UserName))?;
    let (rest, password) = optional(rest, flags & flag::PASSWORD != 0, lax, data)?;
    let connect = Connect {
        version: spoken,
        bridge,
        clean_start: flags & flag::CLEAN_START != 0,
        keep_alive_s,
        client_id: client_id.into(),
        will: will.map(Box::new),
        user_name: user_name.map(Into::into),
        password: password.map(Bytes::copy_from_slice),
        properties,
    };
    Ok((rest, Packet::Connect(Box::new(connect))))
}

/// Protocol name and level, and whether a bridge speaks. `[MQTT-3.1.2-1]` `[MQTT-3.1.2-2]`
fn protocol(input: &[u8]) -> Parsed<'_, (ProtocolVersion, bool)> {
    //= [MQTT-3.1.2-2 of 3.1.1] [D31-1]
    //= [MQTT-3.1.2-1] [MQTT-3.1.2-2]
    let (rest, name) = data(input)?;
    require(matches!(name, b"MQTT" | b"MQIsdp"), DecodeError::ProtocolNameUnknown)?;
    let (rest, level) = u8(rest)?;
    // Bridges set the highest bit of the levels 3 and 4, a convention outside every standard.
    let version = match (name, level) {
        (b"MQIsdp", 0x03 | 0x83) => ProtocolVersion::V31,
        (b"MQTT", 0x04 | 0x84) => ProtocolVersion::V311,
        (b"MQTT", 0x05) => ProtocolVersion::V5,
        _ => return broken(DecodeError::UnsupportedProtocolVersion(level)),
    };
    Ok((rest, (version, level & 0x80 != 0)))
}

/// Judges what the Connect Flags say of one another.
fn judge_flags(flags: u8, version: ProtocolVersion) -> Result<(), nom::Err<Fault>> {
    //= [MQTT-3.1.2-11 of 3.1.1] [MQTT-3.1.2-22 of 3.1.1] [D31-7]
    let has = |bit: u8| flags & bit != 0;
    let will_qos = (flags >> 3) & 0b11;
    //= [MQTT-3.1.2-3]
    let reserved =
        has(flag::RESERVED) && !seeded!(IgnoresConnectFlag) && version != ProtocolVersion::V31;
    require(!reserved, DecodeError::ConnectFlagReserved)?;
    //= [MQTT-3.1.2-11]
    require(has(flag::WILL) || will_qos == 0, DecodeError::WillQoSWithoutWill)?;
    //= [MQTT-3.1.2-12]
    require(will_qos < 3, DecodeError::WillQoS3)?;
    //= [MQTT-3.1.2-13]
    let retain_alone = has(flag::WILL_RETAIN) && !has(flag::WILL);
    require(!retain_alone, DecodeError::WillRetainWithoutWill)?;
    // 5.0 lifts the rule.
    let password_alone = has(flag::PASSWORD) && !has(flag::USER_NAME);
    require(version.is_v5() || !password_alone, DecodeError::PasswordWithoutUserName)
}

/// Will Properties, Will Topic and Will Payload, if the flags announce them. `[MQTT-3.1.2-9]`
fn will(input: &[u8], flags: u8, version: ProtocolVersion) -> Parsed<'_, Option<Will>> {
    if flags & flag::WILL == 0 {
        return Ok((input, None));
    }
    //= [MQTT-3.1.2-9]
    let (rest, Carried { raw, expiry_at, own }) = carried(input, Place::Will, version)?;
    //= [MQTT-3.1.3-11]
    let (rest, name) = string(rest, Field::WillTopic)?;
    //= [MQTT-4.7.3-1]
    require(!name.is_empty(), DecodeError::WillTopicEmpty)?;
    require(!topic::has_wildcard(name), DecodeError::WillTopicWildcard)?;
    let (rest, payload) = data(rest)?;
    let will = Will {
        qos: QoS::from_bits((flags >> 3) & 0b11).unwrap_or_default(),
        retain: flags & flag::WILL_RETAIN != 0,
        delay_s: own.unwrap_or(0),
        message: Message::lay_out(name.as_bytes(), raw, expiry_at, payload),
    };
    Ok((rest, Some(will)))
}

/// A field that a flag announces. 3.1 lets it be missing at the end of the packet all the same.
/// `[MQTT-3.1.2-17]` `[MQTT-3.1.2-19]`
fn optional<'a, T>(
    input: &'a [u8],
    announced: bool,
    may_miss: bool,
    field: impl FnOnce(&'a [u8]) -> Parsed<'a, T>,
) -> Parsed<'a, Option<T>> {
    //= [MQTT-3.1.2-21 of 3.1.1] [D31-8]
    //= [MQTT-3.1.2-16] [MQTT-3.1.2-17] [MQTT-3.1.2-18] [MQTT-3.1.2-19]
    if !announced || may_miss && input.is_empty() {
        return Ok((input, None));
    }
    field(input).map(|(rest, value)| (rest, Some(value)))
}

/// CONNACK, in a client's hands.
pub(super) fn conn_ack(input: &[u8], context: Context) -> Parsed<'_, Packet> {
    let (rest, flags) = u8(input)?;
    // In 3.1 the byte is reserved and its value without meaning.
    let v31 = context.version == ProtocolVersion::V31;
    //= [MQTT-3.2.2-1]
    require(v31 || flags & 0xFE == 0, DecodeError::ConnAckFlagsReserved)?;
    let session_present = !v31 && flags == 1;
    let (rest, reason) = if context.version.is_v5() {
        ack::reason(rest, PacketType::ConnAck, context)?
    } else {
        return_code(rest)?
    };
    //= [MQTT-3.2.2-6]
    let contradiction = session_present && reason != ReasonCode::Success;
    require(!contradiction, DecodeError::SessionPresentWithFailure)?;
    let (rest, properties) = properties(rest, PacketType::ConnAck, context)?;
    Ok((rest, Packet::ConnAck(Box::new(ConnAck { session_present, reason, properties }))))
}

/// A Connect Return Code before 5.0.
fn return_code(input: &[u8]) -> Parsed<'_, ReasonCode> {
    let (rest, code) = u8(input)?;
    match ReasonCode::from_v3_connect_return_code(code) {
        Some(reason) => Ok((rest, reason)),
        None => broken(DecodeError::ReasonCodeUndefined(PacketType::ConnAck, code)),
    }
}
