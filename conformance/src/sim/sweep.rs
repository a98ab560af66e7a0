//! The same scenario on brokers of several sizes and with several seeds: all must look the same.

use codec::ProtocolVersion;

use super::Sim;
use crate::{
    lang::{Position, Scenario},
    play::{self, Failure, Names, Outcome},
    run::Played,
    suite::File,
};

/// One way to play a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Shards of the broker.
    pub shards: u16,
    /// What chance does.
    pub seed: u64,
}

/// Plays every scenario for each of its versions, on a broker of one shard.
pub fn play_all(files: &[File]) -> Vec<Played<'_>> {
    let once = Run { shards: 1, seed: 0 };
    let mut all = Vec::new();
    for file in files {
        for version in file.scenario.versions() {
            let outcome = Some(play_once(&file.scenario, version, once));
            all.push(Played { outcome, ..Played::not_yet(file, version) });
        }
    }
    all
}

/// Plays a scenario in every way. The trace is that of the first run; a run that fails, or whose
/// trace is another one, is the failure.
pub fn sweep(scenario: &Scenario, version: ProtocolVersion, runs: &[Run]) -> Outcome {
    let mut first: Option<Outcome> = None;
    for run in runs {
        let mut outcome = play_once(scenario, version, *run);
        if let Some(failure) = &mut outcome.failure {
            failure.problems.push(format!("with {} shards and seed {}", run.shards, run.seed));
            return outcome;
        }
        match &first {
            None => first = Some(outcome),
            Some(first) if first.trace != outcome.trace => {
                return Outcome { failure: Some(difference(first, &outcome, *run)), ..outcome };
            }
            Some(_) => {}
        }
    }
    first.unwrap_or(Outcome { trace: String::new(), failure: None })
}

fn play_once(scenario: &Scenario, version: ProtocolVersion, run: Run) -> Outcome {
    match Sim::new(run.shards, run.seed, &scenario.config) {
        Ok(mut sim) => play::play(scenario, version, &mut sim, &Names::exact()),
        Err(error) => Outcome {
            trace: String::new(),
            failure: Some(Failure {
                at: error.at,
                statement: "config".to_owned(),
                problems: vec![error.message],
                diff: Vec::new(),
            }),
        },
    }
}

fn difference(first: &Outcome, other: &Outcome, run: Run) -> Failure {
    let (line, (before, now)) = first
        .trace
        .lines()
        .zip(other.trace.lines())
        .enumerate()
        .find(|(_, (before, now))| before != now)
        .unwrap_or((0, ("a longer or shorter trace", "")));
    Failure {
        at: Position { line: 1, column: 1 },
        statement: "every run must give the same trace".to_owned(),
        problems: vec![
            format!("trace line {}: {before}", line + 1),
            format!("with {} shards and seed {}: {now}", run.shards, run.seed),
        ],
        diff: Vec::new(),
    }
}
