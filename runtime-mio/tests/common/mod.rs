//! A broker inside the process, and clients that speak raw packets to it.
#![allow(dead_code, unused_imports, reason = "each test file uses a part")]

pub(crate) mod doors;

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use codec::{
    Connect, Framer, Message, Packet, PacketId, Properties, ProtocolVersion, Publish, QoS, Role,
    Subscribe, SubscribeFilter, SubscriptionOptions,
};
use runtime_mio::{Listener, Running, RuntimeConfig};
use session_core::{ShardConfig, ShardMap};

pub(crate) use codec::ProtocolVersion::{V5, V311};

/// How long anything may take; far more than it does.
const PATIENCE: Duration = Duration::from_secs(20);

/// A broker on a port of its own. Stopped when dropped.
pub(crate) struct Broker {
    running: Option<Running>,
    pub(crate) address: SocketAddr,
}

impl Broker {
    pub(crate) fn start(workers: u16) -> Self {
        Self::start_with(workers, |_| {}, |_| {})
    }

    pub(crate) fn start_with(
        workers: u16,
        shard: impl Fn(&mut ShardConfig),
        runtime: impl FnOnce(&mut RuntimeConfig),
    ) -> Self {
        let map = ShardMap::new(workers, 2);
        let configure = |id| {
            let mut config = ShardConfig::new(id, map);
            shard(&mut config);
            config
        };
        let listener = Listener::bind_tcp("tcp://test", "127.0.0.1:0".parse().unwrap()).unwrap();
        let mut config = RuntimeConfig::new(map.all().map(configure).collect(), vec![listener]);
        runtime(&mut config);
        let running = runtime_mio::start(config).unwrap();
        Self { address: running.local_addrs()[0].expect("a TCP address"), running: Some(running) }
    }

    pub(crate) fn open(&self, version: ProtocolVersion) -> Client {
        Client::open(self.address, version)
    }

    /// A client with a clean session.
    pub(crate) fn connect(&self, version: ProtocolVersion, client_id: &str) -> Client {
        let mut client = self.open(version);
        client.send(&connect(version, client_id));
        let Packet::ConnAck(ack) = client.receive() else { panic!("no CONNACK") };
        assert!(!ack.reason.is_error(), "{ack:?}");
        client
    }

    pub(crate) fn desk(&self) -> runtime_mio::Desk {
        self.running.as_ref().expect("it runs until it is dropped").desk()
    }

    pub(crate) fn first_door(&self) -> runtime_mio::DoorId {
        self.running.as_ref().expect("it runs until it is dropped").doors()[0]
    }

    pub(crate) fn shutdown(&self) {
        self.running.as_ref().expect("it runs until it is dropped").shutdown();
    }

    /// Stops and waits until every thread has ended well.
    pub(crate) fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(running) = self.running.take() {
            running.shutdown();
            running.join().expect("no worker panics");
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.end();
        }
    }
}

/// One connection to the broker.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    version: ProtocolVersion,
    framer: Framer,
    received: Vec<u8>,
}

impl Client {
    pub(crate) fn open(address: SocketAddr, version: ProtocolVersion) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let framer = Framer::new(Role::Client(version), u32::MAX, u32::MAX);
        Self { stream, version, framer, received: Vec::new() }
    }

    pub(crate) fn send(&mut self, packet: &Packet) {
        let bytes = self.bytes(packet);
        self.write(&bytes);
    }

    pub(crate) fn bytes(&self, packet: &Packet) -> Vec<u8> {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes);
        bytes
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub(crate) fn receive(&mut self) -> Packet {
        self.try_receive().expect("a packet, not the end")
    }

    /// The next packet; `None` at the end of the connection.
    pub(crate) fn try_receive(&mut self) -> Option<Packet> {
        loop {
            let mut input = &self.received[..];
            let packet = self.framer.decode(&mut input).expect("the broker keeps the rules");
            let rest = input.len();
            self.received.drain(..self.received.len() - rest);
            if packet.is_some() {
                return packet;
            }
            let mut buffer = [0; 16 * 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("neither a packet nor the end comes: {error}"),
            }
        }
    }

    pub(crate) fn subscribe(&mut self, filter: &str, qos: QoS) {
        self.send(&subscribe(filter, qos));
        assert!(matches!(self.receive(), Packet::SubAck(ack) if !ack.reasons[0].is_error()));
    }

    /// Topic and payload of the next packet, which is a PUBLISH.
    pub(crate) fn message(&mut self) -> (String, Vec<u8>) {
        match self.receive() {
            Packet::Publish(publish) => {
                let message = publish.message;
                (message.topic_str().to_owned(), message.payload().to_vec())
            }
            other => panic!("not a PUBLISH: {other:?}"),
        }
    }

    /// All packets before the connection ends.
    pub(crate) fn rest(&mut self) -> Vec<Packet> {
        std::iter::from_fn(|| self.try_receive()).collect()
    }

    pub(crate) fn finish_writing(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }
}

pub(crate) fn connect(version: ProtocolVersion, client_id: &str) -> Packet {
    Packet::Connect(Box::new(Connect {
        version,
        bridge: false,
        clean_start: true,
        keep_alive_s: 0,
        client_id: client_id.into(),
        will: None,
        user_name: None,
        password: None,
        properties: Properties::default(),
    }))
}

pub(crate) fn subscribe(filter: &str, qos: QoS) -> Packet {
    Packet::Subscribe(Box::new(Subscribe {
        packet_id: id(1),
        properties: Properties::default(),
        filters: vec![SubscribeFilter {
            filter: filter.into(),
            options: SubscriptionOptions { qos, ..SubscriptionOptions::default() },
        }],
    }))
}

/// A PUBLISH; QoS 0 if the identifier is 0, QoS 1 otherwise.
pub(crate) fn publish(topic: &str, payload: &[u8], packet_id: u16) -> Packet {
    let packet_id = PacketId::new(packet_id);
    Packet::Publish(Publish {
        dup: false,
        qos: if packet_id.is_some() { QoS::AtLeastOnce } else { QoS::AtMostOnce },
        retain: false,
        packet_id,
        topic_alias: None,
        message: Message::new(topic, &Properties::default(), payload).unwrap(),
    })
}

pub(crate) fn id(value: u16) -> PacketId {
    PacketId::new(value).expect("not zero")
}
