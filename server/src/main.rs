//! The broker as a program: command line, configuration, start-up and stop.

mod acl_tool;
mod address;
mod census;
mod cli;
mod client;
mod config;
mod config_tool;
mod control;
mod durable;
mod guarded;
mod http;
mod import;
mod listen;
mod log;
mod metrics;
mod notify;
mod paper;
mod passwd_tool;
mod serving;
mod store_tool;
mod sys;
mod ticker;
mod traces;
mod watch;

use std::{
    io::{self, Write},
    num::NonZeroU16,
    process::{self, ExitCode},
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    thread,
    time::Instant,
};

use clap::Parser;
use runtime_mio::RuntimeConfig;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use session_core::{ShardConfig, ShardId, ShardMap};
use settings::Entry;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use store::Faults;
use tracing::{error, info};

use cli::{Arguments, Command};
use config::Config;
use config_tool::ConfigCommand;
use control::Control;
use guarded::{Doorman, Guarded};
use http::Http;
use log::Log;
use serving::{Serving, State};
use watch::Watch;

/// The first levels of a topic that decide which worker owns it.
const TOPIC_LEVELS: u8 = 2;

/// Why the broker does not run.
enum Failure {
    /// A flag or the configuration is wrong: one line each.
    Usage(Vec<String>),
    /// What was asked for is not done: one line each.
    Failed(Vec<String>),
    /// The system does not let it work.
    System(String),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.command {
        None => run(arguments).map(|()| 0),
        Some(_) => use_tool(arguments),
    };
    let (lines, status) = match result {
        Ok(status) => return ExitCode::from(status),
        Err(Failure::Usage(lines)) => (lines, 2),
        Err(Failure::Failed(lines)) => (lines, 1),
        Err(Failure::System(line)) => (vec![line], 1),
    };
    let mut stderr = io::stderr().lock();
    for line in lines {
        // Whoever closed standard error does not want to know.
        let _ = writeln!(stderr, "cairnmq: {line}");
    }
    ExitCode::from(status)
}

/// Does something else than to serve. Returns the status to end with.
fn use_tool(arguments: Arguments) -> Result<u8, Failure> {
    let done = |result: Result<(), Vec<String>>| result.map(|()| 0).map_err(Failure::Failed);
    let written = |result: Result<(), String>| result.map(|()| 0).map_err(Failure::System);
    // Whether what was looked at is as it should be.
    let judged =
        |result: Result<bool, String>| result.map(|is| u8::from(!is)).map_err(Failure::System);
    let Some(command) = arguments.command else { return Ok(0) };
    match command {
        Command::Config(ConfigCommand::Import(command)) => {
            import::run(&command).map_err(Failure::Failed)
        }
        Command::Config(command) => config_tool::run(&command).map(|()| 0).map_err(Failure::Usage),
        Command::Pub(arguments) => done(client::publish(*arguments)),
        Command::Sub(arguments) => client::subscribe(&arguments).map_err(Failure::Failed),
        Command::Ctl(arguments) => done(control::ctl(&arguments)),
        Command::Drain(arguments) => done(control::drain(&arguments)),
        Command::Store(command) => judged(store_tool::run(&command)),
        Command::Passwd(command) => judged(passwd_tool::run(&command)),
        Command::Acl(command) => judged(acl_tool::run(&command)),
        Command::Completions { shell } => written(paper::completions(shell)),
        Command::Man { folder } => written(paper::manual(&folder)),
    }
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    let (mut config, entries) = Config::load(&arguments.settings).map_err(Failure::Usage)?;
    config.store.faults = Faults {
        lose_unsynced: arguments.faults.lose_unsynced,
        syncs_max: arguments.faults.syncs_max,
    };
    let log = Log::start(&config.log).map_err(Failure::System)?;
    let result = serve(arguments, config, entries, log);
    log::finish();
    result
}

fn serve(
    arguments: Arguments,
    config: Config,
    entries: Vec<Entry>,
    log: Log,
) -> Result<(), Failure> {
    let wanted = listen::resolve(&config.listeners).map_err(Failure::System)?;
    let exposed = listen::exposed(&wanted, &config);
    if !exposed.is_empty() {
        return Err(Failure::Usage(exposed));
    }
    let guarded = Arc::new(Guarded::new());
    guarded.install(guarded.prepare(&config).map_err(Failure::Usage)?);
    let http = Http::new();
    let prepared = http.prepare(&config.http).map_err(Failure::System)?;
    let change = listen::change(&[], wanted, &config.limits).map_err(Failure::System)?;
    let (listeners, remember): (Vec<_>, Vec<_>) =
        change.bound.into_iter().map(listen::Bound::split).unzip();

    let map = map(&config);
    info!(
        version = env!("CARGO_PKG_VERSION"),
        workers = map.shards(),
        open_files_max = raise_open_files(),
        "CairnMQ starts"
    );
    let mut durable = durable::open(&config.store, map, TOPIC_LEVELS).map_err(Failure::System)?;
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|error| Failure::System(format!("cannot wait for signals: {error}")))?;
    let control = control::open(&config).map_err(Failure::System)?;
    let mut runtime = RuntimeConfig::new(shards(&config, map, durable.is_some()), listeners);
    let doorman = Arc::new(Doorman::new(&config.doorway));
    runtime.doorkeeper = Some(Arc::clone(&doorman) as _);
    let mut services = guarded::no_services();
    if let Some(durable) = &mut durable {
        runtime.logs = std::mem::take(&mut durable.logs);
        services = durable.services();
    }
    runtime.services = guarded.services(services);
    let running =
        runtime_mio::start(runtime).map_err(|error| Failure::System(error.to_string()))?;
    let doors = running.doors().iter();
    let open: Vec<_> = doors.zip(remember).map(|(door, remember)| remember(*door)).collect();
    open.iter().for_each(|open| info!("listening on {}", open.name));
    let serving = Arc::new(Serving {
        arguments: arguments.settings,
        desk: running.desk(),
        map,
        stopper: running.stopper(),
        guarded,
        doorman,
        log,
        watch: Watch::start().map_err(Failure::System)?,
        http,
        storage: durable.as_ref().map(durable::Durable::storage),
        started: Instant::now(),
        state: Mutex::new(State { config, entries, open }),
        reloading: Mutex::default(),
        draining: AtomicBool::new(false),
        census: census::Census::default(),
        traces: traces::Traces::default(),
        control: Mutex::new(None),
    });
    begin(&serving, prepared, control, signals).map_err(Failure::System)?;
    let ended = running.join().map_err(|panicked| Failure::System(panicked.to_string()));
    notify::stopping();
    if let Some(durable) = durable {
        durable.stop();
    }
    // Its file goes, though threads may still know of it.
    drop(serving.control.lock().unwrap_or_else(PoisonError::into_inner).take());
    ended?;
    info!("CairnMQ stopped");
    Ok(())
}

/// Begins what goes on beside the clients.
fn begin(
    serving: &Arc<Serving>,
    http: http::Prepared,
    control: Option<Control>,
    signals: Signals,
) -> Result<(), String> {
    serving.http.tell_of(serving);
    serving.http.install(http);
    serving.watch.set(serving::watched(serving, &serving.state()));
    if let Some(control) = control {
        control.start(Arc::clone(serving))?;
        *serving.control.lock().unwrap_or_else(PoisonError::into_inner) = Some(control);
    }
    ticker::start(Arc::clone(serving))?;
    let serving = Arc::clone(serving);
    let on_signals = thread::Builder::new().name("signals".into());
    on_signals
        .spawn(move || obey(signals, &serving))
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    notify::ready();
    Ok(())
}

/// One shard for each worker thread.
fn map(config: &Config) -> ShardMap {
    ShardMap::new(config.workers.map_or_else(default_workers, NonZeroU16::get), TOPIC_LEVELS)
}

fn shards(config: &Config, map: ShardMap, durable: bool) -> Vec<ShardConfig> {
    let shard = |id: ShardId| {
        let session_core::Settings { authentication, denied_publish_v3, features, limits } =
            serving::settings(config);
        let own = ShardConfig::new(id, map);
        ShardConfig { durable, authentication, denied_publish_v3, features, limits, ..own }
    };
    map.all().map(shard).collect()
}

/// A worker for every two processors. A message between two workers costs about half as much
/// again as one that stays, and the kernel's share of the work wants processors too.
fn default_workers() -> u16 {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    u16::try_from(processors.div_ceil(2)).unwrap_or(config::WORKERS_MAX)
}

/// Every connection needs an open file, and most systems start programs with a low limit that
/// they may raise themselves. Returns the limit in force; 0 stands for none.
fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum.unwrap_or(0),
        Err(_) => limit.current.unwrap_or(0),
    }
}

/// The first signal stops in good order, the second at once; SIGHUP reads the configuration again.
fn obey(mut signals: Signals, serving: &Arc<Serving>) {
    let mut stopping = false;
    for signal in signals.forever() {
        match signal {
            SIGHUP => {
                // It may take its time, and what has changed, or is wrong, stands in the log.
                let serving = Arc::clone(serving);
                let reload = move || drop(serving.reload());
                if let Err(error) = thread::Builder::new().name("reload".into()).spawn(reload) {
                    error!(%error, "cannot start a thread that reads the configuration again");
                }
            }
            _ if stopping => {
                error!("stopped at once on a second {}", signal_name(signal));
                log::finish();
                process::exit(1);
            }
            _ => {
                stopping = true;
                info!("stopping on {}", signal_name(signal));
                notify::stopping();
                serving.stopper.shutdown();
            }
        }
    }
}

const fn signal_name(signal: i32) -> &'static str {
    match signal {
        SIGINT => "SIGINT",
        _ => "SIGTERM",
    }
}
