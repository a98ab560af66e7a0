//! Switches mistakes on in the core, one at a time, and prints what finds each and how soon.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use conformance::{
    explore::{explore, models},
    swarm,
};
use session_core::model::{self, Bug};

/// Grades the explorer and the swarm on known mistakes.
#[derive(Parser)]
struct Cli {
    /// Only mistakes whose names contain this.
    name: Option<String>,
    /// Runs of the swarm after which it has missed a mistake.
    #[arg(long, default_value_t = 3000)]
    runs: u64,
    /// Models with more states are left out.
    #[arg(long, default_value_t = 400_000)]
    states_max: usize,
}

#[allow(clippy::print_stdout, reason = "it is a command")]
fn main() -> ExitCode {
    let cli = Cli::parse();
    let is_chosen = |bug: &Bug| cli.name.as_ref().is_none_or(|n| format!("{bug:?}").contains(n));
    let chosen: Vec<Bug> = Bug::ALL.into_iter().filter(is_chosen).collect();
    let mut missed = 0;
    println!("| mistake | explorer | | swarm | |");
    println!("|---|---|--:|---|--:|");
    for bug in &chosen {
        model::seed(Some(*bug));
        let (explored, by_explorer) = timed(|| by_explorer(cli.states_max));
        let (swarmed, by_swarm) = timed(|| by_swarm(cli.runs));
        model::seed(None);
        missed += u32::from(explored.is_none() && swarmed.is_none());
        let cell = |found: Option<String>| found.unwrap_or_else(|| "-".to_owned());
        println!(
            "| {bug:?} | {} | {:.1} s | {} | {:.1} s |",
            cell(explored),
            by_explorer.as_secs_f64(),
            cell(swarmed),
            by_swarm.as_secs_f64(),
        );
    }
    println!("{missed} of {} are found by neither", chosen.len());
    // Nothing switched on is nothing found.
    if missed == 0 && !chosen.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn timed<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let begin = Instant::now();
    let result = run();
    (result, begin.elapsed())
}

/// The first model that breaks, with the property and the length of its trace.
fn by_explorer(states_max: usize) -> Option<String> {
    let mut models = models::all();
    models.sort_by_key(|model| model.states);
    models.retain(|model| model.states <= states_max);
    models.into_iter().find_map(|model| {
        // A mistake may make a model endless.
        let explored = explore(&model.setup, 2 * model.states);
        if let Some((finding, trace)) = explored.finding {
            return Some(format!("{}: {}, {} steps", model.name, finding.property, trace.len()));
        }
        let unseen = model.sights.iter().find(|sight| explored.sights & sight.bit() == 0);
        unseen.map(|sight| format!("{}: never {sight:?}", model.name))
    })
}

/// The first seed that breaks, with the property.
fn by_swarm(runs: u64) -> Option<String> {
    (1..=runs).find_map(|seed| {
        let finding = swarm::run(seed, 2000).finding?;
        Some(format!("seed {seed}: {}", finding.property))
    })
}
