//! A broker with a configuration, and the programs around it.

use std::{
    cell::RefCell,
    env, fs,
    io::Write as _,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::process::Process;

/// How long a server may take until it listens. It bounds a failing test.
const PATIENCE: Duration = Duration::from_secs(30);

/// The broker binary with a configuration file, in a folder of its own.
pub(crate) struct Broker {
    process: RefCell<Process>,
    ports: Vec<u16>,
    /// Removed behind the process.
    folder: TempDir,
}

impl Broker {
    /// Starts it. Paths in the configuration are relative to the folder.
    pub(crate) fn start(folder: TempDir, config: &str, rules: &str) -> Self {
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("rules.toml", rules);
        write("passwords", "");
        write("config.toml", config);
        let mut command = Command::new(env!("CARGO_BIN_EXE_cairnmq"));
        command.args(["--config", "config.toml", "--data-dir", "data"]);
        command.current_dir(folder.path()).env("NO_COLOR", "1");
        let mut process = Process::start("broker", &mut command, "");
        let wanted = config.matches("://127.0.0.1:").count();
        let ports = (0..wanted).map(|_| process.wait_for("a listener", listening_port)).collect();
        Self { process: RefCell::new(process), ports, folder }
    }

    /// The port of a listener.
    pub(crate) fn port(&self, listener: usize) -> u16 {
        self.ports[listener]
    }

    /// A file in its folder.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Replaces a file in one step.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let fresh = self.path(&format!("{name}.fresh"));
        fs::write(&fresh, text).unwrap();
        fs::rename(fresh, self.path(name)).unwrap();
    }

    /// Adds a user to its password file, as an operator does, and waits until it knows.
    pub(crate) fn add_user(&self, user: &str, password: &str) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cairnmq"));
        command.args(["passwd", "add", &self.path("passwords"), user]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
        self.wait_for_line(&["access changed and was read again"]);
    }

    /// Waits for a line of its log that holds all of this.
    pub(crate) fn wait_for_line(&self, parts: &[&str]) {
        let goal = format!("a line with {parts:?}");
        let is_it = |line: &str| parts.iter().all(|part| line.contains(part)).then_some(());
        self.process.borrow_mut().wait_for(&goal, is_it);
    }

    /// Starts a program beside it.
    pub(crate) fn run(&self, name: &str, command: &mut Command) -> Process {
        Process::start(name, command.current_dir(self.folder.path()), "")
    }

    /// Starts a program that is given this to read.
    pub(crate) fn run_with(&self, name: &str, command: &mut Command, input: &str) -> Process {
        Process::start(name, command.current_dir(self.folder.path()), input)
    }

    /// Starts a server whose configuration file is the last argument, and waits until it listens.
    pub(crate) fn serve(&self, name: &str, port: u16, config: &str, command: &[&str]) -> Process {
        let file = self.path(&format!("{name}.conf"));
        fs::write(&file, config).unwrap();
        let mut started = Command::new(find(command[0]).expect("found before"));
        let process = self.run(name, started.args(&command[1..]).arg(file));
        wait_until_listening(name, port);
        process
    }
}

/// Waits until somebody listens.
pub(crate) fn wait_until_listening(name: &str, port: u16) {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "{name} does not listen");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The port in a line such as `INFO listening on tls://127.0.0.1:40123`.
fn listening_port(line: &str) -> Option<u16> {
    line.split_once("listening on ")?.1.rsplit_once(':')?.1.trim().parse().ok()
}

/// A port that nobody uses; somebody else may take it before it is bound, which then fails the test.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// `mosquitto_pub` or `mosquitto_sub`; its lines come at once.
pub(crate) fn mosquitto(verb: &str, port: u16) -> Command {
    let mut command = Command::new("stdbuf");
    command.arg("-oL").arg(format!("mosquitto_{verb}"));
    command.args(["-h", "127.0.0.1", "-p", &port.to_string()]);
    command
}

/// paho-mqtt, if it is installed.
pub(crate) fn paho(verb: &str, port: u16) -> Option<Command> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let named = env::var_os("CAIRNMQ_PYTHON").map(PathBuf::from);
    let candidates = [named, Some(folder.join("../.venv/bin/python")), Some("python3".into())];
    let works = |python: &PathBuf| {
        let mut command = Command::new(python);
        command.args(["-c", "from paho.mqtt.enums import CallbackAPIVersion"]);
        command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let Some(python) = candidates.into_iter().flatten().find(works) else {
        missing("paho-mqtt");
        return None;
    };
    let mut command = Command::new(python);
    command.arg(folder.join("tests/clients/paho_client.py")).arg(verb);
    command.args(["-h", "127.0.0.1"]);
    if port > 0 {
        command.args(["-p", &port.to_string()]);
    }
    Some(command)
}

/// Whether programs are installed. If not, this says so, or fails if they have to be there.
pub(crate) fn has(programs: &[&str]) -> bool {
    let lacking = programs.iter().find(|program| find(program).is_none());
    lacking.inspect(|program| missing(program)).is_none()
}

fn missing(program: &str) {
    let required = env::var_os("CAIRNMQ_REQUIRE_CLIENTS").is_some_and(|value| value == "1");
    assert!(!required, "missing {program}");
    eprintln!("skipped: missing {program}");
}

/// Servers are not in everybody's PATH.
fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(program)).find(|path| path.is_file())
}
