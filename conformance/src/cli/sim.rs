//! `conformance sim`

use std::path::PathBuf;

use clap::Args;
use conformance::{
    run::Played,
    sim::{self, Run},
    suite::{self, Selection},
};

use super::{Verdict, print};

/// Play scenarios against the core in memory.
#[derive(Args)]
pub(crate) struct Sim {
    /// Files and folders.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Only what fits, as in `run`. Repeatable.
    #[arg(long, value_name = "WORD")]
    select: Vec<String>,
    /// Numbers of shards; all must give the same trace.
    #[arg(long, value_delimiter = ',', default_value = "1,2,5")]
    shards: Vec<u16>,
    /// Seeds for each number of shards, counted from 0.
    #[arg(long, default_value_t = 4)]
    seeds: u64,
    /// Print what was sent and received, also of what passes.
    #[arg(long)]
    trace: bool,
}

impl Sim {
    pub(crate) fn carry_out(self) -> Verdict {
        let seeds = self.seeds;
        let runs: Vec<Run> = self
            .shards
            .iter()
            .flat_map(|shards| (0..seeds).map(|seed| Run { shards: *shards, seed }))
            .collect();
        let files = suite::load(&self.paths)?;
        let selection = Selection::new(&self.select);
        let mut all = Vec::new();
        for file in &files {
            for version in selection.of(file) {
                let outcome = Some(sim::sweep(&file.scenario, version, &runs));
                let played = Played { file, version, outcome };
                print::played(&played, self.trace);
                all.push(played);
            }
        }
        Ok(print::sum(&all))
    }
}
