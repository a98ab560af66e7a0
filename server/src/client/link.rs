//! Bytes to and from the broker: plain, by TLS, by WebSocket, or over a socket of the file system.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream, ToSocketAddrs},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use rustls::{ClientConnection, StreamOwned};
use tungstenite::{
    Message, WebSocket, client::IntoClientRequest as _, http::HeaderValue,
    protocol::WebSocketConfig,
};

use super::{args::ConnectionArguments, tls};

/// A stream of bytes.
pub(super) enum Link {
    Plain(Plain),
    Tls(Box<StreamOwned<ClientConnection, Plain>>),
    /// And bytes of a message that were not read yet.
    WebSocket(Box<WebSocket<Self>>, Vec<u8>),
}

/// What the kernel knows of it.
pub(super) enum Plain {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A URL, taken apart.
struct Place<'u> {
    scheme: &'u str,
    is_tls: bool,
    is_websocket: bool,
    host: &'u str,
    port: u16,
    path: &'u str,
}

const SCHEMES: [(&str, bool, bool, u16); 6] = [
    ("mqtt", false, false, 1883),
    ("tcp", false, false, 1883),
    ("mqtts", true, false, 8883),
    ("tls", true, false, 8883),
    ("ws", false, true, 8083),
    ("wss", true, true, 8084),
];

impl<'u> Place<'u> {
    fn of(url: &'u str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{url}` is no address; write mqtt://HOST:PORT, or mqtts, ws, wss, or unix:///PATH"
            )
        };
        let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
        let known = SCHEMES.iter().find(|(name, ..)| *name == scheme).ok_or_else(wrong)?;
        let (_, is_tls, is_websocket, port) = *known;
        let (address, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        if address.contains('@') {
            return Err("write --username and --password-file instead of a name in the URL".into());
        }
        let (host, port) = match address.rsplit_once(':') {
            Some((host, text)) if !text.ends_with(']') => {
                (host, text.parse().map_err(|_| wrong())?)
            }
            _ => (address, port),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(wrong());
        }
        Ok(Self { scheme, is_tls, is_websocket, host, port, path })
    }

    fn url(&self) -> String {
        let Self { scheme, host, port, path, .. } = self;
        // An IPv6 address has colons of its own.
        let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
        format!("{scheme}://{open}{host}{close}:{port}{path}")
    }
}

/// The URL, with the host and the port that are given beside it.
///
/// # Errors
/// It has neither.
pub(super) fn address(arguments: &ConnectionArguments) -> Result<String, String> {
    let ConnectionArguments { url, host, port, .. } = arguments;
    if host.is_none() && port.is_none() {
        return Ok(url.clone());
    }
    if url.starts_with("unix://") {
        return Err(format!("{url} has no host and no port; leave --host and --port out"));
    }
    let mut place = Place::of(url)?;
    place.host = host.as_deref().unwrap_or(place.host);
    place.port = port.unwrap_or(place.port);
    Ok(place.url())
}

impl Link {
    /// Connects.
    ///
    /// # Errors
    /// The broker cannot be reached.
    pub(super) fn open(
        url: &str,
        arguments: &ConnectionArguments,
        timeout: Duration,
    ) -> Result<Self, String> {
        let failed = |error: &dyn std::fmt::Display| {
            format!("cannot reach {url}: {error}; does a broker listen there? (--url)")
        };
        if let Some(path) = url.strip_prefix("unix://") {
            let stream = UnixStream::connect(path).map_err(|error| failed(&error))?;
            return Ok(Self::Plain(Plain::Unix(stream)));
        }
        let place = Place::of(url)?;
        let stream = connect(&place, timeout).map_err(|error| failed(&error))?;
        stream.set_read_timeout(Some(timeout)).map_err(|error| failed(&error))?;
        let plain = Plain::Tcp(stream);
        let mut link = match place.is_tls {
            true => {
                let protocol: &[u8] = if place.is_websocket { b"http/1.1" } else { b"mqtt" };
                Self::Tls(Box::new(tls::secure(plain, place.host, protocol, arguments)?))
            }
            false => Self::Plain(plain),
        };
        if place.is_websocket {
            link = upgrade(link, &place).map_err(|error| failed(&error))?;
        }
        Ok(link)
    }

    fn plain(&self) -> &Plain {
        match self {
            Self::Plain(plain) => plain,
            Self::Tls(stream) => &stream.sock,
            Self::WebSocket(stream, _) => stream.get_ref().plain(),
        }
    }

    pub(super) fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self.plain() {
            Plain::Tcp(stream) => stream.set_read_timeout(Some(timeout)),
            Plain::Unix(stream) => stream.set_read_timeout(Some(timeout)),
        }
    }

    /// Writes take as long as the broker wants from now on: one that holds a publisher up does not read.
    pub(super) fn be_patient(&self) -> io::Result<()> {
        match self.plain() {
            Plain::Tcp(stream) => stream.set_write_timeout(None),
            Plain::Unix(stream) => stream.set_write_timeout(None),
        }
    }

    /// Writes nothing more.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => {}
            Self::Tls(stream) => {
                stream.conn.send_close_notify();
                stream.flush()?;
            }
            Self::WebSocket(stream, _) => {
                let _ = stream.close(None);
                return stream.flush().map_err(of_websocket);
            }
        }
        match self.plain() {
            Plain::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Plain::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }
}

fn connect(place: &Place<'_>, timeout: Duration) -> io::Result<TcpStream> {
    let deadline = Instant::now() + timeout;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (place.host, place.port).to_socket_addrs()? {
        let left = deadline.saturating_duration_since(Instant::now());
        match TcpStream::connect_timeout(&address, left.max(Duration::from_millis(1))) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_write_timeout(Some(timeout))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn upgrade(link: Link, place: &Place<'_>) -> Result<Link, String> {
    let path = if place.path.is_empty() { "/mqtt" } else { place.path };
    let url = Place { path, ..*place }.url();
    let mut request = url.into_client_request().map_err(|error| error.to_string())?;
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("mqtt"));
    // Packets bound what comes.
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let (stream, _) = tungstenite::client::client_with_config(request, link, Some(config))
        .map_err(|error| format!("no WebSocket there: {error}"))?;
    Ok(Link::WebSocket(Box::new(stream), Vec::new()))
}

fn of_websocket(error: tungstenite::Error) -> io::Error {
    match error {
        tungstenite::Error::Io(error) => error,
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
            io::ErrorKind::ConnectionAborted.into()
        }
        other => io::Error::other(other),
    }
}

impl Read for Link {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
            Self::WebSocket(stream, left) => {
                while left.is_empty() {
                    match stream.read() {
                        Ok(Message::Binary(bytes)) => *left = bytes.to_vec(),
                        Ok(Message::Close(_)) | Err(tungstenite::Error::ConnectionClosed) => {
                            return Ok(0);
                        }
                        Ok(_) => {}
                        Err(error) => return Err(of_websocket(error)),
                    }
                }
                let count = left.len().min(buffer.len());
                buffer[..count].copy_from_slice(&left[..count]);
                left.drain(..count);
                Ok(count)
            }
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
            Self::WebSocket(stream, _) => {
                stream.write(Message::Binary(bytes.to_vec().into())).map_err(of_websocket)?;
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
            Self::WebSocket(stream, _) => stream.flush().map_err(of_websocket),
        }
    }
}

impl Read for Plain {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Plain {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Arguments, Command};

    fn shown(url: &str) -> Result<String, String> {
        Place::of(url).map(|place| {
            let Place { is_tls, is_websocket, host, port, path, .. } = place;
            format!("{host} {port} {path} {is_tls} {is_websocket}")
        })
    }

    #[test]
    fn urls_are_taken_apart() {
        for (url, wanted) in [
            ("mqtt://a", "a 1883  false false"),
            ("mqtts://a.b:1", "a.b 1  true false"),
            ("ws://[::1]:8/x/y", "::1 8 /x/y false true"),
            ("wss://[::1]", "::1 8084  true true"),
        ] {
            assert_eq!(shown(url).unwrap(), wanted, "{url}");
        }
        for wrong in ["a:1883", "http://a", "mqtt://", "mqtt://a:b", "mqtt://u:p@a"] {
            assert!(shown(wrong).is_err(), "{wrong}");
        }
    }

    fn address_of(line: &str) -> Result<String, String> {
        let line = format!("cairnmq sub -t t {line}");
        match Arguments::parse_from(line.split_whitespace()).command {
            Some(Command::Sub(arguments)) => address(&arguments.connection),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn host_and_port_stand_beside_the_url() {
        for (line, wanted) in [
            ("--url mqtts://a", "mqtts://a"),
            ("--url mqtt://a -p 7", "mqtt://a:7"),
            ("--url wss://a/x --host b", "wss://b:8084/x"),
            ("--url mqtt://[::1]:3 -p 4", "mqtt://[::1]:4"),
            ("--url mqtt://a --host ::1 --port 4", "mqtt://[::1]:4"),
        ] {
            assert_eq!(address_of(line).unwrap(), wanted, "{line}");
        }
        assert!(address_of("--url unix:///s -p 4").unwrap_err().contains("leave --host"));
    }
}
