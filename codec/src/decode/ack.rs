//! Packets that are little more than a reason: acknowledgements, DISCONNECT and AUTH.

use alloc::boxed::Box;

use nom::number::complete::u8;

use super::{Context, Fault, Parsed, broken, properties::properties, require, wire::packet_id};
use crate::{Ack, Auth, DecodeError, Disconnect, Packet, PacketType, Properties, ReasonCode};

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
pub(super) fn ack(input: &[u8], packet: PacketType, context: Context) -> Parsed<'_, Packet> {
    let (rest, packet_id) = packet_id(input)?;
    let (rest, reason, properties) = optional_reason(rest, packet, context)?;
    let ack = Ack { packet_id, reason, properties };
    Ok((
        rest,
        match packet {
            PacketType::PubAck => Packet::PubAck(ack),
            PacketType::PubRec => Packet::PubRec(ack),
            PacketType::PubRel => Packet::PubRel(ack),
            _ => Packet::PubComp(ack),
        },
    ))
}

pub(super) fn disconnect(input: &[u8], context: Context) -> Parsed<'_, Packet> {
    let (rest, reason, properties) = optional_reason(input, PacketType::Disconnect, context)?;
    Ok((rest, Packet::Disconnect(Box::new(Disconnect { reason, properties }))))
}

pub(super) fn auth(input: &[u8], context: Context) -> Parsed<'_, Packet> {
    let (rest, reason, properties) = if input.is_empty() {
        // Section 3.15.2.1 lets an AUTH be empty, but 3.15.2.2.2 demands a method in every AUTH.
        (input, ReasonCode::Success, Properties::new())
    } else {
        let (rest, reason) = known_reason(input, PacketType::Auth)?;
        let (rest, properties) = properties(rest, PacketType::Auth, context)?;
        (rest, reason, properties)
    };
    require(
        properties.authentication_method().is_some(),
        DecodeError::AuthenticationMethodMissing,
    )?;
    judge_reason(reason, PacketType::Auth, context)?;
    Ok((rest, Packet::Auth(Box::new(Auth { reason, properties }))))
}

/// Reason and properties, each of which may be left out at the end (U5-3.4.2-a); before 5.0 there
/// are none.
fn optional_reason(
    input: &[u8],
    packet: PacketType,
    context: Context,
) -> Result<(&[u8], ReasonCode, Properties), nom::Err<Fault>> {
    //= [U5-3.4.2-a]
    if input.is_empty() || !context.version.is_v5() {
        return Ok((input, ReasonCode::Success, Properties::new()));
    }
    let (rest, reason) = reason(input, packet, context)?;
    if rest.is_empty() {
        return Ok((rest, reason, Properties::new()));
    }
    let (rest, properties) = properties(rest, packet, context)?;
    Ok((rest, reason, properties))
}

/// A reason that this packet may carry from this side.
pub(super) fn reason(input: &[u8], packet: PacketType, context: Context) -> Parsed<'_, ReasonCode> {
    let (rest, reason) = known_reason(input, packet)?;
    judge_reason(reason, packet, context)?;
    Ok((rest, reason))
}

/// A reason that the standard defines.
fn known_reason(input: &[u8], packet: PacketType) -> Parsed<'_, ReasonCode> {
    let (rest, code) = u8(input)?;
    match ReasonCode::from_u8(code) {
        Some(reason) => Ok((rest, reason)),
        None => broken(DecodeError::ReasonCodeUndefined(packet, code)),
    }
}

fn judge_reason(
    reason: ReasonCode,
    packet: PacketType,
    context: Context,
) -> Result<(), nom::Err<Fault>> {
    //= [U5-3.4.2.1-a]
    //= [MQTT-3.2.2-8] [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1]
    //= [MQTT-3.9.3-2] [MQTT-3.11.3-2] [MQTT-3.14.2-1] [MQTT-3.15.2-1]
    if seeded!(AcceptsForeignReason) {
        return Ok(());
    }
    require(reason.allowed_in(packet), DecodeError::ReasonCodeNotAllowed(packet, reason))?;
    require(
        reason.allowed_from(context.sender, packet),
        DecodeError::ReasonCodeFromWrongSide(packet, reason),
    )
}
