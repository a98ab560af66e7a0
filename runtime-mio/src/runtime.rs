//! Start and end of the threads.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    io,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::{Builder, JoinHandle},
};

use mio::{Poll, Waker};
use session_core::{Record, ShardConfig, ShardId};

use crate::{
    Desk, DoorId, Doorkeeper, Inbox, Listener, NoServices, Services,
    acceptor::{Acceptor, AcceptorStop},
    clock::Clock,
    counters::{Board, Sampler},
    door::{Door, Doors},
    mailbox::{Address, Mail, Mailbox, mailbox},
    worker::{ACCEPT, WAKE, Worker, WorkerConfig},
};

/// What a runtime is made of.
pub struct RuntimeConfig {
    /// One worker thread is started for each shard. The `id`s are 0, 1, 2 … in this order; an
    /// `instance` of 0 is replaced by a random number.
    pub shards: Vec<ShardConfig>,
    /// What each shard remembers, as records that it reads before it starts; shards beyond the end
    /// remember nothing.
    pub logs: Vec<Vec<Record>>,
    /// Where clients connect.
    pub listeners: Vec<Listener>,
    /// Bytes that the shard may have on their way to one connection.
    pub credit: u32,
    /// How long a shutdown waits for clients to take their last bytes, milliseconds.
    pub shutdown_ms: u64,
    /// Decides who may knock; absent: everybody.
    pub doorkeeper: Option<Arc<dyn Doorkeeper>>,
    /// Makes what each worker asks of the outside; called once per shard before threads start.
    pub services: MakeServices,
}

/// Makes the services of one worker.
pub type MakeServices = Box<dyn FnMut(ShardId, Inbox) -> Box<dyn Services>>;

impl RuntimeConfig {
    /// A runtime of these shards and listeners, with no service, a credit of 256 KiB and 5 s for
    /// a shutdown.
    pub fn new(shards: Vec<ShardConfig>, listeners: Vec<Listener>) -> Self {
        Self {
            shards,
            logs: Vec::new(),
            listeners,
            credit: 256 * 1024,
            shutdown_ms: 5_000,
            doorkeeper: None,
            services: Box::new(|_, _| Box::new(NoServices)),
        }
    }
}

impl fmt::Debug for RuntimeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeConfig")
            .field("shards", &self.shards.len())
            .field("listeners", &self.listeners)
            .finish_non_exhaustive()
    }
}

/// Why a runtime could not start.
#[derive(Debug)]
pub enum StartError {
    /// There is no shard.
    NoShards,
    /// The system refuses a thread, or a file descriptor for its events.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoShards => f.write_str("at least one worker is needed"),
            Self::System(error) => write!(f, "cannot start a worker thread: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// A thread ended by a broken invariant. All others were told to stop: a broker that serves a part
/// of its sessions is worse than one that is started again.
#[derive(Debug)]
pub struct WorkerPanicked;

impl fmt::Display for WorkerPanicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a worker thread failed, which is a bug; its panic message was printed before")
    }
}

impl std::error::Error for WorkerPanicked {}

/// Starts the threads: clients are served when it returns.
///
/// # Errors
/// There is no shard, or the system refuses a thread or a file descriptor.
pub fn start(mut config: RuntimeConfig) -> Result<Running, StartError> {
    if config.shards.is_empty() {
        return Err(StartError::NoShards);
    }
    let local_addrs = config.listeners.iter().map(Listener::local_addr).collect();
    let doors = Arc::new(Doors::default());
    let too_many = || io::Error::other("there are more than 65,536 listeners");
    let mut listeners = Vec::new();
    for listener in config.listeners {
        listeners.push((doors.add(Door::of(&listener)).ok_or_else(too_many)?, listener));
    }
    let door_ids = listeners.iter().map(|(door, _)| *door).collect();
    let boards: Arc<[Arc<Board>]> = config.shards.iter().map(|_| Arc::new(Board::new())).collect();
    let sampler = Arc::new(Sampler::new());
    let instance = RandomState::new().hash_one(std::process::id());

    let mut addresses = Vec::new();
    let mut desks: Vec<(Poll, Mailbox)> = Vec::new();
    for _ in &config.shards {
        let poll = Poll::new()?;
        let (address, mailbox) = mailbox(Waker::new(poll.registry(), WAKE)?);
        addresses.push(address);
        desks.push((poll, mailbox));
    }
    let (acceptor, acceptor_stop) = Acceptor::new(listeners, addresses.clone())?;
    let mut acceptor = Some(acceptor);
    let is_alone = config.shards.len() == 1;
    let workers: Arc<[Address]> = addresses.clone().into();
    let desk = Desk {
        workers: Arc::clone(&workers),
        boards: Arc::clone(&boards),
        doors: Arc::clone(&doors),
        acceptor: acceptor_stop.clone(),
    };
    let stopper = Stopper { acceptor: acceptor_stop, workers };

    let clock = Clock::start();
    let mut running = Running { threads: Vec::new(), stopper, desk, door_ids, local_addrs };
    let mut logs = config.logs.into_iter();
    for ((mut shard, (poll, mailbox)), index) in config.shards.into_iter().zip(desks).zip(0..) {
        if shard.instance == 0 {
            shard.instance = instance;
        }
        let services = (config.services)(shard.id, Inbox(addresses[index].clone()));
        let name = format!("worker-{}", shard.id.0);
        let own_acceptor = acceptor.take_if(|_| is_alone);
        if let Some(acceptor) = &own_acceptor {
            acceptor.register(&poll, ACCEPT)?;
        }
        let worker = Worker::new(
            WorkerConfig {
                shard,
                peers: addresses.clone(),
                doors: Arc::clone(&doors),
                board: Arc::clone(&boards[index]),
                sampler: Arc::clone(&sampler),
                credit: config.credit,
                shutdown_ms: config.shutdown_ms,
                doorkeeper: config.doorkeeper.clone(),
            },
            clock,
            poll,
            mailbox,
            own_acceptor,
            services,
            logs.next().unwrap_or_default(),
        );
        running.spawn(name, move || worker.run())?;
    }
    if let Some(acceptor) = acceptor {
        running.spawn("acceptor".into(), move || acceptor.run())?;
    }
    Ok(running)
}

/// A runtime at work. Dropping it leaves the threads at work.
pub struct Running {
    threads: Vec<JoinHandle<Result<(), WorkerPanicked>>>,
    stopper: Stopper,
    desk: Desk,
    door_ids: Vec<DoorId>,
    local_addrs: Vec<Option<SocketAddr>>,
}

impl Running {
    /// The bound addresses, in the order of the listeners; none for a socket of the file system.
    pub fn local_addrs(&self) -> &[Option<SocketAddr>] {
        &self.local_addrs
    }

    /// The listeners' names towards the [`Desk`], in their order.
    pub fn doors(&self) -> &[DoorId] {
        &self.door_ids
    }

    /// Where an operator reaches the workers.
    pub fn desk(&self) -> Desk {
        self.desk.clone()
    }

    /// A handle that stops this runtime, for another thread.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Begins a shutdown; see [`Stopper::shutdown`].
    pub fn shutdown(&self) {
        self.stopper.shutdown();
    }

    /// Waits until all threads have ended.
    ///
    /// # Errors
    /// A thread panicked.
    pub fn join(self) -> Result<(), WorkerPanicked> {
        let mut result = Ok(());
        for thread in self.threads {
            result = result.and(thread.join().unwrap_or(Err(WorkerPanicked)));
        }
        result
    }

    fn spawn(
        &mut self,
        name: String,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<(), StartError> {
        let stopper = self.stopper.clone();
        let thread = Builder::new().name(name).spawn(move || {
            catch_unwind(AssertUnwindSafe(body)).map_err(|_| {
                stopper.shutdown();
                WorkerPanicked
            })
        });
        match thread {
            Ok(thread) => self.threads.push(thread),
            Err(error) => {
                self.stopper.shutdown();
                return Err(error.into());
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("local_addrs", &self.local_addrs).finish_non_exhaustive()
    }
}

/// Stops a runtime.
#[derive(Clone)]
pub struct Stopper {
    acceptor: AcceptorStop,
    workers: Arc<[Address]>,
}

impl Stopper {
    /// Stops accepting, tells every client, waits for a bounded time until they have taken their
    /// last bytes and ends the threads. Returns at once; [`Running::join`] waits.
    pub fn shutdown(&self) {
        self.acceptor.stop();
        for worker in &*self.workers {
            worker.send(Mail::Shutdown);
        }
    }
}

impl fmt::Debug for Stopper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopper").finish_non_exhaustive()
    }
}
