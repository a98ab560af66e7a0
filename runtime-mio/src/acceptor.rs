//! Accepts connections and hands them out.
//!
//! With several workers it is a thread that does nothing else, so that a storm of connections costs them no
//! turn. A single worker accepts by itself, a few at a time: two threads would wake each other for every
//! connection. The kernel's backlog is the queue when workers cannot follow.

use std::{
    io,
    net::SocketAddr,
    os::fd::AsRawFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use mio::{
    Events, Interest, Poll, Token, Waker,
    net::{TcpListener, UnixListener},
    unix::SourceFd,
};
use tracing::warn;

use crate::{
    connection::Source,
    door::DoorId,
    listener::{Bound, Listener, SocketFile},
    mailbox::{Address, Mail},
    socket::Stream,
};

/// New connections that a worker may have waiting; beyond it another worker gets the next.
const ARRIVALS_MAX: usize = 1024;
/// Connections accepted from one listener before the next, or the worker, has its turn.
const ACCEPTS_PER_TURN: usize = 64;
/// The pause when all workers have enough to do.
const BUSY_PAUSE: Duration = Duration::from_millis(5);
/// The pause when the system has no resources for a further connection.
const FAILURE_PAUSE: Duration = Duration::from_millis(200);
/// The least time between two warnings of that.
const WARNING_PAUSE: Duration = Duration::from_secs(10);

const WAKE: Token = Token(usize::MAX);

/// What an [`Acceptor`] is told while it works.
pub(crate) enum Order {
    /// Accept here too.
    Open(DoorId, Listener),
    /// Accept here no more.
    Close(DoorId),
    /// Whoever comes by the first comes by the second from now on.
    Refit(DoorId, DoorId),
    /// Accept nowhere any more.
    CloseAll,
}

/// Leads an [`Acceptor`], and ends it.
#[derive(Clone)]
pub(crate) struct AcceptorStop {
    stop: Arc<AtomicBool>,
    orders: Arc<Mutex<Vec<Order>>>,
    waker: Arc<Waker>,
}

impl AcceptorStop {
    pub(crate) fn order(&self, orders: impl IntoIterator<Item = Order>) {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).extend(orders);
        // It fails only when the acceptor's poll is gone, and then it has stopped.
        let _ = self.waker.wake();
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        // It fails only when the acceptor's poll is gone, and then it has stopped.
        let _ = self.waker.wake();
    }
}

pub(crate) struct Acceptor {
    poll: Poll,
    events: Events,
    listeners: Vec<Listening>,
    /// Listeners that there ever were.
    opened: usize,
    workers: Vec<Address>,
    /// The worker that gets the next connection.
    next: usize,
    stop: Arc<AtomicBool>,
    orders: Arc<Mutex<Vec<Order>>>,
    /// No connection is accepted before.
    rest_until: Option<Instant>,
    warned: Option<Instant>,
    /// Failures that no line tells of.
    unreported: u64,
}

struct Listening {
    /// Its token.
    number: usize,
    door: DoorId,
    name: Box<str>,
    socket: Socket,
    /// The kernel said that connections wait, and no accept has found none since.
    ready: bool,
}

/// A socket that accepts.
enum Socket {
    Tcp(TcpListener),
    /// And its file, which goes before it.
    Unix(#[allow(dead_code, reason = "it acts when it is dropped")] SocketFile, UnixListener),
}

impl Socket {
    fn register(&mut self, poll: &Poll, token: Token) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => poll.registry().register(socket, token, Interest::READABLE),
            Self::Unix(_, socket) => poll.registry().register(socket, token, Interest::READABLE),
        }
    }

    fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match self {
            Self::Tcp(socket) => {
                let (stream, peer) = socket.accept()?;
                Ok((Stream::Tcp(stream), Some(peer)))
            }
            Self::Unix(_, socket) => Ok((Stream::Unix(socket.accept()?.0), None)),
        }
    }
}

impl Acceptor {
    pub(crate) fn new(
        listeners: impl IntoIterator<Item = (DoorId, Listener)>,
        workers: Vec<Address>,
    ) -> io::Result<(Self, AcceptorStop)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let stop = Arc::new(AtomicBool::new(false));
        let orders = Arc::new(Mutex::new(Vec::new()));
        let mut acceptor = Self {
            poll,
            events: Events::with_capacity(64),
            listeners: Vec::new(),
            opened: 0,
            workers,
            next: 0,
            stop: Arc::clone(&stop),
            orders: Arc::clone(&orders),
            rest_until: None,
            warned: None,
            unreported: 0,
        };
        for (door, listener) in listeners {
            acceptor.open(door, listener)?;
        }
        Ok((acceptor, AcceptorStop { stop, orders, waker }))
    }

    fn open(&mut self, door: DoorId, listener: Listener) -> io::Result<()> {
        let name = listener.name().into();
        let mut socket = match listener.socket {
            Bound::Tcp(socket) => Socket::Tcp(TcpListener::from_std(socket)),
            Bound::Unix(file, socket) => Socket::Unix(file, UnixListener::from_std(socket)),
        };
        let number = self.opened;
        self.opened += 1;
        socket.register(&self.poll, Token(number))?;
        self.listeners.push(Listening { number, door, name, socket, ready: true });
        Ok(())
    }

    fn carry_out_orders(&mut self) {
        let orders =
            std::mem::take(&mut *self.orders.lock().unwrap_or_else(PoisonError::into_inner));
        for order in orders {
            match order {
                Order::Open(door, listener) => {
                    let name = listener.name().to_owned();
                    if let Err(error) = self.open(door, listener) {
                        warn!(listener = %name, %error, "cannot watch a listener; it is closed");
                    }
                }
                Order::Close(door) => self.listeners.retain(|listener| listener.door != door),
                Order::Refit(before, after) => {
                    let all = self.listeners.iter_mut();
                    all.filter(|listener| listener.door == before)
                        .for_each(|listener| listener.door = after);
                }
                Order::CloseAll => self.listeners.clear(),
            }
        }
    }

    /// Accepts until told to stop; the listeners are closed then.
    pub(crate) fn run(mut self) {
        while self.turn(self.timeout()) {}
    }

    /// Accepts what is there, or comes in time; false once it is told to stop.
    pub(crate) fn turn(&mut self, timeout: Option<Duration>) -> bool {
        // An interrupted wait is only a shorter one, and nothing else can fail here.
        let _ = self.poll.poll(&mut self.events, timeout);
        for event in &self.events {
            let number = event.token().0;
            let mut listeners = self.listeners.iter_mut();
            if let Some(listener) = listeners.find(|listener| listener.number == number) {
                listener.ready = true;
            }
        }
        self.carry_out_orders();
        let stops = self.stop.load(Ordering::Acquire);
        if stops {
            // Who has connected is not reset by the end of the listener, but told by a worker.
            self.listeners.iter_mut().for_each(|listener| listener.ready = true);
        }
        if stops || self.rest_until.is_none_or(|until| until <= Instant::now()) {
            self.rest_until = None;
            for index in 0..self.listeners.len() {
                self.accept(index);
            }
        }
        !stops
    }

    /// Has `poll` tell by an event with this token that there is something to do.
    pub(crate) fn register(&self, poll: &Poll, token: Token) -> io::Result<()> {
        let fd = self.poll.as_raw_fd();
        poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE)
    }

    /// How long the next turn may wait if no event comes.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        match self.rest_until {
            Some(until) => Some(until.saturating_duration_since(Instant::now())),
            None if self.listeners.iter().any(|listener| listener.ready) => Some(Duration::ZERO),
            None => None,
        }
    }

    fn accept(&mut self, index: usize) {
        for _ in 0..ACCEPTS_PER_TURN {
            if !self.listeners[index].ready || self.rest_until.is_some() {
                return;
            }
            let Some(worker) = self.next_worker() else {
                self.rest_until = Some(Instant::now() + BUSY_PAUSE);
                return;
            };
            match self.listeners[index].socket.accept() {
                Ok((stream, peer)) => {
                    let door = self.listeners[index].door;
                    self.workers[worker].send(Mail::Accepted(stream, Source { peer, door }));
                }
                Err(error) => self.failed(index, &error),
            }
        }
    }

    /// The worker whose turn it is, unless all have enough to do.
    fn next_worker(&mut self) -> Option<usize> {
        for _ in 0..self.workers.len() {
            let worker = self.next;
            self.next = (self.next + 1) % self.workers.len();
            if self.workers[worker].arrivals() < ARRIVALS_MAX {
                return Some(worker);
            }
        }
        None
    }

    fn failed(&mut self, index: usize, error: &io::Error) {
        match error.kind() {
            io::ErrorKind::WouldBlock => self.listeners[index].ready = false,
            // That one connection failed while it waited.
            io::ErrorKind::Interrupted
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset => {}
            // No file descriptors or no memory: the connections wait in the backlog.
            _ => {
                let now = Instant::now();
                self.rest_until = Some(now + FAILURE_PAUSE);
                if self.warned.is_some_and(|warned| now < warned + WARNING_PAUSE) {
                    self.unreported += 1;
                    return;
                }
                warn!(
                    listener = %self.listeners[index].name,
                    %error,
                    unreported = self.unreported,
                    "cannot accept connections; trying again every {} ms (if the limit of open \
                     files is reached, raise it: `ulimit -n`, or LimitNOFILE= of the service)",
                    FAILURE_PAUSE.as_millis(),
                );
                self.warned = Some(now);
                self.unreported = 0;
            }
        }
    }
}
