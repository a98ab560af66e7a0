//! The store and the workers: who tells whom.

use std::{
    path::Path,
    process,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use runtime_mio::{Inbox, MakeServices, Services};
use session_core::{Command, CommitSeq, Load, Loaded, Record, ShardId, ShardMap, Ticket};
use store::{Durability, Log, News, Options, Repair, Store};
use tracing::{error, info, warn};

use crate::{
    cli,
    config::{DurabilityMode, StoreConfig},
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
    let durability = match config.durability {
        DurabilityMode::Memory => {
            warn!("durability: memory; whatever ends the broker loses all sessions and messages");
            return Ok(None);
        }
        DurabilityMode::Interval => Durability::Interval(Duration::from_millis(config.interval_ms)),
        DurabilityMode::Sync => Durability::Sync,
    };
    let options = Options {
        durability,
        repair: match config.repair {
            cli::Repair::Quarantine => Repair::Quarantine,
            cli::Repair::Refuse => Repair::Refuse,
        },
        reserve_bytes: config.reserve_bytes,
        faults: config.faults,
        ..Options::new(map, topic_levels)
    };
    let mut opened =
        store::open(&config.data_dir, options).map_err(|error| format!("store: {error}"))?;
    tell_what_was_found(&config.data_dir, &opened);
    match durability {
        Durability::Sync => info!("durability: sync; what is acknowledged is on disk"),
        Durability::Interval(interval) => warn!(
            "durability: interval; a failure of the machine loses what was acknowledged in the last \
             {} ms, one of the broker nothing",
            interval.as_millis()
        ),
    }
    let logs = std::mem::take(&mut opened.recovered.logs);
    let inboxes = map.all().map(|_| OnceLock::new()).collect();
    let workers = Arc::new(Workers { inboxes, is_full: AtomicBool::new(false) });
    let known = Arc::clone(&workers);
    let store = opened.start(move |news| tell(&known, news)).map_err(|error| error.to_string())?;
    Ok(Some(Durable { store, workers, logs }))
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
