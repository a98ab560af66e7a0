//! The broker under test: our binary on a free port, or one that is running already.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::process::Process;

/// A broker that listens. Dropping it ends it, if it is ours.
pub(crate) struct Broker {
    pub(crate) host: String,
    pub(crate) port: String,
    /// Put before every topic and client id where tests share a broker; else empty.
    prefix: String,
    process: Option<Process>,
    /// Removed behind the process.
    _data: Option<tempfile::TempDir>,
}

impl Broker {
    /// Starts the binary of this package, or takes the broker named in `CAIRNMQ_TEST_BROKER`.
    pub(crate) fn start() -> Broker {
        match std::env::var("CAIRNMQ_TEST_BROKER") {
            Ok(address) => Broker::shared(&address),
            Err(_) => Broker::own(),
        }
    }

    fn own() -> Broker {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cairnmq"));
        let data = tempfile::tempdir().expect("a folder for data");
        command.args(["--listen", "tcp://127.0.0.1:0"]).env("NO_COLOR", "1");
        command.arg("--data-dir").arg(data.path());
        let mut process = Process::start("broker", &mut command, "");
        let port = process.wait_for("the line that names the listener", listening_port);
        Broker {
            host: "127.0.0.1".into(),
            port,
            prefix: String::new(),
            process: Some(process),
            _data: Some(data),
        }
    }

    fn shared(address: &str) -> Broker {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (host, port) = address.rsplit_once(':').expect("CAIRNMQ_TEST_BROKER is HOST:PORT");
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // Short: a client id of MQTT 3.1 has 23 characters at most.
        let prefix = format!("{:x}.{count:x}/", std::process::id());
        Broker { host: host.into(), port: port.into(), prefix, process: None, _data: None }
    }

    /// Whether this broker was started by this test.
    pub(crate) fn is_ours(&self) -> bool {
        self.process.is_some()
    }

    /// `name`, a topic, filter or client id, as it is called on this broker.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The reverse of [`Broker::name`].
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Asks the broker to end (SIGTERM) and waits until it has, without complaint.
    pub(crate) fn stop(&mut self) {
        let process = self.process.as_mut().expect("only our own broker is stopped");
        let id = process.id().to_string();
        let status = Command::new("kill").args(["-TERM", &id]).status().expect("kill can be run");
        assert!(status.success(), "kill -TERM {id}: {status}");
        process.wait_for_success();
    }
}

/// The port in a line such as `INFO listening on tcp://127.0.0.1:40123`.
fn listening_port(line: &str) -> Option<String> {
    if !line.contains("listening") {
        return None;
    }
    let (_, rest) = line.split_once("tcp://127.0.0.1:")?;
    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
    (!port.is_empty()).then_some(port)
}
