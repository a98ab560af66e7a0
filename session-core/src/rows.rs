//! What an operator sees of a shard: rows, a page at a time, so that no look holds a worker up.

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use codec::{ProtocolVersion, QoS, SubscriptionOptions};

use crate::{ConnId, Subject, Time};

/// Some rows, and where the next ones begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// In no particular order.
    pub rows: Vec<T>,
    /// What to ask with for the next page; absent after the last one.
    pub next: Option<u32>,
}

/// Numbers that a shard keeps anyway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Open connections, those without CONNECT included.
    pub connections: u64,
    /// Sessions, connected or not.
    pub sessions: u64,
    /// Subscriptions of those sessions.
    pub subscriptions: u64,
    /// Retained messages of the topics owned here.
    pub retained: u64,
    /// Their bytes.
    pub retained_bytes: u64,
    /// Records that are not durable yet, and what depends on them: effects that wait.
    pub held: u64,
}

/// What waits for sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queues {
    /// Sessions with a connection.
    pub connected: u64,
    /// QoS 1 and 2 messages that wait to be sent, on disk or not.
    pub queued: u64,
    /// Their bytes.
    pub queued_bytes: u64,
    /// QoS 0 messages that wait for sockets.
    pub queued_qos0: u64,
    /// QoS 1 and 2 messages that were sent and are not acknowledged.
    pub in_flight: u64,
    /// Shared Subscriptions.
    pub shared_subscriptions: u64,
    /// The longest queues, the longest first; no more than [`Queues::LONGEST_MAX`].
    pub longest: Vec<QueueRow>,
}

/// A queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueRow {
    /// Whose.
    pub client_id: Box<str>,
    /// Messages of any QoS.
    pub queued: u64,
    /// Bytes of those of QoS 1 and 2.
    pub bytes: u64,
    /// Whether the client is there, and so is slow.
    pub connected: bool,
}

impl Queues {
    /// Queues that are told by name.
    pub const LONGEST_MAX: usize = 20;

    /// Puts a queue in its place, if it is long enough; its name is made only then.
    pub(crate) fn enter(&mut self, queued: u64, row: impl FnOnce() -> QueueRow) {
        let is_full = self.longest.len() >= Self::LONGEST_MAX;
        if queued == 0 || (is_full && self.longest.last().is_some_and(|last| last.queued >= queued))
        {
            return;
        }
        let at = self.longest.partition_point(|other| other.queued >= queued);
        self.longest.insert(at, row());
        self.longest.truncate(Self::LONGEST_MAX);
    }

    /// Adds what waits for other sessions.
    pub fn add(&mut self, other: Self) {
        self.connected = self.connected.saturating_add(other.connected);
        self.queued = self.queued.saturating_add(other.queued);
        self.queued_bytes = self.queued_bytes.saturating_add(other.queued_bytes);
        self.queued_qos0 = self.queued_qos0.saturating_add(other.queued_qos0);
        self.in_flight = self.in_flight.saturating_add(other.in_flight);
        self.shared_subscriptions =
            self.shared_subscriptions.saturating_add(other.shared_subscriptions);
        for row in other.longest {
            self.enter(row.queued, || row);
        }
    }
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// Whose.
    pub client_id: Box<str>,
    /// Its connection, if it has one.
    pub connection: Option<ConnectionRow>,
    /// Session Expiry Interval, seconds; `u32::MAX` never ends, 0 ends with the connection.
    pub expiry_s: u32,
    /// When it ends if nobody comes back.
    pub ends: Option<Time>,
    /// Subscriptions.
    pub subscriptions: u32,
    /// QoS 1 and 2 messages that wait to be sent, on disk or not.
    pub queued: u64,
    /// Their bytes.
    pub queued_bytes: u64,
    /// QoS 0 messages that wait for the socket.
    pub queued_qos0: u32,
    /// QoS 1 and 2 messages that were sent and are not acknowledged.
    pub in_flight: u32,
    /// Whether a Will is set.
    pub has_will: bool,
}

/// What a shard knows of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionRow {
    /// Its name.
    pub conn: ConnId,
    /// Protocol version.
    pub version: ProtocolVersion,
    /// Keep Alive in force, seconds; 0 is none.
    pub keep_alive_s: u16,
    /// Who it has proved to be, if anybody was asked.
    pub subject: Option<Arc<Subject>>,
    /// It does not read what it gets: messages wait for its socket.
    pub is_slow: bool,
    /// It is not read from for now, for whatever reason.
    pub is_paused: bool,
}

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionRow {
    /// Whose.
    pub client_id: Box<str>,
    /// Topic Filter, with `$share/…` if it is shared.
    pub filter: Box<str>,
    /// Options, the QoS as granted.
    pub options: SubscriptionOptions,
    /// Subscription Identifier; 0 is none.
    pub id: u32,
}

/// A retained message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetainedRow {
    /// Topic.
    pub topic: Box<str>,
    /// QoS as published.
    pub qos: QoS,
    /// Bytes of the payload.
    pub payload_bytes: u64,
    /// When the broker got it.
    pub at: Time,
    /// When it goes by itself.
    pub expires: Option<Time>,
}

/// Why a message did not get to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// The session's queue was full: its oldest message made room, or the new one was not taken.
    QueueFull,
    /// It has waited for longer than `session_queue_age_s_max`.
    Aged,
    /// The client does not read, and too many QoS 0 messages wait for its socket.
    NotRead,
    /// Its Message Expiry Interval is over.
    Expired,
    /// It is larger than the client's Maximum Packet Size.
    TooLarge,
    /// The client may not read its topic.
    Denied,
}

impl DropReason {
    /// All of them, in the order of [`DropCounts`].
    pub const ALL: [Self; 6] =
        [Self::QueueFull, Self::Aged, Self::NotRead, Self::Expired, Self::TooLarge, Self::Denied];

    /// As logs and metrics call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Aged => "aged",
            Self::NotRead => "not_read",
            Self::Expired => "expired",
            Self::TooLarge => "too_large",
            Self::Denied => "denied",
        }
    }

    /// Whether an operator should hear of it: the others are what a client has asked for.
    pub const fn is_news(self) -> bool {
        matches!(self, Self::QueueFull | Self::Aged | Self::NotRead)
    }
}

/// Dropped messages by reason, in the order of [`DropReason::ALL`].
pub type DropCounts = [u64; DropReason::ALL.len()];

/// A client that messages were dropped for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropRow {
    /// The client.
    pub client_id: Box<str>,
    /// Messages, by at most [`DropRow::over`] too many.
    pub count: u64,
    /// What other clients had lost before this one took their place in the list.
    pub over: u64,
    /// Why the last one was.
    pub reason: DropReason,
    /// When that was.
    pub last: Time,
}
