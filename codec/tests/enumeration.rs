//! Small domains, tried to their ends: what holds here for every value is proved, not sampled.
//!
//! What is expected is written from the texts of the standards once more, by position where the
//! codec goes by level, byte by byte where it asks the standard library. The tests that run
//! always take the smaller part; the whole, in less than three minutes of one processor:
//!
//!     cargo test --release -p codec --test enumeration -- --ignored

mod common;

use codec::{
    DecodeError, Field, Framer, Message, Packet, PacketId, PacketType, Properties, Property,
    ProtocolVersion, Publish, QoS, Role, Sender, Subscribe, topic,
};
use common::framer;

/// The largest value of a Variable Byte Integer.
const VARIABLE_MAX: u32 = 268_435_455;

/// What the first bytes of a Variable Byte Integer say, by the algorithm and table 1-1 of section
/// 1.5.5.
#[derive(Debug, PartialEq)]
enum Variable {
    /// A value, and how many bytes it has.
    Value(u32, usize),
    /// It goes on after the last of these bytes.
    GoesOn,
    Broken(DecodeError),
}

/// `[MQTT-1.5.5-1]`
fn variable(bytes: &[u8]) -> Variable {
    let (mut value, mut multiplier) = (0, 1);
    for (at, byte) in bytes.iter().take(4).enumerate() {
        value += u32::from(byte & 127) * multiplier;
        if byte & 128 == 0 {
            // The smallest value of this many bytes, but that one byte holds 0 too.
            return if at > 0 && value < multiplier {
                Variable::Broken(DecodeError::VariableByteIntegerNotMinimal)
            } else {
                Variable::Value(value, at + 1)
            };
        }
        multiplier *= 128;
    }
    if bytes.len() < 4 {
        Variable::GoesOn
    } else {
        Variable::Broken(DecodeError::VariableByteIntegerTooLong)
    }
}

/// A first byte, room for a Remaining Length, and zeros for the largest body. Nobody touches the
/// zeros, so that they cost no memory.
struct LargestPacket(Vec<u8>);

impl LargestPacket {
    fn new() -> Self {
        let mut bytes = vec![0; 5 + VARIABLE_MAX as usize];
        bytes[0] = 0xD0;
        Self(bytes)
    }

    /// These four bytes, and no more, are or begin with the Remaining Length that they should. A
    /// PINGRESP may have no body, so that one is taken from the input and refused at once.
    fn check(&mut self, length: [u8; 4]) {
        self.0[1..5].copy_from_slice(&length);
        let mut input = &self.0[..];
        let mut framer = Framer::new(Role::Client(ProtocolVersion::V5), 0, u32::MAX);
        let read = framer.decode(&mut input);
        let taken = self.0.len() - input.len();
        let as_expected = match variable(&length) {
            Variable::Value(value, len) if taken != 1 + len + value as usize => false,
            Variable::Value(0, _) => matches!(read, Ok(Some(Packet::PingResp))),
            Variable::Value(..) => {
                matches!(read, Err(DecodeError::TrailingBytes(PacketType::PingResp)))
            }
            Variable::Broken(expected) => matches!(read, Err(error) if error == expected),
            Variable::GoesOn => false,
        };
        assert!(as_expected, "{length:02X?}: {read:?} of {taken} bytes");
    }
}

/// Fewer bytes than four are waited for or refused as they should be.
fn check_beginning(bytes: &[u8]) {
    let mut framer = Framer::new(Role::Client(ProtocolVersion::V5), 0, u32::MAX);
    let read = framer.decode(&mut &[&[0xD0], bytes].concat()[..]);
    match variable(bytes) {
        Variable::GoesOn => assert_eq!(read, Ok(None), "{bytes:02X?}"),
        Variable::Broken(error) => assert_eq!(read, Err(error), "{bytes:02X?}"),
        Variable::Value(..) => {}
    }
}

/// Every sequence of this many of these bytes.
fn sequences(bytes: &[u8], len: u32, mut check: impl FnMut(&[u8])) {
    let base = bytes.len();
    let mut sequence = vec![0; len as usize];
    for number in 0..base.pow(len) {
        let mut rest = number;
        for place in &mut sequence {
            *place = bytes[rest % base];
            rest /= base;
        }
        check(&sequence);
    }
}

fn all_bytes() -> Vec<u8> {
    (0..=255).collect()
}

#[test]
pub(crate) fn a_remaining_length_is_read_as_it_is_written() {
    let mut packet = LargestPacket::new();
    for len in 1..=2 {
        sequences(&all_bytes(), len, check_beginning);
    }
    // All that are over after two bytes or three, with what may follow them.
    for [first, second] in (0..=u16::MAX).map(u16::to_be_bytes) {
        for (third, fourth) in [(0x00, 0x00), (0x7F, 0x80), (0x80, 0x7F), (0xFF, 0xFF)] {
            packet.check([first, second, third, fourth]);
        }
    }
    let limits = [0x00, 0x01, 0x3F, 0x40, 0x7E, 0x7F, 0x80, 0x81, 0xC0, 0xFE, 0xFF];
    sequences(&limits, 3, check_beginning);
    sequences(&limits, 4, |bytes| packet.check(bytes.try_into().unwrap()));
}

#[test]
#[ignore = "2^32 sequences"]
fn every_remaining_length_is_read_as_it_is_written() {
    let mut packet = LargestPacket::new();
    sequences(&all_bytes(), 3, check_beginning);
    for number in 0..=u32::MAX {
        packet.check(number.to_be_bytes());
    }
}

/// The fewest bytes of a value, by table 1-1 of section 1.5.5.
fn shortest(value: u32) -> ([u8; 4], usize) {
    let digit = |at: u32| (value / 128_u32.pow(at) % 128) as u8;
    match value {
        0..128 => ([digit(0), 0, 0, 0], 1),
        128..16_384 => ([digit(0) + 128, digit(1), 0, 0], 2),
        16_384..2_097_152 => ([digit(0) + 128, digit(1) + 128, digit(2), 0], 3),
        _ => ([digit(0) + 128, digit(1) + 128, digit(2) + 128, digit(3)], 4),
    }
}

/// These values are written as a Subscription Identifier in their shortest form, and, if `read`,
/// are read as themselves. That every shortest form is read as its value shows for the Remaining
/// Length.
fn check_identifiers(values: impl Iterator<Item = u32>, read: bool) {
    let (properties, filters) = (Properties::new(), Vec::new());
    let subscribe = Subscribe { packet_id: PacketId::new(1).unwrap(), properties, filters };
    let mut packet = Packet::Subscribe(Box::new(subscribe));
    let mut framer = framer(ProtocolVersion::V5, Sender::Client);
    let mut bytes = Vec::new();
    for value in values {
        let Packet::Subscribe(subscribe) = &mut packet else { unreachable!() };
        subscribe.properties = [Property::SubscriptionIdentifier(value)].into_iter().collect();
        bytes.clear();
        packet.encode(ProtocolVersion::V5, &mut bytes);
        let (variable, len) = shortest(value);
        let head = [0x82, len as u8 + 4, 0, 1, len as u8 + 1, 0x0B];
        assert_eq!(bytes.split_at(6), (&head[..], &variable[..len]), "{value}");
        if !read {
            continue;
        }
        bytes.extend_from_slice(&[0, 1, b'a', 0]);
        bytes[1] += 4;
        let decoded = framer.decode(&mut &bytes[..]);
        let Ok(Some(Packet::Subscribe(decoded))) = decoded else { panic!("{decoded:?}") };
        assert!(decoded.properties.iter().eq([&Property::SubscriptionIdentifier(value)]));
    }
}

#[test]
pub(crate) fn a_value_is_written_in_the_fewest_bytes() {
    check_identifiers((1..20_000).chain(2_097_000..2_098_000), true);
    check_identifiers(VARIABLE_MAX - 1_000..=VARIABLE_MAX, true);
}

#[test]
#[ignore = "2^28 values"]
fn every_value_is_written_in_the_fewest_bytes() {
    check_identifiers(1..2_200_000, true);
    check_identifiers(0..=VARIABLE_MAX, false);
}

/// A PUBLISH with this Remaining Length says so, and is read again.
fn check_packet_of(remaining: u32) {
    let payload = vec![0; remaining as usize - 3];
    let message = Message::new("t", &Properties::new(), &payload).expect("a valid message");
    let packet = Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        packet_id: None,
        topic_alias: None,
        message,
    });
    let mut bytes = Vec::new();
    packet.encode(ProtocolVersion::V311, &mut bytes);
    let (variable, len) = shortest(remaining);
    assert_eq!(bytes[1..=len], variable[..len], "{remaining}");
    assert_eq!(bytes.len(), 1 + len + remaining as usize);
    assert_eq!(bytes.len(), packet.encoded_len(ProtocolVersion::V311));
    let mut input = &bytes[..];
    let mut framer = Framer::new(Role::Client(ProtocolVersion::V311), 0, u32::MAX);
    assert!(framer.decode(&mut input) == Ok(Some(packet)), "{remaining}");
    assert!(input.is_empty(), "{remaining}");
}

#[test]
pub(crate) fn a_packet_says_how_long_it_is() {
    (3..300).chain(16_300..16_500).for_each(check_packet_of);
    (2_097_150..=2_097_153).for_each(check_packet_of);
}

#[test]
#[ignore = "packets of 256 MiB"]
fn the_largest_packet_says_how_long_it_is() {
    // The layout of a message is a little longer than a PUBLISH without properties.
    check_packet_of(VARIABLE_MAX - 10);
}

/// Whether bytes are UTF-8: the syntax of RFC 3629, section 4, line by line.
fn is_utf8(bytes: &[u8]) -> bool {
    let rest = match bytes {
        [] => return true,
        [0x00..=0x7F, rest @ ..] => rest,
        [0xC2..=0xDF, 0x80..=0xBF, rest @ ..] => rest,
        [0xE0, 0xA0..=0xBF, 0x80..=0xBF, rest @ ..] => rest,
        [0xE1..=0xEC, 0x80..=0xBF, 0x80..=0xBF, rest @ ..] => rest,
        [0xED, 0x80..=0x9F, 0x80..=0xBF, rest @ ..] => rest,
        [0xEE..=0xEF, 0x80..=0xBF, 0x80..=0xBF, rest @ ..] => rest,
        [0xF0, 0x90..=0xBF, 0x80..=0xBF, 0x80..=0xBF, rest @ ..] => rest,
        [0xF1..=0xF3, 0x80..=0xBF, 0x80..=0xBF, 0x80..=0xBF, rest @ ..] => rest,
        [0xF4, 0x80..=0x8F, 0x80..=0xBF, 0x80..=0xBF, rest @ ..] => rest,
        _ => return false,
    };
    is_utf8(rest)
}

/// Judges strings one after the other, as the Topic Filter of an UNSUBSCRIBE, which may be any.
/// `[MQTT-1.5.4-1]` `[MQTT-1.5.4-2]` `[MQTT-1.5.4-3]`
fn string_check() -> impl FnMut(&[u8]) {
    let mut framer = framer(ProtocolVersion::V311, Sender::Client);
    let mut packet = Vec::new();
    move |bytes| {
        let len = bytes.len() as u8;
        packet.clear();
        packet.extend_from_slice(&[0xA2, len + 4, 0, 1, 0, len]);
        packet.extend_from_slice(bytes);
        let valid = is_utf8(bytes);
        assert_eq!(valid, std::str::from_utf8(bytes).is_ok(), "{bytes:02X?}");
        let error = match framer.decode(&mut &packet[..]) {
            Ok(Some(Packet::Unsubscribe(read))) if valid && !bytes.contains(&0) => {
                // U+FEFF, of the bytes EF BB BF, is neither skipped nor stripped off.
                return assert_eq!(read.filters[0].as_bytes(), bytes);
            }
            other => other.expect_err(&format!("{bytes:02X?}")),
        };
        assert_eq!(
            error,
            match valid {
                true => DecodeError::StringHasNull(Field::TopicFilter),
                false => DecodeError::StringNotUtf8(Field::TopicFilter),
            }
        );
    }
}

/// The bytes around every limit of RFC 3629's syntax.
const UTF8_LIMITS: [u8; 26] = [
    0x00, 0x01, 0x1F, 0x20, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0,
    0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF4, 0xF5, 0xFF,
];

#[test]
pub(crate) fn a_string_is_utf8_without_null() {
    let mut check = string_check();
    for len in 0..=2 {
        sequences(&all_bytes(), len, &mut check);
    }
    sequences(&UTF8_LIMITS, 4, &mut check);
    for text in [&b"\xEF\xBB\xBF"[..], b"\xEF\xBB\xBFa\xEF\xBB\xBF", b"\xEF\xBB\xBF\xEF\xBB\xBF"] {
        check(text);
    }
}

#[test]
#[ignore = "2^24 strings"]
fn every_string_of_three_bytes_is_utf8_without_null() {
    sequences(&all_bytes(), 3, string_check());
}

/// Whether a string is a Topic Name by sections 4.7.1 and 4.7.3.
fn is_name(text: &str) -> bool {
    //= [MQTT-4.7.3-1] [MQTT-4.7.3-2]
    !text.is_empty() && text.chars().all(|c| !matches!(c, '#' | '+' | '\0'))
}

/// Whether a string is a Topic Filter by sections 4.7.1 and 4.7.3, wildcard by wildcard.
fn is_filter(text: &str) -> bool {
    let bytes = text.as_bytes();
    let wildcards_stand_alone = (0..bytes.len()).all(|at| {
        let first_in_level = at == 0 || bytes[at - 1] == b'/';
        let last = at + 1 == bytes.len();
        match bytes[at] {
            //= [MQTT-4.7.1-1]
            b'#' => first_in_level && last,
            //= [MQTT-4.7.1-2]
            b'+' => first_in_level && (last || bytes[at + 1] == b'/'),
            //= [MQTT-4.7.3-2]
            byte => byte != 0,
        }
    });
    //= [MQTT-4.7.3-1]
    !bytes.is_empty() && wildcards_stand_alone
}

/// The parts of a Shared Subscription's Topic Filter by section 4.8.2, as
/// [`topic::split_shared`] gives them.
#[allow(clippy::type_complexity, reason = "as the function that it judges")]
fn shared(text: &str) -> Option<Result<(&str, &str), ()>> {
    //= [MQTT-4.8.2-1] it begins with "$share/", and the ShareName has a character.
    let rest = text.strip_prefix("$share/")?;
    //= [MQTT-4.8.2-2] the ShareName has no "/", "+" or "#"; "/" and a Topic Filter follow.
    let end = rest.find(['/', '+', '#']).unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    let filter = after.strip_prefix('/').filter(|filter| is_filter(filter));
    Some(filter.filter(|_| !name.is_empty()).map(|filter| (name, filter)).ok_or(()))
}

/// Levels of a Topic Name: one more than it has separators (4.7.1.1).
fn levels(name: &str) -> usize {
    1 + name.chars().filter(|c| *c == '/').count()
}

/// Judges text as a name, as a filter and as a Shared Subscription.
fn check_topic(text: &str, framer: &mut Framer) {
    assert_eq!(topic::is_valid_name(text), is_name(text), "{text:?}");
    assert_eq!(topic::is_valid_filter(text), is_filter(text), "{text:?}");
    assert_eq!(topic::split_shared(text), shared(text), "{text:?}");
    let len = text.len() as u8;
    let publish = [&[0x30, len + 2, 0, len], text.as_bytes()].concat();
    let published = framer.decode(&mut &publish[..]);
    assert_eq!(published.is_ok(), is_name(text), "{text:?}");
    if is_name(text) && !text.starts_with('$') {
        let filter = |levels: usize| vec!["+"; levels].join("/");
        assert!(topic::matches(&filter(levels(text)), text), "{text:?}");
        assert!(!topic::matches(&filter(levels(text) + 1), text), "{text:?}");
        assert!(!topic::matches(&filter(levels(text) - 1), text), "{text:?}");
    }
}

/// Every sequence of up to so many of these parts.
fn check_topics(parts: &[&str], len_max: u32) {
    let mut framer = framer(ProtocolVersion::V311, Sender::Client);
    let numbers: Vec<u8> = (0..).take(parts.len()).collect();
    let mut text = String::new();
    for len in 0..=len_max {
        sequences(&numbers, len, |sequence| {
            text.clear();
            text.extend(sequence.iter().map(|number| parts[usize::from(*number)]));
            check_topic(&text, &mut framer);
        });
    }
}

/// Separators, wildcards, and characters that mean something at the beginning or nowhere.
const CHARACTERS: [&str; 6] = ["a", "/", "+", "#", "$", "\0"];

/// What a Shared Subscription is made of.
const SHARED: [&str; 6] = ["$share", "/", "g", "+", "#", "a"];

#[test]
pub(crate) fn topics_are_valid_by_sections_4_7_and_4_8() {
    check_topics(&CHARACTERS, 6);
    check_topics(&SHARED, 6);
}

#[test]
#[ignore = "20 million texts"]
fn longer_topics_are_valid_by_sections_4_7_and_4_8() {
    check_topics(&CHARACTERS, 9);
    check_topics(&SHARED, 9);
}
