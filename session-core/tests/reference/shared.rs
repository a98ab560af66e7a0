//! Share groups on one to three shards: each message goes to one member that is ready for it,
//! whoever comes, goes, dies or refuses meanwhile.
//!
//! Which member gets a message is the broker's choice. The model follows each message by what the
//! members see of it, and says where it may turn up next.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use codec::{Packet, PacketId, Property, Publish, QoS, ReasonCode, SubscriptionOptions};
use proptest::{prelude::*, sample};

use crate::{
    broker::Broker,
    cases::for_all,
    packets::{QOS, client_id, connect, identifiers, message, publish, subscribe, unsubscribe},
};

const PUBLISHER: usize = 0;
/// Has an ordinary subscription, and is always there.
const OBSERVER: usize = 1;
const MEMBERS: std::ops::Range<usize> = 2..5;
/// Receive Maximum of the members.
const WINDOW: usize = 2;

const SHARE: &str = "$share/group/t/#";
const TOPICS: [&str; 3] = ["t/1", "t/2", "t/3/x"];
/// Subscription Identifiers tell by which subscription a message came.
const SHARED: u32 = 9;
const PLAIN: u32 = 7;

#[derive(Clone, Debug)]
enum Op {
    Publish {
        topic: &'static str,
        qos: QoS,
    },
    Join {
        member: usize,
    },
    Leave {
        member: usize,
    },
    /// The member gives the answer that it has owed longest, or says no instead.
    Acknowledge {
        member: usize,
        refuse: bool,
    },
    Connect {
        member: usize,
        clean_start: bool,
        expiry_s: u32,
    },
    Drop {
        member: usize,
    },
    Wait {
        ms: u64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let member = || MEMBERS;
    let publish = (sample::select(&TOPICS[..]), sample::select(&QOS[..]));
    let expiry_s = sample::select(&[0, 2, u32::MAX, u32::MAX][..]);
    prop_oneof![
        8 => publish.prop_map(|(topic, qos)| Op::Publish { topic, qos }),
        3 => member().prop_map(|member| Op::Join { member }),
        1 => member().prop_map(|member| Op::Leave { member }),
        6 => (member(), prop::bool::weighted(0.1))
            .prop_map(|(member, refuse)| Op::Acknowledge { member, refuse }),
        3 => (member(), prop::bool::weighted(0.2), expiry_s).prop_map(
            |(member, clean_start, expiry_s)| Op::Connect { member, clean_start, expiry_s }
        ),
        2 => member().prop_map(|member| Op::Drop { member }),
        1 => (0..4_000_u64).prop_map(|ms| Op::Wait { ms }),
    ]
}

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    /// With some member that has not been sent it; or lost, if there was no member for a while.
    Waiting { may_be_lost: bool },
    /// This member was sent it and has not answered.
    With(usize),
    /// Nobody may see it again.
    Done,
}

struct World {
    broker: Broker,
    /// The members whose sessions have the subscription.
    group: BTreeSet<usize>,
    /// By payload.
    messages: BTreeMap<String, (QoS, Place)>,
    /// What waits with members that have been connected ever since: it needs nothing but answers.
    near: BTreeSet<String>,
    /// What a member's open exchange is about.
    exchanges: BTreeMap<(usize, PacketId), String>,
    /// The first member hears some topics twice: as a member, and as itself.
    hears_twice: bool,
    /// What came to a member by an ordinary subscription for the first time.
    plain: BTreeSet<(usize, String)>,
}

impl World {
    fn new(shards: u16) -> Self {
        let mut broker = Broker::new(shards, MEMBERS.end, |_| {});
        broker.acknowledging = false;
        for client in [PUBLISHER, OBSERVER] {
            broker.connect(client, connect(client, 0));
        }
        broker.send(OBSERVER, subscribe("#", options(), PLAIN));
        broker.take(OBSERVER);
        let mut world = Self {
            broker,
            group: BTreeSet::new(),
            messages: BTreeMap::new(),
            near: BTreeSet::new(),
            exchanges: BTreeMap::new(),
            hears_twice: false,
            plain: BTreeSet::new(),
        };
        for member in MEMBERS {
            world.connect(member, true, u32::MAX);
            world.join(member);
            world.broker.take(member);
        }
        world
    }

    fn connect(&mut self, member: usize, clean_start: bool, expiry_s: u32) {
        let mut connect = connect(member, expiry_s);
        connect.clean_start = clean_start;
        let window = u16::try_from(WINDOW).expect("small");
        connect.properties.push(Property::ReceiveMaximum(window));
        self.broker.connect(member, connect);
        // A session without expiry ends when it is taken over, too.
        let is_new =
            |packet: &Packet| matches!(packet, Packet::ConnAck(ack) if !ack.session_present);
        if self.broker.clients[member].inbox.iter().any(is_new) {
            self.end(member);
        }
    }

    fn join(&mut self, member: usize) {
        if self.broker.clients[member].conn.is_some() {
            self.broker.send(member, subscribe(SHARE, options(), SHARED));
            self.group.insert(member);
            if member == MEMBERS.start {
                self.hears_twice = true;
                self.broker.send(member, subscribe(TOPICS[0], options(), PLAIN));
            }
        }
    }

    fn lives(&self, member: usize) -> bool {
        let id = client_id(member);
        self.broker.shards.iter().any(|shard| shard.view().clients().any(|(name, _)| *name == *id))
    }

    /// The session of a member is over: what it had goes to others, if there are any.
    fn end(&mut self, member: usize) {
        self.group.remove(&member);
        self.exchanges.retain(|(with, _), _| *with != member);
        self.hears_twice &= member != MEMBERS.start;
        let nobody_left = self.group.is_empty();
        for (qos, place) in self.messages.values_mut() {
            match place {
                Place::Waiting { may_be_lost } => *may_be_lost |= nobody_left,
                // [MQTT-4.8.2-5]: of QoS 2, what was sent goes to nobody else.
                Place::With(with) if *with == member => {
                    *place = match qos {
                        QoS::ExactlyOnce => Place::Done,
                        _ => Place::Waiting { may_be_lost: nobody_left },
                    };
                }
                _ => {}
            }
        }
    }

    /// Whether a member would be sent a message at once.
    fn is_ready(&self, member: usize, topic: &str, qos: QoS) -> bool {
        let client = &self.broker.clients[member];
        // A member owes one answer for each exchange, and its own copy goes first.
        let twice = self.hears_twice && member == MEMBERS.start && topic == TOPICS[0];
        let has_room = client.owed.len() + usize::from(twice) < WINDOW;
        client.conn.is_some() && (has_room || qos == QoS::AtMostOnce)
    }

    /// Publishes, and says who was ready.
    fn publish(&mut self, payload: &str, topic: &str, qos: QoS) -> BTreeSet<usize> {
        let ready = self.group.iter().copied().filter(|member| self.is_ready(*member, topic, qos));
        let ready: BTreeSet<usize> = ready.collect();
        let message = message(topic, payload.as_bytes(), None);
        self.broker.publish(PUBLISHER, publish(message, qos, false, 1));
        // QoS 0 does not wait.
        let waits = !ready.is_empty() || (qos > QoS::AtMostOnce && !self.group.is_empty());
        // Nobody is ready, but somebody will be: that is a better place than with the absent.
        if self.group.iter().any(|member| self.broker.clients[*member].conn.is_some()) {
            self.near.extend(waits.then(|| payload.to_owned()));
        }
        let place = if waits { Place::Waiting { may_be_lost: false } } else { Place::Done };
        self.messages.insert(payload.into(), (qos, place));
        ready
    }

    /// A member gets a message by the group.
    fn see(&mut self, member: usize, payload: &str, publish: &Publish) {
        let (qos, place) = self.messages.get_mut(payload).expect("published");
        // [MQTT-4.8.2-3]
        assert_eq!(publish.qos, *qos, "all were granted QoS 2");
        match *place {
            Place::Waiting { .. } => assert!(!publish.dup, "{payload} is new to {member}"),
            // [MQTT-4.8.2-4]: after a reconnection.
            Place::With(with) => assert_eq!((with, publish.dup), (member, true), "{payload}"),
            Place::Done => panic!("{payload} again, to {member}"),
        }
        *place = match qos {
            QoS::AtMostOnce => Place::Done,
            _ => Place::With(member),
        };
        self.exchanges.extend(publish.packet_id.map(|id| ((member, id), payload.to_owned())));
    }

    /// A member gives the answer that it has owed longest; false if it owes none.
    fn answer(&mut self, member: usize, refuse: bool) -> bool {
        let owed = &mut self.broker.clients[member].owed;
        let Some(packet) = owed.front_mut() else { return false };
        if let Packet::PubAck(ack) | Packet::PubRec(ack) = packet {
            if refuse {
                ack.reason = ReasonCode::ImplementationSpecificError;
            }
            // [MQTT-4.8.2-6]: a no is an answer too.
            if let Some(payload) = self.exchanges.remove(&(member, ack.packet_id)) {
                self.messages.get_mut(&payload).expect("published").1 = Place::Done;
            }
        }
        self.broker.acknowledge(member);
        true
    }

    /// Looks at what all got; returns to which members the group brought each message.
    fn look(&mut self) -> BTreeMap<String, Vec<usize>> {
        let mut receivers: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for member in MEMBERS {
            for publish in self.broker.take_publishes(member) {
                let payload = String::from_utf8_lossy(publish.message.payload()).into_owned();
                match &identifiers(&publish)[..] {
                    [SHARED] => {
                        self.see(member, &payload, &publish);
                        receivers.entry(payload).or_default().push(member);
                    }
                    [PLAIN] if publish.dup => {}
                    [PLAIN] => assert!(self.plain.insert((member, payload)), "twice to {member}"),
                    other => panic!("{other:?}"),
                }
            }
        }
        receivers
    }

    fn carry_out(&mut self, number: usize, op: &Op) {
        let payload = number.to_string();
        let lived: Vec<usize> = MEMBERS.filter(|member| self.lives(*member)).collect();
        let mut ready = None;
        match *op {
            Op::Publish { topic, qos } => ready = Some(self.publish(&payload, topic, qos)),
            Op::Join { member } => self.join(member),
            Op::Leave { member } => {
                if self.broker.clients[member].conn.is_some() {
                    self.broker.send(member, unsubscribe(SHARE));
                    self.group.remove(&member);
                }
            }
            Op::Acknowledge { member, refuse } => drop(self.answer(member, refuse)),
            Op::Connect { member, clean_start, expiry_s } => {
                self.connect(member, clean_start, expiry_s);
            }
            Op::Drop { member } => self.broker.drop_connection(member),
            Op::Wait { ms } => self.broker.advance(ms),
        }
        if matches!(op, Op::Connect { .. } | Op::Drop { .. } | Op::Leave { .. } | Op::Wait { .. }) {
            self.near.clear();
        }
        for member in lived {
            if !self.lives(member) {
                self.end(member);
            }
        }
        let receivers = self.look();
        let first = receivers.get(&payload).cloned().unwrap_or_default();
        match ready {
            // Whoever is not ready is passed over, and so is everybody but one.
            Some(ready) if !ready.is_empty() => {
                assert!(matches!(&first[..], [one] if ready.contains(one)), "{first:?}: {ready:?}");
            }
            _ => assert_eq!(first, [], "nobody was ready for {payload}"),
        }
        let observed: Vec<Publish> = self.broker.take_publishes(OBSERVER);
        assert_eq!(observed.len(), usize::from(matches!(op, Op::Publish { .. })));
        self.answer_all(OBSERVER);
    }

    fn answer_all(&mut self, client: usize) {
        while self.answer(client, false) {
            self.look();
        }
    }

    fn answer_every_member(&mut self) {
        // Of one that has answered all, another may have waited.
        for _ in 0..2 {
            MEMBERS.for_each(|member| self.answer_all(member));
        }
    }

    /// The faults stop: all that live come back and answer, and all that waits arrives.
    fn drain(&mut self) {
        self.answer_every_member();
        for payload in &self.near {
            assert_eq!(self.messages[payload].1, Place::Done, "{payload} waits with the absent");
        }
        for member in MEMBERS.filter(|member| self.lives(*member)).collect::<Vec<_>>() {
            self.connect(member, false, u32::MAX);
            self.look();
        }
        self.answer_every_member();
        for (payload, (qos, place)) in &self.messages {
            let arrived = matches!(place, Place::Done | Place::Waiting { may_be_lost: true });
            assert!(arrived, "{payload} of {qos:?} is {place:?}");
        }
    }

    /// All go for good, and leave nothing behind.
    fn end_all(&mut self) {
        for client in 0..MEMBERS.end {
            self.broker.connect(client, connect(client, 0));
            self.broker.drop_connection(client);
        }
        for shard in &self.broker.shards {
            let view = shard.view();
            assert_eq!((view.sessions(), view.subscriptions()), (0, 0));
        }
        assert_eq!(self.broker.nodes(), 2 * self.broker.shards.len());
    }
}

fn options() -> SubscriptionOptions {
    SubscriptionOptions { qos: QoS::ExactlyOnce, ..Default::default() }
}

#[test]
fn each_message_goes_to_one_member_that_is_ready() {
    let messages = RefCell::new(0);
    let all = (1..4_u16, prop::collection::vec(op(), 1..80));
    for_all(200, &all, |(shards, ops)| {
        let mut world = World::new(shards);
        for (number, op) in ops.iter().enumerate() {
            world.carry_out(number, op);
        }
        world.drain();
        world.end_all();
        *messages.borrow_mut() += world.messages.len();
    });
    assert!(messages.take() > 1_000, "enough to judge by");
}
