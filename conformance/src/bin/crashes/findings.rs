//! What a broker may not do, and did.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// So many of each kind are shown.
const SHOWN: usize = 5;

/// All findings by kind: how many there are, and the first of them.
#[derive(Default)]
pub(crate) struct Findings(Mutex<BTreeMap<&'static str, (u64, Vec<String>)>>);

impl Findings {
    pub(crate) fn add(&self, kind: &'static str, what: impl FnOnce() -> String) {
        let mut all = self.all();
        let (count, shown) = all.entry(kind).or_default();
        *count += 1;
        if shown.len() < SHOWN {
            shown.push(what());
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    /// All kinds that occurred.
    #[cfg(test)]
    pub(crate) fn kinds(&self) -> Vec<&'static str> {
        self.all().keys().copied().collect()
    }

    /// One line for each that is shown.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (kind, (count, shown)) in self.all().iter() {
            lines.push(format!("VIOLATION {kind}: {count}"));
            lines.extend(shown.iter().map(|what| format!("    {what}")));
        }
        lines
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<&'static str, (u64, Vec<String>)>> {
        // One addition is whole or was not made.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
