//! The stream under a connection.

use std::{
    io::{self, IoSlice, Read, Write},
    net::{Shutdown, SocketAddr},
};

use mio::{
    Interest, Registry, Token,
    net::{TcpStream, UnixStream},
};
use session_core::Origin;

use crate::layers::{Layered, Shaken};

/// How the bytes of one connection travel.
///
/// Everything above reads and writes plain MQTT bytes; TLS, WebSocket and PROXY hide behind the same few functions.
pub(crate) enum Socket {
    /// Nothing between MQTT and the kernel.
    Plain(Stream),
    /// Something.
    Layered(Box<Layered>),
}

/// What the kernel has.
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.stream().register(registry, token)
    }

    pub(crate) fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self.stream() {
            Stream::Tcp(stream) => registry.deregister(stream),
            Stream::Unix(stream) => registry.deregister(stream),
        }
    }

    /// Reads MQTT bytes. As with a plain socket, fewer than there is room for means that there are no more for now, if
    /// it does not [hold more](Self::holds_more). `is_known` says that a CONNECT has come.
    pub(crate) fn read(&mut self, buffer: &mut [u8], is_known: bool) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Layered(layered) => layered.read(buffer, is_known),
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Layered(layered) => layered.write(&[IoSlice::new(bytes)]),
        }
    }

    pub(crate) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write_vectored(slices),
            Self::Layered(layered) => layered.write(slices),
        }
    }

    /// Whether a layer has bytes that the kernel has not taken yet.
    pub(crate) fn wants_flush(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Layered(layered) => layered.wants_flush(),
        }
    }

    /// Gives the kernel what layers have.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Layered(layered) => layered.flush(),
        }
    }

    /// Goes on with what comes before MQTT, as far as bytes are there.
    pub(crate) fn shake(&mut self) -> io::Result<Shaken> {
        match self {
            Self::Plain(_) => Ok(Shaken::Done),
            Self::Layered(layered) => layered.shake(),
        }
    }

    /// Whether a proxy is still to tell the client's address.
    pub(crate) fn awaits_address(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Layered(layered) => layered.awaits_address(),
        }
    }

    /// The address that a trusted proxy has told.
    pub(crate) fn told_peer(&self) -> Option<SocketAddr> {
        match self {
            Self::Plain(_) => None,
            Self::Layered(layered) => layered.told_peer(),
        }
    }

    /// Writes down what layers know of where the connection comes from.
    pub(crate) fn describe(&self, origin: &mut Origin) {
        if let Self::Layered(layered) = self {
            layered.describe(origin);
        }
    }

    /// Whether there is anything between MQTT and the kernel.
    pub(crate) const fn is_layered(&self) -> bool {
        matches!(self, Self::Layered(_))
    }

    /// Whether the last read left something in a layer, of which the kernel will not tell.
    pub(crate) fn holds_more(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Layered(layered) => layered.holds_more(),
        }
    }

    /// Whether so many answers of layers wait for the peer that it is not read any further.
    pub(crate) fn is_choked(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Layered(layered) => layered.is_choked(),
        }
    }

    /// Tells the peer that nothing more comes, while it may still send. To be called again, when there is room, as long
    /// as it fails with [`io::ErrorKind::WouldBlock`].
    pub(crate) fn shutdown_write(&mut self) -> io::Result<()> {
        if let Self::Layered(layered) = self {
            layered.say_goodbye()?;
        }
        match self.stream() {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    fn stream(&mut self) -> &mut Stream {
        match self {
            Self::Plain(stream) => stream,
            Self::Layered(layered) => layered.stream(),
        }
    }
}

impl Stream {
    /// Registers for both directions at once and for good. Registration is edge-triggered, and
    /// the kernel tells of writability only after a write found the socket full, so the second
    /// interest costs nothing and no write has to change the registration.
    fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self {
            Self::Tcp(stream) => registry.register(stream, token, interest),
            Self::Unix(stream) => registry.register(stream, token, interest),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write_vectored(slices),
            Self::Unix(stream) => stream.write_vectored(slices),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
