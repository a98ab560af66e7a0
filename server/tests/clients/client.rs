//! The client programs, driven in one way: what to subscribe to and publish, and what they print.
//!
//! A subscriber prints one line per event. `mosquitto_sub` is told a format, and `paho_client.py`
//! prints the same: `message TOPIC QOS RETAIN PAYLOAD`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::broker::Broker;
use crate::process::Process;

/// Who wrote the client.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Program {
    /// `mosquitto_pub` and `mosquitto_sub`.
    Mosquitto,
    /// `paho_client.py`, on paho-mqtt.
    Paho,
}

/// The protocol version that the client speaks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Version {
    V31,
    V311,
    V5,
}

impl Version {
    pub(crate) const ALL: [Version; 3] = [Version::V31, Version::V311, Version::V5];

    fn argument(self) -> &'static str {
        match self {
            Version::V31 => "mqttv31",
            Version::V311 => "mqttv311",
            Version::V5 => "mqttv5",
        }
    }
}

/// How long the session outlives its connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Session {
    /// Not at all: clean session, or clean start with no expiry interval.
    Clean,
    /// For ever: MQTT 3.1 and 3.1.1 without clean session.
    Persistent,
    /// This many seconds: MQTT 5.0.
    Expiring(u32),
}

/// What the broker publishes for a client that went without a word.
pub(crate) struct Will<'a> {
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a str,
    pub(crate) qos: u8,
    /// Will delay interval in seconds, MQTT 5.0 only.
    pub(crate) delay: u32,
}

/// What a subscribing client is to do.
pub(crate) struct Subscription<'a> {
    pub(crate) id: &'a str,
    pub(crate) filter: &'a str,
    pub(crate) qos: u8,
    pub(crate) session: Session,
    pub(crate) will: Option<Will<'a>>,
    /// Say DISCONNECT and end after this many messages; else stay.
    pub(crate) leave_after: Option<u32>,
}

impl<'a> Subscription<'a> {
    /// A clean session named `id` with QoS 0, no filter yet and no will.
    pub(crate) fn new(id: &'a str) -> Self {
        Subscription {
            id,
            filter: "",
            qos: 0,
            session: Session::Clean,
            will: None,
            leave_after: None,
        }
    }
}

/// A message as a subscriber printed it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: String,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
}

impl Message {
    pub(crate) fn new(topic: &str, payload: &str, qos: u8) -> Message {
        Message { topic: topic.into(), payload: payload.into(), qos, retain: false }
    }

    pub(crate) fn retained(self) -> Message {
        Message { retain: true, ..self }
    }

    fn parse(line: &str, prefix: &str) -> Option<Message> {
        let mut words = line.strip_prefix("message ")?.splitn(4, ' ');
        let topic = words.next()?;
        let topic = topic.strip_prefix(prefix).unwrap_or(topic).to_owned();
        let qos = words.next()?.parse().ok()?;
        let retain = words.next()? == "1";
        Some(Message { topic, payload: words.next()?.to_owned(), qos, retain })
    }
}

/// A client program that is installed, speaking one version.
#[derive(Clone, Copy)]
pub(crate) struct Client {
    program: Program,
    version: Version,
}

impl Client {
    /// The client, if its program is installed. If not, this says so; with
    /// `CAIRNMQ_REQUIRE_CLIENTS=1` it panics.
    pub(crate) fn find(program: Program, version: Version) -> Option<Client> {
        let (found, advice) = match program {
            Program::Mosquitto => {
                (has_mosquitto(), "mosquitto_sub: apt-get install mosquitto-clients")
            }
            Program::Paho => (python().is_some(), "paho-mqtt: pip install paho-mqtt into .venv"),
        };
        if found {
            return Some(Client { program, version });
        }
        let required =
            std::env::var_os("CAIRNMQ_REQUIRE_CLIENTS").is_some_and(|value| value == "1");
        assert!(!required, "missing {advice}");
        eprintln!("skipped: missing {advice}");
        None
    }

    /// A session that is kept for `seconds`, or for ever by a version that cannot say.
    pub(crate) fn lasting_session(self, seconds: u32) -> Session {
        match self.version {
            Version::V31 | Version::V311 => Session::Persistent,
            Version::V5 => Session::Expiring(seconds),
        }
    }

    /// Starts a subscriber and waits for its SUBACK.
    pub(crate) fn subscribe(self, broker: &Broker, wanted: Subscription<'_>) -> Subscriber {
        let mut command = self.command("sub", broker);
        command.args(["-i", &broker.name(wanted.id), "-t", &broker.name(wanted.filter)]);
        command.args(["-q", &wanted.qos.to_string(), "-d", "-F", "message %t %q %r %p"]);
        match wanted.session {
            Session::Clean => {}
            Session::Persistent => {
                command.arg("-c");
            }
            Session::Expiring(seconds) => {
                command.args(["-c", "-x", &seconds.to_string()]);
            }
        }
        if let Some(will) = wanted.will {
            command.args([
                "--will-topic",
                &broker.name(will.topic),
                "--will-payload",
                will.payload,
            ]);
            command.args(["--will-qos", &will.qos.to_string()]);
            if will.delay > 0 {
                command.args(["-D", "will", "will-delay-interval", &will.delay.to_string()]);
            }
        }
        if let Some(count) = wanted.leave_after {
            command.args(["-C", &count.to_string()]);
        }
        let process = Process::start(wanted.id, &mut command, "");
        Subscriber::new(process, broker.prefix())
    }

    /// Publishes one message after the other and returns when all were sent and, above QoS 0,
    /// acknowledged.
    pub(crate) fn publish(self, broker: &Broker, topic: &str, payloads: &[&str], qos: u8) {
        let mut command = self.command("pub", broker);
        // One message per line of the input.
        command.args(["-t", &broker.name(topic), "-q", &qos.to_string(), "-l"]);
        let input: String = payloads.iter().map(|payload| format!("{payload}\n")).collect();
        Process::start("publisher", &mut command, &input).wait_for_success();
    }

    /// Publishes one retained message; an empty `payload` removes the one before.
    pub(crate) fn publish_retained(self, broker: &Broker, topic: &str, payload: &str, qos: u8) {
        let mut command = self.command("pub", broker);
        command.args(["-t", &broker.name(topic), "-q", &qos.to_string(), "-r", "-m", payload]);
        Process::start("publisher", &mut command, "").wait_for_success();
    }

    /// `mosquitto_sub` or `mosquitto_pub`, or the script that takes the same arguments.
    fn command(self, verb: &str, broker: &Broker) -> Command {
        let mut command = match self.program {
            // `stdbuf` becomes the program it starts, and has it write every line at once: into a
            // pipe, mosquitto_sub would keep "Subscribed" to itself until a message comes.
            Program::Mosquitto => {
                let mut command = Command::new("stdbuf");
                command.arg("-oL").arg(format!("mosquitto_{verb}"));
                command
            }
            Program::Paho => {
                let mut command = Command::new(python().expect("found before"));
                let script = "tests/clients/paho_client.py";
                command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(script)).arg(verb);
                command
            }
        };
        command.args(["-h", &broker.host, "-p", &broker.port, "-V", self.version.argument()]);
        command
    }
}

/// A running subscriber that has seen its SUBACK.
pub(crate) struct Subscriber {
    process: Process,
    prefix: String,
    /// What came before the SUBACK: messages that were queued.
    early: Vec<Message>,
    /// The reason code of the SUBACK.
    pub(crate) granted: u8,
}

impl Subscriber {
    fn new(mut process: Process, prefix: &str) -> Subscriber {
        let mut early = Vec::new();
        let granted = process.wait_for("SUBACK", |line| {
            early.extend(Message::parse(line, prefix));
            granted(line)
        });
        Subscriber { process, prefix: prefix.to_owned(), early, granted }
    }

    /// The next `count` messages, in the order in which they were printed.
    pub(crate) fn receive(&mut self, count: usize) -> Vec<Message> {
        let mut messages: Vec<Message> = self.early.drain(..).collect();
        while messages.len() < count {
            let goal = format!("message {} of {count}", messages.len() + 1);
            let prefix = &self.prefix;
            messages.push(self.process.wait_for(&goal, |line| Message::parse(line, prefix)));
        }
        messages
    }

    /// The reason code of the DISCONNECT that the broker sends; only paho tells it.
    pub(crate) fn disconnect_reason(&mut self) -> u8 {
        self.process.wait_for("DISCONNECT from the broker", |line| {
            line.strip_prefix("disconnected ")?.parse().ok()
        })
    }

    /// Waits until the subscriber has left of itself.
    pub(crate) fn wait_until_gone(mut self) {
        self.process.wait_for_success();
    }

    /// Ends the client with no DISCONNECT.
    pub(crate) fn cut(mut self) {
        self.process.kill();
    }
}

/// The reason code in `Subscribed (mid: 1): 2`.
fn granted(line: &str) -> Option<u8> {
    let (_, codes) = line.strip_prefix("Subscribed (mid: ")?.split_once("): ")?;
    codes.trim().parse().ok()
}

fn has_mosquitto() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    // Started without arguments both print their usage; that they start is enough.
    *FOUND
        .get_or_init(|| ["mosquitto_pub", "mosquitto_sub"].into_iter().all(|name| runs(name, &[])))
}

/// The Python interpreter that can import paho-mqtt 2, if there is one.
fn python() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            let named = std::env::var_os("CAIRNMQ_PYTHON").map(PathBuf::from);
            let virtual_environment =
                Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python");
            let import = "from paho.mqtt.enums import CallbackAPIVersion";
            [named, Some(virtual_environment), Some("python3".into())]
                .into_iter()
                .flatten()
                .find(|python| exits_well(python, &["-c", import]))
        })
        .as_deref()
}

fn runs(program: impl AsRef<Path>, arguments: &[&str]) -> bool {
    quiet(program.as_ref(), arguments).is_ok()
}

fn exits_well(program: impl AsRef<Path>, arguments: &[&str]) -> bool {
    quiet(program.as_ref(), arguments).is_ok_and(|status| status.success())
}

fn quiet(program: &Path, arguments: &[&str]) -> std::io::Result<std::process::ExitStatus> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status()
}
