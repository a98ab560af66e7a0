//! What a script says: which client does what, in order.

use std::fmt;

use codec::{Properties, ProtocolVersion, QoS, ReasonCode, SubscribeFilter};

/// Operations of a few clients, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// What it was drawn from.
    pub seed: u64,
    /// How many clients there are.
    pub clients: usize,
    /// What happens.
    pub ops: Vec<Op>,
}

/// One client does one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// Which client.
    pub client: usize,
    /// What it does.
    pub act: Act,
}

/// What a client can do. Topics and filters are as in the script; the player puts a root before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// CONNECT on a new connection; it takes over if the client has one.
    Connect(Hello),
    /// DISCONNECT with this reason, and with a new Session Expiry Interval if there is one.
    Goodbye(ReasonCode, Option<u32>),
    /// The connection is closed without a word.
    Vanish,
    /// SUBSCRIBE.
    Subscribe {
        /// Filters with their options.
        filters: Vec<SubscribeFilter>,
        /// Subscription Identifier.
        identifier: Option<u32>,
    },
    /// UNSUBSCRIBE.
    Unsubscribe(Vec<String>),
    /// PUBLISH.
    Publish {
        /// The message.
        message: Publication,
        /// Whether its topic goes as a Topic Alias.
        alias: Alias,
        /// The connection is closed at once, and the answer is never seen.
        vanish: bool,
    },
    /// From here on it answers no PUBLISH, PUBREC and PUBREL.
    Hold,
    /// It answers what it held back, in order; only what came first, and together, if `oldest`.
    Acknowledge {
        /// Only the oldest.
        oldest: bool,
    },
    /// It answers what it held back, and refuses the messages in it with 0x83 (5.0).
    Refuse,
    /// It answers what it held back, and from here on everything at once.
    Prompt,
}

/// What a CONNECT says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The version; those before 5.0 have no properties.
    pub version: ProtocolVersion,
    /// Clean Start, or Clean Session.
    pub clean: bool,
    /// Session Expiry Interval, Receive Maximum and so on.
    pub properties: Properties,
    /// The Will, with a delay of 0.
    pub will: Option<Publication>,
}

/// A message that a client, or the broker for it, publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Its number, which no other message of the script has. The payload says it.
    pub label: u32,
    /// Topic Name.
    pub topic: String,
    /// QoS.
    pub qos: QoS,
    /// RETAIN.
    pub retain: bool,
    /// It has no payload; one at most of each topic.
    pub empty: bool,
    /// Its properties (5.0), without Topic Alias.
    pub properties: Properties,
}

/// How a PUBLISH uses a Topic Alias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alias {
    /// It has none.
    None,
    /// It explains one.
    Explains(u16),
    /// It has one that was explained, and no topic.
    Uses(u16),
}

impl Publication {
    /// The payload: the label, so that every copy says whose it is.
    pub fn payload(&self) -> Vec<u8> {
        if self.empty { Vec::new() } else { format!("m{}", self.label).into_bytes() }
    }
}

impl Op {
    /// The message that it publishes or gives as a Will.
    pub fn publication(&self) -> Option<&Publication> {
        match &self.act {
            Act::Publish { message, .. } => Some(message),
            Act::Connect(hello) => hello.will.as_ref(),
            _ => None,
        }
    }
}

impl Script {
    /// The message with this label.
    pub fn publication(&self, label: u32) -> Option<&Publication> {
        self.publications().find(|message| message.label == label)
    }

    /// The message without a payload on this topic: there is one at most, so that it needs no label.
    pub fn empty_on(&self, topic: &str) -> Option<&Publication> {
        self.publications().find(|message| message.empty && message.topic == topic)
    }

    /// Every message, and every Will.
    pub fn publications(&self) -> impl Iterator<Item = &Publication> {
        self.ops.iter().filter_map(Op::publication)
    }

    /// Whose the links are, which CONNECTs number.
    pub fn owners(&self) -> Vec<usize> {
        let connects = self.ops.iter().filter(|op| matches!(op.act, Act::Connect(_)));
        connects.map(|op| op.client).collect()
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{} {}", self.client, self.act)
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(hello) => hello.fmt(f),
            Self::Goodbye(reason, None) => write!(f, "DISCONNECT 0x{:02X}", reason.code()),
            Self::Goodbye(reason, Some(expiry_s)) => {
                write!(f, "DISCONNECT 0x{:02X} session_expiry={expiry_s}", reason.code())
            }
            Self::Vanish => f.write_str("closes the connection"),
            Self::Subscribe { filters, identifier } => {
                f.write_str("SUBSCRIBE")?;
                for SubscribeFilter { filter, options } in filters {
                    write!(f, " {filter} qos={}", options.qos as u8)?;
                    for (is, name) in [
                        (options.no_local, "no_local"),
                        (options.retain_as_published, "retain_as_published"),
                    ] {
                        write!(f, "{}", if is { format!(" {name}") } else { String::new() })?;
                    }
                    if options.retain_handling as u8 > 0 {
                        write!(f, " retain_handling={}", options.retain_handling as u8)?;
                    }
                }
                identifier.map_or(Ok(()), |id| write!(f, " identifier={id}"))
            }
            Self::Unsubscribe(filters) => write!(f, "UNSUBSCRIBE {}", filters.join(" ")),
            Self::Publish { message, alias, vanish } => {
                write!(f, "PUBLISH {message}")?;
                match alias {
                    Alias::None => {}
                    Alias::Explains(alias) => write!(f, " alias={alias}")?,
                    Alias::Uses(alias) => write!(f, " by alias={alias}")?,
                }
                f.write_str(if *vanish { ", and closes the connection" } else { "" })
            }
            Self::Hold => f.write_str("holds its answers back"),
            Self::Acknowledge { oldest: false } => f.write_str("answers what it held back"),
            Self::Acknowledge { oldest: true } => f.write_str("answers the oldest it held back"),
            Self::Refuse => f.write_str("refuses what it held back"),
            Self::Prompt => f.write_str("answers at once again"),
        }
    }
}

impl fmt::Display for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = match self.version {
            ProtocolVersion::V31 => "3.1",
            ProtocolVersion::V311 => "3.1.1",
            ProtocolVersion::V5 => "5.0",
        };
        write!(f, "CONNECT {version}{}", if self.clean { " clean" } else { "" })?;
        self.properties.iter().try_for_each(|property| write!(f, " {property:?}"))?;
        self.will.as_ref().map_or(Ok(()), |will| write!(f, " will: {will}"))
    }
}

impl fmt::Display for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m{} {} qos={}", self.label, self.topic, self.qos as u8)?;
        f.write_str(if self.retain { " retain" } else { "" })?;
        f.write_str(if self.empty { " empty" } else { "" })?;
        self.properties.iter().try_for_each(|property| write!(f, " {property:?}"))
    }
}
