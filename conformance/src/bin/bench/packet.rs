//! The few packets of MQTT 3.1.1 that a load needs, made and cut by hand: the generator is not to
//! share a mistake, or a cost, with the broker's codec.

/// Publisher and sequence number, with which every application message begins; the rest is padding.
const LABEL_BYTES: usize = 12;

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

/// CONNECT without a keep-alive.
pub(crate) fn connect(client_id: &str, is_clean: bool) -> Vec<u8> {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, u8::from(is_clean) << 1, 0, 0];
    string(&mut body, client_id);
    packet(0x10, &body)
}

/// SUBSCRIBE with packet identifier 1.
pub(crate) fn subscribe(filter: &str, qos: u8) -> Vec<u8> {
    let mut body = vec![0, 1];
    string(&mut body, filter);
    body.push(qos);
    packet(0x82, &body)
}

/// PUBLISH without its identifier, publisher and sequence number.
pub(crate) struct Template {
    pub(crate) qos: u8,
    /// Through the topic.
    head: Vec<u8>,
    padding: Vec<u8>,
}

impl Template {
    /// `payload_bytes` is at least 12.
    pub(crate) fn new(topic: &str, qos: u8, payload_bytes: usize) -> Template {
        let mut body = Vec::new();
        string(&mut body, topic);
        let topic_bytes = body.len();
        body.resize(topic_bytes + if qos > 0 { 2 } else { 0 } + payload_bytes, b'.');
        let mut head = packet(PUBLISH | qos << 1, &body);
        head.truncate(head.len() - body.len() + topic_bytes);
        Template { qos, head, padding: vec![b'.'; payload_bytes - LABEL_BYTES] }
    }

    /// Appends the PUBLISH.
    pub(crate) fn publish(
        &self,
        out: &mut Vec<u8>,
        id: Option<u16>,
        publisher: u32,
        sequence: u64,
    ) {
        out.extend_from_slice(&self.head);
        if let Some(id) = id {
            out.extend_from_slice(&id.to_be_bytes());
        }
        out.extend_from_slice(&publisher.to_be_bytes());
        out.extend_from_slice(&sequence.to_be_bytes());
        out.extend_from_slice(&self.padding);
    }
}

/// Appends PUBACK, PUBREC, PUBREL or PUBCOMP.
pub(crate) fn acknowledge(out: &mut Vec<u8>, kind: u8, id: u16) {
    let [high, low] = id.to_be_bytes();
    out.extend_from_slice(&[kind, 2, high, low]);
}

/// The packet identifier that an acknowledgement begins with.
pub(crate) fn identifier(body: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes([*body.first()?, *body.get(1)?]))
}

/// A delivery, taken apart.
pub(crate) struct Delivery {
    pub(crate) qos: u8,
    pub(crate) id: u16,
    pub(crate) publisher: u32,
    pub(crate) sequence: u64,
}

/// Takes a PUBLISH apart; `None` if it is not one of ours.
pub(crate) fn delivery(first: u8, body: &[u8], payload_bytes: usize) -> Option<Delivery> {
    let qos = first >> 1 & 3;
    let rest = body.get(2 + usize::from(identifier(body)?)..)?;
    let (id, payload) = if qos == 0 { (0, rest) } else { (identifier(rest)?, rest.get(2..)?) };
    let (label, padding) = payload.split_at_checked(LABEL_BYTES)?;
    if payload.len() != payload_bytes || padding.iter().any(|&byte| byte != b'.') {
        return None;
    }
    let publisher = u32::from_be_bytes(label.get(..4)?.try_into().ok()?);
    let sequence = u64::from_be_bytes(label.get(4..)?.try_into().ok()?);
    Some(Delivery { qos, id, publisher, sequence })
}

/// The first packet of `bytes` as its first byte, its body and its whole length, once it is all
/// there. A length that never ends reads as an empty packet of an unknown kind.
pub(crate) fn cut(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let first = *bytes.first()?;
    let mut length = 0;
    for at in 1..=4 {
        let byte = *bytes.get(at)?;
        length |= usize::from(byte & 0x7F) << (7 * (at - 1));
        if byte & 0x80 == 0 {
            let whole = at + 1 + length;
            return Some((first, bytes.get(at + 1..whole)?, whole));
        }
    }
    Some((0, &[], bytes.len()))
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
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
