//! Everything that can happen in a closed world.

use std::{fmt, str::FromStr};

use arbitrary::Arbitrary;

/// One thing that happens. Numbers beyond what there is mean what they mean modulo its count, so
/// that any sequence of operations is a run; one that is impossible at its moment does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Arbitrary)]
#[allow(missing_docs, reason = "the fields are indices of what their names say")]
pub enum Op {
    /// A client opens a connection and sends CONNECT. If it has one, that one stays behind
    /// half-open: the session is taken over.
    Connect { client: u8, clean: bool, door: u8 },
    /// A client's end of its connection is gone, without a word.
    Drop { client: u8 },
    /// A client says DISCONNECT, with 0x00 or with 0x04, and closes.
    Goodbye { client: u8, with_will: bool },
    /// A client publishes one of its letters.
    Publish { client: u8, letter: u8 },
    /// A client subscribes to one of its wishes.
    Subscribe { client: u8, wish: u8 },
    /// A client unsubscribes from one of its wishes.
    Unsubscribe { client: u8, wish: u8 },
    /// A client sends one of the acknowledgements that it owes.
    Ack { client: u8, nth: u8 },
    /// A client answers the oldest PUBLISH that it has not acknowledged with an error (5.0).
    Refuse { client: u8 },
    /// A client breaks a rule.
    Violate { client: u8, how: u8 },
    /// The broker reads the next packet of a connection.
    Up { link: u8 },
    /// A client reads the next packet of its connection.
    Down { link: u8 },
    /// The broker notices that a client's end is gone. What it has not read is lost.
    HangUp { link: u8 },
    /// A message between two shards arrives.
    Tell { mail: u8 },
    /// A shard's log is durable so many records further; 0 is all of them.
    Persist { shard: u8, records: u8 },
    /// The oldest question of a shard about what is on its disk only is answered.
    Load { shard: u8 },
    /// A shard is called because its time has come or work is left.
    Tick { shard: u8 },
    /// Time passes until the next deadline of any shard.
    Advance,
    /// The broker dies and comes back; of each shard's records that are not durable, so many
    /// survive all the same.
    Crash { survive: u8 },
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Connect { client, clean, door } => {
                write!(f, "connect {client} {} {door}", u8::from(clean))
            }
            Self::Drop { client } => write!(f, "drop {client}"),
            Self::Goodbye { client, with_will } => {
                write!(f, "goodbye {client} {}", u8::from(with_will))
            }
            Self::Publish { client, letter } => write!(f, "publish {client} {letter}"),
            Self::Subscribe { client, wish } => write!(f, "subscribe {client} {wish}"),
            Self::Unsubscribe { client, wish } => write!(f, "unsubscribe {client} {wish}"),
            Self::Ack { client, nth } => write!(f, "ack {client} {nth}"),
            Self::Refuse { client } => write!(f, "refuse {client}"),
            Self::Violate { client, how } => write!(f, "violate {client} {how}"),
            Self::Up { link } => write!(f, "up {link}"),
            Self::Down { link } => write!(f, "down {link}"),
            Self::HangUp { link } => write!(f, "hangup {link}"),
            Self::Tell { mail } => write!(f, "tell {mail}"),
            Self::Persist { shard, records } => write!(f, "persist {shard} {records}"),
            Self::Load { shard } => write!(f, "load {shard}"),
            Self::Tick { shard } => write!(f, "tick {shard}"),
            Self::Advance => write!(f, "advance"),
            Self::Crash { survive } => write!(f, "crash {survive}"),
        }
    }
}

impl FromStr for Op {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let name = words.next().unwrap_or_default();
        let numbers: Vec<u8> =
            words.map(str::parse).collect::<Result<_, _>>().map_err(|e| format!("{text}: {e}"))?;
        Ok(match (name, &numbers[..]) {
            ("connect", &[client, clean, door]) => Self::Connect { client, clean: clean > 0, door },
            ("drop", &[client]) => Self::Drop { client },
            ("goodbye", &[client, will]) => Self::Goodbye { client, with_will: will > 0 },
            ("publish", &[client, letter]) => Self::Publish { client, letter },
            ("subscribe", &[client, wish]) => Self::Subscribe { client, wish },
            ("unsubscribe", &[client, wish]) => Self::Unsubscribe { client, wish },
            ("ack", &[client, nth]) => Self::Ack { client, nth },
            ("refuse", &[client]) => Self::Refuse { client },
            ("violate", &[client, how]) => Self::Violate { client, how },
            ("up", &[link]) => Self::Up { link },
            ("down", &[link]) => Self::Down { link },
            ("hangup", &[link]) => Self::HangUp { link },
            ("tell", &[mail]) => Self::Tell { mail },
            ("persist", &[shard, records]) => Self::Persist { shard, records },
            ("load", &[shard]) => Self::Load { shard },
            ("tick", &[shard]) => Self::Tick { shard },
            ("advance", []) => Self::Advance,
            ("crash", &[survive]) => Self::Crash { survive },
            _ => return Err(format!("{text}: no such operation")),
        })
    }
}
