//! Bound addresses.

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel completes before they are accepted. The kernel cuts it to its own
/// limit (`net.core.somaxconn`).
const BACKLOG: i32 = 16 * 1024;

/// A bound address: the port is taken, and clients may connect, from now on.
#[derive(Debug)]
pub struct Listener {
    name: Box<str>,
    address: SocketAddr,
    pub(crate) socket: TcpListener,
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
            Ok(Self { name: name.into(), address: socket.local_addr()?, socket })
        };
        bind().map_err(|source| BindError { name: name.into(), source })
    }

    /// The name given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address bound; a port of 0 has become a real one.
    pub const fn local_addr(&self) -> SocketAddr {
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
