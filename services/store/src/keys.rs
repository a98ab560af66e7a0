//! The names of rows.
//!
//! The first byte tells the kind. What belongs to a session stands under its number, which is given
//! once and never again: a session that ended can be swept away later, and one that comes meanwhile is
//! not confused with it. Numbers are not bound to a shard, so that a session's rows stay where they are
//! when the number of shards changes.

use codec::PacketId;
use session_core::{MsgId, ShardId};

use crate::wire::{Reader, Write};

/// Names a session in the store; given once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Sid(pub(crate) u64);

/// Kinds of rows.
pub(crate) mod kind {
    /// Facts about the store itself.
    pub(crate) const META: u8 = 1;
    /// Who a session is.
    pub(crate) const IDENTITY: u8 = 2;
    /// How long a session lasts.
    pub(crate) const LIFETIME: u8 = 3;
    /// A session's Will.
    pub(crate) const WILL: u8 = 4;
    /// A subscription, by its filter.
    pub(crate) const SUBSCRIPTION: u8 = 5;
    /// An outbound exchange, by its Packet Identifier.
    pub(crate) const EXCHANGE: u8 = 6;
    /// A message for a session, by its place: it waits, or is in an exchange.
    pub(crate) const QUEUED: u8 = 7;
    /// A publication that a session has and that may come again.
    pub(crate) const SEEN: u8 = 8;
    /// A QoS 2 message of a client, by its Packet Identifier.
    pub(crate) const HELD: u8 = 9;
    /// A publication that a shard owes, by its name.
    pub(crate) const OUTGOING: u8 = 10;
    /// The last name that a shard gave.
    pub(crate) const NUMBERED: u8 = 11;
    /// A retained message, by its topic.
    pub(crate) const RETAINED: u8 = 12;
    /// A session that ended and whose rows are not all gone.
    pub(crate) const ENDING: u8 = 13;

    /// A message that several sessions wait for, by its number.
    pub(crate) const BODY: u8 = 14;
    /// How many rows refer to such a message.
    pub(crate) const COUNT: u8 = 15;

    /// The kinds of rows that a session may have many of: what is swept away after its end.
    pub(crate) const MANY: [u8; 5] = [SUBSCRIPTION, EXCHANGE, QUEUED, SEEN, HELD];
}

/// The number of shards, and how many levels of a topic decide its owner.
pub(crate) const MAP: [u8; 2] = [kind::META, 1];
/// Numbers of sessions and bodies below this one may have been given.
pub(crate) const NEXT_NUMBER: [u8; 2] = [kind::META, 2];
/// What follows the part of the log that is in the tables.
pub(crate) const CHECKPOINT: [u8; 2] = [kind::META, 3];

/// A row that a session has one of, or the beginning of the rows that it has many of.
pub(crate) fn of(kind: u8, sid: Sid) -> Vec<u8> {
    longer(kind, sid, 0)
}

/// The beginning of a key, with room for exactly so many more bytes: what is kept is never too large.
fn longer(kind: u8, sid: Sid, more: usize) -> Vec<u8> {
    let mut key = Vec::with_capacity(more.saturating_add(9));
    key.u8(kind);
    key.u64(sid.0);
    key
}

pub(crate) fn subscription(sid: Sid, filter: &str) -> Vec<u8> {
    let mut key = longer(kind::SUBSCRIPTION, sid, filter.len());
    key.extend_from_slice(filter.as_bytes());
    key
}

pub(crate) fn exchange(sid: Sid, packet_id: PacketId) -> Vec<u8> {
    let mut key = longer(kind::EXCHANGE, sid, 2);
    key.u16(packet_id.get());
    key
}

pub(crate) fn queued(sid: Sid, number: u64) -> Vec<u8> {
    let mut key = longer(kind::QUEUED, sid, 8);
    key.u64(number);
    key
}

pub(crate) fn seen(sid: Sid, message: MsgId) -> Vec<u8> {
    let mut key = longer(kind::SEEN, sid, 14);
    put_message(&mut key, message);
    key
}

pub(crate) fn held(sid: Sid, packet_id: PacketId) -> Vec<u8> {
    let mut key = longer(kind::HELD, sid, 2);
    key.u16(packet_id.get());
    key
}

pub(crate) fn outgoing(shard: ShardId, message: MsgId) -> Vec<u8> {
    let mut key = Vec::with_capacity(17);
    key.u8(kind::OUTGOING);
    key.u16(shard.0);
    put_message(&mut key, message);
    key
}

pub(crate) fn numbered(shard: ShardId) -> Vec<u8> {
    let mut key = vec![kind::NUMBERED];
    key.u16(shard.0);
    key
}

/// A message that several sessions wait for.
pub(crate) fn body(number: u64) -> Vec<u8> {
    of(kind::BODY, Sid(number))
}

/// How many rows refer to it.
pub(crate) fn count(number: u64) -> Vec<u8> {
    of(kind::COUNT, Sid(number))
}

pub(crate) fn retained(topic: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(topic.len().saturating_add(1));
    key.u8(kind::RETAINED);
    key.extend_from_slice(topic);
    key
}

fn put_message(key: &mut Vec<u8>, message: MsgId) {
    key.u32(message.epoch);
    key.u16(message.shard.0);
    key.u64(message.number);
}

/// The name of a publication at the end of a key.
pub(crate) fn message(rest: &mut Reader<'_>) -> Option<MsgId> {
    let message = MsgId { epoch: rest.u32()?, shard: ShardId(rest.u16()?), number: rest.u64()? };
    rest.is_at_end().then_some(message)
}

/// The Packet Identifier at the end of a key.
pub(crate) fn packet_id(rest: &mut Reader<'_>) -> Option<PacketId> {
    let id = PacketId::new(rest.u16()?)?;
    rest.is_at_end().then_some(id)
}

/// The smallest key that does not begin so: the end of a range.
pub(crate) fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            break;
        }
    }
    end
}

/// A key in words, for reports.
pub(crate) fn describe(key: &[u8]) -> String {
    let mut rest = Reader(key);
    let kind = rest.u8().unwrap_or(0);
    let name = match kind {
        kind::META => return "a fact about the store".into(),
        kind::OUTGOING => return "a publication that a shard owes".into(),
        kind::NUMBERED => return "the last name that a shard gave".into(),
        kind::BODY | kind::COUNT => return "a message that several sessions wait for".into(),
        kind::RETAINED => {
            return format!("the retained message of {:?}", String::from_utf8_lossy(rest.rest()));
        }
        kind::IDENTITY => "the identity",
        kind::LIFETIME => "the expiry",
        kind::WILL => "the Will",
        kind::SUBSCRIPTION => "a subscription",
        kind::EXCHANGE => "an exchange",
        kind::QUEUED => "a message",
        kind::SEEN => "what was seen",
        kind::HELD => "a QoS 2 message",
        kind::ENDING => "the end",
        _ => return format!("{} bytes of no known kind", key.len()),
    };
    let Some(sid) = rest.u64() else { return format!("{name} of sessions") };
    let which = match kind {
        kind::SUBSCRIPTION => format!(" to {:?}", String::from_utf8_lossy(rest.rest())),
        kind::EXCHANGE | kind::HELD => {
            rest.u16().map_or_else(String::new, |id| format!(" with identifier {id}"))
        }
        kind::QUEUED => rest.u64().map_or_else(String::new, |place| format!(" at place {place}")),
        _ => String::new(),
    };
    format!("{name} of session {sid}{which}")
}
