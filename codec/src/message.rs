//! An Application Message, laid out once and shared by everyone who gets it.

use alloc::sync::Arc;

use crate::{EncodeError, Properties};

/// Topic Name, properties and payload in one allocation, in the form that goes to the wire.
///
/// Cloning counts a reference. The properties are those that travel with the message
/// (Payload Format Indicator, Message Expiry Interval, Content Type, Response Topic, Correlation
/// Data, User Property; in a client's hands also Subscription Identifier), never Topic Alias.
/// A version before 5.0 is served from the same layout by leaving the properties out.
///
/// Layout: `properties length: u32 | offset of the expiry value or 0: u32 | topic length: u16 |
/// topic | properties | payload`, integers big-endian.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Message(Arc<[u8]>);

impl Message {
    /// Lays a message out.
    ///
    /// # Errors
    /// The topic is longer than 65,535 bytes, or a property may not travel with a message.
    pub fn new(topic: &str, properties: &Properties, payload: &[u8]) -> Result<Self, EncodeError> {
        let _ = (topic, properties, payload);
        unimplemented!()
    }

    /// The Topic Name's bytes, which are valid UTF-8.
    pub fn topic(&self) -> &[u8] {
        unimplemented!()
    }

    /// The Topic Name.
    pub fn topic_str(&self) -> &str {
        unimplemented!()
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        unimplemented!()
    }

    /// The properties, parsed anew; for tools and tests rather than for the path of a message.
    pub fn properties(&self) -> Properties {
        unimplemented!()
    }

    /// Message Expiry Interval as received, in seconds.
    pub fn expiry_interval_s(&self) -> Option<u32> {
        unimplemented!()
    }

    /// The same message under another Topic Name (a resolved Topic Alias).
    #[must_use]
    pub fn with_topic(&self, topic: &[u8]) -> Self {
        let _ = topic;
        unimplemented!()
    }

    /// Bytes of memory the layout takes.
    pub fn size(&self) -> usize {
        self.0.len()
    }
}

impl core::fmt::Debug for Message {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Message").field("topic", &self.topic_str()).finish_non_exhaustive()
    }
}
