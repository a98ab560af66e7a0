//! Everything that clients and time do to a broker, as data.

use codec::{
    Ack, Disconnect, Packet, Properties, ProtocolVersion, QoS, ReasonCode, RetainHandling,
    SubscriptionOptions, Will,
};
use proptest::{prelude::*, sample};

use crate::{
    broker::Broker,
    packets::{QOS, connect, id, message, publish, subscribe, unsubscribe},
};

pub(crate) const CLIENTS: usize = 4;
/// This client speaks 3.1.1.
const ELDER: usize = 3;

const FILTERS: [&str; 8] = ["#", "a/#", "a/1", "+/1", "a/+/x", "b", "will/#", "+/+"];
const TOPICS: [&str; 5] = ["a/1", "a/1/x", "b", "b/2", "c/1"];
pub(crate) const SHARED: &str = "$share/group/a/#";
/// Each step begins in a millisecond of its own, and all delays are whole seconds: no two deadlines
/// of different clients fall together, so that their order never matters. A step in which several
/// clients are heard is why each has another Keep Alive.
const KEEP_ALIVE_S: [u16; CLIENTS] = [2, 4, 10, 14];
/// Packet Identifiers of QoS 2 messages that are released later.
const HELD: u16 = 61_000;

#[derive(Clone, Debug)]
pub(crate) struct Step {
    client: usize,
    op: Op,
}

#[derive(Clone, Debug)]
enum Op {
    Connect {
        clean_start: bool,
        keeps_alive: bool,
        expiry_s: u32,
        will: Option<(QoS, bool, u32)>,
    },
    Drop,
    Disconnect {
        reason: ReasonCode,
    },
    Subscribe {
        filter: &'static str,
        options: SubscriptionOptions,
        id: u32,
    },
    Unsubscribe {
        filter: &'static str,
    },
    Publish {
        topic: &'static str,
        qos: QoS,
        retain: bool,
        empty: bool,
        expiry_s: Option<u32>,
    },
    /// QoS 1 messages that do not wait for one another.
    Burst {
        topics: [&'static str; 3],
    },
    /// A QoS 2 PUBLISH under one of a few identifiers, without PUBREL.
    Hold {
        topic: &'static str,
        slot: u16,
    },
    Release {
        slot: u16,
    },
    /// The answer that the client has owed longest.
    Acknowledge,
    Wait {
        s: u64,
    },
}

/// Steps of all clients, of which each connects and subscribes first; share groups are left out
/// where their choice of a member would matter.
pub(crate) fn steps(shared: bool, most: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = |(client, op)| Step { client, op };
    let first = prop::collection::vec((connects(), subscribes(shared)), CLIENTS);
    let rest = prop::collection::vec((0..CLIENTS, op(shared)).prop_map(step), 1..most);
    (first, rest).prop_map(move |(first, rest)| {
        let first = first.into_iter().enumerate();
        let first = first.flat_map(|(client, (one, two))| [(client, one), (client, two)]);
        first.map(step).chain(rest).collect()
    })
}

fn op(shared: bool) -> impl Strategy<Value = Op> {
    let slot = || HELD..HELD + 3;
    let expiry_s = prop::option::weighted(0.3, sample::select(&[1, 3, 10][..]));
    prop_oneof![
        3 => connects(),
        1 => Just(Op::Drop),
        1 => sample::select(&[ReasonCode::Success, ReasonCode::DisconnectWithWill][..])
            .prop_map(|reason| Op::Disconnect { reason }),
        4 => subscribes(shared),
        1 => filter(shared).prop_map(|filter| Op::Unsubscribe { filter }),
        9 => (topic(), qos(), any::<bool>(), prop::bool::weighted(0.1), expiry_s).prop_map(
            |(topic, qos, retain, empty, expiry_s)| Op::Publish {
                topic, qos, retain, empty, expiry_s
            }
        ),
        2 => [topic(), topic(), topic()].prop_map(|topics| Op::Burst { topics }),
        1 => (topic(), slot()).prop_map(|(topic, slot)| Op::Hold { topic, slot }),
        1 => slot().prop_map(|slot| Op::Release { slot }),
        4 => Just(Op::Acknowledge),
        1 => (0..7_u64).prop_map(|s| Op::Wait { s }),
    ]
}

fn connects() -> impl Strategy<Value = Op> {
    let will = (qos(), any::<bool>(), sample::select(&[0, 2, 30][..]));
    let expiry_s = sample::select(&[0, 5, 20, u32::MAX, u32::MAX][..]);
    let keeps_alive = prop::bool::weighted(0.4);
    (prop::bool::weighted(0.3), keeps_alive, expiry_s, prop::option::of(will)).prop_map(
        |(clean_start, keeps_alive, expiry_s, will)| Op::Connect {
            clean_start,
            keeps_alive,
            expiry_s,
            will,
        },
    )
}

fn subscribes(shared: bool) -> impl Strategy<Value = Op> {
    (filter(shared), options(), 0..4_u32).prop_map(|(filter, options, id)| Op::Subscribe {
        filter,
        options,
        id,
    })
}

fn filter(shared: bool) -> impl Strategy<Value = &'static str> {
    let filters: Vec<&str> = FILTERS.into_iter().chain(shared.then_some(SHARED)).collect();
    sample::select(filters)
}

fn topic() -> impl Strategy<Value = &'static str> {
    sample::select(&TOPICS[..])
}

fn qos() -> impl Strategy<Value = QoS> {
    sample::select(&QOS[..])
}

fn options() -> impl Strategy<Value = SubscriptionOptions> {
    const HANDLING: [RetainHandling; 3] =
        [RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend];
    let flags = (any::<bool>(), any::<bool>());
    (qos(), flags, sample::select(&HANDLING[..])).prop_map(
        |(qos, (no_local, retain_as_published), retain_handling)| SubscriptionOptions {
            qos,
            no_local,
            retain_as_published,
            retain_handling,
        },
    )
}

/// Carries a step out; what a client cannot do now, it leaves. Payloads are numbers of steps.
pub(crate) fn carry_out(broker: &mut Broker, number: usize, step: &Step) {
    broker.advance(1);
    let Step { client, ref op } = *step;
    let is_v5 = client != ELDER;
    let payload = number.to_string();
    match *op {
        Op::Connect { clean_start, keeps_alive, expiry_s, will } => {
            let topic = format!("will/{client}");
            let will = will.map(|(qos, retain, delay_s)| {
                let delay_s = if is_v5 { delay_s } else { 0 };
                let message = message(&topic, payload.as_bytes(), None);
                Box::new(Will { qos, retain, delay_s, message })
            });
            let mut connect = connect(client, expiry_s);
            connect.clean_start = clean_start;
            connect.keep_alive_s = if keeps_alive { KEEP_ALIVE_S[client] } else { 0 };
            connect.will = will;
            if !is_v5 {
                connect.version = ProtocolVersion::V311;
                connect.properties = Properties::new();
            }
            broker.connect(client, connect);
        }
        Op::Drop => broker.drop_connection(client),
        Op::Disconnect { reason } => {
            let reason = if is_v5 { reason } else { ReasonCode::Success };
            let disconnect = Disconnect { reason, properties: Properties::new() };
            broker.send(client, Packet::Disconnect(Box::new(disconnect)));
        }
        Op::Subscribe { filter, mut options, id } => {
            options.no_local &= filter != SHARED;
            if is_v5 {
                broker.send(client, subscribe(filter, options, id));
            } else {
                let options = SubscriptionOptions { qos: options.qos, ..Default::default() };
                broker.send(client, subscribe(filter, options, 0));
            }
        }
        Op::Unsubscribe { filter } => broker.send(client, unsubscribe(filter)),
        Op::Publish { topic, qos, retain, empty, expiry_s } => {
            let payload = if empty { "" } else { &payload };
            let expiry_s = expiry_s.filter(|_| is_v5);
            let message = message(topic, payload.as_bytes(), expiry_s);
            broker.publish(client, publish(message, qos, retain, 1));
        }
        Op::Burst { topics } => {
            let publishes = topics.iter().enumerate().map(|(place, topic)| {
                let payload = format!("{number}.{place}");
                publish(message(topic, payload.as_bytes(), None), QoS::AtLeastOnce, false, 1)
            });
            broker.publish_all(client, publishes);
        }
        Op::Hold { topic, slot } => {
            let message = message(topic, payload.as_bytes(), None);
            let held = publish(message, QoS::ExactlyOnce, false, slot);
            broker.send(client, Packet::Publish(held));
        }
        Op::Release { slot } => broker.send(client, Packet::PubRel(Ack::success(id(slot)))),
        Op::Acknowledge => broker.acknowledge(client),
        Op::Wait { s } => broker.advance(s * 1000),
    }
}
