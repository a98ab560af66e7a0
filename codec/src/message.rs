//! An Application Message, laid out once and shared by everyone who gets it.

use alloc::{sync::Arc, vec::Vec};

use crate::{EncodeError, Properties, PropertyId, ProtocolVersion, decode, wire};

/// Bytes in front of the topic: two lengths of four bytes and the topic's of two.
const HEADER_LEN: usize = 10;

/// Topic Name, properties and payload in one allocation, in the form that goes to the wire.
///
/// Cloning counts a reference. The properties are those that travel with the message
/// (Payload Format Indicator, Message Expiry Interval, Content Type, Response Topic, Correlation
/// Data, User Property; in a client's hands also Subscription Identifier), never Topic Alias.
/// A version before 5.0 is served from the same layout by leaving the properties out.
///
/// Layout: `properties length: u32 | offset of the expiry value or 0: u32 | topic length: u16 |
/// topic | properties | payload`, integers big-endian, the offset counted from the first byte of
/// the properties with their identifiers (so the value is never at 0).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Message(Arc<[u8]>);

/// A message's layout, taken apart.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a> {
    /// Topic length and topic, as a PUBLISH begins.
    pub(crate) topic_field: &'a [u8],
    /// The topic alone.
    pub(crate) topic: &'a [u8],
    /// The properties without their length.
    pub(crate) properties: &'a [u8],
    /// Offset of the Message Expiry Interval's value in `properties`.
    pub(crate) expiry_at: Option<usize>,
    /// The payload.
    pub(crate) payload: &'a [u8],
}

impl Message {
    /// Lays a message out.
    ///
    /// # Errors
    /// The topic or a value is longer than 65,535 bytes, a property may not travel with a message
    /// or occurs twice, or the whole does not fit one packet.
    pub fn new(topic: &str, properties: &Properties, payload: &[u8]) -> Result<Self, EncodeError> {
        //= [MQTT-3.1.3-10]
        let mut raw = Vec::with_capacity(properties.encoded_len());
        let mut expiry_at = None;
        for (at, property) in properties.iter().enumerate() {
            let id = property.id();
            if !travels(id) {
                return Err(EncodeError::PropertyNotAllowed);
            }
            if !id.is_repeatable() && properties.iter().take(at).any(|other| other.id() == id) {
                return Err(EncodeError::PropertyRepeated);
            }
            property.check_lengths()?;
            if id == PropertyId::MessageExpiryInterval {
                expiry_at = Some(raw.len().saturating_add(1));
            }
            property.encode(&mut raw);
        }
        if topic.len() > 0xFFFF {
            return Err(EncodeError::TopicTooLong);
        }
        // What one receiver's PUBLISH may add: packet identifier, property length, topic alias.
        let whole = wire::sum(&[HEADER_LEN, topic.len(), raw.len(), payload.len()]);
        if whole > wire::VARIABLE_MAX {
            return Err(EncodeError::MessageTooLarge);
        }
        Ok(Self::lay_out(topic.as_bytes(), [&raw, &[]], expiry_at, payload))
    }

    /// Lays out parts that were judged: `topic` is UTF-8 of at most 65,535 bytes, `properties` come
    /// in two parts of which `expiry_at` is the offset of four bytes, and the lengths fit one
    /// packet.
    pub(crate) fn lay_out(
        topic: &[u8],
        properties: [&[u8]; 2],
        expiry_at: Option<usize>,
        payload: &[u8],
    ) -> Self {
        let [before, after] = properties;
        let [p0, p1, p2, p3] = (wire::sum(&[before.len(), after.len()]) as u32).to_be_bytes();
        let [e0, e1, e2, e3] = (expiry_at.unwrap_or(0) as u32).to_be_bytes();
        let [t0, t1] = (topic.len() as u16).to_be_bytes();
        let header = [p0, p1, p2, p3, e0, e1, e2, e3, t0, t1];
        Self(concat([&header, topic, before, after, payload]))
    }

    /// The layout's parts. A layout is made by [`Message::lay_out`] alone, so every `None` below
    /// is out of reach.
    #[inline]
    pub(crate) fn parts(&self) -> Parts<'_> {
        self.try_parts().unwrap_or(Parts {
            topic_field: &[0, 0],
            topic: &[],
            properties: &[],
            expiry_at: None,
            payload: &[],
        })
    }

    #[inline]
    fn try_parts(&self) -> Option<Parts<'_>> {
        let (properties_len, rest) = self.0.split_first_chunk::<4>()?;
        let (expiry_at, topic_field) = rest.split_first_chunk::<4>()?;
        let (topic_len, rest) = topic_field.split_first_chunk::<2>()?;
        let topic_len = usize::from(u16::from_be_bytes(*topic_len));
        let (topic, rest) = rest.split_at_checked(topic_len)?;
        let (properties, payload) =
            rest.split_at_checked(u32::from_be_bytes(*properties_len) as usize)?;
        Some(Parts {
            topic_field: topic_field.get(..topic_len.saturating_add(2))?,
            topic,
            properties,
            expiry_at: match u32::from_be_bytes(*expiry_at) {
                0 => None,
                at => Some(at as usize),
            },
            payload,
        })
    }

    /// Where it lies in memory: the same for all clones, and for no other message while one is kept.
    pub fn address(&self) -> usize {
        Arc::as_ptr(&self.0).cast::<u8>() as usize
    }

    /// Whether nobody else has a clone.
    pub fn is_unique(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// The Topic Name's bytes, which are valid UTF-8.
    #[inline]
    pub fn topic(&self) -> &[u8] {
        let end = wire::sum(&[HEADER_LEN, self.lengths().0]);
        self.0.get(HEADER_LEN..end).unwrap_or(&[])
    }

    /// The Topic Name.
    pub fn topic_str(&self) -> &str {
        core::str::from_utf8(self.topic()).unwrap_or_default()
    }

    /// The payload.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        let (topic_len, properties_len) = self.lengths();
        self.0.get(wire::sum(&[HEADER_LEN, topic_len, properties_len])..).unwrap_or(&[])
    }

    /// Topic length and topic, as a PUBLISH begins, and the payload, if there are no properties.
    #[inline]
    pub(crate) fn plain_parts(&self) -> Option<(&[u8], &[u8])> {
        let (topic_len, properties_len) = self.lengths();
        let parts = self.0.get(HEADER_LEN.saturating_sub(2)..)?;
        let parts = parts.split_at_checked(topic_len.saturating_add(2))?;
        (properties_len == 0).then_some(parts)
    }

    /// The Remaining Length of a PUBLISH that adds at most a Packet Identifier to the message.
    #[inline]
    pub(crate) fn body_len(&self, version: ProtocolVersion, has_packet_id: bool) -> usize {
        let properties_len = self.lengths().1;
        let whole = self.0.len().saturating_sub(HEADER_LEN).saturating_add(2);
        let id_len = if has_packet_id { 2 } else { 0 };
        let whole = whole.saturating_add(id_len);
        if version.is_v5() {
            whole.saturating_add(wire::variable_len(properties_len))
        } else {
            whole.saturating_sub(properties_len)
        }
    }

    /// Bytes of the topic and of the properties.
    #[inline]
    pub(crate) fn lengths(&self) -> (usize, usize) {
        match self.0.first_chunk::<HEADER_LEN>() {
            Some([p0, p1, p2, p3, _, _, _, _, t0, t1]) => (
                usize::from(u16::from_be_bytes([*t0, *t1])),
                u32::from_be_bytes([*p0, *p1, *p2, *p3]) as usize,
            ),
            None => (0, 0),
        }
    }

    /// The properties, parsed anew; for tools and tests rather than for the path of a message.
    pub fn properties(&self) -> Properties {
        decode::message_properties(self.parts().properties)
    }

    /// Message Expiry Interval as received, in seconds.
    #[inline]
    pub fn expiry_interval_s(&self) -> Option<u32> {
        // Most messages never expire: that is told by the layout's second field alone.
        if self.0.get(4..8) == Some(&[0; 4]) {
            return None;
        }
        let Parts { properties, expiry_at, .. } = self.parts();
        let value = properties.get(expiry_at?..)?.first_chunk::<4>()?;
        Some(u32::from_be_bytes(*value))
    }

    /// The same message under another Topic Name (a resolved Topic Alias).
    ///
    /// `topic` is the topic of another message. Bytes that are no UTF-8 or more than 65,535 give a
    /// message without a topic.
    #[must_use]
    pub fn with_topic(&self, topic: &[u8]) -> Self {
        let valid = topic.len() <= 0xFFFF && core::str::from_utf8(topic).is_ok();
        let Parts { properties, expiry_at, payload, .. } = self.parts();
        Self::lay_out(if valid { topic } else { &[] }, [properties, &[]], expiry_at, payload)
    }

    /// The layout, for a store; [`Message::from_bytes`] reads it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A message from bytes that may be anything. `None` if they are no layout of a valid message.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let message = Self(bytes.into());
        let Parts { topic, properties, payload, .. } = message.try_parts()?;
        let topic = core::str::from_utf8(topic).ok()?;
        if properties.is_empty() {
            let has_no_expiry = message.0.get(4..8) == Some(&[0; 4]);
            return (has_no_expiry && message.size() <= wire::VARIABLE_MAX).then_some(message);
        }
        // What is laid out anew and comes out the same is valid.
        let properties = decode::judged_message_properties(properties)?;
        let again = Self::new(topic, &properties, payload).ok()?;
        (again == message).then_some(message)
    }

    /// Whether this is the same layout in memory, and not only an equal one.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
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

/// Whether a property belongs to the message rather than to one connection.
pub(crate) const fn travels(id: PropertyId) -> bool {
    matches!(
        id,
        PropertyId::PayloadFormatIndicator
            | PropertyId::MessageExpiryInterval
            | PropertyId::ContentType
            | PropertyId::ResponseTopic
            | PropertyId::CorrelationData
            | PropertyId::SubscriptionIdentifier
            | PropertyId::UserProperty
    )
}

/// A layout of at most so many bytes is put together on the stack.
const ON_STACK: usize = 256;

/// Joins parts in one allocation of the right size.
///
/// What is put together on the stack is copied once more, which costs less than to look whether the
/// allocation has one owner only. For what is larger, zeroes that are overwritten cost less than a
/// second allocation.
fn concat<const N: usize>(parts: [&[u8]; N]) -> Arc<[u8]> {
    let whole = parts.iter().fold(0, |sum: usize, part| sum.saturating_add(part.len()));
    let mut stack = [0; ON_STACK];
    if let Some(room) = stack.get_mut(..whole) {
        fill(room, parts);
        return Arc::from(&*room);
    }
    let mut bytes: Arc<[u8]> = core::iter::repeat_n(0, whole).collect();
    // The reference was made a line above, so it is the only one.
    fill(Arc::get_mut(&mut bytes).unwrap_or_default(), parts);
    bytes
}

/// Writes parts one behind the other into the room that they need together.
fn fill<const N: usize>(mut room: &mut [u8], parts: [&[u8]; N]) {
    for part in parts {
        let Some((place, rest)) = room.split_at_mut_checked(part.len()) else { return };
        if !part.is_empty() {
            place.copy_from_slice(part);
        }
        room = rest;
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;
    use crate::Property;

    fn properties(list: &[Property]) -> Properties {
        list.iter().cloned().collect()
    }

    #[test]
    fn the_layout_holds_its_parts() {
        let list = [Property::ContentType("x".into()), Property::MessageExpiryInterval(7)];
        let message = Message::new("a/b", &properties(&list), b"payload").unwrap();
        assert_eq!(message.topic(), b"a/b");
        assert_eq!(message.topic_str(), "a/b");
        assert_eq!(message.payload(), b"payload");
        assert_eq!(message.expiry_interval_s(), Some(7));
        assert_eq!(message.parts().properties, [3, 0, 1, b'x', 2, 0, 0, 0, 7]);
        assert_eq!(message.size(), 10 + 3 + 9 + 7);
    }

    #[test]
    fn another_topic_keeps_the_rest() {
        let list = [Property::MessageExpiryInterval(7)];
        let message = Message::new("", &properties(&list), b"p").unwrap().with_topic(b"long/topic");
        assert_eq!(message, Message::new("long/topic", &properties(&list), b"p").unwrap());
        assert_eq!(message.expiry_interval_s(), Some(7));
        assert_eq!(message.with_topic(&[0xFF]).topic(), b"");
    }

    #[test]
    fn a_layout_is_read_back() {
        let list = [Property::ContentType("x".into()), Property::MessageExpiryInterval(7)];
        for list in [&list[..], &[]] {
            let message = Message::new("a/b", &properties(list), b"payload").unwrap();
            let again = Message::from_bytes(message.as_bytes());
            assert!(again.as_ref().is_some_and(|again| !again.is_same(&message)));
            assert!(message.is_same(&message.clone()));
            assert_eq!(again, Some(message));
        }
    }

    #[test]
    fn bytes_that_are_no_layout_are_no_message() {
        let list = [Property::MessageExpiryInterval(7)];
        let message = Message::new("a", &properties(&list), b"p").unwrap();
        let bytes = message.as_bytes();
        for end in 0..bytes.len() - 1 {
            assert_eq!(Message::from_bytes(&bytes[..end]), None, "{end}");
        }
        // Each byte of lengths, offset, topic and property name.
        for at in 0..12 {
            let mut bad = bytes.to_vec();
            bad[at] ^= 0x80;
            assert_eq!(Message::from_bytes(&bad), None, "{at}");
        }
        let plain = Message::new("a", &Properties::new(), b"p").unwrap();
        let mut bad = plain.as_bytes().to_vec();
        bad[7] = 1;
        assert_eq!(Message::from_bytes(&bad), None, "an expiry where there are no properties");
    }

    #[test]
    fn what_cannot_travel_is_refused() {
        let new = |topic: &str, list: &[Property]| Message::new(topic, &properties(list), b"");
        assert_eq!(new(&"a".repeat(65_536), &[]), Err(EncodeError::TopicTooLong));
        assert_eq!(new("a", &[Property::TopicAlias(1)]), Err(EncodeError::PropertyNotAllowed));
        let long =
            Property::ContentType(String::from_utf8(alloc::vec![b'a'; 65_536]).unwrap().into());
        assert_eq!(new("a", &[long]), Err(EncodeError::ValueTooLong));
        let expiry = Property::MessageExpiryInterval(1);
        assert_eq!(new("a", &[expiry.clone(), expiry]), Err(EncodeError::PropertyRepeated));
        let user = Property::UserProperty("a".into(), "b".into());
        assert!(new("a", &[user.clone(), user]).is_ok());
    }
}
