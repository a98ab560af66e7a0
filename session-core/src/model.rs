//! Hashing for model checkers.
//!
//! Time, the names of connections and positions in the log only ever grow: hashed as they are, two
//! states that behave alike from now on would count as two for ever. With the feature `model` they
//! are hashed by their distance from a present that the checker sets. What a shard does depends on
//! these distances alone, so that states with equal hashes behave alike. Equality stays exact.

use core::{
    cell::{Cell, RefCell},
    hash::{Hash, Hasher},
};
use std::{thread_local, vec::Vec};

use crate::{CommitSeq, ConnId, Time};

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(0) };
    static COMMITTED: Cell<u64> = const { Cell::new(0) };
    static EPOCHS: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// Sets the present of this thread: the time, and the last epoch that each group of slots has
/// used. A connection belongs to the group of its slot modulo the number of groups.
pub fn set_present(now: Time, epochs: &[u32]) {
    NOW.set(now.0);
    EPOCHS.with_borrow_mut(|present| {
        present.clear();
        present.extend_from_slice(epochs);
    });
}

/// Sets the last position in the log of the shard that is hashed next.
pub fn set_committed(committed: CommitSeq) {
    COMMITTED.set(committed.0);
}

impl Hash for Time {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let distance = if *self == Self::NEVER { self.0 } else { self.0.wrapping_sub(NOW.get()) };
        state.write_u64(distance);
    }
}

impl Hash for CommitSeq {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.wrapping_sub(COMMITTED.get()));
    }
}

impl Hash for ConnId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u32(self.slot);
        let last = EPOCHS.with_borrow(|epochs| {
            let groups = u32::try_from(epochs.len()).unwrap_or(u32::MAX);
            let group = self.slot.checked_rem(groups).unwrap_or(0);
            epochs.get(group as usize).copied().unwrap_or(0)
        });
        state.write_u32(last.wrapping_sub(self.epoch));
    }
}
