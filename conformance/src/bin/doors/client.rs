//! A client that waits for each answer.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use codec::{
    Connect, Framer, Message, Packet, PacketId, Properties, ProtocolVersion, Publish, QoS, Role,
    Subscribe, SubscribeFilter, SubscriptionOptions,
};
use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};

const PATIENCE: Duration = Duration::from_secs(30);
const VERSION: ProtocolVersion = ProtocolVersion::V311;

/// What bytes travel by.
pub(crate) enum Wire {
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Wire {
    pub(crate) fn tcp(address: SocketAddr) -> Result<TcpStream, String> {
        let stream = TcpStream::connect(address).map_err(|error| format!("connect: {error}"))?;
        let prepare = || {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.set_nodelay(true)
        };
        prepare().map_err(|error| format!("socket: {error}"))?;
        Ok(stream)
    }

    /// A finished handshake.
    pub(crate) fn tls(address: SocketAddr, config: &Arc<ClientConfig>) -> Result<Self, String> {
        let name = ServerName::from(address.ip());
        let connection = ClientConnection::new(Arc::clone(config), name);
        let connection = connection.map_err(|error| format!("TLS: {error}"))?;
        let mut stream = StreamOwned::new(connection, Self::tcp(address)?);
        while stream.conn.is_handshaking() {
            let io = stream.conn.complete_io(&mut stream.sock);
            io.map_err(|error| format!("handshake: {error}"))?;
        }
        Ok(Self::Tls(Box::new(stream)))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let written = match self {
            Self::Tcp(stream) => stream.write_all(bytes),
            Self::Tls(stream) => stream.write_all(bytes),
        };
        written.map_err(|error| format!("write: {error}"))
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, String> {
        let read = match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        };
        match read {
            Ok(0) => Err("the broker hung up".to_owned()),
            Ok(count) => Ok(count),
            Err(error) => Err(format!("read: {error}")),
        }
    }
}

/// A connected client.
pub(crate) struct Client {
    wire: Wire,
    framer: Framer,
    input: Vec<u8>,
}

impl Client {
    /// Connects; whether with a name and a password.
    pub(crate) fn connect(
        wire: Wire,
        client_id: &str,
        login: Option<(&str, &str)>,
    ) -> Result<Self, String> {
        let framer = Framer::new(Role::Client(VERSION), u32::MAX, u32::MAX);
        let mut client = Self { wire, framer, input: Vec::new() };
        client.send(&Packet::Connect(Box::new(Connect {
            version: VERSION,
            bridge: false,
            clean_start: true,
            keep_alive_s: 0,
            client_id: client_id.into(),
            will: None,
            user_name: login.map(|(user, _)| user.into()),
            password: login.map(|(_, password)| password.as_bytes().to_vec().into()),
            properties: Properties::new(),
        })))?;
        match client.receive()? {
            Packet::ConnAck(ack) if !ack.reason.is_error() => Ok(client),
            other => Err(format!("no CONNACK but {other:?}")),
        }
    }

    pub(crate) fn subscribe(&mut self, filter: &str) -> Result<(), String> {
        let filters = vec![SubscribeFilter {
            filter: filter.into(),
            options: SubscriptionOptions::default(),
        }];
        let packet_id = PacketId::new(1).ok_or("zero")?;
        let properties = Properties::new();
        self.send(&Packet::Subscribe(Box::new(Subscribe { packet_id, properties, filters })))?;
        match self.receive()? {
            Packet::SubAck(_) => Ok(()),
            other => Err(format!("no SUBACK but {other:?}")),
        }
    }

    pub(crate) fn publish(&mut self, topic: &str, payload: &[u8]) -> Result<(), String> {
        let message = Message::new(topic, &Properties::new(), payload).map_err(|_| "too long")?;
        self.send(&Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            packet_id: None,
            topic_alias: None,
            message,
        }))
    }

    fn send(&mut self, packet: &Packet) -> Result<(), String> {
        let mut bytes = Vec::new();
        packet.encode(VERSION, &mut bytes);
        self.wire.write(&bytes)
    }

    pub(crate) fn receive(&mut self) -> Result<Packet, String> {
        loop {
            let mut input = &*self.input;
            let found = self.framer.decode(&mut input);
            let found = found.map_err(|error| format!("malformed: {error}"))?;
            let rest = input.len();
            self.input.drain(..self.input.len() - rest);
            if let Some(packet) = found {
                return Ok(packet);
            }
            let mut buffer = [0; 4096];
            let count = self.wire.read(&mut buffer)?;
            self.input.extend_from_slice(&buffer[..count]);
        }
    }
}
