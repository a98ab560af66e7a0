//! Where an operator reaches all workers.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    time::{Duration, Instant},
};

use session_core::{Command, ConnId, Reply, ShardId, Time, View};

use crate::{
    Counts, DoorId, Fittings, Listener, TraceFilter,
    acceptor::{AcceptorStop, Order},
    connection::Connections,
    counters::Board,
    door::{Door, Doors},
    mailbox::{Address, Mail},
};

/// How long a worker may take to answer. One that takes longer hangs, or the machine does.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a worker shows.
pub struct Look<'a> {
    /// Its shard.
    pub view: View<'a>,
    /// The time of its turn.
    pub now: Time,
    pub(crate) connections: &'a Connections,
    pub(crate) doors: &'a Doors,
}

/// What a worker knows of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The client's address.
    pub peer: Option<SocketAddr>,
    /// The listener's name.
    pub listener: Box<str>,
    /// The name that the client has proved, or gave.
    pub user: Option<Box<str>>,
    /// When it was accepted.
    pub since: Time,
    /// PUBLISH packets that came.
    pub publishes_in: u64,
    /// PUBLISH packets that went out.
    pub publishes_out: u64,
    /// Bytes that wait for the socket.
    pub waiting_bytes: u64,
}

impl Look<'_> {
    /// A connection that the shard has named.
    pub fn link(&self, conn: ConnId) -> Option<Link> {
        let connection = self.connections.get(conn)?;
        Some(Link {
            peer: connection.origin.peer,
            listener: self.doors.get(connection.origin.door).name.clone(),
            user: connection.user.clone(),
            since: connection.since,
            publishes_in: connection.publishes_in,
            publishes_out: connection.publishes_out,
            waiting_bytes: connection.out.len() as u64,
        })
    }
}

impl fmt::Debug for Look<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Look").field("now", &self.now).finish_non_exhaustive()
    }
}

/// Reaches all workers of a runtime, from any thread. What is done for an operator happens between the packets of
/// clients, so whoever asks for much asks a page at a time.
#[derive(Clone)]
pub struct Desk {
    pub(crate) workers: Arc<[Address]>,
    pub(crate) boards: Arc<[Arc<Board>]>,
    pub(crate) doors: Arc<Doors>,
    pub(crate) acceptor: AcceptorStop,
}

impl Desk {
    /// All shards, each with a worker of its own.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        let count = u16::try_from(self.workers.len()).unwrap_or(u16::MAX);
        (0..count).map(ShardId)
    }

    /// What `look` finds at a worker; `None` if it does not answer in time.
    pub fn look<T: Send + 'static>(
        &self,
        shard: ShardId,
        look: impl FnOnce(&Look<'_>) -> T + Send + 'static,
    ) -> Option<T> {
        wait(self.begin_look(shard, look)?, Instant::now() + PATIENCE)
    }

    /// What `look` finds at each worker; those that do not answer in time are missing.
    pub fn look_at_all<T: Send + 'static>(
        &self,
        look: impl Fn(&Look<'_>) -> T + Clone + Send + 'static,
    ) -> Vec<T> {
        let asked: Vec<_> =
            self.shards().filter_map(|shard| self.begin_look(shard, look.clone())).collect();
        let until = Instant::now() + PATIENCE;
        asked.into_iter().filter_map(|answer| wait(answer, until)).collect()
    }

    fn begin_look<T: Send + 'static>(
        &self,
        shard: ShardId,
        look: impl FnOnce(&Look<'_>) -> T + Send + 'static,
    ) -> Option<Receiver<T>> {
        let (sender, receiver) = channel();
        // Whoever has gone does not want to know.
        let look = move |at: &Look<'_>| drop(sender.send(look(at)));
        self.workers.get(usize::from(shard.0))?.send(Mail::Look(Box::new(look)));
        Some(receiver)
    }

    /// Gives one shard a command; `None` if it does not answer in time.
    pub fn command(&self, shard: ShardId, command: Command) -> Option<Reply> {
        wait(self.begin(shard, command)?, Instant::now() + PATIENCE)
    }

    /// Gives every shard the same command; the replies of those that answer in time.
    pub fn command_all(&self, command: &Command) -> Vec<Reply> {
        let asked: Vec<_> =
            self.shards().filter_map(|shard| self.begin(shard, command.clone())).collect();
        let until = Instant::now() + PATIENCE;
        asked.into_iter().filter_map(|answer| wait(answer, until)).collect()
    }

    /// Gives a shard a command; nobody waits for its reply.
    pub fn tell(&self, shard: ShardId, command: Command) {
        drop(self.begin(shard, command));
    }

    fn begin(&self, shard: ShardId, command: Command) -> Option<Receiver<Reply>> {
        let (sender, receiver) = channel();
        self.workers.get(usize::from(shard.0))?.send(Mail::Order(Box::new(command), sender));
        Some(receiver)
    }

    /// What was counted since the start.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.boards.iter().for_each(|board| board.fold(&mut counts));
        counts
    }

    /// Traces the packets for which one of the filters holds, and no others.
    pub fn trace(&self, filters: Vec<TraceFilter>) {
        let filters: Arc<[TraceFilter]> = filters.into();
        for worker in &*self.workers {
            worker.send(Mail::Trace(Arc::clone(&filters)));
        }
    }

    /// Accepts connections of one more listener.
    ///
    /// # Errors
    /// There were 65,536 of them since the start.
    pub fn open(&self, listener: Listener) -> io::Result<DoorId> {
        let door = self.doors.add(Door::of(&listener)).ok_or_else(too_many)?;
        self.acceptor.order([Order::Open(door, listener)]);
        Ok(door)
    }

    /// Accepts no more connections of a listener; those that are there stay.
    pub fn close(&self, door: DoorId) {
        self.acceptor.order([Order::Close(door)]);
    }

    /// Whoever connects from now on finds something else between socket and MQTT, under another name if it has one.
    ///
    /// # Errors
    /// There were 65,536 listeners since the start.
    pub fn refit(&self, door: DoorId, name: &str, fittings: Fittings) -> io::Result<DoorId> {
        let is_unix = self.doors.get(door).is_unix;
        let fitted = Door { name: name.into(), fittings, is_unix };
        let after = self.doors.add(fitted).ok_or_else(too_many)?;
        self.acceptor.order([Order::Refit(door, after)]);
        Ok(after)
    }

    /// Accepts no more connections at all; those that are there stay.
    pub fn stop_accepting(&self) {
        self.acceptor.order([Order::CloseAll]);
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("workers", &self.workers.len()).finish_non_exhaustive()
    }
}

fn wait<T>(answer: Receiver<T>, until: Instant) -> Option<T> {
    answer.recv_timeout(until.saturating_duration_since(Instant::now())).ok()
}

fn too_many() -> io::Error {
    io::Error::other("there were 65,536 listeners since the start; start the broker anew")
}
