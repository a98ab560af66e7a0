//! The runtime with real sockets: what only sockets can show.

mod common;

use std::{
    collections::BTreeSet,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use codec::{Ack, Packet, QoS, ReasonCode};
use common::{Broker, V5, V311, connect, id, publish, subscribe};
use runtime_mio::{Inbox, Services};
use session_core::{Answer, Authentication, Principal, Request, Ticket};

/// With so many names, some sessions live on the worker that accepted them and some do not.
const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

#[test]
fn every_pair_of_workers_carries_messages() {
    let broker = Broker::start(3);
    let mut subscribers = NAMES.map(|name| {
        let mut subscriber = broker.connect(V311, &format!("subscriber-{name}"));
        subscriber.subscribe("sensor/+/temperature", QoS::AtLeastOnce);
        subscriber
    });
    for name in NAMES {
        let mut publisher = broker.connect(V5, &format!("publisher-{name}"));
        let topic = format!("sensor/{name}/temperature");
        publisher.send(&publish(&topic, name.as_bytes(), 7));
        let Packet::PubAck(ack) = publisher.receive() else { panic!("no PUBACK") };
        assert_eq!((ack.packet_id, ack.reason), (id(7), ReasonCode::Success));
        for subscriber in &mut subscribers {
            assert_eq!(subscriber.message(), (topic.clone(), name.as_bytes().to_vec()));
        }
    }
}

#[test]
fn bytes_may_come_one_at_a_time() {
    let broker = Broker::start(2);
    for name in ["x", "y", "z"] {
        let mut client = broker.open(V5);
        let packets =
            [connect(V5, name), subscribe("t", QoS::AtMostOnce), publish("t", b"slow", 0)];
        for packet in &packets {
            for byte in client.bytes(packet) {
                client.write(&[byte]);
                thread::sleep(Duration::from_micros(300));
            }
        }
        assert!(matches!(client.receive(), Packet::ConnAck(_)));
        assert!(matches!(client.receive(), Packet::SubAck(_)));
        assert_eq!(client.message(), ("t".to_owned(), b"slow".to_vec()));
        client.write(&[0xE0, 0]);
        assert_eq!(client.rest(), []);
    }
}

/// A CONNECT moves to its session's owner with every byte behind it.
#[test]
fn what_comes_with_the_connect_is_not_lost() {
    let broker = Broker::start(4);
    for name in NAMES {
        let mut client = broker.open(V311);
        let mut bytes = client.bytes(&connect(V311, name));
        bytes.extend(client.bytes(&subscribe(name, QoS::AtMostOnce)));
        let count = 500;
        for number in 0..count {
            bytes.extend(client.bytes(&publish(name, format!("{number:050}").as_bytes(), 0)));
        }
        client.write(&bytes);
        assert!(matches!(client.receive(), Packet::ConnAck(_)));
        assert!(matches!(client.receive(), Packet::SubAck(_)));
        for number in 0..count {
            let expected = format!("{number:050}").into_bytes();
            assert_eq!(client.message(), (name.to_owned(), expected));
        }
    }
}

/// Nothing is lost of a client that says everything and goes without reading an answer.
#[test]
fn what_comes_before_the_end_is_not_lost() {
    let broker = Broker::start(2);
    let mut subscriber = broker.connect(V311, "subscriber");
    subscriber.subscribe("last/+", QoS::AtMostOnce);
    for round in 0..20 {
        let mut client = broker.open(V311);
        let mut bytes = client.bytes(&connect(V311, &format!("c{round}")));
        bytes.extend(client.bytes(&publish("last/words", b"bye", 1)));
        bytes.extend([0xE0, 0]);
        client.write(&bytes);
        drop(client);
        assert_eq!(subscriber.message().1, b"bye");
    }
}

#[test]
fn large_payloads_arrive_whole_and_in_order() {
    let broker = Broker::start(2);
    let mut subscriber = broker.connect(V5, "subscriber");
    subscriber.subscribe("large", QoS::AtLeastOnce);
    let mut publisher = broker.connect(V311, "publisher");
    let sizes = [0, 1, 8191, 8192, 70_000, 3, 900_000, 12, 500_000];
    let payload = |size: usize| (0..size).map(|i| (i % 253) as u8).collect::<Vec<_>>();
    let reader = thread::spawn(move || {
        for size in sizes {
            let Packet::Publish(publish) = subscriber.receive() else { panic!("no PUBLISH") };
            assert!(publish.message.payload() == payload(size), "{size} bytes arrive as sent");
            let packet_id = publish.packet_id.expect("QoS 1 has one");
            subscriber.send(&Packet::PubAck(Ack::success(packet_id)));
        }
    });
    for size in sizes {
        publisher.send(&publish("large", &payload(size), 9));
        assert!(matches!(publisher.receive(), Packet::PubAck(_)));
    }
    reader.join().unwrap();
}

#[test]
fn whoever_says_nothing_is_cut_off() {
    let broker = Broker::start_with(2, |shard| shard.limits.connect_timeout_ms = 150, |_| {});
    let start = Instant::now();
    let mut silent: Vec<_> = (0..50).map(|_| broker.open(V5)).collect();
    let mut half = broker.open(V5);
    half.write(&[0x10, 0x20, 0x00]);
    for client in silent.iter_mut().chain([&mut half]) {
        assert_eq!(client.rest(), []);
    }
    assert!(start.elapsed() >= Duration::from_millis(150));
    broker.connect(V5, "welcome");
}

#[test]
fn malformed_bytes_end_the_connection_and_no_other() {
    let broker = Broker::start(2);
    let mut bystander = broker.connect(V5, "bystander");

    // A PUBLISH with QoS 3.
    let mut v5 = broker.connect(V5, "v5");
    v5.write(&[0x36, 0x05, 0, 1, b't', 0, 1]);
    let rest = v5.rest();
    let [Packet::Disconnect(disconnect)] = &rest[..] else { panic!("{rest:?}") };
    assert_eq!(disconnect.reason, ReasonCode::MalformedPacket);

    let mut v3 = broker.connect(V311, "v3");
    v3.write(&[0x36, 0x05, 0, 1, b't', 0, 1]);
    assert_eq!(v3.rest(), []);

    // A CONNECT whose reserved flag is set, in each version.
    let mut v5 = broker.open(V5);
    v5.write(b"\x10\x0E\0\x04MQTT\x05\x03\0\x3C\0\0\x01c");
    let rest = v5.rest();
    let [Packet::ConnAck(ack)] = &rest[..] else { panic!("{rest:?}") };
    assert_eq!(ack.reason, ReasonCode::MalformedPacket);
    let mut v3 = broker.open(V311);
    v3.write(b"\x10\x0D\0\x04MQTT\x04\x03\0\x3C\0\x01c");
    assert_eq!(v3.rest(), []);

    bystander.write(&[0xC0, 0]);
    assert_eq!(bystander.receive(), Packet::PingResp);
}

/// The last packet arrives even if the client goes on sending: no reset destroys it.
#[test]
fn the_last_packet_survives_unread_input() {
    let broker = Broker::start(1);
    for _ in 0..20 {
        let mut client = broker.connect(V5, "noisy");
        let mut bytes = vec![0x36, 0x05, 0, 1, b't', 0, 1];
        bytes.resize(300_000, 0);
        client.write(&bytes);
        assert!(matches!(client.receive(), Packet::Disconnect(_)));
        client.finish_writing();
        assert_eq!(client.rest(), []);
    }
}

#[test]
fn whoever_does_not_take_its_last_bytes_is_not_waited_for() {
    let broker = Broker::start(1);
    let mut client = broker.connect(V5, "stubborn");
    client.write(&[0x36, 0x05, 0, 1, b't', 0, 1]);
    assert!(matches!(client.receive(), Packet::Disconnect(_)));
    // It keeps its own side open, and the broker closes all the same.
    thread::sleep(Duration::from_millis(2500));
    let closed = (0..100).any(|_| {
        thread::sleep(Duration::from_millis(10));
        std::io::Write::write_all(&mut client.stream, &[0; 100]).is_err()
    });
    assert!(closed);
}

#[test]
fn shutdown_is_told_to_every_client() {
    let broker = Broker::start(2);
    let mut v5 = NAMES.map(|name| broker.connect(V5, name));
    let mut v3 = broker.connect(V311, "v3");
    let mut silent = broker.open(V5);
    let address = broker.address;
    broker.shutdown();
    for client in &mut v5 {
        let rest = client.rest();
        let [Packet::Disconnect(disconnect)] = &rest[..] else { panic!("{rest:?}") };
        assert_eq!(disconnect.reason, ReasonCode::ServerShuttingDown);
    }
    assert_eq!(v3.rest(), []);
    assert_eq!(silent.rest(), []);
    drop((v5, v3, silent));
    let start = Instant::now();
    broker.stop();
    assert!(start.elapsed() < Duration::from_secs(4), "nobody is waited for in vain");
    assert!(std::net::TcpStream::connect(address).is_err(), "the port is free");
}

#[test]
fn a_reader_that_catches_up_gets_every_message() {
    let broker = Broker::start(2);
    let mut subscriber = broker.connect(V311, "late");
    subscriber.subscribe("t", QoS::AtLeastOnce);
    let mut publisher = broker.connect(V311, "publisher");
    // More than the sockets and the credit take, less than the session's queue.
    let count: u16 = 3000;
    let payload = [7; 2000];
    for number in 1..=count {
        publisher.send(&publish("t", &[&number.to_be_bytes()[..], &payload].concat(), number));
        assert!(matches!(publisher.receive(), Packet::PubAck(_)));
    }
    for number in 1..=count {
        let Packet::Publish(publish) = subscriber.receive() else { panic!("no PUBLISH") };
        assert_eq!(publish.message.payload()[..2], number.to_be_bytes());
        subscriber.send(&Packet::PubAck(Ack::success(publish.packet_id.expect("QoS 1"))));
    }
}

/// A client that sends without ever reading is not read any further, and harms nobody.
#[test]
fn whoever_sends_without_reading_is_held_up() {
    let broker = Broker::start(1);
    let mut rude = broker.connect(V311, "rude");
    rude.subscribe("echo", QoS::AtMostOnce);
    rude.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let bytes = rude.bytes(&publish("echo", &[0; 1000], 1)).repeat(100);
    let mut sent: usize = 0;
    while std::io::Write::write(&mut rude.stream, &bytes).is_ok_and(|count| {
        sent += count;
        count > 0
    }) {
        assert!(sent < 200_000_000, "the broker takes everything");
    }
    let mut polite = broker.connect(V311, "polite");
    polite.write(&[0xC0, 0]);
    assert_eq!(polite.receive(), Packet::PingResp);
}

#[test]
fn a_crowd_is_served() {
    let broker = Broker::start(2);
    let mut crowd: Vec<_> = (0..400)
        .map(|number| {
            let mut client = broker.connect(V311, &format!("client-{number}"));
            client.subscribe("news", QoS::AtMostOnce);
            client
        })
        .collect();
    for round in 0..5_u8 {
        crowd[usize::from(round)].send(&publish("news", &[round], 0));
        for client in &mut crowd {
            assert_eq!(client.message(), ("news".to_owned(), vec![round]));
        }
    }
}

/// One fast publisher does not keep another client waiting.
#[test]
fn a_flood_starves_nobody() {
    let broker = Broker::start(1);
    let mut flood = broker.connect(V311, "flood");
    let flooding = thread::spawn(move || {
        let bytes = flood.bytes(&publish("nobody/listens", &[0; 50], 0)).repeat(1000);
        let end = Instant::now() + Duration::from_millis(700);
        while Instant::now() < end {
            flood.write(&bytes);
        }
    });
    let mut other = broker.connect(V311, "other");
    let mut slowest = Duration::ZERO;
    while !flooding.is_finished() {
        let start = Instant::now();
        other.write(&[0xC0, 0]);
        assert_eq!(other.receive(), Packet::PingResp);
        slowest = slowest.max(start.elapsed());
    }
    flooding.join().unwrap();
    assert!(slowest < Duration::from_millis(500), "a ping took {slowest:?}");
}

#[test]
fn durable_state_waits_for_the_log_only() {
    let broker = Broker::start_with(2, |shard| shard.durable = true, |_| {});
    let mut subscriber = broker.connect(V5, "subscriber");
    subscriber.subscribe("t", QoS::AtLeastOnce);
    let mut publisher = broker.connect(V5, "publisher");
    for number in 1..50 {
        publisher.send(&publish("t", b"kept", number));
        assert!(matches!(publisher.receive(), Packet::PubAck(_)));
        assert_eq!(subscriber.message().1, b"kept");
    }
}

#[test]
fn without_a_service_every_question_is_refused() {
    let ask = |shard: &mut session_core::ShardConfig| shard.authentication = Authentication::Ask;
    let broker = Broker::start_with(2, ask, |_| {});
    let mut client = broker.open(V5);
    client.send(&connect(V5, "stranger"));
    let rest = client.rest();
    let [Packet::ConnAck(ack)] = &rest[..] else { panic!("{rest:?}") };
    assert_eq!(ack.reason, ReasonCode::NotAuthorized);
}

/// Until the answer is there, what the client pipelined behind its CONNECT stays undecoded.
#[test]
fn an_answer_may_come_late() {
    let ask = |shard: &mut session_core::ShardConfig| shard.authentication = Authentication::Ask;
    let broker = Broker::start_with(2, ask, |runtime| {
        runtime.services =
            Box::new(|_, inbox| Box::new(LateGuard { inbox, asked: BTreeSet::new() }));
    });
    for name in NAMES {
        let mut client = broker.open(V311);
        let mut bytes = client.bytes(&connect(V311, name));
        bytes.extend(client.bytes(&subscribe("t", QoS::AtMostOnce)));
        bytes.extend(client.bytes(&publish("t", name.as_bytes(), 0)));
        client.write(&bytes);
        assert!(matches!(client.receive(), Packet::ConnAck(ack) if !ack.reason.is_error()));
        assert!(matches!(client.receive(), Packet::SubAck(_)));
        assert_eq!(client.message().1, name.as_bytes());
        assert_eq!(SEEN.lock().unwrap().iter().filter(|seen| *seen == name).count(), 1);
    }
}

/// Client Identifiers that a [`LateGuard`] was asked about.
static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Lets everybody in, after some thought on another thread.
struct LateGuard {
    inbox: Inbox,
    asked: BTreeSet<Ticket>,
}

impl Services for LateGuard {
    fn ask(&mut self, ticket: Ticket, request: Box<Request>) -> Option<Box<Answer>> {
        let Request::Authenticate { connect, .. } = *request else { return None };
        assert!(self.asked.insert(ticket), "a ticket is given once");
        SEEN.lock().unwrap().push(connect.client_id.into());
        let inbox = self.inbox.clone();
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(30));
            let principal = Principal::default();
            inbox.answer(ticket, Box::new(Answer::Accept { principal, data: None }));
        });
        None
    }
}
