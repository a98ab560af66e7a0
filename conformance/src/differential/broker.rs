//! Brokers that are started for a run, and ended with it.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A running broker. Dropping it ends it.
#[derive(Debug)]
pub struct Broker {
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
    /// The configuration that was written for it.
    file: Option<PathBuf>,
}

impl Broker {
    /// Starts a `cairnmq` with so many workers on a free loopback port.
    ///
    /// # Errors
    /// It does not start.
    pub fn cairnmq(binary: &Path, workers: u16) -> io::Result<Self> {
        let address = free_address()?;
        let mut command = Command::new(binary);
        command.args(["--listen", &format!("tcp://{address}"), "--log-level", "error"]);
        command.args(["--durability", "memory"]);
        command.args(["--workers", &workers.to_string()]);
        Self::start(command, address, None)
    }

    /// Starts a mosquitto on a free loopback port. It bounds neither queues nor windows itself, does
    /// not wait for more to send, and sends clients before 5.0 a copy for each matching subscription
    /// as it does others: by default they get one, with the QoS of whichever comes first.
    ///
    /// # Errors
    /// It does not start.
    pub fn mosquitto(binary: &Path) -> io::Result<Self> {
        let address = free_address()?;
        let name = format!("differential-{}-{}.conf", std::process::id(), address.port());
        let file = std::env::temp_dir().join(name);
        let (ip, port) = (address.ip(), address.port());
        let text = format!(
            "listener {port} {ip}\nallow_anonymous true\nlog_type none\n\
             max_queued_messages 0\nmax_inflight_messages 0\n\
             set_tcp_nodelay true\nallow_duplicate_messages true\n"
        );
        fs::write(&file, text)?;
        let mut command = Command::new(binary);
        command.arg("-c").arg(&file);
        Self::start(command, address, Some(file))
    }

    fn start(mut command: Command, address: SocketAddr, file: Option<PathBuf>) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command
            .spawn()
            .map_err(|error| io::Error::other(format!("{}: {error}", shown(&command))))?;
        let mut broker = Self { address, child, file };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(address).is_err() {
            let status = broker.child.try_wait()?;
            if status.is_some() || Instant::now() > deadline {
                let how = status.map_or("does not listen".to_owned(), |status| status.to_string());
                return Err(io::Error::other(format!("{}: {how}", shown(&command))));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(broker)
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

/// The installed mosquitto. Debian keeps it where not everybody's `PATH` leads.
pub fn installed_mosquitto() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
        .map(|folder| folder.join("mosquitto"))
        .find(|candidate| candidate.is_file())
}

/// mosquitto cannot say which port it was given, so one that is free is looked up first.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn shown(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}
