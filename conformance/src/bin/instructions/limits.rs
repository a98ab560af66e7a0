//! The committed figures, and the judgement of new ones.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::valgrind::Versions;

/// Percent by which a figure may differ from the committed one.
const TOLERANCE: u64 = 3;

/// The same where compiler, counter or library are others.
const TOLERANCE_OF_OTHERS: u64 = 15;

/// The committed figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    /// What they were counted with.
    pub(crate) versions: Versions,
    /// Instructions of each scenario.
    pub(crate) instructions: BTreeMap<String, u64>,
}

impl Limits {
    /// Percent by which figures may differ that were counted with these versions.
    pub(crate) fn tolerance(&self, versions: &Versions) -> u64 {
        if self.versions == *versions { TOLERANCE } else { TOLERANCE_OF_OTHERS }
    }

    /// Scenarios that have a figure and are no more.
    pub(crate) fn strangers<'a>(&'a self, known: &'a [&str]) -> impl Iterator<Item = &'a str> {
        self.instructions.keys().map(String::as_str).filter(|name| !known.contains(name))
    }
}

/// What is to be said of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is what it was, nearly.
    Kept,
    /// It rose: the code got slower.
    Exceeded,
    /// It fell: the code got faster, and the limit has to follow, or the gain could be lost again
    /// unseen.
    Fell,
    /// There is no limit.
    Unlimited,
}

impl Verdict {
    /// Judges a figure by the committed one.
    pub(crate) fn of(instructions: u64, committed: Option<u64>, tolerance: u64) -> Self {
        let Some(committed) = committed else { return Self::Unlimited };
        if instructions * 100 > committed * (100 + tolerance) {
            Self::Exceeded
        } else if instructions * 100 < committed * (100 - tolerance) {
            Self::Fell
        } else {
            Self::Kept
        }
    }

    /// What to do about it.
    pub(crate) fn advice(self) -> Option<&'static str> {
        match self {
            Self::Kept => None,
            Self::Exceeded => Some("EXCEEDED: mend it, or say in the commit why it costs more"),
            Self::Fell => Some("FELL: well done, lower the limit with --write"),
            Self::Unlimited => Some("NO LIMIT: write one with --write"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_may_differ_by_the_tolerance_and_no_more() {
        let of = |instructions| Verdict::of(instructions, Some(10_000), 3);
        assert_eq!(of(9_699), Verdict::Fell);
        assert_eq!(of(9_700), Verdict::Kept);
        assert_eq!(of(10_300), Verdict::Kept);
        assert_eq!(of(10_301), Verdict::Exceeded);
        assert_eq!(Verdict::of(1, None, 3), Verdict::Unlimited);
    }

    #[test]
    fn all_but_a_kept_figure_fails() {
        assert_eq!(Verdict::Kept.advice(), None);
        for verdict in [Verdict::Exceeded, Verdict::Fell, Verdict::Unlimited] {
            assert!(verdict.advice().is_some());
        }
    }

    #[test]
    fn other_versions_widen_the_tolerance() {
        let text = "[versions]\nrustc = 'a'\nvalgrind = 'b'\nlibc = 'c'\n[instructions]\nx = 1\n";
        let limits: Limits = toml::from_str(text).expect("valid");
        let others: Limits = toml::from_str(&text.replace("'b'", "'d'")).expect("valid");
        assert_eq!(limits.tolerance(&limits.versions), 3);
        assert_eq!(limits.tolerance(&others.versions), 15);
        assert_eq!(limits.strangers(&["y"]).collect::<Vec<_>>(), ["x"]);
        assert_eq!(limits.strangers(&["x"]).count(), 0);
    }
}
