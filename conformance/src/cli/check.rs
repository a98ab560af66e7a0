//! `conformance check`

use clap::Args;
use conformance::requirements::Requirements;

use super::{Chosen, Verdict, chosen};

/// Parse scenarios and play nothing.
#[derive(Args)]
pub(crate) struct Check {
    #[command(flatten)]
    chosen: Chosen,
}

impl Check {
    pub(crate) fn carry_out(self) -> Verdict {
        let files = self.chosen.files()?;
        let chosen = self.chosen.of(&files, &Requirements::embedded())?;
        if self.chosen.list {
            chosen::list(&chosen, false);
        } else {
            println!("{} scenarios", files.len());
        }
        Ok(true)
    }
}
