//! Bound addresses.

use std::{
    fmt, fs, io,
    net::{SocketAddr, TcpListener},
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        net::UnixListener,
    },
    path::{Path, PathBuf},
};

use session_core::AddressRange;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::{
    Fittings,
    layers::{TlsDoor, WebSocketSetup},
};

/// Connections that the kernel completes before they are accepted. The kernel cuts it to its own
/// limit (`net.core.somaxconn`).
const BACKLOG: i32 = 16 * 1024;

/// A bound address: the port is taken, and clients may connect, from now on.
#[derive(Debug)]
pub struct Listener {
    name: Box<str>,
    address: Option<SocketAddr>,
    pub(crate) socket: Bound,
    pub(crate) fittings: Fittings,
}

/// A bound socket.
#[derive(Debug)]
pub(crate) enum Bound {
    Tcp(TcpListener),
    /// And its file, which goes with the listener: before it, since an open socket keeps others from getting the
    /// number of its inode.
    Unix(SocketFile, UnixListener),
}

/// A file that is removed in the end.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode, by which it is known again.
    identity: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may be gone already, or there may be another broker's by now, which is none of ours.
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A socket of the file system that listens. Its file goes with it.
#[derive(Debug)]
pub struct UnixSocket {
    file: SocketFile,
    listener: UnixListener,
}

impl UnixSocket {
    /// Binds a path; `mode` are its permissions, before anybody can connect. A socket file on which nobody listens any
    /// more is replaced. The listener does not block.
    ///
    /// # Errors
    /// The system refuses the path, another program listens there, or it is no socket.
    pub fn bind(path: &Path, mode: u32) -> io::Result<Self> {
        let address = SockAddr::unix(path)?;
        remove_stale(path, &address)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&address)?;
        let file = SocketFile::new(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(Self { file, listener: socket.into() })
    }

    /// Where to accept.
    pub const fn listener(&self) -> &UnixListener {
        &self.listener
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// Removes a socket file on which nobody listens any more.
fn remove_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            let why = "there is a file of this name, and it is no socket";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
        }
        Ok(_) => {}
    }
    let knock = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    knock.set_nonblocking(true)?;
    match knock.connect(address) {
        // Somebody listens, though perhaps too busy to be connected to.
        Ok(()) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(io::ErrorKind::AddrInUse.into())
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // Who may not even ask does not know whose it is.
        Err(error) => Err(error),
    }
}

impl Listener {
    /// Binds a TCP address. `name` is what the address is called in logs and in
    /// [`Origin::listener`](session_core::Origin), such as `tcp://127.0.0.1:1883`.
    ///
    /// An IPv6 address takes IPv6 connections only, so that `0.0.0.0` and `[::]` can both be
    /// bound.
    ///
    /// # Errors
    /// The system refuses the address.
    pub fn bind_tcp(name: &str, address: SocketAddr) -> Result<Self, BindError> {
        //= [MQTT-4.2.0-1]
        let bind = || {
            let socket =
                Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
            if address.is_ipv6() {
                socket.set_only_v6(true)?;
            }
            // A restarted broker need not wait for the last connections of its predecessor.
            socket.set_reuse_address(true)?;
            // Without it a small packet may wait for the acknowledgement of another. Connections have
            // it from the socket that accepts them.
            socket.set_tcp_nodelay(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            socket.set_nonblocking(true)?;
            let socket = TcpListener::from(socket);
            let address = Some(socket.local_addr()?);
            Ok(Self::new(name, address, Bound::Tcp(socket)))
        };
        bind().map_err(|source| BindError { name: name.into(), source })
    }

    /// Binds a socket of the file system; `mode` are its permissions, before anybody can connect. A socket file on which
    /// nobody listens any more is replaced; ours is removed with the listener.
    ///
    /// # Errors
    /// The system refuses the path, another program listens there, or it is no socket.
    pub fn bind_unix(name: &str, path: &Path, mode: u32) -> Result<Self, BindError> {
        let bound = UnixSocket::bind(path, mode);
        let bound = bound.map_err(|source| BindError { name: name.into(), source })?;
        let UnixSocket { file, listener } = bound;
        Ok(Self::new(name, None, Bound::Unix(file, listener)))
    }

    fn new(name: &str, address: Option<SocketAddr>, socket: Bound) -> Self {
        Self { name: name.into(), address, socket, fittings: Fittings::default() }
    }

    /// Has all of this between socket and MQTT.
    #[must_use]
    pub fn with_fittings(mut self, fittings: Fittings) -> Self {
        self.fittings = fittings;
        self
    }

    /// Speaks TLS.
    #[must_use]
    pub fn with_tls(mut self, door: TlsDoor) -> Self {
        self.fittings = self.fittings.with_tls(door);
        self
    }

    /// Speaks WebSocket.
    #[must_use]
    pub fn with_websocket(mut self, setup: WebSocketSetup) -> Self {
        self.fittings = self.fittings.with_websocket(setup);
        self
    }

    /// Is reached by proxies with these addresses only, which tell the client's by the PROXY protocol.
    #[must_use]
    pub fn with_proxies(mut self, ranges: Vec<AddressRange>) -> Self {
        self.fittings = self.fittings.with_proxies(ranges);
        self
    }

    /// Gives PROXY, TLS and WebSocket so long together, milliseconds; 10,000 if nothing is said.
    #[must_use]
    pub fn with_handshake_timeout_ms(mut self, timeout_ms: u64) -> Self {
        self.fittings = self.fittings.with_handshake_timeout_ms(timeout_ms);
        self
    }

    /// The name given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address bound; a port of 0 has become a real one. A socket of the file system has none.
    pub const fn local_addr(&self) -> Option<SocketAddr> {
        self.address
    }
}

/// An address that cannot be bound.
#[derive(Debug)]
pub struct BindError {
    /// The listener's name.
    pub name: Box<str>,
    /// What the system says.
    pub source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: {}", self.name, self.source)
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}
