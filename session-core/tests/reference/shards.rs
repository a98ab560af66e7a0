//! Many shards are one broker: what clients see does not depend on how many there are, nor on
//! whether there is a log, nor on how much their sockets take at once; and the same inputs give the
//! same effects.

use std::{cell::Cell, collections::BTreeMap};

use codec::{Packet, Publish, ReasonCode};
use session_core::{Cause, Shard, ShardConfig};

use crate::{
    broker::Broker,
    cases::for_all,
    packets::identifiers,
    script::{self, CLIENTS, Step},
};

/// Takes one or two packets.
const SMALL_SOCKET: u32 = 40;

/// What a client sees of one step, without what the standard leaves open: the order of messages of
/// different topics, how they lie among other packets, and the broker's Packet Identifiers.
#[derive(Debug, PartialEq)]
struct Seen {
    messages: BTreeMap<String, Vec<String>>,
    /// The reasons of each PUBREL.
    releases: Vec<ReasonCode>,
    others: Vec<String>,
    closed: Option<Cause>,
}

impl Seen {
    fn by(broker: &mut Broker, client: usize) -> Self {
        let mut messages: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let (mut releases, mut others) = (Vec::new(), Vec::new());
        for packet in broker.take(client) {
            match packet {
                Packet::Publish(publish) => {
                    let topic = publish.message.topic_str().to_owned();
                    // Its own Will, at a take-over, may find the old connection gone and the new
                    // one not there yet; at QoS 0 it is then lost.
                    if topic == format!("will/{client}") {
                        continue;
                    }
                    // [MQTT-4.6.0-6]
                    messages.entry(topic).or_default().push(show(&publish));
                }
                Packet::PubRel(ack) => releases.push(ack.reason),
                other => others.push(format!("{other:?}")),
            }
        }
        Self { messages, releases, others, closed: broker.clients[client].closed }
    }
}

fn show(publish: &Publish) -> String {
    let Publish { dup, qos, retain, message, .. } = publish;
    let payload = String::from_utf8_lossy(message.payload());
    let expiry_s = message.expiry_interval_s();
    let identifiers = identifiers(publish);
    format!("{payload} {qos:?} dup={dup} retain={retain} {expiry_s:?} {identifiers:?}")
}

fn broker(shards: u16, durable: bool, credit: u32) -> Broker {
    let change = |config: &mut ShardConfig| config.durable = durable;
    let mut broker = Broker::new(shards, CLIENTS, change);
    broker.credit = credit;
    broker
}

/// What there is in all shards together.
fn census(broker: &Broker) -> [usize; 5] {
    let sum = |count: fn(&Shard) -> usize| broker.shards.iter().map(count).sum();
    [
        sum(|shard| shard.view().connections()),
        sum(|shard| shard.view().sessions()),
        sum(|shard| shard.view().subscriptions() as usize),
        sum(|shard| shard.view().retained() as usize),
        sum(|shard| shard.view().queued()),
    ]
}

/// Returns how many messages were seen.
fn compare(steps: &[Step]) -> usize {
    let mut one = broker(1, false, u32::MAX);
    let mut others =
        [broker(2, true, u32::MAX), broker(3, false, SMALL_SOCKET), broker(5, true, SMALL_SOCKET)];
    let mut messages = 0;
    for (number, step) in steps.iter().enumerate() {
        script::carry_out(&mut one, number, step);
        others.iter_mut().for_each(|broker| script::carry_out(broker, number, step));
        for client in 0..CLIENTS {
            let expected = Seen::by(&mut one, client);
            messages += expected.messages.values().map(Vec::len).sum::<usize>();
            for broker in &mut others {
                let shards = broker.shards.len();
                let seen = Seen::by(broker, client);
                assert_eq!(seen, expected, "client {client}, step {number}, {shards} shards");
            }
        }
        for broker in &others {
            let shards = broker.shards.len();
            assert_eq!(census(broker), census(&one), "after step {number}, {shards} shards");
        }
    }
    messages
}

#[test]
fn any_number_of_shards_is_one_broker() {
    let messages = Cell::new(0);
    for_all(200, &script::steps(false, 60), |steps| {
        messages.set(messages.get() + compare(&steps));
    });
    assert!(messages.get() > 2_000, "{messages:?} messages are not enough to judge by");
}

#[test]
fn the_same_inputs_give_the_same_effects() {
    for_all(100, &script::steps(true, 60), |steps| {
        let mut brokers = [broker(3, true, SMALL_SOCKET), broker(3, true, SMALL_SOCKET)];
        for broker in &mut brokers {
            broker.effects = Some(Vec::new());
            broker.acknowledging = false;
            let half = steps.len() / 2;
            for (number, step) in steps.iter().enumerate() {
                script::carry_out(broker, number, step);
                if number == half {
                    // A copy of a shard goes on as the shard itself would.
                    broker.shards = broker.shards.clone();
                }
            }
        }
        let [first, second] = brokers;
        assert_eq!(first.effects, second.effects);
        assert_eq!(first.shards, second.shards);
    });
}
