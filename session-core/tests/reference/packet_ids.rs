//! Packet Identifiers and the receiver's window: few identifiers, small windows, a receiver that
//! acknowledges in any order, wrongly at times, and comes back with another window.
//!
//! The model foretells every packet but the identifier of a new exchange, of which it demands that
//! no exchange has it.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, VecDeque},
};

use codec::{Ack, Packet, Property, QoS, ReasonCode, SubscriptionOptions};
use proptest::{prelude::*, sample};

use crate::{
    broker::Broker,
    cases::for_all,
    packets::{QOS, connect, id, message, publish, subscribe},
};

const PUBLISHER: usize = 0;
const RECEIVER: usize = 1;

#[derive(Clone, Debug)]
enum Op {
    Publish {
        qos: QoS,
    },
    /// An acknowledgement of the open exchange with this number, or of none if there are fewer.
    Acknowledge {
        kind: Kind,
        number: usize,
    },
    Drop,
    Connect {
        window: u16,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    PubAck,
    PubRec,
    /// PUBREC with an error.
    Refuse,
    PubComp,
}

fn op() -> impl Strategy<Value = Op> {
    const KINDS: [Kind; 6] =
        [Kind::PubAck, Kind::PubRec, Kind::PubComp, Kind::PubAck, Kind::PubComp, Kind::Refuse];
    prop_oneof![
        10 => sample::select(&QOS[..]).prop_map(|qos| Op::Publish { qos }),
        12 => (sample::select(&KINDS[..]), 0..6_usize)
            .prop_map(|(kind, number)| Op::Acknowledge { kind, number }),
        1 => Just(Op::Drop),
        2 => (1..=6_u16).prop_map(|window| Op::Connect { window }),
    ]
}

struct Exchange {
    id: u16,
    payload: usize,
    qos: QoS,
    released: bool,
    /// On the present connection.
    sent: bool,
}

/// What the receiver is to see.
#[derive(Debug, PartialEq)]
enum Expected {
    Publish {
        id: u16,
        payload: usize,
        qos: QoS,
        dup: bool,
    },
    /// A PUBLISH that begins an exchange, whatever its identifier.
    Begin {
        payload: usize,
        qos: QoS,
    },
    PubRel {
        id: u16,
        reason: ReasonCode,
    },
}

struct Model {
    ids_max: usize,
    /// Receive Maximum of the present connection.
    window: Option<usize>,
    exchanges: Vec<Exchange>,
    waiting: VecDeque<(usize, QoS)>,
}

impl Model {
    fn used(&self) -> usize {
        self.exchanges.iter().filter(|exchange| exchange.sent).count()
    }

    /// The next packet that must leave now.
    fn next(&mut self) -> Option<Expected> {
        let window = self.window?;
        // [MQTT-4.9.0-2] [MQTT-3.3.4-9]
        let is_open = self.used() < window;
        // [MQTT-4.4.0-1] [MQTT-4.6.0-1] in their order, under their identifiers; only a PUBLISH
        // waits for the window [MQTT-4.9.0-3].
        let next = self
            .exchanges
            .iter_mut()
            .find(|exchange| !exchange.sent && (is_open || exchange.released));
        if let Some(exchange) = next {
            exchange.sent = true;
            let Exchange { id, payload, qos, released, .. } = *exchange;
            return Some(match released {
                // [MQTT-4.3.3-6]
                true => Expected::PubRel { id, reason: ReasonCode::Success },
                // [MQTT-3.3.1-1]
                false => Expected::Publish { id, payload, qos, dup: true },
            });
        }
        let all_sent = self.exchanges.iter().all(|exchange| exchange.sent);
        if is_open && all_sent && self.exchanges.len() < self.ids_max {
            let (payload, qos) = self.waiting.pop_front()?;
            return Some(Expected::Begin { payload, qos });
        }
        None
    }

    /// Takes an acknowledgement; returns the packet that it asks for by itself.
    fn acknowledge(&mut self, kind: Kind, id: u16) -> Option<Expected> {
        let reason = ReasonCode::Success;
        let Some(at) = self.exchanges.iter().position(|exchange| exchange.id == id) else {
            // 3.6.2.1: there is no such exchange.
            let reason = ReasonCode::PacketIdentifierNotFound;
            return (kind == Kind::PubRec).then_some(Expected::PubRel { id, reason });
        };
        let exchange = &mut self.exchanges[at];
        match (kind, exchange.qos, exchange.released) {
            // [MQTT-4.3.2-3]
            (Kind::PubAck, QoS::AtLeastOnce, _)
            // [MQTT-4.3.3-4]: an error ends it.
            | (Kind::Refuse, QoS::ExactlyOnce, false)
            // [MQTT-4.3.3-5]
            | (Kind::PubComp, QoS::ExactlyOnce, true) => {
                self.exchanges.remove(at);
                None
            }
            // [MQTT-4.3.3-4]
            (Kind::PubRec, QoS::ExactlyOnce, _) | (Kind::Refuse, QoS::ExactlyOnce, true) => {
                exchange.released = true;
                exchange.sent = true;
                Some(Expected::PubRel { id, reason })
            }
            _ => None,
        }
    }

    /// Compares what the receiver got with what it was to get, and learns the new identifiers.
    fn compare(&mut self, first: Option<Expected>, got: Vec<Packet>) {
        let mut got = got.into_iter();
        let mut expected = first;
        while let Some(packet) = expected.take().or_else(|| self.next()) {
            match (packet, got.next()) {
                (Expected::Begin { payload, qos }, Some(Packet::Publish(publish))) => {
                    let id = publish.packet_id.expect("QoS above 0").get();
                    let seen = (number(publish.message.payload()), publish.qos, publish.dup);
                    // [MQTT-3.3.1-1]
                    assert_eq!(seen, (payload, qos, false));
                    // [MQTT-2.2.1-4]: no exchange has it.
                    assert!(self.exchanges.iter().all(|open| open.id != id), "{id} twice");
                    assert!((1..=self.ids_max).contains(&usize::from(id)), "{id}");
                    self.exchanges.push(Exchange { id, payload, qos, released: false, sent: true });
                }
                (expected, Some(Packet::Publish(publish))) => {
                    let id = publish.packet_id.expect("QoS above 0").get();
                    let payload = number(publish.message.payload());
                    let seen =
                        Expected::Publish { id, payload, qos: publish.qos, dup: publish.dup };
                    assert_eq!(seen, expected);
                }
                (expected, Some(Packet::PubRel(ack))) => {
                    let seen = Expected::PubRel { id: ack.packet_id.get(), reason: ack.reason };
                    assert_eq!(seen, expected);
                }
                (expected, other) => panic!("{other:?} instead of {expected:?}"),
            }
        }
        assert_eq!(got.next(), None, "nothing else");
    }
}

fn number(payload: &[u8]) -> usize {
    std::str::from_utf8(payload).expect("a number").parse().expect("a number")
}

fn acknowledgement(kind: Kind, packet_id: u16) -> Packet {
    let ack = Ack::success(id(packet_id));
    match kind {
        Kind::PubAck => Packet::PubAck(ack),
        Kind::PubRec => Packet::PubRec(ack),
        Kind::Refuse => Packet::PubRec(Ack { reason: ReasonCode::QuotaExceeded, ..ack }),
        Kind::PubComp => Packet::PubComp(ack),
    }
}

/// The most exchanges that were open at once, for each number of identifiers and each window.
type Most = BTreeMap<(usize, usize), usize>;

fn run(ids_max: u16, ops: &[Op], most: &RefCell<Most>) {
    let mut broker = Broker::new(1, 2, |config| config.limits.packet_id_max = ids_max);
    broker.acknowledging = false;
    broker.connect(PUBLISHER, connect(PUBLISHER, 0));
    broker.connect(RECEIVER, connect(RECEIVER, u32::MAX));
    let options = SubscriptionOptions { qos: QoS::ExactlyOnce, ..Default::default() };
    broker.send(RECEIVER, subscribe("t", options, 0));
    broker.take(RECEIVER);
    let mut model = Model {
        ids_max: usize::from(ids_max),
        window: Some(usize::from(u16::MAX)),
        exchanges: Vec::new(),
        waiting: VecDeque::new(),
    };
    for (payload, op) in ops.iter().enumerate() {
        let mut first = None;
        match *op {
            Op::Publish { qos } => {
                let message = message("t", payload.to_string().as_bytes(), None);
                broker.publish(PUBLISHER, publish(message, qos, false, 1));
                if qos > QoS::AtMostOnce {
                    model.waiting.push_back((payload, qos));
                }
            }
            Op::Acknowledge { .. } if model.window.is_none() => {}
            Op::Acknowledge { kind, number } => {
                let open: BTreeSet<u16> = model.exchanges.iter().map(|open| open.id).collect();
                let packet_id = open.iter().nth(number).copied().unwrap_or(60_000);
                broker.send(RECEIVER, acknowledgement(kind, packet_id));
                first = model.acknowledge(kind, packet_id);
            }
            Op::Drop => {
                broker.drop_connection(RECEIVER);
                model.window = None;
                model.exchanges.iter_mut().for_each(|exchange| exchange.sent = false);
            }
            Op::Connect { window } => {
                broker.drop_connection(RECEIVER);
                let mut connect = connect(RECEIVER, u32::MAX);
                connect.clean_start = false;
                connect.properties.push(Property::ReceiveMaximum(window));
                broker.connect(RECEIVER, connect);
                model.window = Some(usize::from(window));
                model.exchanges.iter_mut().for_each(|exchange| exchange.sent = false);
            }
        }
        let got = broker.take(RECEIVER);
        let qos0 = got.iter().filter(|packet| is_qos0(packet)).count();
        // [MQTT-4.9.0-3]: the window does not hold QoS 0 back.
        let is_qos0_publish = matches!(op, Op::Publish { qos: QoS::AtMostOnce });
        assert_eq!(qos0, usize::from(is_qos0_publish && model.window.is_some()));
        let exchanges = got.into_iter().filter(|packet| !is_qos0(packet));
        let exchanges = exchanges.filter(|packet| !matches!(packet, Packet::ConnAck(_)));
        model.compare(first, exchanges.collect());
        if let Some(window) = model.window {
            let mut most = most.borrow_mut();
            let used = most.entry((model.ids_max, window)).or_default();
            *used = (*used).max(model.exchanges.len());
        }
    }
}

fn is_qos0(packet: &Packet) -> bool {
    matches!(packet, Packet::Publish(publish) if publish.qos == QoS::AtMostOnce)
}

#[test]
fn exchanges_keep_identifiers_and_window() {
    let most = RefCell::default();
    let all = (1..=5_u16, prop::collection::vec(op(), 1..120));
    for_all(300, &all, |(ids_max, ops)| run(ids_max, &ops, &most));
    let most = most.take();
    assert!(most.len() >= 30, "each number of identifiers with each window");
    for ((ids_max, window), used) in most {
        // Exchanges from a connection with a wider window are open too.
        assert!(used >= ids_max.min(window), "{used} of {ids_max} in a window of {window}");
    }
}
