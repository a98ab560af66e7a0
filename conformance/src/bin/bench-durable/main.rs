//! A benchmark of what durability costs: this broker with its three kinds of durability beside
//! Debian's `mosquitto` with persistence and without. All are started here, on this machine, and take
//! turns. Prints Markdown tables of medians.
//!
//! Every delivery is checked; the exit status is 1 when a message was lost, doubled or out of order.
//! Whether the figures are good is not judged, but said: see [`throughput`].
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the command line")]

mod folder;
mod latency;
mod pause;
mod pinger;
mod recovery;
#[allow(dead_code, reason = "the other benchmark uses the rest")]
#[path = "../bench/rig/mod.rs"]
mod rig;
mod throughput;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use rig::broker::{self, Broker, Folder};
use rig::ledger::Faults;
use rig::link::Session;
use rig::plan::Plan;
use rig::recipe::{self, Recipe};

/// What goes wrong outside of the brokers ends the run with one line.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Measures what durability costs, beside mosquitto, and checks every delivery.
#[derive(Parser)]
#[command(name = "bench-durable")]
struct Arguments {
    /// What to measure, separated by commas; everything if not given
    #[arg(long, value_delimiter = ',')]
    table: Vec<Table>,

    /// The brokers to measure, separated by commas; all if not given
    #[arg(long, value_delimiter = ',')]
    contender: Vec<Contender>,

    /// How often each broker is measured; the medians are printed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Numbers of publishers with which the throughput is measured, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "1,10,100",
          value_parser = clap::value_parser!(u16).range(1..))]
    publishers: Vec<u16>,

    /// Messages in each measured run of the throughput, about
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    messages: u64,

    /// Messages that one publisher has unacknowledged when throughput is measured
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    in_flight: u16,

    /// Messages of which the time to PUBACK is taken
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..))]
    acknowledged: u64,

    /// Messages that wait while a broker is started again
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    backlog: u64,

    /// Messages that are queued and drained while PINGRESP is awaited
    #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(u64).range(1..))]
    pause_backlog: u64,

    /// Where data directories are made, and removed; the file system decides what a sync costs
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    folder: PathBuf,

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

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Table {
    /// Messages per second, processor time and bytes written
    Throughput,
    /// The time to PUBACK
    Latency,
    /// A restart with a long queue
    Recovery,
    /// The time to PINGRESP while others load the broker
    Pause,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Contender {
    /// cairnmq --durability sync
    Sync,
    /// cairnmq --durability interval
    Interval,
    /// cairnmq --durability memory
    Memory,
    /// mosquitto with `persistence true`, which saves every half hour and when it stops
    Persistent,
    /// mosquitto with `persistence false`
    Volatile,
}

impl Contender {
    fn name(self) -> &'static str {
        match self {
            Contender::Sync => "cairnmq sync",
            Contender::Interval => "cairnmq interval",
            Contender::Memory => "cairnmq memory",
            Contender::Persistent => "mosquitto persistent",
            Contender::Volatile => "mosquitto",
        }
    }

    fn is_ours(self) -> bool {
        !matches!(self, Contender::Persistent | Contender::Volatile)
    }
}

/// What is measured with, and what has gone wrong.
struct Bench {
    arguments: Arguments,
    binary: PathBuf,
    faults: Vec<String>,
    /// Some of them are of our broker.
    ours_failed: bool,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench-durable: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether every message came once and in order.
fn run(mut arguments: Arguments) -> Result<bool> {
    if arguments.smoke {
        (arguments.rounds, arguments.messages, arguments.acknowledged) = (1, 2_000, 100);
        (arguments.backlog, arguments.pause_backlog) = (5_000, 5_000);
    }
    if arguments.table.is_empty() {
        arguments.table = Table::value_variants().to_vec();
    }
    if arguments.contender.is_empty() {
        arguments.contender = Contender::value_variants().to_vec();
    }
    broker::raise_open_files();
    let binary = recipe::our_binary(arguments.broker.take())?;
    println!("{}\n", folder::describe_disk(&arguments.folder)?);
    let tables = arguments.table.clone();
    let mut bench = Bench { arguments, binary, faults: Vec::new(), ours_failed: false };
    for table in tables {
        match table {
            Table::Throughput => throughput::table(&mut bench)?,
            Table::Latency => latency::table(&mut bench)?,
            Table::Recovery => recovery::table(&mut bench)?,
            Table::Pause => pause::table(&mut bench)?,
        }
        println!();
    }
    for fault in &bench.faults {
        eprintln!("bench-durable: not a valid measurement: {fault}");
    }
    if bench.faults.is_empty() {
        println!("Every message came once and in order.");
    }
    // A smoke test is about our broker alone.
    Ok(bench.faults.is_empty() || (bench.arguments.smoke && !bench.ours_failed))
}

impl Bench {
    /// Measures those of `contenders` that are wanted in turn, A B C A B C: what else the machine does
    /// meanwhile hits all.
    fn rounds<T>(
        &mut self,
        contenders: &[Contender],
        mut measure: impl FnMut(&mut Bench, Contender) -> Result<T>,
    ) -> Result<Vec<(Contender, Vec<T>)>> {
        let wanted = |contender: &&Contender| self.arguments.contender.contains(contender);
        let mut measured: Vec<(Contender, Vec<T>)> =
            contenders.iter().filter(wanted).map(|&contender| (contender, Vec::new())).collect();
        for _ in 0..self.arguments.rounds {
            for (contender, values) in &mut measured {
                let name = contender.name();
                let value =
                    measure(self, *contender).map_err(|error| format!("{name}: {error}"))?;
                values.push(value);
            }
        }
        Ok(measured)
    }

    /// How a contender is started.
    fn recipe(&self, contender: Contender) -> Result<Recipe> {
        let cairnmq =
            |durability| Recipe::cairnmq(self.binary.clone(), self.arguments.workers, durability);
        Ok(match contender {
            Contender::Sync => cairnmq("sync"),
            Contender::Interval => cairnmq("interval"),
            Contender::Memory => cairnmq("memory"),
            Contender::Persistent => Recipe::mosquitto(None, true)?,
            Contender::Volatile => Recipe::mosquitto(None, false)?,
        })
    }

    /// A fresh broker, and the folder in which it keeps what it keeps.
    fn start(&self, contender: Contender) -> Result<(Broker, Folder)> {
        let folder = Folder::new(&self.arguments.folder)?;
        Ok((Broker::start(&self.recipe(contender)?, folder.path())?, folder))
    }

    /// Remembers what was wrong in one run.
    fn note(&mut self, contender: Contender, what: &str, faults: Faults) {
        if faults.any() {
            self.ours_failed |= contender.is_ours();
            self.faults.push(format!("{}, {what}: {faults}", contender.name()));
        }
    }
}

/// Publishers and one subscriber with a session that is kept, QoS 1.
fn fan_in(publishers: usize, in_flight_max: usize, payload_bytes: usize, window: u64) -> Plan {
    let plan = Plan::uniform(1, publishers, 1);
    Plan { qos: 1, payload_bytes, in_flight_max, window, session: Session::Kept, ..plan }
}
