//! `conformance report`

use std::{fs, path::PathBuf};

use clap::{Args, ValueEnum};
use conformance::{
    coverage::{self, Coverage},
    requirements::Requirements,
    sim, suite,
};

use super::Verdict;

/// Print the table of the standards' statements: what proves each, what keeps it, what became of it.
///
/// The scenarios are played in memory. To be run in a checkout of the project, whose code it reads.
#[derive(Args)]
pub(crate) struct Report {
    /// The form.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Write to this file instead of the standard output.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The checkout.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    root: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Markdown,
    Junit,
}

impl Report {
    pub(crate) fn carry_out(self) -> Verdict {
        let requirements = Requirements::embedded();
        let files = suite::load(&[self.root.join("spec-tests")])?;
        let coverage = Coverage::measure(&requirements, &files, &self.root)?;
        let verdicts = coverage.verdicts(&sim::play_all(&files));
        let text = match self.format {
            Format::Text => coverage::text(&coverage, &verdicts),
            Format::Markdown => coverage::markdown(&coverage, &verdicts),
            Format::Junit => coverage::junit(&coverage, &verdicts),
        };
        match self.output {
            Some(path) => fs::write(path, text)?,
            None => print!("{text}"),
        }
        coverage.problems.iter().for_each(|problem| eprintln!("{problem}"));
        let failed = verdicts.contains(&coverage::Verdict::Failed);
        let open = coverage.unexplained().count();
        if open > 0 {
            eprintln!("{open} statements are neither covered nor explained");
        }
        Ok(open == 0 && coverage.problems.is_empty() && !failed)
    }
}
