//! `conformance check`

use std::path::PathBuf;

use clap::Args;
use conformance::suite;

use super::Verdict;

/// Parse scenarios and play nothing.
#[derive(Args)]
pub(crate) struct Check {
    /// Files and folders.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

impl Check {
    pub(crate) fn carry_out(self) -> Verdict {
        println!("{} scenarios", suite::load(&self.paths)?.len());
        Ok(true)
    }
}
