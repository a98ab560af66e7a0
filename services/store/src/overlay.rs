//! Changes that the tables do not have yet, in memory. The log has them all.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    ops::Bound,
};

use crate::changes::Change;

/// What is known of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    /// `None` hides what the tables have.
    value: Option<Box<[u8]>>,
    /// The tables have nothing under this key, whether they heard of a deletion or not.
    fresh: bool,
}

/// The newest state of the rows that changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Overlay {
    rows: BTreeMap<Box<[u8]>, State>,
    bytes: usize,
}

/// Memory of one entry besides its key and value, roughly.
const ENTRY_BYTES: usize = 64;

impl Overlay {
    /// Memory that it takes, roughly.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn apply(&mut self, change: Change) {
        match change {
            Change::Put(key, value) => self.set(key, Some(value), false),
            Change::Insert(key, value) => self.set(key, Some(value), true),
            Change::Delete(key) => self.set(key, None, false),
        }
    }

    /// A change that is read back from the log: the tables may have it and what came later, so that
    /// nothing is known to be new.
    pub(crate) fn reapply(&mut self, change: Change) {
        match change {
            Change::Insert(key, value) => self.apply(Change::Put(key, value)),
            change => self.apply(change),
        }
    }

    fn set(&mut self, key: Vec<u8>, value: Option<Vec<u8>>, is_new: bool) {
        let size = |key: &[u8], value: &Option<Box<[u8]>>| {
            key.len().saturating_add(value.as_ref().map_or(0, |v| v.len())) + ENTRY_BYTES
        };
        let value = value.map(Vec::into_boxed_slice);
        match self.rows.entry(key.into_boxed_slice()) {
            Entry::Vacant(place) => {
                self.bytes += size(place.key(), &value);
                place.insert(State { value, fresh: is_new });
            }
            Entry::Occupied(mut place) => {
                let before = size(place.key(), &place.get().value);
                self.bytes = self.bytes.saturating_sub(before);
                if value.is_none() && place.get().fresh {
                    place.remove();
                    return;
                }
                self.bytes += size(place.key(), &value);
                // It stays new only if it was new here and is written over.
                place.get_mut().value = value;
            }
        }
    }

    /// Rows in order, from `from` on and before `to`; `None` hides what the tables have.
    pub(crate) fn range<'a>(
        &'a self,
        from: &[u8],
        to: &[u8],
    ) -> impl DoubleEndedIterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        let bounds = (from <= to).then_some((Bound::Included(from), Bound::Excluded(to)));
        let rows = bounds.map(|bounds| self.rows.range::<[u8], _>(bounds));
        rows.into_iter().flatten().map(|(key, state)| (&**key, state.value.as_deref()))
    }

    /// All rows in order.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.rows.iter().map(|(key, state)| (&**key, state.value.as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Vec<u8> {
        text.into()
    }

    fn rows(overlay: &Overlay) -> Vec<(String, Option<String>)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        overlay.rows().map(|(key, value)| (text(key), value.map(text))).collect()
    }

    #[test]
    fn what_came_and_went_leaves_nothing() {
        let mut overlay = Overlay::default();
        overlay.apply(Change::Insert(key("a"), key("1")));
        overlay.apply(Change::Put(key("a"), key("2")));
        overlay.apply(Change::Delete(key("a")));
        assert_eq!(overlay.rows().count(), 0);
        assert_eq!(overlay.bytes(), 0);
    }

    #[test]
    fn what_the_tables_may_have_is_hidden() {
        let mut overlay = Overlay::default();
        overlay.apply(Change::Put(key("a"), key("1")));
        overlay.apply(Change::Delete(key("a")));
        assert_eq!(rows(&overlay), [("a".into(), None)]);
        // A row that comes again hides it too, and so does its end.
        overlay.apply(Change::Insert(key("a"), key("2")));
        overlay.apply(Change::Delete(key("a")));
        assert_eq!(rows(&overlay), [("a".into(), None)]);
        overlay.reapply(Change::Insert(key("b"), key("2")));
        overlay.reapply(Change::Delete(key("b")));
        assert_eq!(rows(&overlay), [("a".into(), None), ("b".into(), None)]);
    }

    #[test]
    fn ranges_are_half_open() {
        let mut overlay = Overlay::default();
        for name in ["a", "b", "c"] {
            overlay.apply(Change::Put(key(name), key("v")));
        }
        let found: Vec<_> = overlay.range(b"a", b"c").map(|(key, _)| key).collect();
        assert_eq!(found, [b"a", b"b"]);
        assert_eq!(overlay.range(b"c", b"a").count(), 0);
    }
}
