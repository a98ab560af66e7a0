//! The broker as a program: command line, configuration, start-up and stop.

mod acl_tool;
mod cli;
mod config;
mod durable;
mod guarded;
mod listen;
mod passwd_tool;
mod store_tool;
mod watch;

use std::{
    io::{self, IsTerminal, Write},
    num::NonZeroU16,
    process::{self, ExitCode},
    sync::Arc,
    thread,
};

use clap::Parser;
use runtime_mio::{RuntimeConfig, Stopper, TlsDoor};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use session_core::{Authentication, ShardConfig, ShardId, ShardMap};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};
use tracing::{Level, error, info};
use tracing_subscriber::EnvFilter;

use cli::{Arguments, Command, LogLevel};
use config::Config;
use guarded::{Doorman, Guarded};
use listen::Doors;
use watch::Watched;

/// The first levels of a topic that decide which worker owns it.
const TOPIC_LEVELS: u8 = 2;

/// Why the broker does not run.
enum Failure {
    /// A flag or the configuration is wrong: one line each.
    Usage(Vec<String>),
    /// The system does not let it work.
    System(String),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let tool = match &arguments.command {
        Some(Command::Store(command)) => Some(store_tool::run(command)),
        Some(Command::Passwd(command)) => Some(passwd_tool::run(command)),
        Some(Command::Acl(command)) => Some(acl_tool::run(command)),
        None => None,
    };
    if let Some(result) = tool {
        return match result {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(1),
            Err(line) => {
                let _ = writeln!(io::stderr().lock(), "cairnmq: {line}");
                ExitCode::from(1)
            }
        };
    }
    let (lines, status) = match run(arguments) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Usage(lines)) => (lines, 2),
        Err(Failure::System(line)) => (vec![line], 1),
    };
    let mut stderr = io::stderr().lock();
    for line in lines {
        // Whoever closed standard error does not want to know.
        let _ = writeln!(stderr, "cairnmq: {line}");
    }
    ExitCode::from(status)
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    let config = configure(arguments)?;
    start_log(config.log_level);

    let wanted = listen::resolve(&config.listeners).map_err(Failure::System)?;
    let exposed = listen::exposed(&wanted, &config);
    if !exposed.is_empty() {
        return Err(Failure::Usage(exposed));
    }
    let guarded = config.access.as_ref().map(|access| Guarded::start(access, &config)).transpose();
    let guarded = guarded.map_err(Failure::Usage)?;
    let Doors { listeners, names, tls } =
        listen::bind(wanted, &config.limits).map_err(Failure::System)?;

    let map = map(&config);
    info!(
        version = env!("CARGO_PKG_VERSION"),
        workers = map.shards(),
        open_files_max = raise_open_files(),
        "CairnMQ starts"
    );
    let mut durable = durable::open(&config.store, map, TOPIC_LEVELS).map_err(Failure::System)?;
    let signals = Signals::new([SIGTERM, SIGINT])
        .map_err(|error| Failure::System(format!("cannot wait for signals: {error}")))?;
    let mut runtime = RuntimeConfig::new(shards(&config, map, durable.is_some()), listeners);
    runtime.doorkeeper = Doorman::for_config(&config);
    let mut services = guarded::no_services();
    if let Some(durable) = &mut durable {
        runtime.logs = std::mem::take(&mut durable.logs);
        services = durable.services();
    }
    runtime.services = match &guarded {
        Some(guarded) => guarded.services(services),
        None => services,
    };
    let running =
        runtime_mio::start(runtime).map_err(|error| Failure::System(error.to_string()))?;
    for name in names {
        info!("listening on {name}");
    }
    let watched = watched(&config, guarded, tls);
    if !watched.is_empty() {
        watch::start(watched).map_err(Failure::System)?;
    }
    let stopper = running.stopper();
    thread::spawn(move || stop_on(signals, &stopper));
    let ended = running.join().map_err(|panicked| Failure::System(panicked.to_string()));
    if let Some(durable) = durable {
        durable.stop();
    }
    ended?;
    info!("CairnMQ stopped");
    Ok(())
}

/// What is read again when its files change.
fn watched(config: &Config, guarded: Option<Guarded>, tls: Vec<(String, TlsDoor)>) -> Vec<Watched> {
    let mut all = Vec::new();
    if let (Some(access), Some(guarded)) = (&config.access, guarded) {
        let guarded = Arc::new(guarded);
        if let Some(blocks) = &access.blocks {
            let guarded = Arc::clone(&guarded);
            all.push(Watched {
                what: "the file of blocks".into(),
                files: vec![blocks.clone()],
                reload: Box::new(move || guarded.reload_blocks()),
            });
        }
        let config = config.clone();
        let files = guarded::files(access);
        let reload = move || match &config.access {
            Some(access) => guarded.reload(access, &config),
            None => Ok(()),
        };
        all.push(Watched { what: "access".into(), files, reload: Box::new(reload) });
    }
    all.extend(tls.into_iter().map(|(address, door)| Watched {
        what: format!("certificates of {address}"),
        files: door.files(),
        reload: Box::new(move || door.reload().map_err(|error| vec![error.to_string()])),
    }));
    all
}

fn configure(arguments: Arguments) -> Result<Config, Failure> {
    let mut config = match &arguments.config {
        None => Config::default(),
        Some(path) => Config::read_file(path).map_err(Failure::Usage)?,
    };
    config.override_by(arguments);
    Ok(config)
}

fn start_log(level: LogLevel) {
    let level = match level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    };
    // The tables speak of their files as if that were news.
    let filter = EnvFilter::new(format!("{level},fjall=warn,lsm_tree=warn,sfa=warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
}

/// One shard for each worker thread.
fn map(config: &Config) -> ShardMap {
    ShardMap::new(config.workers.map_or_else(default_workers, NonZeroU16::get), TOPIC_LEVELS)
}

fn shards(config: &Config, map: ShardMap, durable: bool) -> Vec<ShardConfig> {
    let shard = |id: ShardId| ShardConfig {
        durable,
        authentication: match config.access {
            Some(_) => Authentication::Ask,
            None => Authentication::Anonymous,
        },
        denied_publish_v3: config.denied_publish_v3,
        limits: config.limits.clone(),
        features: config.features.clone(),
        ..ShardConfig::new(id, map)
    };
    map.all().map(shard).collect()
}

/// A worker for every two processors. A message between two workers costs about half as much
/// again as one that stays, and the kernel's share of the work wants processors too.
fn default_workers() -> u16 {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    u16::try_from(processors.div_ceil(2)).unwrap_or(cli::WORKERS_MAX)
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

/// The first signal stops in good order, the second at once.
fn stop_on(mut signals: Signals, stopper: &Stopper) {
    let mut forever = signals.forever();
    if let Some(signal) = forever.next() {
        info!("stopping on {}", signal_name(signal));
        stopper.shutdown();
    }
    if let Some(signal) = forever.next() {
        error!("stopped at once on a second {}", signal_name(signal));
        process::exit(1);
    }
}

const fn signal_name(signal: i32) -> &'static str {
    match signal {
        SIGINT => "SIGINT",
        _ => "SIGTERM",
    }
}
