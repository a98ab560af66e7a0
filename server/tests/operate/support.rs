//! A broker in a folder of its own, and a client that speaks packets.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use codec::{
    Connect, Framer, Message, Packet, PacketId, Properties, ProtocolVersion, Publish, QoS, Role,
    Subscribe, SubscribeFilter, SubscriptionOptions,
};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take; far more than it does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Looks until there is something.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let patience = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < patience, "it did not come to that: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The program.
pub(crate) fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cairnmq"));
    command.args(arguments).stdin(Stdio::null());
    command
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A broker at work; killed when dropped.
pub(crate) struct Broker {
    pub(crate) child: Child,
    pub(crate) folder: TempDir,
}

impl Broker {
    /// With this configuration, and its log in a file.
    pub(crate) fn start(config: &str) -> Self {
        Self::start_with(config, |_| ())
    }

    pub(crate) fn start_with(config: &str, edit: impl FnOnce(&mut Command)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::start_in(folder, config, edit)
    }

    pub(crate) fn start_in(folder: TempDir, config: &str, edit: impl FnOnce(&mut Command)) -> Self {
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let path = folder.path().join("c.toml");
        fs::write(&path, config).unwrap();
        let mut command = program(&["--config", "c.toml"]);
        command.current_dir(folder.path()).stderr(log);
        edit(&mut command);
        let broker = Self { child: command.spawn().unwrap(), folder };
        // The socket is there before the first client is served, and answers once all is.
        until("it answers", || broker.ctl(&["status"]).status.success().then_some(()));
        broker
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// The first line of the log in which all of these occur.
    pub(crate) fn line(&self, wanted: &[&str]) -> String {
        let is_it = |line: &&str| wanted.iter().all(|part| line.contains(part));
        until(&format!("{wanted:?} in the log"), || {
            self.log().lines().find(is_it).map(str::to_owned)
        })
    }

    pub(crate) fn configure(&self, config: &str) {
        fs::write(self.path("c.toml"), config).unwrap();
    }

    pub(crate) fn ctl(&self, arguments: &[&str]) -> Output {
        let arguments = [&["ctl", "--config", "c.toml"], arguments].concat();
        program(&arguments).current_dir(self.folder.path()).output().unwrap()
    }

    /// The rows of a command that succeeds.
    pub(crate) fn rows(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.ctl(&[&["--json"], arguments].concat());
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// What a command that succeeds says.
    pub(crate) fn said(&self, arguments: &[&str]) -> String {
        let output = self.ctl(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// What a command that fails says.
    pub(crate) fn failure(&self, arguments: &[&str]) -> String {
        let output = self.ctl(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", text(&output.stdout));
        text(&output.stderr)
    }

    /// The addresses of listeners, in their order.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let rows = self.rows(&["listeners"]);
        let address = |row: &Value| row["address"].as_str()?.split_once("://")?.1.parse().ok();
        rows.iter().filter_map(address).collect()
    }

    /// Where metrics and health are.
    pub(crate) fn http(&self) -> SocketAddr {
        let line = self.line(&["metrics and health at"]);
        let address = line.split("http://").nth(1).unwrap().split('/').next().unwrap();
        address.parse().unwrap()
    }

    pub(crate) fn client(&self, client_id: &str) -> Client {
        Client::connect(self.addresses()[0], client_id)
    }

    pub(crate) fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    pub(crate) fn ended(&mut self) -> ExitStatus {
        until("it ends", || self.child.try_wait().unwrap())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Status and body of an answer, all headers before it.
pub(crate) fn get(address: SocketAddr, path: &str, header: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    framer: Framer,
    received: Vec<u8>,
}

const V5: ProtocolVersion = ProtocolVersion::V5;

impl Client {
    pub(crate) fn connect(address: SocketAddr, client_id: &str) -> Self {
        let mut client = Self::knock(address, client_id, None);
        let Some(Packet::ConnAck(ack)) = client.next() else { panic!("no CONNACK") };
        assert!(!ack.reason.is_error(), "{ack:?}");
        client
    }

    /// Says CONNECT and hears nothing yet.
    pub(crate) fn knock(address: SocketAddr, client_id: &str, user: Option<(&str, &str)>) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let framer = Framer::new(Role::Client(V5), u32::MAX, u32::MAX);
        let mut client = Self { stream, framer, received: Vec::new() };
        let expiry = codec::Property::SessionExpiryInterval(3600);
        client.send(&Packet::Connect(Box::new(Connect {
            version: V5,
            bridge: false,
            clean_start: false,
            keep_alive_s: 0,
            client_id: client_id.into(),
            will: None,
            user_name: user.map(|(user, _)| user.into()),
            password: user.map(|(_, password)| password.as_bytes().to_vec().into()),
            properties: [expiry].into_iter().collect(),
        })));
        client
    }

    pub(crate) fn send(&mut self, packet: &Packet) {
        let mut bytes = Vec::new();
        packet.encode(V5, &mut bytes);
        self.stream.write_all(&bytes).unwrap();
    }

    /// The next packet; `None` at the end.
    pub(crate) fn next(&mut self) -> Option<Packet> {
        loop {
            let mut input = &self.received[..];
            let packet = self.framer.decode(&mut input).expect("the broker keeps the rules");
            let rest = input.len();
            self.received.drain(..self.received.len() - rest);
            if packet.is_some() {
                return packet;
            }
            let mut buffer = [0; 16 * 1024];
            match self.stream.read(&mut buffer).expect("a packet, or the end") {
                0 => return None,
                count => self.received.extend_from_slice(&buffer[..count]),
            }
        }
    }

    pub(crate) fn subscribe(&mut self, filter: &str, qos: QoS) {
        let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
        self.send(&Packet::Subscribe(Box::new(Subscribe {
            packet_id: PacketId::new(1).unwrap(),
            properties: Properties::default(),
            filters: vec![SubscribeFilter { filter: filter.into(), options }],
        })));
        assert!(matches!(self.next(), Some(Packet::SubAck(ack)) if !ack.reasons[0].is_error()));
    }

    /// Publishes by QoS 1, and waits for the acknowledgement.
    pub(crate) fn publish(&mut self, topic: &str, payload: &[u8], retain: bool) {
        let message = Message::new(topic, &Properties::default(), payload).unwrap();
        let packet_id = PacketId::new(9);
        let qos = QoS::AtLeastOnce;
        let dup = false;
        self.send(&Packet::Publish(Publish {
            dup,
            qos,
            retain,
            packet_id,
            topic_alias: None,
            message,
        }));
        // What it has subscribed to may come first.
        while !matches!(self.next().expect("PUBACK"), Packet::PubAck(_)) {}
    }

    /// Whether the broker still answers here.
    pub(crate) fn ping(&mut self) {
        self.send(&Packet::PingReq);
        assert!(matches!(self.next(), Some(Packet::PingResp)));
    }
}
