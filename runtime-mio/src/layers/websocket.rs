//! MQTT in WebSocket frames.
//!
//! Frames are tungstenite's, the best kept of the libraries that do not want a socket of their own: it reads from and
//! writes to whatever is given to it, here two buffers in memory. The HTTP request is `httparse`'s.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use session_core::AddressRange;
use tungstenite::{
    Error, Message,
    protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext, frame::coding::CloseCode},
};

use super::upgrade::{self, Upgrade};

/// The buffer of a connection, bytes. Larger frames are read in parts.
const BUFFER_BYTES: usize = 4 * 1024;

/// What a WebSocket listener is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSocketSetup {
    /// The path of the URL.
    pub path: String,
    /// Pages whose scripts may connect, such as `https://example.org`; empty: any.
    pub origins: Vec<String>,
    /// Requests that name no page are refused.
    pub require_origin: bool,
    /// Proxies whose `X-Forwarded-For` or `X-Real-IP` is believed.
    pub forwarded_from: Vec<AddressRange>,
    /// Bytes of a message as long as no CONNECT has come: nothing is known of its sender.
    pub first_message_bytes_max: usize,
    /// Bytes of a later message.
    pub message_bytes_max: usize,
}

impl Default for WebSocketSetup {
    fn default() -> Self {
        Self {
            path: "/mqtt".into(),
            origins: Vec::new(),
            require_origin: false,
            forwarded_from: Vec::new(),
            first_message_bytes_max: 64 * 1024,
            message_bytes_max: 2 * 1024 * 1024,
        }
    }
}

/// One WebSocket.
pub(crate) struct WebSocket {
    setup: Arc<WebSocketSetup>,
    /// Its peer is a proxy that is believed.
    trusted: bool,
    forwarded: Option<IpAddr>,
    /// A CONNECT has come.
    is_known: bool,
    /// A message was delivered, and the rest waits until it is clear whether a CONNECT was in it.
    is_stopped: bool,
    /// That rest, as far as it was read.
    early: Vec<u8>,
    state: State,
}

enum State {
    /// The request, as far as it has come.
    Upgrading(Vec<u8>),
    Open(Box<WebSocketContext>),
    /// The peer has closed it, or broke a rule.
    Over,
}

/// Memory in the place of a socket.
struct Memory<'a> {
    wire: &'a [u8],
    answer: &'a mut Vec<u8>,
}

impl Read for Memory<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.wire.read(buffer) {
            Ok(0) if !buffer.is_empty() => Err(io::ErrorKind::WouldBlock.into()),
            read => read,
        }
    }
}

impl Write for Memory<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.answer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl WebSocket {
    pub(crate) const fn new(setup: Arc<WebSocketSetup>) -> Self {
        Self {
            setup,
            trusted: false,
            forwarded: None,
            is_known: false,
            is_stopped: false,
            early: Vec::new(),
            state: State::Upgrading(Vec::new()),
        }
    }

    /// Says that a CONNECT has come: messages may be longer from now on.
    pub(crate) fn know(&mut self) {
        if std::mem::replace(&mut self.is_known, true) {
            return;
        }
        let config = self.config();
        if let State::Open(context) = &mut self.state {
            context.set_config(|known| *known = config);
        }
    }

    /// Whether there is more to take apart without any further byte of the wire.
    pub(crate) const fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// Says who sends the request, as far as it is known.
    pub(crate) fn comes_from(&mut self, peer: Option<SocketAddr>) {
        let ranges = &self.setup.forwarded_from;
        self.trusted =
            peer.is_some_and(|peer| ranges.iter().any(|range| range.contains(peer.ip())));
    }

    /// Whether the request may tell the client's address, and has not come yet.
    pub(crate) const fn awaits_address(&self) -> bool {
        self.trusted && matches!(self.state, State::Upgrading(_))
    }

    /// The request was answered.
    pub(crate) const fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Nothing comes any more.
    pub(crate) const fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// The address that a trusted proxy has told.
    pub(crate) const fn forwarded(&self) -> Option<IpAddr> {
        self.forwarded
    }

    /// Takes bytes of the wire apart: MQTT bytes go to `mqtt`, and what has to be answered goes to `answer`. Before the
    /// peer is [known](Self::know) it [stops](Self::is_stopped) behind each message.
    ///
    /// # Errors
    /// The peer broke a rule; `answer` says so to it.
    pub(crate) fn receive(
        &mut self,
        wire: &[u8],
        mqtt: &mut Vec<u8>,
        answer: &mut Vec<u8>,
    ) -> Result<(), String> {
        self.is_stopped = false;
        let early = std::mem::take(&mut self.early);
        let joined;
        let mut wire = wire;
        if !early.is_empty() {
            joined = [&early, wire].concat();
            wire = &joined;
        }
        if let State::Upgrading(request) = &mut self.state {
            request.extend_from_slice(wire);
            wire = &[];
            match upgrade::judge(request, &self.setup, self.trusted) {
                Upgrade::Waiting => return Ok(()),
                Upgrade::Refused { response, why } => {
                    answer.extend_from_slice(response.as_bytes());
                    self.state = State::Over;
                    return Err(why.to_owned());
                }
                Upgrade::Accepted { response, length, forwarded } => {
                    answer.extend_from_slice(response.as_bytes());
                    self.forwarded = forwarded;
                    let rest = request.split_off(length);
                    let config = self.config();
                    let context =
                        WebSocketContext::from_partially_read(rest, Role::Server, Some(config));
                    self.state = State::Open(Box::new(context));
                }
            }
        }
        let received = self.read_messages(wire, mqtt, answer);
        if received.is_err() {
            self.state = State::Over;
        }
        received
    }

    fn config(&self) -> WebSocketConfig {
        let max = match self.is_known {
            true => self.setup.message_bytes_max,
            false => self.setup.first_message_bytes_max,
        };
        WebSocketConfig::default()
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(max))
            .max_frame_size(Some(max))
    }

    fn read_messages(
        &mut self,
        wire: &[u8],
        mqtt: &mut Vec<u8>,
        answer: &mut Vec<u8>,
    ) -> Result<(), String> {
        let mut memory = Memory { wire, answer };
        loop {
            let State::Open(context) = &mut self.state else { return Ok(()) };
            let refused = match context.read(&mut memory) {
                //= [MQTT-6.0.0-2] packets and frames have nothing to do with one another.
                Ok(Message::Binary(bytes)) => {
                    mqtt.extend_from_slice(&bytes);
                    if !self.is_known {
                        self.is_stopped = true;
                        self.early = memory.wire.to_vec();
                        return Ok(());
                    }
                    continue;
                }
                Ok(Message::Ping(_) | Message::Pong(_)) => {
                    let _ = context.flush(&mut memory);
                    continue;
                }
                Ok(Message::Close(_)) => {
                    let _ = context.flush(&mut memory);
                    self.state = State::Over;
                    return Ok(());
                }
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => {
                    self.state = State::Over;
                    return Ok(());
                }
                //= [MQTT-6.0.0-1]
                Ok(_) => (CloseCode::Unsupported, "a text message is no MQTT".to_owned()),
                Err(Error::Utf8(_)) => {
                    (CloseCode::Unsupported, "a text message is no MQTT".to_owned())
                }
                Err(error @ Error::Capacity(_)) => (CloseCode::Size, error.to_string()),
                Err(error) => (CloseCode::Protocol, error.to_string()),
            };
            let (code, why) = refused;
            let _ = context.close(&mut memory, Some(CloseFrame { code, reason: "".into() }));
            let _ = context.flush(&mut memory);
            return Err(why);
        }
    }

    /// Puts MQTT bytes into a frame.
    pub(crate) fn send(&mut self, mqtt: &[u8], wire: &mut Vec<u8>) {
        if let State::Open(context) = &mut self.state {
            let mut memory = Memory { wire: &[], answer: wire };
            // Memory takes everything; only a closed WebSocket refuses, and then nobody listens.
            let _ = context.write(&mut memory, Message::Binary(mqtt.to_vec().into()));
            let _ = context.flush(&mut memory);
        }
    }

    /// Says that nothing more comes.
    pub(crate) fn close(&mut self, wire: &mut Vec<u8>) {
        if let State::Open(context) = &mut self.state {
            let mut memory = Memory { wire: &[], answer: wire };
            let _ = context.close(
                &mut memory,
                Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }),
            );
            let _ = context.flush(&mut memory);
        }
    }
}

#[cfg(test)]
mod autobahn;
#[cfg(test)]
mod tests;
