//! Plays a suite against a live broker, several scenarios at a time.

use std::{
    net::SocketAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use codec::ProtocolVersion;

use crate::{
    live::{Live, Patience},
    play::{self, Names, Outcome},
    suite::{File, Selection},
    world::WorldError,
};

/// How a live run is done.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The broker.
    pub broker: SocketAddr,
    /// How long to wait for it.
    pub patience: Patience,
    /// Scenarios played at the same time; at least one is.
    pub jobs: usize,
}

/// One file played for one version.
#[derive(Clone, Debug)]
pub struct Played<'a> {
    /// The file.
    pub file: &'a File,
    /// The version.
    pub version: ProtocolVersion,
    /// What became of it; `None` if it was skipped as `core-only`.
    pub outcome: Option<Outcome>,
}

/// Plays what is selected and reports each as it ends; gives back all, in order.
///
/// # Errors
/// The broker cannot be reached at all.
pub fn run<'a>(
    files: &'a [File],
    selection: &Selection,
    options: Options,
    report: impl Fn(&Played<'a>) + Sync,
) -> Result<Vec<Played<'a>>, WorldError> {
    let reached = std::net::TcpStream::connect_timeout(&options.broker, options.patience.answer);
    if let Err(error) = reached {
        return Err(WorldError(format!("connecting to {}: {error}", options.broker)));
    }
    let mut work = Vec::new();
    for file in files {
        for version in selection.of(file) {
            work.push(Played { file, version, outcome: None });
        }
    }
    let run_root = run_root();
    let job = |(index, played): (usize, &mut Played<'a>)| {
        if !played.file.scenario.core_only {
            played.outcome = Some(play_one(played, &run_root, index, options));
        }
        report(played);
    };
    let (alone, together): (Vec<_>, Vec<_>) =
        work.iter_mut().enumerate().partition(|(_, played)| played.file.scenario.exact_names);
    in_parallel(together, options.jobs, job);
    alone.into_iter().for_each(job);
    Ok(work)
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

fn play_one(played: &Played<'_>, run_root: &str, index: usize, options: Options) -> Outcome {
    let names = match played.file.scenario.exact_names {
        true => Names::exact(),
        false => Names::under(format!("{run_root}{index}q")),
    };
    match Live::new(options.broker, options.patience) {
        Ok(mut world) => play::play(&played.file.scenario, played.version, &mut world, &names),
        Err(error) => panic!("the system gives no poller: {error}"),
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
