//! `conformance`: plays scenarios against any broker, or in memory.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a command line tool")]

use std::{
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, Subcommand};
use conformance::{
    live::Patience,
    run::{self, Options, Played},
    sim::{self, Run},
    suite::{self, Selection},
};

/// Scenarios for MQTT brokers.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Play scenarios against a broker over TCP.
    Run {
        /// The broker.
        #[arg(long, value_name = "HOST:PORT")]
        addr: String,
        /// Files and folders.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// Only what fits: a version (v5), the id of a statement, or a part of a path. Repeatable.
        #[arg(long, value_name = "WORD")]
        select: Vec<String>,
        /// Scenarios played at the same time.
        #[arg(long, default_value_t = 16)]
        jobs: usize,
        /// Milliseconds to wait for an answer.
        #[arg(long, value_name = "MS", default_value_t = 5000)]
        timeout: u64,
        /// Milliseconds after which nothing more is taken to come.
        #[arg(long, value_name = "MS", default_value_t = 150)]
        quiet: u64,
        /// Print what was sent and received, also of what passes.
        #[arg(long)]
        trace: bool,
    },
    /// Play scenarios against the core in memory.
    Sim {
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
    },
    /// Parse scenarios and play nothing.
    Check {
        /// Files and folders.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
}

fn main() -> ExitCode {
    match carry_out(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("conformance: {error}");
            ExitCode::from(2)
        }
    }
}

fn carry_out(command: Command) -> Result<bool, Box<dyn std::error::Error>> {
    match command {
        Command::Run { addr, paths, select, jobs, timeout, quiet, trace } => {
            let patience = Patience {
                answer: Duration::from_millis(timeout),
                quiet: Duration::from_millis(quiet),
            };
            let options = Options { broker: resolve(&addr)?, patience, jobs };
            let files = suite::load(&paths)?;
            let report = |played: &Played<'_>| report(played, trace);
            let played = run::run(&files, &Selection::new(&select), options, report)?;
            Ok(sum_up(&played))
        }
        Command::Sim { paths, select, shards, seeds, trace } => {
            let runs: Vec<Run> = shards
                .iter()
                .flat_map(|shards| (0..seeds).map(|seed| Run { shards: *shards, seed }))
                .collect();
            let files = suite::load(&paths)?;
            let selection = Selection::new(&select);
            let mut all = Vec::new();
            for file in &files {
                for version in selection.of(file) {
                    let outcome = Some(sim::sweep(&file.scenario, version, &runs));
                    let played = Played { file, version, outcome };
                    report(&played, trace);
                    all.push(played);
                }
            }
            Ok(sum_up(&all))
        }
        Command::Check { paths } => {
            println!("{} scenarios", suite::load(&paths)?.len());
            Ok(true)
        }
    }
}

fn resolve(addr: &str) -> Result<SocketAddr, String> {
    let mut found = addr.to_socket_addrs().map_err(|error| format!("--addr {addr}: {error}"))?;
    found.next().ok_or_else(|| format!("--addr {addr}: no such host"))
}

fn report(played: &Played<'_>, trace: bool) {
    let Some(outcome) = &played.outcome else { return };
    let mut text = String::new();
    let version = suite::version_name(played.version);
    let path = played.file.path.display();
    match &outcome.failure {
        Some(failure) => {
            text += &format!("FAILED {path} ({version})\n  {path}:{failure}\n");
        }
        None if trace => text += &format!("passed {path} ({version})\n"),
        None => return,
    }
    for line in outcome.trace.lines() {
        text += &format!("    | {line}\n");
    }
    print!("{text}");
}

/// Prints the last line; whether nothing failed.
fn sum_up(played: &[Played<'_>]) -> bool {
    let count = |fits: fn(&Played<'_>) -> bool| played.iter().filter(|p| fits(p)).count();
    let skipped = count(|played| played.outcome.is_none());
    let failed = count(|played| played.outcome.as_ref().is_some_and(|o| o.failure.is_some()));
    let passed = played.len() - skipped - failed;
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    failed == 0
}
