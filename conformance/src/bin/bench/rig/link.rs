//! One connection, driven by readiness; and one that blocks, for what is done once.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use socket2::{Domain, Socket, Type};

use super::packet::{self, Version};
use crate::Result;

/// Loopback addresses that connections come from in turn: one has 28,000 ports as Linux is installed, and
/// a port whose client has left is not used again for a minute.
const SOURCES: u32 = 64;

/// What a client wants of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Session {
    /// It ends with the connection.
    Clean,
    /// It is kept.
    Kept,
    /// It was kept, and has to be there.
    Resumed,
}

/// A connection and the bytes that wait on it.
pub(crate) struct Link {
    pub(crate) stream: TcpStream,
    pub(crate) version: Version,
    /// Bytes to send; `sent` of them have gone.
    pub(crate) out: Vec<u8>,
    sent: usize,
    /// What was read and not taken, and begins with a packet whose rest has not come.
    partial: Vec<u8>,
    /// The broker has closed it.
    pub(crate) is_closed: bool,
}

impl Link {
    /// Begins to connect from the loopback address that is due to the `number`th connection.
    pub(crate) fn begin(broker: SocketAddr, number: u32, version: Version) -> Result<Link> {
        let socket = socket(number)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&broker.into()) {
            Ok(()) => {}
            // The kernel says EINPROGRESS.
            Err(error) if error.raw_os_error() == Some(115) => {}
            Err(error) => return Err(format!("connect to {broker}: {error}").into()),
        }
        let stream = TcpStream::from_std(socket.into());
        let (out, sent, partial, is_closed) = (Vec::new(), 0, Vec::new(), false);
        Ok(Link { stream, version, out, sent, partial, is_closed })
    }

    /// Sends what the socket takes.
    pub(crate) fn flush(&mut self) {
        while self.sent < self.out.len() {
            match self.stream.write(&self.out[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.is_closed = true;
                    return;
                }
            }
        }
        self.out.clear();
        self.sent = 0;
    }

    /// Whether everything has gone.
    pub(crate) fn is_flushed(&self) -> bool {
        self.out.is_empty()
    }

    /// Whether something was read that nobody has taken.
    pub(crate) fn has_leftovers(&self) -> bool {
        !self.partial.is_empty()
    }

    /// Gives back what is only needed under load.
    pub(crate) fn shrink(&mut self) {
        self.out.shrink_to_fit();
        self.partial.shrink_to_fit();
    }

    /// Waits until the broker has read everything, while nothing else is to come; whether it has.
    pub(crate) fn ping(&mut self, patience: Duration) -> bool {
        let (deadline, mut is_answered) = (Instant::now() + patience, false);
        let mut buffer = [0; 16];
        self.out.extend(packet::PINGREQ);
        while !is_answered && !self.is_closed && Instant::now() < deadline {
            self.flush();
            self.read(&mut buffer, |first, _, _| is_answered |= first == packet::PINGRESP[0]);
            if !is_answered {
                thread::sleep(Duration::from_millis(1));
            }
        }
        is_answered
    }

    /// Reads all that is there, through the shared `buffer`, and hands packets to `take`, which
    /// may append to the bytes to send.
    pub(crate) fn read(
        &mut self,
        buffer: &mut [u8],
        mut take: impl FnMut(u8, &[u8], &mut Vec<u8>),
    ) {
        self.read_while(buffer, |first, body, out| {
            take(first, body, out);
            true
        });
    }

    /// The same, until `take` says that the rest is for somebody else.
    pub(crate) fn read_while(
        &mut self,
        buffer: &mut [u8],
        mut take: impl FnMut(u8, &[u8], &mut Vec<u8>) -> bool,
    ) {
        if !self.partial.is_empty() {
            let (used, goes_on) = each_packet(&self.partial, &mut self.out, &mut take);
            self.partial.drain(..used);
            if !goes_on {
                return;
            }
        }
        loop {
            let count = match self.stream.read(buffer) {
                Ok(0) => {
                    self.is_closed = true;
                    return;
                }
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => {
                    self.is_closed = true;
                    return;
                }
            };
            let fresh = &buffer[..count];
            let goes_on = if self.partial.is_empty() {
                let (used, goes_on) = each_packet(fresh, &mut self.out, &mut take);
                self.partial.extend_from_slice(&fresh[used..]);
                goes_on
            } else {
                self.partial.extend_from_slice(fresh);
                let (used, goes_on) = each_packet(&self.partial, &mut self.out, &mut take);
                self.partial.drain(..used);
                goes_on
            };
            // A short read has emptied the socket: the next bytes will be news.
            if count < buffer.len() || !goes_on {
                return;
            }
        }
    }
}

/// How many bytes were used, and whether more may be.
fn each_packet(
    bytes: &[u8],
    out: &mut Vec<u8>,
    take: &mut impl FnMut(u8, &[u8], &mut Vec<u8>) -> bool,
) -> (usize, bool) {
    let mut used = 0;
    while let Some((first, body, whole)) = packet::cut(&bytes[used..]) {
        used += whole;
        if !take(first, body, out) {
            return (used, false);
        }
    }
    (used, true)
}

/// A socket that is bound to the loopback address that is due to the `number`th connection.
fn socket(number: u32) -> Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)
        .map_err(|error| format!("connection {number}: {error}; see `ulimit -Hn`"))?;
    let source = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + number % SOURCES);
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    // Closing resets the connection, so that no port is kept from the next run for a minute.
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

/// Connects and waits for CONNACK, with a socket that blocks.
pub(crate) fn connect(broker: SocketAddr, id: &str, session: Session) -> Result<Socket> {
    let mut socket = socket(0)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    socket.connect(&broker.into()).map_err(|error| format!("connect to {broker}: {error}"))?;
    (&socket).write_all(&packet::connect(id, Version::V3, session))?;
    let is_present = u8::from(session == Session::Resumed);
    expect(&mut socket, &[packet::CONNACK, 2, is_present, 0])?;
    Ok(socket)
}

/// Waits for exactly these bytes.
pub(crate) fn expect(socket: &mut Socket, expected: &[u8]) -> Result<()> {
    let mut bytes = vec![0; expected.len()];
    socket.read_exact(&mut bytes)?;
    if bytes != expected {
        return Err(format!("the broker answers {bytes:02x?}, not {expected:02x?}").into());
    }
    Ok(())
}
