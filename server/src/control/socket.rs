//! The side of the broker: a thread that listens, and one for each operator.

use std::{
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use runtime_mio::UnixSocket;
use tracing::warn;

use super::{Answer, Request, desk};
use crate::serving::Serving;

/// Operators at a time.
const OPERATORS_MAX: usize = 16;
/// Bytes of a request.
const REQUEST_MAX: u64 = 64 * 1024;
/// An operator who neither asks nor reads for so long is gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where operators come; they are served until it is dropped, and the file goes with it.
pub(crate) struct Control {
    socket: UnixSocket,
    over: Arc<AtomicBool>,
}

impl Control {
    /// Listens from now on; operators are served once [`Control::start`] is called.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub(crate) fn bind(path: &Path, mode: u32) -> Result<Self, String> {
        let bind = || {
            let socket = UnixSocket::bind(path, mode)?;
            socket.listener().set_nonblocking(false)?;
            Ok(Self { socket, over: Arc::default() })
        };
        bind().map_err(|error: io::Error| {
            format!("cannot make the control socket {}: {error}", path.display())
        })
    }

    /// Serves operators from now on.
    ///
    /// # Errors
    /// There is no thread for it.
    pub(crate) fn start(&self, serving: Arc<Serving>) -> Result<(), String> {
        let listener = self.socket.listener().try_clone();
        let listener =
            listener.map_err(|error| format!("cannot use the control socket: {error}"))?;
        let over = Arc::clone(&self.over);
        let thread = thread::Builder::new().name("control".into());
        let thread = thread.spawn(move || listen(&listener, &over, &serving));
        thread.map(drop).map_err(|error| format!("cannot start a thread: {error}"))
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Whoever waits in accept is woken by it, and has nothing more to accept.
        let _ = rustix::net::shutdown(self.socket.listener(), rustix::net::Shutdown::Both);
    }
}

fn listen(listener: &UnixListener, over: &AtomicBool, serving: &Arc<Serving>) {
    let present = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        if over.load(Ordering::SeqCst) {
            return;
        }
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                warn!(%error, "cannot accept an operator");
                thread::sleep(Duration::from_millis(200));
                continue;
            }
        };
        if present.fetch_add(1, Ordering::SeqCst) >= OPERATORS_MAX {
            present.fetch_sub(1, Ordering::SeqCst);
            let _ = Lines::new(&stream).put(&failed("too many operators ask at once"));
            continue;
        }
        let (serving, leaving) = (Arc::clone(serving), Arc::clone(&present));
        let serve = move || {
            serve(&stream, &serving);
            leaving.fetch_sub(1, Ordering::SeqCst);
        };
        if thread::Builder::new().name("operator".into()).spawn(serve).is_err() {
            present.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn serve(stream: &UnixStream, serving: &Arc<Serving>) {
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let _ = stream.set_write_timeout(Some(PATIENCE));
    let mut line = String::new();
    let read = BufReader::new(stream.take(REQUEST_MAX)).read_line(&mut line);
    let mut lines = Lines::new(stream);
    let (ends, told) = match read.map(|_| serde_json::from_str::<Request>(&line)) {
        Ok(Ok(request)) => desk::carry_out(serving, request, &mut lines),
        Ok(Err(error)) => (false, lines.put(&failed(&format!("this is no request: {error}")))),
        Err(error) => (false, lines.put(&failed(&format!("no request came: {error}")))),
    };
    // Whoever has gone does not want to know.
    let _ = told.and_then(|()| lines.flush());
    let _ = stream.shutdown(Shutdown::Both);
    // The operator is told first: the program may end before another word gets out.
    if ends {
        serving.stopper.shutdown();
    }
}

fn failed(why: &str) -> Answer {
    Answer::Failed(vec![why.to_owned()])
}

/// The lines of an answer.
pub(super) struct Lines<'s>(BufWriter<&'s UnixStream>);

impl<'s> Lines<'s> {
    fn new(stream: &'s UnixStream) -> Self {
        Self(BufWriter::new(stream))
    }

    pub(super) fn put(&mut self, answer: &Answer) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, answer)?;
        self.0.write_all(b"\n")
    }

    /// Lets the operator have what there is.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
