//! `conformance`: plays scenarios against any broker, or in memory.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a command line tool")]

mod cli;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Scenarios for MQTT brokers.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(cli::run::Run),
    Sim(cli::sim::Sim),
    Check(cli::check::Check),
    Report(cli::report::Report),
}

fn main() -> ExitCode {
    let is_good = match Arguments::parse().command {
        Command::Run(run) => run.carry_out(),
        Command::Sim(sim) => sim.carry_out(),
        Command::Check(check) => check.carry_out(),
        Command::Report(report) => report.carry_out(),
    };
    match is_good {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("conformance: {error}");
            ExitCode::from(2)
        }
    }
}
