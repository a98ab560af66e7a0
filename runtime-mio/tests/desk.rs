//! What an operator sees and does while clients are connected.

mod common;

use std::{io::Read, net::TcpStream, thread, time::Duration};

use codec::{Packet, QoS, ReasonCode};
use runtime_mio::{Counter, Desk, Fittings, Listener, WebSocketSetup};
use session_core::{Command, Reply, ShardConfig, ShardId, ShardMap};

use common::{Broker, Client, V5, V311, connect, publish, subscribe};

/// Numbers are written by other threads: looks until they are as they should be.
fn until(mut is_so: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if is_so() {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("it did not come to that");
}

/// How many sessions all workers have together, and of how many connections they know.
fn sessions(desk: &Desk) -> (u64, u64) {
    let all = desk.look_at_all(|look| look.view.totals());
    all.iter().fold((0, 0), |sum, one| (sum.0 + one.sessions, sum.1 + one.connections))
}

#[test]
fn rows_and_numbers_of_all_workers_are_there() {
    let broker = Broker::start(3);
    let desk = broker.desk();
    let mut clients: Vec<Client> =
        (0..10).map(|n| broker.connect(V311, &format!("client-{n}"))).collect();
    for client in &mut clients {
        client.send(&subscribe("t/#", QoS::AtMostOnce));
        assert!(matches!(client.receive(), Packet::SubAck(_)));
    }
    clients[0].send(&publish("t/1", b"12345", 0));
    for client in &mut clients {
        assert!(matches!(client.receive(), Packet::Publish(_)));
    }
    assert_eq!(sessions(&desk), (10, 10));
    let counts = desk.counts();
    let numbers = [
        Counter::Accepted,
        Counter::Connected,
        Counter::PublishesIn0,
        Counter::PublishesOut0,
        Counter::PayloadBytesIn,
        Counter::PayloadBytesOut,
        Counter::PacketsIn,
    ]
    .map(|counter| counts.get(counter));
    assert_eq!(numbers, [10, 10, 1, 10, 5, 50, 21]);
    until(|| desk.counts().latency.classes.iter().sum::<u64>() == 1);

    let found = desk.look_at_all(|look| {
        let row = look.view.session("client-0")?;
        look.link(row.connection?.conn)
    });
    let link = found.into_iter().flatten().next().expect("one worker has it");
    assert_eq!((&*link.listener, link.publishes_in, link.publishes_out), ("tcp://test", 1, 1));
    assert!(link.peer.is_some());
    drop(clients);
    until(|| desk.counts().get(Counter::Disconnected) == 10);
}

#[test]
fn commands_reach_the_worker_that_has_the_session() {
    let broker = Broker::start(2);
    let desk = broker.desk();
    let mut client = broker.connect(V5, "a");
    let kick =
        Command::Disconnect { client_id: "a".into(), reason: ReasonCode::AdministrativeAction };
    let replies = desk.command_all(&kick);
    assert_eq!(replies.iter().filter(|reply| **reply == Reply::Done).count(), 1, "{replies:?}");
    let Packet::Disconnect(said) = client.receive() else { panic!("no DISCONNECT") };
    assert_eq!(said.reason, ReasonCode::AdministrativeAction);
    assert_eq!(desk.command(ShardId(9), kick), None);
}

/// Who is connected stays when its listener goes, and others come by another.
#[test]
fn listeners_come_and_go() {
    for workers in [1, 2] {
        let broker = Broker::start(workers);
        let desk = broker.desk();
        let mut old = broker.connect(V311, "old");
        let listener = Listener::bind_tcp("tcp://second", "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let second = desk.open(listener).unwrap();
        let mut new = Client::open(address, V311);
        new.send(&connect(V311, "new"));
        assert!(matches!(new.receive(), Packet::ConnAck(_)));
        desk.close(broker.first_door());
        until(|| TcpStream::connect(broker.address).is_err());
        for client in [&mut old, &mut new] {
            client.send(&Packet::PingReq);
            assert!(matches!(client.receive(), Packet::PingResp));
        }
        // Another door at the same socket: what came by the old one is as it was.
        let fittings = Fittings::default().with_websocket(WebSocketSetup::default());
        let third = desk.refit(second, "ws://second", fittings).unwrap();
        assert_ne!(second, third);
        until(|| {
            let mut plain = Client::open(address, V311);
            plain.send(&connect(V311, "third"));
            let mut byte = [0];
            // A WebSocket answers by HTTP, or ends what is no request.
            !matches!(plain.stream.read(&mut byte), Ok(1) if byte[0] == 0x20)
        });
        new.send(&Packet::PingReq);
        assert!(matches!(new.receive(), Packet::PingResp));
        desk.stop_accepting();
        until(|| TcpStream::connect(address).is_err());
        broker.stop();
    }
}

/// Who connects after other limits were set is told them, and its framer keeps to them.
#[test]
fn new_limits_hold_for_who_comes_later() {
    let broker = Broker::start(1);
    let desk = broker.desk();
    let mut old = broker.connect(V5, "old");
    let mut settings = ShardConfig::new(ShardId(0), ShardMap::new(1, 2)).settings();
    settings.limits.packet_bytes_max = 1000;
    let reconfigure = Command::Reconfigure(Box::new(settings));
    assert_eq!(desk.command_all(&reconfigure), [Reply::Done]);
    let large = publish("t", &[0; 2000], 1);
    old.send(&large);
    assert!(matches!(old.receive(), Packet::PubAck(_)));
    let mut new = broker.open(V5);
    new.send(&connect(V5, "new"));
    let Packet::ConnAck(ack) = new.receive() else { panic!("no CONNACK") };
    assert_eq!(ack.properties.maximum_packet_size(), Some(1000));
    new.send(&large);
    let Packet::Disconnect(said) = new.receive() else { panic!("no DISCONNECT") };
    assert_eq!(said.reason, ReasonCode::PacketTooLarge);
}

#[test]
fn a_drain_empties_a_worker_in_batches() {
    let broker = Broker::start(1);
    let desk = broker.desk();
    let mut clients: Vec<Client> =
        (0..3).map(|n| broker.connect(V5, &format!("client-{n}"))).collect();
    let drain = Command::Drain { max: 2, server_reference: Some("elsewhere:1883".into()) };
    assert_eq!(desk.command(ShardId(0), drain.clone()), Some(Reply::Left(1)));
    assert_eq!(desk.command(ShardId(0), drain), Some(Reply::Left(0)));
    for client in &mut clients {
        let Packet::Disconnect(said) = client.receive() else { panic!("no DISCONNECT") };
        assert_eq!(said.reason, ReasonCode::UseAnotherServer);
    }
}
