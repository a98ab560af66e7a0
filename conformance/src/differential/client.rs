//! A client that plays a script: it answers what comes as the standard demands, and says what it
//! saw. It does not know which broker it talks to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use codec::{
    Ack, Packet, PacketId, PacketType, Properties, Property, ProtocolVersion, QoS, ReasonCode,
};

use super::{
    event::{Delivery, Event},
    script::{Publication, Script},
};
use crate::play::Names;

/// A client with what it keeps of its session.
#[derive(Debug, Default)]
pub(super) struct Client {
    /// Its newest link, if that is open.
    pub(super) link: Option<usize>,
    /// How long its session outlives the link, in seconds.
    pub(super) expiry_s: u32,
    holds: bool,
    /// What it has not answered yet: the step in which it came, and the answer.
    held: VecDeque<(usize, Packet)>,
    /// Messages that came and that it has not finished, by Packet Identifier.
    incoming: BTreeMap<u16, String>,
    /// Those of them that came on this connection: what Receive Maximum counts.
    window: BTreeSet<u16>,
    /// Exchanges that it began, by Packet Identifier.
    outgoing: BTreeMap<u16, Outgoing>,
    last_id: u16,
}

/// An exchange that a client began.
#[derive(Clone, Debug)]
struct Outgoing {
    of: String,
    state: State,
    /// When it began: unacknowledged packets are sent again in this order.
    number: usize,
}

#[derive(Clone, Debug)]
enum State {
    /// A PUBLISH that nobody has answered.
    Published(Box<Packet>),
    /// PUBREC came, and PUBREL is due.
    Received,
    /// PUBREL has gone.
    Released,
    /// SUBSCRIBE or UNSUBSCRIBE, which end with their connection.
    Asked,
}

/// What is true of one connection.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) version: ProtocolVersion,
    pub(super) clean: bool,
    pub(super) receive_maximum: usize,
    pub(super) alias_maximum: u16,
    pub(super) wants_problem_information: bool,
    /// Topics of the broker's aliases.
    pub(super) aliases: BTreeMap<u16, String>,
    /// Seconds since the script began.
    pub(super) elapsed_s: u32,
}

impl Client {
    /// A Packet Identifier that is not in use.
    pub(super) fn begin(&mut self, of: String) -> PacketId {
        let id = loop {
            self.last_id = self.last_id.wrapping_add(1);
            match PacketId::new(self.last_id) {
                Some(id) if !self.outgoing.contains_key(&id.get()) => break id,
                _ => {}
            }
        };
        let number = self.outgoing.values().map(|other| other.number + 1).max().unwrap_or(0);
        self.outgoing.insert(id.get(), Outgoing { of, state: State::Asked, number });
        id
    }

    /// It has sent a PUBLISH that it will send again if the connection ends before the answer.
    pub(super) fn published(&mut self, id: PacketId, packet: &Packet) {
        if let Some(outgoing) = self.outgoing.get_mut(&id.get()) {
            outgoing.state = State::Published(Box::new(packet.clone()));
        }
    }

    /// Whether the broker owes it an answer.
    pub(super) fn is_waiting(&self) -> bool {
        let is_due = |outgoing: &Outgoing| !matches!(outgoing.state, State::Received);
        self.link.is_some() && self.outgoing.values().any(is_due)
    }

    /// The connection has ended: what was to go over it goes no more.
    pub(super) fn lost_link(&mut self) {
        if self.link.take().is_some() && self.expiry_s == 0 {
            self.incoming.clear();
            self.outgoing.clear();
        }
        self.held.clear();
        self.window.clear();
        self.outgoing.retain(|_, outgoing| !matches!(outgoing.state, State::Asked));
    }

    /// A connection begins.
    pub(super) fn on_link(&mut self, link: usize, expiry_s: u32) {
        self.lost_link();
        (self.link, self.expiry_s) = (Some(link), expiry_s);
        self.holds = false;
    }

    /// Whether it holds answers back from now on.
    pub(super) fn hold(&mut self, holds: bool) {
        self.holds = holds;
    }

    /// Turns the answers to messages that it holds back into refusals, which end their exchanges.
    pub(super) fn refuse(&mut self) {
        for (_, packet) in &mut self.held {
            if let Packet::PubAck(ack) | Packet::PubRec(ack) = packet {
                ack.reason = ReasonCode::ImplementationSpecificError;
            }
        }
    }

    /// The answers that it held back, or those to what came in the oldest step.
    pub(super) fn release(&mut self, only_oldest: bool) -> Vec<Packet> {
        let Some(oldest) = self.held.front().map(|(step, _)| *step) else { return Vec::new() };
        let due = |(step, _): &(usize, Packet)| !only_oldest || *step == oldest;
        let count = self.held.iter().take_while(|held| due(held)).count();
        let packets: Vec<_> = self.held.drain(..count).map(|(_, packet)| packet).collect();
        packets.iter().for_each(|packet| self.sends(packet));
        packets
    }

    /// Takes a packet: what it is called, and what to answer at once.
    pub(super) fn takes(
        &mut self,
        packet: &Packet,
        terms: &mut Terms,
        step: usize,
        script: &Script,
        names: &Names,
    ) -> (Vec<Event>, Vec<Packet>) {
        let mut events = Vec::new();
        if !terms.wants_problem_information && has_problem_information(packet) {
            events.push(Event::Broken("problem information [MQTT-3.1.2-29]".to_owned()));
        }
        let answer = match packet {
            Packet::ConnAck(connack) => {
                let present = connack.session_present;
                let code = connack.reason.code();
                let properties = restrictions(&connack.properties);
                events.push(Event::ConnAck { present, code, properties });
                let goes_on = match terms.version {
                    ProtocolVersion::V31 => !terms.clean,
                    _ => present,
                };
                return (events, self.resume(goes_on));
            }
            Packet::Publish(publish) => {
                let (delivery, fault) = self.delivery(publish, terms, script, names);
                events.push(Event::Publish(delivery));
                events.extend(fault.map(Event::Broken));
                answer_to(publish)
            }
            _ => {
                let (event, answer) = self.answered(packet, script);
                events.push(event);
                answer
            }
        };
        if self.window.len() > terms.receive_maximum {
            events.push(Event::Broken(Event::ABOVE_RECEIVE_MAXIMUM.to_owned()));
        }
        self.held.extend(answer.map(|answer| (step, answer)));
        let due = if self.holds { Vec::new() } else { self.release(false) };
        (events, due)
    }

    /// The session goes on, or begins anew; what has to be sent again `[MQTT-4.4.0-1]`.
    fn resume(&mut self, goes_on: bool) -> Vec<Packet> {
        if !goes_on {
            self.incoming.clear();
            self.outgoing.clear();
            return Vec::new();
        }
        let mut again: Vec<_> = self.outgoing.iter().collect();
        again.sort_by_key(|(_, outgoing)| outgoing.number);
        let packets = again.into_iter().filter_map(|(id, outgoing)| match &outgoing.state {
            State::Published(packet) => match &**packet {
                Packet::Publish(publish) => {
                    Some(Packet::Publish(codec::Publish { dup: true, ..publish.clone() }))
                }
                _ => None,
            },
            State::Received | State::Released => {
                Some(Packet::PubRel(Ack::success(PacketId::new(*id)?)))
            }
            State::Asked => None,
        });
        let packets: Vec<_> = packets.collect();
        packets.iter().for_each(|packet| self.sends(packet));
        packets
    }

    /// A copy of a message, and what is wrong with its Packet Identifier or alias.
    fn delivery(
        &mut self,
        publish: &codec::Publish,
        terms: &mut Terms,
        script: &Script,
        names: &Names,
    ) -> (Delivery, Option<String>) {
        let (topic, mut fault) = topic_of(publish, terms);
        let topic = names.shown(&topic);
        let payload = publish.message.payload();
        let label = str::from_utf8(payload).ok().and_then(|text| text.strip_prefix('m'));
        let known = match label.and_then(|digits| digits.parse().ok()) {
            Some(label) => script.publication(label),
            None if payload.is_empty() => script.empty_on(&topic),
            None => None,
        };
        let label = known.map(|message| message.label);
        let of = label.map_or_else(|| format!("{payload:02X?}"), |label| format!("m{label}"));
        let mut again = false;
        if let Some(id) = publish.packet_id {
            self.window.insert(id.get());
            match self.incoming.insert(id.get(), of.clone()) {
                Some(before) if before == of => again = true,
                Some(before) => fault = Some(format!("identifier of {before} for {of}")),
                None => {}
            }
        }
        let (identifiers, properties) = properties_of(publish, known, terms, names);
        let delivery = Delivery {
            label,
            topic,
            published: known.map_or(QoS::AtMostOnce, |message| message.qos),
            qos: publish.qos,
            retain: publish.retain,
            dup: publish.dup,
            again,
            identifiers,
            properties,
            payload: known.is_none().then(|| payload.to_vec()),
        };
        (delivery, fault)
    }

    /// Everything else, and what to answer.
    fn answered(&mut self, packet: &Packet, script: &Script) -> (Event, Option<Packet>) {
        let kind = packet.packet_type();
        let (id, codes) = match packet {
            Packet::PubAck(ack) | Packet::PubRec(ack) => (ack.packet_id, vec![nobody(ack.reason)]),
            Packet::PubRel(ack) | Packet::PubComp(ack) => (ack.packet_id, vec![ack.reason.code()]),
            Packet::SubAck(ack) => (ack.packet_id, codes(&ack.reasons)),
            Packet::UnsubAck(ack) => (ack.packet_id, codes(&ack.reasons)),
            Packet::Disconnect(disconnect) => {
                return (Event::Disconnect(disconnect.reason.code()), None);
            }
            other => return (Event::Broken(format!("a client gets {other:?}")), None),
        };
        let id = id.get();
        let answer = |kind: fn(Ack) -> Packet| PacketId::new(id).map(|id| kind(Ack::success(id)));
        let (of, answer) = if kind == PacketType::PubRel {
            (self.incoming.get(&id).cloned(), answer(Packet::PubComp))
        } else if let Some(outgoing) = self.outgoing.get_mut(&id) {
            let of = outgoing.of.clone();
            let is_refused = codes.iter().any(|code| *code >= 0x80);
            if kind == PacketType::PubRec && !is_refused {
                outgoing.state = State::Received;
                (Some(of), answer(Packet::PubRel))
            } else {
                self.outgoing.remove(&id);
                (Some(of), None)
            }
        } else {
            (None, None)
        };
        let of = of.unwrap_or("unknown".to_owned());
        let label = of.strip_prefix('m').and_then(|label| label.parse().ok());
        let message = label.and_then(|label| script.publication(label));
        let topic = message.map(|message| message.topic.clone()).unwrap_or_default();
        (Event::Answer { packet: kind, of, topic, codes }, answer)
    }

    /// It has sent an answer.
    fn sends(&mut self, packet: &Packet) {
        if let Packet::PubRel(ack) = packet
            && let Some(outgoing) = self.outgoing.get_mut(&ack.packet_id.get())
        {
            outgoing.state = State::Released;
        }
        let is_end = match packet {
            Packet::PubAck(_) | Packet::PubComp(_) => true,
            Packet::PubRec(ack) => ack.reason.is_error(),
            _ => false,
        };
        if let Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubComp(ack) = packet
            && is_end
        {
            self.incoming.remove(&ack.packet_id.get());
            self.window.remove(&ack.packet_id.get());
        }
    }
}

/// The acknowledgement of a PUBLISH.
fn answer_to(publish: &codec::Publish) -> Option<Packet> {
    let ack = Ack::success(publish.packet_id?);
    Some(if publish.qos == QoS::AtLeastOnce { Packet::PubAck(ack) } else { Packet::PubRec(ack) })
}

/// The topic of a PUBLISH, whose alias may stand for it.
fn topic_of(publish: &codec::Publish, terms: &mut Terms) -> (String, Option<String>) {
    let topic = publish.message.topic_str().to_owned();
    let Some(alias) = publish.topic_alias.map(|alias| alias.get()) else { return (topic, None) };
    let fault = alias > terms.alias_maximum;
    let fault = fault.then(|| "above Topic Alias Maximum [MQTT-3.1.2-26]".to_owned());
    if !topic.is_empty() {
        terms.aliases.insert(alias, topic.clone());
        return (topic, fault);
    }
    match terms.aliases.get(&alias) {
        Some(topic) => (topic.clone(), fault),
        None => (topic, Some("an alias that was never explained".to_owned())),
    }
}

/// Subscription Identifiers, and the other properties as texts. A Message Expiry Interval that went
/// down by no more than the time since is that of the message.
fn properties_of(
    publish: &codec::Publish,
    known: Option<&Publication>,
    terms: &Terms,
    names: &Names,
) -> (Vec<u32>, Vec<String>) {
    let asked = known.and_then(|message| message.properties.message_expiry_interval());
    let (mut identifiers, mut sorted, mut in_order) = (Vec::new(), Vec::new(), Vec::new());
    for property in &publish.message.properties() {
        match property {
            Property::SubscriptionIdentifier(id) => identifiers.push(*id),
            Property::UserProperty(..) => in_order.push(format!("{property:?}")),
            Property::MessageExpiryInterval(left) => {
                let gone = asked.and_then(|asked| asked.checked_sub(*left));
                let is_right = gone.is_some_and(|gone| gone <= terms.elapsed_s + 2);
                let left = if is_right { asked.unwrap_or(*left) } else { *left };
                sorted.push(format!("{:?}", Property::MessageExpiryInterval(left)));
            }
            Property::ResponseTopic(topic) => {
                let topic = names.shown(topic).into();
                sorted.push(format!("{:?}", Property::ResponseTopic(topic)));
            }
            other => sorted.push(format!("{other:?}")),
        }
    }
    identifiers.sort_unstable();
    sorted.sort_unstable();
    sorted.append(&mut in_order);
    (identifiers, sorted)
}

/// Whether a packet other than PUBLISH, CONNACK and DISCONNECT explains itself.
fn has_problem_information(packet: &Packet) -> bool {
    let properties = match packet {
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            &ack.properties
        }
        Packet::SubAck(ack) => &ack.properties,
        Packet::UnsubAck(ack) => &ack.properties,
        _ => return false,
    };
    let explains = |property: &Property| {
        matches!(property, Property::ReasonString(_) | Property::UserProperty(..))
    };
    properties.iter().any(explains)
}

/// The properties of a CONNACK but for its limits and what goes without saying.
fn restrictions(properties: &Properties) -> Vec<String> {
    let is_free = |property: &Property| {
        matches!(
            property,
            Property::ReceiveMaximum(_)
                | Property::TopicAliasMaximum(_)
                | Property::MaximumPacketSize(_)
                | Property::AssignedClientIdentifier(_)
                | Property::ServerKeepAlive(_)
                | Property::ReasonString(_)
                | Property::UserProperty(..)
                | Property::RetainAvailable(true)
                | Property::WildcardSubscriptionAvailable(true)
                | Property::SubscriptionIdentifierAvailable(true)
                | Property::SharedSubscriptionAvailable(true)
        )
    };
    let mut left: Vec<_> = properties.iter().filter(|property| !is_free(property)).collect();
    left.sort_by_key(|property| property.id());
    left.into_iter().map(|property| format!("{property:?}")).collect()
}

/// "No matching subscribers" may be said and need not be.
fn nobody(reason: ReasonCode) -> u8 {
    match reason {
        ReasonCode::NoMatchingSubscribers => 0,
        other => other.code(),
    }
}

fn codes(reasons: &[ReasonCode]) -> Vec<u8> {
    reasons.iter().map(|reason| reason.code()).collect()
}
