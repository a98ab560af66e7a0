//! Plays random legal scripts against this broker and another one, and reports what differs.

use std::{
    collections::BTreeMap,
    error::Error,
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use conformance::differential::{
    Pair, Run,
    broker::{Broker, installed_mosquitto},
    compare::side_by_side,
    draw::draw,
    rules::{MOSQUITTO, Verdict},
};

/// Differing scripts after which there is no need for more.
const FAILED_MAX: usize = 5;

/// Plays the same scripts against CairnMQ and mosquitto.
#[derive(Parser)]
struct Cli {
    /// Replays one script, and prints both traces side by side.
    #[arg(long)]
    seed: Option<u64>,
    /// Draws scripts for so long.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Draws so many scripts instead.
    #[arg(long)]
    scripts: Option<u64>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Operations of a script, before everybody takes what is left.
    #[arg(long, default_value_t = 60)]
    operations: usize,
    /// The address of a running CairnMQ.
    #[arg(long)]
    ours: Option<SocketAddr>,
    /// The address of a running mosquitto, without limits on queues and windows and with
    /// `allow_duplicate_messages true`.
    #[arg(long)]
    peer: Option<SocketAddr>,
    /// The program to start if there is no address of ours; otherwise the one beside this program.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Worker threads of the program that is started.
    #[arg(long, default_value_t = 1)]
    workers: u16,
    /// Rounds of PINGREQ on every connection after each operation, at least; two are enough for a
    /// broker of one thread, and four with more.
    #[arg(long)]
    rounds: Option<usize>,
    /// Further plays in which a difference has to show; otherwise it is counted apart. A broker with
    /// several threads may read the end of a connection after what another one sent later.
    #[arg(long)]
    replays: Option<usize>,
}

#[allow(clippy::print_stderr, reason = "it is a command")]
fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("differential: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<bool, Box<dyn Error>> {
    let ours = match cli.ours {
        Some(_) => None,
        None => Some(Broker::cairnmq(&binary(cli)?, cli.workers)?),
    };
    let theirs = match cli.peer {
        Some(_) => None,
        None => {
            let program = installed_mosquitto();
            let program = program.ok_or("mosquitto is missing: apt-get install mosquitto")?;
            Some(Broker::mosquitto(&program)?)
        }
    };
    let address = |given: Option<SocketAddr>, started: &Option<Broker>| {
        given.or(started.as_ref().map(|broker| broker.address)).ok_or("no broker")
    };
    let rounds = cli.rounds.unwrap_or(if cli.workers == 1 { 2 } else { 4 });
    let mut pair = Pair::new(address(cli.ours, &ours)?, address(cli.peer, &theirs)?, rounds);
    match cli.seed {
        Some(seed) => replay(cli, &mut pair, seed),
        None => search(cli, &mut pair),
    }
}

/// The program beside this one.
fn binary(cli: &Cli) -> Result<PathBuf, Box<dyn Error>> {
    match &cli.binary {
        Some(binary) => Ok(binary.clone()),
        None => Ok(std::env::current_exe()?.with_file_name("cairnmq")),
    }
}

#[allow(clippy::print_stdout, reason = "it is a command")]
fn search(cli: &Cli, pair: &mut Pair) -> Result<bool, Box<dyn Error>> {
    let begin = Instant::now();
    let mut total = Total::default();
    for seed in cli.from.. {
        let done = cli.scripts.map_or_else(
            || begin.elapsed() >= Duration::from_secs(cli.seconds),
            |most| total.scripts >= most,
        );
        if done || total.failed.len() >= FAILED_MAX {
            break;
        }
        let script = draw(seed, cli.operations);
        let play = |pair: &mut Pair| pair.run(&script, &MOSQUITTO);
        let mut run = play(pair).map_err(|error| format!("seed {seed}: {error}"))?;
        for _ in 0..cli.replays.unwrap_or(if cli.workers == 1 { 0 } else { 2 }) {
            if run.comparison.unexplained.is_some() {
                run = play(pair).map_err(|error| format!("seed {seed}: {error}"))?;
                total.fleeting += usize::from(run.comparison.unexplained.is_none());
            }
        }
        if let Some(difference) = &run.comparison.unexplained {
            println!("seed {seed}, {difference}");
        }
        total.add(&run);
    }
    total.print(begin.elapsed());
    Ok(total.failed.is_empty() && total.packets > 0)
}

#[allow(clippy::print_stdout, reason = "it is a command")]
fn replay(cli: &Cli, pair: &mut Pair, seed: u64) -> Result<bool, Box<dyn Error>> {
    let run = pair.run(&draw(seed, cli.operations), &MOSQUITTO)?;
    let run = pair.shrink(run, &MOSQUITTO);
    print!("{}", side_by_side(&run.script, &run.ours, &run.theirs));
    let mut total = Total::default();
    total.add(&run);
    total.print(Duration::ZERO);
    if let Some(difference) = &run.comparison.unexplained {
        println!("unexplained: {difference}");
    }
    Ok(run.comparison.unexplained.is_none())
}

#[derive(Default)]
struct Total {
    scripts: u64,
    drawn: usize,
    steps: usize,
    packets: usize,
    explained: BTreeMap<&'static str, usize>,
    failed: Vec<u64>,
    /// Differences that did not show again.
    fleeting: usize,
}

impl Total {
    fn add(&mut self, run: &Run) {
        self.scripts += 1;
        self.failed.extend(run.comparison.unexplained.as_ref().map(|_| run.script.seed));
        self.drawn += run.script.ops.len();
        self.steps += run.comparison.steps;
        self.packets += run.comparison.packets;
        for (name, count) in &run.comparison.explained {
            *self.explained.entry(name).or_default() += count;
        }
    }

    #[allow(clippy::print_stdout, reason = "it is a command")]
    fn print(&self, took: Duration) {
        println!(
            "{} scripts, {} of {} steps compared, {} packets, in {:.1} s",
            self.scripts,
            self.steps,
            self.drawn,
            self.packets,
            took.as_secs_f64(),
        );
        for rule in &MOSQUITTO {
            let verdict = match rule.verdict {
                Verdict::BothLegal => "both are legal",
                Verdict::TheirsWrong => "theirs is wrong",
            };
            let count = self.explained.get(rule.name).unwrap_or(&0);
            println!("  {count:6}  {}: {verdict}, {}", rule.name, rule.statement);
        }
        if self.fleeting > 0 {
            println!("  {:6}  seen once, and not when played again", self.fleeting);
        }
        println!("  {:6}  unexplained, in the scripts {:?}", self.failed.len(), self.failed);
    }
}
