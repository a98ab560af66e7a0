//! A broker of one shard whose questions are answered by the test, and what its clients send.

use std::sync::Arc;

use codec::{
    Auth, Connect, Frame, Message, Packet, PacketId, Properties, Property, ProtocolVersion,
    Publish, QoS, ReasonCode, Subscribe, SubscribeFilter, SubscriptionOptions,
};
use session_core::{
    Actions, Answer, Authentication, Command, ConnId, Effect, Event, Grants, Input, Pattern,
    Principal, Record, Request, Rule, Shard, ShardConfig, ShardId, ShardMap, Subject, Ticket, Time,
};

use super::common;

/// A broker of one shard, and an outside that lets in whoever asks with these rights.
pub(crate) struct World {
    pub(crate) shard: Shard,
    pub(crate) now: Time,
    pub(crate) grants: Grants,
    pub(crate) expires: Option<Time>,
    /// Questions are not answered.
    pub(crate) is_silent: bool,
    pub(crate) asked: Vec<(Ticket, Request)>,
    /// Invariants are looked at after each input, which takes as long as there are clients.
    pub(crate) checks: bool,
}

impl World {
    pub(crate) fn new(change: impl FnOnce(&mut ShardConfig)) -> Self {
        let mut config = asking();
        change(&mut config);
        let mut shard = Shard::new(config);
        shard.start(Time(1000), &mut Vec::new());
        let grants = Grants::All;
        let asked = Vec::new();
        Self {
            shard,
            now: Time(1000),
            grants,
            expires: None,
            is_silent: false,
            asked,
            checks: true,
        }
    }

    /// What an input brings about, with all that is answered.
    pub(crate) fn input(&mut self, input: Input) -> Vec<String> {
        let mut effects = Vec::new();
        self.shard.handle(self.now, input, &mut effects);
        self.carry_out(effects)
    }

    /// The broker ends, and begins again with what it has remembered; nobody is connected.
    pub(crate) fn restart(&mut self, config: ShardConfig) -> Vec<String> {
        let records: Vec<Record> = self.shard.snapshot().collect();
        self.shard = Shard::recovered(config, records);
        let mut effects = Vec::new();
        self.shard.start(self.now, &mut effects);
        self.carry_out(effects)
    }

    fn carry_out(&mut self, effects: Vec<Effect>) -> Vec<String> {
        let (mut effects, mut inputs, mut shown) = (effects, Vec::new(), Vec::new());
        loop {
            assert!(!self.checks || self.shard.check().is_ok(), "{:?}", self.shard.check());
            for effect in effects.drain(..).flat_map(Effect::each) {
                if let Effect::Ask { ticket, request } = effect {
                    let answer = self.answer(&request);
                    self.asked.push((ticket, *request));
                    if !self.is_silent {
                        inputs.push(Input::Answer { ticket, answer: Box::new(answer) });
                    }
                } else {
                    shown.extend(show(&effect));
                }
            }
            if inputs.is_empty() && self.shard.next_timeout().is_some_and(|at| at <= self.now) {
                inputs.push(Input::Tick);
            }
            let Some(input) = inputs.pop() else { return shown };
            self.shard.handle(self.now, input, &mut effects);
        }
    }

    fn answer(&self, request: &Request) -> Answer {
        let client_id = match request {
            Request::Authenticate { connect, .. } => connect.client_id.clone(),
            Request::Continue { client_id, .. } => client_id.clone(),
            Request::Judge { subject } => subject.client_id.clone(),
        };
        let subject = Subject { client_id, provider: "test".into(), ..Subject::default() };
        let principal = Principal {
            grants: self.grants.clone(),
            subject: Some(Arc::new(subject)),
            expires: self.expires,
            ..Principal::default()
        };
        Answer::Accept { principal, data: None }
    }

    pub(crate) fn connect(&mut self, slot: u32, connect: Connect) -> Vec<String> {
        self.input(common::opened(conn(slot), 1 << 20));
        self.packet(slot, Packet::Connect(Box::new(connect)))
    }

    pub(crate) fn packet(&mut self, slot: u32, packet: Packet) -> Vec<String> {
        self.input(Input::Packet { conn: conn(slot), packet })
    }

    pub(crate) fn rights_change(&mut self, grants: Grants) -> Vec<String> {
        self.grants = grants;
        let command = Box::new(Command::RightsChanged);
        self.input(Input::Command { ticket: Ticket(0), command })
    }

    pub(crate) fn wait(&mut self, ms: u64) -> Vec<String> {
        self.now = self.now.plus_ms(ms);
        self.input(Input::Tick)
    }
}

/// A broker of one shard that lets in whom somebody else does.
pub(crate) fn asking() -> ShardConfig {
    let mut config = ShardConfig::new(ShardId(0), ShardMap::new(1, 2));
    config.authentication = Authentication::Ask;
    config
}

pub(crate) fn conn(slot: u32) -> ConnId {
    ConnId { slot, epoch: 0 }
}

pub(crate) fn id(value: u16) -> PacketId {
    PacketId::new(value).expect("not zero")
}

pub(crate) fn client(version: ProtocolVersion, client_id: &str) -> Connect {
    let properties = match version {
        ProtocolVersion::V5 => [Property::SessionExpiryInterval(100)].into_iter().collect(),
        _ => Properties::new(),
    };
    common::connect(version, client_id, properties)
}

pub(crate) fn v5(client_id: &str) -> Connect {
    client(ProtocolVersion::V5, client_id)
}

pub(crate) fn message(topic: &str) -> Message {
    Message::new(topic, &Properties::new(), b"x").expect("short")
}

pub(crate) fn publish(topic: &str, qos: QoS, packet_id: u16) -> Packet {
    let (dup, retain, topic_alias) = (false, false, None);
    let (packet_id, message) = (PacketId::new(packet_id), message(topic));
    Packet::Publish(Publish { dup, qos, retain, packet_id, topic_alias, message })
}

pub(crate) fn retained(topic: &str) -> Packet {
    let Packet::Publish(publish) = publish(topic, QoS::AtMostOnce, 0) else { unreachable!() };
    Packet::Publish(Publish { retain: true, ..publish })
}

pub(crate) fn subscribe(filters: &[&str]) -> Packet {
    subscribe_at(filters, QoS::AtLeastOnce)
}

pub(crate) fn subscribe_at(filters: &[&str], qos: QoS) -> Packet {
    let options = SubscriptionOptions { qos, ..Default::default() };
    let filters =
        filters.iter().map(|filter| SubscribeFilter { filter: (*filter).into(), options });
    Packet::Subscribe(Box::new(Subscribe {
        packet_id: id(1),
        properties: Properties::new(),
        filters: filters.collect(),
    }))
}

pub(crate) fn rule(allow: bool, actions: Actions, filter: &str) -> Rule {
    Rule::new(allow, actions, Pattern::of_filter(filter), &format!("rule of {filter}"))
}

pub(crate) fn only(filter: &str) -> Grants {
    Grants::Rules(Arc::new([rule(true, Actions::ALL, filter)]))
}

pub(crate) fn show(effect: &Effect) -> Option<String> {
    Some(match effect {
        Effect::Send { conn, frame } => {
            let slot = conn.slot;
            match frame {
                Frame::Publish { message, .. } => format!("{slot} PUBLISH {}", message.topic_str()),
                Frame::Ack { kind, reason, .. } => format!("{slot} {kind:?} {reason:?}"),
                Frame::Packet(_, packet) => match &**packet {
                    Packet::SubAck(ack) => format!("{slot} SubAck {:?}", ack.reasons),
                    Packet::PubAck(ack) => format!("{slot} PubAck {:?}", ack.reason),
                    Packet::PubRec(ack) => format!("{slot} PubRec {:?}", ack.reason),
                    Packet::Disconnect(goodbye) => {
                        format!("{slot} Disconnect {:?}", goodbye.reason)
                    }
                    Packet::Auth(auth) => format!("{slot} Auth {:?}", auth.reason),
                    Packet::ConnAck(ack) => format!("{slot} ConnAck {:?}", ack.reason),
                    other => format!("{slot} {other:?}"),
                },
                other => format!("{slot} {other:?}"),
            }
        }
        Effect::Close { conn, cause } => format!("{} closed {cause:?}", conn.slot),
        Effect::Note(event) => match &**event {
            Event::Denied { conn, action, topic, rule, untold, .. } => {
                let rule = rule.as_deref().unwrap_or("no rule");
                format!("{} denied {action:?} {topic} by {rule}, untold {untold}", conn.slot)
            }
            _ => return None,
        },
        _ => return None,
    })
}

pub(crate) fn with_method(client_id: &str) -> Connect {
    let properties = [Property::AuthenticationMethod("M".into())].into_iter().collect();
    Connect { properties, ..v5(client_id) }
}

pub(crate) fn auth(reason: ReasonCode) -> Packet {
    let properties = [Property::AuthenticationMethod("M".into())].into_iter().collect();
    Packet::Auth(Box::new(Auth { reason, properties }))
}
