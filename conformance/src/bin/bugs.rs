//! Switches mistakes on in the core, one at a time, and prints what finds each and how soon.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use conformance::{
    explore::{explore, models},
    sim::{Run, sweep},
    suite, swarm,
    traces::{Trace, World},
};
use session_core::model::{self, Bug};

/// Grades the layers of tests on known mistakes.
#[derive(Parser)]
struct Cli {
    /// Only mistakes whose names contain this.
    name: Option<String>,
    /// Runs of the swarm after which it has missed a mistake.
    #[arg(long, default_value_t = 1500)]
    runs: u64,
    /// Models with more states are left out.
    #[arg(long, default_value_t = 100_000)]
    states_max: usize,
    /// The folder of the traces that were kept; each has to find its mistake.
    #[arg(long, default_value = "spec-tests/traces")]
    traces: PathBuf,
    /// Writes the shorter trace of explorer and swarm to each mistake into that folder.
    #[arg(long)]
    write: bool,
}

#[allow(clippy::print_stdout, reason = "it is a command")]
fn main() -> ExitCode {
    let cli = Cli::parse();
    let is_chosen = |bug: &Bug| cli.name.as_ref().is_none_or(|n| format!("{bug:?}").contains(n));
    let chosen: Vec<Bug> = Bug::ALL.into_iter().filter(is_chosen).collect();
    println!("| mistake | explorer | | swarm | | scenarios | | trace |");
    println!("|---|---|--:|---|--:|---|--:|---|");
    let (mut missed, mut stale) = (0, 0);
    for bug in &chosen {
        model::seed(Some(*bug));
        let (is_found, is_stale) = grade(&cli, *bug);
        model::seed(None);
        missed += u32::from(!is_found);
        stale += u32::from(is_stale);
    }
    println!("{missed} of {} are found by none, {stale} traces find nothing", chosen.len());
    // Nothing switched on is nothing found.
    let is_good = missed == 0 && stale == 0 && !chosen.is_empty();
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints what finds a mistake; whether anything does, and whether its trace does not.
#[allow(clippy::print_stdout, reason = "it is a command")]
fn grade(cli: &Cli, bug: Bug) -> (bool, bool) {
    let (explored, by_explorer) = timed(|| by_explorer(cli.states_max));
    let (swarmed, by_swarm) = timed(|| by_swarm(cli.runs));
    let (played, by_scenarios) = timed(by_scenarios);
    let path = cli.traces.join(format!("{bug:?}.trace"));
    if cli.write {
        write_trace(&path, bug, explored.as_ref(), swarmed.as_ref());
    }
    let traced = replay(&path);
    let found = [explored.is_some(), swarmed.is_some(), played.is_some(), traced == Some(true)];
    let explored = explored.map(|trace| {
        let World::Model(model) = &trace.world else { unreachable!("explorers explore models") };
        format!("{model}: {}, {} steps", trace.property, trace.ops.len())
    });
    let swarmed = swarmed.map(|(seed, trace)| format!("seed {seed}: {}", trace.property));
    let cell = |found: Option<String>| found.unwrap_or_else(|| "-".to_owned());
    println!(
        "| {bug:?} | {} | {:.1} s | {} | {:.1} s | {} | {:.1} s | {} |",
        cell(explored),
        by_explorer.as_secs_f64(),
        cell(swarmed),
        by_swarm.as_secs_f64(),
        cell(played),
        by_scenarios.as_secs_f64(),
        traced.map_or("-", |finds| if finds { "yes" } else { "finds nothing" }),
    );
    (found.contains(&true), traced == Some(false))
}

fn timed<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let begin = Instant::now();
    let result = run();
    (result, begin.elapsed())
}

/// The first model that breaks, and how.
fn by_explorer(states_max: usize) -> Option<Trace> {
    let mut models = models::all();
    models.sort_by_key(|model| model.states);
    models.retain(|model| model.states <= states_max);
    models.into_iter().find_map(|model| {
        // A mistake may make a model endless.
        let explored = explore(&model.setup, 2 * model.states);
        let unseen = model.sights.iter().find(|sight| explored.sights & sight.bit() == 0);
        let (property, ops) = match (explored.finding, unseen) {
            (Some((finding, ops)), _) => (finding.property.to_owned(), ops),
            (None, Some(sight)) => (format!("never {sight:?}"), Vec::new()),
            (None, None) => return None,
        };
        let world = World::Model(model.name.into());
        Some(Trace { mistake: String::new(), property, world, ops })
    })
}

/// The first seed that breaks, and how; not shrunk.
fn by_swarm(runs: u64) -> Option<(u64, Trace)> {
    (1..=runs).find_map(|seed| {
        let run = swarm::run(seed, 2000);
        let property = run.finding?.property.into();
        let world = World::Seed(seed);
        Some((seed, Trace { mistake: String::new(), property, world, ops: run.trace }))
    })
}

/// The first scenario that fails, by its name.
fn by_scenarios() -> Option<String> {
    const RUNS: [Run; 2] = [Run { shards: 1, seed: 0 }, Run { shards: 2, seed: 2 }];
    let files = suite::built_in().ok()?;
    let fails = |file: &suite::File| {
        let mut versions = file.scenario.versions().into_iter();
        versions.any(|version| sweep(&file.scenario, version, &RUNS).failure.is_some())
    };
    files.iter().find(|file| fails(file)).map(suite::File::name)
}

/// Keeps the shorter trace that finds the mistake when it is replayed.
fn write_trace(path: &Path, bug: Bug, explored: Option<&Trace>, swarmed: Option<&(u64, Trace)>) {
    let shrunk = swarmed.map(|(seed, trace)| Trace {
        ops: swarm::shrink_trace(*seed, trace.ops.clone()),
        ..trace.clone()
    });
    let found = explored.cloned().into_iter().chain(shrunk);
    let replayed = found.filter_map(|trace| {
        let property = trace.replay().err()?.property.to_owned();
        Some(Trace { mistake: format!("{bug:?}"), property, ..trace })
    });
    if let Some(trace) = replayed.min_by_key(|trace| trace.ops.len()) {
        fs::write(path, trace.to_string())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// Whether a trace finds its mistake; `None` if there is none.
fn replay(path: &Path) -> Option<bool> {
    let text = fs::read_to_string(path).ok()?;
    let trace: Trace = text.parse().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Some(trace.replay().err().is_some_and(|finding| finding.property == trace.property))
}
