//! The brokers that are measured: started on a free loopback port, read through /proc, ended.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use conformance::differential::broker::installed_mosquitto;
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::Result;

/// Which program, and where it is.
pub(crate) enum Kind {
    /// Ours, with so many worker threads if not its default.
    Cairnmq(PathBuf, Option<u16>),
    /// The one to compare with.
    Mosquitto(PathBuf),
}

impl Kind {
    /// The installed mosquitto.
    pub(crate) fn mosquitto() -> Result<Kind> {
        installed_mosquitto()
            .map(Kind::Mosquitto)
            .ok_or_else(|| "mosquitto is missing: apt-get install mosquitto".into())
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Kind::Cairnmq(..) => "cairnmq",
            Kind::Mosquitto(_) => "mosquitto",
        }
    }
}

/// A running broker. Dropping it ends it.
pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    child: Child,
    /// The configuration that was written for it.
    file: Option<PathBuf>,
}

impl Broker {
    /// Starts a broker and waits until it takes connections. The port that was free may be taken
    /// before the broker has it, so a few are tried.
    pub(crate) fn start(kind: &Kind) -> Result<Broker> {
        let mut attempt = Self::try_start(kind);
        for _ in 0..4 {
            if attempt.is_ok() {
                break;
            }
            attempt = Self::try_start(kind);
        }
        attempt
    }

    fn try_start(kind: &Kind) -> Result<Broker> {
        // mosquitto cannot say which port it was given, so one that is free is looked up first.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let (mut command, file) = match kind {
            Kind::Cairnmq(path, workers) => {
                let mut command = Command::new(path);
                let url = format!("tcp://{address}");
                command.args(["--listen", &url, "--log-level", "error"]);
                command.args(["--durability", "memory"]);
                if let Some(workers) = workers {
                    command.args(["--workers", &workers.to_string()]);
                }
                (command, None)
            }
            Kind::Mosquitto(path) => {
                let file = mosquitto_file(address)?;
                let mut command = Command::new(path);
                command.arg("-c").arg(&file);
                (command, Some(file))
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        let mut broker = Broker { address, child, file };
        broker.wait_until_it_listens()?;
        Ok(broker)
    }

    fn wait_until_it_listens(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("does not start: {status}").into());
            }
            if Instant::now() > deadline {
                return Err("does not listen after 10 s".into());
            }
            thread::sleep(Duration::from_millis(20));
        }
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

    fn proc(&self, file: &str) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join(file)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(file) = &self.file {
            let _ = fs::remove_file(file);
        }
    }
}

/// Without a log and without a limit on queues, so that it drops nothing; all else as installed.
fn mosquitto_file(address: SocketAddr) -> Result<PathBuf> {
    let name = format!("bench-mosquitto-{}-{}.conf", std::process::id(), address.port());
    let path = std::env::temp_dir().join(name);
    let (ip, port) = (address.ip(), address.port());
    let text = format!(
        "listener {port} {ip}\nallow_anonymous true\nlog_type none\nmax_queued_messages 0\n"
    );
    fs::write(&path, text)?;
    Ok(path)
}

/// Ten thousand connections need as many open files, here and in the brokers that inherit this.
pub(crate) fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // If it fails, the connection that is one too many says so.
    let _ = setrlimit(Resource::Nofile, limit);
}
