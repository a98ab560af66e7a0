//! The names of things: connections, shards, tickets, positions in the log, instants.

/// Milliseconds since the Unix epoch: the wall clock at start plus monotonic time since.
///
/// A step of the wall clock cannot hurt a deadline, and a persisted deadline still means something
/// after a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(not(feature = "model"), derive(Hash))]
pub struct Time(pub u64);

impl Time {
    /// An instant that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// The instant so many milliseconds later; stays at [`Time::NEVER`] at the end of time.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// The instant so many seconds later.
    #[must_use]
    pub const fn plus_s(self, s: u32) -> Self {
        self.plus_ms((s as u64).saturating_mul(1000))
    }

    /// Milliseconds since an earlier instant; 0 if that instant is later.
    pub const fn since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// One network connection, named by the runtime.
///
/// `slot` indexes a table: runtimes reuse small numbers. `epoch` tells successive users of a slot
/// apart; a runtime never gives the same pair to two connections of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(not(feature = "model"), derive(Hash))]
pub struct ConnId {
    /// Index into the table of connections.
    pub slot: u32,
    /// Which user of the slot.
    pub epoch: u32,
}

/// One shard of the broker; 0 to `ShardMap::shards - 1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

/// Names a question to the outside or a command from it. The answer or reply repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A position in a shard's log: the number of records committed so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(not(feature = "model"), derive(Hash))]
pub struct CommitSeq(pub u64);

/// The place of a message in the queue of its session. Places are given in order, and none twice
/// while anything remembers the first use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(not(feature = "model"), derive(Hash))]
pub struct Place {
    /// Counted from 1.
    pub number: u64,
    /// Bytes of all messages up to this one, itself included: the difference of two places tells
    /// what lies between them, wherever that is kept.
    pub end: u64,
}

impl Place {
    /// The place behind this one for a message of so many bytes.
    #[must_use]
    pub const fn next(self, bytes: u64) -> Self {
        Self { number: self.number.saturating_add(1), end: self.end.saturating_add(bytes) }
    }
}

/// Who owns what: sessions by Client Identifier, topics by their first levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ShardMap {
    shards: u16,
    topic_levels: u8,
}

impl ShardMap {
    /// A map of so many shards (at least one), in which a topic's owner is decided by so many of
    /// its first levels (at least one).
    pub const fn new(shards: u16, topic_levels: u8) -> Self {
        Self {
            shards: if shards == 0 { 1 } else { shards },
            topic_levels: if topic_levels == 0 { 1 } else { topic_levels },
        }
    }

    /// The number of shards.
    pub const fn shards(self) -> u16 {
        self.shards
    }

    /// All shards, in order.
    pub fn all(self) -> impl Iterator<Item = ShardId> {
        (0..self.shards).map(ShardId)
    }

    /// The owner of a session.
    pub fn session(self, client_id: &str) -> ShardId {
        self.pick(client_id.as_bytes())
    }

    /// The owner of a topic and of its retained message.
    pub fn topic(self, topic: &[u8]) -> ShardId {
        if self.shards == 1 {
            return ShardId(0);
        }
        let end = self.prefix_end(topic);
        self.pick(topic.get(..end).unwrap_or(topic))
    }

    /// The one owner of all topics that a filter can match; `None` if any shard may own one.
    pub fn filter(self, filter: &[u8]) -> Option<ShardId> {
        if self.shards == 1 {
            return Some(ShardId(0));
        }
        let prefix = filter.get(..self.prefix_end(filter)).unwrap_or(filter);
        if prefix.iter().any(|byte| matches!(byte, b'+' | b'#')) {
            return None;
        }
        Some(self.pick(prefix))
    }

    /// Where the deciding levels of a topic or filter end.
    fn prefix_end(self, topic: &[u8]) -> usize {
        topic
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'/')
            .nth(usize::from(self.topic_levels).saturating_sub(1))
            .map_or(topic.len(), |(index, _)| index)
    }

    fn pick(self, key: &[u8]) -> ShardId {
        let shard = hash(key).checked_rem(u64::from(self.shards)).unwrap_or(0);
        ShardId(u16::try_from(shard).unwrap_or(0))
    }
}

/// FNV-1a with a final mix; the same on every machine, since it decides where data lives.
pub(crate) fn hash(key: &[u8]) -> u64 {
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash ^ (hash >> 32)
}
