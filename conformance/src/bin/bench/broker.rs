//! The brokers that are measured: started on a free loopback port, read through /proc, ended.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use conformance::differential::broker::installed_mosquitto;
use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, setrlimit};

use crate::Result;

/// Which program, and where it is.
pub(crate) enum Kind {
    /// Ours.
    Cairnmq {
        path: PathBuf,
        /// Worker threads, if not its default.
        workers: Option<u16>,
        /// `--durability`.
        durability: &'static str,
    },
    /// The one to compare with.
    Mosquitto { path: PathBuf, is_persistent: bool },
}

impl Kind {
    /// The installed mosquitto.
    pub(crate) fn mosquitto(is_persistent: bool) -> Result<Kind> {
        installed_mosquitto()
            .map(|path| Kind::Mosquitto { path, is_persistent })
            .ok_or_else(|| "mosquitto is missing: apt-get install mosquitto".into())
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Kind::Cairnmq { .. } => "cairnmq",
            Kind::Mosquitto { .. } => "mosquitto",
        }
    }
}

/// A running broker. Dropping it ends it.
pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    child: Child,
    /// The configuration that was written for it.
    file: PathBuf,
}

impl Broker {
    /// Starts a broker and waits until it takes connections. The port that was free may be taken
    /// before the broker has it, so a few are tried. What it keeps, if anything, it keeps in `folder`.
    pub(crate) fn start(kind: &Kind, folder: &Path) -> Result<Broker> {
        let try_start = || {
            let mut broker = Self::launch(kind, folder)?;
            broker.wait_until(Duration::from_millis(20), |broker| {
                TcpStream::connect(broker.address).is_ok()
            })?;
            Ok(broker)
        };
        let mut attempt = try_start();
        for _ in 0..4 {
            if attempt.is_ok() {
                break;
            }
            attempt = try_start();
        }
        attempt
    }

    /// Starts a broker, and does not wait for it.
    pub(crate) fn launch(kind: &Kind, folder: &Path) -> Result<Broker> {
        // mosquitto cannot say which port it was given, so one that is free is looked up first.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let name = format!("bench-{}-{}-{}", kind.name(), std::process::id(), address.port());
        let file = std::env::temp_dir().join(name);
        let mut command = match kind {
            Kind::Cairnmq { path, workers, durability } => {
                let mut command = Command::new(path);
                fs::write(&file, CAIRNMQ_FILE)?;
                let url = format!("tcp://{address}");
                command.args(["--listen", &url, "--log-level", "error"]);
                command.arg("--config").arg(&file).arg("--data-dir").arg(folder);
                command.args(["--durability", durability]);
                if let Some(workers) = workers {
                    command.args(["--workers", &workers.to_string()]);
                }
                command
            }
            Kind::Mosquitto { path, is_persistent } => {
                fs::write(&file, mosquitto_file(address, is_persistent.then_some(folder)))?;
                let mut command = Command::new(path);
                command.arg("-c").arg(&file);
                command
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        Ok(Broker { address, child, file })
    }

    /// Waits, looking every so often, while the broker runs. Patience ends after two minutes.
    pub(crate) fn wait_until(
        &mut self,
        pause: Duration,
        mut is_there: impl FnMut(&Broker) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(120);
        while !is_there(self) {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("does not start: {status}").into());
            }
            if Instant::now() > deadline {
                return Err("does not answer after two minutes".into());
            }
            thread::sleep(pause);
        }
        Ok(())
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&mut self) -> Result<()> {
        self.child.wait()?;
        Ok(())
    }

    /// The processor time of all its threads so far, user and system, in nanoseconds.
    pub(crate) fn cpu_ns(&self) -> Result<u64> {
        let mut total = 0;
        for task in fs::read_dir(self.proc("task"))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            total += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
        Ok(total)
    }

    /// A memory line of /proc/PID/status, in bytes: `VmRSS` now, `VmHWM` at its peak.
    pub(crate) fn memory(&self, field: &str) -> Result<u64> {
        let status = fs::read_to_string(self.proc("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")).ok_or("no such field")?;
        Ok(kib.parse::<u64>()? * 1024)
    }

    /// Lets the peak start again from what is in use now.
    pub(crate) fn reset_peak(&self) -> Result<()> {
        Ok(fs::write(self.proc("clear_refs"), "5")?)
    }

    /// Bytes that were written to files so far, as they leave for the disk.
    pub(crate) fn written(&self) -> Result<u64> {
        let text = fs::read_to_string(self.proc("io"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        Ok(line.ok_or("no write_bytes")?.parse()?)
    }

    fn proc(&self, file: &str) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join(file)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.file);
    }
}

/// Without a limit on queues, so that it drops nothing; all else as installed.
const CAIRNMQ_FILE: &str = "[limits]
session_queue_max = 4000000000
session_queue_bytes_max = 1000000000000
";

/// The same for mosquitto, without a log. It keeps what it keeps in the folder, if one is given; `user`
/// is for root only, of whom it would not be the user who may write there.
fn mosquitto_file(address: SocketAddr, folder: Option<&Path>) -> String {
    let (ip, port) = (address.ip(), address.port());
    let mut text = format!(
        "listener {port} {ip}\nallow_anonymous true\nlog_type none\nmax_queued_messages 0\n"
    );
    if let Some(folder) = folder {
        let folder = folder.display();
        text += &format!("persistence true\npersistence_location {folder}/\nuser root\n");
    }
    text
}

/// Ten thousand connections need as many open files, here and in the brokers that inherit this.
pub(crate) fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // If it fails, the connection that is one too many says so.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// The binary to measure. `cargo run` builds only this program, so the broker is built here.
pub(crate) fn our_binary(named: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(path) = named {
        return Ok(path);
    }
    if let Some(cargo) = std::env::var_os("CARGO") {
        let status = Command::new(cargo).args(["build", "--release", "-p", "cairnmq"]).status()?;
        if !status.success() {
            return Err(format!("cargo build --release -p cairnmq: {status}").into());
        }
        return Ok(std::env::current_exe()?.with_file_name("../release/cairnmq"));
    }
    let path = std::env::current_exe()?.with_file_name("cairnmq");
    if !path.exists() {
        let path = path.display();
        return Err(format!("{path} is missing: cargo build --release, or give --broker").into());
    }
    Ok(path)
}
