//! One connection: set up while blocking, then driven by readiness.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use socket2::{Domain, Socket, Type};

use crate::{Result, packet};

/// Connections from one loopback address: well below the ports that one address has.
const PER_SOURCE: u32 = 5_000;

/// What a client wants of its session.
#[derive(Clone, Copy, PartialEq)]
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
    /// Bytes to send; `sent` of them have gone.
    pub(crate) out: Vec<u8>,
    sent: usize,
    /// The beginning of a packet whose rest has not come.
    partial: Vec<u8>,
    /// The broker has closed it.
    pub(crate) is_closed: bool,
}

impl Link {
    /// Connects, and subscribes if there is a filter; returns when the broker has confirmed both.
    pub(crate) fn open(
        broker: SocketAddr,
        id: &str,
        session: Session,
        filter: Option<(&str, u8)>,
    ) -> Result<Link> {
        let mut socket = connect(broker, 0, id, session)?;
        if let Some((filter, qos)) = filter {
            socket.write_all(&packet::subscribe(filter, qos))?;
            expect(&mut socket, &[packet::SUBACK, 3, 0, 1, qos])?;
        }
        socket.set_nonblocking(true)?;
        let stream = TcpStream::from_std(socket.into());
        Ok(Link { stream, out: Vec::new(), sent: 0, partial: Vec::new(), is_closed: false })
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
            if self.partial.is_empty() {
                let used = each_packet(fresh, &mut self.out, &mut take);
                self.partial.extend_from_slice(&fresh[used..]);
            } else {
                self.partial.extend_from_slice(fresh);
                let used = each_packet(&self.partial, &mut self.out, &mut take);
                self.partial.drain(..used);
            }
            // A short read has emptied the socket: the next bytes will be news.
            if count < buffer.len() {
                return;
            }
        }
    }
}

fn each_packet(
    bytes: &[u8],
    out: &mut Vec<u8>,
    take: &mut impl FnMut(u8, &[u8], &mut Vec<u8>),
) -> usize {
    let mut used = 0;
    while let Some((first, body, whole)) = packet::cut(&bytes[used..]) {
        take(first, body, out);
        used += whole;
    }
    used
}

/// Connections with a CONNACK each, and nothing more.
pub(crate) fn connect_many(broker: SocketAddr, numbers: Range<u32>) -> Result<Vec<Socket>> {
    let id = |number| format!("idle-{number}");
    numbers.map(|number| connect(broker, number, &id(number), Session::Clean)).collect()
}

/// Connects from the loopback address that is due to the `number`th connection.
pub(crate) fn connect(
    broker: SocketAddr,
    number: u32,
    id: &str,
    session: Session,
) -> Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    if number >= PER_SOURCE {
        let source = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + number / PER_SOURCE);
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    // Closing resets the connection, so that no port is kept from the next run for a minute.
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    socket.connect(&broker.into()).map_err(|error| format!("connection {number}: {error}"))?;
    (&socket).write_all(&packet::connect(id, session == Session::Clean))?;
    let mut socket = socket;
    expect(&mut socket, &[packet::CONNACK, 2, u8::from(session == Session::Resumed), 0])?;
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
