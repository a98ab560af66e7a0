//! Packets to bytes. Every length is known before the first byte is written, so a packet is
//! appended in one pass and nothing is moved.

use alloc::vec::Vec;

use crate::{
    Ack, Connect, Message, Packet, PacketType, Properties, ProtocolVersion, Publish, ReasonCode,
    Subscribe, Will, message::Parts, packet::SubscriptionOptions, wire,
};

impl Packet {
    /// Bytes this packet takes on the wire, fixed header included.
    pub fn encoded_len(&self, version: ProtocolVersion) -> usize {
        packet_len(self.body_len(version))
    }

    /// Appends the packet to `out` as this version writes it.
    ///
    /// What the version lacks is left out: properties and most reasons before 5.0. A CONNECT goes
    /// by its own version. AUTH does not exist before 5.0 and appends what 5.0 would. A string or
    /// data longer than its two-byte length can say, which no received packet holds, is cut.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        self.encode_head(version, out);
        out.extend_from_slice(self.payload());
    }

    /// The payload of a PUBLISH; empty for every other packet.
    pub(crate) fn payload(&self) -> &[u8] {
        match self {
            Self::Publish(publish) => publish.message.payload(),
            _ => &[],
        }
    }

    /// Appends everything but [`Packet::payload`].
    pub(crate) fn encode_head(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        if let Self::Publish(publish) = self {
            return PublishHead::of(publish, version).encode(out);
        }
        let body_len = self.body_len(version);
        out.reserve(packet_len(body_len));
        out.push(first_byte(self.packet_type()));
        wire::put_variable(body_len, out);
        self.encode_body(version, out);
    }

    /// The Remaining Length.
    fn body_len(&self, version: ProtocolVersion) -> usize {
        let v5 = version.is_v5();
        let properties_len = |properties: &Properties| if v5 { properties.field_len() } else { 0 };
        match self {
            Self::Connect(connect) => connect_len(connect),
            Self::ConnAck(ack) => wire::sum(&[2, properties_len(&ack.properties)]),
            Self::Publish(publish) => PublishHead::of(publish, version).body_len(),
            Self::PubAck(ack) | Self::PubRec(ack) | Self::PubRel(ack) | Self::PubComp(ack) => {
                wire::sum(&[2, reason_len(v5, ack.reason, &ack.properties)])
            }
            Self::Subscribe(subscribe) => wire::sum(&[
                2,
                properties_len(&subscribe.properties),
                subscribe.filters.iter().fold(0, |total: usize, entry| {
                    total.saturating_add(wire::sum(&[1, wire::string_len(&entry.filter)]))
                }),
            ]),
            Self::SubAck(ack) => {
                wire::sum(&[2, properties_len(&ack.properties), ack.reasons.len()])
            }
            Self::Unsubscribe(unsubscribe) => wire::sum(&[
                2,
                properties_len(&unsubscribe.properties),
                unsubscribe
                    .filters
                    .iter()
                    .fold(0, |total: usize, filter| total.saturating_add(wire::string_len(filter))),
            ]),
            Self::UnsubAck(ack) => wire::sum(&[
                2,
                properties_len(&ack.properties),
                if v5 { ack.reasons.len() } else { 0 },
            ]),
            Self::PingReq | Self::PingResp => 0,
            Self::Disconnect(disconnect) => {
                reason_len(v5, disconnect.reason, &disconnect.properties)
            }
            Self::Auth(auth)
                if auth.reason == ReasonCode::Success && auth.properties.is_empty() =>
            {
                0
            }
            Self::Auth(auth) => wire::sum(&[1, auth.properties.field_len()]),
        }
    }

    /// Appends what follows the fixed header; as many bytes as [`Packet::body_len`] says.
    fn encode_body(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        let v5 = version.is_v5();
        match self {
            Self::Connect(connect) => put_connect(connect, out),
            Self::ConnAck(ack) if v5 => {
                out.extend_from_slice(&[u8::from(ack.session_present), ack.reason.code()]);
                ack.properties.encode(out);
            }
            Self::ConnAck(ack) => {
                // 3.1 reserves the byte in which 3.1.1 has Session Present.
                let present = ack.session_present && version == ProtocolVersion::V311;
                let code = ack.reason.v3_connect_return_code().unwrap_or(SERVER_UNAVAILABLE);
                out.extend_from_slice(&[u8::from(present), code]);
            }
            Self::PubAck(ack) | Self::PubRec(ack) | Self::PubRel(ack) | Self::PubComp(ack) => {
                put_ack(v5, ack, out);
            }
            Self::Subscribe(subscribe) => put_subscribe(v5, subscribe, out),
            Self::SubAck(ack) => {
                put_id_and_properties(v5, ack.packet_id.get(), &ack.properties, out);
                out.extend(ack.reasons.iter().map(|reason| match reason.code() {
                    code if v5 || code < FAILURE => code,
                    _ => FAILURE,
                }));
            }
            Self::Unsubscribe(unsubscribe) => {
                let id = unsubscribe.packet_id.get();
                put_id_and_properties(v5, id, &unsubscribe.properties, out);
                for filter in &unsubscribe.filters {
                    wire::put_string(filter, out);
                }
            }
            Self::UnsubAck(ack) => {
                put_id_and_properties(v5, ack.packet_id.get(), &ack.properties, out);
                if v5 {
                    out.extend(ack.reasons.iter().map(|reason| reason.code()));
                }
            }
            Self::Disconnect(disconnect) => {
                put_reason(v5, disconnect.reason, &disconnect.properties, out);
            }
            Self::Auth(auth)
                if auth.reason == ReasonCode::Success && auth.properties.is_empty() => {}
            Self::Auth(auth) => {
                out.push(auth.reason.code());
                auth.properties.encode(out);
            }
            Self::Publish(_) | Self::PingReq | Self::PingResp => {}
        }
    }
}

/// The return code of a CONNACK before 5.0 that says least.
const SERVER_UNAVAILABLE: u8 = 3;

/// The one failure of a SUBACK before 5.0.
const FAILURE: u8 = 0x80;

/// Bytes of a packet with this Remaining Length.
#[inline]
pub(crate) fn packet_len(body_len: usize) -> usize {
    wire::sum(&[1, wire::variable_len(body_len), body_len])
}

/// The first byte of every packet but PUBLISH, whose flags say something.
pub(crate) const fn first_byte(packet: PacketType) -> u8 {
    //= [MQTT-2.1.3-1] [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1]
    let flags = match packet {
        PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe => 0b0010,
        _ => 0,
    };
    ((packet as u8) << 4) | flags
}

/// The first byte of a PUBLISH with these DUP, QoS and RETAIN.
#[inline]
fn first_byte_of_publish(flags: u8) -> u8 {
    let mask = if seeded!(LosesDup) { 0x07 } else { 0x0F };
    ((PacketType::Publish as u8) << 4) | (flags & mask)
}

/// Whether a PUBLISH with these DUP, QoS and RETAIN has a Packet Identifier: not with QoS 0
/// `[MQTT-2.2.1-2]`.
#[inline]
pub(crate) const fn has_packet_id(flags: u8) -> bool {
    flags & 0b0110 != 0
}

/// Appends a PUBLISH without properties and with this Remaining Length, as most messages are: topic with
/// its length, and payload.
#[inline]
pub(crate) fn put_plain_publish(
    version: ProtocolVersion,
    flags: u8,
    packet_id: u16,
    body_len: usize,
    (topic_field, payload): (&[u8], &[u8]),
    out: &mut Vec<u8>,
) {
    out.reserve(body_len.saturating_add(5));
    out.push(first_byte_of_publish(flags));
    wire::put_variable(body_len, out);
    out.extend_from_slice(topic_field);
    if has_packet_id(flags) {
        out.extend_from_slice(&packet_id.to_be_bytes());
    }
    if version.is_v5() {
        // The length of no properties.
        out.push(0);
    }
    out.extend_from_slice(payload);
}

/// The parts of a PUBLISH on its way to one receiver.
pub(crate) struct PublishHead<'a> {
    pub(crate) message: &'a Message,
    pub(crate) v5: bool,
    pub(crate) flags: u8,
    pub(crate) packet_id: u16,
    /// Takes the place of the value in the message, if that has one.
    pub(crate) expiry_s: Option<u32>,
    pub(crate) topic_alias: Option<u16>,
    pub(crate) omit_topic: bool,
    pub(crate) subscription_ids: &'a [u32],
}

impl<'a> PublishHead<'a> {
    fn of(publish: &'a Publish, version: ProtocolVersion) -> Self {
        Self {
            message: &publish.message,
            v5: version.is_v5(),
            flags: crate::Frame::publish_flags(publish.dup, publish.qos, publish.retain),
            packet_id: publish.packet_id.map_or(0, |id| id.get()),
            expiry_s: None,
            topic_alias: publish.topic_alias.map(|alias| alias.get()),
            omit_topic: false,
            subscription_ids: &[],
        }
    }

    /// The Remaining Length.
    #[inline]
    pub(crate) fn body_len(&self) -> usize {
        let (topic_len, properties_len) = self.message.lengths();
        wire::sum(&[self.head_len(topic_len, properties_len), self.message.payload().len()])
    }

    /// Bytes between fixed header and payload.
    #[inline]
    fn head_len(&self, topic_len: usize, properties_len: usize) -> usize {
        let topic_len = if self.omit_topic { 0 } else { topic_len };
        let id_len = if has_packet_id(self.flags) { 2 } else { 0 };
        let properties_len = if self.v5 {
            let len = self.properties_len(properties_len);
            wire::sum(&[wire::variable_len(len), len])
        } else {
            0
        };
        wire::sum(&[2, topic_len, id_len, properties_len])
    }

    /// The Property Length, of which the message's own properties take so much.
    #[inline]
    fn properties_len(&self, properties_len: usize) -> usize {
        let alias_len = if self.topic_alias.is_some() { 3 } else { 0 };
        let ids_len = self.subscription_ids.iter().fold(0, |total: usize, id| {
            total.saturating_add(wire::sum(&[1, wire::variable_len(*id as usize)]))
        });
        wire::sum(&[alias_len, ids_len, properties_len])
    }

    /// Appends everything up to the payload.
    #[inline]
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let parts = self.message.parts();
        let head_len = self.head_len(parts.topic.len(), parts.properties.len());
        out.reserve(wire::sum(&[5, head_len]));
        out.push(first_byte_of_publish(self.flags));
        wire::put_variable(wire::sum(&[head_len, parts.payload.len()]), out);
        out.extend_from_slice(if self.omit_topic { &[0, 0] } else { parts.topic_field });
        if has_packet_id(self.flags) {
            out.extend_from_slice(&self.packet_id.to_be_bytes());
        }
        if self.v5 {
            wire::put_variable(self.properties_len(parts.properties.len()), out);
            self.encode_own_properties(out);
            self.encode_message_properties(&parts, out);
        }
    }

    /// Appends the properties that are not the message's but the connection's.
    fn encode_own_properties(&self, out: &mut Vec<u8>) {
        if let Some(alias) = self.topic_alias {
            out.push(crate::PropertyId::TopicAlias as u8);
            out.extend_from_slice(&alias.to_be_bytes());
        }
        for id in self.subscription_ids {
            out.push(crate::PropertyId::SubscriptionIdentifier as u8);
            wire::put_variable(*id as usize, out);
        }
    }

    /// Appends the message's properties with what is left of the Message Expiry Interval
    /// `[MQTT-3.3.2-6]`.
    fn encode_message_properties(&self, parts: &Parts<'_>, out: &mut Vec<u8>) {
        //= [MQTT-3.3.2-6]
        let split = parts.expiry_at.and_then(|at| {
            let (before, rest) = parts.properties.split_at_checked(at)?;
            let (_, after) = rest.split_first_chunk::<4>()?;
            Some((before, self.expiry_s?, after))
        });
        match split {
            Some((before, expiry_s, after)) => {
                out.extend_from_slice(before);
                out.extend_from_slice(&expiry_s.to_be_bytes());
                out.extend_from_slice(after);
            }
            None => out.extend_from_slice(parts.properties),
        }
    }
}

/// Bytes of reason and properties in their shortest form.
fn reason_len(v5: bool, reason: ReasonCode, properties: &Properties) -> usize {
    match (v5, properties.is_empty()) {
        (false, _) => 0,
        (true, true) => usize::from(reason != ReasonCode::Success),
        (true, false) => wire::sum(&[1, properties.field_len()]),
    }
}

/// Appends reason and properties in their shortest form (U5-3.4.2-a).
fn put_reason(v5: bool, reason: ReasonCode, properties: &Properties, out: &mut Vec<u8>) {
    match (v5, properties.is_empty()) {
        (false, _) => {}
        (true, true) if reason == ReasonCode::Success => {}
        (true, true) => out.push(reason.code()),
        (true, false) => {
            out.push(reason.code());
            properties.encode(out);
        }
    }
}

fn put_ack(v5: bool, ack: &Ack, out: &mut Vec<u8>) {
    out.extend_from_slice(&ack.packet_id.get().to_be_bytes());
    put_reason(v5, ack.reason, &ack.properties, out);
}

fn put_id_and_properties(v5: bool, packet_id: u16, properties: &Properties, out: &mut Vec<u8>) {
    out.extend_from_slice(&packet_id.to_be_bytes());
    if v5 {
        properties.encode(out);
    }
}

fn put_subscribe(v5: bool, subscribe: &Subscribe, out: &mut Vec<u8>) {
    put_id_and_properties(v5, subscribe.packet_id.get(), &subscribe.properties, out);
    for entry in &subscribe.filters {
        wire::put_string(&entry.filter, out);
        out.push(subscription_options(v5, entry.options));
    }
}

/// The Subscription Options byte.
fn subscription_options(v5: bool, options: SubscriptionOptions) -> u8 {
    if v5 {
        options.qos as u8
            | (u8::from(options.no_local) << 2)
            | (u8::from(options.retain_as_published) << 3)
            | ((options.retain_handling as u8) << 4)
    } else {
        options.qos as u8
    }
}

/// The protocol name of a version.
const fn protocol_name(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::V31 => "MQIsdp",
        ProtocolVersion::V311 | ProtocolVersion::V5 => "MQTT",
    }
}

fn connect_len(connect: &Connect) -> usize {
    let v5 = connect.version.is_v5();
    wire::sum(&[
        wire::string_len(protocol_name(connect.version)),
        // Level, flags and Keep Alive.
        4,
        if v5 { connect.properties.field_len() } else { 0 },
        wire::string_len(&connect.client_id),
        connect.will.as_ref().map_or(0, |will| will_len(v5, will)),
        connect.user_name.as_ref().map_or(0, |name| wire::string_len(name)),
        connect.password.as_ref().map_or(0, |password| wire::data_len(password)),
    ])
}

/// `[MQTT-3.1.3-1]`: Client Identifier, Will, User Name and Password in this order.
fn put_connect(connect: &Connect, out: &mut Vec<u8>) {
    let v5 = connect.version.is_v5();
    let bridge = if connect.bridge && !v5 { 0x80 } else { 0 };
    let will_flags = connect
        .will
        .as_ref()
        .map_or(0, |will| 0x04 | ((will.qos as u8) << 3) | (u8::from(will.retain) << 5));
    let flags = (u8::from(connect.clean_start) << 1)
        | will_flags
        | (u8::from(connect.password.is_some()) << 6)
        | (u8::from(connect.user_name.is_some()) << 7);
    wire::put_string(protocol_name(connect.version), out);
    out.extend_from_slice(&[connect.version as u8 | bridge, flags]);
    out.extend_from_slice(&connect.keep_alive_s.to_be_bytes());
    if v5 {
        connect.properties.encode(out);
    }
    wire::put_string(&connect.client_id, out);
    if let Some(will) = &connect.will {
        put_will(v5, will, out);
    }
    if let Some(user_name) = &connect.user_name {
        wire::put_string(user_name, out);
    }
    if let Some(password) = &connect.password {
        wire::put_data(password, out);
    }
}

/// The Will Properties' length; a Will Delay Interval of 0 is the default and left out.
fn will_properties_len(will: &Will) -> usize {
    let delay_len = if will.delay_s == 0 { 0 } else { 5 };
    wire::sum(&[delay_len, will.message.parts().properties.len()])
}

fn will_len(v5: bool, will: &Will) -> usize {
    let parts = will.message.parts();
    let properties_len = if v5 {
        let len = will_properties_len(will);
        wire::sum(&[wire::variable_len(len), len])
    } else {
        0
    };
    wire::sum(&[properties_len, parts.topic_field.len(), wire::data_len(parts.payload)])
}

fn put_will(v5: bool, will: &Will, out: &mut Vec<u8>) {
    let parts = will.message.parts();
    if v5 {
        wire::put_variable(will_properties_len(will), out);
        if will.delay_s != 0 {
            out.push(crate::PropertyId::WillDelayInterval as u8);
            out.extend_from_slice(&will.delay_s.to_be_bytes());
        }
        out.extend_from_slice(parts.properties);
    }
    out.extend_from_slice(parts.topic_field);
    wire::put_data(parts.payload, out);
}
