//! Cases of the Autobahn test suite (sections 1 to 7, 9, 10) as byte scripts, as far as a server of binary messages
//! can show them, and MQTT's own rules.

use super::*;

const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Protocol: mqtt\r\n\r\n";

const FIN: u8 = 0x80;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A frame of a client: masked.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [7, 11, 13, 17];
    let mut bytes = vec![first];
    match u16::try_from(payload.len()) {
        Ok(length @ 0..126) => bytes.push(0x80 | u8::try_from(length).unwrap()),
        Ok(length) => bytes.extend([&[0xFE][..], &length.to_be_bytes()].concat()),
        Err(_) => bytes.extend([&[0xFF][..], &(payload.len() as u64).to_be_bytes()].concat()),
    }
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// What a server sends: its frames, each with its first byte.
fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut all = Vec::new();
    while let [first, length, rest @ ..] = bytes {
        let (length, rest) = match length {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 => (
                usize::try_from(u64::from_be_bytes(rest[..8].try_into().unwrap())).unwrap(),
                &rest[8..],
            ),
            short => (usize::from(*short), rest),
        };
        all.push((*first, rest[..length].to_vec()));
        bytes = &rest[length..];
    }
    all
}

struct Peer {
    websocket: WebSocket,
    mqtt: Vec<u8>,
    answer: Vec<u8>,
}

impl Peer {
    fn new() -> Self {
        let setup = WebSocketSetup {
            first_message_bytes_max: 1000,
            message_bytes_max: 100_000,
            ..WebSocketSetup::default()
        };
        let websocket = WebSocket::new(Arc::new(setup));
        Self { websocket, mqtt: Vec::new(), answer: Vec::new() }
    }

    fn open() -> Self {
        let mut peer = Self::new();
        peer.says(REQUEST.as_bytes()).unwrap();
        assert!(peer.websocket.is_open() && peer.answer.starts_with(b"HTTP/1.1 101 "));
        peer.answer.clear();
        peer
    }

    fn says(&mut self, wire: &[u8]) -> Result<(), String> {
        self.websocket.receive(wire, &mut self.mqtt, &mut self.answer)?;
        while self.websocket.is_stopped() {
            self.websocket.receive(b"", &mut self.mqtt, &mut self.answer)?;
        }
        Ok(())
    }

    /// The code with which the server closes.
    fn closes(&self) -> Option<u16> {
        let all = frames(&self.answer);
        let (first, payload) = all.last()?;
        (*first == FIN | CLOSE).then(|| u16::from_be_bytes([payload[0], payload[1]]))
    }
}

/// Cases 1.2.1 to 1.2.8: binary messages of all lengths, also cut into single bytes.
#[test]
fn binary_messages_are_mqtt() {
    for length in [0, 1, 125, 126, 127, 128, 999] {
        let payload: Vec<u8> = (0..length).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let mut peer = Peer::open();
        for byte in frame(FIN | BINARY, &payload) {
            peer.says(&[byte]).unwrap();
        }
        assert_eq!(peer.mqtt, payload);
    }
    let mut peer = Peer::open();
    peer.says(&frame(FIN | BINARY, b"x")).unwrap();
    peer.websocket.know();
    let long = vec![9; 65_536];
    peer.says(&frame(FIN | BINARY, &long)).unwrap();
    assert_eq!(peer.mqtt.len(), 65_537);
}

/// The request, frames and packets may be cut anywhere, and share what comes at once [MQTT-6.0.0-2].
#[test]
fn it_is_the_same_however_the_wire_is_cut() {
    let stream = [
        REQUEST.as_bytes(),
        &frame(BINARY, b"\x10\x0c"),
        &frame(FIN | PING, b"?"),
        &frame(CONTINUATION, b""),
        &frame(FIN | CONTINUATION, b"\0\x04MQTT"),
        &frame(FIN | BINARY, b"\xc0\0\xc0\0"),
    ]
    .concat();
    for step in 1..stream.len() {
        let mut peer = Peer::new();
        for part in stream.chunks(step) {
            peer.says(part).unwrap();
        }
        assert_eq!(peer.mqtt, b"\x10\x0c\0\x04MQTT\xc0\0\xc0\0", "{step}");
        let answer = peer.answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        assert_eq!(frames(&peer.answer[answer..]), [(FIN | PONG, b"?".to_vec())], "{step}");
    }
}

/// Cases 1.1 and 6: text is no MQTT, valid UTF-8 or not [MQTT-6.0.0-1].
#[test]
fn text_is_refused() {
    for payload in [&b""[..], b"text", b"\xff\xfe"] {
        let mut peer = Peer::open();
        assert!(peer.says(&frame(FIN | TEXT, payload)).is_err());
        assert_eq!(peer.closes(), Some(1003), "{payload:?}");
        assert!(peer.websocket.is_over());
    }
}

/// Cases 2: pings are answered with what they bring, pongs with nothing.
#[test]
fn pings_are_answered() {
    for payload in [&b""[..], b"hello", &[0xfe; 125]] {
        let mut peer = Peer::open();
        peer.says(&frame(FIN | PING, payload)).unwrap();
        assert_eq!(frames(&peer.answer), [(FIN | PONG, payload.to_vec())]);
    }
    let mut peer = Peer::open();
    peer.says(&frame(FIN | PONG, b"unasked")).unwrap();
    assert_eq!(peer.answer, b"");
    let mut peer = Peer::open();
    assert!(peer.says(&frame(FIN | PING, &[0; 126])).is_err(), "2.5");
    assert_eq!(peer.closes(), Some(1002));
}

/// Cases 3, 4, 5 and the mask: what is no frame of a client.
#[test]
fn what_is_no_frame_is_a_protocol_error() {
    let unmasked = [FIN | BINARY, 1, b'x'];
    let twice = [frame(BINARY, b"a"), frame(BINARY, b"b")].concat();
    for (case, bytes) in [
        ("3.1 reserved bit", frame(FIN | 0x40 | BINARY, b"x")),
        ("3.4 reserved bits", frame(FIN | 0x70 | BINARY, b"x")),
        ("3.7 reserved bits of a close", frame(FIN | 0x20 | CLOSE, b"")),
        ("4.1 reserved opcode", frame(FIN | 3, b"x")),
        ("4.1 reserved opcode", frame(FIN | 7, b"")),
        ("4.2 reserved control opcode", frame(FIN | 11, b"")),
        ("4.2 reserved control opcode", frame(FIN | 15, b"x")),
        ("5.1 fragmented ping", frame(PING, b"x")),
        ("5.2 fragmented pong", frame(PONG, b"x")),
        ("5.9 continuation of nothing", frame(FIN | CONTINUATION, b"x")),
        ("5.18 message within a message", twice),
        ("5.1 of RFC 6455: not masked", unmasked.to_vec()),
    ] {
        let mut peer = Peer::open();
        assert!(peer.says(&bytes).is_err(), "{case}");
        assert_eq!(peer.closes(), Some(1002), "{case}");
    }
}

/// Cases 5.3 to 5.8: fragments, with control frames between them.
#[test]
fn fragments_are_one_message() {
    let mut peer = Peer::open();
    for bytes in [
        frame(BINARY, b"ab"),
        frame(FIN | PING, b"1"),
        frame(CONTINUATION, b""),
        frame(FIN | PING, b"2"),
        frame(FIN | CONTINUATION, b"cd"),
    ] {
        peer.says(&bytes).unwrap();
    }
    assert_eq!(peer.mqtt, b"abcd");
    assert_eq!(frames(&peer.answer), [(FIN | PONG, b"1".to_vec()), (FIN | PONG, b"2".to_vec())]);
}

/// Cases 7: the close handshake.
#[test]
fn a_close_is_answered_and_nothing_is_read_behind_it() {
    for (payload, code) in [
        (&b""[..], None),
        (&[3, 232], Some(1000)),
        (&[3, 232, b'o', b'k'], Some(1000)),
        (&[0x0b, 0xb8], Some(3000)),
    ] {
        let mut peer = Peer::open();
        peer.says(&[frame(FIN | CLOSE, payload), frame(FIN | BINARY, b"late")].concat()).unwrap();
        assert!(peer.websocket.is_over() && peer.mqtt.is_empty());
        let all = frames(&peer.answer);
        assert_eq!((all.len(), all[0].0), (1, FIN | CLOSE));
        let answered = all[0].1.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]));
        assert!(
            answered == code || (code.is_none() && answered.is_none()),
            "{payload:?} {answered:?}"
        );
    }
    for payload in [&[3][..], &[0, 0], &[3, 236], &[3, 237]] {
        let mut peer = Peer::open();
        let _ = peer.says(&frame(FIN | CLOSE, payload));
        assert_eq!(peer.closes(), Some(1002), "7.3.2, 7.9: {payload:?}");
    }
}

/// Cases 9 and the memory of who is not known: 64 MiB in a header are not waited for.
#[test]
fn messages_have_a_bound_and_those_of_strangers_a_smaller_one() {
    let mut peer = Peer::open();
    assert!(peer.says(&frame(FIN | BINARY, &[0; 1001])).is_err());
    assert_eq!(peer.closes(), Some(1009));
    let mut peer = Peer::open();
    let announced = [&[FIN | BINARY, 0xFF][..], &(1_u64 << 26).to_be_bytes(), &[0; 4]].concat();
    assert!(peer.says(&announced).is_err(), "nothing of it has come");
    assert_eq!(peer.closes(), Some(1009));
    let mut peer = Peer::open();
    peer.says(&frame(FIN | BINARY, b"")).unwrap();
    assert!(peer.says(&frame(FIN | BINARY, &[0; 1001])).is_err(), "a message makes nobody known");
    let mut peer = Peer::open();
    peer.says(&frame(FIN | BINARY, b"first")).unwrap();
    peer.websocket.know();
    peer.says(&frame(FIN | BINARY, &[0; 50_000])).unwrap();
    for _ in 0..3 {
        let _ = peer.says(&frame(BINARY, &[0; 1]));
        for _ in 0..3 {
            let _ = peer.says(&frame(CONTINUATION, &[0; 40_000]));
        }
    }
    assert!(peer.websocket.is_over(), "fragments are counted together");
    assert_eq!(peer.mqtt.len(), 50_005);
}

/// What comes with the CONNECT may be longer than it: by then it is clear who sends it.
#[test]
fn a_stranger_is_heard_message_by_message() {
    let long = vec![7; 50_000];
    let wire = [
        frame(FIN | BINARY, b"connect"),
        frame(FIN | PING, b"?"),
        frame(FIN | BINARY, &long),
        frame(FIN | BINARY, b"more"),
    ];
    let mut peer = Peer::open();
    peer.websocket.receive(&wire.concat(), &mut peer.mqtt, &mut peer.answer).unwrap();
    assert_eq!((peer.mqtt.as_slice(), peer.websocket.is_stopped()), (&b"connect"[..], true));
    peer.websocket.know();
    peer.says(b"").unwrap();
    assert_eq!(peer.mqtt.len(), 7 + long.len() + 4);
    assert_eq!(frames(&peer.answer), [(FIN | PONG, b"?".to_vec())]);
}

#[test]
fn what_is_sent_is_one_unmasked_frame() {
    for length in [0, 2, 125, 126, 65_535, 65_536] {
        let mut peer = Peer::open();
        let (mut wire, payload) = (Vec::new(), vec![5; length]);
        peer.websocket.send(&payload, &mut wire);
        assert_eq!(frames(&wire), [(FIN | BINARY, payload)]);
    }
    let mut peer = Peer::open();
    let mut wire = Vec::new();
    peer.websocket.close(&mut wire);
    assert_eq!(frames(&wire), [(FIN | CLOSE, vec![3, 232])]);
}

#[test]
fn rubbish_is_refused_and_takes_little_memory() {
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        u8::try_from(state >> 56).unwrap()
    };
    for _ in 0..2_000 {
        let mut peer = Peer::open();
        for _ in 0..20 {
            let bytes: Vec<u8> = (0..20).map(|_| random()).collect();
            let _ = peer.says(&bytes);
        }
        assert!(peer.mqtt.len() < 1000 && peer.answer.len() < 10_000);
    }
}
