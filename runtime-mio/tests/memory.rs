//! What connections cost in memory. One test, since the whole process is measured.
#![cfg(target_os = "linux")]

mod common;

use std::{fs, io::Write, time::Duration};

use codec::{Packet, QoS};
use common::{Broker, Client, V311, publish};

#[test]
fn memory_is_bounded() {
    let queue = |shard: &mut session_core::ShardConfig| {
        shard.limits.session_queue_bytes_max = 1024 * 1024;
    };
    let broker = Broker::start_with(2, queue, |_| {});
    idle_connections_are_small(&broker);
    a_client_that_never_reads_holds_little(&broker);
}

fn idle_connections_are_small(broker: &Broker) {
    const COUNT: usize = 300;
    // The first ones pay for what the process needs once.
    let mut clients = crowd(broker, 0..100);
    let before = resident_bytes();
    clients.extend(crowd(broker, 100..100 + COUNT));
    // Each has been busy once, both ways.
    for client in &mut clients {
        client.subscribe("news", QoS::AtMostOnce);
        client.write(&[0xC0, 0]);
        assert_eq!(client.receive(), Packet::PingResp);
    }
    let each = resident_bytes().saturating_sub(before) / COUNT;
    // The clients' own part is in it too.
    assert!(each < 6 * 1024, "{each} bytes for a connection");
}

fn a_client_that_never_reads_holds_little(broker: &Broker) {
    let mut deaf = broker.connect(V311, "deaf");
    deaf.subscribe("flood", QoS::AtMostOnce);
    let mut publisher = broker.connect(V311, "publisher");
    publisher.stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let before = resident_bytes();
    let bytes = publisher.bytes(&publish("flood", &[0; 10_000], 0)).repeat(100);
    for _ in 0..100 {
        if publisher.stream.write_all(&bytes).is_err() {
            break;
        }
    }
    let mut other = broker.connect(V311, "other");
    other.write(&[0xC0, 0]);
    assert_eq!(other.receive(), Packet::PingResp);
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 5 * 1024 * 1024, "{grown} bytes are held of 100 MB that nobody reads");
}

fn crowd(broker: &Broker, numbers: std::ops::Range<usize>) -> Vec<Client> {
    numbers.map(|number| broker.connect(V311, &format!("client-{number}"))).collect()
}

fn resident_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}
