//! Retained messages against a map from topics to messages: what a subscriber gets of them, and
//! how long.

use std::{cell::Cell, collections::BTreeMap};

use codec::{Packet, Publish, QoS, ReasonCode, RetainHandling, SubscriptionOptions};
use proptest::{prelude::*, sample};
use session_core::Time;

use crate::{
    broker::Broker,
    cases::for_all,
    packets::{QOS, connect, identifiers, matches, message, publish, subscribe, unsubscribe},
};

const PUBLISHER: usize = 0;
const SUBSCRIBER: usize = 1;
/// Fewer than there are topics.
const RETAINED_MAX: u32 = 4;

const FILTERS: [&str; 7] = ["#", "a/#", "a/b", "+/b", "+", "a/+/c", "/#"];
const TOPICS: [&str; 6] = ["a", "b", "a/b", "x/b", "a/b/c", "/b"];

#[derive(Clone, Debug)]
enum Op {
    Publish {
        topic: &'static str,
        qos: QoS,
        retain: bool,
        empty: bool,
        expiry_s: Option<u32>,
    },
    Subscribe {
        filter: &'static str,
        qos: QoS,
        handling: RetainHandling,
        id: u32,
    },
    Unsubscribe {
        filter: &'static str,
    },
    /// The subscriber comes again, to its session or to a new one.
    Connect {
        clean_start: bool,
    },
    Wait {
        ms: u64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    const HANDLING: [RetainHandling; 3] =
        [RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend];
    let topic = sample::select(&TOPICS[..]);
    let filter = || sample::select(&FILTERS[..]);
    let qos = || sample::select(&QOS[..]);
    let retain = prop::bool::weighted(0.8);
    let empty = prop::bool::weighted(0.15);
    let expiry_s = prop::option::of(sample::select(&[0, 1, 2, 5, u32::MAX][..]));
    prop_oneof![
        5 => (topic, qos(), retain, empty, expiry_s).prop_map(
            |(topic, qos, retain, empty, expiry_s)| Op::Publish {
                topic, qos, retain, empty, expiry_s
            }
        ),
        5 => (filter(), qos(), sample::select(&HANDLING[..]), 0..3_u32)
            .prop_map(|(filter, qos, handling, id)| Op::Subscribe { filter, qos, handling, id }),
        1 => filter().prop_map(|filter| Op::Unsubscribe { filter }),
        1 => any::<bool>().prop_map(|clean_start| Op::Connect { clean_start }),
        // Whole seconds and all between.
        2 => prop_oneof![(0..4_u64).prop_map(|s| s * 1000), 0..3_000_u64]
            .prop_map(|ms| Op::Wait { ms }),
    ]
}

/// A retained message of the model.
#[derive(Clone, Debug)]
struct Kept {
    payload: String,
    qos: QoS,
    at: Time,
    expiry_s: Option<u32>,
}

impl Kept {
    /// `[MQTT-3.3.2-5]`
    fn is_alive(&self, now: Time) -> bool {
        self.expiry_s.is_none_or(|s| (now.0 - self.at.0) < u64::from(s) * 1000)
    }

    /// What a subscriber sees: payload, QoS, RETAIN, identifiers and expiry.
    fn seen(&self, now: Time, granted: QoS, id: u32) -> Seen {
        let waited_s = u32::try_from((now.0 - self.at.0) / 1000).expect("a short test");
        // [MQTT-3.3.2-6]: less the time it has waited.
        let left_s = self.expiry_s.map(|s| s - waited_s);
        let ids = Vec::from_iter((id > 0).then_some(id));
        // U5-3.3.1.3-b: RETAIN is set, whatever Retain As Published says.
        (self.payload.clone(), self.qos.min(granted), true, ids, left_s)
    }
}

type Seen = (String, QoS, bool, Vec<u32>, Option<u32>);

fn seen(publish: &Publish) -> Seen {
    let payload = String::from_utf8_lossy(publish.message.payload()).into_owned();
    let left_s = publish.message.expiry_interval_s();
    (payload, publish.qos, publish.retain, identifiers(publish), left_s)
}

#[derive(Default)]
struct Model {
    kept: BTreeMap<&'static str, Kept>,
    subscriptions: Vec<&'static str>,
}

impl Model {
    /// Takes a PUBLISH; the reason is that of its acknowledgement, if it is refused.
    fn publish(&mut self, topic: &'static str, kept: Kept) -> Option<ReasonCode> {
        if kept.payload.is_empty() {
            // [MQTT-3.3.1-6] [MQTT-3.3.1-7]
            self.kept.remove(topic);
        } else if self.kept.contains_key(topic) || self.kept.len() < RETAINED_MAX as usize {
            // [MQTT-3.3.1-5]
            self.kept.insert(topic, kept);
        } else if kept.qos > QoS::AtMostOnce {
            // No room for another topic, and a way to say so.
            return Some(ReasonCode::QuotaExceeded);
        }
        None
    }

    /// What a subscription brings: by topic, since their order is left open.
    fn replay(&self, now: Time, filter: &str, granted: QoS, id: u32) -> BTreeMap<&str, Seen> {
        let matching = self.kept.iter().filter(|(topic, _)| matches(filter, topic));
        matching.map(|(topic, kept)| (*topic, kept.seen(now, granted, id))).collect()
    }
}

/// Returns how many messages were replayed.
fn run(ops: &[Op]) -> usize {
    let mut broker = Broker::new(1, 2, |config| config.limits.retained_max = RETAINED_MAX);
    let mut model = Model::default();
    let mut replayed = 0;
    broker.connect(PUBLISHER, connect(PUBLISHER, 0));
    broker.connect(SUBSCRIBER, connect(SUBSCRIBER, u32::MAX));
    for (number, op) in ops.iter().enumerate() {
        (0..2).for_each(|client| drop(broker.take(client)));
        match *op {
            Op::Publish { topic, qos, retain, empty, expiry_s } => {
                let payload = if empty { String::new() } else { number.to_string() };
                let message = message(topic, payload.as_bytes(), expiry_s);
                broker.publish(PUBLISHER, publish(message, qos, retain, 1));
                let kept = Kept { payload, qos, at: broker.now, expiry_s };
                // [MQTT-3.3.1-8]: without RETAIN nothing is stored, removed or replaced.
                let refused = if retain { model.publish(topic, kept) } else { None };
                let answers = broker.take(PUBLISHER);
                let told = answers.iter().find_map(|packet| match packet {
                    Packet::PubAck(ack) | Packet::PubRec(ack) => Some(ack.reason),
                    _ => None,
                });
                assert_eq!(told.filter(|reason| reason.is_error()), refused, "op {number}");
            }
            Op::Subscribe { filter, qos, handling, id } => {
                let existed = model.subscriptions.contains(&filter);
                model.subscriptions.extend((!existed).then_some(filter));
                let options =
                    SubscriptionOptions { qos, retain_handling: handling, ..Default::default() };
                broker.send(SUBSCRIBER, subscribe(filter, options, id));
                // [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]
                let expected = match handling {
                    RetainHandling::SendIfNew if existed => BTreeMap::new(),
                    RetainHandling::DoNotSend => BTreeMap::new(),
                    _ => model.replay(broker.now, filter, qos, id),
                };
                let got = broker.take_publishes(SUBSCRIBER);
                let by_topic: BTreeMap<&str, Seen> =
                    got.iter().map(|one| (one.message.topic_str(), seen(one))).collect();
                assert_eq!(by_topic, expected, "op {number}");
                assert_eq!(by_topic.len(), got.len(), "each comes once");
                replayed += got.len();
            }
            Op::Unsubscribe { filter } => {
                model.subscriptions.retain(|known| *known != filter);
                broker.send(SUBSCRIBER, unsubscribe(filter));
            }
            Op::Connect { clean_start } => {
                let mut connect = connect(SUBSCRIBER, u32::MAX);
                connect.clean_start = clean_start;
                broker.connect(SUBSCRIBER, connect);
                if clean_start {
                    model.subscriptions.clear();
                }
                // Nothing is replayed but to a SUBSCRIBE.
                assert_eq!(broker.take_publishes(SUBSCRIBER), []);
            }
            Op::Wait { ms } => broker.advance(ms),
        }
        model.kept.retain(|_, kept| kept.is_alive(broker.now));
        broker.settle();
        let retained = broker.shards[0].view().retained();
        assert_eq!(retained as usize, model.kept.len(), "after op {number}");
    }
    replayed
}

#[test]
fn a_subscriber_gets_what_is_retained() {
    let replayed = Cell::new(0);
    for_all(400, &prop::collection::vec(op(), 1..60), |ops| {
        replayed.set(replayed.get() + run(&ops));
    });
    assert!(replayed.get() > 1_000, "{replayed:?} messages are not enough to judge by");
}
