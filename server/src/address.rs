//! What a listener is called: a URL, and who asked for it.

use std::{
    fmt, io,
    net::{Ipv6Addr, SocketAddr, ToSocketAddrs},
    path::Path,
    str::FromStr,
};

/// How bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// MQTT over TCP.
    Tcp,
    /// MQTT over TLS.
    Tls,
    /// MQTT over WebSocket.
    Ws,
    /// MQTT over WebSocket over TLS.
    Wss,
    /// MQTT over a socket of the file system.
    Unix,
}

impl Scheme {
    const ALL: [Self; 5] = [Self::Tcp, Self::Tls, Self::Ws, Self::Wss, Self::Unix];

    /// What stands before `://`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Unix => "unix",
        }
    }

    /// Whether TLS is spoken.
    pub(crate) const fn is_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    /// Whether WebSocket is spoken.
    pub(crate) const fn is_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }

    /// The usual port; that of plain MQTT is registered with IANA.
    const fn port(self) -> u16 {
        match self {
            Self::Tcp | Self::Unix => 1883,
            Self::Tls => 8883,
            Self::Ws => 8083,
            Self::Wss => 8084,
        }
    }
}

/// `SCHEME://HOST:PORT`, or `unix:///PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenUrl {
    scheme: Scheme,
    /// A host, or the path of a socket.
    host: String,
    /// 0 for a socket of the file system.
    port: u16,
}

impl ListenUrl {
    /// What is served if nothing is said.
    pub(crate) fn defaults() -> [Self; 2] {
        let (scheme, port) = (Scheme::Tcp, Scheme::Tcp.port());
        ["127.0.0.1", "::1"].map(|host| Self { scheme, host: host.to_owned(), port })
    }

    /// How bytes travel.
    pub(crate) const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The path of a `unix://` URL.
    pub(crate) fn path(&self) -> Option<&Path> {
        (self.scheme == Scheme::Unix).then(|| Path::new(&self.host))
    }

    /// The port; 0 for a socket of the file system.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// The addresses that its host stands for; none with a socket of the file system.
    ///
    /// # Errors
    /// The name is not known.
    pub(crate) fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        if self.scheme == Scheme::Unix {
            return Ok(Vec::new());
        }
        (self.host.as_str(), self.port).to_socket_addrs().map(Iterator::collect)
    }
}

impl FromStr for ListenUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((scheme, address)) = text.split_once("://") else {
            return Err(format!("`{text}` is not an address; write tcp://HOST:PORT"));
        };
        let Some(scheme) = Scheme::ALL.into_iter().find(|known| known.name() == scheme) else {
            return Err(format!(
                "`{scheme}://` cannot be served; write tcp://HOST:PORT, or tls, ws, wss or unix"
            ));
        };
        if scheme == Scheme::Unix {
            return match address.starts_with('/') {
                true => Ok(Self { scheme, host: address.to_owned(), port: 0 }),
                false => Err(format!("`{text}` has no absolute path; write unix:///PATH")),
            };
        }
        let Some((host, port)) = address.trim_end_matches('/').rsplit_once(':') else {
            return Err(format!("`{text}` has no port; write {text}:{}", scheme.port()));
        };
        let port = port
            .parse()
            .map_err(|_| format!("`{port}` in `{text}` is not a port from 0 to 65535"))?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bare {
            Some(bare) if bare.parse::<Ipv6Addr>().is_ok() => bare,
            None if host.contains(':') => {
                let scheme = scheme.name();
                return Err(format!(
                    "write an IPv6 address in brackets, as in {scheme}://[::1]:{port}"
                ));
            }
            None if !host.is_empty() && !host.contains(['[', ']', '/', '@', ' ']) => host,
            _ => return Err(format!("`{host}` in `{text}` is not a host")),
        };
        Ok(Self { scheme, host: host.to_owned(), port })
    }
}

impl fmt::Display for ListenUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, port } = self;
        let scheme = scheme.name();
        match host.contains(':') {
            _ if self.scheme == Scheme::Unix => write!(f, "{scheme}://{host}"),
            true => write!(f, "{scheme}://[{host}]:{port}"),
            false => write!(f, "{scheme}://{host}:{port}"),
        }
    }
}

/// Who asked for a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// Nobody: it is a default, and may be missing.
    Default,
    /// This place of the configuration file, as `file:line:column`, or what else sets it.
    Place(String),
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Place(place) => f.write_str(place),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_written() {
        for url in [
            "tcp://127.0.0.1:1883",
            "tcp://[::1]:1883",
            "tcp://[::]:0",
            "tcp://broker.lan:1",
            "tls://a:1",
            "ws://a:1",
            "wss://[::1]:1",
            "unix:///run/cairnmq.sock",
        ] {
            assert_eq!(url.parse::<ListenUrl>().unwrap().to_string(), url);
        }
    }

    #[test]
    fn wrong_urls_are_explained() {
        let wrong = [
            "127.0.0.1:1883",
            "mqtt://127.0.0.1:1883",
            "unix://socket",
            "tls://localhost",
            "wss://::1:1",
            "tcp://localhost",
            "tcp://localhost:mqtt",
            "tcp://localhost:65536",
            "tcp://::1:1883",
            "tcp://[localhost]:1883",
            "tcp://:1883",
        ];
        let errors = wrong.map(|url| url.parse::<ListenUrl>().unwrap_err());
        assert_eq!(
            errors,
            [
                "`127.0.0.1:1883` is not an address; write tcp://HOST:PORT",
                "`mqtt://` cannot be served; write tcp://HOST:PORT, or tls, ws, wss or unix",
                "`unix://socket` has no absolute path; write unix:///PATH",
                "`tls://localhost` has no port; write tls://localhost:8883",
                "write an IPv6 address in brackets, as in wss://[::1]:1",
                "`tcp://localhost` has no port; write tcp://localhost:1883",
                "`mqtt` in `tcp://localhost:mqtt` is not a port from 0 to 65535",
                "`65536` in `tcp://localhost:65536` is not a port from 0 to 65535",
                "write an IPv6 address in brackets, as in tcp://[::1]:1883",
                "`[localhost]` in `tcp://[localhost]:1883` is not a host",
                "`` in `tcp://:1883` is not a host",
            ]
        );
    }
}
