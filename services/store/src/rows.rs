//! Rows as they are now: the tables, and what changed since above them.

use std::sync::{Arc, PoisonError, RwLock};

use crate::{
    overlay::Overlay,
    tables::{Tables, Unreadable, Walk},
};

/// The layers above the tables.
#[derive(Debug, Default)]
struct Layers {
    /// What is written to.
    active: Overlay,
    /// What is on its way into the tables.
    frozen: Option<Arc<Overlay>>,
}

/// Rows that one thread changes and others read.
#[derive(Debug)]
pub(crate) struct Rows<T> {
    tables: T,
    layers: RwLock<Layers>,
}

/// A key and its value.
pub(crate) type Row = (Vec<u8>, Vec<u8>);
/// A key, and its value unless the row is gone.
type Changed = (Vec<u8>, Option<Vec<u8>>);

impl<T: Tables> Rows<T> {
    pub(crate) fn new(tables: T) -> Self {
        Self { tables, layers: RwLock::default() }
    }

    pub(crate) const fn tables(&self) -> &T {
        &self.tables
    }

    /// Changes the active layer. Nothing panics while the lock is held, so that its poison says
    /// nothing.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut Overlay) -> R) -> R {
        change(&mut self.layers.write().unwrap_or_else(PoisonError::into_inner).active)
    }

    /// Memory of the layers.
    pub(crate) fn layer_bytes(&self) -> (usize, usize) {
        let layers = self.layers.read().unwrap_or_else(PoisonError::into_inner);
        (layers.active.bytes(), layers.frozen.as_ref().map_or(0, |frozen| frozen.bytes()))
    }

    /// Sets the active layer aside on its way to the tables; `None` if one is on its way already.
    pub(crate) fn freeze(&self) -> Option<Arc<Overlay>> {
        let mut layers = self.layers.write().unwrap_or_else(PoisonError::into_inner);
        if layers.frozen.is_some() {
            return None;
        }
        let frozen = Arc::new(std::mem::take(&mut layers.active));
        layers.frozen = Some(Arc::clone(&frozen));
        Some(frozen)
    }

    /// The tables have what was set aside.
    pub(crate) fn thaw(&self) {
        self.layers.write().unwrap_or_else(PoisonError::into_inner).frozen = None;
    }

    /// The first rows of a range, so many at the most, and where others cannot be read.
    pub(crate) fn collect(
        &self,
        from: &[u8],
        to: &[u8],
        max: usize,
    ) -> (Vec<Row>, Vec<Unreadable>) {
        /// Rows of the active layer that are taken at a time, so that its writer does not wait for long.
        /// Fewer would be too few where most of them hide rows: each part begins a walk in the tables.
        const PART: usize = 1024;
        let part = max.max(PART);
        let (mut found, mut unreadable) = (Vec::new(), Vec::new());
        let mut begin = from.to_vec();
        while found.len() < max && begin.as_slice() < to {
            let (layer, frozen) = self.layers_of(&begin, to, part);
            let end = match layer.last() {
                Some((last, _)) if layer.len() == part => [last, &[0][..]].concat(),
                _ => to.to_vec(),
            };
            let left = max.saturating_sub(found.len());
            self.merge(&begin, &end, &layer, frozen.as_deref(), left, &mut found, &mut unreadable);
            begin = end;
        }
        (found, unreadable)
    }

    /// Every row of a range, in order.
    pub(crate) fn each(
        &self,
        from: &[u8],
        to: &[u8],
        mut visit: impl FnMut(Vec<u8>, Vec<u8>),
    ) -> Vec<Unreadable> {
        const PART: usize = 1024;
        let mut unreadable = Vec::new();
        let mut begin = from.to_vec();
        loop {
            let (rows, mut gaps) = self.collect(&begin, to, PART);
            unreadable.append(&mut gaps);
            let is_last = rows.len() < PART;
            if let Some((last, _)) = rows.last() {
                begin = [last, &[0][..]].concat();
            }
            rows.into_iter().for_each(|(key, value)| visit(key, value));
            if is_last {
                return unreadable;
            }
        }
    }

    /// The value of one row.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let end = [key, &[0][..]].concat();
        self.collect(key, &end, 1).0.pop().map(|(_, value)| value)
    }

    /// The last row of a range. Its writer waits meanwhile.
    pub(crate) fn last(&self, from: &[u8], to: &[u8]) -> Option<Row> {
        let layers = self.layers.read().unwrap_or_else(PoisonError::into_inner);
        let mut active = layers.active.range(from, to).rev().peekable();
        let frozen = layers.frozen.as_deref().into_iter();
        let mut frozen = frozen.flat_map(|frozen| frozen.range(from, to).rev()).peekable();
        let mut below = self.tables.last(from, to);
        loop {
            let upper = active.peek().map(|(key, _)| *key);
            let upper = upper.max(frozen.peek().map(|(key, _)| *key));
            let Some(key) = upper.filter(|key| below.as_ref().is_none_or(|row| *row.0 <= **key))
            else {
                return below;
            };
            let hidden = frozen.next_if(|(other, _)| *other == key);
            let (_, value) = active.next_if(|(other, _)| *other == key).or(hidden)?;
            if let Some(value) = value {
                return Some((key.to_vec(), value.to_vec()));
            }
            // The row is gone. Where the tables still have it, the one before it is looked for.
            if below.as_ref().is_some_and(|row| row.0 == key) {
                below = self.tables.last(from, key);
            }
        }
    }

    fn layers_of(
        &self,
        from: &[u8],
        to: &[u8],
        max: usize,
    ) -> (Vec<Changed>, Option<Arc<Overlay>>) {
        let layers = self.layers.read().unwrap_or_else(PoisonError::into_inner);
        let active = layers.active.range(from, to).take(max);
        let active = active.map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec)));
        (active.collect(), layers.frozen.clone())
    }

    #[allow(clippy::too_many_arguments, reason = "two layers, a range, and two results")]
    fn merge(
        &self,
        from: &[u8],
        to: &[u8],
        active: &[Changed],
        frozen: Option<&Overlay>,
        max: usize,
        found: &mut Vec<Row>,
        unreadable: &mut Vec<Unreadable>,
    ) {
        let mut taken = 0;
        let mut above = Above {
            active: active.iter().map(|(key, value)| (&**key, value.as_deref())).peekable(),
            frozen: frozen.into_iter().flat_map(|frozen| frozen.range(from, to)).peekable(),
        };
        let mut take = |key: &[u8], value: Option<&[u8]>| {
            if let Some(value) = value {
                found.push((key.to_vec(), value.to_vec()));
                taken += 1;
            }
            if taken < max { Walk::On } else { Walk::Stop }
        };
        let mut stopped = false;
        let mut gaps = self.tables.walk(from, to, &mut |key, value| {
            while let Some((upper, value)) = above.next_before(key) {
                if take(upper, value) == Walk::Stop {
                    stopped = true;
                    return Walk::Stop;
                }
            }
            let walk = match above.next_at(key) {
                Some(value) => take(key, value),
                None => take(key, Some(value)),
            };
            stopped = walk == Walk::Stop;
            walk
        });
        unreadable.append(&mut gaps);
        while !stopped && let Some((key, value)) = above.next() {
            stopped = take(key, value) == Walk::Stop;
        }
    }
}

/// The two layers above the tables as one, in order.
struct Above<A: Iterator, F: Iterator> {
    active: std::iter::Peekable<A>,
    frozen: std::iter::Peekable<F>,
}

type Layered<'a> = (&'a [u8], Option<&'a [u8]>);

impl<'a, A, F> Above<A, F>
where
    A: Iterator<Item = Layered<'a>>,
    F: Iterator<Item = Layered<'a>>,
{
    fn peek(&mut self) -> Option<&'a [u8]> {
        let active = self.active.peek().map(|(key, _)| *key);
        let frozen = self.frozen.peek().map(|(key, _)| *key);
        active.into_iter().chain(frozen).min()
    }

    fn next(&mut self) -> Option<Layered<'a>> {
        let key = self.peek()?;
        let below = self.frozen.next_if(|(frozen, _)| *frozen == key);
        self.active.next_if(|(active, _)| *active == key).or(below)
    }

    fn next_before(&mut self, key: &[u8]) -> Option<Layered<'a>> {
        if self.peek()? < key { self.next() } else { None }
    }

    fn next_at(&mut self, key: &[u8]) -> Option<Option<&'a [u8]>> {
        if self.peek()? == key { self.next().map(|(_, value)| value) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::{changes::Change, sim::SimDisk};

    #[derive(Clone, Debug)]
    enum Step {
        Put(u8, u8),
        Delete(u8),
        Freeze,
        Flush,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (0..20_u8, any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
            5 => (0..20_u8).prop_map(Step::Delete),
            1 => Just(Step::Freeze),
            1 => Just(Step::Flush),
        ];
        prop::collection::vec(step, 0..80)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        /// Two layers above the tables are read as if there were one map.
        #[test]
        fn layers_are_one_map(steps in steps(), from in 0..20_u8, to in 0..21_u8, max in 1..9_usize) {
            let rows = Rows::new(SimDisk::default().tables());
            let mut model = BTreeMap::new();
            let mut frozen: Option<Arc<Overlay>> = None;
            for step in steps {
                match step {
                    Step::Put(key, value) => {
                        let is_new = model.insert(vec![key], vec![value]).is_none();
                        let (key, value) = (vec![key], vec![value]);
                        rows.change(|layer| layer.apply(if is_new {
                            Change::Insert(key, value)
                        } else {
                            Change::Put(key, value)
                        }));
                    }
                    Step::Delete(key) => {
                        model.remove(&vec![key]);
                        rows.change(|layer| layer.apply(Change::Delete(vec![key])));
                    }
                    Step::Freeze => frozen = rows.freeze().or(frozen),
                    Step::Flush => {
                        if let Some(layer) = frozen.take() {
                            rows.tables().ingest(&mut layer.rows()).expect("they are written");
                            rows.thaw();
                        }
                    }
                }
            }
            let (from, to) = (vec![from], vec![to]);
            let expected: Vec<Row> = if from <= to {
                model.range(from.clone()..to.clone()).map(|(k, v)| (k.clone(), v.clone())).collect()
            } else {
                Vec::new()
            };
            let (found, _) = rows.collect(&from, &to, max);
            prop_assert_eq!(&found[..], &expected[..max.min(expected.len())]);
            let mut all = Vec::new();
            rows.each(&from, &to, |key, value| all.push((key, value)));
            prop_assert_eq!(&all, &expected);
            prop_assert_eq!(rows.last(&from, &to), expected.last().cloned());
            prop_assert_eq!(rows.get(&from), model.get(&from).cloned());
        }
    }
}
