//! One listener of the configuration file.

use std::path::PathBuf;

use runtime_mio::WebSocketSetup;
use session_core::{AddressRange, ClientLimits};

use crate::address::{Asker, ListenUrl, Scheme};
use settings::{Choice, Section, Span};

/// Where clients connect, and what holds for those who do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenerConfig {
    /// The address and how bytes travel.
    pub(crate) url: ListenUrl,
    /// Who wants it.
    pub(crate) asker: Asker,
    /// What rules and the log call it; absent: its address.
    pub(crate) name: Option<String>,
    /// Certificates and what is asked of clients; with `tls://` and `wss://`.
    pub(crate) tls: TlsConfig,
    /// What HTTP requests have to say; with `ws://` and `wss://`.
    pub(crate) websocket: WebSocketSetup,
    /// Proxies that tell the client's address by the PROXY protocol; everybody else is turned away. Empty: the
    /// protocol is not spoken.
    pub(crate) proxy_from: Vec<AddressRange>,
    /// Permissions of the socket file; with `unix://`.
    pub(crate) mode: u32,
    /// Providers that may let clients in here; absent: all.
    pub(crate) providers: Option<Vec<String>>,
    /// Connections at a time; absent: no bound of its own.
    pub(crate) connections_max: Option<u32>,
    /// How long PROXY header, TLS and WebSocket may take together, milliseconds.
    pub(crate) handshake_timeout_ms: u64,
    /// Limits of each client that connects here; absent: those of everybody.
    pub(crate) client: Option<ClientLimits>,
}

/// Certificates, and what is asked of clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsConfig {
    /// Chain and key of each certificate; the first is for who asks for no name that another one has.
    pub(crate) certificates: Vec<(PathBuf, PathBuf)>,
    /// Whether clients show a certificate.
    pub(crate) client_certificates: ClientCertificates,
    /// Authorities that may have signed it.
    pub(crate) client_ca: Vec<PathBuf>,
    /// Lists of those that are revoked.
    pub(crate) crl: Vec<PathBuf>,
    /// Whether a list has to be there, and to be the present one.
    pub(crate) crl_strict: bool,
    /// The oldest version that is spoken.
    pub(crate) minimum: TlsVersion,
    /// Cipher suites by their names, best first; empty: all that are safe.
    pub(crate) cipher_suites: Vec<String>,
}

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClientCertificates(pub(crate) runtime_mio::ClientCertificates);

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TlsVersion {
    /// 1.2 and 1.3.
    #[default]
    V12,
    /// 1.3 only.
    V13,
}

impl Choice for ClientCertificates {
    const CHOICES: &'static [(&'static str, Self)] = &[
        ("off", Self(runtime_mio::ClientCertificates::Off)),
        ("optional", Self(runtime_mio::ClientCertificates::Optional)),
        ("required", Self(runtime_mio::ClientCertificates::Required)),
    ];
}

impl ClientCertificates {
    /// As the configuration calls it.
    pub(crate) fn name(self) -> &'static str {
        let known = Self::CHOICES.iter().find(|(_, choice)| *choice == self);
        known.map_or("", |(name, _)| name)
    }
}

impl Choice for TlsVersion {
    const CHOICES: &'static [(&'static str, Self)] = &[("1.2", Self::V12), ("1.3", Self::V13)];
}

impl ListenerConfig {
    /// A listener without options.
    pub(crate) fn new(url: ListenUrl, asker: Asker) -> Self {
        Self {
            url,
            asker,
            name: None,
            tls: TlsConfig::default(),
            websocket: WebSocketSetup::default(),
            proxy_from: Vec::new(),
            mode: 0o660,
            providers: None,
            connections_max: None,
            handshake_timeout_ms: 10_000,
            client: None,
        }
    }

    /// What rules and the log call it.
    pub(crate) fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.url.to_string())
    }

    /// Reads a `[[listener]]`; `None` if it has no address.
    pub(super) fn read(section: &mut Section<'_, '_>) -> Option<Self> {
        let url = section.required_string("url");
        let name = section.string("name").map(|(name, _)| name);
        let mut read = Self::new(ListenUrl::defaults()[0].clone(), Asker::Default);
        read.name = name;
        read.read_doors(section);
        read.read_tls(section);
        let (text, span) = url?;
        match text.parse() {
            Ok(url) => read.url = url,
            Err(error) => {
                section.problem(&span, error);
                return None;
            }
        }
        read.asker = Asker::Place(section.place(&span));
        read.judge(section, &span);
        Some(read)
    }

    fn read_doors(&mut self, section: &mut Section<'_, '_>) {
        section.string_into("path", &mut self.websocket.path);
        self.websocket.origins = section.strings("origins").into_iter().map(|(o, _)| o).collect();
        section.boolean("require_origin", &mut self.websocket.require_origin);
        self.websocket.forwarded_from = ranges(section, "forwarded_from");
        self.proxy_from = ranges(section, "proxy_from");
        super::operate::read_mode(section, &mut self.mode);
        let names = section.strings("providers").into_iter().map(|(name, _)| name);
        self.providers = Some(names.collect()).filter(|_| section.has("providers"));
        let mut connections_max = 0;
        section.number("connections_max", 1, u32::MAX, &mut connections_max);
        self.connections_max = (connections_max > 0).then_some(connections_max);
        self.client = super::read_client_limits(section);
        section.number("handshake_timeout_ms", 1, 3_600_000, &mut self.handshake_timeout_ms);
    }

    fn read_tls(&mut self, section: &mut Section<'_, '_>) {
        let pair = |section: &mut Section<'_, '_>| {
            let chain = section.string("certificate").map(|(path, _)| PathBuf::from(path));
            let key = section.string("key").map(|(path, _)| PathBuf::from(path));
            chain.zip(key)
        };
        let tls = &mut self.tls;
        tls.certificates.extend(pair(section));
        section.tables("sni", |more| tls.certificates.extend(pair(more)));
        section.choice("client_certificates", &mut tls.client_certificates);
        tls.client_ca = paths(section, "client_ca");
        tls.crl = paths(section, "crl");
        section.boolean("crl_strict", &mut tls.crl_strict);
        section.choice("tls_minimum", &mut tls.minimum);
        tls.cipher_suites = section.strings("cipher_suites").into_iter().map(|(s, _)| s).collect();
    }

    /// What fits the address and what does not.
    fn judge(&self, section: &Section<'_, '_>, span: &Span) {
        let scheme = self.url.scheme();
        let only = |keys: &[&str], schemes: &str| {
            for key in keys.iter().filter(|key| section.has(key)) {
                let problem = format!("`{key}` is for {schemes}, and this is {}", self.url);
                section.problem(span, problem);
            }
        };
        if !scheme.is_tls() {
            let keys = [
                "certificate",
                "key",
                "sni",
                "client_certificates",
                "client_ca",
                "crl",
                "crl_strict",
                "tls_minimum",
                "cipher_suites",
            ];
            only(&keys, "tls:// and wss://");
        } else if self.tls.certificates.is_empty() {
            section.problem(
                span,
                format!("{} needs `certificate` and `key`, the paths of two PEM files", self.url),
            );
        }
        if self.tls.client_certificates != ClientCertificates::default()
            && self.tls.client_ca.is_empty()
        {
            section.problem(
                span,
                "`client_certificates` needs `client_ca`, the PEM files of who may have signed them",
            );
        }
        if self.tls.crl_strict && self.tls.crl.is_empty() {
            section.problem(span, "`crl_strict` needs `crl`, the PEM files of revocation lists");
        }
        if !scheme.is_websocket() {
            let keys = ["path", "origins", "require_origin", "forwarded_from"];
            only(&keys, "ws:// and wss://");
        }
        if scheme == Scheme::Unix {
            only(&["proxy_from"], "listeners whose peers have addresses");
        } else {
            only(&["mode"], "unix://");
        }
    }
}

fn paths(section: &mut Section<'_, '_>, key: &'static str) -> Vec<PathBuf> {
    section.strings(key).into_iter().map(|(path, _)| path.into()).collect()
}

/// A list of address ranges.
pub(super) fn ranges(section: &mut Section<'_, '_>, key: &'static str) -> Vec<AddressRange> {
    let mut ranges = Vec::new();
    for (text, span) in section.strings(key) {
        match text.parse() {
            Ok(range) => ranges.push(range),
            Err(error) => section.problem(&span, error),
        }
    }
    ranges
}
