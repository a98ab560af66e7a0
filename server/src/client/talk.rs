//! Packets to and from the broker.

use std::{
    io::{self, Read, Write},
    time::{Duration, Instant},
};

use codec::{
    ConnAck, Disconnect, Framer, Packet, Properties, Property, ProtocolVersion, ReasonCode, Role,
};

use super::{
    args::ConnectionArguments,
    link::{self, Link},
    reason,
};

/// How long the end may take.
const ENDING: Duration = Duration::from_secs(2);

/// A connection to a broker.
pub(super) struct Talk {
    link: Link,
    name: String,
    version: ProtocolVersion,
    framer: Framer,
    /// Keep Alive; absent if there is none.
    keep_alive: Option<Duration>,
    sent: Instant,
    heard: Instant,
    /// When a PINGREQ was sent that nothing has come after.
    pinged: Option<Instant>,
    /// What came with the CONNACK.
    early: Vec<Packet>,
    buffer: Box<[u8]>,
}

impl Talk {
    /// Connects, and waits for the CONNACK.
    ///
    /// # Errors
    /// The broker cannot be reached, or lets nobody in.
    pub(super) fn begin(
        arguments: &ConnectionArguments,
        clean_start: bool,
    ) -> Result<(Self, ConnAck), String> {
        let connect = arguments.connect(clean_start)?;
        let timeout = Duration::from_secs(arguments.timeout.into());
        let url = link::address(arguments)?;
        let version = connect.version;
        let mut talk = Self {
            link: Link::open(&url, arguments, timeout)?,
            name: url,
            version,
            framer: Framer::new(Role::Client(version), u32::MAX, u32::MAX),
            keep_alive: None,
            sent: Instant::now(),
            heard: Instant::now(),
            pinged: None,
            early: Vec::new(),
            buffer: vec![0; 64 * 1024].into(),
        };
        talk.send(&Packet::Connect(Box::new(connect)))?;
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!("{} does not answer; is it an MQTT broker?", talk.name));
            }
            // Nothing follows a CONNACK before it is answered, but for messages of a session that goes on.
            let mut packets = talk.receive(left)?.into_iter();
            match packets.next() {
                Some(Packet::ConnAck(ack)) if ack.reason.is_error() => {
                    return Err(format!("{} lets nobody in: {}", talk.name, refusal(&ack)));
                }
                Some(Packet::ConnAck(ack)) => {
                    let told = ack.properties.iter().find_map(|property| match property {
                        Property::ServerKeepAlive(seconds) => Some(*seconds),
                        _ => None,
                    });
                    let seconds = told.unwrap_or(arguments.keep_alive);
                    talk.keep_alive =
                        (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)));
                    talk.early = packets.collect();
                    talk.link.be_patient().map_err(|error| talk.lost(&error))?;
                    return Ok((talk, *ack));
                }
                Some(Packet::Auth(_)) => {
                    return Err(format!("{} wants a further step of authentication", talk.name));
                }
                Some(_) => return Err(format!("{} does not answer CONNECT by CONNACK", talk.name)),
                None => {}
            }
        }
    }

    /// # Errors
    /// The connection is lost.
    pub(super) fn send(&mut self, packet: &Packet) -> Result<(), String> {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes);
        self.link
            .write_all(&bytes)
            .and_then(|()| self.link.flush())
            .map_err(|error| self.lost(&error))?;
        self.sent = Instant::now();
        Ok(())
    }

    /// What comes within this time. Sends PINGREQ when it is time.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) fn receive(&mut self, patience: Duration) -> Result<Vec<Packet>, String> {
        let mut packets = std::mem::take(&mut self.early);
        if !packets.is_empty() {
            return Ok(packets);
        }
        // Half of it is left for the way of the packet.
        if let Some(keep_alive) = self.keep_alive {
            let is_quiet = [self.sent, self.heard].iter().any(|at| at.elapsed() >= keep_alive / 2);
            match self.pinged {
                Some(at) if at.elapsed() >= keep_alive => {
                    return Err(format!("{} does not answer any more", self.name));
                }
                None if is_quiet => {
                    self.send(&Packet::PingReq)?;
                    self.pinged = Some(self.sent);
                }
                _ => {}
            }
        }
        self.link
            .set_read_timeout(patience.max(Duration::from_millis(1)))
            .map_err(|error| self.lost(&error))?;
        let count = match self.link.read(&mut self.buffer) {
            Ok(0) => return Err(format!("{} has ended the connection", self.name)),
            Ok(count) => {
                self.heard = Instant::now();
                self.pinged = None;
                count
            }
            Err(error) if is_nothing(&error) => return Ok(packets),
            Err(error) => return Err(self.lost(&error)),
        };
        let mut input = &self.buffer[..count];
        while let Some(packet) = self
            .framer
            .decode(&mut input)
            .map_err(|error| format!("{} sends what is no MQTT: {error}", self.name))?
        {
            packets.push(packet);
        }
        Ok(packets)
    }

    /// Says goodbye, and waits a moment until the broker has heard it.
    pub(super) fn end(mut self) {
        let (reason, properties) = (ReasonCode::Success, Properties::new());
        let goodbye = Packet::Disconnect(Box::new(Disconnect { reason, properties }));
        if self.send(&goodbye).is_err() || self.link.finish().is_err() {
            return;
        }
        let deadline = Instant::now() + ENDING;
        while Instant::now() < deadline {
            if self.link.set_read_timeout(ENDING).is_err() {
                return;
            }
            match self.link.read(&mut self.buffer) {
                Ok(count) if count > 0 => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => return,
            }
        }
    }

    fn lost(&self, error: &io::Error) -> String {
        format!("the connection to {} is lost: {error}", self.name)
    }
}

fn is_nothing(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(error.kind(), Kind::WouldBlock | Kind::TimedOut | Kind::Interrupted)
}

fn words(properties: &Properties) -> String {
    let said = properties.iter().filter_map(|property| match property {
        Property::ReasonString(why) => Some(format!("; it says: {why}")),
        Property::ServerReference(server) => Some(format!("; go to {server}")),
        _ => None,
    });
    said.collect()
}

fn refusal(ack: &ConnAck) -> String {
    let hint = match ack.reason {
        ReasonCode::BadUserNameOrPassword | ReasonCode::NotAuthorized => {
            " (--username, --password-file?)"
        }
        ReasonCode::UnsupportedProtocolVersion => " (--protocol 3.1.1?)",
        _ => "",
    };
    format!("{}{hint}{}", reason(ack.reason), words(&ack.properties))
}

/// What a broker says when it ends the connection.
pub(super) fn farewell(said: &Disconnect) -> String {
    format!("the broker ends the connection: {}{}", reason(said.reason), words(&said.properties))
}
