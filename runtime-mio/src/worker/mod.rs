//! One worker thread: one poll, one shard, and the connections they serve.

mod effects;
mod input;
mod output;
mod watching;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    sync::{Arc, mpsc::Sender},
    time::Duration,
};

use mio::{Events, Poll, Token};
use session_core::{
    Command, CommitSeq, ConnId, Effects, Input, Record, Reply, Shard, ShardConfig, Ticket, Time,
};

use crate::{
    Doorkeeper, Services, TraceFilter,
    acceptor::Acceptor,
    clock::Clock,
    connection::Connections,
    counters::{Board, Sampler},
    door::Doors,
    mailbox::{Address, Mail, Mailbox, Post},
    outbox::Spare,
};

/// The token of the mailbox's waker; connections have their slot as token.
pub(crate) const WAKE: Token = Token(usize::MAX);

/// The token of the acceptor, if there is but one worker.
pub(crate) const ACCEPT: Token = Token(usize::MAX - 1);

/// Bytes of the worker's read buffer, and so of one read.
const READ_BYTES: usize = 256 * 1024;
/// Bytes of a read before the CONNECT is complete: whoever is not known yet, or waits for an
/// answer about its CONNECT, shall not have much lying here.
const FIRST_READ_BYTES: usize = 4 * 1024;
/// Bytes read and queued in one turn; then the turn ends and others are served, and writes happen.
const TURN_BYTES: usize = 8 * 1024 * 1024;
/// Bytes queued for one connection that are written without waiting for the end of the turn.
const FLUSH_BYTES: usize = 64 * 1024;
/// Pieces of mail taken in one turn.
const MAIL_PER_TURN: usize = 256;
/// Events taken from one poll.
const EVENTS: usize = 1024;
/// How long a closed connection may take to read its last bytes and to close its own side.
const LINGER_MS: u64 = 2_000;

/// What a worker is made of.
pub(crate) struct WorkerConfig {
    pub(crate) shard: ShardConfig,
    /// The mailboxes of all workers, in the order of the shards.
    pub(crate) peers: Vec<Address>,
    /// What holds for the connections of each listener.
    pub(crate) doors: Arc<Doors>,
    pub(crate) board: Arc<Board>,
    pub(crate) sampler: Arc<Sampler>,
    pub(crate) credit: u32,
    pub(crate) shutdown_ms: u64,
    pub(crate) doorkeeper: Option<Arc<dyn Doorkeeper>>,
}

/// A worker.
pub(crate) struct Worker {
    config: WorkerConfig,
    clock: Clock,
    poll: Poll,
    mailbox: Mailbox,
    /// Accepts connections, if no thread does.
    acceptor: Option<Acceptor>,
    services: Box<dyn Services>,

    /// The time of this turn.
    now: Time,
    shard: Shard,
    /// Empty except inside `handle`.
    effects: Effects,
    /// What the shard is to be told once the effects at hand are carried out.
    inputs: VecDeque<Input>,

    connections: Connections,
    /// Connections with input, first come first served.
    ready: VecDeque<ConnId>,
    /// Connections to write to.
    dirty: Vec<ConnId>,
    /// Those among them that have so much to write that it shall not wait.
    full: Vec<ConnId>,
    /// Connections that the shard closed, each with the time at which patience ends.
    closing: VecDeque<(Time, ConnId)>,
    /// Connections that the shard does not know yet, each with the time at which patience ends.
    shaking: BTreeSet<(Time, ConnId)>,
    /// Connections that ended in this turn.
    gone: Vec<ConnId>,
    /// Connections that leave for another worker.
    leaving: Vec<effects::Leaving>,
    /// What the other workers are to be told at the end of the turn, in the order of the shards.
    posts: Vec<Vec<Post>>,
    /// The last record appended to the log and not committed.
    uncommitted: Option<CommitSeq>,

    buffer: Box<[u8]>,
    spare: Spare,
    /// Room for a packet that many get; empty between effects.
    laid_out: Vec<u8>,
    /// Bytes read and queued in this turn.
    spent: usize,
    /// When a shutdown stops waiting.
    stop_at: Option<Time>,
    /// Operators who wait for a reply.
    orders: BTreeMap<Ticket, Sender<Reply>>,
    last_order: u64,
    traces: Arc<[TraceFilter]>,
    /// The message that is followed on its way.
    followed: Option<codec::Message>,
    /// Whether a message may be: one in a turn.
    may_follow: bool,
}

impl Worker {
    pub(crate) fn new(
        config: WorkerConfig,
        clock: Clock,
        poll: Poll,
        mailbox: Mailbox,
        acceptor: Option<Acceptor>,
        services: Box<dyn Services>,
        log: Vec<Record>,
    ) -> Self {
        Self {
            clock,
            poll,
            mailbox,
            acceptor,
            services,
            now: clock.now(),
            shard: Shard::recovered(config.shard.clone(), log),
            effects: Effects::new(),
            inputs: VecDeque::new(),
            connections: Connections::default(),
            ready: VecDeque::new(),
            dirty: Vec::new(),
            full: Vec::new(),
            closing: VecDeque::new(),
            shaking: BTreeSet::new(),
            gone: Vec::new(),
            leaving: Vec::new(),
            posts: config.peers.iter().map(|_| Vec::new()).collect(),
            uncommitted: None,
            buffer: vec![0; READ_BYTES].into(),
            spare: Spare::new(),
            laid_out: Vec::new(),
            spent: 0,
            stop_at: None,
            orders: BTreeMap::new(),
            last_order: 0,
            traces: Arc::default(),
            followed: None,
            may_follow: false,
            config,
        }
    }

    /// Works until a shutdown is complete.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        self.shard.start(self.now, &mut self.effects);
        self.carry_out();
        self.end_turn();
        while !self.finished() {
            self.wait(&mut events);
            self.now = self.clock.now();
            self.spent = 0;
            self.may_follow = self.followed.is_none();
            self.accept_connections(&events);
            self.take_mail();
            self.take_events(&events);
            self.run_timers();
            self.serve_ready();
            self.end_turn();
        }
    }

    fn wait(&mut self, events: &mut Events) {
        let busy = !self.ready.is_empty()
            || !self.dirty.is_empty()
            || self.uncommitted.is_some()
            || !self.mailbox.fall_asleep();
        let timeout = if busy { Some(Duration::ZERO) } else { self.timeout() };
        match self.poll.poll(events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => panic!("waiting for events fails only if the program is wrong: {error}"),
        }
        self.mailbox.wake_up();
    }

    /// Has the acceptor put new connections into the mail, when there are some or it wanted to go on.
    fn accept_connections(&mut self, events: &Events) {
        let Some(acceptor) = &mut self.acceptor else { return };
        let wanted_to = acceptor.timeout().is_some_and(|timeout| timeout.is_zero());
        if (wanted_to || events.iter().any(|event| event.token() == ACCEPT))
            && !acceptor.turn(Some(Duration::ZERO))
        {
            self.acceptor = None;
        }
    }

    /// How long to wait if nothing comes.
    fn timeout(&self) -> Option<Duration> {
        let closing = self.closing.front().map(|(at, _)| *at);
        let shaking = self.shaking.first().map(|(at, _)| *at);
        let deadlines = [self.shard.next_timeout(), closing, shaking, self.stop_at];
        let next = deadlines.into_iter().flatten().min().filter(|next| *next != Time::NEVER);
        let next = next.map(|next| Duration::from_millis(next.since_ms(self.clock.now())));
        let accept = self.acceptor.as_ref().and_then(Acceptor::timeout);
        next.into_iter().chain(accept).min()
    }

    fn take_mail(&mut self) {
        for _ in 0..MAIL_PER_TURN {
            let Some(mail) = self.mailbox.take() else { return };
            match mail {
                Mail::Accepted(stream, source) => self.accept(stream, source),
                Mail::Posts(from, posts) => {
                    for post in posts {
                        match post {
                            Post::Told(msg) => self.handle(Input::Told { from, msg }),
                            Post::Moved(handover) => self.admit(*handover),
                        }
                    }
                    self.flush_full();
                }
                Mail::Answer(ticket, answer) => self.handle(Input::Answer { ticket, answer }),
                Mail::Command(ticket, command) => self.handle(Input::Command { ticket, command }),
                Mail::Persisted(through) => self.handle(Input::Persisted { through }),
                Mail::Loaded(loaded) => self.handle(Input::Loaded(loaded)),
                Mail::Look(look) => self.show(look),
                Mail::Order(command, replies) => self.order(command, replies),
                Mail::Trace(filters) => self.trace(filters),
                Mail::Shutdown => self.shut_down(),
            }
        }
    }

    fn run_timers(&mut self) {
        if self.shard.next_timeout().is_some_and(|at| at <= self.now) {
            self.handle(Input::Tick);
        }
        while let Some((at, conn)) = self.closing.front().copied()
            && at <= self.now
        {
            self.closing.pop_front();
            self.end(conn);
        }
        while let Some((at, conn)) = self.shaking.first().copied()
            && at <= self.now
        {
            self.shaking.pop_first();
            self.give_up_shaking(conn, "it took too long");
        }
    }

    fn shut_down(&mut self) {
        if self.stop_at.is_none() {
            self.stop_at = Some(self.now.plus_ms(self.config.shutdown_ms));
            for (_, conn) in std::mem::take(&mut self.shaking) {
                self.end(conn);
            }
            // Nobody asks for the reply, so the ticket is none that a service gives.
            let ticket = Ticket(u64::MAX);
            self.handle(Input::Command { ticket, command: Box::new(Command::Shutdown) });
        }
    }

    fn finished(&self) -> bool {
        let Some(stop_at) = self.stop_at else { return false };
        let leftover = self.shard.next_timeout().is_some_and(|at| at <= self.now);
        stop_at <= self.now || (self.connections.len() == 0 && !leftover)
    }

    /// Lets the outside have what this turn made: the log, the other workers, the peers.
    fn end_turn(&mut self) {
        self.hand_over();
        if let Some(last) = self.uncommitted.take()
            && let Some(through) = self.services.commit(last)
        {
            self.handle(Input::Persisted { through });
        }
        self.send_posts();
        self.flush_dirty();
        self.hand_over();
        self.send_posts();
        let mut gone = std::mem::take(&mut self.gone);
        for conn in gone.drain(..) {
            // The socket is closed with it, which also ends its registration.
            if let Some(mut connection) = self.connections.remove(conn) {
                self.tell_left(&mut connection);
            }
        }
        self.gone = gone;
        if self.followed.as_ref().is_some_and(|message| !self.config.sampler.goes_on(message)) {
            self.followed = None;
        }
    }

    fn send_posts(&mut self) {
        for (posts, peer) in self.posts.iter_mut().zip(&self.config.peers) {
            if !posts.is_empty() {
                peer.send(Mail::Posts(self.config.shard.id, std::mem::take(posts)));
            }
        }
    }
}
