//! The data representations of section 1.5, as they are written.

use alloc::vec::Vec;

/// The largest value of a Variable Byte Integer, and so of a Remaining Length.
pub(crate) const VARIABLE_MAX: usize = 268_435_455;

/// Bytes of a Variable Byte Integer. `[MQTT-1.5.5-1]`
#[inline]
pub(crate) fn variable_len(value: usize) -> usize {
    match value {
        0x80 if seeded!(CutsLengthOf128) => 1,
        0x4000 if seeded!(CutsLengthOf16384) => 2,
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

/// Writes a Variable Byte Integer in the fewest bytes; what is above the largest value is written
/// as the largest.
#[inline]
pub(crate) fn put_variable(value: usize, out: &mut Vec<u8>) {
    //= [MQTT-1.5.5-1]
    let more = |shifted: usize| (shifted & 0x7F) as u8 | 0x80;
    match value.min(VARIABLE_MAX) {
        v @ 0x80 if seeded!(CutsLengthOf128) => out.push(v as u8),
        v @ 0x4000 if seeded!(CutsLengthOf16384) => {
            out.extend_from_slice(&[more(v), (v >> 7) as u8]);
        }
        v @ 0..=0x7F => out.push(v as u8),
        v @ 0x80..=0x3FFF => out.extend_from_slice(&[more(v), (v >> 7) as u8]),
        v @ 0x4000..=0x1F_FFFF => {
            out.extend_from_slice(&[more(v), more(v >> 7), (v >> 14) as u8]);
        }
        v => out.extend_from_slice(&[more(v), more(v >> 7), more(v >> 14), (v >> 21) as u8]),
    }
}

/// What of a string fits its two-byte length: all of it, or the whole characters within the first
/// 65,535 bytes. No string that was received is longer.
pub(crate) fn fitting(text: &str) -> &[u8] {
    match u16::try_from(text.len()) {
        Ok(_) => text.as_bytes(),
        Err(_) => {
            fitting_data(text.get(..text.floor_char_boundary(0xFFFF)).unwrap_or("").as_bytes())
        }
    }
}

/// What of Binary Data fits its two-byte length: at most the first 65,535 bytes.
pub(crate) fn fitting_data(data: &[u8]) -> &[u8] {
    data.get(..0xFFFF).unwrap_or(data)
}

/// Writes Binary Data, or a UTF-8 string's bytes, after a two-byte length.
pub(crate) fn put_data(data: &[u8], out: &mut Vec<u8>) {
    let data = fitting_data(data);
    out.extend_from_slice(&(data.len() as u16).to_be_bytes());
    out.extend_from_slice(data);
}

/// Writes a UTF-8 Encoded String.
pub(crate) fn put_string(text: &str, out: &mut Vec<u8>) {
    put_data(fitting(text), out);
}

/// Bytes that [`put_string`] writes.
pub(crate) fn string_len(text: &str) -> usize {
    sum(&[2, fitting(text).len()])
}

/// Bytes that [`put_data`] writes.
pub(crate) fn data_len(data: &[u8]) -> usize {
    sum(&[2, fitting_data(data).len()])
}

/// The sum of lengths. Lengths of what is in memory cannot overflow; a saturated sum would be
/// beyond every limit.
#[inline]
pub(crate) fn sum(lengths: &[usize]) -> usize {
    lengths.iter().fold(0, |total, length| total.saturating_add(*length))
}
