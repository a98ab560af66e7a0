//! What a closed world consists of: the broker's limits, its clients, and how much may happen.

use codec::{ProtocolVersion, QoS, RetainHandling};
use session_core::{Limits, QueueFull};

use super::Op;

/// A closed world before its first step. Narrow ones are explored exhaustively, wide ones at
/// random.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Shards of the broker.
    pub shards: u16,
    /// Shards of the broker after its first crash, its second and so on; the last one stays, and
    /// none changes nothing.
    pub shards_later: Vec<u16>,
    /// Shards that accept connections; a connection whose session lives elsewhere is handed over.
    pub doors: Vec<u16>,
    /// Whether the broker keeps a log, so that crashes lose nothing that it acknowledged.
    pub durable: bool,
    /// The disk is a simulated one that fails as disks do, with faults drawn from this seed; otherwise it
    /// loses whole calls of a shard and nothing else.
    pub paper: Option<u64>,
    /// The broker's limits.
    pub limits: Limits,
    /// Bytes that a socket takes before its client has to read.
    pub credit: u32,
    /// Names that are published to.
    pub topics: Vec<&'static str>,
    /// Everybody who connects.
    pub clients: Vec<Persona>,
    /// What is published.
    pub publications: Vec<Letter>,
    /// What has happened before the world begins; each step settles.
    pub prelude: Vec<Op>,
    /// How much may happen.
    pub budget: Budget,
}

/// A client's habits.
#[derive(Clone, Debug)]
pub struct Persona {
    /// Client Identifier.
    pub id: &'static str,
    /// Protocol version.
    pub version: ProtocolVersion,
    /// Whether it asks for a clean start: never, always, or now and then.
    pub clean: Clean,
    /// Session Expiry Interval, seconds; versions before 5.0 have 0 or for ever by `clean`.
    pub expiry_s: u32,
    /// Receive Maximum.
    pub receive_maximum: u16,
    /// The Will of each of its connections.
    pub will: Option<WillPlan>,
    /// What it subscribes to.
    pub wishes: Vec<Wish>,
    /// It acknowledges when it likes instead of at once.
    pub lazy: bool,
    /// Indices of the publications that it may make.
    pub letters: Vec<usize>,
}

/// When a client asks for a clean start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Clean {
    Never,
    Always,
    Sometimes,
}

/// A Will.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub struct WillPlan {
    pub topic: usize,
    pub qos: QoS,
    pub retain: bool,
    pub delay_s: u32,
}

/// A subscription that a client may make. The filter may be `$share/group/filter`.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub struct Wish {
    pub filter: &'static str,
    pub qos: QoS,
    pub handling: RetainHandling,
}

/// A message that a client may publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Letter {
    /// Index of its topic.
    pub topic: usize,
    /// QoS.
    pub qos: QoS,
    /// RETAIN.
    pub retain: bool,
    /// The payload is empty, which removes a retained message; only for `retain`.
    pub empty: bool,
    /// Message Expiry Interval, seconds.
    pub expiry_s: Option<u32>,
}

/// How often each kind of thing may still happen; what is not here may always happen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are those of the operations")]
pub struct Budget {
    pub publishes: u32,
    pub subscribes: u32,
    pub unsubscribes: u32,
    pub drops: u32,
    pub take_overs: u32,
    pub goodbyes: u32,
    pub crashes: u32,
    pub advances: u32,
    pub refusals: u32,
    pub violations: u32,
}

impl Budget {
    /// Everything may happen as often as it likes.
    pub const UNBOUNDED: Self = Self {
        publishes: u32::MAX,
        subscribes: u32::MAX,
        unsubscribes: u32::MAX,
        drops: u32::MAX,
        take_overs: u32::MAX,
        goodbyes: u32::MAX,
        crashes: u32::MAX,
        advances: u32::MAX,
        refusals: u32::MAX,
        violations: u32::MAX,
    };
}

impl Persona {
    /// A 5.0 client whose session never ends.
    pub fn new(id: &'static str) -> Self {
        Self {
            id,
            version: ProtocolVersion::V5,
            clean: Clean::Never,
            expiry_s: u32::MAX,
            receive_maximum: u16::MAX,
            will: None,
            wishes: Vec::new(),
            lazy: false,
            letters: Vec::new(),
        }
    }

    /// Its subscriptions, shared ones too, whose filters match a topic.
    pub fn wishes_for(&self, topic: &str) -> impl Iterator<Item = &Wish> {
        self.wishes.iter().filter(move |wish| matches(wish.parts().1, topic))
    }

    /// How many messages may await its acknowledgement: only 5.0 can tell.
    pub fn window(&self) -> u16 {
        if self.version == ProtocolVersion::V5 { self.receive_maximum } else { u16::MAX }
    }

    /// Seconds that its session outlives its connection.
    pub fn session_s(&self, clean: bool) -> u32 {
        match self.version {
            ProtocolVersion::V5 => self.expiry_s,
            _ if clean => 0,
            _ => u32::MAX,
        }
    }
}

impl Wish {
    /// A plain wish at this QoS.
    pub const fn new(filter: &'static str, qos: QoS) -> Self {
        Self { filter, qos, handling: RetainHandling::Send }
    }

    /// The Shared Subscription, if it is one, and the filter proper. A share name together with a
    /// filter makes a Shared Subscription: the same name with another filter is another one.
    pub fn parts(&self) -> (Option<&'static str>, &'static str) {
        match self.filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/')) {
            Some((_, filter)) => (Some(self.filter), filter),
            None => (None, self.filter),
        }
    }
}

impl Letter {
    /// A plain message.
    pub const fn new(topic: usize, qos: QoS) -> Self {
        Self { topic, qos, retain: false, empty: false, expiry_s: None }
    }

    /// A retained message.
    pub const fn retained(topic: usize, qos: QoS) -> Self {
        Self { topic, qos, retain: true, empty: false, expiry_s: None }
    }
}

impl Setup {
    /// One shard in memory, nobody there.
    pub fn new() -> Self {
        let mut limits = Limits { packet_id_max: 8, ..Limits::default() };
        limits.session_queue_full = QueueFull::DropOldest;
        Self {
            shards: 1,
            shards_later: Vec::new(),
            doors: vec![0],
            durable: false,
            paper: None,
            limits,
            credit: 1 << 20,
            topics: vec!["t"],
            clients: Vec::new(),
            publications: Vec::new(),
            prelude: Vec::new(),
            budget: Budget::default(),
        }
    }
}

impl Setup {
    /// Shards of the broker after so many crashes.
    pub fn shards_after(&self, crashes: usize) -> u16 {
        let later = self.shards_later.len().min(crashes).checked_sub(1);
        later.map_or(self.shards, |at| self.shards_later[at])
    }
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether a Topic Filter matches a Topic Name `[MQTT-4.7.1-2]` `[MQTT-4.7.2-1]`: written from
/// the standard, level by level, and shared with no code of the broker.
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let (mut filter, mut topic) = (filter.split('/'), topic.split('/'));
    loop {
        match (filter.next(), topic.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(level), Some(name)) if level == name => {}
            _ => return false,
        }
    }
}
