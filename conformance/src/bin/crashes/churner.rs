//! Subscriptions that come and go: after a crash there is what was acknowledged last. A client
//! publishes to all topics that it may be subscribed to, and sees which messages come back.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use codec::{
    AckKind, Message, Packet, Properties, ProtocolVersion, Publish, QoS, Subscribe,
    SubscribeFilter, SubscriptionOptions, Unsubscribe,
};
use conformance::sim::Rng;

use crate::{
    link::{Identity, Link, packet_id, parts},
    world::{Client, Common, Part, World},
};

/// Filters that may be subscribed to; each matches one topic.
const FILTERS: usize = 12;

/// So long it waits for messages that need not come.
const QUIET: Duration = Duration::from_millis(30);

/// The QoS that was granted, or none without a subscription.
type Subscription = Option<QoS>;

/// All that may be, as far as the client knows.
type Possible = Vec<Subscription>;

/// A message to each topic.
struct Probe {
    expected: [Possible; FILTERS],
    came: [bool; FILTERS],
    begun: Instant,
    /// When all were acknowledged.
    published: Option<Instant>,
}

pub(crate) struct Churner {
    common: Common,
    possible: [Possible; FILTERS],
    probes: Vec<Probe>,
    /// The last of them is being answered.
    is_probing: bool,
    /// Identifier, filter and probe of messages that were not acknowledged.
    flights: VecDeque<(u16, usize, usize)>,
    /// The identifier of the SUBSCRIBE or UNSUBSCRIBE that was not answered, and what it asks for.
    request: Option<(u16, Vec<(usize, Subscription)>)>,
    next_id: u16,
    /// Requests that were acknowledged.
    pub(crate) acknowledged: u64,
    rng: Rng,
}

/// The first two levels decide about the owner, so wildcards there belong to every shard.
fn filter(at: usize) -> String {
    match at % 3 {
        0 => format!("churn/{at}"),
        1 => format!("churn/{at}/#"),
        _ => format!("+/{at}"),
    }
}

fn topic(at: usize) -> String {
    format!("churn/{at}")
}

impl Churner {
    pub(crate) fn new(rng: Rng) -> Self {
        Self {
            common: Common::new(Identity::new("churner", ProtocolVersion::V5)),
            possible: std::array::from_fn(|_| vec![None]),
            probes: Vec::new(),
            is_probing: false,
            flights: VecDeque::new(),
            request: None,
            next_id: 0,
            acknowledged: 0,
            rng,
        }
    }

    fn id(&mut self) -> u16 {
        self.next_id = self.next_id % 60_000 + 1;
        self.next_id
    }

    fn publish((id, at, probe): (u16, usize, usize), dup: bool, link: &mut Link) {
        let text = probe.to_string();
        let message = Message::new(&topic(at), &Properties::new(), text.as_bytes());
        link.publish(message.expect("it is short"), QoS::AtLeastOnce, id, dup, false);
    }

    fn probe(&mut self, link: &mut Link) {
        self.is_probing = true;
        self.probes.push(Probe {
            expected: self.possible.clone(),
            came: [false; FILTERS],
            begun: Instant::now(),
            published: None,
        });
        for at in 0..FILTERS {
            let flight = (self.id(), at, self.probes.len() - 1);
            self.flights.push_back(flight);
            Self::publish(flight, false, link);
        }
    }

    /// Looks whether all has come that must.
    fn judge(&mut self, world: &World) {
        let Some(probe) = self.probes.last_mut() else { return };
        if !self.flights.is_empty() {
            return;
        }
        let published = *probe.published.get_or_insert_with(Instant::now);
        let is_missing = |at: &usize| !probe.came[*at] && !probe.expected[*at].contains(&None);
        let missing: Vec<usize> = (0..FILTERS).filter(is_missing).collect();
        if missing.is_empty() && published.elapsed() > QUIET {
            self.is_probing = false;
        } else if !missing.is_empty() && probe.begun.elapsed() > world.patience() {
            self.is_probing = false;
            world.findings.add("subscription lost", || format!("filters {missing:?}"));
        }
    }

    /// Asks for a few changes at once.
    fn change(&mut self, link: &mut Link) {
        let id = self.id();
        let wants = self.rng.below(2) == 0;
        let mut asked: Vec<(usize, Subscription)> = Vec::new();
        for _ in 0..=self.rng.below(3) {
            let at = self.rng.below(FILTERS);
            if asked.iter().all(|(other, _)| *other != at) {
                let qos = QoS::from_bits(self.rng.below(2) as u8).unwrap_or_default();
                asked.push((at, wants.then_some(qos)));
            }
        }
        let (packet_id, properties) = (packet_id(id), Properties::new());
        let names = asked.iter().map(|(at, _)| filter(*at).into());
        let packet = if wants {
            let options = asked.iter().map(|(_, qos)| SubscriptionOptions {
                qos: qos.unwrap_or_default(),
                ..Default::default()
            });
            let filters = names.zip(options);
            let filters = filters.map(|(filter, options)| SubscribeFilter { filter, options });
            let filters = filters.collect();
            Packet::Subscribe(Box::new(Subscribe { packet_id, properties, filters }))
        } else {
            let filters = names.collect();
            Packet::Unsubscribe(Box::new(Unsubscribe { packet_id, properties, filters }))
        };
        link.send(&packet);
        for (at, subscription) in &asked {
            if !self.possible[*at].contains(subscription) {
                self.possible[*at].push(*subscription);
            }
        }
        self.request = Some((id, asked));
    }

    /// The request with this identifier was granted.
    fn granted(&mut self, id: u16) -> bool {
        let Some((_, asked)) = self.request.take_if(|(open, _)| *open == id) else {
            return false;
        };
        for (at, subscription) in asked {
            self.possible[at] = vec![subscription];
        }
        self.acknowledged += 1;
        true
    }

    fn deliver(&mut self, publish: &Publish, link: &mut Link, world: &World) -> bool {
        if let Some(id) = publish.packet_id {
            link.acknowledge(AckKind::PubAck, id.get());
        }
        let text = String::from_utf8_lossy(publish.message.payload()).into_owned();
        let name = publish.message.topic_str();
        let Some(at) = (0..FILTERS).find(|&at| topic(at) == name) else { return false };
        let Ok(number) = text.parse::<usize>() else { return false };
        let is_last = number + 1 == self.probes.len();
        let Some(probe) = self.probes.get_mut(number) else { return false };
        probe.came[at] = true;
        let expected = &probe.expected[at];
        let seen = Some(publish.qos);
        if !expected.contains(&seen) {
            world.findings.add("subscription wrong", || {
                format!(
                    "{}: message {number} came with {seen:?}, possible: {expected:?}",
                    filter(at)
                )
            });
        }
        if self.is_probing && is_last {
            self.possible[at] = vec![seen];
        }
        true
    }
}

impl Client for Churner {
    fn common(&mut self) -> &mut Common {
        &mut self.common
    }

    fn begin(&mut self, link: &mut Link, is_resumed: bool, _world: &World) {
        self.request = None;
        if !is_resumed {
            self.flights.clear();
            self.possible = std::array::from_fn(|_| vec![None]);
        }
        for flight in &self.flights {
            Self::publish(*flight, true, link);
        }
        self.probe(link);
    }

    fn turn(&mut self, link: &mut Link, world: &World) {
        if self.is_probing {
            self.judge(world);
        } else if world.part == Part::Load && self.request.is_none() {
            self.change(link);
        }
    }

    fn packet(&mut self, packet: &Packet, link: &mut Link, world: &World) -> bool {
        match packet {
            Packet::PubAck(ack) => {
                let (id, reason) = parts(ack);
                let at = self.flights.iter().position(|flight| flight.0 == id);
                at.and_then(|at| self.flights.remove(at)).is_some() && !reason.is_error()
            }
            Packet::Publish(publish) => self.deliver(publish, link, world),
            Packet::SubAck(ack) => {
                let asked = self.request.as_ref().map(|(_, asked)| asked.as_slice());
                let asked = asked.unwrap_or_default().iter();
                let codes = asked.map(|(_, qos)| qos.unwrap_or_default() as u8);
                codes.eq(ack.reasons.iter().map(|reason| reason.code()))
                    && self.granted(ack.packet_id.get())
            }
            Packet::UnsubAck(ack) => {
                !ack.reasons.iter().any(|reason| reason.is_error())
                    && self.granted(ack.packet_id.get())
            }
            _ => false,
        }
    }

    fn is_settled(&self, _world: &World) -> bool {
        !self.is_probing && self.request.is_none()
    }
}
