//! The binary as a process under callgrind.

use std::{
    error::Error,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::Path,
    process::{Child, ExitStatus, Stdio},
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Result, valgrind};

/// How long it may take to start, and to stop: both take a second or two where nothing else runs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A broker with one worker that keeps nothing on disk. It chooses its port, so that any number of
/// them run beside each other, and says on the level `info` which one that is; no line is written
/// for a message on that level.
const ARGUMENTS: [&str; 8] = [
    "--listen",
    "tcp://127.0.0.1:0",
    "--workers",
    "1",
    "--durability",
    "memory",
    "--log-level",
    "info",
];

/// A running broker. Dropping it ends it.
pub(crate) struct Process {
    child: Child,
    /// Reads its standard error, which is the broker's log and callgrind's report.
    reader: Option<JoinHandle<String>>,
}

impl Process {
    /// Starts a broker, waits until it says where it listens, and returns that too.
    pub(crate) fn start(binary: &Path) -> Result<(Self, SocketAddr)> {
        let mut command = valgrind::callgrind();
        command.arg(binary).args(ARGUMENTS);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child =
            command.spawn().map_err(|error| format!("valgrind does not run: {error}"))?;
        let stderr = child.stderr.take().ok_or("standard error is not piped")?;
        let (sender, addresses) = channel();
        let reader = Some(thread::spawn(move || read(stderr, &sender)));
        let mut process = Self { child, reader };
        let what = match addresses.recv_timeout(PATIENCE) {
            Ok(address) => return Ok((process, address)),
            Err(RecvTimeoutError::Disconnected) => "it ended before it listened".to_owned(),
            Err(RecvTimeoutError::Timeout) => format!("it did not listen within {PATIENCE:?}"),
        };
        Err(process.failure(&what))
    }

    /// Ends it in good order, and returns how many instructions it took in all.
    pub(crate) fn stop(mut self) -> Result<u64> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let Some(status) = self.wait()? else {
            return Err(self.failure(&format!("it did not stop within {PATIENCE:?} of SIGTERM")));
        };
        if !status.success() {
            return Err(self.failure(&format!("it ended with {status}")));
        }
        let report = self.report();
        valgrind::collected(&report).ok_or_else(|| format!("callgrind says: {report}").into())
    }

    /// Its status, once it has ended; `None` if it does not end.
    fn wait(&mut self) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.child.try_wait()?;
            if status.is_some() || Instant::now() > deadline {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// What went wrong, with all that the process said. The process is ended for it, since only
    /// then it has said all.
    pub(crate) fn failure(&mut self, what: &str) -> Box<dyn Error> {
        self.end();
        format!("cairnmq under callgrind: {what}; it said:\n{}", self.report()).into()
    }

    /// What a process that has ended said on standard error.
    fn report(&mut self) -> String {
        self.reader.take().and_then(|reader| reader.join().ok()).unwrap_or_default()
    }

    fn end(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Reads to the end, and tells of the first address that the broker listens on when it comes.
fn read(stderr: impl Read, addresses: &Sender<SocketAddr>) -> String {
    let mut text = String::new();
    let mut stderr = BufReader::new(stderr);
    let mut line = Vec::new();
    while stderr.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
        let fresh = String::from_utf8_lossy(&line);
        if let Some(address) = listening(&fresh) {
            // Nobody waits for a second one.
            let _ = addresses.send(address);
        }
        text.push_str(&fresh);
        line.clear();
    }
    text
}

/// The address in a line such as `INFO listening on tcp://127.0.0.1:1883`.
fn listening(line: &str) -> Option<SocketAddr> {
    line.split_once("listening on tcp://")?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_told_and_all_lines_are_kept() {
        let log = "==1== Callgrind\n INFO CairnMQ starts\n INFO listening on tcp://127.0.0.1:4711\n\
                   ==1== Collected : 12\n";
        let (sender, addresses) = channel();
        let text = read(log.as_bytes(), &sender);
        assert_eq!(text, log);
        assert_eq!(addresses.try_recv(), Ok(SocketAddr::from(([127, 0, 0, 1], 4711))));
        assert_eq!(valgrind::collected(&text), Some(12));
    }

    #[test]
    fn a_line_without_an_address_tells_nothing() {
        for line in
            ["", " INFO CairnMQ starts", "listening on tcp://", "listening on tls://[::1]:1"]
        {
            assert_eq!(listening(line), None, "{line}");
        }
    }
}
