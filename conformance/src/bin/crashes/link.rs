//! One connection of one client: packets in and out over a blocking socket.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use codec::{
    Ack, AckKind, Connect, Frame, Framer, Message, Packet, PacketId, Properties, Property,
    ProtocolVersion, Publish, QoS, ReasonCode, Role,
};

/// More than any packet here.
const PACKET_BYTES_MAX: u32 = 1 << 20;

/// So long a client waits for packets before it looks around.
const TURN: Duration = Duration::from_millis(5);

/// So long a broker that is there may take to answer CONNECT.
pub(crate) const CONNACK_WITHIN: Duration = Duration::from_secs(60);

/// How a client connects.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) client_id: String,
    pub(crate) version: ProtocolVersion,
    /// The session ends with the connection.
    pub(crate) is_clean: bool,
    /// Receive Maximum, if it has one.
    pub(crate) receive_maximum: Option<u16>,
}

impl Identity {
    pub(crate) fn new(client_id: impl Into<String>, version: ProtocolVersion) -> Self {
        Self { client_id: client_id.into(), version, is_clean: false, receive_maximum: None }
    }

    fn connect(&self) -> Packet {
        let mut properties = Properties::new();
        if self.version.is_v5() {
            let expiry = if self.is_clean { 0 } else { u32::MAX };
            properties.push(Property::SessionExpiryInterval(expiry));
            if let Some(most) = self.receive_maximum {
                properties.push(Property::ReceiveMaximum(most));
            }
        }
        Packet::Connect(Box::new(Connect {
            version: self.version,
            bridge: false,
            clean_start: self.is_clean,
            keep_alive_s: 0,
            client_id: self.client_id.as_str().into(),
            will: None,
            user_name: None,
            password: None,
            properties,
        }))
    }
}

/// A connection. Its end, wanted or not, is an error of whatever was done last.
pub(crate) struct Link {
    stream: TcpStream,
    version: ProtocolVersion,
    framer: Framer,
    out: Vec<u8>,
    buffer: Box<[u8]>,
    packets: VecDeque<Packet>,
}

impl Link {
    /// Connects, and says whether a session was present. Gives up when `is_over`.
    pub(crate) fn connect(
        address: SocketAddr,
        identity: &Identity,
        is_over: impl Fn() -> bool,
    ) -> io::Result<(Self, bool)> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TURN))?;
        let version = identity.version;
        let mut link = Self {
            stream,
            version,
            framer: Framer::new(Role::Client(version), PACKET_BYTES_MAX, PACKET_BYTES_MAX),
            out: Vec::new(),
            buffer: vec![0; 64 * 1024].into(),
            packets: VecDeque::new(),
        };
        link.send(&identity.connect());
        link.flush()?;
        let deadline = Instant::now() + CONNACK_WITHIN;
        loop {
            link.receive()?;
            match link.next() {
                Some(Packet::ConnAck(ack)) if ack.reason == ReasonCode::Success => {
                    return Ok((link, ack.session_present));
                }
                Some(other) => return Err(wrong(format!("CONNECT is answered by {other:?}"))),
                None if is_over() => return Err(ErrorKind::Interrupted.into()),
                None if Instant::now() > deadline => {
                    return Err(wrong("CONNECT is not answered".to_owned()));
                }
                None => {}
            }
        }
    }

    /// Prepares a packet; [`Self::flush`] sends it.
    pub(crate) fn send(&mut self, packet: &Packet) {
        packet.encode(self.version, &mut self.out);
    }

    pub(crate) fn acknowledge(&mut self, kind: AckKind, id: u16) {
        let ack = Frame::Ack {
            kind,
            version: self.version,
            packet_id: packet_id(id),
            reason: ReasonCode::Success,
        };
        ack.encode(&mut self.out);
    }

    pub(crate) fn publish(&mut self, message: Message, qos: QoS, id: u16, dup: bool, retain: bool) {
        let packet_id = Some(packet_id(id));
        let publish = Publish { dup, qos, retain, packet_id, topic_alias: None, message };
        self.send(&Packet::Publish(publish));
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// Takes what has come, and waits a little for something to come.
    pub(crate) fn receive(&mut self) -> io::Result<()> {
        let read = match self.stream.read(&mut self.buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(error) => {
                let is_nothing = matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                );
                return if is_nothing { Ok(()) } else { Err(error) };
            }
        };
        let mut bytes = self.buffer.get(..read).unwrap_or_default();
        loop {
            match self.framer.decode(&mut bytes) {
                Ok(Some(packet)) => self.packets.push_back(packet),
                Ok(None) => return Ok(()),
                Err(error) => return Err(wrong(format!("not MQTT: {error}"))),
            }
        }
    }

    /// The next packet that was received.
    pub(crate) fn next(&mut self) -> Option<Packet> {
        self.packets.pop_front()
    }
}

/// What no broker may do, ended or not.
fn wrong(what: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

pub(crate) fn packet_id(id: u16) -> PacketId {
    PacketId::new(id).expect("identifiers here begin at 1")
}

/// The identifier and reason of an acknowledgement.
pub(crate) fn parts(ack: &Ack) -> (u16, ReasonCode) {
    (ack.packet_id.get(), ack.reason)
}
