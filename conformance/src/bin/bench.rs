//! `bench`: this broker and mosquitto side by side.

use std::{
    error::Error,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::Parser;
use conformance::bench::{self, Kind};

/// Puts the same load on CairnMQ and on mosquitto, in turn, on this machine, and prints medians.
///
/// Read the ratios, never an absolute figure. Both brokers run without persistence.
#[derive(Debug, Parser)]
struct Arguments {
    /// This broker's binary.
    #[arg(long, default_value = "target/release/cairnmq")]
    broker: PathBuf,
    /// Worker threads of this broker; its default if not given.
    #[arg(long)]
    workers: Option<u16>,
    /// Mosquitto's binary.
    #[arg(long, default_value = "/usr/sbin/mosquitto")]
    mosquitto: PathBuf,
    /// Runs of each scenario on each broker.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How much longer or shorter each run is.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Only scenarios whose name holds this text.
    #[arg(long, default_value = "")]
    select: String,
    /// Idle connections to hold; 0 leaves that part out.
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(wrong) => fail(&format!("{wrong} messages were lost, doubled or out of order")),
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(why: &str) -> ExitCode {
    // There is nobody to tell that standard error is closed.
    let _ = writeln!(io::stderr(), "bench: {why}");
    ExitCode::FAILURE
}

/// Returns how many messages went wrong.
fn run(arguments: &Arguments) -> Result<u64, Box<dyn Error>> {
    let ours = Kind::Cairn(arguments.broker.clone(), arguments.workers);
    let kinds = [ours, Kind::Mosquitto(arguments.mosquitto.clone())];
    let mut out = io::stdout().lock();
    let mut rows = Vec::new();
    let mut wrong = 0;
    for scenario in bench::scenarios(arguments.scale) {
        if !scenario.name.contains(&arguments.select) {
            continue;
        }
        let mut runs = vec![Vec::new(); kinds.len()];
        for round in 1..=arguments.rounds.max(1) {
            for (kind, runs) in kinds.iter().zip(&mut runs) {
                writeln!(io::stderr(), "{}: {}, round {round}", scenario.name, kind.name())?;
                let figures = bench::measure(kind, &scenario)?;
                wrong += figures.wrong;
                runs.push(figures);
            }
        }
        rows.push((scenario.name, runs));
    }
    let names = kinds.each_ref().map(Kind::name);
    write!(out, "{}", bench::table(&names, &rows))?;
    if arguments.idle > 0 {
        raise_open_files()?;
        writeln!(out)?;
        for kind in &kinds {
            let bytes = bench::idle_bytes(kind, arguments.idle)?;
            let name = kind.name();
            writeln!(
                out,
                "{name}: {bytes:.0} bytes for each of {} idle connections",
                arguments.idle
            )?;
        }
    }
    Ok(wrong)
}

/// Each connection is an open file, here and in the brokers, which inherit the limit.
fn raise_open_files() -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(())
}
