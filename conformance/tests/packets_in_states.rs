//! Every packet in every state of a connection: what the broker answers, as a table that was read
//! line by line. No cell is left out, so there is no packet for which the broker has no answer.

use std::fmt::Write;

use codec::{Framer, PacketType, ReasonCode, Role};
use session_core::{
    Answer, Authentication, ConnId, Effect, Effects, Input, Origin, Principal, Shard, ShardConfig,
    ShardId, ShardMap, Ticket, Time, Transport,
};

/// How far the connection under test has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was sent.
    Opened,
    /// CONNECT was sent, and somebody outside is asked whether it is welcome.
    Authenticating,
    /// CONNACK came, nothing is under way.
    Connected,
    /// PUBLISH 1 of QoS 1 came, and is not acknowledged.
    ReceivesQoS1,
    /// PUBLISH 1 of QoS 2 came, and is not acknowledged.
    ReceivesQoS2,
    /// PUBREC 1 was sent and PUBREL 1 came.
    IsReleased,
    /// PUBLISH 1 of QoS 2 was sent and PUBREC 1 came.
    SendsQoS2,
    /// An enhanced authentication waits for the client's next step.
    Challenged,
    /// Connected by an enhanced authentication.
    Enhanced,
    /// AUTH 0x19 was sent, and somebody outside is asked.
    ReAuthenticating,
}

impl State {
    const ALL: [Self; 10] = [
        Self::Opened,
        Self::Authenticating,
        Self::Connected,
        Self::ReceivesQoS1,
        Self::ReceivesQoS2,
        Self::IsReleased,
        Self::SendsQoS2,
        Self::Challenged,
        Self::Enhanced,
        Self::ReAuthenticating,
    ];

    /// Whether an Authentication Method belongs to it, which only 5.0 has.
    fn is_enhanced(self) -> bool {
        matches!(self, Self::Challenged | Self::Enhanced | Self::ReAuthenticating)
    }
}

/// Packets by name, as they are sent in 3.1.1 and in 5.0; all identifiers are 1.
const PACKETS: [(&str, &[u8], &[u8]); 21] = [
    ("CONNECT", CONNECT_V3, CONNECT_V5),
    ("CONNACK", &[0x20, 2, 0, 0], &[0x20, 3, 0, 0, 0]),
    ("PUBLISH QoS 0", &[0x30, 4, 0, 1, b'x', b'!'], &[0x30, 5, 0, 1, b'x', 0, b'!']),
    ("PUBLISH QoS 1", &[0x32, 6, 0, 1, b'x', 0, 1, b'!'], &[0x32, 7, 0, 1, b'x', 0, 1, 0, b'!']),
    ("PUBLISH QoS 2", PUBLISH_2_V3, PUBLISH_2_V5),
    ("PUBACK", &[0x40, 2, 0, 1], &[0x40, 2, 0, 1]),
    ("PUBACK 0x83", &[0x40, 3, 0, 1, 0x83], &[0x40, 3, 0, 1, 0x83]),
    ("PUBREC", PUBREC, PUBREC),
    ("PUBREC 0x83", &[0x50, 3, 0, 1, 0x83], &[0x50, 3, 0, 1, 0x83]),
    ("PUBREL", &[0x62, 2, 0, 1], &[0x62, 2, 0, 1]),
    ("PUBCOMP", &[0x70, 2, 0, 1], &[0x70, 2, 0, 1]),
    ("SUBSCRIBE", &[0x82, 6, 0, 1, 0, 1, b'u', 0], &[0x82, 7, 0, 1, 0, 0, 1, b'u', 0]),
    ("SUBACK", &[0x90, 3, 0, 1, 0], &[0x90, 4, 0, 1, 0, 0]),
    ("UNSUBSCRIBE", &[0xA2, 5, 0, 1, 0, 1, b'u'], &[0xA2, 6, 0, 1, 0, 0, 1, b'u']),
    ("UNSUBACK", &[0xB0, 2, 0, 1], &[0xB0, 4, 0, 1, 0, 0]),
    ("PINGREQ", &[0xC0, 0], &[0xC0, 0]),
    ("PINGRESP", &[0xD0, 0], &[0xD0, 0]),
    ("DISCONNECT", &[0xE0, 0], &[0xE0, 0]),
    ("AUTH 0x18", &[0xF0, 6, 0x18, 4, 0x15, 0, 1, b'm'], &[0xF0, 6, 0x18, 4, 0x15, 0, 1, b'm']),
    ("AUTH 0x19", RE_AUTHENTICATE, RE_AUTHENTICATE),
    ("type 0", &[0x00, 0], &[0x00, 0]),
];

const CONNECT_V3: &[u8] = b"\x10\x0D\0\x04MQTT\x04\0\0\0\0\x01s";
const CONNECT_V5: &[u8] = b"\x10\x0E\0\x04MQTT\x05\0\0\0\0\0\x01s";
const CONNECT_ENHANCED: &[u8] = b"\x10\x12\0\x04MQTT\x05\0\0\0\x04\x15\0\x01m\0\x01s";
const CONNECT_OTHER: &[u8] = b"\x10\x0D\0\x04MQTT\x04\0\0\0\0\x01o";
const RE_AUTHENTICATE: &[u8] = &[0xF0, 6, 0x19, 4, 0x15, 0, 1, b'm'];
const PUBLISH_2_V3: &[u8] = &[0x34, 6, 0, 1, b'x', 0, 1, b'!'];
const PUBLISH_2_V5: &[u8] = &[0x34, 7, 0, 1, b'x', 0, 1, 0, b'!'];
const PUBREC: &[u8] = &[0x50, 2, 0, 1];
/// To `t`, where the connection under test receives.
const PUBLISH_1_OTHER: &[u8] = &[0x32, 6, 0, 1, b't', 0, 1, b'!'];
const PUBLISH_2_OTHER: &[u8] = &[0x34, 6, 0, 1, b't', 0, 1, b'!'];
const SUBSCRIBE_V3: &[u8] = &[0x82, 6, 0, 9, 0, 1, b't', 2];
const SUBSCRIBE_V5: &[u8] = &[0x82, 7, 0, 9, 0, 0, 1, b't', 2];

/// The connection under test, and another one.
const SUBJECT: usize = 0;
const OTHER: usize = 1;

/// A broker of one shard with two connections.
struct World {
    shard: Shard,
    framers: [Framer; 2],
    asked: Option<Ticket>,
    /// What the broker did for the connection under test, in words.
    done: Vec<String>,
}

impl World {
    fn new(asks: bool) -> Self {
        let map = ShardMap::new(1, 1);
        let mut config = ShardConfig::new(ShardId(0), map);
        config.authentication = if asks { Authentication::Ask } else { Authentication::Anonymous };
        let framer = || Framer::new(Role::Server, 1 << 16, 1 << 16);
        let mut world = Self {
            shard: Shard::new(config),
            framers: [framer(), framer()],
            asked: None,
            done: Vec::new(),
        };
        world.shard.start(Time(0), &mut Effects::new());
        for number in [SUBJECT, OTHER] {
            let origin = Origin {
                listener: "test".into(),
                peer: None,
                transport: Transport::Tcp,
                certificates: Vec::new(),
                server_name: None,
                proxied: None,
            };
            let conn = conn(number);
            world.input(Input::Opened { conn, origin: Box::new(origin), credit: 1 << 20 });
        }
        world
    }

    fn input(&mut self, input: Input) {
        let mut effects = Effects::new();
        self.shard.handle(Time(1), input, &mut effects);
        self.shard.check().expect("invariants");
        for effect in effects.into_iter().flat_map(Effect::each) {
            match effect {
                Effect::Send { conn: to, frame } if to == conn(SUBJECT) => {
                    let mut bytes = Vec::new();
                    frame.encode(&mut bytes);
                    let name = PacketType::from_bits(bytes[0] >> 4).expect("a packet").name();
                    // Behind these are properties, which scenarios are about.
                    let hex: Vec<_> =
                        bytes.iter().skip(1).take(4).map(|b| format!("{b:02x}")).collect();
                    self.done.push(format!("{name} {}", hex.join(" ")));
                }
                Effect::Close { conn: of, cause } if of == conn(SUBJECT) => {
                    self.done.push(format!("closed: {cause:?}"));
                }
                Effect::Ask { ticket, .. } => {
                    self.asked = Some(ticket);
                    self.done.push("asks".into());
                }
                _ => {}
            }
        }
    }

    /// A connection sends bytes.
    fn bytes(&mut self, number: usize, mut bytes: &[u8]) {
        let conn = conn(number);
        match self.framers[number].decode(&mut bytes) {
            Ok(Some(packet)) => self.input(Input::Packet { conn, packet }),
            Ok(None) => panic!("{bytes:02x?} is no whole packet"),
            Err(error) => {
                let version = self.framers[number].version();
                self.input(Input::Malformed { conn, error, version });
            }
        }
    }

    fn answer(&mut self, answer: Answer) {
        let ticket = self.asked.take().expect("the broker asked");
        self.input(Input::Answer { ticket, answer: Box::new(answer) });
    }

    /// Takes the connection under test to a state.
    fn reach(&mut self, state: State, is_v5: bool) {
        if state == State::Opened {
            return;
        }
        let connect = if is_v5 { CONNECT_V5 } else { CONNECT_V3 };
        self.bytes(SUBJECT, if state.is_enhanced() { CONNECT_ENHANCED } else { connect });
        match state {
            State::Authenticating => return,
            State::Challenged => {
                return self.answer(Answer::Continue { data: None, exchange: None });
            }
            State::Enhanced => return self.answer(welcome()),
            State::ReAuthenticating => {
                self.answer(welcome());
                return self.bytes(SUBJECT, RE_AUTHENTICATE);
            }
            State::SendsQoS2 => {
                return self.bytes(SUBJECT, if is_v5 { PUBLISH_2_V5 } else { PUBLISH_2_V3 });
            }
            _ => {}
        }
        self.bytes(OTHER, CONNECT_OTHER);
        self.bytes(SUBJECT, if is_v5 { SUBSCRIBE_V5 } else { SUBSCRIBE_V3 });
        match state {
            State::ReceivesQoS1 => self.bytes(OTHER, PUBLISH_1_OTHER),
            State::ReceivesQoS2 => self.bytes(OTHER, PUBLISH_2_OTHER),
            State::IsReleased => {
                self.bytes(OTHER, PUBLISH_2_OTHER);
                self.bytes(SUBJECT, PUBREC);
            }
            _ => {}
        }
    }
}

fn conn(number: usize) -> ConnId {
    ConnId { slot: number as u32, epoch: 0 }
}

fn welcome() -> Answer {
    let principal = Principal::default();
    Answer::Accept { principal, data: None }
}

#[test]
fn every_packet_in_every_state_has_its_answer() {
    let mut table = String::new();
    let mut cells = 0;
    for is_v5 in [false, true] {
        for state in State::ALL.into_iter().filter(|state| is_v5 || !state.is_enhanced()) {
            let version = if is_v5 { "5.0" } else { "3.1.1" };
            writeln!(table, "\n{version} {state:?}").expect("a string");
            for (name, v3, v5) in PACKETS {
                let mut world = World::new(state.is_enhanced() || state == State::Authenticating);
                world.reach(state, is_v5);
                let before = std::mem::take(&mut world.done);
                let is_open = !before.iter().any(|done| done.starts_with("closed"));
                assert!(is_open, "{state:?} is reached: {before:?}");
                world.bytes(SUBJECT, if is_v5 { v5 } else { v3 });
                let closes = world.done.iter().filter(|done| done.starts_with("closed")).count();
                let ends = world.done.last().is_some_and(|done| done.starts_with("closed"));
                assert!(closes == usize::from(ends), "closed once, and nothing comes after");
                let done = if world.done.is_empty() { "-".into() } else { world.done.join(", ") };
                writeln!(table, "  {name:<14} {done}").expect("a string");
                cells += 1;
            }
        }
    }
    assert_eq!(cells, (7 + 10) * PACKETS.len());
    insta::assert_snapshot!(table);
}

/// A refusal of the outside, at each point where it is asked, ends the connection.
#[test]
fn whoever_is_refused_is_closed() {
    for state in [State::Authenticating, State::ReAuthenticating] {
        let mut world = World::new(true);
        world.reach(state, true);
        world.done.clear();
        world.answer(Answer::Refuse { reason: ReasonCode::NotAuthorized });
        assert!(world.done.last().is_some_and(|done| done.starts_with("closed")), "{state:?}");
    }
}
