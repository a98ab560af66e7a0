//! Packets of every kind, as this version and this side may send them.

use bytes::Bytes;
use codec::{
    Ack, Auth, ConnAck, Connect, Disconnect, Message, Packet, PacketId, PacketType, Properties,
    Property, PropertyId, ProtocolVersion, Publish, QoS, ReasonCode, RetainHandling, Sender,
    SubAck, Subscribe, SubscribeFilter, SubscriptionOptions, UnsubAck, Unsubscribe, Will,
};
use proptest::{collection::vec, option, prelude::*, sample};

/// Any packet that this side sends in this version.
pub(crate) fn packet(version: ProtocolVersion, sender: Sender) -> BoxedStrategy<Packet> {
    let types = PacketType::ALL.into_iter().filter(|packet| packet.is_sent_by(sender, version));
    proptest::strategy::Union::new(types.map(|packet| packet_of(packet, version, sender))).boxed()
}

/// Any packet of this type.
pub(crate) fn packet_of(
    packet: PacketType,
    version: ProtocolVersion,
    sender: Sender,
) -> BoxedStrategy<Packet> {
    let v5 = version.is_v5();
    let properties = || properties(v5, sender, packet);
    let reason = || reason(v5, sender, packet);
    match packet {
        PacketType::Connect => connect(version).prop_map(|c| Packet::Connect(c.into())).boxed(),
        PacketType::ConnAck => (any::<bool>(), conn_ack_reason(v5), properties())
            .prop_map(move |(present, reason, properties)| {
                let session_present =
                    present && reason == ReasonCode::Success && version != ProtocolVersion::V31;
                Packet::ConnAck(ConnAck { session_present, reason, properties }.into())
            })
            .boxed(),
        PacketType::Publish => publish(version, sender).prop_map(Packet::Publish).boxed(),
        PacketType::PubAck | PacketType::PubRec | PacketType::PubRel | PacketType::PubComp => {
            (packet_id(), reason(), properties())
                .prop_map(move |(packet_id, reason, properties)| {
                    let ack = Ack { packet_id, reason, properties };
                    match packet {
                        PacketType::PubAck => Packet::PubAck(ack),
                        PacketType::PubRec => Packet::PubRec(ack),
                        PacketType::PubRel => Packet::PubRel(ack),
                        _ => Packet::PubComp(ack),
                    }
                })
                .boxed()
        }
        PacketType::Subscribe => (packet_id(), properties(), vec(subscribe_filter(v5), 1..4))
            .prop_map(|(packet_id, properties, filters)| {
                Packet::Subscribe(Subscribe { packet_id, properties, filters }.into())
            })
            .boxed(),
        PacketType::SubAck => (packet_id(), properties(), vec(sub_ack_reason(v5), 1..4))
            .prop_map(|(packet_id, properties, reasons)| {
                Packet::SubAck(SubAck { packet_id, properties, reasons }.into())
            })
            .boxed(),
        PacketType::Unsubscribe => (packet_id(), properties(), vec(text(), 1..4))
            .prop_map(|(packet_id, properties, filters)| {
                Packet::Unsubscribe(Unsubscribe { packet_id, properties, filters }.into())
            })
            .boxed(),
        PacketType::UnsubAck => {
            let count = if v5 { 1..4 } else { 0..1 };
            (packet_id(), properties(), vec(reason(), count))
                .prop_map(|(packet_id, properties, reasons)| {
                    Packet::UnsubAck(UnsubAck { packet_id, properties, reasons }.into())
                })
                .boxed()
        }
        PacketType::PingReq => Just(Packet::PingReq).boxed(),
        PacketType::PingResp => Just(Packet::PingResp).boxed(),
        PacketType::Disconnect => (reason(), properties())
            .prop_map(|(reason, properties)| {
                Packet::Disconnect(Disconnect { reason, properties }.into())
            })
            .boxed(),
        PacketType::Auth => (reason(), properties())
            .prop_map(|(reason, properties)| Packet::Auth(Auth { reason, properties }.into()))
            .boxed(),
    }
}

fn text() -> BoxedStrategy<Box<str>> {
    prop_oneof![8 => "[a-z/+#$ ]{0,12}", 1 => "\\PC{0,40}", 1 => "\u{FEFF}?[\u{1}-\u{9F}]{0,3}"]
        .prop_map(Into::into)
        .boxed()
}

fn name() -> BoxedStrategy<Box<str>> {
    "[a-z/$ ä€]{1,20}".prop_map(Into::into).boxed()
}

fn data() -> BoxedStrategy<Bytes> {
    vec(any::<u8>(), 0..20).prop_map(Bytes::from).boxed()
}

fn packet_id() -> BoxedStrategy<PacketId> {
    (1..=u16::MAX).prop_map(|id| PacketId::new(id).expect("not zero")).boxed()
}

fn qos() -> BoxedStrategy<QoS> {
    sample::select(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]).boxed()
}

/// Any reason that the packet may carry; `Success` where the version has none.
fn reason(v5: bool, sender: Sender, packet: PacketType) -> BoxedStrategy<ReasonCode> {
    let allowed: Vec<ReasonCode> =
        ReasonCode::ALL.into_iter().filter(|r| r.allowed_from(sender, packet)).collect();
    if v5 && !allowed.is_empty() {
        sample::select(allowed).boxed()
    } else {
        Just(ReasonCode::Success).boxed()
    }
}

fn conn_ack_reason(v5: bool) -> BoxedStrategy<ReasonCode> {
    if v5 {
        return reason(v5, Sender::Server, PacketType::ConnAck);
    }
    (0_u8..=5)
        .prop_map(|code| ReasonCode::from_v3_connect_return_code(code).expect("0 to 5"))
        .boxed()
}

fn sub_ack_reason(v5: bool) -> BoxedStrategy<ReasonCode> {
    if v5 {
        return reason(v5, Sender::Server, PacketType::SubAck);
    }
    let codes = [
        ReasonCode::Success,
        ReasonCode::GrantedQoS1,
        ReasonCode::GrantedQoS2,
        ReasonCode::UnspecifiedError,
    ];
    sample::select(codes.to_vec()).boxed()
}

/// Any property of this identifier with a value that it may have.
fn property(id: PropertyId) -> BoxedStrategy<Property> {
    use Property as P;
    match id {
        PropertyId::PayloadFormatIndicator => (0_u8..2).prop_map(P::PayloadFormatIndicator).boxed(),
        PropertyId::MessageExpiryInterval => {
            any::<u32>().prop_map(P::MessageExpiryInterval).boxed()
        }
        PropertyId::ContentType => text().prop_map(P::ContentType).boxed(),
        PropertyId::ResponseTopic => name().prop_map(P::ResponseTopic).boxed(),
        PropertyId::CorrelationData => data().prop_map(P::CorrelationData).boxed(),
        PropertyId::SubscriptionIdentifier => prop_oneof![
            1_u32..200,
            1_u32..=268_435_455,
            sample::select(vec![127_u32, 128, 16_383, 16_384, 2_097_151, 2_097_152]),
        ]
        .prop_map(P::SubscriptionIdentifier)
        .boxed(),
        PropertyId::SessionExpiryInterval => {
            any::<u32>().prop_map(P::SessionExpiryInterval).boxed()
        }
        PropertyId::AssignedClientIdentifier => {
            text().prop_map(P::AssignedClientIdentifier).boxed()
        }
        PropertyId::ServerKeepAlive => any::<u16>().prop_map(P::ServerKeepAlive).boxed(),
        PropertyId::AuthenticationMethod => text().prop_map(P::AuthenticationMethod).boxed(),
        PropertyId::AuthenticationData => data().prop_map(P::AuthenticationData).boxed(),
        PropertyId::RequestProblemInformation => {
            any::<bool>().prop_map(P::RequestProblemInformation).boxed()
        }
        PropertyId::WillDelayInterval => any::<u32>().prop_map(P::WillDelayInterval).boxed(),
        PropertyId::RequestResponseInformation => {
            any::<bool>().prop_map(P::RequestResponseInformation).boxed()
        }
        PropertyId::ResponseInformation => text().prop_map(P::ResponseInformation).boxed(),
        PropertyId::ServerReference => text().prop_map(P::ServerReference).boxed(),
        PropertyId::ReasonString => text().prop_map(P::ReasonString).boxed(),
        PropertyId::ReceiveMaximum => (1..=u16::MAX).prop_map(P::ReceiveMaximum).boxed(),
        PropertyId::TopicAliasMaximum => any::<u16>().prop_map(P::TopicAliasMaximum).boxed(),
        PropertyId::TopicAlias => (1..=u16::MAX).prop_map(P::TopicAlias).boxed(),
        PropertyId::MaximumQoS => (0_u8..2).prop_map(P::MaximumQoS).boxed(),
        PropertyId::RetainAvailable => any::<bool>().prop_map(P::RetainAvailable).boxed(),
        PropertyId::UserProperty => {
            (text(), text()).prop_map(|(name, value)| P::UserProperty(name, value)).boxed()
        }
        PropertyId::MaximumPacketSize => (1..=u32::MAX).prop_map(P::MaximumPacketSize).boxed(),
        PropertyId::WildcardSubscriptionAvailable => {
            any::<bool>().prop_map(P::WildcardSubscriptionAvailable).boxed()
        }
        PropertyId::SubscriptionIdentifierAvailable => {
            any::<bool>().prop_map(P::SubscriptionIdentifierAvailable).boxed()
        }
        PropertyId::SharedSubscriptionAvailable => {
            any::<bool>().prop_map(P::SharedSubscriptionAvailable).boxed()
        }
    }
}

/// Some of these properties in any order.
fn some_of(ids: Vec<PropertyId>) -> BoxedStrategy<Properties> {
    let most = ids.len();
    sample::subsequence(ids, 0..=most.min(6))
        .prop_shuffle()
        .prop_flat_map(|ids| ids.into_iter().map(property).collect::<Vec<_>>())
        .prop_map(|list| list.into_iter().collect())
        .boxed()
}

/// The properties that a packet may carry from this side; none before 5.0.
fn properties(v5: bool, sender: Sender, packet: PacketType) -> BoxedStrategy<Properties> {
    if !v5 {
        return Just(Properties::new()).boxed();
    }
    let mut ids: Vec<PropertyId> =
        PropertyId::ALL.into_iter().filter(|id| id.allowed_from(sender, packet)).collect();
    // What a packet may repeat it does repeat.
    ids.extend([PropertyId::UserProperty; 2]);
    if packet == PacketType::Publish {
        ids.retain(|id| *id != PropertyId::TopicAlias);
        if sender == Sender::Server {
            ids.extend([PropertyId::SubscriptionIdentifier; 2]);
        }
    }
    let ruled = move |(mut list, method): (Properties, Box<str>)| {
        let needs_method = packet == PacketType::Auth
            || packet == PacketType::Connect && list.authentication_data().is_some();
        if needs_method && list.authentication_method().is_none() {
            list.push(Property::AuthenticationMethod(method));
        }
        list
    };
    (some_of(ids), text()).prop_map(ruled).boxed()
}

fn connect(version: ProtocolVersion) -> BoxedStrategy<Connect> {
    let v5 = version.is_v5();
    let flags = (any::<bool>(), any::<bool>(), any::<u16>());
    let credentials = (option::of(text()), option::of(data()));
    let properties = properties(v5, Sender::Client, PacketType::Connect);
    (flags, text(), option::of(will(v5)), credentials, properties)
        .prop_map(move |(flags, client_id, will, (user_name, password), properties)| {
            let (bridge, clean_start, keep_alive_s) = flags;
            Connect {
                version,
                bridge: bridge && !v5,
                clean_start,
                keep_alive_s,
                client_id,
                will: will.map(Box::new),
                password: password.filter(|_| v5 || user_name.is_some()),
                user_name,
                properties,
            }
        })
        .boxed()
}

fn will(v5: bool) -> BoxedStrategy<Will> {
    let mut ids: Vec<PropertyId> =
        PropertyId::ALL.into_iter().filter(|i| i.allowed_in_will()).collect();
    ids.retain(|id| *id != PropertyId::WillDelayInterval);
    ids.push(PropertyId::UserProperty);
    let properties = if v5 { some_of(ids) } else { Just(Properties::new()).boxed() };
    (qos(), any::<bool>(), any::<u32>(), name(), properties, data())
        .prop_map(move |(qos, retain, delay_s, name, properties, payload)| Will {
            qos,
            retain,
            delay_s: if v5 { delay_s } else { 0 },
            message: Message::new(&name, &properties, &payload).expect("a valid message"),
        })
        .boxed()
}

fn publish(version: ProtocolVersion, sender: Sender) -> BoxedStrategy<Publish> {
    let v5 = version.is_v5();
    let flags = (any::<bool>(), qos(), any::<bool>());
    let alias =
        if v5 { option::of(any::<std::num::NonZeroU16>()).boxed() } else { Just(None).boxed() };
    let properties = properties(v5, sender, PacketType::Publish);
    let topic = (alias, any::<bool>(), name());
    (flags, packet_id(), topic, properties, vec(any::<u8>(), 0..200))
        .prop_map(move |(flags, packet_id, topic, properties, payload)| {
            let (dup, qos, retain) = flags;
            let (topic_alias, omit, name) = topic;
            let name = if omit && topic_alias.is_some() { "" } else { &*name };
            Publish {
                dup: dup && (qos != QoS::AtMostOnce || version == ProtocolVersion::V31),
                qos,
                retain,
                packet_id: (qos != QoS::AtMostOnce).then_some(packet_id),
                topic_alias,
                message: Message::new(name, &properties, &payload).expect("a valid message"),
            }
        })
        .boxed()
}

fn subscribe_filter(v5: bool) -> BoxedStrategy<SubscribeFilter> {
    let handling = [RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend];
    let options = (qos(), any::<bool>(), any::<bool>(), sample::select(handling.to_vec()));
    let filter = prop_oneof![3 => text(), 1 => text().prop_map(|t| format!("$share/g/{t}").into())];
    (filter, options)
        .prop_map(move |(filter, (qos, no_local, retain_as_published, retain_handling))| {
            let options = if v5 {
                let no_local = no_local && !filter.starts_with("$share/");
                SubscriptionOptions { qos, no_local, retain_as_published, retain_handling }
            } else {
                SubscriptionOptions { qos, ..SubscriptionOptions::default() }
            };
            SubscribeFilter { filter, options }
        })
        .boxed()
}
