//! Tables addressed by small reused numbers.

use alloc::{boxed::Box, sync::Arc, vec::Vec};

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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Sessions<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    len: usize,
}

impl<T> Sessions<T> {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), len: 0 }
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
        let slot = self.slots.get(id.slot as usize)?;
        slot.value.is_some().then_some(SessionId { slot: id.slot, generation: slot.generation })
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
                // The vacancy is nearly always the last entry.
                if let Some(at) = self.free.iter().rposition(|free| *free == id.slot) {
                    self.free.remove(at);
                }
            }
            slot.generation = id.generation;
            slot.value = Some(Box::new(value));
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
        self.free.push(id.slot);
        self.len = self.len.saturating_sub(1);
        Some(value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SessionId, &T)> {
        (0..).zip(&self.slots).filter_map(|(number, slot)| {
            let id = SessionId { slot: number, generation: slot.generation };
            slot.value.as_deref().map(|value| (id, value))
        })
    }

    fn end(&self) -> u32 {
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

/// Subscriptions of one session in the order of their filters. Nearly all sessions have one or
/// two, for which a tree would cost ten times the memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct SortedList<V> {
    entries: Vec<(Arc<str>, V)>,
}

impl<V> SortedList<V> {
    pub(super) const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    pub(super) const fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&self, key: &str) -> Option<&V> {
        let at = self.find(key).ok()?;
        self.entries.get(at).map(|(_, value)| value)
    }

    pub(super) fn contains_key(&self, key: &str) -> bool {
        self.find(key).is_ok()
    }

    /// Puts a value under a key; true if the key is new.
    pub(super) fn insert(&mut self, key: Arc<str>, value: V) -> bool {
        match self.find(&key) {
            Ok(at) => {
                if let Some(entry) = self.entries.get_mut(at) {
                    entry.1 = value;
                }
                false
            }
            Err(at) => {
                reserve_sparingly(&mut self.entries);
                self.entries.insert(at, (key, value));
                true
            }
        }
    }

    /// Removes a key; true if it was there.
    pub(super) fn remove(&mut self, key: &str) -> bool {
        let found = self.find(key);
        if let Ok(at) = found {
            self.entries.remove(at);
        }
        found.is_ok()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &V)> {
        self.entries.iter().map(|(key, value)| (key, value))
    }

    pub(super) fn into_keys(self) -> impl Iterator<Item = Arc<str>> {
        self.entries.into_iter().map(|(key, _)| key)
    }

    fn find(&self, key: &str) -> Result<usize, usize> {
        self.entries.binary_search_by(|(entry, _)| (**entry).cmp(key))
    }
}

/// Makes room for one more entry: exactly that for the first few, since most lists stay so short.
pub(super) fn reserve_sparingly<T>(list: &mut Vec<T>) {
    if list.len() < 4 {
        list.reserve_exact(1);
    }
}
