//! A broker in a process of its own, and what the system knows of it.

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// How long a broker may take until it listens.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running broker. Dropping it ends it.
pub(crate) struct Broker {
    child: Child,
    pub(crate) address: SocketAddr,
}

/// Where a port is free. Somebody else may take it before it is bound; then starting fails.
fn free_address() -> Result<SocketAddr, String> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|it| it.local_addr());
    bound.map_err(|error| format!("no port is free: {error}"))
}

impl Broker {
    /// Starts our own with this configuration; `ADDRESS` in it becomes where it listens.
    pub(crate) fn own(folder: &Path, config: &str) -> Result<Self, String> {
        let program = env::current_exe()
            .map(|path| path.with_file_name("cairnmq"))
            .map_err(|error| format!("where am I? {error}"))?;
        let file = folder.join("config.toml");
        let arguments =
            ["--config", "config.toml", "--durability", "memory", "--log-level", "error"];
        Self::start(folder, &program, &arguments, &file, config)
    }

    /// Starts mosquitto, if it is installed.
    pub(crate) fn mosquitto(folder: &Path, config: &str) -> Option<Result<Self, String>> {
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
        let mut programs = folders.map(|folder| folder.join("mosquitto"));
        let program = programs.find(|path| path.is_file())?;
        let file = folder.join("mosquitto.conf");
        Some(Self::start(folder, &program, &["-c", "mosquitto.conf"], &file, config))
    }

    fn start(
        folder: &Path,
        program: &Path,
        arguments: &[&str],
        file: &Path,
        config: &str,
    ) -> Result<Self, String> {
        let address = free_address()?;
        let text = config
            .replace("ADDRESS", &address.to_string())
            .replace("PORT", &address.port().to_string());
        fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))?;
        let child = Command::new(program)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let broker = Self { child, address };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            if Instant::now() > deadline {
                return Err(format!("{} does not listen", program.display()));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(broker)
    }

    /// Bytes of its memory that are resident.
    pub(crate) fn resident_bytes(&self) -> Result<u64, String> {
        let path = format!("/proc/{}/status", self.child.id());
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.map(|kib| kib * 1024).ok_or(format!("{path} has no VmRSS"))
    }

    /// Processor time that it has used.
    pub(crate) fn cpu(&self) -> Result<Duration, String> {
        const TICKS_PER_SECOND: u64 = 100;
        let path = format!("/proc/{}/stat", self.child.id());
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        // The name in brackets may hold spaces.
        let fields: Vec<&str> =
            text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
        let ticks = ticks(11).zip(ticks(12)).ok_or(format!("{path} has no times"))?;
        Ok(Duration::from_millis((ticks.0 + ticks.1) * 1000 / TICKS_PER_SECOND))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Both fail only for a child that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
