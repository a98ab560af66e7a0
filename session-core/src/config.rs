//! What an operator decides: features, limits and where authentication comes from.

use alloc::{boxed::Box, sync::Arc};

use codec::QoS;

use crate::{ClientLimits, ShardId, ShardMap};

/// The configuration of one shard. All shards of a broker differ only in `id`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShardConfig {
    /// Which shard this is.
    pub id: ShardId,
    /// Who owns what.
    pub map: ShardMap,
    /// Distinguishes assigned Client Identifiers of this run from those of earlier ones; the
    /// runtime draws it at random.
    pub instance: u64,
    /// Whether durable changes are handed to a log ([`Effect::Persist`](crate::Effect::Persist))
    /// and what depends on them waits for it.
    pub durable: bool,
    /// Who decides whether a client may connect.
    pub authentication: Authentication,
    /// What happens to a client before 5.0 that publishes what it may not.
    pub denied_publish_v3: DeniedPublish,
    /// What is switched on.
    pub features: Features,
    /// What is bounded.
    pub limits: Limits,
}

impl ShardConfig {
    /// The defaults for one of the shards of a map.
    pub fn new(id: ShardId, map: ShardMap) -> Self {
        Self {
            id,
            map,
            instance: 0,
            durable: false,
            authentication: Authentication::Anonymous,
            denied_publish_v3: DeniedPublish::Acknowledge,
            features: Features::default(),
            limits: Limits::default(),
        }
    }
}

impl ShardConfig {
    /// What may change while the broker runs.
    pub fn settings(&self) -> Settings {
        Settings {
            authentication: self.authentication,
            denied_publish_v3: self.denied_publish_v3,
            features: self.features.clone(),
            limits: self.limits.clone(),
        }
    }
}

/// The part of [`ShardConfig`] that may change while the broker runs
/// ([`Command::Reconfigure`](crate::Command::Reconfigure)).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// Who decides whether a client may connect. Once somebody is asked, whoever was let in
    /// without a question has to come again.
    pub authentication: Authentication,
    /// What happens to a client before 5.0 that publishes what it may not.
    pub denied_publish_v3: DeniedPublish,
    /// What is switched on.
    pub features: Features,
    /// What is bounded.
    pub limits: Limits,
}

/// Who decides whether a client may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Authentication {
    /// Everybody may; user names and passwords are not looked at.
    Anonymous,
    /// Whoever answers [`Request::Authenticate`](crate::Request::Authenticate).
    Ask,
}

/// What happens to a client before 5.0 that publishes what it may not: it cannot be told. One of 5.0 gets 0x87, and
/// stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DeniedPublish {
    /// The message is acknowledged and dropped `[MQTT-3.3.5-2 of 3.1.1]`.
    #[default]
    Acknowledge,
    /// The connection is closed.
    Disconnect,
}

/// What a server may switch off or add; announced in CONNACK.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Features {
    /// The highest QoS of a PUBLISH or Will that is taken.
    pub maximum_qos: QoS,
    /// Whether retained messages exist.
    pub retain: bool,
    /// Whether filters may hold wildcards.
    pub wildcard_subscriptions: bool,
    /// Whether Subscription Identifiers are taken.
    pub subscription_identifiers: bool,
    /// Whether Shared Subscriptions are taken.
    pub shared_subscriptions: bool,
    /// Response Information is this prefix followed by the Client Identifier; `None` sends none.
    pub response_topic_prefix: Option<Box<str>>,
}

impl Default for Features {
    fn default() -> Self {
        Self {
            maximum_qos: QoS::ExactlyOnce,
            retain: true,
            wildcard_subscriptions: true,
            subscription_identifiers: true,
            shared_subscriptions: true,
            response_topic_prefix: None,
        }
    }
}

/// What happens to a QoS 1 or 2 message for a session whose queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QueueFull {
    /// The oldest queued message makes room; counted and reported.
    DropOldest,
    /// The message is not taken: the publisher gets 0x97 (5.0) or no acknowledgement.
    Reject,
}

/// Every limit, named with its unit and its bound. All hold for one shard or less, so that no
/// limit needs a lock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// From the opening of a connection to its CONNECT, milliseconds.
    pub connect_timeout_ms: u64,
    /// From a question to its answer, milliseconds; then it counts as refused.
    pub ask_timeout_ms: u64,
    /// How long a client of 5.0 whose token has lapsed may go on until it has proved itself anew by AUTH, milliseconds; 0
    /// ends its connection at once.
    pub reauthenticate_grace_ms: u64,
    /// Connections of one shard; beyond it CONNECT is answered with 0x97 (3: Server unavailable).
    pub connections_max: u32,
    /// Sessions of one shard; beyond it a new session is refused with 0x97.
    pub sessions_max: u32,
    /// Bytes of a Client Identifier; beyond it CONNECT is refused with 0x85 (2).
    pub client_id_bytes_max: u16,
    /// Bytes of the CONNECT packet, judged by the framer before anything is known of the sender.
    pub connect_packet_bytes_max: u32,
    /// Bytes of any later packet; announced as Maximum Packet Size, 0x95 beyond it.
    pub packet_bytes_max: u32,
    /// Keep Alive, seconds; a longer or absent one is replaced by Server Keep Alive (5.0).
    /// 0 leaves the client's choice alone.
    pub keep_alive_s_max: u16,
    /// Session Expiry Interval, seconds; a longer one is cut, and CONNACK says so.
    pub session_expiry_s_max: u32,
    /// Unacknowledged QoS 1 and 2 messages from one client; announced as Receive Maximum.
    pub receive_maximum: u16,
    /// Unacknowledged QoS 1 and 2 messages to one client, if its own Receive Maximum is not lower.
    pub send_window_max: u16,
    /// The highest Packet Identifier used towards clients; small values are for models. It does not
    /// change while the broker runs.
    pub packet_id_max: u16,
    /// Topic Aliases taken from one client; announced.
    pub topic_alias_maximum: u16,
    /// Topic Aliases used towards one client, if it takes as many.
    pub topic_alias_out_max: u16,
    /// Subscriptions of one session; beyond it SUBACK says 0x97.
    pub subscriptions_per_session_max: u32,
    /// Levels of a topic or filter; beyond it 0x90 or 0x8F.
    pub topic_levels_max: u16,
    /// Bytes of a topic or filter; beyond it 0x90 or 0x8F.
    pub topic_bytes_max: u16,
    /// Retained messages of one shard; beyond it a new topic is refused with 0x97.
    pub retained_max: u32,
    /// Bytes of all retained messages of one shard.
    pub retained_bytes_max: u64,
    /// Messages waiting for one session.
    pub session_queue_max: u32,
    /// Bytes of the messages waiting for one session.
    pub session_queue_bytes_max: u64,
    /// How long a message may wait for one session, seconds; then it is dropped. 0 is for ever.
    pub session_queue_age_s_max: u32,
    /// What happens beyond the first two.
    pub session_queue_full: QueueFull,
    /// Messages that wait in memory for one connected session whose queue is in the log; the rest
    /// is on disk only. A session without a connection keeps a sixteenth. At least one.
    pub session_resident_max: u32,
    /// Bytes of those messages, if it is more than one.
    pub session_resident_bytes_max: u64,
    /// Publishes of one connection that are not acknowledged yet, or of all that wait inside the
    /// shard, before a publisher is paused.
    pub publishes_in_flight_max: u32,
    /// Publishes told to one other shard that it has not worked off, before publishers are paused.
    pub link_in_flight_max: u32,
    /// Deliveries made in one call of `handle`; the rest waits for the next.
    pub deliveries_per_turn_max: u32,
    /// Keep Alive of clients before 5.0, which cannot be told another, is cut to `keep_alive_s_max` too: who is silent
    /// for longer is cut off, whatever it asked for.
    pub keep_alive_v3_cut: bool,
    /// Limits of every client that has none of its own.
    pub client: Arc<ClientLimits>,
    /// Messages and bytes from all clients together; of these, each shard has its share.
    pub all: Arc<ClientLimits>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_timeout_ms: 10_000,
            ask_timeout_ms: 10_000,
            reauthenticate_grace_ms: 5_000,
            connections_max: 1_000_000,
            sessions_max: 4_000_000,
            client_id_bytes_max: 1024,
            connect_packet_bytes_max: 64 * 1024,
            packet_bytes_max: 1024 * 1024,
            keep_alive_s_max: 0,
            session_expiry_s_max: u32::MAX,
            receive_maximum: 1024,
            send_window_max: 1024,
            packet_id_max: u16::MAX,
            topic_alias_maximum: 64,
            topic_alias_out_max: 16,
            subscriptions_per_session_max: 10_000,
            topic_levels_max: 128,
            topic_bytes_max: 8192,
            retained_max: 1_000_000,
            retained_bytes_max: 1024 * 1024 * 1024,
            session_queue_max: 10_000,
            session_queue_bytes_max: 16 * 1024 * 1024,
            session_queue_age_s_max: 0,
            session_queue_full: QueueFull::DropOldest,
            session_resident_max: 1024,
            session_resident_bytes_max: 256 * 1024,
            publishes_in_flight_max: 4096,
            link_in_flight_max: 8192,
            deliveries_per_turn_max: 10_000,
            keep_alive_v3_cut: false,
            client: Arc::default(),
            all: Arc::default(),
        }
    }
}
