//! How connections end when there is something between MQTT and the kernel, and what of it may pile up.

mod common;

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use codec::{Connect, Message, Packet, Properties, ProtocolVersion, QoS, Will};
use runtime_mio::{Listener, RuntimeConfig, TlsDoor, WebSocketSetup};
use rustls::{ClientConnection, StreamOwned};
use session_core::{ShardConfig, ShardMap};

use common::{connect, doors::*, publish, subscribe};

const V3: ProtocolVersion = ProtocolVersion::V311;

/// A CONNECT with a Will, which tells others that the connection was lost.
fn mortal(client_id: &str) -> Vec<u8> {
    let Packet::Connect(plain) = connect(V3, client_id) else { unreachable!() };
    let message = Message::new("will", &Properties::default(), client_id.as_bytes()).unwrap();
    let will = Will { qos: QoS::AtMostOnce, retain: false, delay_s: 0, message };
    encode(V3, &Packet::Connect(Box::new(Connect { will: Some(Box::new(will)), ..*plain })))
}

/// Topic and payload of the next message.
fn message(client: &mut Client) -> (String, Vec<u8>) {
    let Packet::Publish(got) = client.receive() else { panic!("no PUBLISH") };
    (got.message.topic_str().to_owned(), got.message.payload().to_vec())
}

fn watch(mut watcher: Client) -> Client {
    watcher.send(&subscribe("#", QoS::AtMostOnce));
    assert!(matches!(watcher.receive(), Packet::SubAck(_)));
    watcher
}

type TlsStream = StreamOwned<ClientConnection, TcpStream>;

fn tls_client(broker: &Broker, authority: &Authority) -> TlsStream {
    tls(authority.client(None, |_| ()), "localhost", broker.tcp())
}

/// The records of these MQTT bytes.
fn records(stream: &mut TlsStream, mqtt: &[u8]) -> Vec<u8> {
    stream.conn.writer().write_all(mqtt).unwrap();
    let mut records = Vec::new();
    while stream.conn.wants_write() {
        stream.conn.write_tls(&mut records).unwrap();
    }
    records
}

/// A client with a Will on TLS, connected.
fn mortal_on_tls(broker: &Broker, authority: &Authority, client_id: &str) -> TlsStream {
    let mut stream = tls_client(broker, authority);
    stream.write_all(&mortal(client_id)).unwrap();
    stream.read_exact(&mut [0; 4]).unwrap();
    stream
}

/// The kernel tells of the last bytes once. What lies behind them in TLS, it does not know.
#[test]
fn an_end_right_behind_a_message_is_found() {
    let authority = Authority::new();
    let broker = tls_broker(authority.setup(), 1);
    let mut watcher = watch(Client::new(tls_client(&broker, &authority)).connect("watcher"));
    let last = encode(V3, &publish("last", b"words", 0));

    let mut stream = mortal_on_tls(&broker, &authority, "says so");
    let mut bytes = records(&mut stream, &last);
    stream.conn.send_close_notify();
    bytes.extend(records(&mut stream, b""));
    stream.sock.write_all(&bytes).unwrap();
    assert_eq!(message(&mut watcher).0, "last");
    assert_eq!(message(&mut watcher), ("will".to_owned(), b"says so".to_vec()));

    let mut stream = mortal_on_tls(&broker, &authority, "is broken");
    let mut bytes = records(&mut stream, &last);
    let mut broken = records(&mut stream, &last);
    *broken.last_mut().unwrap() ^= 1;
    bytes.extend(broken);
    stream.sock.write_all(&bytes).unwrap();
    assert_eq!(message(&mut watcher).0, "last");
    assert_eq!(message(&mut watcher), ("will".to_owned(), b"is broken".to_vec()));
}

/// TLS exists to tell a cut from an end: the one is a lost connection, and so is the other without a DISCONNECT.
#[test]
fn a_stream_that_is_cut_is_lost() {
    let authority = Authority::new();
    let broker = tls_broker(authority.setup(), 1);
    let mut watcher = watch(Client::new(tls_client(&broker, &authority)).connect("watcher"));
    let stream = mortal_on_tls(&broker, &authority, "cut");
    stream.sock.shutdown(Shutdown::Write).unwrap();
    assert_eq!(message(&mut watcher), ("will".to_owned(), b"cut".to_vec()));
    // In the middle of a record.
    let mut stream = mortal_on_tls(&broker, &authority, "half");
    let bytes = records(&mut stream, &encode(V3, &publish("never", b"whole", 0)));
    stream.sock.write_all(&bytes[..bytes.len() - 1]).unwrap();
    stream.sock.shutdown(Shutdown::Write).unwrap();
    assert_eq!(message(&mut watcher), ("will".to_owned(), b"half".to_vec()));
    let mut stream = mortal_on_tls(&broker, &authority, "polite");
    stream.write_all(&[0xE0, 0]).unwrap();
    stream.sock.shutdown(Shutdown::Write).unwrap();
    let mut marker = Client::new(tls_client(&broker, &authority)).connect("marker");
    marker.send(&publish("marker", b"", 0));
    assert_eq!(message(&mut watcher).0, "marker", "no Will after DISCONNECT");
}

/// Nothing is lost of a client that says everything at once and goes without reading an answer.
#[test]
fn what_comes_before_the_end_is_not_lost() {
    let authority = Authority::new();
    let broker = tls_broker(authority.setup(), 2);
    let mut watcher = watch(Client::new(tls_client(&broker, &authority)).connect("watcher"));
    for round in 0..20 {
        let mut stream = tls_client(&broker, &authority);
        let bytes = [
            encode(V3, &connect(V3, &format!("c{round}"))),
            encode(V3, &publish("last/words", b"bye", 1)),
            vec![0xE0, 0],
        ];
        // They leave with the last message of the handshake.
        stream.conn.writer().write_all(&bytes.concat()).unwrap();
        while stream.conn.is_handshaking() || stream.conn.wants_write() {
            stream.conn.complete_io(&mut stream.sock).unwrap();
        }
        drop(stream);
        assert_eq!(message(&mut watcher).1, b"bye");
    }
}

/// A client cannot tell a broker that closes from somebody who cuts the line, unless it is told.
#[test]
fn the_broker_ends_tls_with_words() {
    let authority = Authority::new();
    let broker = tls_broker(authority.setup(), 1);
    // One that goes, one that breaks a rule, and one that does so before its CONNECT is complete.
    let first = encode(V3, &connect(V3, "c"));
    for (bytes, answer) in [
        ([&first[..], &[0xE0, 0]].concat(), 4),
        ([&first[..], &[0x36, 5, 0, 1, b't', 0, 1]].concat(), 4),
        (b"\x10\x0D\0\x04MQTT\x04\x03\0\x3C\0\x01c".to_vec(), 0),
    ] {
        let mut stream = tls_client(&broker, &authority);
        stream.write_all(&bytes).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("an end that was told");
        assert_eq!(rest.len(), answer);
    }
}

fn websocket_broker(workers: u16) -> Broker {
    Broker::start(tcp_listener().with_websocket(WebSocketSetup::default()), workers)
}

/// A frame of a client whose mask changes nothing.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    assert!(length < 126);
    [&[first, 0x80 | length, 0, 0, 0, 0][..], payload].concat()
}

const BINARY: u8 = 0x82;
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;

#[test]
fn an_end_in_the_frame_behind_a_message_is_found() {
    let broker = websocket_broker(1);
    let open = || Framed::open(broker.tcp(), |_| ()).unwrap();
    let mut watcher = watch(Client::new(open()).connect("watcher"));
    let last = encode(V3, &publish("last", b"words", 0));
    for (client_id, end) in [
        ("says so", frame(CLOSE, &1000_u16.to_be_bytes())),
        ("sends text", frame(TEXT, b"x")),
        ("is not masked", vec![BINARY, 1, 0]),
    ] {
        let mut stream = open();
        stream.write_all(&mortal(client_id)).unwrap();
        stream.read_exact(&mut [0; 4]).unwrap();
        let mut raw: &TcpStream = stream.0.get_ref();
        raw.write_all(&[frame(BINARY, &last), end].concat()).unwrap();
        assert_eq!(message(&mut watcher).0, "last");
        assert_eq!(message(&mut watcher), ("will".to_owned(), client_id.as_bytes().to_vec()));
        let mut words = Vec::new();
        raw.read_to_end(&mut words).unwrap();
        assert_eq!(words.first(), Some(&CLOSE), "{client_id}");
    }
    // One that says goodbye in MQTT's words only is answered in both.
    let mut stream = open();
    stream.write_all(&encode(V3, &connect(V3, "c"))).unwrap();
    stream.write_all(&[0xE0, 0]).unwrap();
    let mut words = Vec::new();
    stream.0.get_mut().read_to_end(&mut words).unwrap();
    assert!(words.ends_with(&[CLOSE, 2, 3, 232]), "{words:?}");
}

/// A ping has to be answered, and the one who sent it may be gone: what came with it counts all the same.
#[test]
fn an_answer_that_does_not_leave_loses_no_message() {
    let broker = websocket_broker(1);
    let open = || Framed::open(broker.tcp(), |_| ()).unwrap();
    let mut watcher = watch(Client::new(open()).connect("watcher"));
    for round in 0..20 {
        let mut stream = open();
        stream.write_all(&encode(V3, &connect(V3, &format!("c{round}")))).unwrap();
        // Once the CONNACK lies there unread, closing resets the connection.
        stream.0.get_ref().peek(&mut [0; 1]).unwrap();
        let last = encode(V3, &publish("last", b"words", 0));
        let bytes = [frame(PING, b"?"), frame(BINARY, &last)].concat();
        stream.0.get_mut().write_all(&bytes).unwrap();
        drop(stream);
        assert_eq!(message(&mut watcher).1, b"words");
    }
}

/// `door_that_skips_a_check`: the bound on what waits for a peer has to hold below MQTT too, and before a CONNECT.
#[test]
fn answers_that_nobody_reads_do_not_pile_up() {
    let broker = websocket_broker(1);
    let stream = Framed::open(broker.tcp(), |_| ()).unwrap().0;
    let stream = stream.get_ref().try_clone().unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let pings = frame(PING, &[7; 100]);
    let bytes = pings.repeat(1000);
    let mut sent = 0;
    loop {
        match (&stream).write(&bytes[sent % pings.len()..]) {
            Ok(count) => sent += count,
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
                break;
            }
        }
        assert!(sent < 100_000_000, "the broker takes everything");
    }
    // Once it reads, all goes on, and not an answer is missing.
    stream.set_write_timeout(None).unwrap();
    let rest = (pings.len() - sent % pings.len()) % pings.len();
    let mut writer = stream.try_clone().unwrap();
    let rest = pings[pings.len() - rest..].to_vec();
    let count = (sent + rest.len()) / pings.len();
    let writing = thread::spawn(move || writer.write_all(&rest).unwrap());
    let mut answer = vec![0; count * (pings.len() - 4)];
    (&stream).read_exact(&mut answer).unwrap();
    writing.join().unwrap();
    assert!(answer.chunks(pings.len() - 4).all(|pong| pong[..2] == [0x8A, 100]));
}

/// `door_that_skips_a_check`: who is not known yet has as little room behind a WebSocket as behind any other door.
#[test]
fn a_message_without_a_connect_gives_no_room() {
    let broker = websocket_broker(1);
    let mut stream = Framed::open(broker.tcp(), |_| ()).unwrap();
    let raw = stream.0.get_mut();
    raw.write_all(&frame(BINARY, b"")).unwrap();
    // More is announced than a CONNECT may have, and not sent.
    raw.write_all(&[BINARY, 0xFF, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0]).unwrap();
    let mut words = Vec::new();
    raw.read_to_end(&mut words).unwrap();
    assert_eq!(words, [CLOSE, 2, 3, 241], "1009");

    // What follows a CONNECT at once may be as long as it likes.
    let (long, mut bytes) = (vec![7; 300_000], frame(BINARY, &encode(V3, &connect(V3, "c"))));
    bytes.extend(frame(BINARY, &encode(V3, &subscribe("t", QoS::AtMostOnce))));
    let packet = encode(V3, &publish("t", &long, 0));
    bytes.extend([&[BINARY, 0xFF], &(packet.len() as u64).to_be_bytes()[..], &[0; 4]].concat());
    bytes.extend(packet);
    let mut stream = Framed::open(broker.tcp(), |_| ()).unwrap();
    stream.0.get_mut().write_all(&bytes).unwrap();
    let mut client = Client::new(stream);
    assert!(matches!(client.receive(), Packet::ConnAck(_)));
    assert!(matches!(client.receive(), Packet::SubAck(_)));
    assert_eq!(message(&mut client), ("t".to_owned(), long));
}

/// A doorkeeper and a listener, and what the one heard of connections to the other.
fn guarded(listener: Listener) -> (Broker, Arc<Counter>) {
    let counter = Arc::new(Counter { max: 100, ..Counter::default() });
    let map = ShardMap::new(2, 2);
    let shards = map.all().map(|id| ShardConfig::new(id, map)).collect();
    let mut config = RuntimeConfig::new(shards, vec![listener]);
    config.doorkeeper = Some(counter.clone());
    let running = runtime_mio::start(config).unwrap();
    (Broker { running: Some(running), origins: Arc::default() }, counter)
}

fn believing(range: &str) -> WebSocketSetup {
    WebSocketSetup { forwarded_from: vec![range.parse().unwrap()], ..WebSocketSetup::default() }
}

/// Who is counted under one address and leaves under another is counted for ever.
#[test]
fn a_forwarded_address_is_the_one_that_the_doorkeeper_hears() {
    let (broker, counter) = guarded(tcp_listener().with_websocket(believing("127.0.0.1")));
    for told in ["192.0.2.7", "192.0.2.8"] {
        let stream = Framed::open(broker.tcp(), |headers| {
            headers.insert("X-Forwarded-For", told.parse().unwrap());
        });
        Client::new(stream.unwrap()).connect(told).echo(b"x");
    }
    // One that never says who it is was never let in.
    drop(broker.tcp());
    drop(broker);
    let both = ["door Some(192.0.2.7)", "door Some(192.0.2.8)"];
    assert_eq!(counter.seen.lock().unwrap().1, both);
    let mut gone = counter.gone.lock().unwrap().clone();
    gone.sort();
    assert_eq!(gone, both);
}

/// `door_that_skips_a_check`: a proxy of TCP passes on whatever its clients write, and being trusted for the one does
/// not make them trusted for the other.
#[test]
fn a_client_behind_a_proxy_does_not_forward_addresses() {
    let listener = proxied("127.0.0.1").with_websocket(believing("127.0.0.0/8"));
    let broker = Broker::start(listener, 1);
    let seen = |source: &str| {
        let mut stream = broker.tcp();
        write!(stream, "PROXY TCP4 {source} 10.0.0.1 4660 8083\r\n").unwrap();
        let framed = Framed::open(stream, |headers| {
            headers.insert("X-Forwarded-For", "192.0.2.66".parse().unwrap());
        });
        Client::new(framed.unwrap()).connect("c").echo(b"x");
        broker.last_origin().peer.unwrap().ip().to_string()
    };
    assert_eq!(seen("192.0.2.7"), "192.0.2.7", "spoofed");
    assert_eq!(seen("127.0.0.9"), "192.0.2.66", "a proxy of HTTP behind one of TCP");
}

/// All at once: PROXY, TLS, WebSocket, MQTT, cut into single bytes.
#[test]
fn all_layers_may_come_byte_by_byte() {
    let authority = Authority::new();
    let listener = proxied("127.0.0.1")
        .with_tls(TlsDoor::load(authority.setup()).unwrap())
        .with_websocket(WebSocketSetup::default());
    let broker = Broker::start(listener, 3);
    for number in 0..4 {
        let mut stream = Slowly(broker.tcp());
        stream.write_all(b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 8084\r\n").unwrap();
        let stream = tls(authority.client(None, |_| ()), "localhost", stream);
        let framed = Framed::open(stream, |_| ()).unwrap();
        Client::new(framed).connect(&format!("c{number}")).echo(&[7; 3000]);
        assert_eq!(broker.last_origin().peer, Some("192.0.2.7:4660".parse().unwrap()));
    }
}
