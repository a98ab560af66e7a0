//! What is remembered only to save work: it could be found anew at any time, so it is no part of the
//! state, and two shards that differ in it alone are equal.

use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

/// Something that may be forgotten.
#[derive(Clone, Debug, Default)]
pub(super) struct Memo<T>(pub(super) T);

impl<T> PartialEq for Memo<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<T> Eq for Memo<T> {}

impl<T> Hash for Memo<T> {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// Entries at first, and at most; both are powers of two.
const FEWEST: usize = 8;
const MOST: usize = 2048;
/// Bytes of the longest topic that is remembered.
const TOPIC_BYTES: usize = 58;
/// Filters that a topic may match to be remembered.
const FILTERS: usize = 4;

/// Which filters a topic matches, for topics that were asked for lately. A topic has one place,
/// which the latest takes: what an attacker can do is to make it useless.
#[derive(Clone, Debug, Default)]
pub(super) struct TopicMemo {
    slots: Vec<Slot>,
    /// Entries of another generation are of no worth.
    generation: u32,
    /// Questions that were not known, since the table has this size.
    unknown: usize,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    generation: u32,
    topic_len: u8,
    filters_len: u8,
    topic: [u8; TOPIC_BYTES],
    filters: [u32; FILTERS],
}

const VACANT: Slot = Slot {
    generation: 0,
    topic_len: 0,
    filters_len: 0,
    topic: [0; TOPIC_BYTES],
    filters: [0; FILTERS],
};

const _: () = assert!(size_of::<Slot>() <= 80, "the whole table fits a processor's cache");

impl TopicMemo {
    /// The filters of a topic, as [`TopicMemo::put`] got them.
    #[inline]
    pub(super) fn get(&self, topic: &[u8]) -> Option<&[u32]> {
        let slot = self.slots.get(place(topic, self.slots.len()))?;
        let known = slot.topic.get(..usize::from(slot.topic_len))?;
        if slot.generation != self.generation || known != topic {
            return None;
        }
        slot.filters.get(..usize::from(slot.filters_len))
    }

    /// Remembers the filters of a topic, if both are small enough.
    pub(super) fn put(&mut self, topic: &[u8], filters: &[u32]) {
        self.unknown = self.unknown.saturating_add(1);
        let len = self.slots.len();
        if len < MOST && self.unknown >= len {
            let more = if len == 0 { FEWEST } else { len.saturating_mul(4) };
            self.slots = Vec::new();
            self.slots.resize(more.min(MOST), VACANT);
            self.unknown = 0;
        }
        let at = place(topic, self.slots.len());
        let generation = self.generation.max(1);
        self.generation = generation;
        let Some(slot) = self.slots.get_mut(at) else { return };
        let (Ok(topic_len), Ok(filters_len)) =
            (u8::try_from(topic.len()), u8::try_from(filters.len()))
        else {
            return;
        };
        let room = (slot.topic.get_mut(..topic.len()), slot.filters.get_mut(..filters.len()));
        if let (Some(topic_room), Some(filters_room)) = room {
            topic_room.copy_from_slice(topic);
            filters_room.copy_from_slice(filters);
            (slot.generation, slot.topic_len, slot.filters_len) =
                (generation, topic_len, filters_len);
        }
    }

    /// Forgets everything: the filters have changed.
    pub(super) fn clear(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        if self.generation == 0 {
            self.slots = Vec::new();
        }
    }

    /// Everything that is remembered.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u32])> {
        self.slots.iter().filter_map(|slot| {
            let topic = slot.topic.get(..usize::from(slot.topic_len))?;
            let filters = slot.filters.get(..usize::from(slot.filters_len))?;
            (slot.generation == self.generation && self.generation > 0).then_some((topic, filters))
        })
    }
}

/// Where a topic belongs among so many, a power of two.
#[inline]
fn place(topic: &[u8], slots: usize) -> usize {
    usize::try_from(quick_hash(topic)).unwrap_or(0) & slots.saturating_sub(1)
}

/// A number from all bytes. Eight at a time: it is asked for every message. Whoever wants names with
/// one number finds them.
#[inline]
pub(super) fn quick_hash(name: &[u8]) -> u64 {
    const MIX: u64 = 0x9E37_79B9_7F4A_7C15;
    let (words, tail) = name.as_chunks::<8>();
    let tail = tail.iter().fold(name.len() as u64, |sum, byte| (sum << 8) | u64::from(*byte));
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    words.chain([tail]).fold(0_u64, |hash, word| (hash ^ word).wrapping_mul(MIX).rotate_left(29))
}

#[cfg(test)]
mod tests {
    use alloc::{format, vec, vec::Vec};

    use super::*;

    #[test]
    fn the_latest_topics_are_known_until_filters_change() {
        let mut memo = TopicMemo::default();
        assert_eq!(memo.get(b"a"), None);
        memo.put(b"a", &[]);
        memo.put(b"b/c", &[7, 3]);
        assert_eq!((memo.get(b"a"), memo.get(b"b/c")), (Some(&[][..]), Some(&[7, 3][..])));
        assert_eq!(memo.get(b"a/c"), None);
        assert_eq!(memo.iter().count(), 2);
        memo.clear();
        assert_eq!((memo.get(b"a"), memo.get(b"b/c"), memo.iter().count()), (None, None, 0));
        memo.put(b"b/c", &[1]);
        assert_eq!((memo.get(b"a"), memo.get(b"b/c")), (None, Some(&[1][..])));
    }

    #[test]
    fn long_topics_and_many_filters_are_not_remembered() {
        let mut memo = TopicMemo::default();
        let topics = [vec![b'a'; TOPIC_BYTES], vec![b'a'; TOPIC_BYTES + 1], vec![b'b'; 1000]];
        for topic in &topics {
            memo.put(topic, &[1]);
        }
        memo.put(b"many", &[1; FILTERS + 1]);
        let known: Vec<bool> = topics.iter().map(|topic| memo.get(topic).is_some()).collect();
        assert_eq!(known, [true, false, false]);
        assert_eq!(memo.get(b"many"), None);
    }

    /// It grows to its bound, and most of what fits is known.
    #[test]
    fn it_grows_with_the_number_of_topics() {
        let mut memo = TopicMemo::default();
        for round in 0..4 {
            for number in 0..1000 {
                let topic = format!("site/{number}/temperature");
                if memo.get(topic.as_bytes()).is_none() {
                    memo.put(topic.as_bytes(), &[number]);
                }
                assert_eq!(memo.get(topic.as_bytes()), Some(&[number][..]), "{round}");
            }
        }
        assert_eq!(memo.slots.len(), MOST);
        assert!(memo.iter().count() > 700, "{}", memo.iter().count());
    }

    /// After four billion changes an entry of long ago is not taken for a fresh one.
    #[test]
    fn a_generation_that_comes_again_knows_nothing() {
        let mut memo = TopicMemo::default();
        memo.put(b"a", &[1]);
        memo.generation = u32::MAX;
        memo.clear();
        memo.put(b"b", &[2]);
        assert_eq!((memo.get(b"a"), memo.get(b"b")), (None, Some(&[2][..])));
    }
}
