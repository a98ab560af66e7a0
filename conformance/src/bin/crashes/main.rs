//! Kills a broker at random moments, while many clients publish and subscribe, and sees whether
//! anything is lost: what was acknowledged, each subscription, each retained message, each session.
//!
//! One data directory goes through all rounds. It is kept, and named, when something was found; the
//! exit status is 1 then. The seed decides what the clients do and when the broker is killed, but
//! not how the machine divides its time, so that a finding may take several runs to come again.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the command line")]

mod broker;
mod churner;
mod findings;
mod keeper;
mod ledger;
mod link;
mod message;
mod publisher;
mod rounds;
mod subscriber;
mod world;

use std::{
    error::Error,
    ops::RangeInclusive,
    path::PathBuf,
    process::ExitCode,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use clap::Parser;

use broker::Broker;
use rounds::{Rounds, Settings};

/// Kills a broker at random moments and sees whether anything was lost.
#[derive(Parser)]
#[command(name = "crashes")]
struct Arguments {
    /// The cairnmq binary; if not given, the one beside this program
    #[arg(long)]
    broker: Option<PathBuf>,

    /// How often clients load a broker that is then killed
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// After so many rounds everything drains and is judged
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    judge_every: u32,

    /// Names the run; drawn if not given
    #[arg(long)]
    seed: Option<u64>,

    /// What is not synced is lost with the broker, or is garbage, as if the power had failed
    #[arg(long)]
    lose_unsynced: bool,

    /// The broker's durability, if not its default
    #[arg(long)]
    durability: Option<String>,

    /// The broker's worker threads
    #[arg(long, default_value_t = 2)]
    workers: u16,

    /// Instead, each start draws a number of worker threads up to this
    #[arg(long)]
    workers_max: Option<u16>,

    /// Keep the data directory in any case
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("crashes: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether nothing was lost.
fn run(arguments: &Arguments) -> Result<bool, Box<dyn Error>> {
    let beside = || std::env::current_exe().map(|path| path.with_file_name("cairnmq"));
    let binary = arguments.broker.clone().map_or_else(beside, Ok)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = arguments.seed.unwrap_or(now.as_nanos() as u64 % 1_000_000);

    let mut options = Vec::new();
    if let Some(durability) = &arguments.durability {
        options.extend(["--durability".to_owned(), durability.clone()]);
    }
    if arguments.lose_unsynced {
        options.push("--lose-unsynced".to_owned());
    }
    let workers = match arguments.workers_max {
        Some(most) => 1..=most.max(1),
        None => arguments.workers..=arguments.workers,
    };
    println!("seed {seed}: {} workers {}", shown(&workers), options.join(" "));
    let began = Instant::now();
    let settings = Settings { workers, tears: arguments.lose_unsynced };
    let mut rounds = Rounds::new(Broker::new(&binary, options)?, settings, seed);
    rounds.run(arguments.rounds, arguments.judge_every)?;
    println!("{}", rounds.report(began.elapsed()));

    let findings = rounds.findings();
    let is_well = findings.is_empty();
    if is_well {
        println!("nothing lost");
    } else {
        println!("{}", findings.lines().join("\n"));
    }
    if is_well && !arguments.keep {
        rounds.broker.remove_folder()?;
    } else {
        println!("seed {seed}; log and data are kept in {}", rounds.broker.folder().display());
    }
    Ok(is_well)
}

fn shown(workers: &RangeInclusive<u16>) -> String {
    if workers.start() == workers.end() {
        workers.end().to_string()
    } else {
        format!("{} to {}", workers.start(), workers.end())
    }
}
