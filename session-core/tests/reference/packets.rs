//! What clients send, in few words, and the naive matcher of topics.

use codec::{
    Connect, Message, Packet, PacketId, Properties, Property, ProtocolVersion, Publish, QoS,
    Subscribe, SubscribeFilter, SubscriptionOptions, Unsubscribe,
};

pub(crate) const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

pub(crate) fn id(value: u16) -> PacketId {
    PacketId::new(value).expect("not zero")
}

/// CONNECT of 5.0: a clean start of a session that outlives its connection for so many seconds.
pub(crate) fn connect(client: usize, expiry_s: u32) -> Connect {
    Connect {
        version: ProtocolVersion::V5,
        bridge: false,
        clean_start: true,
        keep_alive_s: 0,
        client_id: client_id(client),
        will: None,
        user_name: None,
        password: None,
        properties: [Property::SessionExpiryInterval(expiry_s)].into_iter().collect(),
    }
}

pub(crate) fn client_id(client: usize) -> Box<str> {
    format!("client-{client}").into()
}

/// SUBSCRIBE to one filter; a Subscription Identifier of 0 is none.
pub(crate) fn subscribe(filter: &str, options: SubscriptionOptions, identifier: u32) -> Packet {
    let property = (identifier > 0).then_some(Property::SubscriptionIdentifier(identifier));
    let filters = vec![SubscribeFilter { filter: filter.into(), options }];
    let properties = property.into_iter().collect();
    Packet::Subscribe(Box::new(Subscribe { packet_id: id(1), properties, filters }))
}

pub(crate) fn unsubscribe(filter: &str) -> Packet {
    let filters = vec![filter.into()];
    let properties = Properties::new();
    Packet::Unsubscribe(Box::new(Unsubscribe { packet_id: id(1), properties, filters }))
}

pub(crate) fn message(topic: &str, payload: &[u8], expiry_s: Option<u32>) -> Message {
    let properties = expiry_s.map(Property::MessageExpiryInterval).into_iter().collect();
    Message::new(topic, &properties, payload).expect("short")
}

/// PUBLISH; the Packet Identifier is left out at QoS 0.
pub(crate) fn publish(message: Message, qos: QoS, retain: bool, packet_id: u16) -> Publish {
    let packet_id = (qos > QoS::AtMostOnce).then(|| id(packet_id));
    Publish { dup: false, qos, retain, packet_id, topic_alias: None, message }
}

/// The Subscription Identifiers of a PUBLISH, sorted.
pub(crate) fn identifiers(publish: &Publish) -> Vec<u32> {
    let properties = publish.message.properties();
    let mut identifiers: Vec<u32> = properties
        .iter()
        .filter_map(|property| match property {
            Property::SubscriptionIdentifier(identifier) => Some(*identifier),
            _ => None,
        })
        .collect();
    identifiers.sort_unstable();
    identifiers
}

/// Whether a filter matches a name, by section 4.7 read aloud.
pub(crate) fn matches(filter: &str, name: &str) -> bool {
    // [MQTT-4.7.2-1]
    let hidden = name.starts_with('$') && filter.starts_with(['+', '#']);
    let levels = |path: &str| path.split('/').map(String::from).collect::<Vec<_>>();
    !hidden && match_levels(&levels(filter), &levels(name))
}

fn match_levels(filter: &[String], name: &[String]) -> bool {
    match (filter, name) {
        ([], []) => true,
        // [MQTT-4.7.1-1]: any number of levels, the parent's none too.
        ([wild], _) if wild == "#" => true,
        // [MQTT-4.7.1-2]: one level, an empty one too.
        ([wild, filter @ ..], [_, name @ ..]) if wild == "+" => match_levels(filter, name),
        ([wanted, filter @ ..], [level, name @ ..]) => {
            wanted == level && match_levels(filter, name)
        }
        _ => false,
    }
}
