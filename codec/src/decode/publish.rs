//! PUBLISH: one allocation, whatever it carries.

use core::num::NonZeroU16;

use super::{
    Context, Parsed,
    properties::{Carried, Place, carried},
    require,
    wire::{packet_id, topic_name},
};
use crate::{DecodeError, Message, Packet, PacketType, Publish, QoS};

pub(super) fn publish(input: &[u8], flags: u8, context: Context) -> Parsed<'_, Packet> {
    let v5 = context.version.is_v5();
    let qos = QoS::from_bits((flags >> 1) & 0b11).unwrap_or_default();
    let (rest, name) = topic_name(input)?;
    let empty = name.is_empty() && !seeded!(PublishesToNothing);
    //= [MQTT-4.7.3-1]
    require(v5 || !empty, DecodeError::TopicNameEmpty)?;
    //= [MQTT-2.2.1-2]
    let (rest, packet_id) = match qos {
        QoS::AtMostOnce => (rest, None),
        _ => packet_id(rest).map(|(rest, id)| (rest, Some(id)))?,
    };
    let place = Place::Packet(PacketType::Publish, context.sender);
    let (payload, Carried { raw, expiry_at, own }) = carried(rest, place, context.version)?;
    let topic_alias = own.and_then(|alias| NonZeroU16::new(alias as u16));
    //= [U5-3.3.2.1-a]
    require(!empty || topic_alias.is_some(), DecodeError::TopicNameEmptyWithoutAlias)?;
    //= [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18]
    //= [MQTT-3.3.2-20] the properties go on as the bytes that came.
    let message = Message::lay_out(name, raw, expiry_at, payload);
    let publish = Publish {
        dup: flags & 0b1000 != 0,
        qos,
        retain: flags & 0b0001 != 0,
        packet_id,
        topic_alias,
        message,
    };
    Ok((&[], Packet::Publish(publish)))
}
