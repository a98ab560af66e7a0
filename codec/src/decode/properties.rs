//! Properties: what a packet may carry, how often, and with which values.

use nom::{
    Parser,
    combinator::map,
    multi::length_data,
    number::complete::{be_u16, be_u32, u8},
};

use super::{
    Context, Fault, Parsed, broken, require,
    wire::{data, string, variable},
};
use crate::{
    DecodeError, Field, PacketType, Properties, PropertyId, ProtocolVersion, Sender,
    property::Value, topic,
};

/// Whose properties are read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// Those of a packet from this side.
    Packet(PacketType, Sender),
    /// Will Properties.
    Will,
}

/// The properties of a packet; none before 5.0. `[MQTT-2.2.2-1]`
pub(super) fn properties(
    input: &[u8],
    packet: PacketType,
    context: Context,
) -> Parsed<'_, Properties> {
    if !context.version.is_v5() {
        return Ok((input, Properties::new()));
    }
    let (rest, raw) = length_data(variable).parse(input)?;
    let mut list = Properties::new();
    scan(raw, Place::Packet(packet, context.sender), |_, _, id, value| {
        list.extend(id.with_value(value));
        if seeded!(CopiesProperties) {
            list = list.iter().cloned().collect();
        }
    })?;
    Ok((rest, list))
}

/// The properties of an Application Message as they stand on the wire, without the one that
/// belongs to the packet: Topic Alias of a PUBLISH, Will Delay Interval of a Will.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Carried<'a> {
    /// The message's properties, in two parts around the packet's own.
    pub(super) raw: [&'a [u8]; 2],
    /// Offset of the Message Expiry Interval's value in the joined parts.
    pub(super) expiry_at: Option<usize>,
    /// The value of the packet's own property.
    pub(super) own: Option<u32>,
}

/// Property Length and properties of an Application Message; none before 5.0.
pub(super) fn carried(
    input: &[u8],
    place: Place,
    version: ProtocolVersion,
) -> Parsed<'_, Carried<'_>> {
    if !version.is_v5() {
        return Ok((input, Carried::default()));
    }
    let (rest, raw) = length_data(variable).parse(input)?;
    let mut expiry_at = None;
    let mut own = None;
    scan(raw, place, |start, end, id, value| match (id, value) {
        (PropertyId::TopicAlias, Value::TwoByteInteger(alias)) => {
            own = Some((start, end, u32::from(alias)));
        }
        (PropertyId::WillDelayInterval, Value::FourByteInteger(delay_s)) => {
            own = Some((start, end, delay_s));
        }
        (PropertyId::MessageExpiryInterval, _) => expiry_at = Some(start.saturating_add(1)),
        _ => {}
    })?;
    let Some((start, end, value)) = own else {
        return Ok((rest, Carried { raw: [raw, &[]], expiry_at, own: None }));
    };
    let parts = [raw.get(..start).unwrap_or_default(), raw.get(end..).unwrap_or_default()];
    let moved = end.saturating_sub(start);
    let expiry_at = expiry_at.map(|at| {
        if at > start && !seeded!(MisplacesExpiry) { at.saturating_sub(moved) } else { at }
    });
    Ok((rest, Carried { raw: parts, expiry_at, own: Some(value) }))
}

/// The properties of a message that was laid out, whose bytes were judged before.
pub(crate) fn message_properties(raw: &[u8]) -> Properties {
    let judged = judged_message_properties(raw);
    debug_assert!(judged.is_some(), "a layout holds valid properties");
    judged.unwrap_or_default()
}

/// The properties of a message in bytes that may be anything; `None` if they are not valid.
pub(crate) fn judged_message_properties(raw: &[u8]) -> Option<Properties> {
    let mut list = Properties::new();
    let place = Place::Packet(PacketType::Publish, Sender::Server);
    scan(raw, place, |_, _, id, value| list.extend(id.with_value(value))).ok()?;
    Some(list)
}

/// Judges the properties in `raw` one by one and shows each to `visit` with where it starts and
/// ends.
fn scan<'a>(
    raw: &'a [u8],
    place: Place,
    mut visit: impl FnMut(usize, usize, PropertyId, Value<'a>),
) -> Result<(), nom::Err<Fault>> {
    //= [U5-2.2.2.2-b]
    let at = |rest: &[u8]| raw.len().saturating_sub(rest.len());
    let mut seen = 0_u64;
    let mut rest = raw;
    while !rest.is_empty() {
        let start = at(rest);
        let (after_id, id) = property_id(rest)?;
        judge_place(id, place)?;
        let bit = 1_u64.checked_shl(id as u32).unwrap_or(0);
        //= [U5-3.3.2.3.5-a] [U5-3.4.2.2.2-a]
        let repeats = id == PropertyId::UserProperty
            || id == PropertyId::SubscriptionIdentifier
                && matches!(place, Place::Packet(PacketType::Publish, _));
        //= [U5-3.1.2.11.2-a] [U5-3.1.2.11.3-a] [U5-3.1.2.11.4-a] [U5-3.1.2.11.5-a]
        //= [U5-3.1.2.11.6-a] [U5-3.1.2.11.7-a] [U5-3.1.2.11.9-a] [U5-3.1.3.2-a]
        let repeats = repeats || seeded!(AcceptsRepeatedProperty);
        require(repeats || seen & bit == 0, DecodeError::PropertyRepeated(id))?;
        seen |= bit;
        let (after_value, value) = property_value(after_id, id)?;
        judge_value(id, value)?;
        visit(start, at(after_value), id, value);
        rest = after_value;
    }
    Ok(())
}

/// A property's identifier. It is a Variable Byte Integer, though all that are defined fit one
/// byte.
fn property_id(input: &[u8]) -> Parsed<'_, PropertyId> {
    let (rest, value) = variable(input)?;
    match u8::try_from(value).ok().and_then(PropertyId::from_u8) {
        Some(id) => Ok((rest, id)),
        None => broken(DecodeError::PropertyUnknown(value)),
    }
}

/// Whether the property may be where it is.
fn judge_place(id: PropertyId, place: Place) -> Result<(), nom::Err<Fault>> {
    //= [U5-2.2.2.2-a] [U5-3.1.3.2-a] [U5-3.3.2.3.5-a]
    match place {
        _ if seeded!(AcceptsForeignProperty) => Ok(()),
        Place::Will => require(id.allowed_in_will(), DecodeError::PropertyNotAllowedInWill(id)),
        Place::Packet(packet, sender) if id.allowed_from(sender, packet) => Ok(()),
        //= [MQTT-3.3.4-6] [MQTT-3.14.2-2]
        Place::Packet(packet, _) if id.allowed_in(packet) => {
            broken(DecodeError::PropertyFromWrongSide(id, packet))
        }
        Place::Packet(packet, _) => broken(DecodeError::PropertyNotAllowed(id, packet)),
    }
}

/// A property's value by its data type.
fn property_value(input: &[u8], id: PropertyId) -> Parsed<'_, Value<'_>> {
    let text = |input| string(input, Field::Property(id));
    match id {
        PropertyId::PayloadFormatIndicator
        | PropertyId::RequestProblemInformation
        | PropertyId::RequestResponseInformation
        | PropertyId::MaximumQoS
        | PropertyId::RetainAvailable
        | PropertyId::WildcardSubscriptionAvailable
        | PropertyId::SubscriptionIdentifierAvailable
        | PropertyId::SharedSubscriptionAvailable => map(u8, Value::Byte).parse(input),
        PropertyId::ServerKeepAlive
        | PropertyId::ReceiveMaximum
        | PropertyId::TopicAliasMaximum
        | PropertyId::TopicAlias => map(be_u16, Value::TwoByteInteger).parse(input),
        PropertyId::MessageExpiryInterval
        | PropertyId::SessionExpiryInterval
        | PropertyId::WillDelayInterval
        | PropertyId::MaximumPacketSize => map(be_u32, Value::FourByteInteger).parse(input),
        PropertyId::SubscriptionIdentifier => {
            map(variable, Value::VariableByteInteger).parse(input)
        }
        //= [MQTT-3.3.2-13] [MQTT-3.3.2-19]
        PropertyId::ContentType
        | PropertyId::ResponseTopic
        | PropertyId::AssignedClientIdentifier
        | PropertyId::AuthenticationMethod
        | PropertyId::ResponseInformation
        | PropertyId::ServerReference
        | PropertyId::ReasonString => map(text, Value::String).parse(input),
        PropertyId::CorrelationData | PropertyId::AuthenticationData => {
            map(data, Value::Data).parse(input)
        }
        //= [MQTT-1.5.7-1]
        PropertyId::UserProperty => {
            map((text, text), |(name, value)| Value::StringPair(name, value)).parse(input)
        }
    }
}

/// Whether the value is one that the property may have.
fn judge_value(id: PropertyId, value: Value<'_>) -> Result<(), nom::Err<Fault>> {
    //= [U5-3.1.2.11.3-a] [U5-3.1.2.11.4-a] [U5-3.1.2.11.6-a] [U5-3.1.2.11.7-a] [U5-3.3.2.3.8-a]
    //= [U5-3.8.2.1.2-a]
    let in_range = match (id, value) {
        // Maximum QoS can be 0 or 1 only, as every other Byte.
        (_, Value::Byte(value)) => value <= 1,
        //= [MQTT-3.3.2-8]
        (PropertyId::TopicAlias, Value::TwoByteInteger(0)) if !seeded!(AcceptsAliasZero) => {
            return broken(DecodeError::TopicAliasZero);
        }
        (PropertyId::ReceiveMaximum, Value::TwoByteInteger(value)) => value > 0,
        (PropertyId::MaximumPacketSize, Value::FourByteInteger(value)) => value > 0,
        (_, Value::VariableByteInteger(value)) => value > 0,
        //= [MQTT-3.3.2-14]
        (PropertyId::ResponseTopic, Value::String(name)) => {
            return require(!topic::has_wildcard(name), DecodeError::ResponseTopicWildcard);
        }
        _ => true,
    };
    require(in_range, DecodeError::PropertyValueOutOfRange(id))
}
