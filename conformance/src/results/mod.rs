//! What a run found, and how it is shown.

pub(crate) mod junit;
mod markdown;
mod text;

pub use junit::junit;
pub use markdown::markdown;
pub use text::{progress, sum, text};

use std::time::Duration;

use crate::{
    deviations::{Deviation, Deviations},
    requirements::Requirements,
    run::{Finished, Played},
};

/// A run, and what is known of the broker.
#[derive(Debug)]
pub struct Results<'a> {
    /// The run.
    pub run: &'a Finished<'a>,
    /// Where the broker is, or what it is.
    pub broker: String,
    /// What is known of it.
    pub deviations: Option<&'a Deviations>,
    /// What the scenarios' claims say.
    pub requirements: &'a Requirements,
    /// How long it took.
    pub time: Duration,
}

/// What a scenario's outcome means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// All was as it must be.
    Passed,
    /// Something was not.
    Failed,
    /// It failed as the broker is known to.
    Known(&'a Deviation),
    /// It passed though the broker is known to fail it.
    Mended(&'a Deviation),
    /// It cannot be asked of a live broker.
    Skipped,
    /// The run was stopped before.
    NotPlayed,
}

impl<'a> Verdict<'a> {
    /// What to make of a scenario's outcome.
    pub fn of(played: &Played<'_>, deviations: Option<&'a Deviations>) -> Self {
        let known = deviations.and_then(|all| all.of(played.file, played.version));
        let has_failed = played.outcome.as_ref().map(|outcome| outcome.failure.is_some());
        match (has_failed, known) {
            (None, _) if played.file.scenario.core_only => Self::Skipped,
            (None, _) => Self::NotPlayed,
            (Some(true), None) => Self::Failed,
            (Some(true), Some(deviation)) => Self::Known(deviation),
            (Some(false), Some(deviation)) if !deviation.sometimes => Self::Mended(deviation),
            (Some(false), _) => Self::Passed,
        }
    }

    /// Whether nobody needs to look at it.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Passed | Self::Known(_) | Self::Skipped)
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Known(_) => "known deviation",
            Self::Mended(_) => "passed, but is listed as a deviation",
            Self::Skipped => "skipped",
            Self::NotPlayed => "not played",
        }
    }
}

/// How many of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the verdicts")]
pub struct Counts {
    pub passed: usize,
    pub failed: usize,
    pub known: usize,
    pub mended: usize,
    pub skipped: usize,
    pub not_played: usize,
}

impl Counts {
    fn add(&mut self, verdict: Verdict<'_>) {
        let count = match verdict {
            Verdict::Passed => &mut self.passed,
            Verdict::Failed => &mut self.failed,
            Verdict::Known(_) => &mut self.known,
            Verdict::Mended(_) => &mut self.mended,
            Verdict::Skipped => &mut self.skipped,
            Verdict::NotPlayed => &mut self.not_played,
        };
        *count += 1;
    }
}

impl Results<'_> {
    /// Whether the run is one that nobody needs to look at.
    pub fn is_good(&self) -> bool {
        self.run.stopped.is_none() && self.all().all(|(_, verdict)| verdict.is_good())
    }

    /// Every scenario with its verdict, in order.
    pub fn all(&self) -> impl Iterator<Item = (&Played<'_>, Verdict<'_>)> {
        self.run.played.iter().map(|played| (played, Verdict::of(played, self.deviations)))
    }

    /// How many of each, of those that fit.
    pub fn counts(&self, fits: impl Fn(&Played<'_>) -> bool) -> Counts {
        let mut counts = Counts::default();
        self.all().filter(|(played, _)| fits(played)).for_each(|(_, verdict)| counts.add(verdict));
        counts
    }
}

/// A scenario and its version, as they are named everywhere.
pub fn title(played: &Played<'_>) -> String {
    format!("{} ({})", played.file.name(), crate::suite::version_name(played.version))
}
