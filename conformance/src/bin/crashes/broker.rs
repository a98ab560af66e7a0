//! The broker: started again and again on one address and one data directory, and killed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use conformance::sim::Rng;
use rustix::process::{Pid, Signal, kill_process};

/// A segment of the log is synced with its header before anything else is written to it.
const SEGMENT_HEADER_BYTES: u64 = 30;

/// So long a broker may take to end, on a machine that is busy.
const STOPS_WITHIN: Duration = Duration::from_secs(60);

/// How the broker is started, and what it leaves behind.
pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    binary: PathBuf,
    options: Vec<String>,
    /// Holds the data directory and the log of all starts.
    folder: PathBuf,
    /// Bytes of the log that were looked at.
    log_read: usize,
    child: Option<Child>,
}

impl Broker {
    /// A broker that is not started yet, with a new data directory.
    pub(crate) fn new(binary: &Path, options: Vec<String>) -> io::Result<Self> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let name = format!("crashes-{}-{}", std::process::id(), address.port());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder)?;
        let binary = binary.to_owned();
        Ok(Self { address, binary, options, folder, log_read: 0, child: None })
    }

    pub(crate) fn start(&mut self, workers: u16) -> io::Result<()> {
        let log = self.open_log()?;
        let mut command = Command::new(&self.binary);
        command.args(["--listen", &format!("tcp://{}", self.address), "--log-level", "warn"]);
        command.arg("--data-dir").arg(self.folder.join("data")).args(&self.options);
        command.args(["--workers", &workers.to_string()]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let spawned = command.spawn();
        let named = |error| io::Error::other(format!("{}: {error}", self.binary.display()));
        self.child = Some(spawned.map_err(named)?);
        Ok(())
    }

    fn open_log(&self) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).open(self.log())
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// How it ended, if it did so by itself.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().ok().flatten())
    }

    /// Ends it in the middle of whatever it does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only when it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks it to end; whether it did so within a time.
    pub(crate) fn stop(&mut self) -> bool {
        let Some(child) = &mut self.child else { return false };
        if kill_process(Pid::from_child(child), Signal::TERM).is_err() {
            return false;
        }
        let deadline = Instant::now() + STOPS_WITHIN;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = child.try_wait() {
                self.child = None;
                return status.success();
            }
            thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// Leaves bytes at the end of the log as a power failure may: of a write that was not synced the
    /// length can be on disk and the content not, or something else in its place.
    pub(crate) fn tear(&self, rng: &mut Rng) -> io::Result<()> {
        let entries = fs::read_dir(self.folder.join("data/log")).into_iter().flatten().flatten();
        let Some(last) = entries.map(|entry| entry.path()).max() else { return Ok(()) };
        if fs::metadata(&last)?.len() < SEGMENT_HEADER_BYTES {
            return Ok(());
        }
        let is_zero = rng.below(2) == 0;
        let bytes = (0..rng.below(5000)).map(|_| if is_zero { 0 } else { rng.below(256) as u8 });
        let bytes: Vec<u8> = bytes.collect();
        OpenOptions::new().append(true).open(last)?.write_all(&bytes)
    }

    /// What it complained about since this was asked last.
    pub(crate) fn complaints(&mut self) -> Vec<String> {
        let log = fs::read(self.log()).unwrap_or_default();
        let new = String::from_utf8_lossy(log.get(self.log_read..).unwrap_or_default());
        self.log_read = log.len();
        let is_bad = |line: &&str| {
            [" ERROR ", "panicked", "cairnmq: "].iter().any(|mark| line.contains(mark))
        };
        new.lines().filter(is_bad).map(str::to_owned).collect()
    }

    /// Bytes of all files in the data directory.
    pub(crate) fn data_bytes(&self) -> u64 {
        conformance::folder::bytes_below(&self.folder)
    }

    /// Where data and log are.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn remove_folder(&self) -> io::Result<()> {
        fs::remove_dir_all(&self.folder)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}
