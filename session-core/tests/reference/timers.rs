//! Deadlines against a model with a clock: silence, CONNECTs that never come, Wills, sessions and
//! messages that expire, with a broker that is called on time and one that sleeps now and then.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
};

use codec::{
    Disconnect, Packet, Properties, ProtocolVersion, QoS, ReasonCode, SubscriptionOptions, Will,
};
use proptest::{prelude::*, sample};
use session_core::{Cause, Time};

use crate::{
    broker::Broker,
    cases::for_all,
    deadlines::{Conn, Event, Model, Promise, Session, Waiting, after_ms},
    packets::{connect, message, publish, subscribe},
    script,
};

/// Sees the Wills, and publishes to the others.
const WATCHER: usize = 0;
const CLIENTS: usize = 4;
const CONNECT_TIMEOUT_MS: u64 = 2_500;

#[derive(Clone, Debug)]
enum Op {
    /// A connection on which nothing is said.
    Open {
        client: usize,
    },
    Connect {
        client: usize,
        clean_start: bool,
        keep_alive_s: u16,
        expiry_s: u32,
        delay_s: Option<u32>,
    },
    Ping {
        client: usize,
    },
    Drop {
        client: usize,
    },
    Disconnect {
        client: usize,
        reason: ReasonCode,
    },
    /// To a topic that only this client hears.
    Publish {
        client: usize,
        expiry_s: Option<u32>,
    },
    Wait {
        ms: u64,
    },
    /// Time passes, and nobody calls the broker.
    Sleep {
        ms: u64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let client = || 1..CLIENTS;
    let keep_alive_s = sample::select(&[0_u16, 1, 2, 5][..]);
    let expiry_s = sample::select(&[0, 1, 3, 8, u32::MAX][..]);
    let delay_s = prop::option::of(sample::select(&[0_u32, 1, 2, 5][..]));
    let reasons = [ReasonCode::Success, ReasonCode::DisconnectWithWill];
    let message_expiry_s = prop::option::of(sample::select(&[0_u32, 1, 2, 5][..]));
    // Often to the very moment of a deadline, or next to it.
    let ms = || {
        prop_oneof![
            0..4_000_u64,
            (0..9_u64).prop_map(|n| n * 500),
            (1..9_u64).prop_map(|n| n * 500 - 1)
        ]
    };
    prop_oneof![
        1 => client().prop_map(|client| Op::Open { client }),
        5 => (client(), any::<bool>(), keep_alive_s, expiry_s, delay_s).prop_map(
            |(client, clean_start, keep_alive_s, expiry_s, delay_s)| Op::Connect {
                client, clean_start, keep_alive_s, expiry_s, delay_s,
            }
        ),
        3 => client().prop_map(|client| Op::Ping { client }),
        2 => client().prop_map(|client| Op::Drop { client }),
        1 => (client(), sample::select(reasons.to_vec()))
            .prop_map(|(client, reason)| Op::Disconnect { client, reason }),
        3 => (client(), message_expiry_s)
            .prop_map(|(client, expiry_s)| Op::Publish { client, expiry_s }),
        6 => ms().prop_map(|ms| Op::Wait { ms }),
        1 => ms().prop_map(|ms| Op::Sleep { ms }),
    ]
}

/// The broker beside the model.
struct World {
    broker: Broker,
    model: Model,
    events: Vec<(Time, Event)>,
}

impl World {
    fn new(keep_alive_s_max: u16) -> Self {
        let mut broker = Broker::new(1, CLIENTS, |config| {
            config.limits.connect_timeout_ms = CONNECT_TIMEOUT_MS;
            config.limits.keep_alive_s_max = keep_alive_s_max;
        });
        // The watcher's version cannot be told another Keep Alive than none.
        let mut watcher = connect(WATCHER, 0);
        (watcher.version, watcher.properties) = (ProtocolVersion::V311, Properties::new());
        broker.connect(WATCHER, watcher);
        broker.send(WATCHER, subscribe("will/#", SubscriptionOptions::default(), 0));
        broker.take(WATCHER);
        let model = Model { keep_alive_s_max, ..Model::default() };
        Self { broker, model, events: Vec::new() }
    }

    /// Writes down what happened by now.
    fn look(&mut self) {
        for publish in self.broker.take_publishes(WATCHER) {
            let payload = String::from_utf8_lossy(publish.message.payload()).into_owned();
            self.events.push((self.broker.now, Event::Will { payload }));
        }
        for client in 1..CLIENTS {
            if let Some(cause) = self.broker.clients[client].closed.take() {
                self.events.push((self.broker.now, Event::Closed { client, cause }));
            }
        }
    }

    fn wait(&mut self, ms: u64) {
        let now = self.broker.now;
        let end = now.plus_ms(ms);
        while let Some(due) = self.broker.next_timeout().filter(|due| *due <= end) {
            self.broker.advance(due.since_ms(self.broker.now));
            self.look();
        }
        self.broker.advance(end.since_ms(self.broker.now));
        while let Some((time, ..)) = self.model.next().filter(|(time, ..)| *time <= end) {
            self.model.catch_up(time.max(now));
        }
    }

    fn connect(
        &mut self,
        (client, clean_start): (usize, bool),
        keep_alive_s: u16,
        expiry_s: u32,
        will: Option<Promise>,
    ) {
        if let Some(Conn::Opened { .. }) = self.model.conns.get(&client) {
            self.model.conns.remove(&client);
            self.broker.drop_connection(client);
        }
        let now = self.broker.now;
        let mut connect = connect(client, expiry_s);
        connect.clean_start = clean_start;
        connect.keep_alive_s = keep_alive_s;
        connect.will = will.clone().map(|(payload, delay_s)| {
            let message = message(&format!("will/{client}"), payload.as_bytes(), None);
            Box::new(Will { qos: QoS::AtMostOnce, retain: false, delay_s, message })
        });
        self.broker.connect(client, connect);
        // An earlier connection says goodbye in the same inbox.
        let mut inbox = self.broker.take(client).into_iter();
        let connack = inbox.find_map(|packet| match packet {
            Packet::ConnAck(connack) => Some(connack),
            _ => None,
        });
        let connack = connack.expect("CONNACK");

        let present = self.model.connect(client, clean_start, now);
        assert_eq!(connack.session_present, present, "client {client} at {now:?}");
        // [MQTT-3.1.2-21] [MQTT-3.2.2-21] [MQTT-3.2.2-22]
        let most_s = self.model.keep_alive_s_max;
        let replaced = most_s > 0 && (keep_alive_s == 0 || keep_alive_s > most_s);
        assert_eq!(connack.properties.server_keep_alive(), replaced.then_some(most_s));
        let silence_ms = u64::from(if replaced { most_s } else { keep_alive_s }) * 1500;
        self.model.conns.insert(client, Conn::Connected { heard: now, silence_ms });
        let old = self.model.sessions.remove(&client);
        let queue = old.map_or_else(VecDeque::new, |session| session.queue);
        // [MQTT-3.3.2-5] [MQTT-3.3.2-6]: what has waited too long is gone, and what is left is told.
        let expected: Vec<(String, Option<u32>)> =
            queue.into_iter().filter_map(|waiting| waiting.seen(now)).collect();
        let got: Vec<(String, Option<u32>)> = inbox
            .filter_map(|packet| match packet {
                Packet::Publish(publish) => Some(publish.message),
                _ => None,
            })
            .map(|m| (String::from_utf8_lossy(m.payload()).into_owned(), m.expiry_interval_s()))
            .collect();
        assert_eq!(got, expected, "client {client} at {now:?}");
        let session =
            Session { expiry_s, will, will_due: None, ends: None, queue: VecDeque::new() };
        self.model.sessions.insert(client, session);
        if !present {
            let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..Default::default() };
            self.broker.send(client, subscribe(&format!("to/{client}"), options, 0));
        }
    }

    fn publish(&mut self, client: usize, payload: String, expiry_s: Option<u32>) {
        let message = message(&format!("to/{client}"), payload.as_bytes(), expiry_s);
        self.broker.take(client);
        self.broker.publish(WATCHER, publish(message, QoS::AtLeastOnce, false, 1));
        let at = self.broker.now;
        let connected = matches!(self.model.conns.get(&client), Some(Conn::Connected { .. }));
        let mut waiting = Waiting { payload, at, expiry_s, sent: false };
        let is_alive = waiting.seen(at).is_some();
        waiting.sent = connected && is_alive;
        // A broker that slept finds out now who is silent, and would have to send it again.
        self.model.catch_up(at);
        let Some(session) = self.model.sessions.get_mut(&client) else { return };
        match self.model.conns.get_mut(&client) {
            Some(Conn::Connected { heard, .. }) => {
                assert_eq!(self.broker.take_publishes(client).len(), usize::from(is_alive));
                // The client has acknowledged it.
                if is_alive {
                    *heard = at;
                }
            }
            _ => session.queue.push_back(waiting),
        }
    }

    fn carry_out(&mut self, number: usize, op: &Op) {
        let now = self.broker.now;
        let payload = number.to_string();
        match *op {
            Op::Open { client } => {
                if !self.model.conns.contains_key(&client) {
                    self.broker.open_silently(client, 0, ProtocolVersion::V5);
                    let until = after_ms(now, CONNECT_TIMEOUT_MS);
                    self.model.conns.insert(client, Conn::Opened { until });
                }
            }
            Op::Connect { client, clean_start, keep_alive_s, expiry_s, delay_s } => {
                let will = delay_s.map(|delay_s| (payload, delay_s));
                self.connect((client, clean_start), keep_alive_s, expiry_s, will);
            }
            Op::Ping { client } => {
                if let Some(Conn::Connected { heard, .. }) = self.model.conns.get_mut(&client) {
                    *heard = now;
                    self.broker.send(client, Packet::PingReq);
                }
            }
            Op::Drop { client } => {
                self.broker.drop_connection(client);
                self.model.lose(client, false, now);
                self.model.conns.remove(&client);
            }
            Op::Disconnect { client, reason } => {
                if let Some(Conn::Connected { .. }) = self.model.conns.get(&client) {
                    let disconnect = Disconnect { reason, properties: Properties::new() };
                    self.broker.send(client, Packet::Disconnect(Box::new(disconnect)));
                    if reason == ReasonCode::Success {
                        // [MQTT-3.14.4-3]
                        self.model.sessions.get_mut(&client).expect("connected").will = None;
                    }
                    self.model.close(client, Cause::Disconnected(reason), now);
                }
            }
            Op::Publish { client, expiry_s } => self.publish(client, payload, expiry_s),
            Op::Wait { ms } => self.wait(ms),
            Op::Sleep { ms } => self.broker.now = now.plus_ms(ms),
        }
        if !matches!(op, Op::Sleep { .. }) {
            self.broker.settle();
            self.model.catch_up(self.broker.now);
            self.look();
            self.compare(number);
        }
    }

    fn compare(&self, number: usize) {
        // What happens at one time has no order.
        let sorted = |events: &[(Time, Event)]| {
            let mut events = events.to_vec();
            events.sort_by_key(|(time, event)| (*time, format!("{event:?}")));
            events
        };
        assert_eq!(sorted(&self.events), sorted(&self.model.events), "after op {number}");
        let sessions = self.broker.shards[0].view().sessions();
        // The watcher has one too.
        assert_eq!(sessions, self.model.sessions.len() + 1, "after op {number}");
    }
}

#[test]
fn deadlines_are_kept_to_the_millisecond() {
    let all = (sample::select(&[0_u16, 3][..]), prop::collection::vec(op(), 1..60));
    let seen = RefCell::<BTreeMap<String, u32>>::default();
    for_all(400, &all, |(keep_alive_s_max, ops)| {
        let mut world = World::new(keep_alive_s_max);
        for (number, op) in ops.iter().enumerate() {
            world.carry_out(number, op);
        }
        // Whatever is to come comes in time.
        world.wait(60_000);
        world.look();
        world.compare(ops.len());
        for (_, event) in &world.events {
            let kind = match event {
                Event::Closed { cause, .. } => format!("{cause:?}"),
                Event::Will { .. } => "Will".to_owned(),
            };
            *seen.borrow_mut().entry(kind).or_default() += 1;
        }
    });
    let seen = seen.take();
    let often = seen.values().filter(|times| **times > 50).count();
    assert_eq!(often, 6, "Wills and the five ways to end a connection: {seen:?}");
}

/// Nothing happens between the times at which a shard wants to be called: `next_timeout` tells the
/// whole truth.
#[test]
fn a_call_before_its_time_changes_nothing() {
    for_all(100, &script::steps(true, 60), |steps| {
        let mut broker = Broker::new(2, script::CLIENTS, |config| {
            config.limits.send_window_max = 2;
        });
        broker.restless = true;
        broker.acknowledging = false;
        for (number, step) in steps.iter().enumerate() {
            script::carry_out(&mut broker, number, step);
        }
        broker.advance(60_000);
    });
}
