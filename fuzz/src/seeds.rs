//! The inputs that the search starts from: every packet of every version and side, once with
//! little and once with all that it may carry. `cargo run -p fuzz --example seeds` writes them to
//! the corpora.

use codec::{
    Ack, Auth, ConnAck, Connect, Disconnect, Message, Packet, PacketId, PacketType, Properties,
    Property, PropertyId, ProtocolVersion, Publish, QoS, ReasonCode, RetainHandling, Sender,
    SubAck, Subscribe, SubscribeFilter, SubscriptionOptions, UnsubAck, Unsubscribe, Will,
};

/// Seeds of one target: file names and contents.
pub fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    match target {
        "records" => return crate::records::seeds(),
        "choices" | "operations" => return crate::worlds::seeds(),
        _ => {}
    }
    let mut list = Vec::new();
    for (mode, version, sender) in modes() {
        for packet in PacketType::ALL.into_iter().filter(|p| p.is_sent_by(sender, version)) {
            // Before CONNECT only CONNECT is taken.
            if (mode == 0) != (packet == PacketType::Connect) {
                continue;
            }
            for (size, rich) in [("little", false), ("much", true)] {
                let mut bytes = vec![mode];
                if target == "split" {
                    bytes.extend([3, 1, 2, 5]);
                }
                packet_of(packet, version, sender, rich).encode(version, &mut bytes);
                let name = format!("{packet}-{version:?}-{size}").to_lowercase();
                list.push((format!("{name}-{mode}"), bytes));
            }
        }
    }
    list
}

/// The modes of [`crate::framer`], who sends what is decoded, and the version.
fn modes() -> Vec<(u8, ProtocolVersion, Sender)> {
    let versions = [ProtocolVersion::V31, ProtocolVersion::V311, ProtocolVersion::V5];
    let connects = versions.map(|version| (0, version, Sender::Client));
    let clients = (1..).zip(versions).map(|(mode, version)| (mode, version, Sender::Client));
    let servers = (4..).zip(versions).map(|(mode, version)| (mode, version, Sender::Server));
    connects.into_iter().chain(clients).chain(servers).collect()
}

/// A packet with little or with all that it may carry.
fn packet_of(packet: PacketType, version: ProtocolVersion, sender: Sender, rich: bool) -> Packet {
    let v5 = version.is_v5();
    let properties = if v5 { properties(packet, sender, rich) } else { Properties::new() };
    let packet_id = PacketId::new(if rich { 0x1234 } else { 1 }).expect("not zero");
    let reason = match ReasonCode::ALL.into_iter().rfind(|r| r.allowed_from(sender, packet)) {
        Some(reason) if rich && v5 => reason,
        _ if packet == PacketType::Auth => ReasonCode::ContinueAuthentication,
        _ => ReasonCode::Success,
    };
    let ack = || Ack { packet_id, reason, properties: properties.clone() };
    match packet {
        PacketType::Connect => Packet::Connect(connect(version, properties, rich).into()),
        PacketType::ConnAck => {
            let session_present = !rich && version != ProtocolVersion::V31;
            let reason = if rich { ReasonCode::NotAuthorized } else { ReasonCode::Success };
            Packet::ConnAck(ConnAck { session_present, reason, properties }.into())
        }
        PacketType::Publish => Packet::Publish(publish(properties, packet_id, v5, rich)),
        PacketType::PubAck => Packet::PubAck(ack()),
        PacketType::PubRec => Packet::PubRec(ack()),
        PacketType::PubRel => Packet::PubRel(ack()),
        PacketType::PubComp => Packet::PubComp(ack()),
        PacketType::Subscribe => {
            let filters = if rich { vec!["$share/g/+/b/#", "a/+", "#"] } else { vec!["a"] };
            let filters = filters.into_iter().map(|filter| subscribe_filter(filter, v5, rich));
            let filters = filters.collect();
            Packet::Subscribe(Subscribe { packet_id, properties, filters }.into())
        }
        PacketType::SubAck => {
            let reasons = vec![ReasonCode::GrantedQoS2, ReasonCode::UnspecifiedError];
            Packet::SubAck(SubAck { packet_id, properties, reasons }.into())
        }
        PacketType::Unsubscribe => {
            let filters = vec!["a/#".into(), "$SYS/ä".into()];
            Packet::Unsubscribe(Unsubscribe { packet_id, properties, filters }.into())
        }
        PacketType::UnsubAck => {
            let reasons = if v5 { vec![ReasonCode::NoSubscriptionExisted] } else { vec![] };
            Packet::UnsubAck(UnsubAck { packet_id, properties, reasons }.into())
        }
        PacketType::PingReq => Packet::PingReq,
        PacketType::PingResp => Packet::PingResp,
        PacketType::Disconnect => Packet::Disconnect(Disconnect { reason, properties }.into()),
        PacketType::Auth => Packet::Auth(Auth { reason, properties }.into()),
    }
}

fn connect(version: ProtocolVersion, properties: Properties, rich: bool) -> Connect {
    let v5 = version.is_v5();
    let will = || {
        let ids = PropertyId::ALL.into_iter().filter(|id| id.allowed_in_will());
        let ids = ids.filter(|id| v5 && *id != PropertyId::WillDelayInterval);
        let properties = ids.map(property).collect();
        let message = Message::new("last/will", &properties, b"gone").expect("a valid message");
        Box::new(Will { qos: QoS::AtLeastOnce, retain: true, delay_s: u32::from(v5) * 30, message })
    };
    Connect {
        version,
        bridge: rich && version == ProtocolVersion::V31,
        clean_start: !rich,
        keep_alive_s: 60,
        client_id: if rich { "client-1" } else { "" }.into(),
        will: rich.then(will),
        user_name: rich.then(|| "user".into()),
        password: rich.then(|| b"\0\xFF".to_vec().into()),
        properties,
    }
}

fn publish(properties: Properties, packet_id: PacketId, v5: bool, rich: bool) -> Publish {
    let mut properties = properties;
    properties.retain(|property| property.id() != PropertyId::TopicAlias);
    let payload: &[u8] = if rich { b"{\"celsius\": 21.5}" } else { b"" };
    let message = Message::new("sensor/1/temperature", &properties, payload);
    Publish {
        dup: rich,
        qos: if rich { QoS::ExactlyOnce } else { QoS::AtMostOnce },
        retain: rich,
        packet_id: rich.then_some(packet_id),
        topic_alias: 7.try_into().ok().filter(|_| rich && v5),
        message: message.expect("a valid message"),
    }
}

fn subscribe_filter(filter: &str, v5: bool, rich: bool) -> SubscribeFilter {
    let mut options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..Default::default() };
    if v5 && rich {
        options.no_local = !filter.starts_with("$share/");
        options.retain_as_published = true;
        options.retain_handling = RetainHandling::DoNotSend;
    }
    SubscribeFilter { filter: filter.into(), options }
}

/// Every property that the packet may carry, or none but those that it must.
fn properties(packet: PacketType, sender: Sender, rich: bool) -> Properties {
    let must = |id| packet == PacketType::Auth && id == PropertyId::AuthenticationMethod;
    let ids = PropertyId::ALL.into_iter().filter(|id| id.allowed_from(sender, packet));
    ids.filter(|id| rich || must(*id)).map(property).collect()
}

fn property(id: PropertyId) -> Property {
    use Property as P;
    match id {
        PropertyId::PayloadFormatIndicator => P::PayloadFormatIndicator(1),
        PropertyId::MessageExpiryInterval => P::MessageExpiryInterval(3_600),
        PropertyId::ContentType => P::ContentType("application/json".into()),
        PropertyId::ResponseTopic => P::ResponseTopic("answer/1".into()),
        PropertyId::CorrelationData => P::CorrelationData(b"\0\x01".to_vec().into()),
        PropertyId::SubscriptionIdentifier => P::SubscriptionIdentifier(300),
        PropertyId::SessionExpiryInterval => P::SessionExpiryInterval(u32::MAX),
        PropertyId::AssignedClientIdentifier => P::AssignedClientIdentifier("auto-1".into()),
        PropertyId::ServerKeepAlive => P::ServerKeepAlive(30),
        PropertyId::AuthenticationMethod => P::AuthenticationMethod("SCRAM-SHA-256".into()),
        PropertyId::AuthenticationData => P::AuthenticationData(b"n,,n=user".to_vec().into()),
        PropertyId::RequestProblemInformation => P::RequestProblemInformation(false),
        PropertyId::WillDelayInterval => P::WillDelayInterval(30),
        PropertyId::RequestResponseInformation => P::RequestResponseInformation(true),
        PropertyId::ResponseInformation => P::ResponseInformation("answer/".into()),
        PropertyId::ServerReference => P::ServerReference("other.example:1883".into()),
        PropertyId::ReasonString => P::ReasonString("because".into()),
        PropertyId::ReceiveMaximum => P::ReceiveMaximum(20),
        PropertyId::TopicAliasMaximum => P::TopicAliasMaximum(10),
        PropertyId::TopicAlias => P::TopicAlias(7),
        PropertyId::MaximumQoS => P::MaximumQoS(1),
        PropertyId::RetainAvailable => P::RetainAvailable(false),
        PropertyId::UserProperty => P::UserProperty("name".into(), "värde".into()),
        PropertyId::MaximumPacketSize => P::MaximumPacketSize(65_536),
        PropertyId::WildcardSubscriptionAvailable => P::WildcardSubscriptionAvailable(true),
        PropertyId::SubscriptionIdentifierAvailable => P::SubscriptionIdentifierAvailable(true),
        PropertyId::SharedSubscriptionAvailable => P::SharedSubscriptionAvailable(true),
    }
}
