//! A broker behind a socket, in real time.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, net::TcpStream};

use crate::{
    lang::Setting,
    world::{Connection, World, WorldError},
};

/// How long the live world waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For something that must come.
    pub answer: Duration,
    /// For something that must not come, or cannot be asked for.
    pub quiet: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { answer: Duration::from_secs(5), quiet: Duration::from_millis(150) }
    }
}

/// Connections over TCP to one broker. One thread plays one scenario with it.
#[derive(Debug)]
pub struct Live {
    broker: SocketAddr,
    patience: Patience,
    /// When whatever is still going on is given up.
    deadline: Option<Instant>,
    poll: Poll,
    events: Events,
    sockets: Vec<Socket>,
}

#[derive(Debug)]
struct Socket {
    /// `None` once the client has closed.
    stream: Option<TcpStream>,
    /// Received and not yet taken.
    inbox: Vec<u8>,
    /// Not yet taken by the kernel.
    outbox: Vec<u8>,
    /// The broker has closed.
    ended: bool,
}

/// A broker that sends more than this without being asked will never stop.
const INBOX_BYTES_MAX: usize = 64 * 1024 * 1024;

impl Live {
    /// A world around the broker at this address.
    ///
    /// # Errors
    /// The system gives no poller.
    pub fn new(broker: SocketAddr, patience: Patience) -> io::Result<Self> {
        let (poll, events) = (Poll::new()?, Events::with_capacity(64));
        Ok(Self { broker, patience, deadline: None, poll, events, sockets: Vec::new() })
    }

    /// The same world, in which everything fails from this moment on.
    pub fn until(self, deadline: Instant) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// Whether the time is over.
    pub fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    fn connect(&mut self) -> io::Result<Connection> {
        let stream = std::net::TcpStream::connect_timeout(&self.broker, self.time_to_connect())?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let index = self.sockets.len();
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(index), interest)?;
        self.sockets.push(Socket {
            stream: Some(stream),
            inbox: Vec::new(),
            outbox: Vec::new(),
            ended: false,
        });
        Ok(Connection(index))
    }

    /// Never zero, which `connect_timeout` refuses.
    fn time_to_connect(&self) -> Duration {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let time = left.map_or(self.patience.answer, |left| left.min(self.patience.answer));
        time.max(Duration::from_millis(1))
    }

    /// Moves bytes until the time has come, or until something was received if `stop_early`.
    fn run_until(&mut self, deadline: Instant, stop_early: bool) -> Result<bool, WorldError> {
        loop {
            if self.is_over() {
                return Err(WorldError("the time for the scenario is over".to_owned()));
            }
            let end = self.deadline.map_or(deadline, |end| end.min(deadline));
            let left = end.saturating_duration_since(Instant::now());
            if let Err(error) = self.poll.poll(&mut self.events, Some(left))
                && error.kind() != ErrorKind::Interrupted
            {
                return Err(WorldError(format!("waiting for the broker: {error}")));
            }
            let mut received = false;
            for event in &self.events {
                let socket = &mut self.sockets[event.token().0];
                received |= socket.transfer();
                if socket.inbox.len() > INBOX_BYTES_MAX {
                    return Err(WorldError("the broker sends without end".to_owned()));
                }
            }
            if received && stop_early {
                return Ok(true);
            }
            if left.is_zero() && !self.is_over() {
                return Ok(received);
            }
        }
    }
}

impl Socket {
    /// Writes and reads what the kernel takes and has; whether anything was received.
    fn transfer(&mut self) -> bool {
        self.write();
        let Some(stream) = &mut self.stream else { return false };
        let mut buffer = [0; 16 * 1024];
        let before = self.inbox.len();
        while !self.ended && self.inbox.len() <= INBOX_BYTES_MAX {
            match stream.read(&mut buffer) {
                Ok(0) => self.ended = true,
                Ok(bytes) => self.inbox.extend_from_slice(&buffer[..bytes]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return self.inbox.len() > before;
                }
                Err(_) => self.ended = true,
            }
        }
        true
    }

    fn write(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        while !self.outbox.is_empty() {
            match stream.write(&self.outbox) {
                Ok(bytes) => drop(self.outbox.drain(..bytes)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The end of the connection is noticed by reading.
                Err(_) => self.outbox.clear(),
            }
        }
    }
}

impl World for Live {
    fn open(&mut self) -> Result<Connection, WorldError> {
        self.connect()
            .map_err(|error| WorldError(format!("connecting to {}: {error}", self.broker)))
    }

    fn send(&mut self, connection: Connection, bytes: &[u8]) {
        let socket = &mut self.sockets[connection.0];
        socket.outbox.extend_from_slice(bytes);
        socket.write();
    }

    fn close(&mut self, connection: Connection) {
        let socket = &mut self.sockets[connection.0];
        socket.write();
        socket.stream = None;
    }

    fn receive(&mut self, connection: Connection, inbox: &mut Vec<u8>) -> bool {
        let socket = &mut self.sockets[connection.0];
        inbox.append(&mut socket.inbox);
        socket.ended
    }

    fn advance(&mut self) -> Result<bool, WorldError> {
        self.run_until(Instant::now() + self.patience.answer, true)
    }

    fn settle(&mut self) -> Result<(), WorldError> {
        self.wait(self.patience.quiet)
    }

    fn wait(&mut self, time: Duration) -> Result<(), WorldError> {
        self.run_until(Instant::now() + time, false).map(|_| ())
    }

    fn crash(&mut self) -> Result<(), WorldError> {
        Err(WorldError("a live broker cannot be made to crash".to_owned()))
    }

    fn change_rights(&mut self, _: &[Setting]) -> Result<(), WorldError> {
        Err(WorldError("a live broker cannot be told of rights".to_owned()))
    }

    fn is_live(&self) -> bool {
        true
    }
}
