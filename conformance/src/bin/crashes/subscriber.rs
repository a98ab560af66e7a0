//! A subscriber with a persistent session, and with the memory that QoS 2 asks of a receiver.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::atomic::Ordering::SeqCst,
};

use codec::{
    AckKind, Packet, Properties, Property, Publish, QoS, Subscribe, SubscribeFilter,
    SubscriptionOptions, topic,
};
use conformance::sim::Rng;

use crate::{
    ledger::Delivery,
    link::{Identity, Link, packet_id},
    message::Name,
    world::{Client, Common, World},
};

pub(crate) struct Subscriber {
    common: Common,
    /// With the QoS asked for. The first has Subscription Identifier 1, and so on.
    filters: Vec<(String, QoS)>,
    /// The highest of them.
    qos: QoS,
    /// Where in [`World::receivers`] its deliveries are entered.
    receivers: Vec<usize>,
    /// It is away in some rounds, so that much waits for it.
    pub(crate) is_often_away: bool,
    /// It acknowledges late, so that much is in flight.
    is_lazy: bool,
    /// Filters whose SUBACK came.
    granted: usize,
    /// QoS 2 messages between PUBLISH and PUBREL.
    held: BTreeMap<u16, Name>,
    /// Acknowledgements to send, in order.
    owed: VecDeque<(AckKind, u16)>,
    /// Exchanges of this connection whose last acknowledgement was not sent.
    open: usize,
    rng: Rng,
}

impl Subscriber {
    pub(crate) fn new(
        identity: Identity,
        filters: Vec<(String, QoS)>,
        receivers: Vec<usize>,
        rng: Rng,
    ) -> Self {
        let qos = filters.iter().map(|(_, qos)| *qos).max().unwrap_or_default();
        Self {
            common: Common::new(identity),
            filters,
            qos,
            receivers,
            is_often_away: false,
            is_lazy: false,
            granted: 0,
            held: BTreeMap::new(),
            owed: VecDeque::new(),
            open: 0,
            rng,
        }
    }

    pub(crate) fn often_away(self) -> Self {
        Self { is_often_away: true, ..self }
    }

    pub(crate) fn lazy(self) -> Self {
        Self { is_lazy: true, ..self }
    }

    fn subscribe(&self, link: &mut Link) {
        for (id, (filter, qos)) in (1..).zip(&self.filters) {
            let options = SubscriptionOptions { qos: *qos, ..Default::default() };
            let mut properties = Properties::new();
            properties.push(Property::SubscriptionIdentifier(id.into()));
            let filters = vec![SubscribeFilter { filter: filter.as_str().into(), options }];
            let packet_id = packet_id(id);
            link.send(&Packet::Subscribe(Box::new(Subscribe { packet_id, properties, filters })));
        }
    }

    /// Takes a delivery; `false` if there is no reason for one like it.
    fn deliver(&mut self, publish: &Publish, world: &World) -> bool {
        let client_id = &self.common.identity.client_id;
        let (Some(name), Some(id)) = (Name::of(&publish.message), publish.packet_id) else {
            return false;
        };
        let begun = world.begun.get(name.publisher).map_or(0, |begun| begun.load(SeqCst));
        if name.number as u64 >= begun {
            return false;
        }
        let published = world.publishers[name.publisher];
        if publish.qos != published.min(self.qos) || publish.retain || !self.has_its_ids(publish) {
            return false;
        }
        self.open += 1;
        if self.common.identity.receive_maximum.is_some_and(|most| self.open > most.into()) {
            let open = self.open;
            world.findings.add("Receive Maximum exceeded", || format!("{client_id}: {open}"));
        }
        let id = id.get();
        if publish.qos == QoS::AtLeastOnce {
            self.owed.push_back((AckKind::PubAck, id));
        } else {
            self.owed.push_back((AckKind::PubRec, id));
            match self.held.insert(id, name) {
                None => {}
                Some(held) if held != name => {
                    world.findings.add("identifier in use for two messages", || {
                        format!("{client_id}: {id} is of {held:?} and of {name:?}")
                    });
                }
                Some(_) => {
                    if !publish.dup {
                        let what = || format!("{client_id}: {name:?}");
                        world.findings.add("sent again without DUP", what);
                    }
                    return true;
                }
            }
        }
        let delivery = Delivery { name, qos: publish.qos, dup: publish.dup, published };
        for &at in &self.receivers {
            world.receiver(at).enter(delivery, &world.findings);
        }
        true
    }

    /// Whether a delivery names exactly the subscriptions that match its topic.
    fn has_its_ids(&self, publish: &Publish) -> bool {
        let properties = publish.message.properties();
        let mut ids: Vec<u32> = properties
            .iter()
            .filter_map(|property| match property {
                Property::SubscriptionIdentifier(id) => Some(*id),
                _ => None,
            })
            .collect();
        ids.sort_unstable();
        let topic = publish.message.topic_str();
        let matches = |filter: &str| match topic::split_shared(filter) {
            Some(shared) => shared.is_ok_and(|(_, filter)| topic::matches(filter, topic)),
            None => topic::matches(filter, topic),
        };
        let matching = (1..).zip(&self.filters).filter(|(_, (filter, _))| matches(filter));
        let expected: Vec<u32> = matching.map(|(id, _)| id).collect();
        if self.common.identity.version.is_v5() { ids == expected } else { !expected.is_empty() }
    }
}

impl Client for Subscriber {
    fn common(&mut self) -> &mut Common {
        &mut self.common
    }

    fn begin(&mut self, link: &mut Link, is_resumed: bool, world: &World) {
        self.owed.clear();
        self.open = 0;
        if is_resumed && self.granted == self.filters.len() {
            let missing = self.receivers.iter().map(|&at| world.receiver(at).distinct);
            let backlog = world.due().saturating_sub(missing.max().unwrap_or(0));
            world.backlog_max.fetch_max(backlog, SeqCst);
        } else {
            self.held.clear();
            self.granted = 0;
            self.subscribe(link);
        }
    }

    fn turn(&mut self, link: &mut Link, _world: &World) {
        let count = if self.is_lazy { self.rng.below(4) } else { self.owed.len() };
        for (kind, id) in self.owed.drain(..count.min(self.owed.len())) {
            if matches!(kind, AckKind::PubAck | AckKind::PubComp) {
                self.open = self.open.saturating_sub(1);
            }
            link.acknowledge(kind, id);
        }
    }

    fn packet(&mut self, packet: &Packet, _link: &mut Link, world: &World) -> bool {
        match packet {
            Packet::SubAck(ack) => {
                let asked = self.filters.get(usize::from(ack.packet_id.get()) - 1);
                self.granted += 1;
                asked.is_some_and(
                    |(_, qos)| matches!(ack.reasons[..], [reason] if reason.code() == *qos as u8),
                )
            }
            Packet::Publish(publish) => self.deliver(publish, world),
            Packet::PubRel(ack) => {
                let id = ack.packet_id.get();
                if self.held.remove(&id).is_none() {
                    // Its PUBCOMP was on its way when the broker was killed.
                    self.open += 1;
                }
                self.owed.push_back((AckKind::PubComp, id));
                true
            }
            _ => false,
        }
    }

    fn is_settled(&self, _world: &World) -> bool {
        self.granted == self.filters.len()
    }

    fn stays(&self, world: &World) -> bool {
        world.part == crate::world::Part::Drain
    }
}
