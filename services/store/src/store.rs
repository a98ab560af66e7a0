//! The store of a running broker: the thread that writes, and those that help it.
//!
//! The writer takes what all shards have to say since it last looked, writes it as one frame, makes
//! that durable by one sync, and tells each shard how far its log is durable. Reading backlogs, writing
//! tables and giving room back is left to other threads, so that none of it holds up an acknowledgement.

use std::{
    collections::BTreeMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use session_core::{CommitSeq, Load, Loaded, Record, ShardId, ShardMap};

use crate::{
    StoreError,
    book::{Book, Opening, Repair},
    engine::Flush,
    files::{Faults, Folder},
    folder::{DataFolder, free_bytes},
    keys::Sid,
    recovery::{self, Recovered},
    rows::Rows,
    sweep::{Swept, sweep},
    tables::{Lsm, Tables},
};

/// When what was written becomes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Before it is acknowledged: nothing acknowledged is lost, whatever fails.
    Sync,
    /// At least this often. It is acknowledged once the system has it: a crash of the broker loses
    /// nothing, one of the machine loses what came within this time.
    Interval(Duration),
}

/// How a store is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// The shards of the broker.
    pub map: ShardMap,
    /// The levels of a topic that decide its shard, as in the map.
    pub topic_levels: u8,
    /// When what was written becomes durable.
    pub durability: Durability,
    /// What to do about damage at a start.
    pub repair: Repair,
    /// Bytes of the file system that are left free: below, the store counts as full.
    pub reserve_bytes: u64,
    /// Finds out how many bytes the file system of a directory has left; for tests that want another
    /// answer.
    pub room: fn(&Path) -> io::Result<u64>,
    /// How the disk fails; for tests.
    pub faults: Faults,
    /// Memory for changes that the tables do not have yet, bytes. Twice as much may be in use while
    /// they are written.
    pub layer_bytes: usize,
}

impl Options {
    /// A store that syncs before it acknowledges, quarantines damage, leaves 128 MiB free, and keeps
    /// 12 MiB of changes in memory.
    pub fn new(map: ShardMap, topic_levels: u8) -> Self {
        Self {
            map,
            topic_levels,
            durability: Durability::Sync,
            repair: Repair::Quarantine,
            reserve_bytes: 128 * 1024 * 1024,
            room: free_bytes,
            faults: Faults::default(),
            layer_bytes: 12 * 1024 * 1024,
        }
    }
}

/// What a store has to tell.
#[derive(Debug)]
pub enum News {
    /// The log of a shard is durable through this record.
    Persisted(ShardId, CommitSeq),
    /// The next part of a backlog.
    Loaded(ShardId, Box<Loaded>),
    /// Records were written together, and synced if that is what durability wants.
    Written {
        /// How many.
        records: usize,
        /// How long it took.
        took: Duration,
        /// Whether a sync is part of that.
        synced: bool,
    },
    /// There is no room for more messages, or there is room again.
    Full(bool),
    /// Something that was stored cannot be read, in words.
    Lost(String),
    /// Something has to be done by somebody, but the store goes on.
    Trouble(String),
    /// The store cannot go on: nothing more becomes durable.
    Failed(StoreError),
}

/// Takes news, on threads of the store. It must not block.
type Sink = Arc<dyn Fn(News) + Send + Sync>;

/// Bytes in one frame, about; more waits for the next.
const FRAME_BYTES: usize = 4 * 1024 * 1024;
/// How often a full disk is looked at, and a table that could not be written is tried again.
const PATIENCE: Duration = Duration::from_millis(200);
/// A log of this many times a layer's bytes is shortened, however little of it is left.
const LOG_FACTOR: u64 = 4;
/// Layers of this many times the agreed size wait for the tables.
const LAYERS_MAX: usize = 4;

enum Mail {
    Records(ShardId, CommitSeq, Vec<Record>),
    Load(ShardId, Load),
    Swept(Swept),
    /// Something waits elsewhere.
    LookUp,
    Tune(Durability, u64),
    Stop,
}

/// A store that was opened, and what it remembers.
#[derive(Debug)]
pub struct Opened {
    book: Book<Folder, Lsm>,
    folder: DataFolder,
    options: Options,
    /// What the shards read before they start.
    pub recovered: Recovered,
}

/// Opens a data directory, which is made if it is not there.
///
/// # Errors
/// It is not ours, in use, newer, damaged beyond what the options allow, or the system refuses.
pub fn open(path: &Path, options: Options) -> Result<Opened, StoreError> {
    let folder = DataFolder::take(path, true)?;
    let (tables, unreadable) = open_tables(&folder, options.repair)?;
    folder.sync()?;
    let files = Folder::new(folder.log(), folder.quarantine()).with_faults(options.faults);
    let how = Opening { repair: options.repair, ..Opening::default() };
    let (book, mut recovered) = Book::open(files, tables, options.map, options.topic_levels, how)?;
    recovered.losses.splice(0..0, unreadable);
    Ok(Opened { book, folder, options, recovered })
}

/// Opens the tables. If they cannot be read at all they are set aside whole, and that is told in words.
fn open_tables(folder: &DataFolder, repair: Repair) -> Result<(Lsm, Option<String>), StoreError> {
    let error = match Lsm::open(&folder.tables()) {
        Ok(tables) => return Ok((tables, None)),
        Err(error @ StoreError::Unreadable { .. }) if repair == Repair::Quarantine => error,
        Err(error) => return Err(error),
    };
    let aside = folder.set_tables_aside()?;
    let what = format!("all tables, which are in {} now: {error}", aside.display());
    Ok((Lsm::open(&folder.tables())?, Some(what)))
}

impl Opened {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(self, sink: impl Fn(News) + Send + Sync + 'static) -> Result<Store, StoreError> {
        let sink: Sink = Arc::new(sink);
        let (sender, mail) = channel();
        let rows = Arc::clone(self.book.rows());
        let (to_reader, reads) = channel();
        let (to_flusher, chores) = channel();
        let mut threads = Vec::new();
        let panics = Arc::clone(&sink);
        let mut spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            let sink = Arc::clone(&panics);
            let thread = thread::Builder::new().name(name.into()).spawn(move || {
                // A thread that is gone would leave everybody waiting.
                if catch_unwind(AssertUnwindSafe(body)).is_err() {
                    sink(News::Failed(StoreError::Panicked));
                }
            });
            threads.push(thread.map_err(StoreError::io("start a thread of the store"))?);
            Ok(())
        };
        let reader = Reader { rows: Arc::clone(&rows), sink: Arc::clone(&sink) };
        spawn("store-reader", Box::new(move || reader.run(&reads)))?;
        let (tell_flushed, flushed) = channel();
        let stopping = Arc::new(AtomicBool::new(false));
        let chores_rows = Arc::clone(&rows);
        let chores_of = Chores {
            rows,
            sink: Arc::clone(&sink),
            writer: sender.clone(),
            flushed: tell_flushed,
            stopping: Arc::clone(&stopping),
        };
        spawn("store-tables", Box::new(move || chores_of.run(&chores)))?;
        let (to_reclaimer, wakes) = sync_channel(1);
        let reclaimer = Reclaimer { rows: Arc::clone(&chores_rows), sink: Arc::clone(&sink) };
        spawn("store-reclaim", Box::new(move || reclaimer.run(&wakes)))?;
        let writer = Writer {
            path: self.folder.log(),
            _folder: self.folder,
            book: self.book,
            options: self.options,
            mail,
            reader: to_reader,
            chores: to_flusher,
            flushed,
            reclaim: to_reclaimer,
            stopping,
            sink,
            told: BTreeMap::new(),
            loads: Vec::new(),
            is_full: false,
            gathered: 0,
            is_stuck: false,
            looked: None,
            unlooked_bytes: 0,
            unsynced_since: None,
        };
        spawn("store-writer", Box::new(move || writer.run()))?;
        Ok(Store { sender, threads })
    }
}

/// A store at work.
#[derive(Debug)]
pub struct Store {
    sender: Sender<Mail>,
    threads: Vec<JoinHandle<()>>,
}

impl Store {
    /// What a shard writes by.
    pub fn log(&self, shard: ShardId) -> Log {
        Log { shard, records: Vec::new(), sender: self.sender.clone() }
    }

    /// What changes how it works while it does.
    pub fn tuner(&self) -> Tuner {
        Tuner(self.sender.clone())
    }

    /// Makes everything durable that was given, and ends.
    pub fn stop(self) {
        let _ = self.sender.send(Mail::Stop);
        drop(self.sender);
        for thread in self.threads {
            // One that panicked has printed why.
            let _ = thread.join();
        }
    }
}

/// Changes how a store works, from any thread.
#[derive(Clone, Debug)]
pub struct Tuner(Sender<Mail>);

impl Tuner {
    /// From now on writes become durable so, and so many bytes of the file system are left free.
    pub fn set(&self, durability: Durability, reserve_bytes: u64) {
        let _ = self.0.send(Mail::Tune(durability, reserve_bytes));
    }
}

/// What one shard writes and reads by.
#[derive(Debug)]
pub struct Log {
    shard: ShardId,
    records: Vec<Record>,
    sender: Sender<Mail>,
}

impl Log {
    /// Adds a record to what [`Log::commit`] hands over.
    pub fn append(&mut self, record: Record) {
        self.records.push(record);
    }

    /// Hands the records over, of which this is the last; [`News::Persisted`] follows.
    pub fn commit(&mut self, last: CommitSeq) {
        let records = std::mem::take(&mut self.records);
        let _ = self.sender.send(Mail::Records(self.shard, last, records));
    }

    /// Asks for the next part of a backlog; [`News::Loaded`] follows.
    pub fn load(&self, load: Load) {
        let _ = self.sender.send(Mail::Load(self.shard, load));
    }
}

/// The thread that writes.
struct Writer {
    path: PathBuf,
    _folder: DataFolder,
    book: Book<Folder, Lsm>,
    options: Options,
    mail: Receiver<Mail>,
    reader: Sender<(ShardId, Sid, Load)>,
    chores: Sender<Chore>,
    /// Checkpoints that the tables have reached.
    flushed: Receiver<u64>,
    /// Wakes who gives room back.
    reclaim: SyncSender<()>,
    stopping: Arc<AtomicBool>,
    sink: Sink,
    /// What the shards are to be told once everything is written.
    told: BTreeMap<ShardId, CommitSeq>,
    loads: Vec<(ShardId, Load)>,
    is_full: bool,
    /// Records that were gathered and not written yet.
    gathered: usize,
    /// What was gathered could not be written for want of room.
    is_stuck: bool,
    /// When the room on the disk was looked at.
    looked: Option<Instant>,
    /// Bytes written since.
    unlooked_bytes: u64,
    /// When the oldest change was written that is not durable.
    unsynced_since: Option<Instant>,
}

impl Writer {
    fn run(mut self) {
        let mut stopping = false;
        self.look_at_room();
        while !stopping {
            self.shorten_log();
            stopping = self.gather();
            self.stopping.store(stopping, Ordering::Relaxed);
            if let Err(error) = self.turn(stopping) {
                (self.sink)(News::Failed(error));
                return;
            }
        }
        if let Err(error) = self.book.checkpoint() {
            // What is in the log is as good as what is in the tables.
            (self.sink)(News::Trouble(error.to_string()));
        }
    }

    /// Removes the part of the log that the tables have. If far more waits for them than was agreed,
    /// this waits too, and so do all acknowledgements: a disk that is slow slows down who writes to it.
    fn shorten_log(&mut self) {
        let (active, frozen) = self.book.rows().layer_bytes();
        let is_behind = active > self.options.layer_bytes.saturating_mul(LAYERS_MAX);
        let next = if is_behind && frozen > 0 {
            self.flushed.recv_timeout(PATIENCE).ok()
        } else {
            self.flushed.try_recv().ok()
        };
        let Some(checkpoint) = next else { return };
        if let Err(error) = self.book.flushed(checkpoint) {
            (self.sink)(News::Trouble(error.to_string()));
        }
        // Whoever is at it already looks again.
        let _ = self.reclaim.try_send(());
    }

    /// Waits for mail and takes what there is. Returns whether the store stops.
    fn gather(&mut self) -> bool {
        let first = match self.patience() {
            None => self.mail.recv().ok(),
            Some(patience) => match self.mail.recv_timeout(patience) {
                Ok(mail) => Some(mail),
                Err(RecvTimeoutError::Timeout) => return false,
                Err(RecvTimeoutError::Disconnected) => None,
            },
        };
        let mut next = first;
        loop {
            match next {
                None | Some(Mail::Stop) => return true,
                Some(Mail::Records(shard, last, records)) => {
                    self.gathered += records.len();
                    records.iter().for_each(|record| self.book.add(shard, record));
                    self.told.insert(shard, last);
                }
                Some(Mail::Load(shard, load)) => self.loads.push((shard, load)),
                Some(Mail::Swept(swept)) => self.book.add_swept(swept),
                Some(Mail::LookUp) => {}
                Some(Mail::Tune(durability, reserve_bytes)) => {
                    self.options.durability = durability;
                    self.options.reserve_bytes = reserve_bytes;
                    // The room is looked at anew before the next write.
                    self.looked = None;
                }
            }
            if self.book.pending_bytes() >= FRAME_BYTES {
                return false;
            }
            match self.mail.try_recv() {
                Ok(mail) => next = Some(mail),
                Err(_) => return false,
            }
        }
    }

    /// How long to wait for mail, if not for ever.
    fn patience(&self) -> Option<Duration> {
        if self.is_full || self.book.is_pending() {
            return Some(PATIENCE);
        }
        let Durability::Interval(interval) = self.options.durability else { return None };
        self.unsynced_since.map(|since| interval.saturating_sub(since.elapsed()))
    }

    fn turn(&mut self, stopping: bool) -> Result<(), StoreError> {
        self.look_at_room();
        self.hand_on_loads();
        let is_new = self.book.is_pending();
        let sync = match self.options.durability {
            Durability::Sync => true,
            Durability::Interval(interval) => {
                stopping || self.unsynced_since.is_some_and(|since| since.elapsed() >= interval)
            }
        };
        let began = Instant::now();
        match self.book.write(sync) {
            Ok(()) => {
                self.is_stuck = false;
                let (records, synced) = (std::mem::take(&mut self.gathered), sync);
                if records > 0 {
                    (self.sink)(News::Written { records, took: began.elapsed(), synced });
                }
            }
            Err(error) if error.is_full() => {
                self.is_stuck = true;
                self.set_full(true);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        match (sync, is_new) {
            (true, _) => self.unsynced_since = None,
            (false, true) => {
                self.unsynced_since.get_or_insert_with(Instant::now);
            }
            (false, false) => {}
        }
        while let Some((shard, last)) = self.told.pop_first() {
            (self.sink)(News::Persisted(shard, last));
        }
        for sid in self.book.take_ended() {
            let _ = self.chores.send(Chore::Sweep(sid));
        }
        let (active, _) = self.book.rows().layer_bytes();
        let is_large = active >= self.options.layer_bytes
            || self.book.log_bytes() >= self.options.layer_bytes as u64 * LOG_FACTOR;
        if is_large && let Some(flush) = self.book.freeze()? {
            let _ = self.chores.send(Chore::Flush(flush));
        }
        Ok(())
    }

    /// What is asked for is durable, so that it need not wait for what is not.
    fn hand_on_loads(&mut self) {
        for (shard, load) in self.loads.drain(..) {
            match self.book.sid(shard, &load) {
                Some(sid) => {
                    let _ = self.reader.send((shard, sid, load));
                }
                None => {
                    // The session ended meanwhile.
                    let loaded = Loaded { load, messages: Vec::new(), complete: true };
                    (self.sink)(News::Loaded(shard, Box::new(loaded)));
                }
            }
        }
    }

    /// Finds out now and then whether there is room for more messages. What clients acknowledge and
    /// what ends is written all the same, into what is kept free for it.
    fn look_at_room(&mut self) {
        let reserve = self.options.reserve_bytes;
        self.unlooked_bytes = self.unlooked_bytes.saturating_add(self.book.pending_bytes() as u64);
        // Neither for long nor for much: a fast writer would be through the reserve.
        let is_recent = self.looked.is_some_and(|looked| looked.elapsed() < PATIENCE);
        if is_recent && self.unlooked_bytes < reserve / 16 {
            return;
        }
        self.looked = Some(Instant::now());
        self.unlooked_bytes = 0;
        // A full disk counts as free again when there is more room than at its limit.
        let wanted = if self.is_full { reserve.saturating_add(reserve / 4) } else { reserve };
        match (self.options.room)(&self.path) {
            // While something could not be written there is no room, whatever the file system says.
            Ok(free) => self.set_full(free < wanted || self.is_stuck),
            Err(error) => {
                let what = format!("cannot find out how much room {} has", self.path.display());
                (self.sink)(News::Trouble(format!("{what}: {error}")));
            }
        }
    }

    fn set_full(&mut self, is_full: bool) {
        if self.is_full != is_full {
            self.is_full = is_full;
            (self.sink)(News::Full(is_full));
        }
    }
}

/// The thread that reads backlogs.
struct Reader {
    rows: Arc<Rows<Lsm>>,
    sink: Sink,
}

impl Reader {
    fn run(&self, reads: &Receiver<(ShardId, Sid, Load)>) {
        for (shard, sid, load) in reads {
            let (loaded, losses) = recovery::read_backlog(&self.rows, sid, load);
            for what in losses {
                (self.sink)(News::Lost(what));
            }
            (self.sink)(News::Loaded(shard, Box::new(loaded)));
        }
    }
}

/// The thread that gives room back.
struct Reclaimer {
    rows: Arc<Rows<Lsm>>,
    sink: Sink,
}

impl Reclaimer {
    fn run(&self, wakes: &Receiver<()>) {
        for () in wakes {
            if let Err(error) = self.rows.tables().reclaim() {
                (self.sink)(News::Trouble(error.to_string()));
            }
        }
    }
}

enum Chore {
    Flush(Flush),
    Sweep(Sid),
}

/// The thread that writes tables and sweeps away what ended.
struct Chores {
    rows: Arc<Rows<Lsm>>,
    sink: Sink,
    writer: Sender<Mail>,
    flushed: Sender<u64>,
    stopping: Arc<AtomicBool>,
}

impl Chores {
    fn run(&self, chores: &Receiver<Chore>) {
        for chore in chores {
            match chore {
                Chore::Flush(flush) => {
                    let mut is_told = false;
                    while let Err(error) = flush.run(&self.rows) {
                        // The log has it all: nothing is lost, but it cannot be shortened.
                        if !std::mem::replace(&mut is_told, true) {
                            (self.sink)(News::Trouble(error.to_string()));
                        }
                        thread::sleep(PATIENCE);
                        if self.stopping.load(Ordering::Relaxed) {
                            return;
                        }
                    }
                    let _ = self.flushed.send(flush.checkpoint);
                    let _ = self.writer.send(Mail::LookUp);
                }
                Chore::Sweep(sid) => {
                    sweep(&self.rows, sid, |swept| {
                        let _ = self.writer.send(Mail::Swept(swept));
                    });
                }
            }
        }
    }
}
