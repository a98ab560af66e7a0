//! A child process whose lines can be waited for, and that never outlives the test.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// The longest that any one step may take. Far more than needed: it bounds a failing test.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running program. Dropping it kills it.
pub(crate) struct Process {
    /// What the program is called in a failure.
    name: String,
    child: Child,
    lines: Receiver<String>,
    /// Every line so far, for a failure to show.
    transcript: Vec<String>,
}

impl Process {
    /// Starts `command` and writes `input` to it; its output and errors are read line by line.
    pub(crate) fn start(name: &str, command: &mut Command, input: &str) -> Process {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {command:?} does not start: {error}"));
        let mut stdin = child.stdin.take().expect("stdin is piped");
        stdin.write_all(input.as_bytes()).expect("a child reads its input");
        drop(stdin);
        let (sender, lines) = channel();
        forward(child.stdout.take().expect("stdout is piped"), sender.clone());
        forward(child.stderr.take().expect("stderr is piped"), sender);
        let transcript = vec![format!("{command:?}")];
        Process { name: name.to_owned(), child, lines, transcript }
    }

    /// Reads lines until `pick` takes one. Panics with the transcript when the program ends or
    /// [`PATIENCE`] does; `goal` says what was waited for.
    pub(crate) fn wait_for<T>(&mut self, goal: &str, mut pick: impl FnMut(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    let picked = pick(&line);
                    self.transcript.push(line);
                    if let Some(value) = picked {
                        return value;
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.fail(&format!("{goal}: took too long")),
                Err(RecvTimeoutError::Disconnected) => {
                    self.fail(&format!("{goal}: the program ended first"))
                }
            }
        }
    }

    /// Waits until the program has ended of itself, having said all it had to say.
    pub(crate) fn wait_until_gone(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.transcript.push(line),
                Err(RecvTimeoutError::Timeout) => self.fail("to end: took too long"),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.child.wait().expect("a child can be waited for")
    }

    /// Waits until the program has ended of itself, and panics if it did not end well.
    pub(crate) fn wait_for_success(&mut self) {
        let status = self.wait_until_gone();
        if !status.success() {
            self.fail(&format!("ended with {status}"));
        }
    }

    /// The system's number of this process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`: the program gets no chance to say goodbye; the system closes its sockets.
    pub(crate) fn kill(&mut self) {
        // Both fail only for a child that has ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Panics with what the program was told and what it said.
    pub(crate) fn fail(&self, why: &str) -> ! {
        panic!("{}: {why}\n--- transcript ---\n{}\n---", self.name, self.transcript.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            // Shown by the test harness only for a test that failed.
            let rest: Vec<String> = self.lines.try_iter().collect();
            println_transcript(&self.name, &self.transcript, &rest);
        }
    }
}

fn println_transcript(name: &str, said: &[String], unread: &[String]) {
    eprintln!("--- {name} ---\n{}\n[unread]\n{}", said.join("\n"), unread.join("\n"));
}

/// Reads lines on a thread of their own until the program closes `stream`.
fn forward(stream: impl Read + Send + 'static, lines: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { break };
            if lines.send(line).is_err() {
                break;
            }
        }
    });
}
