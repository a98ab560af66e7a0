//! What lies between MQTT and the kernel: a PROXY header at the beginning, TLS, WebSocket.

mod proxy;
mod tls;
mod upgrade;
mod websocket;

use std::{
    io::{self, IoSlice, Read, Write},
    net::SocketAddr,
    sync::Arc,
};

use session_core::{Origin, Proxied, Transport};

use crate::socket::Stream;
use proxy::{Header, HeaderReader};
use websocket::WebSocket;

use tls::Tls;
pub use tls::{CertificateFiles, ClientCertificates, TlsDoor, TlsError, TlsSetup};
pub use websocket::WebSocketSetup;

/// Bytes that a layer may have waiting for the kernel before it takes no more.
const WAITING_MAX: usize = 64 * 1024;
/// Bytes read at once where a layer needs them in a buffer of its own.
const WIRE_BYTES: usize = 16 * 1024;
/// Looks at the wire before others have their turn, besides those that the bytes wanted need: records and frames may
/// hold nothing, and nobody shall keep a worker busy with them.
const LOOKS_MAX: usize = 16;
/// Bytes of the wire that TLS takes in one look.
const TLS_LOOK_BYTES: usize = 4 * 1024;

/// How far the beginning has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shaken {
    /// MQTT comes next.
    Done,
    /// The peer has to send more.
    Waiting,
    /// The client's address is known now that the last proxy has told it; there may be more before MQTT.
    Told,
}

/// What a listener wants between MQTT and the kernel.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// Ranges of proxies that tell the client's address.
    pub(crate) proxy: Option<Arc<[session_core::AddressRange]>>,
    pub(crate) tls: Option<TlsDoor>,
    pub(crate) websocket: Option<Arc<WebSocketSetup>>,
}

impl Wanted {
    pub(crate) const fn is_nothing(&self) -> bool {
        self.proxy.is_none() && self.tls.is_none() && self.websocket.is_none()
    }
}

/// A stream with layers on it, from below: bytes that were read too early, PROXY, TLS, WebSocket.
pub(crate) struct Layered {
    wire: Wire,
    proxy: Option<HeaderReader>,
    /// What the proxy has told.
    header: Option<Box<Header>>,
    tls: Option<Box<Tls>>,
    websocket: Option<Box<WebSocket>>,
    /// MQTT bytes that were taken out of frames and not read yet.
    mqtt: Vec<u8>,
    /// Frames that the layer below has not taken yet.
    frames: Vec<u8>,
    /// The last read left something that the kernel will not tell of: bytes, an end or a mistake behind them.
    holds_more: bool,
    /// The wire broke a rule, behind bytes that were read: nothing comes any more.
    is_broken: bool,
}

/// The stream, and what was read from it before the layer that it is for was there.
struct Wire {
    early: Vec<u8>,
    stream: Stream,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.early.is_empty() {
            return self.stream.read(buffer);
        }
        let count = buffer.len().min(self.early.len());
        buffer[..count].copy_from_slice(&self.early[..count]);
        self.early.drain(..count);
        if !self.early.is_empty() {
            return Ok(count);
        }
        self.early = Vec::new();
        // A short read says that the socket is empty, so it has to be looked into. If it has failed, the kernel has
        // said so, and the next read finds out.
        match self.stream.read(&mut buffer[count..]) {
            Ok(more) => Ok(count + more),
            Err(_) => Ok(count),
        }
    }
}

impl Layered {
    /// The layers that a listener wants.
    ///
    /// # Errors
    /// The peer is no proxy that may be here, or TLS cannot begin.
    pub(crate) fn new(
        stream: Stream,
        wanted: &Wanted,
        peer: Option<SocketAddr>,
    ) -> io::Result<Self> {
        let is_trusted = |ranges: &[session_core::AddressRange]| {
            peer.is_some_and(|peer| ranges.iter().any(|range| range.contains(peer.ip())))
        };
        let proxy = match &wanted.proxy {
            None => None,
            Some(ranges) if is_trusted(ranges) => Some(HeaderReader::default()),
            Some(_) => return Err(failed("it is no proxy that may tell addresses")),
        };
        let tls = wanted.tls.as_ref().map(TlsDoor::connection).transpose();
        let tls = tls.map_err(|error| failed(&error.to_string()))?;
        let websocket = wanted.websocket.as_ref().map(|setup| {
            let mut websocket = Box::new(WebSocket::new(Arc::clone(setup)));
            websocket.comes_from(peer);
            websocket
        });
        Ok(Self {
            wire: Wire { early: Vec::new(), stream },
            proxy,
            header: None,
            tls: tls.map(Box::new),
            websocket,
            mqtt: Vec::new(),
            frames: Vec::new(),
            holds_more: false,
            is_broken: false,
        })
    }

    /// Whether a proxy is still to tell the client's address.
    pub(crate) fn awaits_address(&self) -> bool {
        self.proxy.is_some()
            || self.websocket.as_ref().is_some_and(|socket| socket.awaits_address())
    }

    pub(crate) fn stream(&mut self) -> &mut Stream {
        &mut self.wire.stream
    }

    /// The address that a proxy has told.
    pub(crate) fn told_peer(&self) -> Option<SocketAddr> {
        let forwarded = self.websocket.as_ref().and_then(|websocket| websocket.forwarded());
        // It tells an address without a port.
        let forwarded = forwarded.map(|address| SocketAddr::new(address, 0));
        forwarded.or_else(|| self.header.as_ref()?.source)
    }

    pub(crate) fn describe(&self, origin: &mut Origin) {
        origin.transport = match (&self.tls, &self.websocket) {
            (None, None) => origin.transport,
            (Some(_), None) => Transport::Tls,
            (None, Some(_)) => Transport::WebSocket,
            (Some(_), Some(_)) => Transport::WebSocketTls,
        };
        if let Some(tls) = &self.tls {
            let chain = tls.verified_chain();
            origin.certificates = chain.iter().map(|der| der.to_vec().into()).collect();
            origin.server_name = tls.connection.server_name().map(Into::into);
        }
        if let Some(header) = &self.header {
            let Header { common_name, authority, tls, .. } = (**header).clone();
            origin.proxied = Some(Box::new(Proxied { common_name, authority, tls }));
        }
    }

    /// Goes on with what comes before MQTT.
    pub(crate) fn shake(&mut self) -> io::Result<Shaken> {
        if let Some(reader) = &mut self.proxy {
            let Some((header, early)) = reader.read(&mut self.wire.stream)? else {
                return Ok(Shaken::Waiting);
            };
            self.wire.early = early;
            self.proxy = None;
            if let Some(header) = header {
                // Whom to believe further on is a question about the address that this proxy has told, not about the
                // proxy: its clients may say anything.
                if let Some(websocket) = &mut self.websocket {
                    websocket.comes_from(header.source);
                }
                self.header = Some(Box::new(header));
            }
            if !self.awaits_address() {
                return Ok(Shaken::Told);
            }
        }
        let awaits_address = self.awaits_address();
        let mut looks = LOOKS_MAX;
        loop {
            let is_handshaking =
                self.tls.as_ref().is_some_and(|tls| tls.connection.is_handshaking());
            let is_upgrading =
                self.websocket.as_ref().is_some_and(|websocket| !websocket.is_open());
            if !is_handshaking && !is_upgrading {
                break;
            }
            let found = if is_handshaking { self.read_tls()? } else { self.read_frames()? };
            looks -= 1;
            self.holds_more = found;
            if !found || looks == 0 {
                self.flush()?;
                return Ok(Shaken::Waiting);
            }
        }
        // Who has said everything and gone is heard all the same: it is the next read that finds the end.
        let _ = self.flush();
        Ok(if awaits_address { Shaken::Told } else { Shaken::Done })
    }

    /// Reads MQTT bytes until the buffer is full or nothing more is there. [`io::ErrorKind::Interrupted`]: there were
    /// none yet, and the kernel need not tell of more. `is_known` says that a CONNECT has come.
    pub(crate) fn read(&mut self, buffer: &mut [u8], is_known: bool) -> io::Result<usize> {
        let read = match &mut self.websocket {
            None => self.read_below(buffer),
            Some(websocket) => {
                if is_known {
                    websocket.know();
                }
                self.read_unframed(buffer)
            }
        };
        // What had to be answered below MQTT leaves. If it does not, the worker flushes and finds out why; what was
        // read before is not lost for that.
        let _ = self.flush();
        read
    }

    /// Whether there is something to read, or an end to find, that the kernel will not tell of.
    pub(crate) const fn holds_more(&self) -> bool {
        self.holds_more
    }

    /// Whether the peer lets so many answers below MQTT pile up that it is not read any further.
    pub(crate) const fn is_choked(&self) -> bool {
        // What MQTT has waiting in frames is bounded already, and is no reason not to read.
        self.frames.len() > 2 * WAITING_MAX
    }

    fn read_unframed(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut looks = LOOKS_MAX + buffer.len() / WIRE_BYTES;
        let mut is_empty = false;
        while self.mqtt.len() < buffer.len() && looks > 0 && !self.is_over() && !self.is_choked() {
            if !self.mqtt.is_empty() && self.is_stopped() {
                break;
            }
            match self.read_frames() {
                Ok(true) => looks -= 1,
                Ok(false) => {
                    is_empty = true;
                    break;
                }
                Err(error) if self.mqtt.is_empty() => return Err(error),
                // What came before the mistake is delivered first.
                Err(_) => self.is_broken = true,
            }
        }
        self.holds_more = !is_empty;
        if self.mqtt.is_empty() {
            return match is_empty {
                _ if self.is_over() => Ok(0),
                true => Err(io::ErrorKind::WouldBlock.into()),
                false => Err(io::ErrorKind::Interrupted.into()),
            };
        }
        let count = buffer.len().min(self.mqtt.len());
        buffer[..count].copy_from_slice(&self.mqtt[..count]);
        self.mqtt.drain(..count);
        if self.mqtt.is_empty() {
            self.mqtt = Vec::new();
        }
        Ok(count)
    }

    /// Whether no further frame comes.
    fn is_over(&self) -> bool {
        self.is_broken || self.websocket.as_ref().is_some_and(|websocket| websocket.is_over())
    }

    /// Whether it has to become clear what a message was before the next.
    fn is_stopped(&self) -> bool {
        self.websocket.as_ref().is_some_and(|websocket| websocket.is_stopped())
    }

    /// Takes frames apart once; false if nothing was there.
    fn read_frames(&mut self) -> io::Result<bool> {
        let mut wire = [0; WIRE_BYTES];
        let count = match self.is_stopped() {
            true => 0,
            false => match self.read_below(&mut wire) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
                Err(error) => return Err(error),
            },
        };
        let Some(websocket) = &mut self.websocket else { return Ok(false) };
        let received = websocket.receive(&wire[..count], &mut self.mqtt, &mut self.frames);
        if received.is_err() {
            // The peer is told why, as far as the kernel takes it at once.
            let _ = self.flush();
        }
        received.map_err(|error| failed(&error))?;
        Ok(true)
    }

    /// Reads what lies below WebSocket.
    fn read_below(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.tls.is_none() {
            self.holds_more = false;
            return self.wire.read(buffer);
        }
        self.holds_more = true;
        let mut looks = LOOKS_MAX + buffer.len() / TLS_LOOK_BYTES;
        let mut filled = 0;
        loop {
            let Some(tls) = &mut self.tls else { return Ok(filled) };
            match tls.connection.reader().read(&mut buffer[filled..]) {
                // The peer has said that no more comes; it is said again.
                Ok(0) => return Ok(filled),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // It ended without saying so, which is found again.
                Err(error) => return if filled > 0 { Ok(filled) } else { Err(error) },
            }
            let stopped = match self.is_broken {
                _ if filled == buffer.len() => return Ok(filled),
                true => Some(failed("what it sent is no TLS")),
                false if looks == 0 => Some(io::ErrorKind::Interrupted.into()),
                false => match self.read_tls() {
                    Ok(true) => None,
                    Ok(false) => {
                        self.holds_more = false;
                        Some(io::ErrorKind::WouldBlock.into())
                    }
                    // What came before the mistake is there all the same.
                    Err(_) => {
                        self.is_broken = true;
                        None
                    }
                },
            };
            looks = looks.saturating_sub(1);
            match stopped {
                None => {}
                Some(_) if filled > 0 => return Ok(filled),
                Some(error) => return Err(error),
            }
        }
    }

    /// Takes records from the wire; false if nothing was there.
    fn read_tls(&mut self) -> io::Result<bool> {
        let Some(Tls { connection: tls, .. }) = self.tls.as_deref_mut() else { return Ok(false) };
        match tls.read_tls(&mut self.wire) {
            Ok(0) if tls.is_handshaking() => Err(io::ErrorKind::UnexpectedEof.into()),
            // The reader says how it ended.
            Ok(_) => match tls.process_new_packets() {
                Ok(_) => Ok(true),
                Err(error) => {
                    // The alert, as far as the kernel takes it at once.
                    let _ = tls.write_tls(&mut self.wire.stream);
                    Err(failed(&error.to_string()))
                }
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Takes MQTT bytes as long as not too much waits.
    pub(crate) fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.wants_flush() {
            self.flush()?;
            if self.wants_flush() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
        let taken = match (&mut self.websocket, &mut self.tls) {
            (Some(websocket), _) => {
                let first = slices.iter().find(|slice| !slice.is_empty());
                let first = first.map_or(&[][..], |slice| slice);
                let taken = &first[..first.len().min(WAITING_MAX)];
                websocket.send(taken, &mut self.frames);
                taken.len()
            }
            (None, Some(tls)) => tls.connection.writer().write_vectored(slices)?,
            (None, None) => return self.wire.stream.write_vectored(slices),
        };
        self.flush()?;
        Ok(taken)
    }

    pub(crate) fn wants_flush(&self) -> bool {
        !self.frames.is_empty() || self.tls.as_ref().is_some_and(|tls| tls.connection.wants_write())
    }

    /// Gives the kernel as much as it takes. That it takes no more is no error.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        loop {
            if !self.frames.is_empty() {
                let taken = match &mut self.tls {
                    Some(tls) => tls.connection.writer().write(&self.frames),
                    None => self.wire.stream.write(&self.frames),
                };
                match taken {
                    Ok(count) => drop(self.frames.drain(..count)),
                    Err(error) if is_full(&error) => {}
                    Err(error) => return Err(error),
                }
                if self.frames.is_empty() {
                    self.frames = Vec::new();
                }
            }
            let Some(tls) = self.tls.as_mut().filter(|tls| tls.connection.wants_write()) else {
                return Ok(());
            };
            match tls.connection.write_tls(&mut self.wire.stream) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_full(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Tells the peer, as far as the layers have words for it, that nothing more comes. To be called again, when there
    /// is room, as long as it fails with [`io::ErrorKind::WouldBlock`].
    pub(crate) fn say_goodbye(&mut self) -> io::Result<()> {
        if let Some(websocket) = &mut self.websocket {
            websocket.close(&mut self.frames);
            self.flush()?;
        }
        // Behind the goodbye TLS takes no frame any more.
        if self.frames.is_empty()
            && let Some(tls) = &mut self.tls
        {
            tls.connection.send_close_notify();
            self.flush()?;
        }
        if self.wants_flush() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    }
}

fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// A peer that breaks a rule below MQTT.
fn failed(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream as Pair;

    use super::*;

    /// Frames and records may hold nothing. Whoever sends them as fast as they are taken apart is one of many all the same.
    #[test]
    fn nobody_keeps_a_worker_busy_with_nothing() {
        const REQUEST: &[u8] =
            b"GET /mqtt HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
              Sec-WebSocket-Protocol: mqtt\r\n\r\n";
        let (mut peer, ours) = Pair::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let stream = Stream::Unix(mio::net::UnixStream::from_std(ours));
        let websocket = Some(Arc::new(WebSocketSetup::default()));
        let wanted = Wanted { websocket, ..Wanted::default() };
        let mut layered = Layered::new(stream, &wanted, None).unwrap();
        peer.write_all(REQUEST).unwrap();
        assert_eq!(layered.shake().unwrap(), Shaken::Done);
        let sending = std::thread::spawn(move || {
            let empty_frames = [0x82, 0x80, 1, 2, 3, 4].repeat(10_000);
            while peer.write_all(&empty_frames).is_ok() {}
        });
        let kind = loop {
            match layered.read(&mut [0; 4096], false).unwrap_err().kind() {
                // The sender was not fast enough.
                io::ErrorKind::WouldBlock => assert!(!layered.holds_more()),
                kind => break kind,
            }
        };
        assert_eq!(kind, io::ErrorKind::Interrupted);
        assert!(layered.holds_more(), "the kernel need not tell of more");
        drop(layered);
        sending.join().unwrap();
    }

    /// The kernel tells of bytes once: a short read has to mean that there are no more.
    #[test]
    fn a_read_of_early_bytes_looks_into_the_socket_too() {
        let (mut peer, ours) = Pair::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let stream = Stream::Unix(mio::net::UnixStream::from_std(ours));
        let mut wire = Wire { early: b"early".to_vec(), stream };
        peer.write_all(b"late").unwrap();
        let mut buffer = [0; 16];
        assert_eq!(wire.read(&mut buffer[..3]).unwrap(), 3);
        assert_eq!(wire.read(&mut buffer[3..]).unwrap(), 6);
        assert_eq!(&buffer[..9], b"earlylate");
        assert_eq!(wire.read(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        wire.early = b"x".to_vec();
        assert_eq!(wire.read(&mut buffer).unwrap(), 1);
    }
}
