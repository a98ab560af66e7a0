//! What a client saw, in words that are the same for every broker: a Packet Identifier is named by
//! what it stands for, an alias by its topic, and what the standard leaves to the broker is gone.

use std::fmt;

use codec::{PacketType, QoS};

/// What happened on all links in each step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// Step by step, in the order of arrival.
    pub steps: Vec<Vec<Seen>>,
}

/// One thing that came on one link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The link's number: the number of CONNECTs before its own.
    pub link: usize,
    /// What came.
    pub event: Event,
}

/// What can come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// CONNACK.
    ConnAck {
        /// Session Present.
        present: bool,
        /// Reason Code.
        code: u8,
        /// Properties that restrict the client.
        properties: Vec<String>,
    },
    /// PUBLISH.
    Publish(Delivery),
    /// A packet that names an exchange.
    Answer {
        /// PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK or UNSUBACK.
        packet: PacketType,
        /// What its Packet Identifier stands for.
        of: String,
        /// The topic, of a message.
        topic: String,
        /// Reason Codes; 0x10 of a PUBACK or PUBREC is 0.
        codes: Vec<u8>,
    },
    /// DISCONNECT with its Reason Code.
    Disconnect(u8),
    /// The broker closed the connection.
    Closed,
    /// Something that no broker may do.
    Broken(String),
}

/// A copy of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The label of the message; `None` if it is none of the script's.
    pub label: Option<u32>,
    /// The topic, without the root.
    pub topic: String,
    /// The QoS with which it was published; 0 if it has no label.
    pub published: QoS,
    /// QoS of the packet.
    pub qos: QoS,
    /// RETAIN.
    pub retain: bool,
    /// DUP.
    pub dup: bool,
    /// Its identifier is in use for the same message already.
    pub again: bool,
    /// Subscription Identifiers, sorted.
    pub identifiers: Vec<u32>,
    /// All other properties, sorted but for the User Properties.
    pub properties: Vec<String>,
    /// The payload if there is no label.
    pub payload: Option<Vec<u8>>,
}

/// What has an order within a step: messages of one topic that were published with one QoS
/// `[MQTT-4.6.0-5]`, and packets of one type about messages of one topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// CONNACK.
    ConnAck,
    /// Messages with this topic and published QoS.
    Messages(String, QoS),
    /// Packets of this type, about messages with this topic.
    Answers(PacketType, String),
    /// DISCONNECT.
    Disconnect,
    /// The end.
    Closed,
    /// What is wrong in itself.
    Broken,
}

impl Event {
    /// What is broken when there are more unacknowledged messages than the client takes.
    pub const ABOVE_RECEIVE_MAXIMUM: &str = "above Receive Maximum [MQTT-3.3.4-9]";

    /// The label of a message.
    pub fn label(&self) -> Option<u32> {
        match self {
            Self::Publish(delivery) => delivery.label,
            _ => None,
        }
    }

    /// Where it stands in an order.
    pub fn lane(&self) -> Lane {
        match self {
            Self::ConnAck { .. } => Lane::ConnAck,
            Self::Answer { packet, topic, .. } => Lane::Answers(*packet, topic.clone()),
            Self::Publish(delivery) => Lane::Messages(delivery.topic.clone(), delivery.published),
            Self::Disconnect(_) => Lane::Disconnect,
            Self::Closed => Lane::Closed,
            Self::Broken(_) => Lane::Broken,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnAck { present, code, properties } => {
                write!(
                    f,
                    "CONNACK 0x{code:02X}{}",
                    if *present { " session_present" } else { "" }
                )?;
                properties.iter().try_for_each(|property| write!(f, " {property}"))
            }
            Self::Publish(delivery) => delivery.fmt(f),
            Self::Answer { packet, of, codes, .. } => {
                write!(f, "{packet} {of}")?;
                codes.iter().try_for_each(|code| write!(f, " 0x{code:02X}"))
            }
            Self::Disconnect(code) => write!(f, "DISCONNECT 0x{code:02X}"),
            Self::Closed => f.write_str("closed"),
            Self::Broken(why) => write!(f, "broken: {why}"),
        }
    }
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PUBLISH ")?;
        match self.label {
            Some(label) => write!(f, "m{label}")?,
            None => write!(f, "{:02X?}", self.payload.as_deref().unwrap_or_default())?,
        }
        write!(f, " {} qos={}", self.topic, self.qos as u8)?;
        for (is, name) in [(self.retain, "retain"), (self.dup, "dup"), (self.again, "again")] {
            write!(f, "{}{}", if is { " " } else { "" }, if is { name } else { "" })?;
        }
        self.identifiers.iter().try_for_each(|id| write!(f, " identifier={id}"))?;
        self.properties.iter().try_for_each(|property| write!(f, " {property}"))
    }
}
