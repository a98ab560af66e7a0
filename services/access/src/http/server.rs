//! A very small HTTP server for tests.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Speaks with connections, one after the other, until the test ends.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Connections so far.
    pub(crate) connections: Arc<AtomicUsize>,
}

impl Server {
    /// Has each connection to a free port of the loopback address dealt with by `speak`.
    pub(crate) fn start(speak: impl Fn(TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        thread::spawn(move || {
            for stream in listener.incoming() {
                counted.fetch_add(1, Ordering::SeqCst);
                speak(stream.unwrap());
            }
        });
        Self { address, connections }
    }

    /// Answers each request by what `answer` makes of its head and body: a whole answer.
    pub(crate) fn answering(answer: impl Fn(&str, &[u8]) -> String + Send + 'static) -> Self {
        Self::start(move |mut stream| {
            if let Some((head, body)) = request(&mut stream) {
                let _ = stream.write_all(answer(&head, &body).as_bytes());
            }
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/auth", self.address)
    }
}

/// A whole request: its head and its body.
pub(crate) fn request(stream: &mut impl Read) -> Option<(String, Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    loop {
        let before = head.len();
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
        if head[before..].trim().is_empty() {
            break;
        }
    }
    let length = head.lines().find_map(|line| {
        line.to_ascii_lowercase().strip_prefix("content-length:").map(|n| n.trim().to_owned())
    });
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    Some((head, body))
}

/// An answer of this status.
pub(crate) fn response(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
