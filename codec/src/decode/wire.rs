//! The data representations of section 1.5, as they are read. Lengths are checked before bytes are
//! taken.

use nom::number::complete::be_u16;

use super::{Fault, Parsed, broken, require};
use crate::{DecodeError, Field, PacketId, topic};

/// What the first bytes of a Variable Byte Integer say.
pub(super) enum Variable {
    /// All its bytes are there: the value and how many they are.
    Value { value: u32, len: usize },
    /// More bytes are needed.
    Incomplete,
}

/// Reads a Variable Byte Integer of at most four bytes, which must be the fewest that hold the
/// value. `[MQTT-1.5.5-1]`
pub(super) fn read_variable(input: &[u8]) -> Result<Variable, DecodeError> {
    //= [MQTT-1.5.5-1]
    let mut value = 0;
    for (at, (byte, shift)) in input.iter().zip([0, 7, 14, 21]).enumerate() {
        value |= u32::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            if *byte == 0 && at > 0 && !seeded!(AcceptsOverlongLength) {
                return Err(DecodeError::VariableByteIntegerNotMinimal);
            }
            return Ok(Variable::Value { value, len: at.saturating_add(1) });
        }
    }
    if input.len() > 4 && seeded!(ReadsFifthByte) {
        return Ok(Variable::Value { value, len: 5 });
    }
    if (1..4).contains(&input.len()) && seeded!(ReadsCutLength) {
        return Ok(Variable::Value { value, len: input.len() });
    }
    if input.len() >= 4 {
        return Err(DecodeError::VariableByteIntegerTooLong);
    }
    Ok(Variable::Incomplete)
}

/// A Variable Byte Integer.
pub(super) fn variable(input: &[u8]) -> Parsed<'_, u32> {
    match read_variable(input) {
        Ok(Variable::Value { value, len }) => Ok((input.get(len..).unwrap_or_default(), value)),
        Ok(Variable::Incomplete) => Err(nom::Err::Error(Fault::Truncated)),
        Err(error) => broken(error),
    }
}

/// Binary Data: a two-byte length and that many bytes. Written out, since every PUBLISH passes here.
#[inline]
pub(super) fn data(input: &[u8]) -> Parsed<'_, &[u8]> {
    split_data(input).ok_or(nom::Err::Error(Fault::Truncated))
}

#[inline]
fn split_data(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = input.split_first_chunk::<2>()?;
    let (data, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    Some((rest, data))
}

/// The Topic Name of a PUBLISH: a UTF-8 Encoded String without wildcards `[MQTT-3.3.2-1]`
/// `[MQTT-3.3.2-2]`.
#[inline]
pub(super) fn topic_name(input: &[u8]) -> Parsed<'_, &[u8]> {
    let (rest, bytes) = data(input)?;
    if is_plain(bytes) {
        return Ok((rest, bytes));
    }
    //= [MQTT-3.3.2-1]
    let (rest, name) = string(input, Field::TopicName)?;
    //= [MQTT-3.3.2-2]
    let wildcard = topic::has_wildcard(name) && !seeded!(PublishesToWildcard);
    require(!wildcard, DecodeError::TopicNameWildcard)?;
    Ok((rest, name.as_bytes()))
}

/// Whether this is ASCII without U+0000 and wildcards, as nearly all names of topics are: judged
/// eight bytes at a time, since it is done for every message.
fn is_plain(bytes: &[u8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // The high bit of the sum of these is set if a byte is 0, and only then or in a later byte.
    let has_zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let (words, tail) = bytes.as_chunks::<8>();
    let tail_is_plain =
        tail.iter().all(|byte| matches!(byte, 1..=0x7F) && !matches!(byte, b'#' | b'+'));
    tail_is_plain
        && words.iter().all(|word| {
            let word = u64::from_le_bytes(*word);
            let hash = has_zero(word ^ (u64::from(b'#') * ONES));
            let plus = has_zero(word ^ (u64::from(b'+') * ONES));
            (word | has_zero(word) | hash | plus) & HIGH == 0
        })
}

/// A UTF-8 Encoded String. `[MQTT-1.5.4-1]` `[MQTT-1.5.4-2]` `[MQTT-1.5.4-3]`
pub(super) fn string(input: &[u8], field: Field) -> Parsed<'_, &str> {
    //= [D31-10]
    let (rest, bytes) = data(input)?;
    //= [MQTT-1.5.4-1] [MQTT-1.5.4-3]
    // The standard library's check is that of RFC 3629: no surrogates, no over-long forms; U+FEFF
    // is a character like any other.
    let text = match core::str::from_utf8(bytes) {
        Ok(text) if seeded!(StripsByteOrderMark) => text.trim_start_matches('\u{FEFF}'),
        Ok(text) => text,
        Err(error) if seeded!(CutsInvalidUtf8) => {
            let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
            core::str::from_utf8(valid).unwrap_or_default()
        }
        Err(_) => return broken(DecodeError::StringNotUtf8(field)),
    };
    //= [MQTT-1.5.4-2]
    if bytes.contains(&0) && !seeded!(AcceptsNull) {
        return broken(DecodeError::StringHasNull(field));
    }
    Ok((rest, text))
}

/// A Packet Identifier, which is never 0. `[MQTT-2.2.1-3]`
pub(super) fn packet_id(input: &[u8]) -> Parsed<'_, PacketId> {
    let (rest, value) = be_u16(input)?;
    let value = if seeded!(AcceptsIdentifierZero) { value.max(1) } else { value };
    match PacketId::new(value) {
        Some(id) => Ok((rest, id)),
        //= [MQTT-2.2.1-3]
        None => broken(DecodeError::PacketIdentifierZero),
    }
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use super::*;

    /// Each byte in each place of a word and of what follows the last whole word.
    #[test]
    fn a_name_is_plain_without_wildcards_null_and_more_than_ascii() {
        for len in 1..=19 {
            for at in 0..len {
                for byte in 0..=0xFF {
                    let mut name = vec![b'a'; len];
                    name[at] = byte;
                    let expected = byte.is_ascii() && !matches!(byte, 0 | b'#' | b'+');
                    assert_eq!(is_plain(&name), expected, "{name:?}");
                }
            }
        }
        assert!(is_plain(b""));
    }

    /// Every sequence of one, two and three bytes is the one encoding of its value, or goes on, or
    /// ends early, or is not minimal.
    #[test]
    fn all_variable_byte_integers_of_up_to_three_bytes() {
        let mut again = Vec::new();
        // Table 1-1 of the standard: how many values take one, two and three bytes.
        for (len, count) in [(1_u32, 128), (2, 16_384 - 128), (3, 2_097_152 - 16_384)] {
            let mut values = 0;
            for number in 0..1_u32 << (8 * len) {
                let bytes = &number.to_be_bytes()[4 - len as usize..];
                let end = bytes.iter().position(|byte| byte & 0x80 == 0);
                match read_variable(bytes) {
                    Ok(Variable::Incomplete) => assert_eq!(end, None),
                    Ok(Variable::Value { value, len: used }) => {
                        assert_eq!(Some(used - 1), end);
                        if used == bytes.len() {
                            again.clear();
                            crate::wire::put_variable(value as usize, &mut again);
                            assert_eq!(again, bytes);
                            assert_eq!(crate::wire::variable_len(value as usize), used);
                            values += 1;
                        }
                    }
                    Err(error) => {
                        assert_eq!(error, DecodeError::VariableByteIntegerNotMinimal);
                        assert!(end.is_some_and(|end| end > 0 && bytes[end] == 0));
                    }
                }
            }
            assert_eq!(values, count);
        }
    }

    #[test]
    fn a_variable_byte_integer_has_at_most_four_bytes() {
        for value in [2_097_152_usize, 268_435_454, 268_435_455] {
            let mut bytes = vec![];
            crate::wire::put_variable(value, &mut bytes);
            assert_eq!(variable(&bytes).unwrap(), (&[][..], value as u32));
        }
        assert_eq!(
            read_variable(&[0x80, 0x80, 0x80, 0x80]).err(),
            Some(DecodeError::VariableByteIntegerTooLong)
        );
        assert_eq!(
            read_variable(&[0xFF, 0xFF, 0xFF, 0xFF, 0x01]).err(),
            Some(DecodeError::VariableByteIntegerTooLong)
        );
        assert_eq!(
            read_variable(&[0x80, 0x80, 0x80, 0x00]).err(),
            Some(DecodeError::VariableByteIntegerNotMinimal)
        );
    }
}
