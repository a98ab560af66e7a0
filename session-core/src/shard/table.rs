//! Tables addressed by small reused numbers.

use alloc::{boxed::Box, collections::VecDeque, vec::Vec};
use core::{
    hash::{Hash, Hasher},
    slice,
};

use crate::ConnId;

/// Names a session for as long as it lives. Slots are reused, generations are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

impl SessionId {
    /// A name as a log tells it.
    pub const fn new(slot: u32, generation: u32) -> Self {
        Self { slot, generation }
    }

    /// The index of the slot.
    pub const fn slot(self) -> u32 {
        self.slot
    }

    /// Which user of the slot.
    pub const fn generation(self) -> u32 {
        self.generation
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Slot<T> {
    generation: u32,
    value: Option<Box<T>>,
}

/// Values in slots whose generation tells successive users apart.
#[derive(Clone, Debug)]
pub(super) struct Sessions<T> {
    slots: Vec<Slot<T>>,
    /// Slots in the order in which they are used again, the next one last. Those among them that
    /// are in use do not count: a log may name slots in any order, and to look for each would take
    /// a time that grows with the square of their number. The last one is free.
    free: Vec<u32>,
    /// How many of those do not count.
    taken: usize,
    len: usize,
}

impl<T: PartialEq> PartialEq for Sessions<T> {
    fn eq(&self, other: &Self) -> bool {
        self.slots == other.slots && self.free().eq(other.free())
    }
}

impl<T: Eq> Eq for Sessions<T> {}

impl<T: Hash> Hash for Sessions<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.slots.hash(state);
        self.free().for_each(|slot| slot.hash(state));
    }
}

impl<T> Sessions<T> {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), taken: 0, len: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The name that the next [`Sessions::insert`] should use.
    pub(super) fn vacancy(&self) -> SessionId {
        let slot = self.free.last().copied().unwrap_or(self.end());
        let generation = self.slots.get(slot as usize).map_or(0, |slot| slot.generation);
        SessionId { slot, generation }
    }

    /// The name under which the slot of this one is in use.
    pub(super) fn occupant(&self, id: SessionId) -> Option<SessionId> {
        self.by_slot(id.slot).map(|(occupant, _)| occupant)
    }

    /// Puts a value under a name, from [`Sessions::vacancy`] or from the log.
    pub(super) fn insert(&mut self, id: SessionId, value: T) {
        while self.end() <= id.slot {
            self.free.push(self.end());
            self.slots.push(Slot { generation: 0, value: None });
        }
        if let Some(slot) = self.slots.get_mut(id.slot as usize) {
            if slot.value.is_none() {
                self.len = self.len.saturating_add(1);
                self.taken = self.taken.saturating_add(1);
            }
            slot.generation = id.generation;
            slot.value = Some(Box::new(value));
        }
        // The vacancy is nearly always the last entry.
        while self.free.last().is_some_and(|slot| !self.is_free(*slot)) {
            self.free.pop();
            self.taken = self.taken.saturating_sub(1);
        }
    }

    pub(super) fn get(&self, id: SessionId) -> Option<&T> {
        let slot = self.slots.get(id.slot as usize)?;
        if slot.generation == id.generation { slot.value.as_deref() } else { None }
    }

    pub(super) fn get_mut(&mut self, id: SessionId) -> Option<&mut T> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        if slot.generation == id.generation { slot.value.as_deref_mut() } else { None }
    }

    pub(super) fn remove(&mut self, id: SessionId) -> Option<Box<T>> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        if self.taken > 0 {
            // An entry that does not count must not begin to because its slot is free again.
            let mut free = core::mem::take(&mut self.free);
            free.retain(|slot| *slot != id.slot && self.is_free(*slot));
            (self.free, self.taken) = (free, 0);
        }
        self.free.push(id.slot);
        self.len = self.len.saturating_sub(1);
        Some(value)
    }

    fn free(&self) -> impl Iterator<Item = u32> {
        self.free.iter().copied().filter(|slot| self.is_free(*slot))
    }

    fn is_free(&self, slot: u32) -> bool {
        self.slots.get(slot as usize).is_some_and(|slot| slot.value.is_none())
    }

    /// The value in a slot, and its name.
    #[inline]
    pub(super) fn by_slot(&self, slot: u32) -> Option<(SessionId, &T)> {
        let Slot { generation, value } = self.slots.get(slot as usize)?;
        Some((SessionId { slot, generation: *generation }, value.as_deref()?))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SessionId, &T)> {
        (0..).zip(&self.slots).filter_map(|(number, slot)| {
            let id = SessionId { slot: number, generation: slot.generation };
            slot.value.as_deref().map(|value| (id, value))
        })
    }

    /// One more than the last slot.
    pub(super) fn end(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }
}

/// What a connection table asks of its values.
pub(super) trait Named {
    fn name(&self) -> ConnId;
}

/// Connections by the slot that the runtime chose.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Conns<T> {
    slots: Vec<Option<Box<T>>>,
    len: usize,
}

impl<T: Named> Conns<T> {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), len: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn insert(&mut self, value: T) {
        let slot = value.name().slot as usize;
        if self.slots.len() <= slot {
            self.slots.resize_with(slot.saturating_add(1), || None);
        }
        if let Some(place) = self.slots.get_mut(slot)
            && place.replace(Box::new(value)).is_none()
        {
            self.len = self.len.saturating_add(1);
        }
    }

    pub(super) fn get(&self, id: ConnId) -> Option<&T> {
        self.slots.get(id.slot as usize)?.as_deref().filter(|value| value.name() == id)
    }

    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut T> {
        self.slots.get_mut(id.slot as usize)?.as_deref_mut().filter(|value| value.name() == id)
    }

    pub(super) fn remove(&mut self, id: ConnId) -> Option<Box<T>> {
        let place = self.slots.get_mut(id.slot as usize)?;
        let value = place.take_if(|value| value.name() == id)?;
        self.len = self.len.saturating_sub(1);
        // What is gone leaves nothing behind: the table is again what it was before.
        while self.slots.pop_if(|place| place.is_none()).is_some() {}
        Some(value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|place| place.as_deref())
    }
}

/// Subscriptions of one session in the order of their filters. Nearly all sessions have one, for
/// which a tree would cost ten times the memory.
#[allow(clippy::box_collection, reason = "the rare case is thin, so that the usual one is small")]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum SortedList<V> {
    None,
    One((Box<str>, V)),
    /// Two or more.
    Many(Box<Vec<(Box<str>, V)>>),
}

impl<V> SortedList<V> {
    pub(super) const fn new() -> Self {
        Self::None
    }

    pub(super) fn len(&self) -> usize {
        self.entries().len()
    }

    pub(super) fn get(&self, key: &str) -> Option<&V> {
        let at = self.find(key).ok()?;
        self.entries().get(at).map(|(_, value)| value)
    }

    pub(super) fn contains_key(&self, key: &str) -> bool {
        self.find(key).is_ok()
    }

    /// Puts a value under a key; true if the key is new.
    pub(super) fn insert(&mut self, key: Box<str>, value: V) -> bool {
        match self.find(&key) {
            Ok(at) => {
                if let Some(entry) = self.entries_mut().get_mut(at) {
                    entry.1 = value;
                }
                false
            }
            Err(_) if matches!(self, Self::None) => {
                *self = Self::One((key, value));
                true
            }
            Err(at) => {
                let mut entries = core::mem::replace(self, Self::None).into_many();
                reserve_sparingly(&mut entries);
                entries.insert(at, (key, value));
                *self = Self::Many(entries);
                true
            }
        }
    }

    /// Removes a key; true if it was there.
    pub(super) fn remove(&mut self, key: &str) -> bool {
        let Ok(at) = self.find(key) else { return false };
        let mut entries = core::mem::replace(self, Self::None).into_many();
        entries.remove(at);
        *self = match entries.pop() {
            None => Self::None,
            Some(last) if entries.is_empty() => Self::One(last),
            Some(last) => {
                entries.push(last);
                Self::Many(entries)
            }
        };
        true
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.entries().iter().map(|(key, value)| (&**key, value))
    }

    pub(super) fn into_keys(self) -> impl Iterator<Item = Box<str>> {
        self.into_many().into_iter().map(|(key, _)| key)
    }

    fn find(&self, key: &str) -> Result<usize, usize> {
        self.entries().binary_search_by(|(entry, _)| (**entry).cmp(key))
    }

    fn entries(&self) -> &[(Box<str>, V)] {
        match self {
            Self::None => &[],
            Self::One(entry) => slice::from_ref(entry),
            Self::Many(entries) => entries,
        }
    }

    fn entries_mut(&mut self) -> &mut [(Box<str>, V)] {
        match self {
            Self::None => &mut [],
            Self::One(entry) => slice::from_mut(entry),
            Self::Many(entries) => entries,
        }
    }

    #[allow(clippy::box_collection, reason = "it is the variant's")]
    fn into_many(self) -> Box<Vec<(Box<str>, V)>> {
        match self {
            Self::None => Box::default(),
            Self::One(entry) => {
                let mut entries = Vec::with_capacity(2);
                entries.push(entry);
                Box::new(entries)
            }
            Self::Many(entries) => entries,
        }
    }
}

/// Entries that a queue has room for when it is empty.
pub(super) const ROOM_KEPT: usize = 1024;

/// A queue that is empty gives back what a burst needed, if it has room for more entries than `kept`.
#[inline]
pub(super) fn give_room_back<T>(queue: &mut VecDeque<T>, kept: usize) {
    if queue.is_empty() && queue.capacity() > kept {
        *queue = VecDeque::new();
    }
}

/// Makes room for one more entry: exactly that for the first few, since most lists stay so short.
pub(super) fn reserve_sparingly<T>(list: &mut Vec<T>) {
    if list.len() < 4 {
        list.reserve_exact(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn name(slot: u32) -> SessionId {
        SessionId { slot, generation: 0 }
    }

    /// What a table and one that looks for each slot agree in.
    fn vacancies(mut table: Sessions<u32>) -> Vec<u32> {
        let mut found = Vec::new();
        while table.vacancy().slot < 8 {
            found.push(table.vacancy().slot);
            table.insert(table.vacancy(), 0);
        }
        found
    }

    #[test]
    fn slots_that_are_named_in_any_order_leave_the_others_free() {
        let mut table = Sessions::new();
        for slot in [6, 1, 4] {
            table.insert(name(slot), slot);
        }
        assert_eq!(vacancies(table.clone()), [5, 3, 2, 0, 7]);
        assert!(table.remove(name(4)).is_some());
        assert_eq!((table.len(), table.remove(name(4))), (2, None));
        assert_eq!(vacancies(table.clone()), [4, 5, 3, 2, 0, 7]);
        // The same state, reached by way of fewer sessions.
        let mut other = Sessions::new();
        other.insert(name(6), 6);
        other.insert(name(4), 4);
        other.remove(name(4));
        assert_ne!(table, other);
        other.insert(name(1), 1);
        assert_eq!(table, other);
    }

    #[test]
    fn many_slots_in_falling_order_take_no_time() {
        let mut table = Sessions::new();
        (0..200_000).rev().for_each(|slot| table.insert(name(slot), slot));
        assert_eq!((table.len(), table.vacancy().slot), (200_000, 200_000));
        assert_eq!(table.by_slot(7), Some((name(7), &7)));
    }

    #[test]
    fn a_list_is_sorted_whatever_its_length() {
        let mut list = SortedList::new();
        let keys = ["c", "a", "b", "d", "e"];
        for (at, key) in keys.iter().enumerate() {
            assert!(list.insert((*key).into(), 0));
            assert!(!list.insert((*key).into(), at), "it is there already");
            assert_eq!((list.len(), list.get(key)), (at + 1, Some(&at)));
        }
        assert!(list.iter().map(|(key, _)| key).eq(["a", "b", "c", "d", "e"]));
        assert!(!list.remove("f"));
        for key in keys {
            assert!(list.contains_key(key) && list.remove(key) && !list.contains_key(key));
        }
        assert_eq!(list, SortedList::new());
        list.insert("only".into(), 1);
        assert!(list.into_keys().eq([Box::from("only")]));
    }
}
