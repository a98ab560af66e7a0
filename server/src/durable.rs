//! The store and the workers: who tells whom.

use std::{
    path::Path,
    process,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use runtime_mio::{Histogram, Inbox, LATENCY_US, MakeServices, Services};
use session_core::{Command, CommitSeq, Load, Loaded, Record, ShardId, ShardMap, Ticket};
use store::{Durability, Log, News, Options, Repair, Store, Tuner};
use tracing::{error, info, warn};

use crate::{
    config::{self, DurabilityMode, StoreConfig},
    log,
};

/// Tickets of commands whose reply nobody awaits.
const NO_REPLY: Ticket = Ticket(u64::MAX - 1);

/// A store at work, and what its shards read before they start.
pub(crate) struct Durable {
    store: Store,
    workers: Arc<Workers>,
    /// For each shard.
    pub(crate) logs: Vec<Vec<Record>>,
}

/// The workers, as far as they are there.
struct Workers {
    inboxes: Box<[OnceLock<Inbox>]>,
    /// The disk is full. Workers that come later have to hear of it too.
    is_full: AtomicBool,
    writes: Mutex<Writes>,
}

/// Upper bounds of the classes of records that were written together.
pub(crate) const BATCHES: [usize; 10] = [1, 2, 5, 10, 25, 50, 100, 250, 1000, 5000];

/// How writing goes, since the start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writes {
    /// Writes with a sync, by how long they took; classes as of [`runtime_mio::LATENCY_US`].
    pub(crate) syncs: Histogram,
    /// Writes by how many records they took, and one more class for larger ones.
    pub(crate) batches: [u64; BATCHES.len() + 1],
    /// Records that were written.
    pub(crate) records: u64,
}

impl Writes {
    fn note(&mut self, records: usize, took: Duration, synced: bool) {
        self.records += records as u64;
        self.batches[BATCHES.partition_point(|bound| *bound < records)] += 1;
        if synced {
            let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            self.syncs.classes[LATENCY_US.partition_point(|bound| *bound < us)] += 1;
            self.syncs.sum_us = self.syncs.sum_us.saturating_add(us);
        }
    }
}

/// What the store tells of itself.
#[derive(Clone)]
pub(crate) struct Storage(Arc<Workers>, Tuner);

impl Storage {
    /// Goes on by another configuration, as far as it can.
    pub(crate) fn reconfigure(&self, config: &StoreConfig) {
        if let Some(durability) = durability(config) {
            self.1.set(durability, config.reserve_bytes);
            tell_durability(durability);
        }
    }

    /// Whether the disk has no room for messages.
    pub(crate) fn is_full(&self) -> bool {
        self.0.is_full.load(Ordering::SeqCst)
    }

    /// How writing goes.
    pub(crate) fn writes(&self) -> Writes {
        self.0.writes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Opens the store that the configuration names; `None` if it wants none.
///
/// # Errors
/// The data directory cannot be used.
pub(crate) fn open(
    config: &StoreConfig,
    map: ShardMap,
    topic_levels: u8,
) -> Result<Option<Durable>, String> {
    let Some(durability) = durability(config) else {
        warn!("durability: memory; whatever ends the broker loses all sessions and messages");
        return Ok(None);
    };
    let options = Options {
        durability,
        repair: match config.repair {
            config::Repair::Quarantine => Repair::Quarantine,
            config::Repair::Refuse => Repair::Refuse,
        },
        reserve_bytes: config.reserve_bytes,
        faults: config.faults,
        ..Options::new(map, topic_levels)
    };
    let mut opened =
        store::open(&config.data_dir, options).map_err(|error| format!("store: {error}"))?;
    tell_what_was_found(&config.data_dir, &opened);
    tell_durability(durability);
    let logs = std::mem::take(&mut opened.recovered.logs);
    let inboxes = map.all().map(|_| OnceLock::new()).collect();
    let (is_full, writes) = (AtomicBool::new(false), Mutex::default());
    let workers = Arc::new(Workers { inboxes, is_full, writes });
    let known = Arc::clone(&workers);
    let store = opened.start(move |news| tell(&known, news)).map_err(|error| error.to_string())?;
    Ok(Some(Durable { store, workers, logs }))
}

/// How a store is to work; `None` if there is none.
fn durability(config: &StoreConfig) -> Option<Durability> {
    match config.durability {
        DurabilityMode::Memory => None,
        DurabilityMode::Interval => {
            Some(Durability::Interval(Duration::from_millis(config.interval_ms)))
        }
        DurabilityMode::Sync => Some(Durability::Sync),
    }
}

fn tell_durability(durability: Durability) {
    match durability {
        Durability::Sync => info!("durability: sync; what is acknowledged is on disk"),
        Durability::Interval(interval) => warn!(
            "durability: interval; a failure of the machine loses what was acknowledged in the last \
             {} ms, one of the broker nothing",
            interval.as_millis()
        ),
    }
}

fn tell_what_was_found(path: &Path, opened: &store::Opened) {
    let found = &opened.recovered;
    info!(sessions = found.sessions, "data directory {}", path.display());
    if let Some(before) = found.shards_before {
        info!("the data of {before} workers was dealt anew");
    }
    if found.torn_bytes > 0 {
        info!(
            bytes = found.torn_bytes,
            "the end of the log was never written whole, nor acknowledged, and is cut off"
        );
    }
    for loss in &found.losses {
        error!("damaged, set aside in {}: {loss}", path.join("quarantine").display());
    }
}

/// Called on threads of the store.
fn tell(workers: &Workers, news: News) {
    let inbox = |shard: ShardId| workers.inboxes.get(usize::from(shard.0)).and_then(OnceLock::get);
    match news {
        News::Persisted(shard, through) => {
            if let Some(inbox) = inbox(shard) {
                inbox.persisted(through);
            }
        }
        News::Loaded(shard, loaded) => {
            if let Some(inbox) = inbox(shard) {
                inbox.loaded(loaded);
            }
        }
        News::Written { records, took, synced } => {
            let mut writes = workers.writes.lock().unwrap_or_else(PoisonError::into_inner);
            writes.note(records, took, synced);
        }
        News::Full(is_full) => {
            if is_full {
                error!("the disk is full: QoS 1 and 2 messages are refused until there is room");
            } else {
                info!("the disk has room again: messages are taken");
            }
            workers.is_full.store(is_full, Ordering::SeqCst);
            for inbox in workers.inboxes.iter().filter_map(OnceLock::get) {
                inbox.command(NO_REPLY, Box::new(Command::StorageFull(is_full)));
            }
        }
        News::Lost(what) => error!("damaged and left out: {what}"),
        News::Trouble(what) => error!("store: {what}"),
        News::Failed(why) => {
            // Nothing that waits for the log was acknowledged, and nothing will be.
            error!("the store cannot go on, so the broker ends: {why}");
            log::finish();
            process::exit(1);
        }
    }
}

impl Durable {
    /// What makes the services of each worker.
    pub(crate) fn services(&self) -> MakeServices {
        let workers = Arc::clone(&self.workers);
        let shards = (0..).map(ShardId).take(workers.inboxes.len());
        let mut logs: Vec<Option<Log>> = shards.map(|shard| Some(self.store.log(shard))).collect();
        Box::new(move |shard, inbox| {
            let at = usize::from(shard.0);
            let known = workers.inboxes.get(at).map(|place| place.set(inbox.clone()));
            if workers.is_full.load(Ordering::SeqCst) {
                inbox.command(NO_REPLY, Box::new(Command::StorageFull(true)));
            }
            let log = logs.get_mut(at).and_then(Option::take);
            match (known, log) {
                (Some(Ok(())), Some(log)) => Box::new(Journal(log)),
                _ => Box::new(runtime_mio::NoServices),
            }
        })
    }

    /// What it tells of itself.
    pub(crate) fn storage(&self) -> Storage {
        Storage(Arc::clone(&self.workers), self.store.tuner())
    }

    /// Makes everything durable, once the workers have ended.
    pub(crate) fn stop(self) {
        self.store.stop();
    }
}

/// What a worker writes and reads by.
struct Journal(Log);

impl Services for Journal {
    fn append(&mut self, _seq: CommitSeq, record: Box<Record>) {
        self.0.append(*record);
    }

    fn commit(&mut self, last: CommitSeq) -> Option<CommitSeq> {
        self.0.commit(last);
        None
    }

    fn load(&mut self, load: Load) -> Option<Box<Loaded>> {
        self.0.load(load);
        None
    }
}
