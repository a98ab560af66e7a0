//! Runs random worlds and prints what was done.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use conformance::{
    swarm::{self, Run},
    universe::Sight,
};

/// Simulates whole brokers with faults.
#[derive(Parser)]
struct Cli {
    /// Replays one run, and shrinks it if it fails.
    #[arg(long)]
    seed: Option<u64>,
    /// Draws runs for so long.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Draws so many runs instead.
    #[arg(long)]
    runs: Option<u64>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Operations of a run, before it drains.
    #[arg(long, default_value_t = 2000)]
    operations: usize,
    /// Prints the whole trace and what each client and shard is.
    #[arg(long)]
    verbose: bool,
}

#[allow(clippy::print_stdout, reason = "it is a command")]
fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(seed) = cli.seed {
        return replay(&cli, seed);
    }
    let begin = Instant::now();
    let mut total = Run::default();
    let (mut runs, mut failed) = (0, Vec::new());
    for seed in cli.from.. {
        let done = cli.runs.map_or_else(
            || begin.elapsed() >= Duration::from_secs(cli.seconds),
            |most| runs >= most,
        );
        if done || failed.len() >= 12 {
            break;
        }
        let run = swarm::run(seed, cli.operations);
        runs += 1;
        total.operations += run.operations;
        total.elapsed_ms += run.elapsed_ms;
        total.messages += run.messages;
        total.sights |= run.sights;
        for (kind, count) in &run.kinds {
            *total.kinds.entry(kind).or_default() += count;
        }
        if let Some(finding) = run.finding {
            println!("seed {seed}: {finding}");
            failed.push(seed);
        }
    }
    report(runs, &total, begin.elapsed());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[allow(clippy::print_stdout, reason = "it is a command")]
fn report(runs: u64, total: &Run, took: Duration) {
    let kinds: BTreeMap<_, _> = total.kinds.iter().collect();
    println!(
        "{runs} runs, {} operations, {} messages, {} s of virtual time in {:.1} s",
        total.operations,
        total.messages,
        total.elapsed_ms / 1000,
        took.as_secs_f64(),
    );
    println!("  {kinds:?}");
    let unseen: Vec<_> =
        Sight::ALL.into_iter().filter(|sight| total.sights & sight.bit() == 0).collect();
    println!("  never seen: {unseen:?}");
}

#[allow(clippy::print_stdout, reason = "it is a command")]
fn replay(cli: &Cli, seed: u64) -> ExitCode {
    let run = swarm::run(seed, cli.operations);
    if cli.verbose {
        println!("{:#?}", swarm::setup_of(seed));
    }
    report(1, &run, Duration::ZERO);
    let Some(finding) = &run.finding else { return ExitCode::SUCCESS };
    println!("seed {seed}: {finding}");
    let trace = swarm::shrink_trace(seed, run.trace.clone());
    swarm::narrate(seed, &trace).iter().for_each(|line| println!("    {line}"));
    ExitCode::FAILURE
}
