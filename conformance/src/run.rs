//! Plays a suite against a live broker, several scenarios at a time.

use std::{
    net::SocketAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use codec::{Connect, Packet, Properties, ProtocolVersion};

use crate::{
    live::{Live, Patience},
    play::{self, Login, Names, Outcome},
    suite::File,
    world::{World, WorldError},
};

/// How a live run is done.
#[derive(Clone, Debug)]
pub struct Options {
    /// The broker.
    pub broker: SocketAddr,
    /// How long to wait for it.
    pub patience: Patience,
    /// Scenarios played at the same time; at least one is.
    pub jobs: usize,
    /// After this time a scenario fails.
    pub scenario_limit: Duration,
    /// After this time the run is stopped.
    pub run_limit: Duration,
    /// For brokers that demand it.
    pub login: Option<Login>,
}

impl Options {
    /// What suits a broker that is near and well.
    pub fn new(broker: SocketAddr) -> Self {
        Self {
            broker,
            patience: Patience::default(),
            jobs: 16,
            scenario_limit: Duration::from_secs(60),
            run_limit: Duration::from_secs(600),
            login: None,
        }
    }
}

/// One file played for one version.
#[derive(Clone, Debug)]
pub struct Played<'a> {
    /// The file.
    pub file: &'a File,
    /// The version.
    pub version: ProtocolVersion,
    /// What became of it; `None` if it was skipped as `core-only`, or the run was stopped before.
    pub outcome: Option<Outcome>,
    /// How long it took.
    pub time: Duration,
}

impl<'a> Played<'a> {
    /// A scenario that is still to be played.
    pub fn not_yet(file: &'a File, version: ProtocolVersion) -> Self {
        Self { file, version, outcome: None, time: Duration::ZERO }
    }
}

/// A run that is over.
#[derive(Clone, Debug)]
pub struct Finished<'a> {
    /// Everything that was to be played, in order.
    pub played: Vec<Played<'a>>,
    /// Why the run was stopped before its end.
    pub stopped: Option<String>,
}

/// Plays what is chosen and reports each as it ends.
///
/// # Errors
/// The broker cannot be reached at all, or lets nobody in.
pub fn run<'a>(
    chosen: &[(&'a File, ProtocolVersion)],
    options: &Options,
    report: impl Fn(&Played<'a>) + Sync,
) -> Result<Finished<'a>, WorldError> {
    let run = Run {
        options,
        root: run_root(),
        deadline: Instant::now() + options.run_limit,
        stopped: Mutex::new(None),
    };
    match run.greet() {
        Err(error) => return Err(error),
        Ok(Some(code @ (4 | 5))) => {
            let why = format!("the broker refuses clients with 0x{code:02X}: --user, --password?");
            return Err(WorldError(why));
        }
        Ok(_) => {}
    }
    let mut work: Vec<_> =
        chosen.iter().map(|(file, version)| Played::not_yet(file, *version)).collect();
    let job = |(index, played): (usize, &mut Played<'a>)| {
        run.play(index, played);
        report(played);
    };
    let (alone, together): (Vec<_>, Vec<_>) =
        work.iter_mut().enumerate().partition(|(_, played)| played.file.scenario.exact_names);
    in_parallel(together, options.jobs, job);
    alone.into_iter().for_each(job);
    let stopped = run.stopped.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Finished { played: work, stopped })
}

fn in_parallel<T: Send>(work: Vec<T>, jobs: usize, job: impl Fn(T) + Sync) {
    let next = AtomicUsize::new(0);
    let work: Vec<_> = work.into_iter().map(|item| Mutex::new(Some(item))).collect();
    let worker = || {
        while let Some(item) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
            let item = item.lock().unwrap_or_else(PoisonError::into_inner).take();
            item.into_iter().for_each(&job);
        }
    };
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(worker);
        }
    });
}

/// What the threads of a run share.
struct Run<'a> {
    options: &'a Options,
    /// Before the names of every scenario.
    root: String,
    deadline: Instant,
    stopped: Mutex<Option<String>>,
}

impl Run<'_> {
    fn play(&self, index: usize, played: &mut Played<'_>) {
        let scenario = &played.file.scenario;
        if scenario.core_only || self.is_stopped() {
            return;
        }
        let names = match scenario.exact_names {
            true => Names::exact(),
            false => Names::under(format!("{}{index}q", self.root)),
        };
        let names = names.with_login(self.options.login.clone());
        let began = Instant::now();
        let deadline = self.deadline.min(began + self.options.scenario_limit);
        let outcome = play::play(scenario, played.version, &mut self.world(deadline), &names);
        let has_failed = outcome.failure.is_some();
        played.time = began.elapsed();
        played.outcome = Some(outcome);
        // Not every scenario is to wait for a broker that hangs or is gone.
        if has_failed && let Err(error) = self.greet() {
            self.stop(format!("after {}: {error}", played.file.name()));
        }
    }

    fn is_stopped(&self) -> bool {
        if Instant::now() >= self.deadline {
            self.stop(format!("the {} s for the run were over", self.options.run_limit.as_secs()));
        }
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// The first reason is kept.
    fn stop(&self, why: String) {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
    }

    fn world(&self, deadline: Instant) -> Live {
        match Live::new(self.options.broker, self.options.patience) {
            Ok(world) => world.until(deadline),
            Err(error) => panic!("the system gives no poller: {error}"),
        }
    }

    /// Connects as any client does: what the CONNACK says, `None` if the broker just closes.
    fn greet(&self) -> Result<Option<u8>, WorldError> {
        let names = Names::under(&self.root).with_login(self.options.login.clone());
        let (user_name, password) = names.login();
        let connect = Packet::Connect(Box::new(Connect {
            version: ProtocolVersion::V311,
            bridge: false,
            clean_start: true,
            keep_alive_s: 0,
            client_id: names.client_id("greet").into(),
            will: None,
            user_name,
            password,
            properties: Properties::default(),
        }));
        let mut bytes = Vec::new();
        connect.encode(ProtocolVersion::V311, &mut bytes);
        let mut world = self.world(Instant::now() + self.options.patience.answer);
        let connection = world.open()?;
        world.send(connection, &bytes);
        let mut inbox = Vec::new();
        while !world.receive(connection, &mut inbox) && inbox.len() < 4 {
            if world.advance() != Ok(true) {
                let why = format!("the broker at {} does not answer CONNECT", self.options.broker);
                return Err(WorldError(why));
            }
        }
        world.send(connection, &[0xe0, 0]);
        Ok(inbox.get(3).copied())
    }
}

/// Letters and digits that no other run has: short, as it counts towards every packet's size.
fn run_root() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut seed = now.as_nanos() as u64 ^ u64::from(std::process::id()).rotate_left(40);
    let mut root = String::from("q");
    for _ in 0..6 {
        root.push(char::from(b"abcdefghijklmnop"[(seed % 16) as usize]));
        seed /= 16;
    }
    root
}
