//! Entries in an order that only their owner knows: what they stand for has the keys, so that none
//! is stored twice.

use alloc::vec::Vec;
use core::{
    cmp::Ordering,
    hash::{Hash, Hasher},
    slice,
};

use super::table::reserve_sparingly;

/// Bytes of a chunk's entries at most.
const CHUNK_BYTES: usize = 2048;

/// Small entries in order. A million of them are found with twenty comparisons, and one more moves
/// no more than a chunk and, once in a while, the list of chunks.
#[derive(Clone, Debug)]
pub(super) enum Ordered<T> {
    /// One chunk, perhaps empty.
    Few(Vec<T>),
    /// Two chunks or more, none of them empty.
    Many(Vec<Vec<T>>),
}

/// Where an entry is or belongs, until the next change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    chunk: usize,
    entry: usize,
}

impl At {
    /// The beginning.
    pub(super) const FIRST: Self = Self { chunk: 0, entry: 0 };
    /// Behind the first of few entries.
    pub(super) const SECOND: Self = Self { chunk: 0, entry: 1 };
}

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// How entries are dealt to chunks tells of their history only.
impl<T: PartialEq> PartialEq for Ordered<T> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<T: Eq> Eq for Ordered<T> {}

impl<T: Hash> Hash for Ordered<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_usize(self.len());
        self.iter().for_each(|entry| entry.hash(state));
    }
}

impl<T> Ordered<T> {
    /// Entries of one chunk at most.
    const MOST: usize = CHUNK_BYTES / size_of::<T>();

    pub(super) const fn new() -> Self {
        Self::Few(Vec::new())
    }

    pub(super) fn len(&self) -> usize {
        self.chunks().iter().fold(0, |sum, chunk| sum.saturating_add(chunk.len()))
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.chunks().iter().flatten()
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Few(entries) if entries.is_empty())
    }

    /// The only entry, if there is no other.
    pub(super) fn only(&self) -> Option<&T> {
        match self {
            Self::Few(entries) if entries.len() == 1 => entries.first(),
            _ => None,
        }
    }

    /// Finds an entry: `compare` tells how one stands to what is looked for. The error says where it
    /// would be.
    #[inline]
    pub(super) fn find(&self, mut compare: impl FnMut(&T) -> Ordering) -> Result<At, At> {
        let (chunk, entries) = match self {
            Self::Few(entries) => (0, entries.as_slice()),
            Self::Many(chunks) => {
                let mut begins_behind =
                    |chunk: &Vec<T>| chunk.first().is_none_or(|first| compare(first).is_gt());
                let chunk = chunks.partition_point(|chunk| !begins_behind(chunk)).saturating_sub(1);
                (chunk, chunks.get(chunk).map_or(&[][..], Vec::as_slice))
            }
        };
        match entries.binary_search_by(compare) {
            Ok(entry) => Ok(At { chunk, entry }),
            Err(entry) => Err(At { chunk, entry }),
        }
    }

    pub(super) fn get(&self, at: At) -> Option<&T> {
        self.chunks().get(at.chunk)?.get(at.entry)
    }

    pub(super) fn get_mut(&mut self, at: At) -> Option<&mut T> {
        self.chunks_mut().get_mut(at.chunk)?.get_mut(at.entry)
    }

    /// Puts an entry where [`Ordered::find`] said that it belongs.
    pub(super) fn insert(&mut self, at: At, entry: T) {
        let is_last = at.chunk.saturating_add(1) == self.chunks().len();
        let Some(chunk) = self.chunks_mut().get_mut(at.chunk) else { return };
        if chunk.len() < Self::MOST {
            reserve_sparingly(chunk);
            return chunk.insert(at.entry.min(chunk.len()), entry);
        }
        // What comes in rising order fills its chunks; anything else makes two halves of one.
        let behind = if is_last && at.entry == chunk.len() {
            Vec::from([entry])
        } else {
            let mut behind = chunk.split_off(Self::MOST / 2);
            match at.entry.checked_sub(chunk.len()) {
                Some(at) => behind.insert(at.min(behind.len()), entry),
                None => chunk.insert(at.entry, entry),
            }
            behind
        };
        self.add_chunk(at.chunk.saturating_add(1), behind);
    }

    /// Removes the entry that [`Ordered::find`] found.
    pub(super) fn remove(&mut self, at: At) -> Option<T> {
        let chunk = self.chunks_mut().get_mut(at.chunk)?;
        if at.entry >= chunk.len() {
            return None;
        }
        let entry = chunk.remove(at.entry);
        if chunk.len() < Self::MOST / 4 {
            self.gather(at.chunk);
        }
        Some(entry)
    }

    /// A chunk has become short: it is joined with a neighbour, or gives room back.
    fn gather(&mut self, short: usize) {
        if let Self::Many(chunks) = self {
            let len = |at: usize| chunks.get(at).map_or(Self::MOST, Vec::len);
            let fits = |at: usize| {
                len(at).saturating_add(len(at.saturating_add(1)))
                    <= Self::MOST.saturating_sub(Self::MOST / 4)
            };
            let before = short.saturating_sub(1);
            let first = [short, before].into_iter().find(|at| fits(*at));
            if len(short) == 0 {
                chunks.remove(short);
            } else if let Some(first) = first {
                let mut second = chunks.remove(first.saturating_add(1));
                if let Some(first) = chunks.get_mut(first) {
                    first.append(&mut second);
                }
            }
            if chunks.len() == 1 {
                *self = Self::Few(chunks.pop().unwrap_or_default());
            }
        }
        if let Some(chunk) = self.chunks_mut().get_mut(short)
            && chunk.capacity() / 4 >= chunk.len()
        {
            chunk.shrink_to(chunk.len().saturating_mul(2));
        }
    }

    fn add_chunk(&mut self, at: usize, chunk: Vec<T>) {
        match self {
            Self::Few(first) => {
                let first = core::mem::take(first);
                *self = Self::Many(Vec::from([first, chunk]));
            }
            Self::Many(chunks) => chunks.insert(at.min(chunks.len()), chunk),
        }
    }

    fn chunks(&self) -> &[Vec<T>] {
        match self {
            Self::Few(chunk) => slice::from_ref(chunk),
            Self::Many(chunks) => chunks,
        }
    }

    fn chunks_mut(&mut self) -> &mut [Vec<T>] {
        match self {
            Self::Few(chunk) => slice::from_mut(chunk),
            Self::Many(chunks) => chunks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list as a set of numbers.
    fn put(list: &mut Ordered<u32>, number: u32) -> bool {
        let found = list.find(|entry| entry.cmp(&number));
        found.is_err_and(|at| {
            list.insert(at, number);
            true
        })
    }

    fn take(list: &mut Ordered<u32>, number: u32) -> bool {
        let found = list.find(|entry| entry.cmp(&number));
        found.is_ok_and(|at| list.remove(at) == Some(number))
    }

    fn check(list: &Ordered<u32>) {
        assert!(list.iter().is_sorted_by(|a, b| a < b));
        assert!(list.iter().rev().is_sorted_by(|a, b| a > b));
        assert_eq!(list.len(), list.iter().count());
        if let Ordered::Many(chunks) = list {
            assert!(chunks.len() > 1);
            assert!(
                chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= Ordered::<u32>::MOST)
            );
        }
    }

    /// Numbers below a prime, in an order that jumps about.
    fn scattered(count: u32) -> impl Iterator<Item = u32> {
        (0..count).map(|number| number * 7919 % 10_007)
    }

    #[test]
    fn it_holds_what_a_set_holds() {
        let mut list = Ordered::new();
        let mut set = alloc::collections::BTreeSet::new();
        // Two numbers of three go again, so that chunks come and go.
        for (step, number) in scattered(10_000).enumerate() {
            assert_eq!(put(&mut list, number), set.insert(number));
            if step % 3 > 0 {
                let other = number / 2;
                assert_eq!(take(&mut list, other), set.remove(&other));
            }
            if step % 100 == 0 {
                check(&list);
                assert!(list.iter().eq(&set));
            }
        }
        assert!(matches!(list, Ordered::Many(_)));
        for number in scattered(10_007) {
            assert_eq!(take(&mut list, number), set.remove(&number));
            assert!(list.find(|entry| entry.cmp(&number)).is_err());
        }
        check(&list);
        let Ordered::Few(empty) = list else { panic!("{list:?}") };
        assert_eq!(empty.capacity(), 0, "no room is left behind");
    }

    #[test]
    fn what_rises_fills_its_chunks() {
        let mut list = Ordered::new();
        (0..10 * Ordered::<u32>::MOST as u32).for_each(|number| assert!(put(&mut list, number)));
        let Ordered::Many(chunks) = &list else { panic!("{list:?}") };
        assert_eq!(chunks.len(), 10);
    }

    #[test]
    fn chunks_are_no_part_of_equality() {
        let (mut rising, mut falling) = (Ordered::new(), Ordered::new());
        let count = 3 * Ordered::<u32>::MOST as u32;
        (0..count).for_each(|number| assert!(put(&mut rising, number)));
        (0..count).rev().for_each(|number| assert!(put(&mut falling, number)));
        let lens = |list: &Ordered<u32>| list.chunks().iter().map(Vec::len).collect::<Vec<_>>();
        assert_ne!(lens(&rising), lens(&falling));
        assert_eq!(rising, falling);
        assert!(take(&mut falling, 7));
        assert_ne!(rising, falling);
    }

    #[test]
    fn entries_are_where_they_were_found() {
        let mut list = Ordered::new();
        scattered(1000).for_each(|number| assert!(put(&mut list, number)));
        let at = list.find(|entry| entry.cmp(&7919)).expect("it is the second");
        assert_eq!(list.get(at), Some(&7919));
        *list.get_mut(at).expect("the same") = 7918;
        assert_eq!(list.remove(at), Some(7918));
        let nowhere = At { chunk: 99, entry: 0 };
        list.insert(nowhere, 1);
        assert_eq!(list.get(nowhere), None);
        assert_eq!(list.remove(nowhere), None);
        assert_eq!(list.len(), 999);
        assert_eq!(list.remove(At { chunk: 0, entry: Ordered::<u32>::MOST }), None);
    }
}
