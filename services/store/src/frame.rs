//! The log's form: frames, each with everything that became durable by one sync.
//!
//! A segment begins with a header: magic, version of the format, number of the segment, sequence of its
//! first frame, CRC-32. A frame is
//! `length: u32 | CRC-32 of the rest: u32 | sequence: u64 | synced: u64 | changes`, where `synced` is
//! the last frame that was known to be durable when this one was written. After a power failure the
//! disk may hold any of the frames behind that one, or parts of them: those were never acknowledged.
//! A frame that cannot be read although a later one says that it was synced is damage.

use crate::{
    changes::Change,
    keys,
    wire::{Reader, Write},
};

const MAGIC: &[u8; 8] = b"CAIRNLOG";
const VERSION: u16 = 1;
/// Bytes of a segment's header.
pub(crate) const HEADER_BYTES: usize = 30;
/// Bytes of a frame without its changes.
const FRAME_BYTES: usize = 24;

/// The first bytes of a segment.
pub(crate) fn header(segment: u64, first: u64) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.u16(VERSION);
    out.u64(segment);
    out.u64(first);
    let sum = crc32fast::hash(&out);
    out.u32(sum);
    out
}

/// What became durable together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) sequence: u64,
    pub(crate) synced: u64,
    pub(crate) changes: Vec<Change>,
}

/// Appends a frame.
pub(crate) fn encode(sequence: u64, synced: u64, changes: &[Change], out: &mut Vec<u8>) {
    let begin = out.len();
    out.extend_from_slice(&[0; 8]);
    out.u64(sequence);
    out.u64(synced);
    for change in changes {
        match change {
            Change::Put(key, value) => put(0, key, Some(value), out),
            Change::Insert(key, value) => put(1, key, Some(value), out),
            Change::Delete(key) => put(2, key, None, out),
        }
    }
    let len = u32::try_from(out.len().saturating_sub(begin)).unwrap_or(u32::MAX);
    if let Some((head, body)) = out.get_mut(begin..).and_then(|f| f.split_at_mut_checked(8)) {
        let mut sum = crc32fast::Hasher::new();
        sum.update(&len.to_be_bytes());
        sum.update(body);
        head.copy_from_slice(&(u64::from(len) << 32 | u64::from(sum.finalize())).to_be_bytes());
    }
}

fn put(kind: u8, key: &[u8], value: Option<&[u8]>, out: &mut Vec<u8>) {
    out.u8(kind);
    out.u16(u16::try_from(key.len()).unwrap_or(u16::MAX));
    out.extend_from_slice(key.get(..usize::from(u16::MAX)).unwrap_or(key));
    if let Some(value) = value {
        out.bytes(value);
    }
}

/// Reads the frame that begins here: it and its length, or `None` if there is no whole one. Its
/// sequence is `next` or later, but not later than the bytes have room for: what looks like a frame by
/// accident is seen before its sum is computed.
fn decode(bytes: &[u8], next: u64, room: u64) -> Option<(Frame, usize)> {
    let mut rest = Reader(bytes);
    let (len, sum) = (rest.u32()?, rest.u32()?);
    let len = usize::try_from(len).ok().filter(|len| *len >= FRAME_BYTES)?;
    let (sequence, synced) = (rest.u64()?, rest.u64()?);
    if sequence < next || sequence > next.saturating_add(room) || synced >= sequence {
        return None;
    }
    let body = bytes.get(8..len)?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(bytes.get(..4)?);
    hasher.update(body);
    if hasher.finalize() != sum {
        return None;
    }
    let mut rest = Reader(body.get(16..)?);
    let mut changes = Vec::new();
    while !rest.is_at_end() {
        changes.push(change(&mut rest)?);
    }
    Some((Frame { sequence, synced, changes }, len))
}

fn change(rest: &mut Reader<'_>) -> Option<Change> {
    let kind = rest.u8()?;
    let len = usize::from(rest.u16()?);
    let (key, after) = rest.0.split_at_checked(len)?;
    rest.0 = after;
    let key = key.to_vec();
    Some(match kind {
        0 => Change::Put(key, rest.bytes()?.to_vec()),
        1 => Change::Insert(key, rest.bytes()?.to_vec()),
        2 => Change::Delete(key),
        _ => return None,
    })
}

/// What a segment's bytes say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Scan {
    /// The sequence that its first frame has or would have.
    pub(crate) first: u64,
    /// Frames, each with the offset where it begins.
    pub(crate) frames: Vec<(usize, Frame)>,
    /// Where bytes cannot be read, and where the next frame begins (the end of the bytes if there is
    /// none).
    pub(crate) gaps: Vec<(usize, usize)>,
}

/// Why bytes are no segment of this log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoSegment {
    /// The header is not whole, or not one.
    Header,
    /// It was written by a version that this one does not know.
    Version(u16),
    /// It is another segment.
    Number(u64),
}

/// Reads a segment. Where a frame cannot be read, the next one is looked for byte by byte.
pub(crate) fn scan(segment: u64, bytes: &[u8]) -> Result<Scan, NoSegment> {
    // The header of every version has these fields here, and its sum.
    let header = bytes.get(..HEADER_BYTES).ok_or(NoSegment::Header)?;
    let (fields, sum) = header.split_at(HEADER_BYTES - 4);
    if crc32fast::hash(fields).to_be_bytes() != *sum {
        return Err(NoSegment::Header);
    }
    let mut rest = Reader(fields.strip_prefix(MAGIC).ok_or(NoSegment::Header)?);
    let version = rest.u16().ok_or(NoSegment::Header)?;
    if version != VERSION {
        return Err(NoSegment::Version(version));
    }
    let number = rest.u64().ok_or(NoSegment::Header)?;
    if number != segment {
        return Err(NoSegment::Number(number));
    }
    let first = rest.u64().ok_or(NoSegment::Header)?;
    Ok(scan_frames(first, bytes))
}

/// What can still be told of a frame that cannot be read: the rows that it changed, as far as its form
/// can be followed.
pub(crate) fn describe(bytes: &[u8]) -> String {
    const MOST: usize = 10;
    let mut rest = Reader(bytes.get(FRAME_BYTES..).unwrap_or_default());
    let mut rows = Vec::new();
    while !rest.is_at_end()
        && let Some(change) = change(&mut rest)
    {
        let (Change::Put(key, _) | Change::Insert(key, _) | Change::Delete(key)) = change;
        rows.push(keys::describe(&key));
    }
    if rows.is_empty() {
        return String::new();
    }
    let more = rows.len().saturating_sub(MOST);
    rows.truncate(MOST);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!(", which changed {}{more}", rows.join(", "))
}

fn scan_frames(first: u64, bytes: &[u8]) -> Scan {
    let mut scan = Scan { first, ..Scan::default() };
    let mut at = HEADER_BYTES;
    let mut next = first;
    let mut gap = None;
    while at < bytes.len() {
        let room = gap.map_or(0, |begin| at.saturating_sub(begin) / FRAME_BYTES);
        let found = bytes.get(at..).and_then(|rest| decode(rest, next, room as u64));
        match found {
            Some((frame, len)) => {
                next = frame.sequence.saturating_add(1);
                scan.gaps.extend(gap.take().map(|begin| (begin, at)));
                scan.frames.push((at, frame));
                at = at.saturating_add(len);
            }
            None => {
                gap.get_or_insert(at);
                at = at.saturating_add(1);
            }
        }
    }
    scan.gaps.extend(gap.map(|begin| (begin, bytes.len())));
    scan
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames(count: u64) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = header(7, 1);
        let mut offsets = Vec::new();
        for sequence in 1..=count {
            offsets.push(bytes.len());
            let key = sequence.to_be_bytes().to_vec();
            let changes = [
                Change::Put(key.clone(), b"value".to_vec()),
                Change::Insert(b"new".to_vec(), Vec::new()),
                Change::Delete(key),
            ];
            encode(sequence, sequence - 1, &changes, &mut bytes);
        }
        (bytes, offsets)
    }

    #[test]
    fn frames_are_read_back() {
        let (bytes, offsets) = frames(3);
        let scan = scan(7, &bytes).unwrap();
        assert!(scan.gaps.is_empty());
        let found: Vec<usize> = scan.frames.iter().map(|(at, _)| *at).collect();
        assert_eq!(found, offsets);
        assert_eq!(scan.frames[2].1.changes.len(), 3);
        assert_eq!(scan.frames[2].1.synced, 2);
    }

    #[test]
    fn a_header_is_judged() {
        let (bytes, _) = frames(1);
        assert_eq!(scan(8, &bytes), Err(NoSegment::Number(7)));
        assert_eq!(scan(7, &bytes[..HEADER_BYTES - 1]), Err(NoSegment::Header));
        assert_eq!(scan(7, b"something else altogether"), Err(NoSegment::Header));
        let mut flipped = bytes.clone();
        flipped[20] ^= 1;
        assert_eq!(scan(7, &flipped), Err(NoSegment::Header));
        let mut newer = bytes[..HEADER_BYTES - 4].to_vec();
        newer[9] = 2;
        newer.extend(crc32fast::hash(&newer).to_be_bytes());
        assert_eq!(scan(7, &newer), Err(NoSegment::Version(2)));
    }

    proptest! {
        /// Cut anywhere, exactly the whole frames are read.
        #[test]
        fn a_torn_end_is_a_gap(cut in 0_usize..500) {
            let (bytes, offsets) = frames(5);
            let cut = HEADER_BYTES.max(cut).min(bytes.len());
            let scan = scan(7, &bytes[..cut]).unwrap();
            let ends = offsets.iter().skip(1).copied().chain([bytes.len()]);
            let whole = ends.filter(|end| *end <= cut).count();
            prop_assert_eq!(scan.frames.len(), whole);
            prop_assert_eq!(scan.gaps.len(), usize::from(!offsets.contains(&cut) && cut < bytes.len()));
        }

        /// A flipped bit costs one frame.
        #[test]
        fn a_flipped_bit_is_seen(at in 0_usize..500, bit in 0_u8..8) {
            let (mut bytes, offsets) = frames(5);
            let at = HEADER_BYTES + at % (bytes.len() - HEADER_BYTES);
            bytes[at] ^= 1_u8 << bit;
            let scan = scan(7, &bytes).unwrap();
            prop_assert_eq!(scan.frames.len(), 4);
            prop_assert_eq!(scan.gaps.len(), 1);
            let hit = offsets.iter().rposition(|offset| *offset <= at).unwrap();
            prop_assert_eq!(scan.gaps[0].0, offsets[hit]);
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let bytes = [header(7, 1), bytes].concat();
            let _ = scan(7, &bytes);
        }
    }
}
