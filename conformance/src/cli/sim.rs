//! `conformance sim`

use std::time::Instant;

use clap::Args;
use conformance::{
    requirements::Requirements,
    results::{self, Results},
    run::{Finished, Played},
    sim::{self, Run},
};

use super::{Chosen, Verdict, chosen};

/// Play scenarios against the core in memory.
#[derive(Args)]
pub(crate) struct Sim {
    #[command(flatten)]
    chosen: Chosen,
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
        let requirements = Requirements::embedded();
        let files = self.chosen.files()?;
        let chosen = self.chosen.of(&files, &requirements)?;
        if self.chosen.list {
            chosen::list(&chosen, false);
            return Ok(true);
        }
        let began = Instant::now();
        let seeds = self.seeds;
        let runs: Vec<Run> = self
            .shards
            .iter()
            .flat_map(|shards| (0..seeds).map(|seed| Run { shards: *shards, seed }))
            .collect();
        let mut played = Vec::new();
        for (file, version) in chosen {
            let outcome = Some(sim::sweep(&file.scenario, version, &runs));
            let one = Played { outcome, ..Played::not_yet(file, version) };
            let verdict = results::Verdict::of(&one, None);
            print!("{}", results::progress(&one, verdict, &requirements, self.trace));
            played.push(one);
        }
        let results = Results {
            run: &Finished { played, stopped: None },
            broker: "the core in memory".to_owned(),
            deviations: None,
            requirements: &requirements,
            time: began.elapsed(),
        };
        print!("{}", results::sum(&results));
        Ok(results.is_good())
    }
}
