//! What is published: one payload, some times, or the lines of the standard input.

use std::{
    fs,
    io::{self, BufRead, Read},
    path::Path,
    sync::mpsc::{self, Receiver, TryRecvError},
    thread,
    time::{Duration, Instant},
};

use super::args::PubArguments;

/// Lines that are read ahead.
const AHEAD: usize = 64;
/// The longest wait for a line before something else is looked at.
const WAIT: Duration = Duration::from_millis(20);

/// Where payloads come from.
pub(super) enum Source {
    Payload { payload: Vec<u8>, left: u64, delay: Duration, due: Instant },
    Lines(Receiver<io::Result<Vec<u8>>>),
}

/// What comes next.
pub(super) enum Next {
    Payload(Vec<u8>),
    Wait(Duration),
    /// It cannot be read on, and why.
    Broken(String),
    End,
}

impl Source {
    /// # Errors
    /// The file cannot be read.
    pub(super) fn open(arguments: &PubArguments) -> Result<Self, String> {
        if arguments.lines {
            return Ok(Self::Lines(read_lines()));
        }
        let payload = match (&arguments.message, &arguments.file) {
            (Some(text), _) => text.as_bytes().to_vec(),
            (None, Some(path)) => read(path)?,
            (None, None) => Vec::new(),
        };
        let delay = Duration::from_millis(arguments.delay);
        Ok(Self::Payload { payload, left: arguments.repeat, delay, due: Instant::now() })
    }

    pub(super) fn next(&mut self, now: Instant) -> Next {
        match self {
            Self::Payload { left: 0, .. } => Next::End,
            Self::Payload { due, .. } if now < *due => Next::Wait(due.duration_since(now)),
            Self::Payload { payload, left, delay, due } => {
                *left -= 1;
                *due = now + *delay;
                Next::Payload(payload.clone())
            }
            Self::Lines(lines) => match lines.try_recv() {
                Ok(Ok(line)) => Next::Payload(line),
                Err(TryRecvError::Empty) => Next::Wait(WAIT),
                Ok(Err(error)) => Next::Broken(format!("cannot read the standard input: {error}")),
                Err(TryRecvError::Disconnected) => Next::End,
            },
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut payload = Vec::new();
    let read = match path.as_os_str() == "-" {
        true => io::stdin().lock().read_to_end(&mut payload).map(drop),
        false => fs::read(path).map(|read| payload = read),
    };
    read.map(|()| payload).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// A line may be long in coming, so a thread waits for it.
fn read_lines() -> Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::sync_channel(AHEAD);
    thread::spawn(move || {
        for line in io::stdin().lock().split(b'\n') {
            let line = line.map(|mut line| {
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                line
            });
            let is_over = line.is_err();
            if sender.send(line).is_err() || is_over {
                return;
            }
        }
    });
    receiver
}
