//! The instruction gate: counts what fixed scenarios cost the codec and the core, and a few of them
//! the whole binary, and compares with the committed figures.
//!
//! Processor time differs from run to run and from machine to machine; the number of instructions
//! under valgrind's callgrind does not. The exit status is 1 when a figure is not what it was.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the command line")]

mod broker;
mod counted;
mod limits;
mod lockstep;
mod process;
mod scenarios;
mod valgrind;
mod whole;
mod world;

use std::{collections::BTreeMap, error::Error, fs, path::PathBuf, process::ExitCode, thread};

use clap::Parser;

use limits::{Limits, Verdict};
use scenarios::{Scenario, Work};
use valgrind::{Count, Versions};

/// What goes wrong outside of the broker ends the run with one line.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What `--write` puts above the figures.
const HEAD: &str = "\
# Instructions of each scenario in a release build of the whole workspace, counted by callgrind.
# Written by `target/release/instructions --write`.

";

/// Counts the instructions of fixed scenarios and compares with the committed figures.
#[derive(Parser)]
struct Arguments {
    /// Only scenarios whose names contain this
    name: Option<String>,

    /// Writes the figures down instead of comparing
    #[arg(long, conflicts_with = "name")]
    write: bool,

    /// The committed figures
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.toml"))]
    limits: PathBuf,

    /// Runs one scenario without counting: what the counting process does
    #[arg(long, hide = true, exclusive = true)]
    run: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.run {
        Some(name) => run(name).map(|()| true),
        None if arguments.write => write(&arguments).map(|()| true),
        None => compare(&arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a scenario and prints for how many messages.
fn run(name: &str) -> Result<()> {
    let scenario = scenarios::ALL.iter().find(|scenario| scenario.name == name);
    let Some(&Scenario { work: Work::Parts(run), .. }) = scenario else {
        return Err(format!("there is no scenario {name} that runs in a process of ours").into());
    };
    // The main thread's stack begins behind arguments and environment, and copying to it takes more
    // or fewer instructions by where that is; another thread's begins at a page.
    let messages = thread::spawn(run).join().map_err(|_| "the scenario went another way")?;
    println!("{messages}");
    Ok(())
}

/// Counts the instructions of a scenario.
fn count(scenario: &Scenario) -> Result<Count> {
    let counted = match &scenario.work {
        Work::Parts(_) => valgrind::count(scenario.name),
        Work::Whole(shape) => whole::count(shape),
    };
    counted.map_err(|error| format!("{}: {error}", scenario.name).into())
}

fn write(arguments: &Arguments) -> Result<()> {
    let mut limits = Limits { versions: Versions::here()?, instructions: BTreeMap::new() };
    for scenario in &scenarios::ALL {
        limits.instructions.insert(scenario.name.into(), count(scenario)?.instructions);
    }
    fs::write(&arguments.limits, format!("{HEAD}{}", toml::to_string(&limits)?))?;
    println!("written to {}", arguments.limits.display());
    Ok(())
}

/// Whether every figure is what it was.
fn compare(arguments: &Arguments) -> Result<bool> {
    let path = arguments.limits.display();
    let text = fs::read_to_string(&arguments.limits).map_err(|error| format!("{path}: {error}"))?;
    let limits: Limits = toml::from_str(&text).map_err(|error| format!("{path}: {error}"))?;
    let versions = Versions::here()?;
    let tolerance = limits.tolerance(&versions);
    for difference in versions.differences(&limits.versions) {
        println!("OTHER VERSIONS than those of the limits, hence {tolerance} %: {difference}");
    }
    let is_chosen = |name: &str| arguments.name.as_ref().is_none_or(|part| name.contains(part));
    let chosen: Vec<&Scenario> =
        scenarios::ALL.iter().filter(|scenario| is_chosen(scenario.name)).collect();
    if chosen.is_empty() {
        return Err("no scenario has such a name".into());
    }
    let mut passed = true;
    println!(
        "{:<16} {:>12} {:>12} {:>8} {:>9} {:>9}",
        "scenario", "instructions", "committed", "change", "messages", "each"
    );
    for scenario in chosen {
        let Scenario { name, what, .. } = scenario;
        let count = count(scenario)?;
        let committed = limits.instructions.get(*name).copied();
        let change = committed.map_or_else(String::new, |committed| {
            format!("{:+.2} %", (count.instructions as f64 / committed as f64 - 1.0) * 100.0)
        });
        println!(
            "{name:<16} {:>12} {:>12} {change:>8} {:>9} {:>9.1}  {what}",
            count.instructions,
            committed.unwrap_or_default(),
            count.messages,
            count.instructions as f64 / count.messages as f64,
        );
        if let Some(advice) = Verdict::of(count.instructions, committed, tolerance).advice() {
            println!("{name}: {advice} (tolerance {tolerance} %)");
            passed = false;
        }
    }
    let known = scenarios::ALL.map(|scenario| scenario.name);
    for name in limits.strangers(&known) {
        println!("{name}: NO SCENARIO has this name; remove the limit with --write");
        passed = false;
    }
    Ok(passed)
}
