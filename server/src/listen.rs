//! Addresses to serve: from a URL to a bound listener.

use std::{
    fmt, io,
    net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    path::Path,
    str::FromStr,
};

use runtime_mio::{BindError, CertificateFiles, Listener, TlsDoor, TlsSetup};
use session_core::Limits;
use tracing::warn;

use crate::config::{Config, ListenerConfig, TlsVersion};

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

    fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
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
    /// The flag `--listen`.
    Flag,
    /// This place of the configuration file, as `file:line:column`.
    File(String),
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Flag => f.write_str("--listen"),
            Self::File(place) => f.write_str(place),
        }
    }
}

/// A listener that was asked for, and the addresses its name stands for.
pub(crate) struct Wanted {
    config: ListenerConfig,
    /// None with a socket of the file system.
    addresses: Vec<SocketAddr>,
}

/// Looks host names up.
///
/// # Errors
/// A name is not known.
pub(crate) fn resolve(listeners: &[ListenerConfig]) -> Result<Vec<Wanted>, String> {
    let resolve = |config: &ListenerConfig| {
        let ListenerConfig { url, asker, .. } = config;
        match url.resolve() {
            Ok(addresses) if !addresses.is_empty() || url.path().is_some() => {
                Ok(Wanted { config: config.clone(), addresses })
            }
            Ok(_) => Err(format!("{asker}: cannot listen on {url}: the name has no address")),
            Err(error) => Err(format!("{asker}: cannot listen on {url}: {error}")),
        }
    };
    listeners.iter().map(resolve).collect()
}

/// Refuses what would let anybody from another machine in without the operator having said so:
/// one problem for each such listener.
pub(crate) fn exposed(wanted: &[Wanted], config: &Config) -> Vec<String> {
    if config.allow_anonymous || config.access.is_some() {
        return Vec::new();
    }
    wanted
        .iter()
        .filter(|wanted| !wanted.addresses.iter().all(|address| is_loopback(address.ip())))
        .map(|Wanted { config: ListenerConfig { url, asker, .. }, .. }| {
            format!(
                "{asker}: {url} can be reached from other machines, and nothing decides who may \
                 connect; listen on {}://127.0.0.1:{} instead, say in [access] of the configuration file \
                 who may, or let everybody connect with `allow_anonymous = true` there (or the \
                 flag --allow-anonymous)",
                url.scheme.name(),
                url.port
            )
        })
        .collect()
}

/// What is served.
pub(crate) struct Doors {
    /// The listeners.
    pub(crate) listeners: Vec<Listener>,
    /// What each is called in the log, in the same order: its address, with the real port.
    pub(crate) names: Vec<String>,
    /// What has certificates, by address.
    pub(crate) tls: Vec<(String, TlsDoor)>,
}

/// Binds all addresses, and reads all certificates.
///
/// # Errors
/// An address that was asked for cannot be bound, a file cannot be used, or there is no address left.
pub(crate) fn bind(wanted: Vec<Wanted>, limits: &Limits) -> Result<Doors, String> {
    let mut doors = Doors { listeners: Vec::new(), names: Vec::new(), tls: Vec::new() };
    for Wanted { config, addresses } in wanted {
        let ListenerConfig { url, asker, .. } = &config;
        let scheme = url.scheme.name();
        let tls = tls_door(&config)?;
        if let Some(door) = &tls {
            doors.tls.push((url.to_string(), door.clone()));
        }
        let mut bound = Vec::new();
        for address in addresses {
            match Listener::bind_tcp(&config.name(), address) {
                Ok(listener) => bound.push(listener),
                // A machine without IPv6 is common; one whose port is taken needs a decision.
                Err(error) if *asker == Asker::Default && is_missing(&error.source) => {
                    warn!(
                        "not listening on {url}, which this machine does not have: {}",
                        error.source
                    );
                }
                Err(error) => return Err(explain(asker, &error, address.port())),
            }
        }
        if let Some(path) = url.path() {
            let listener = Listener::bind_unix(&config.name(), path, config.mode);
            bound.push(listener.map_err(|error| explain(asker, &error, 0))?);
        }
        for listener in bound {
            doors.names.push(match listener.local_addr() {
                Some(address) => format!("{scheme}://{address}"),
                None => url.to_string(),
            });
            doors.listeners.push(with_layers(listener, &config, tls.clone(), limits));
        }
    }
    if doors.listeners.is_empty() {
        return Err("there is no address to listen on".to_owned());
    }
    Ok(doors)
}

fn tls_door(config: &ListenerConfig) -> Result<Option<TlsDoor>, String> {
    let ListenerConfig { url, asker, tls, .. } = config;
    if !url.scheme.is_tls() {
        return Ok(None);
    }
    let certificates = tls.certificates.iter();
    let files = certificates
        .map(|(chain, key)| CertificateFiles { chain: chain.clone(), key: key.clone() });
    let alpn: &[u8] = if url.scheme.is_websocket() { b"http/1.1" } else { b"mqtt" };
    let setup = TlsSetup {
        certificates: files.collect(),
        client_certificates: tls.client_certificates.0,
        client_ca: tls.client_ca.clone(),
        crl: tls.crl.clone(),
        crl_strict: tls.crl_strict,
        tls13_only: tls.minimum == TlsVersion::V13,
        cipher_suites: tls.cipher_suites.clone(),
        alpn: vec![alpn.to_vec()],
    };
    TlsDoor::load(setup).map(Some).map_err(|error| format!("{asker}: {error}"))
}

fn with_layers(
    listener: Listener,
    config: &ListenerConfig,
    tls: Option<TlsDoor>,
    limits: &Limits,
) -> Listener {
    let mut listener = listener.with_handshake_timeout_ms(config.handshake_timeout_ms);
    if !config.proxy_from.is_empty() {
        listener = listener.with_proxies(config.proxy_from.clone());
    }
    if let Some(door) = tls {
        listener = listener.with_tls(door);
    }
    if config.url.scheme.is_websocket() {
        // A message may hold several packets, and clients put what they have into one.
        let message_bytes_max = limits.packet_bytes_max as usize * 2;
        let mut setup = config.websocket.clone();
        setup.first_message_bytes_max = limits.connect_packet_bytes_max as usize;
        setup.message_bytes_max = message_bytes_max;
        listener = listener.with_websocket(setup);
    }
    listener
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// The address or its whole family does not exist here.
fn is_missing(error: &io::Error) -> bool {
    !matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied)
}

fn explain(asker: &Asker, error: &BindError, port: u16) -> String {
    let hint = match error.source.kind() {
        io::ErrorKind::AddrInUse if port == 0 => "; another program listens there".to_owned(),
        io::ErrorKind::AddrInUse => {
            format!("; another program listens there (`ss -ltnp sport = :{port}` shows which)")
        }
        io::ErrorKind::PermissionDenied if port < 1024 => {
            "; a port below 1024 needs the capability CAP_NET_BIND_SERVICE".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address".to_owned(),
        _ => String::new(),
    };
    match asker {
        Asker::Default => format!("{error}{hint}"),
        asker => format!("{asker}: {error}{hint}"),
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

    #[test]
    fn only_loopback_is_private() {
        let private = |ip: &str| is_loopback(ip.parse().unwrap());
        assert!(["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"].map(private) == [true; 4]);
        assert!(["0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1"].map(private) == [false; 4]);
    }
}
