//! What doors and keys cost: memory of idle connections, TLS handshakes beside mosquitto's, and logins with hashed
//! passwords while messages flow.
//!
//! Processor time of the broker is the steady figure; how many there are in a second depends on who else uses the
//! machine, and here on the client, which has the same processors.
#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

mod broker;
mod client;
mod handshakes;
mod idle;
mod logins;
mod pki;

use std::process::ExitCode;

use clap::Parser;

/// Measures doors and keys of the `cairnmq` binary beside this one, and of mosquitto if it is installed.
#[derive(Parser)]
struct Arguments {
    /// What to measure: idle, handshakes, logins; everything if nothing is said.
    what: Vec<String>,
    /// Idle connections.
    #[arg(long, default_value_t = 2_000)]
    connections: usize,
    /// Seconds of each measurement that takes a time.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Only a little of everything, to see that it works.
    #[arg(long)]
    smoke: bool,
}

/// A name, and what measures.
type Section = (&'static str, fn(&Arguments) -> Result<(), String>);

fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    if arguments.smoke {
        (arguments.connections, arguments.seconds) = (50, 1);
    }
    let wanted =
        |name: &str| arguments.what.is_empty() || arguments.what.iter().any(|what| what == name);
    let sections: [Section; 3] = [
        ("idle", |arguments| idle::run(arguments.connections)),
        ("handshakes", |arguments| handshakes::run(arguments.seconds)),
        ("logins", |arguments| logins::run(arguments.seconds)),
    ];
    for (name, run) in sections {
        if wanted(name)
            && let Err(error) = run(&arguments)
        {
            println!("{name}: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
