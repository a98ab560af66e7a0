//! The few packets of MQTT 3.1.1 and 5.0 that a load needs, made and cut by hand: the generator is
//! not to share a mistake, or a cost, with the broker's codec.

use super::link::Session;

/// Stream, sequence number and time, with which every application message begins; the rest is
/// padding.
pub(crate) const LABEL_BYTES: usize = 16;

/// First byte, without flags that vary.
pub(crate) const CONNACK: u8 = 0x20;
pub(crate) const PUBLISH: u8 = 0x30;
pub(crate) const PUBACK: u8 = 0x40;
pub(crate) const PUBREC: u8 = 0x50;
pub(crate) const PUBREL: u8 = 0x62;
pub(crate) const PUBCOMP: u8 = 0x70;
pub(crate) const SUBACK: u8 = 0x90;
/// Whole packets.
pub(crate) const PINGREQ: [u8; 2] = [0xC0, 0];
pub(crate) const PINGRESP: [u8; 2] = [0xD0, 0];
pub(crate) const DISCONNECT: [u8; 2] = [0xE0, 0];

/// A session that is kept is kept for a day.
const EXPIRY_S: u32 = 86_400;
/// Longer than any run is silent; some brokers refuse a connection without.
const KEEP_ALIVE_S: u16 = 3600;

/// The protocol that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// MQTT 3.1.1.
    V3,
    /// MQTT 5.0.
    V5,
}

/// CONNECT.
pub(crate) fn connect(client_id: &str, version: Version, session: Session) -> Vec<u8> {
    let level = if version == Version::V5 { 5 } else { 4 };
    let is_clean = session == Session::Clean;
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', level, u8::from(is_clean) << 1];
    body.extend(KEEP_ALIVE_S.to_be_bytes());
    match (version, is_clean) {
        (Version::V3, _) => {}
        (Version::V5, true) => body.push(0),
        (Version::V5, false) => {
            body.extend([5, 0x11]);
            body.extend(EXPIRY_S.to_be_bytes());
        }
    }
    string(&mut body, client_id);
    packet(0x10, &body)
}

/// Session Present and the code of a CONNACK's body.
pub(crate) fn connack(body: &[u8]) -> Option<(bool, u8)> {
    Some((*body.first()? == 1, *body.get(1)?))
}

/// SUBSCRIBE with a packet identifier.
pub(crate) fn subscribe(version: Version, id: u16, filters: &[String], qos: u8) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0);
    }
    for filter in filters {
        string(&mut body, filter);
        body.push(qos);
    }
    packet(0x82, &body)
}

/// The codes of a SUBACK's body.
pub(crate) fn suback(version: Version, body: &[u8]) -> Option<&[u8]> {
    without_properties(version, body.get(2..)?)
}

/// PUBLISH without its identifier and label.
pub(crate) struct Template {
    /// Through the topic.
    head: Vec<u8>,
    version: Version,
    topic: Box<[u8]>,
}

impl Template {
    /// `payload_bytes` is at least [`LABEL_BYTES`].
    pub(crate) fn new(
        version: Version,
        topic: &str,
        qos: u8,
        retain: bool,
        payload_bytes: usize,
    ) -> Template {
        let mut body = Vec::new();
        string(&mut body, topic);
        let topic_bytes = body.len();
        let properties = usize::from(version == Version::V5);
        body.resize(topic_bytes + if qos > 0 { 2 } else { 0 } + properties + payload_bytes, 0);
        let mut head = packet(PUBLISH | qos << 1 | u8::from(retain), &body);
        head.truncate(head.len() - body.len() + topic_bytes);
        Template { head, version, topic: topic.as_bytes().into() }
    }

    /// The topic's bytes.
    pub(crate) fn topic(&self) -> &[u8] {
        &self.topic
    }

    /// Appends the PUBLISH.
    pub(crate) fn publish(&self, out: &mut Vec<u8>, id: Option<u16>, label: Label, padding: &[u8]) {
        out.extend_from_slice(&self.head);
        if let Some(id) = id {
            out.extend_from_slice(&id.to_be_bytes());
        }
        if self.version == Version::V5 {
            out.push(0);
        }
        let mut bytes = [0; LABEL_BYTES];
        bytes[..4].copy_from_slice(&label.stream.to_be_bytes());
        bytes[4..8].copy_from_slice(&label.sequence.to_be_bytes());
        bytes[8..].copy_from_slice(&label.time.to_be_bytes());
        out.extend_from_slice(&bytes);
        out.extend_from_slice(padding);
    }
}

/// What follows the label of a message with so many bytes in all.
pub(crate) fn padding(payload_bytes: usize) -> Vec<u8> {
    vec![b'.'; payload_bytes - LABEL_BYTES]
}

/// Appends PUBACK, PUBREC, PUBREL or PUBCOMP.
pub(crate) fn acknowledge(out: &mut Vec<u8>, kind: u8, id: u16) {
    let [high, low] = id.to_be_bytes();
    out.extend_from_slice(&[kind, 2, high, low]);
}

/// The packet identifier that a body begins with.
pub(crate) fn identifier(body: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes([*body.first()?, *body.get(1)?]))
}

/// The identifier of an acknowledgement that does not refuse: 5.0 may append a reason.
pub(crate) fn accepted(body: &[u8]) -> Option<u16> {
    if body.get(2).is_some_and(|&reason| reason >= 0x80) {
        return None;
    }
    identifier(body)
}

/// What tells one application message from all others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Label {
    /// A publisher's topic.
    pub(crate) stream: u32,
    /// Counts the messages of the stream.
    pub(crate) sequence: u32,
    /// Nanoseconds since the load began, if the time matters.
    pub(crate) time: u64,
}

/// A delivery, taken apart.
#[derive(Debug, PartialEq)]
pub(crate) struct Delivery<'a> {
    pub(crate) topic: &'a [u8],
    pub(crate) id: u16,
    pub(crate) label: Label,
}

/// Takes a PUBLISH apart; `None` if it is not one of ours.
pub(crate) fn delivery<'a>(
    version: Version,
    first: u8,
    body: &'a [u8],
    padding: &[u8],
) -> Option<Delivery<'a>> {
    let (topic, mut rest) = body.get(2..)?.split_at_checked(usize::from(identifier(body)?))?;
    let mut id = 0;
    if first >> 1 & 3 > 0 {
        id = identifier(rest)?;
        rest = rest.get(2..)?;
    }
    let payload = without_properties(version, rest)?;
    let (label, rest) = payload.split_first_chunk::<LABEL_BYTES>()?;
    if rest != padding {
        return None;
    }
    let [s0, s1, s2, s3, n0, n1, n2, n3, time @ ..] = *label;
    let label = Label {
        stream: u32::from_be_bytes([s0, s1, s2, s3]),
        sequence: u32::from_be_bytes([n0, n1, n2, n3]),
        time: u64::from_be_bytes(time),
    };
    Some(Delivery { topic, id, label })
}

fn without_properties(version: Version, bytes: &[u8]) -> Option<&[u8]> {
    if version == Version::V3 {
        return Some(bytes);
    }
    match length(bytes)? {
        Some((properties, used)) => bytes.get(used + properties..),
        None => None,
    }
}

/// The first packet of `bytes` as its first byte, its body and its whole length, once it is all
/// there. A length that never ends reads as an empty packet of an unknown kind.
pub(crate) fn cut(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (&first, rest) = bytes.split_first()?;
    match length(rest)? {
        Some((length, used)) => {
            let whole = 1 + used + length;
            Some((first, bytes.get(1 + used..whole)?, whole))
        }
        None => Some((0, &[], bytes.len())),
    }
}

/// A variable byte integer and its own length; nothing yet if it is not all there, `Some(None)` if
/// it does not end.
fn length(bytes: &[u8]) -> Option<Option<(usize, usize)>> {
    let mut length = 0;
    for at in 0..4 {
        let byte = *bytes.get(at)?;
        length |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Some(Some((length, at + 1)));
        }
    }
    Some(None)
}

/// A packet of a first byte and a body.
pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    loop {
        let more = length >= 0x80;
        bytes.push((length & 0x7F) as u8 | if more { 0x80 } else { 0 });
        length >>= 7;
        if !more {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

fn string(body: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("names here are short");
    body.extend(length.to_be_bytes());
    body.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABEL: Label = Label { stream: 7, sequence: 260, time: 1 << 40 };

    fn published(version: Version, qos: u8, payload_bytes: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let template = Template::new(version, "a/b", qos, false, payload_bytes);
        template.publish(&mut out, (qos > 0).then_some(513), LABEL, &padding(payload_bytes));
        out
    }

    #[test]
    fn what_is_published_reads_back_in_both_versions() {
        for version in [Version::V3, Version::V5] {
            for (qos, id) in [(0, 0), (1, 513), (2, 513)] {
                let bytes = published(version, qos, 300);
                let (first, body, whole) = cut(&bytes).expect("whole");
                assert_eq!((first, whole), (PUBLISH | qos << 1, bytes.len()));
                let expected = Delivery { topic: b"a/b", id, label: LABEL };
                assert_eq!(delivery(version, first, body, &padding(300)), Some(expected));
            }
        }
    }

    #[test]
    fn properties_of_a_delivery_are_passed_over() {
        let mut body = vec![0, 1, b't', 2, 0x01, 0x01];
        body.extend([0, 0, 0, 7, 0, 0, 1, 4]);
        body.extend(LABEL.time.to_be_bytes());
        let expected = Delivery { topic: b"t", id: 0, label: LABEL };
        assert_eq!(delivery(Version::V5, PUBLISH, &body, &[]), Some(expected));
        assert_eq!(delivery(Version::V3, PUBLISH, &body, &[]), None);
    }

    #[test]
    fn a_changed_payload_is_not_ours() {
        let bytes = published(Version::V3, 0, 20);
        let (first, body, _) = cut(&bytes).expect("whole");
        assert!(delivery(Version::V3, first, body, b"....").is_some());
        assert_eq!(delivery(Version::V3, first, body, b"...,"), None);
        assert_eq!(delivery(Version::V3, first, body, b"..."), None);
    }

    #[test]
    fn a_packet_is_cut_when_it_is_all_there() {
        let bytes = published(Version::V5, 1, 200);
        for end in 0..bytes.len() {
            assert_eq!(cut(&bytes[..end]), None, "{end}");
        }
        assert_eq!(cut(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1]), Some((0, &[][..], 6)));
    }

    #[test]
    fn acknowledgements_of_5_0_may_refuse() {
        assert_eq!(accepted(&[1, 2]), Some(258));
        assert_eq!(accepted(&[1, 2, 0x10, 0]), Some(258));
        assert_eq!(accepted(&[1, 2, 0x97]), None);
        assert_eq!(suback(Version::V3, &[0, 1, 2, 0x80]), Some(&[2, 0x80][..]));
        assert_eq!(suback(Version::V5, &[0, 1, 0, 2, 0x80]), Some(&[2, 0x80][..]));
    }
}
