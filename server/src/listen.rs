//! Listeners: from what is wanted to bound addresses, and from one configuration to the next.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use runtime_mio::{BindError, CertificateFiles, DoorId, Fittings, Listener, TlsDoor, TlsSetup};
use session_core::Limits;
use tracing::warn;

use crate::{
    address::{Asker, Scheme},
    config::{Config, ListenerConfig, TlsVersion},
};

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
                url.scheme().name(),
                url.port()
            )
        })
        .collect()
}

/// A listener that is open.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    /// Its name towards the runtime.
    pub(crate) door: DoorId,
    /// As it was wanted.
    pub(crate) config: ListenerConfig,
    /// The address that was wanted; absent with a socket of the file system.
    address: Option<SocketAddr>,
    /// What it is called in the log: its address, with the real port.
    pub(crate) name: String,
    /// Its certificates.
    pub(crate) tls: Option<TlsDoor>,
    /// Those that a WebSocket has to know, bytes of the first packet and of others.
    limits: (u32, u32),
}

impl Open {
    /// The same behind another door.
    pub(crate) fn behind(self, door: DoorId) -> Self {
        Self { door, ..self }
    }
}

/// A listener that is bound, and not open yet.
pub(crate) struct Bound {
    listener: Listener,
    config: ListenerConfig,
    address: Option<SocketAddr>,
    name: String,
    tls: Option<TlsDoor>,
    limits: (u32, u32),
}

impl Bound {
    /// What the runtime opens, and what is remembered of it once it has.
    pub(crate) fn split(self) -> (Listener, impl FnOnce(DoorId) -> Open) {
        let Self { listener, config, address, name, tls, limits } = self;
        (listener, move |door| Open { door, config, address, name, tls, limits })
    }
}

/// What a change of listeners takes: everything that can fail has been done.
pub(crate) struct Change {
    /// They stay as they are.
    pub(crate) kept: Vec<Open>,
    /// They stay, with something else between socket and MQTT.
    pub(crate) refitted: Vec<(Open, Fittings)>,
    /// They are new.
    pub(crate) bound: Vec<Bound>,
    /// They go.
    pub(crate) closed: Vec<Open>,
}

/// Binds all addresses that are not open yet, and reads all certificates.
///
/// # Errors
/// An address that was asked for cannot be bound, a file cannot be used, or there is no address left. Nothing has
/// changed then.
pub(crate) fn change(
    open: &[Open],
    wanted: Vec<Wanted>,
    limits: &Limits,
) -> Result<Change, String> {
    let mut left: Vec<Open> = open.to_vec();
    let mut change =
        Change { kept: Vec::new(), refitted: Vec::new(), bound: Vec::new(), closed: Vec::new() };
    for Wanted { config, addresses } in wanted {
        let tls = tls_door(&config)?;
        let of_websocket = (limits.connect_packet_bytes_max, limits.packet_bytes_max);
        let places: Vec<Option<SocketAddr>> = match config.url.path() {
            Some(_) => vec![None],
            None => addresses.into_iter().map(Some).collect(),
        };
        for address in places {
            let is_there = |open: &Open| {
                open.address == address && open.config.url.path() == config.url.path()
            };
            if let Some(at) = left.iter().position(is_there) {
                let before = left.swap_remove(at);
                let is_same = is_alike(&before.config, &config)
                    && (before.limits == of_websocket || !config.url.scheme().is_websocket());
                if is_same {
                    change.kept.push(Open { config: config.clone(), ..before });
                    continue;
                }
                let name = name_of(&config, before.name.rsplit_once("://").map(|(_, at)| at));
                let (config, tls) = (config.clone(), tls.clone());
                let fittings = fittings(&config, tls.clone(), limits);
                let limits = of_websocket;
                change.refitted.push((Open { config, name, tls, limits, ..before }, fittings));
                continue;
            }
            let Some(listener) = bind(&config, address)? else { continue };
            let bound_to = listener.local_addr().map(|address| address.to_string());
            change.bound.push(Bound {
                listener: listener.with_fittings(fittings(&config, tls.clone(), limits)),
                name: name_of(&config, bound_to.as_deref()),
                config: config.clone(),
                address,
                tls: tls.clone(),
                limits: of_websocket,
            });
        }
    }
    change.closed = left;
    if change.kept.is_empty() && change.refitted.is_empty() && change.bound.is_empty() {
        return Err("there is no address to listen on".to_owned());
    }
    Ok(change)
}

/// Whether two wishes differ in nothing but where they are written down.
fn is_alike(one: &ListenerConfig, other: &ListenerConfig) -> bool {
    let plain =
        |config: &ListenerConfig| ListenerConfig { asker: Asker::Default, ..config.clone() };
    plain(one) == plain(other)
}

fn name_of(config: &ListenerConfig, bound_to: Option<&str>) -> String {
    match bound_to {
        Some(address) if config.url.scheme() != Scheme::Unix => {
            format!("{}://{address}", config.url.scheme().name())
        }
        _ => config.url.to_string(),
    }
}

/// Binds one address; `None` if it is a default that this machine does not have.
fn bind(config: &ListenerConfig, address: Option<SocketAddr>) -> Result<Option<Listener>, String> {
    let ListenerConfig { url, asker, .. } = config;
    let bound = match (address, url.path()) {
        (Some(address), _) => Listener::bind_tcp(&config.name(), address),
        (None, Some(path)) => Listener::bind_unix(&config.name(), path, config.mode),
        (None, None) => return Ok(None),
    };
    match bound {
        Ok(listener) => Ok(Some(listener)),
        // A machine without IPv6 is common; one whose port is taken needs a decision.
        Err(error) if *asker == Asker::Default && is_missing(&error.source) => {
            warn!("not listening on {url}, which this machine does not have: {}", error.source);
            Ok(None)
        }
        Err(error) => Err(explain(asker, &error, address.map_or(0, |address| address.port()))),
    }
}

/// Reads all certificates of a configuration, and keeps nothing.
///
/// # Errors
/// What is wrong, one line each.
pub(crate) fn check_certificates(listeners: &[ListenerConfig]) -> Result<(), Vec<String>> {
    let problems: Vec<_> = listeners.iter().filter_map(|config| tls_door(config).err()).collect();
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn tls_door(config: &ListenerConfig) -> Result<Option<TlsDoor>, String> {
    let ListenerConfig { url, asker, tls, .. } = config;
    if !url.scheme().is_tls() {
        return Ok(None);
    }
    let certificates = tls.certificates.iter();
    let files = certificates
        .map(|(chain, key)| CertificateFiles { chain: chain.clone(), key: key.clone() });
    let alpn: &[u8] = if url.scheme().is_websocket() { b"http/1.1" } else { b"mqtt" };
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

/// What is between socket and MQTT.
fn fittings(config: &ListenerConfig, tls: Option<TlsDoor>, limits: &Limits) -> Fittings {
    let mut fittings = Fittings::default().with_handshake_timeout_ms(config.handshake_timeout_ms);
    if !config.proxy_from.is_empty() {
        fittings = fittings.with_proxies(config.proxy_from.clone());
    }
    if let Some(door) = tls {
        fittings = fittings.with_tls(door);
    }
    if config.url.scheme().is_websocket() {
        // A message may hold several packets, and clients put what they have into one.
        let message_bytes_max = limits.packet_bytes_max as usize * 2;
        let mut setup = config.websocket.clone();
        setup.first_message_bytes_max = limits.connect_packet_bytes_max as usize;
        setup.message_bytes_max = message_bytes_max;
        fittings = fittings.with_websocket(setup);
    }
    fittings
}

pub(crate) fn is_loopback(ip: IpAddr) -> bool {
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
    fn only_loopback_is_private() {
        let private = |ip: &str| is_loopback(ip.parse().unwrap());
        assert!(["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"].map(private) == [true; 4]);
        assert!(["0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1"].map(private) == [false; 4]);
    }
}
