//! SUBSCRIBE, UNSUBSCRIBE and their acknowledgements.

use alloc::{boxed::Box, vec::Vec};

use nom::number::complete::u8;

use super::{
    Context, Fault, Parsed,
    ack::reason,
    broken,
    properties::properties,
    require,
    wire::{packet_id, string},
};
use crate::{
    DecodeError, Field, Packet, PacketType, ProtocolVersion, QoS, ReasonCode, RetainHandling,
    SubAck, Subscribe, SubscribeFilter, SubscriptionOptions, UnsubAck, Unsubscribe,
};

pub(super) fn subscribe(input: &[u8], context: Context) -> Parsed<'_, Packet> {
    let (rest, packet_id) = packet_id(input)?;
    let (rest, properties) = properties(rest, PacketType::Subscribe, context)?;
    let (rest, filters) = entries(rest, |input| subscribe_filter(input, context.version))?;
    //= [MQTT-3.8.3-2]
    let none = filters.is_empty() && !seeded!(SubscribesToNothing);
    require(!none, DecodeError::NoTopicFilter(PacketType::Subscribe))?;
    Ok((rest, Packet::Subscribe(Box::new(Subscribe { packet_id, properties, filters }))))
}

/// A Topic Filter and its Subscription Options. `[MQTT-3.8.3-1]`
fn subscribe_filter(input: &[u8], version: ProtocolVersion) -> Parsed<'_, SubscribeFilter> {
    //= [MQTT-3.8.3-1 of 3.1.1]
    //= [MQTT-3.8.3-1]
    let (rest, filter) = string(input, Field::TopicFilter)?;
    let (rest, byte) = u8(rest)?;
    let options = subscription_options(byte, version)?;
    //= [MQTT-3.8.3-4]
    require(!(options.no_local && filter.starts_with("$share/")), DecodeError::NoLocalOnShared)?;
    Ok((rest, SubscribeFilter { filter: filter.into(), options }))
}

fn subscription_options(
    byte: u8,
    version: ProtocolVersion,
) -> Result<SubscriptionOptions, nom::Err<Fault>> {
    //= [U5-3.8.3.1-a]
    //= [MQTT-3.8.3-5]
    let reserved = if version.is_v5() { 0b1100_0000 } else { 0b1111_1100 };
    require(byte & reserved == 0, DecodeError::SubscriptionOptionsReserved)?;
    let Some(qos) = QoS::from_bits(byte & 0b11) else {
        return broken(DecodeError::SubscriptionQoS3);
    };
    let retain_handling = match (byte >> 4) & 0b11 {
        0 => RetainHandling::Send,
        1 => RetainHandling::SendIfNew,
        2 => RetainHandling::DoNotSend,
        _ => return broken(DecodeError::RetainHandling3),
    };
    Ok(SubscriptionOptions {
        qos,
        no_local: byte & 0b0100 != 0,
        retain_as_published: byte & 0b1000 != 0,
        retain_handling,
    })
}

pub(super) fn sub_ack(input: &[u8], context: Context) -> Parsed<'_, Packet> {
    let (rest, packet_id) = packet_id(input)?;
    let (rest, properties) = properties(rest, PacketType::SubAck, context)?;
    let (rest, reasons) = entries(rest, |input| {
        if context.version.is_v5() {
            reason(input, PacketType::SubAck, context)
        } else {
            return_code(input)
        }
    })?;
    require(!reasons.is_empty(), DecodeError::NoReasonCode(PacketType::SubAck))?;
    Ok((rest, Packet::SubAck(Box::new(SubAck { packet_id, properties, reasons }))))
}

/// A return code of a SUBACK before 5.0.
fn return_code(input: &[u8]) -> Parsed<'_, ReasonCode> {
    let (rest, code) = u8(input)?;
    match (code, ReasonCode::from_u8(code)) {
        (0..=2 | 0x80, Some(reason)) => Ok((rest, reason)),
        _ => broken(DecodeError::ReasonCodeUndefined(PacketType::SubAck, code)),
    }
}

pub(super) fn unsubscribe(input: &[u8], context: Context) -> Parsed<'_, Packet> {
    let (rest, packet_id) = packet_id(input)?;
    let (rest, properties) = properties(rest, PacketType::Unsubscribe, context)?;
    let (rest, filters) = entries(rest, |input| {
        //= [MQTT-3.10.3-1]
        string(input, Field::TopicFilter).map(|(rest, filter)| (rest, filter.into()))
    })?;
    //= [MQTT-3.10.3-2]
    require(!filters.is_empty(), DecodeError::NoTopicFilter(PacketType::Unsubscribe))?;
    Ok((rest, Packet::Unsubscribe(Box::new(Unsubscribe { packet_id, properties, filters }))))
}

/// An UNSUBACK, which has no payload before 5.0.
pub(super) fn unsub_ack(input: &[u8], context: Context) -> Parsed<'_, Packet> {
    let (rest, packet_id) = packet_id(input)?;
    let (rest, properties) = properties(rest, PacketType::UnsubAck, context)?;
    let (rest, reasons) = if context.version.is_v5() {
        let (rest, reasons) = entries(rest, |input| reason(input, PacketType::UnsubAck, context))?;
        require(!reasons.is_empty(), DecodeError::NoReasonCode(PacketType::UnsubAck))?;
        (rest, reasons)
    } else {
        (rest, Vec::new())
    };
    Ok((rest, Packet::UnsubAck(Box::new(UnsubAck { packet_id, properties, reasons }))))
}

/// A payload: entries to the end of the packet.
fn entries<'a, T>(
    mut input: &'a [u8],
    mut entry: impl FnMut(&'a [u8]) -> Parsed<'a, T>,
) -> Parsed<'a, Vec<T>> {
    //= [D31-9]
    let mut list = Vec::new();
    while !input.is_empty() {
        let (rest, value) = entry(input)?;
        list.push(value);
        input = rest;
    }
    Ok((input, list))
}
