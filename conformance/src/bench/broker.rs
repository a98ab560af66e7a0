//! Brokers as processes: started on a free port, watched through `/proc`, ended.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// How long a broker may take until it accepts connections.
const START_MAX: Duration = Duration::from_secs(10);

/// A broker that can be started.
#[derive(Clone, Debug)]
pub enum Kind {
    /// This one: the binary, and the number of worker threads if it is not the default.
    Cairn(PathBuf, Option<u16>),
    /// Eclipse Mosquitto: the binary.
    Mosquitto(PathBuf),
}

impl Kind {
    /// The name in the table.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Cairn(..) => "CairnMQ",
            Self::Mosquitto(_) => "mosquitto",
        }
    }
}

/// A running broker, ended when dropped.
#[derive(Debug)]
pub struct Broker {
    child: Child,
    address: SocketAddr,
    config: Option<PathBuf>,
}

/// What a broker had used at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// CPU time of all its threads.
    pub cpu: Duration,
    /// Its largest resident set since the mark was reset, bytes.
    pub peak_bytes: u64,
}

impl Broker {
    /// Starts a broker on a free loopback port and waits until it accepts connections.
    ///
    /// # Errors
    /// It cannot be started, or does not listen within 10 seconds.
    pub fn start(kind: &Kind) -> io::Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut config = None;
        let mut command = match kind {
            Kind::Cairn(path, workers) => {
                let mut command = Command::new(path);
                command.args(["--log-level", "error", "--listen", &format!("tcp://{address}")]);
                if let Some(workers) = workers {
                    command.args(["--workers", &workers.to_string()]);
                }
                command
            }
            Kind::Mosquitto(path) => {
                let name = format!("mosquitto-{}-{}.conf", std::process::id(), address.port());
                let file = std::env::temp_dir().join(name);
                let text = format!(
                    "listener {} 127.0.0.1\nallow_anonymous true\npersistence false\n\
                     max_queued_messages 0\nset_tcp_nodelay true\nlog_type error\n",
                    address.port()
                );
                fs::write(&file, text)?;
                let mut command = Command::new(path);
                command.arg("-c").arg(&file);
                config = Some(file);
                command
            }
        };
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = child.spawn().map_err(|error| {
            io::Error::new(error.kind(), format!("cannot start {}: {error}", kind.name()))
        })?;
        let broker = Self { child, address, config };
        let deadline = Instant::now() + START_MAX;
        while TcpStream::connect(address).is_err() {
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("{} does not listen", kind.name())));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(broker)
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resets the mark of peak memory and reads the CPU clock.
    ///
    /// # Errors
    /// `/proc` cannot be read or written.
    pub fn begin_measuring(&self) -> io::Result<Usage> {
        fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5")?;
        self.usage()
    }

    /// What was used since an earlier moment.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn usage_since(&self, before: &Usage) -> io::Result<Usage> {
        let now = self.usage()?;
        Ok(Usage { cpu: now.cpu.saturating_sub(before.cpu), ..now })
    }

    /// Its resident set, bytes.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn resident_bytes(&self) -> io::Result<u64> {
        self.status("VmRSS:")
    }

    fn usage(&self) -> io::Result<Usage> {
        let mut nanoseconds = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let schedule = fs::read_to_string(task?.path().join("schedstat"))?;
            let spent = schedule.split_whitespace().next().and_then(|text| text.parse().ok());
            nanoseconds += spent.unwrap_or(0_u64);
        }
        let peak_bytes = self.status("VmHWM:")?;
        Ok(Usage { cpu: Duration::from_nanos(nanoseconds), peak_bytes })
    }

    /// A line of `/proc/PID/status` in KiB, as bytes.
    fn status(&self, key: &str) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other(format!("no {key} in /proc")))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Both fail only for a process that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(config) = &self.config {
            let _ = fs::remove_file(config);
        }
    }
}
