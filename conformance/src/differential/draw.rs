//! Scripts from seeds.

use std::collections::BTreeSet;

use codec::{
    Properties, Property, ProtocolVersion, QoS, ReasonCode, RetainHandling, SubscribeFilter,
    SubscriptionOptions,
};

use super::{
    model::{Model, matches},
    script::{Act, Alias, Hello, Op, Publication, Script},
};
use crate::sim::Rng;

/// All topics that scripts publish to.
pub const TOPICS: [&str; 8] = ["a", "a/b", "a/b/c", "b", "b/c", "d", "a/", "ü/€"];
const FILTERS: [&str; 16] = [
    "a", "a/b", "a/b/c", "b", "b/c", "d", "ü/€", "#", "a/#", "+", "+/b", "a/+", "a/+/c", "b/#",
    "+/+", "+/+/#",
];
const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
const VERSIONS: [ProtocolVersion; 7] = [
    ProtocolVersion::V5,
    ProtocolVersion::V5,
    ProtocolVersion::V5,
    ProtocolVersion::V5,
    ProtocolVersion::V311,
    ProtocolVersion::V311,
    ProtocolVersion::V31,
];

/// The script of a seed with so many operations.
pub fn draw(seed: u64, operations: usize) -> Script {
    let mut rng = Rng::new(seed);
    let clients = 2 + rng.below(3);
    let personas = (0..clients).map(|_| Persona::draw(&mut rng)).collect();
    let mut artist = Artist {
        dials: Dials::draw(&mut rng),
        model: Model::new(clients),
        personas,
        rng,
        labels: 0,
        emptied: BTreeSet::new(),
        ops: Vec::new(),
    };
    while artist.ops.len() < operations {
        artist.operation();
    }
    artist.finale();
    Script { seed, clients, ops: artist.ops }
}

/// What is more and less likely in a script, or does not occur: some things make brokers differ
/// legally so often that nothing else would be seen if all scripts had them.
struct Dials {
    overlapping: bool,
    wills: usize,
    take_over: bool,
    holding: bool,
    small_windows: bool,
    shared: bool,
    changes_options: bool,
}

impl Dials {
    fn draw(rng: &mut Rng) -> Self {
        let overlapping = rng.below(3) == 0;
        // A copy more than with the other broker, for an overlapping subscription or a retained
        // message that a shared one does not get, would fill a small window sooner.
        let small_windows = !overlapping && rng.below(3) == 0;
        let take_over = rng.below(2) == 0;
        // So would a Will that the other broker does not publish when a connection is taken over.
        let wills = if small_windows && take_over { 0 } else { pick(rng, &[0, 0, 3, 8]) };
        Self {
            overlapping,
            wills,
            take_over,
            holding: rng.below(3) > 0,
            small_windows,
            shared: !small_windows && rng.below(2) == 0,
            // Which of several copies keeps its old options would be a guess.
            changes_options: !overlapping && rng.below(4) == 0,
        }
    }

    /// Whether both brokers send the same messages in each step, as far as is known, so that the
    /// oldest of them are the same.
    const fn same_messages(&self) -> bool {
        !(self.shared || (self.take_over && self.wills > 0))
    }
}

/// What stays the same of a client.
struct Persona {
    version: ProtocolVersion,
    receive_maximum: u16,
    alias_maximum: u16,
    fickle: bool,
}

impl Persona {
    fn draw(rng: &mut Rng) -> Self {
        Self {
            version: pick(rng, &VERSIONS),
            receive_maximum: pick(rng, &[1, 2, 3, 10]),
            alias_maximum: pick(rng, &[0, 1, 10]),
            fickle: rng.below(8) == 0,
        }
    }
}

struct Artist {
    rng: Rng,
    dials: Dials,
    personas: Vec<Persona>,
    model: Model,
    labels: u32,
    /// Topics that have had a message without payload.
    emptied: BTreeSet<&'static str>,
    ops: Vec<Op>,
}

impl Artist {
    /// Adds an operation if the one that was drawn is legal.
    fn operation(&mut self) {
        let client = self.rng.below(self.personas.len());
        let act = match &self.model.client(client).online {
            None => Act::Connect(self.hello(client)),
            Some(_) => self.act(client),
        };
        self.add(Op { client, act });
    }

    fn add(&mut self, op: Op) {
        if self.model.judge(&op).is_ok() {
            self.model.apply(&op);
            self.ops.push(op);
        }
    }

    /// Everybody comes back and takes what is left.
    fn finale(&mut self) {
        for client in 0..self.personas.len() {
            let clean = self.model.client(client).session.is_none();
            let act = match &self.model.client(client).online {
                Some(_) => Act::Prompt,
                None => Act::Connect(Hello { clean, will: None, ..self.hello(client) }),
            };
            self.add(Op { client, act });
        }
    }

    fn act(&mut self, client: usize) -> Act {
        let online = self.model.client(client).online.as_ref();
        let holds = online.is_some_and(|online| online.holds);
        let is_v5 = online.is_some_and(|online| online.hello.version.is_v5());
        match self.rng.below(100) {
            0..55 => self.publish(client, is_v5),
            55..72 => self.subscribe(client, is_v5),
            72..78 => self.unsubscribe(client),
            78..81 if self.dials.take_over => Act::Connect(self.hello(client)),
            78..86 => self.leave(client, is_v5),
            86..92 if self.dials.holding && !holds => Act::Hold,
            86..95 if holds => match self.rng.below(3) {
                0 => Act::Acknowledge { oldest: false },
                1 => Act::Acknowledge { oldest: self.dials.same_messages() },
                _ if is_v5 && self.rng.below(3) == 0 => Act::Refuse,
                _ => Act::Prompt,
            },
            _ => self.publish(client, is_v5),
        }
    }

    fn hello(&mut self, client: usize) -> Hello {
        let persona = &self.personas[client];
        let version = if persona.fickle { pick(&mut self.rng, &VERSIONS) } else { persona.version };
        let clean = self.rng.below(4) == 0;
        let mut properties = Properties::new();
        if version.is_v5() {
            let rng = &mut self.rng;
            match rng.below(4) {
                0 => {}
                1 => properties.push(Property::SessionExpiryInterval(0)),
                _ => properties.push(Property::SessionExpiryInterval(3600)),
            }
            if self.dials.small_windows {
                properties.push(Property::ReceiveMaximum(persona.receive_maximum));
            }
            if persona.alias_maximum > 0 {
                properties.push(Property::TopicAliasMaximum(persona.alias_maximum));
            }
            if rng.below(4) == 0 {
                properties.push(Property::MaximumPacketSize(pick(rng, &[1000, 65_535])));
            }
            if rng.below(3) == 0 {
                properties.push(Property::RequestProblemInformation(rng.below(2) == 0));
            }
        }
        let has_will = self.rng.below(10) < self.dials.wills;
        let will = has_will.then(|| self.publication(version.is_v5()));
        Hello { version, clean, properties, will }
    }

    fn leave(&mut self, client: usize, is_v5: bool) -> Act {
        let online = self.model.client(client).online.as_ref();
        let outlives = online.is_some_and(|online| online.hello.expiry_s() > 0);
        let expiry_s = (is_v5 && outlives && self.rng.below(4) == 0)
            .then(|| pick(&mut self.rng, &[0, 0, 600, 7200]));
        match self.rng.below(4) {
            0 => Act::Vanish,
            1 if is_v5 => Act::Goodbye(ReasonCode::DisconnectWithWill, expiry_s),
            _ => Act::Goodbye(ReasonCode::Success, expiry_s),
        }
    }

    fn publish(&mut self, client: usize, is_v5: bool) -> Act {
        let mut message = self.publication(is_v5);
        let alias = match self.rng.below(8) {
            // Its topic is its own.
            _ if message.empty => Alias::None,
            0 if is_v5 => Alias::Explains(1 + self.rng.below(3) as u16),
            1 | 2 if is_v5 => Alias::Uses(1 + self.rng.below(3) as u16),
            _ => Alias::None,
        };
        if let Alias::Uses(alias) = alias
            && let Some(online) = &self.model.client(client).online
            && let Some(topic) = online.alias(alias)
        {
            message.topic = topic.to_owned();
        }
        let vanish = message.qos > QoS::AtMostOnce && self.rng.below(25) == 0;
        Act::Publish { message, alias, vanish }
    }

    fn publication(&mut self, is_v5: bool) -> Publication {
        let rng = &mut self.rng;
        self.labels += 1;
        let topic = pick(rng, &TOPICS);
        // Which of several retained messages fills a small window is the broker's choice.
        let retain = !self.dials.small_windows && rng.below(4) == 0;
        let empty = retain && rng.below(3) == 0 && self.emptied.insert(topic);
        Publication {
            label: self.labels,
            topic: topic.to_owned(),
            qos: pick(rng, &QOS),
            retain,
            empty,
            properties: if is_v5 { message_properties(rng) } else { Properties::new() },
        }
    }

    fn subscribe(&mut self, client: usize, is_v5: bool) -> Act {
        let count = pick(&mut self.rng, &[1, 1, 1, 2, 3]);
        let mut filters: Vec<SubscribeFilter> = Vec::new();
        for _ in 0..count {
            let mut filter = pick(&mut self.rng, &FILTERS).to_owned();
            let is_shared = is_v5 && self.dials.shared && self.rng.below(4) == 0;
            if is_shared {
                filter = format!("$share/g{client}/{filter}");
            }
            let mut options =
                SubscriptionOptions { qos: pick(&mut self.rng, &QOS), ..Default::default() };
            if is_v5 {
                options.no_local = !is_shared && self.rng.below(5) == 0;
                options.retain_as_published = self.rng.below(3) == 0;
                options.retain_handling = pick(
                    &mut self.rng,
                    &[
                        RetainHandling::Send,
                        RetainHandling::Send,
                        RetainHandling::SendIfNew,
                        RetainHandling::DoNotSend,
                    ],
                );
            }
            let again = filters.iter().find(|entry| *entry.filter == *filter);
            let before = again.map(|entry| entry.options);
            let before = before.or_else(|| self.model.client(client).options(&filter));
            if let Some(before) = before.filter(|_| !self.dials.changes_options) {
                options.no_local = before.no_local;
                options.retain_as_published = before.retain_as_published;
            }
            if self.is_fit(client, &filter, &filters) {
                filters.push(SubscribeFilter { filter: filter.into(), options });
            }
        }
        let identifier = (is_v5 && self.rng.below(3) == 0)
            .then(|| pick(&mut self.rng, &[1, 2, 127, 128, 16_384, 268_435_455]));
        Act::Subscribe { filters, identifier }
    }

    /// Whether no message comes for two subscriptions, if none shall.
    fn is_fit(&self, client: usize, filter: &str, beside: &[SubscribeFilter]) -> bool {
        if self.dials.overlapping {
            return true;
        }
        let session = self.model.client(client).session.iter();
        let subscribed = session.flat_map(|session| session.subscriptions.keys());
        let mut others = subscribed.map(String::as_str).chain(beside.iter().map(|e| &*e.filter));
        others.all(|other| {
            let both = |topic: &&str| matches(filter, topic) && matches(other, topic);
            other == filter || !TOPICS.iter().any(both)
        })
    }

    fn unsubscribe(&mut self, client: usize) -> Act {
        let session = self.model.client(client).session.iter();
        let subscribed: Vec<_> =
            session.flat_map(|session| session.subscriptions.keys().cloned()).collect();
        let mut filters = Vec::new();
        for _ in 0..pick(&mut self.rng, &[1, 1, 2]) {
            let exists = !subscribed.is_empty() && self.rng.below(4) > 0;
            let filter = match exists {
                true => subscribed[self.rng.below(subscribed.len())].clone(),
                false => pick(&mut self.rng, &FILTERS).to_owned(),
            };
            filters.push(filter);
        }
        Act::Unsubscribe(filters)
    }
}

fn message_properties(rng: &mut Rng) -> Properties {
    let mut properties = Properties::new();
    let mut perhaps = |one_of: usize, property: Property| {
        if rng.below(one_of) == 0 {
            properties.push(property);
        }
    };
    perhaps(6, Property::PayloadFormatIndicator(1));
    perhaps(6, Property::MessageExpiryInterval(3600));
    perhaps(6, Property::ContentType("text/plain".into()));
    perhaps(6, Property::ResponseTopic("d".into()));
    perhaps(6, Property::CorrelationData(vec![0, 1, 0xFF].into()));
    perhaps(6, Property::UserProperty("z".into(), "1".into()));
    perhaps(6, Property::UserProperty("a".into(), "".into()));
    perhaps(6, Property::UserProperty("z".into(), "1".into()));
    properties
}

fn pick<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.below(of.len())]
}
