//! What a peer can make a door keep before anything is known of it. One test, since the whole process is measured.
#![cfg(target_os = "linux")]

mod common;

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
};

use codec::Packet;
use common::doors::*;
use runtime_mio::{Listener, TlsDoor, WebSocketSetup};

/// Peers that begin, and go on no further.
const PEERS: usize = 200;

#[test]
fn a_door_keeps_little_before_it_knows_who_knocks() {
    let authority = Authority::new();
    let tls_door = || TlsDoor::load(authority.setup()).unwrap();
    let known = |stream| Client::new(tls(authority.client(None, |_| ()), "localhost", stream));
    let kib = |listener: Listener, header: &[u8], beginning: &[u8]| {
        let broker = Broker::start(listener, 1);
        let open = || {
            let mut stream = broker.tcp();
            stream.write_all(header).unwrap();
            stream
        };
        // What is needed once, and whether others get in all the while.
        let mut first = known(open()).connect("first");
        ping(&mut first);
        let before = resident_kib();
        let mut peers: Vec<TcpStream> = (0..PEERS).map(|_| open()).collect();
        for peer in &mut peers {
            peer.write_all(beginning).unwrap();
        }
        // One worker serves all that is there in each turn.
        ping(&mut known(open()).connect("last"));
        ping(&mut first);
        resident_kib().saturating_sub(before) / PEERS
    };

    let silent = kib(tcp_listener().with_tls(tls_door()), b"", b"\x16");
    assert!(silent < 16, "{silent} KiB for who says nothing");
    // Most of a ClientHello that is as long as one may be.
    let mut hello = vec![1, 0, 0xff, 0xf0];
    hello.resize(48 * 1024, 0);
    let records = |message: &[u8]| -> Vec<u8> {
        let record = |part: &[u8]| {
            let length = u16::try_from(part.len()).unwrap().to_be_bytes();
            [&[22, 3, 1], &length[..], part].concat()
        };
        message.chunks(16 * 1024).flat_map(record).collect()
    };
    let halfway = kib(tcp_listener().with_tls(tls_door()), b"", &records(&hello));
    assert!((40..80).contains(&halfway), "{halfway} KiB for 48 KiB of a handshake");
    let header = b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 1883\r\n";
    let told = kib(proxied("127.0.0.1").with_tls(tls_door()), header, b"\x16");
    assert!(told < 16, "{told} KiB behind a proxy");

    // What could only become too much is not waited for.
    let is_cut_off = |listener: Listener, bytes: &[u8]| {
        let broker = Broker::start(listener.with_handshake_timeout_ms(3_600_000), 1);
        let mut stream = broker.tcp();
        let _ = stream.write_all(bytes);
        has_ended(stream.read_to_end(&mut Vec::new()))
    };
    hello[1] = 1;
    assert!(is_cut_off(tcp_listener().with_tls(tls_door()), &records(&hello)));
    let mut long = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".to_vec();
    long.resize(5000, 0);
    assert!(is_cut_off(proxied("127.0.0.1"), &long));
    let request = [b"GET /mqtt HTTP/1.1\r\nX: ", &[b'y'; 9000][..]].concat();
    let listener = tcp_listener().with_websocket(WebSocketSetup::default());
    assert!(is_cut_off(listener, &request));
}

fn ping(client: &mut Client) {
    client.send(&Packet::PingReq);
    assert_eq!(client.receive(), Packet::PingResp);
}

fn resident_kib() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
