//! A benchmark of the broker beside Debian's `mosquitto`: both are started here, on this machine,
//! and take turns within one run. Prints medians as Markdown tables.
//!
//! Processor time per delivered message says more than messages per second: the generator shares
//! the machine with the broker. Every delivery is checked; the exit status is 1 when a message was
//! lost, doubled or out of order.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the command line")]

#[allow(dead_code, reason = "the other benchmark uses the rest")]
mod broker;
mod ledger;
#[allow(dead_code, reason = "the other benchmark uses the rest")]
mod link;
#[allow(dead_code, reason = "the other benchmark uses the rest")]
mod load;
mod median;
#[allow(dead_code, reason = "the other benchmark uses the rest")]
mod packet;
mod report;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use broker::{Broker, Kind};
use load::Shape;
use report::{Idle, Report, Row};

/// What goes wrong outside of the brokers ends the run with one line.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Measures cairnmq beside mosquitto and checks every delivery.
#[derive(Parser)]
#[command(name = "bench")]
struct Arguments {
    /// What to measure, separated by commas; everything if not given
    #[arg(long, value_delimiter = ',')]
    scenario: Vec<Scenario>,

    /// The QoS levels to measure, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "0,1,2",
          value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: Vec<u8>,

    /// How often each broker is measured; the medians are printed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Deliveries in each measured run, about
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    messages: u64,

    /// Messages that may be on their way to one subscriber
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
    window: u64,

    /// Idle connections
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,

    /// The cairnmq binary; if not given, the one beside this program
    #[arg(long)]
    broker: Option<PathBuf>,

    /// The number of cairnmq's worker threads, if not its default
    #[arg(long)]
    workers: Option<u16>,

    /// Only see that everything works: one short round
    #[arg(long)]
    smoke: bool,
}

/// Who talks to whom.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Scenario {
    /// 50 publishers, 1 subscriber
    FanIn,
    /// 1 publisher, 1,000 subscribers
    FanOut,
    /// 100 publishers with a subscriber each
    Pairs,
    /// Connections that say nothing after CONNACK
    Idle,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether every message came once and in order.
fn run(mut arguments: Arguments) -> Result<bool> {
    if arguments.smoke {
        (arguments.rounds, arguments.messages, arguments.connections) = (1, 5_000, 500);
    }
    if arguments.scenario.is_empty() {
        arguments.scenario = Scenario::value_variants().to_vec();
    }
    broker::raise_open_files();
    let binary = broker::our_binary(arguments.broker.take())?;
    let ours = Kind::Cairnmq { path: binary, workers: arguments.workers, durability: "memory" };
    let kinds = [ours, Kind::mosquitto(false)?];
    let mut report = Report::new(&kinds);
    for &scenario in &arguments.scenario {
        let Some(shape) = shape(scenario) else {
            report.idle(&rounds(&arguments, &kinds, |kind| measure_idle(kind, &arguments))?);
            continue;
        };
        for &qos in &arguments.qos {
            let rows = rounds(&arguments, &kinds, |kind| measure(kind, &arguments, &shape, qos))?;
            report.row(&shape, qos, &rows);
        }
    }
    Ok(report.finish(arguments.smoke))
}

/// Measures the brokers in turn, A B A B: what else the machine does meanwhile hits both.
fn rounds<T>(
    arguments: &Arguments,
    kinds: &[Kind; 2],
    measure: impl Fn(&Kind) -> Result<T>,
) -> Result<[Vec<T>; 2]> {
    let mut measured = [Vec::new(), Vec::new()];
    for _ in 0..arguments.rounds {
        for (kind, values) in kinds.iter().zip(&mut measured) {
            values.push(measure(kind).map_err(|error| format!("{}: {error}", kind.name()))?);
        }
    }
    Ok(measured)
}

fn shape(scenario: Scenario) -> Option<Shape> {
    let (name, groups, publishers, subscribers) = match scenario {
        Scenario::FanIn => ("fan-in 50:1", 1, 50, 1),
        Scenario::FanOut => ("fan-out 1:1000", 1, 1, 1000),
        Scenario::Pairs => ("pairs 100:100", 100, 1, 1),
        Scenario::Idle => return None,
    };
    Some(Shape {
        name,
        groups,
        publishers,
        subscribers,
        payload_bytes: 64,
        // With 100 of QoS 2 mosquitto closed the connection; 20 is its `max_inflight_messages` as
        // installed.
        in_flight_max: 20,
        is_durable: false,
    })
}

/// What is measured here keeps nothing on disk.
fn no_folder() -> PathBuf {
    std::env::temp_dir().join("bench-keeps-nothing")
}

/// One run on a fresh broker: some unmeasured messages, then the measured ones.
fn measure(kind: &Kind, arguments: &Arguments, shape: &Shape, qos: u8) -> Result<Row> {
    let broker = Broker::start(kind, &no_folder())?;
    let mut load = load::Load::connect(broker.address, shape, qos, arguments.window)?;
    let count = arguments.messages.div_ceil(shape.deliveries_per_round());
    load.run(count.div_ceil(20));
    broker.reset_peak()?;
    let cpu_before = broker.cpu_ns()?;
    let took = load.run(count);
    let cpu_ns = broker.cpu_ns()?.saturating_sub(cpu_before);
    Ok(Row {
        deliveries: count * shape.deliveries_per_round(),
        seconds: took.as_secs_f64(),
        cpu_ns,
        peak_bytes: broker.memory("VmHWM")?,
        faults: load.faults(),
    })
}

/// The memory of connections that have said CONNECT and nothing since.
fn measure_idle(kind: &Kind, arguments: &Arguments) -> Result<Idle> {
    let broker = Broker::start(kind, &no_folder())?;
    // The first connections pay for what is there once.
    let _first = link::connect_many(broker.address, 0..100)?;
    let before = broker.memory("VmRSS")?;
    let _idle = link::connect_many(broker.address, 100..100 + arguments.connections)?;
    let grown = broker.memory("VmRSS")?.saturating_sub(before);
    Ok(Idle {
        connections: arguments.connections,
        bytes_each: grown as f64 / f64::from(arguments.connections),
    })
}
