//! The brokers that are measured: started on a free loopback port, read through /proc, ended.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf, absolute};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, setrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::link::{self, Session};
use super::recipe::{Places, Recipe};
use crate::Result;

/// A broker that has nothing to recover is there much sooner.
const START_MAX: Duration = Duration::from_secs(20);
/// The file with what a broker says.
const COMPLAINTS: &str = "said";

static NEXT_FOLDER: AtomicU32 = AtomicU32::new(0);

/// A directory that is removed in the end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(parent: &Path) -> Result<Folder> {
        let number = NEXT_FOLDER.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("cairnmq-bench-{}-{number}", std::process::id()));
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Folder(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} is left behind: {error}", self.0.display());
        }
    }
}

/// A running broker. Dropping it ends it.
pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    child: Child,
    /// Where its configuration is, and what it says. It goes after the broker.
    own: Folder,
}

impl Broker {
    /// Starts a broker on a free port and waits until it answers. The port that was free may be
    /// taken before the broker has it, so a few are tried. What it keeps, it keeps in `folder`.
    pub(crate) fn start(recipe: &Recipe, folder: &Path) -> Result<Broker> {
        let mut attempt = Self::start_at(recipe, folder, free_port()?);
        for _ in 0..4 {
            if attempt.is_ok() {
                break;
            }
            attempt = Self::start_at(recipe, folder, free_port()?);
        }
        attempt
    }

    /// Starts a broker on this port and waits until it answers a CONNECT.
    pub(crate) fn start_at(recipe: &Recipe, folder: &Path, port: u16) -> Result<Broker> {
        let mut broker = Self::launch(recipe, folder, port)?;
        broker.wait_until(Duration::from_millis(20), START_MAX, |broker| {
            link::connect(broker.address, "is-there", Session::Clean).is_ok()
        })?;
        Ok(broker)
    }

    /// Starts a broker on this port, and does not wait for it.
    pub(crate) fn launch(recipe: &Recipe, folder: &Path, port: u16) -> Result<Broker> {
        // Most brokers cannot say which port they were given, so one that is free is given to them.
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let own = Folder::new(&std::env::temp_dir())?;
        // Some programs go by the end of the name; no other minds.
        let config = own.path().join("config.toml");
        // It is started in a directory of its own, where relative paths mean something else.
        let (folder, program) = (absolute(folder)?, absolute(&recipe.program)?);
        let places = Places { port, folder: &folder, config: &config };
        if let Some(text) = &recipe.config {
            fs::write(&config, places.fill(text))?;
        }
        let mut command = Command::new(program);
        command.args(recipe.arguments.iter().map(|argument| places.fill(argument)));
        // Some programs leave files in the directory where they are started.
        command.current_dir(own.path());
        let complaints = File::create(own.path().join(COMPLAINTS))?;
        command.stdin(Stdio::null()).stdout(complaints.try_clone()?).stderr(complaints);
        let child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        Ok(Broker { address, child, own })
    }

    /// Waits, looking every so often, while the broker runs, as long as there is patience.
    pub(crate) fn wait_until(
        &mut self,
        pause: Duration,
        patience: Duration,
        mut is_there: impl FnMut(&Broker) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + patience;
        while !is_there(self) {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("does not start: {status}{}", self.complaint()).into());
            }
            if Instant::now() > deadline {
                let seconds = patience.as_secs();
                return Err(format!("no answer after {seconds} s{}", self.complaint()).into());
            }
            thread::sleep(pause);
        }
        Ok(())
    }

    /// Fails if it has ended by itself.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => Err(format!("ended by itself: {status}{}", self.complaint()).into()),
            None => Ok(()),
        }
    }

    /// The end of what it wrote to standard output and standard error, for a sentence's end.
    fn complaint(&self) -> String {
        let bytes = fs::read(self.own.path().join(COMPLAINTS)).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let end = lines[lines.len().saturating_sub(3)..].join("; ");
        if end.is_empty() {
            end
        } else {
            format!(": {}", end.chars().take(300).collect::<String>())
        }
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
            // A thread may end meanwhile.
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
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

    /// The memory in use once it no longer changes much, or after a few seconds.
    pub(crate) fn settled_memory(&self) -> Result<u64> {
        let mut memory = self.memory("VmRSS")?;
        for _ in 0..15 {
            thread::sleep(Duration::from_millis(200));
            let now = self.memory("VmRSS")?;
            if now.abs_diff(memory) < 64 * 1024 {
                return Ok(now);
            }
            memory = now;
        }
        Ok(memory)
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
    }
}

/// A loopback port that nothing listens on at this moment.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// The processor time of this program so far, user and system, in nanoseconds.
pub(crate) fn own_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Ten thousand connections need as many open files, here and in the brokers that inherit this.
/// Returns how many there may be.
pub(crate) fn raise_open_files() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // If it fails, the connection that is one too many says so.
    let _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
