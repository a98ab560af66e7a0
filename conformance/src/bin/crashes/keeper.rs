//! Retained messages: a client that sets and clears them, and what must be there after a crash.

use std::{
    collections::{BTreeMap, VecDeque},
    io, thread,
    time::{Duration, Instant},
};

use codec::{
    AckKind, Message, Packet, Properties, ProtocolVersion, QoS, Subscribe, SubscribeFilter,
    SubscriptionOptions,
};
use conformance::sim::Rng;

use crate::{
    link::{CONNACK_WITHIN, Identity, Link, packet_id, parts},
    world::{Client, Common, Part, World},
};

/// Topics with a retained message.
const TOPICS: usize = 5;

/// Changes in flight, of all topics.
const WINDOW: usize = 4;

/// So long whoever subscribes waits for what need not come.
const QUIET: Duration = Duration::from_millis(30);

/// One retained message through all its values: the numbers from 1, of which some clear it.
#[derive(Clone, Copy, Debug, Default)]
struct Value {
    acknowledged: u64,
    sent: u64,
}

impl Value {
    fn is_clear(number: u64) -> bool {
        number == 0 || Rng::new(number).below(6) == 0
    }

    /// Whether this may be there now: a number, or nothing.
    fn may_be(self, seen: Option<u64>) -> bool {
        let mut possible = self.acknowledged..=self.sent;
        match seen {
            Some(number) => possible.contains(&number) && !Self::is_clear(number),
            None => possible.any(Self::is_clear),
        }
    }
}

pub(crate) struct Keeper {
    common: Common,
    values: [Value; TOPICS],
    /// Identifier, topic, number; in order.
    flights: VecDeque<(u16, usize, u64)>,
    next_id: u16,
    rng: Rng,
}

fn topic(at: usize) -> String {
    format!("keep/of-{at}")
}

impl Keeper {
    pub(crate) fn new(rng: Rng) -> Self {
        let common = Common::new(Identity::new("keeper", ProtocolVersion::V5));
        Self { common, values: Default::default(), flights: VecDeque::new(), next_id: 0, rng }
    }

    /// How many values were acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.values.iter().map(|value| value.acknowledged).sum()
    }

    fn publish((id, at, number): (u16, usize, u64), dup: bool, link: &mut Link) {
        let text = if Value::is_clear(number) { String::new() } else { number.to_string() };
        let message = Message::new(&topic(at), &Properties::new(), text.as_bytes());
        link.publish(message.expect("it is short"), QoS::AtLeastOnce, id, dup, true);
    }

    /// Connects as somebody new and looks at every retained message. Returns when CONNACK came.
    pub(crate) fn look(&self, version: ProtocolVersion, world: &World) -> io::Result<Instant> {
        let identity =
            Identity { is_clean: true, ..Identity::new(format!("looker-{version:?}"), version) };
        let deadline = Instant::now() + CONNACK_WITHIN;
        let mut link = loop {
            match Link::connect(world.address, &identity, || Instant::now() > deadline) {
                Ok((link, _)) => break link,
                Err(error) if Instant::now() > deadline => return Err(error),
                // It does not listen yet.
                Err(_) => thread::sleep(Duration::from_millis(1)),
            }
        };
        let connected = Instant::now();
        // Nobody else is there, or nobody has anything to do.
        let deadline = connected + world.patience() / 4;
        let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..Default::default() };
        link.send(&Packet::Subscribe(Box::new(Subscribe {
            packet_id: packet_id(1),
            properties: Properties::new(),
            filters: vec![SubscribeFilter { filter: "keep/#".into(), options }],
        })));
        let mut seen = BTreeMap::new();
        let mut quiet_since = Instant::now();
        let mut is_granted = false;
        loop {
            link.flush()?;
            link.receive()?;
            while let Some(packet) = link.next() {
                quiet_since = Instant::now();
                match packet {
                    Packet::SubAck(_) => is_granted = true,
                    Packet::Publish(publish) => {
                        if let Some(id) = publish.packet_id {
                            link.acknowledge(AckKind::PubAck, id.get());
                        }
                        let text = String::from_utf8_lossy(publish.message.payload()).into_owned();
                        let topic = publish.message.topic_str().to_owned();
                        if !publish.retain || seen.insert(topic.clone(), text).is_some() {
                            let what = || format!("{topic}: {publish:?}");
                            world.findings.add("retained message twice, or without RETAIN", what);
                        }
                    }
                    _ => {}
                }
            }
            let is_missing =
                |at: usize| !seen.contains_key(&topic(at)) && !self.values[at].may_be(None);
            let is_complete = is_granted && !(0..TOPICS).any(is_missing);
            if is_complete && quiet_since.elapsed() > QUIET || Instant::now() > deadline {
                break;
            }
        }
        for (at, value) in self.values.iter().enumerate() {
            let text = seen.remove(&topic(at));
            let number = text.as_ref().map(|text| text.parse().unwrap_or(u64::MAX));
            if !value.may_be(number) {
                let what = || format!("{} is {text:?}, with {value:?}", topic(at));
                world.findings.add("retained message wrong", what);
            }
        }
        if !seen.is_empty() {
            world.findings.add("retained message made up", || format!("{seen:?}"));
        }
        Ok(connected)
    }
}

impl Client for Keeper {
    fn common(&mut self) -> &mut Common {
        &mut self.common
    }

    fn begin(&mut self, link: &mut Link, is_resumed: bool, _world: &World) {
        if !is_resumed {
            self.flights.clear();
        }
        for flight in &self.flights {
            Self::publish(*flight, true, link);
        }
    }

    fn turn(&mut self, link: &mut Link, world: &World) {
        let is_open = world.part == Part::Load;
        while is_open && self.flights.len() < WINDOW && self.rng.below(4) > 0 {
            let at = self.rng.below(TOPICS);
            self.values[at].sent += 1;
            self.next_id = self.next_id % 60_000 + 1;
            let flight = (self.next_id, at, self.values[at].sent);
            self.flights.push_back(flight);
            Self::publish(flight, false, link);
        }
    }

    fn packet(&mut self, packet: &Packet, _link: &mut Link, _world: &World) -> bool {
        let Packet::PubAck(ack) = packet else { return false };
        let (id, reason) = parts(ack);
        let Some(at) = self.flights.iter().position(|flight| flight.0 == id) else {
            return false;
        };
        if let Some((_, at, number)) = self.flights.remove(at)
            && !reason.is_error()
        {
            self.values[at].acknowledged = self.values[at].acknowledged.max(number);
        }
        true
    }

    fn is_settled(&self, _world: &World) -> bool {
        self.flights.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_retained_is_what_was_acknowledged_or_sent_since() {
        let clear = (1..).find(|&number| Value::is_clear(number)).unwrap();
        let set = (clear + 1..).find(|&number| !Value::is_clear(number)).unwrap();
        let exact = |number| Value { acknowledged: number, sent: number };
        assert!(exact(0).may_be(None) && !exact(0).may_be(Some(1)));
        assert!(exact(clear).may_be(None) && !exact(clear).may_be(Some(clear)));
        assert!(exact(set).may_be(Some(set)) && !exact(set).may_be(None));
        assert!(!exact(set).may_be(Some(set - 1)) && !exact(set).may_be(Some(set + 1)));
        let open = Value { acknowledged: clear, sent: set };
        assert!(open.may_be(None) && open.may_be(Some(set)));
    }
}
