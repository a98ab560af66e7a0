//! What can be wrong with bytes, one variant for each rule.

use crate::ReasonCode;

/// A rule that received bytes broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DecodeError {
    /// Placeholder until the decoder is here.
    Placeholder,
}

impl DecodeError {
    /// The reason code that a 5.0 peer is told.
    pub const fn reason(self) -> ReasonCode {
        ReasonCode::MalformedPacket
    }

    /// The statement that was broken, as `MQTT-3.1.2-3` or `U5-2.1.2-a`.
    pub const fn rule(self) -> &'static str {
        ""
    }
}

impl core::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("")
    }
}

impl core::error::Error for DecodeError {}

/// Why a message cannot be laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EncodeError {
    /// The topic is longer than 65,535 bytes.
    TopicTooLong,
    /// A string or data in a property is longer than 65,535 bytes.
    ValueTooLong,
    /// A property that may not travel with a message.
    PropertyNotAllowed,
    /// A property that may occur once occurs twice.
    PropertyRepeated,
    /// Topic, properties and payload together are more than one packet holds, 268,435,455 bytes.
    MessageTooLarge,
}

impl core::fmt::Display for EncodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::TopicTooLong => "the topic is longer than 65,535 bytes",
            Self::ValueTooLong => "a value in a property is longer than 65,535 bytes",
            Self::PropertyNotAllowed => "a property that does not travel with a message",
            Self::PropertyRepeated => "a property that may occur only once is repeated",
            Self::MessageTooLarge => "the message does not fit a packet of 268,435,455 bytes",
        })
    }
}

impl core::error::Error for EncodeError {}
