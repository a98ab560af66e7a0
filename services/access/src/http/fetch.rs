//! The way to an HTTP server.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use ureq::{
    Agent, Body, Error, Timeout,
    http::{HeaderMap, HeaderName, HeaderValue, Response, Uri, header, uri::Scheme},
    tls::{
        Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, TlsProvider, parse_pem,
    },
};

/// Fetches one document from one place. A seam: all that decides is tested without sockets.
pub trait Fetch: Send + Sync {
    /// Sends a JSON body by POST, or asks by GET if there is none, and waits for the answer.
    ///
    /// # Errors
    /// There is no answer, whatever it would have said.
    fn fetch(&self, body: Option<&[u8]>) -> Result<Fetched, FetchError>;
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The status code.
    pub status: u16,
    /// The whole body.
    pub body: Vec<u8>,
}

/// Why there is no answer. No text names more of the address than was written in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchError {
    /// It did not come in time.
    Timeout,
    /// It has more bytes than this.
    TooLarge(u64),
    /// The server cannot be reached, or is not the one it should be.
    Unreachable(Box<str>),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no answer in time"),
            Self::TooLarge(max) => write!(f, "the answer has more than {max} bytes"),
            Self::Unreachable(why) => write!(f, "not to be reached: {why}"),
        }
    }
}

/// Where a server is, and how it is spoken to.
#[derive(Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointConfig {
    /// `https://...` or `http://...`; with no user name and no password in it.
    pub url: String,
    /// Headers of every request. Nothing a client says ever goes into a header.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// A file with more of them, one `Name: value` a line, for those that are secret.
    #[serde(default)]
    pub headers_file: Option<PathBuf>,
    /// The authorities that the server's certificate is checked by, PEM; absent: those that browsers trust.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The broker's own certificate chain, PEM; absent: it shows none.
    #[serde(default)]
    pub certificate_file: Option<PathBuf>,
    /// The key of that certificate, PEM; absent: it is in the same file.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// The longest time until a connection stands, milliseconds.
    #[serde(default = "connect_timeout_ms")]
    pub connect_timeout_ms: u64,
    /// The longest time for everything, milliseconds.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
    /// The longest answer, bytes.
    #[serde(default = "answer_bytes_max")]
    pub answer_bytes_max: u64,
}

const fn connect_timeout_ms() -> u64 {
    2_000
}

const fn timeout_ms() -> u64 {
    5_000
}

const fn answer_bytes_max() -> u64 {
    65_536
}

impl EndpointConfig {
    /// This address, and nothing special.
    pub fn new(url: &str) -> Self {
        Self {
            url: url.into(),
            headers: BTreeMap::new(),
            headers_file: None,
            ca_file: None,
            certificate_file: None,
            key_file: None,
            connect_timeout_ms: connect_timeout_ms(),
            timeout_ms: timeout_ms(),
            answer_bytes_max: answer_bytes_max(),
        }
    }

    /// Whether what is sent can be read on the way: it goes to another machine without TLS.
    pub fn is_exposed(&self) -> bool {
        let Ok(uri) = self.url.parse::<Uri>() else { return false };
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let is_local = host == "localhost"
            || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
        uri.scheme() != Some(&Scheme::HTTPS) && !is_local
    }

    /// The files that it names, which a reload has to look at.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let files = [&self.headers_file, &self.ca_file, &self.certificate_file, &self.key_file];
        files.into_iter().filter_map(|file| file.as_deref())
    }
}

/// Addresses may hold a secret behind the `?`, headers anywhere.
impl fmt::Debug for EndpointConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointConfig")
            .field("url", &self.url.split('?').next().unwrap_or_default())
            .field("headers", &self.headers.keys())
            .field("headers_file", &self.headers_file)
            .field("ca_file", &self.ca_file)
            .field("certificate_file", &self.certificate_file)
            .field("key_file", &self.key_file)
            .field("connect_timeout_ms", &self.connect_timeout_ms)
            .field("timeout_ms", &self.timeout_ms)
            .field("answer_bytes_max", &self.answer_bytes_max)
            .finish()
    }
}

/// A server that is spoken to by HTTP/1.1. It follows no redirect and uses no proxy: a question goes where the
/// configuration says, and nowhere else.
pub struct Endpoint {
    agent: Agent,
    uri: Uri,
    headers: HeaderMap,
    answer_bytes_max: u64,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("host", &self.uri.host()).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Reads the files. It does not connect yet.
    ///
    /// # Errors
    /// What is wrong with the configuration, in a line.
    pub fn open(config: &EndpointConfig) -> Result<Self, String> {
        let uri = checked_uri(&config.url)?;
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            add_header(&mut headers, name, value)?;
        }
        if let Some(path) = &config.headers_file {
            add_headers_of(&mut headers, path)?;
        }
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(roots(config)?)
            .client_cert(own_certificate(config)?)
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .proxy(None)
            // A redirect comes back as the answer that it is.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent(concat!("cairnmq/", env!("CARGO_PKG_VERSION")))
            .accept("application/json")
            .timeout_connect(Some(Duration::from_millis(config.connect_timeout_ms)))
            .timeout_global(Some(Duration::from_millis(config.timeout_ms)))
            .max_response_header_size(16_384)
            // Servers close what is idle, many after five seconds; a question must not meet that.
            .max_idle_age(Duration::from_secs(4))
            .build()
            .new_agent();
        Ok(Self { agent, uri, headers, answer_bytes_max: config.answer_bytes_max })
    }
}

impl Fetch for Endpoint {
    fn fetch(&self, body: Option<&[u8]>) -> Result<Fetched, FetchError> {
        let answer = match body {
            Some(body) => {
                let mut request = self.agent.post(&self.uri);
                if let Some(headers) = request.headers_mut() {
                    headers.extend(self.headers.clone());
                }
                request.header(header::CONTENT_TYPE, "application/json").send(body)
            }
            None => {
                let mut request = self.agent.get(&self.uri);
                if let Some(headers) = request.headers_mut() {
                    headers.extend(self.headers.clone());
                }
                request.call()
            }
        };
        answer.and_then(|answer| self.read(answer)).map_err(|error| self.explain(error))
    }
}

impl Endpoint {
    fn read(&self, mut answer: Response<Body>) -> Result<Fetched, Error> {
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(self.answer_bytes_max).read_to_vec()?;
        Ok(Fetched { status, body })
    }

    /// Says what went wrong without the address, which may hold a secret.
    fn explain(&self, error: Error) -> FetchError {
        let why = match error {
            Error::Timeout(Timeout::Connect | Timeout::Resolve) => "no connection in time".into(),
            Error::Timeout(_) => return FetchError::Timeout,
            Error::BodyExceedsLimit(_) => return FetchError::TooLarge(self.answer_bytes_max),
            Error::Io(error) => error.to_string(),
            Error::HostNotFound => "its name is not known".into(),
            Error::Rustls(error) => format!("TLS: {error}"),
            Error::Tls(error) => format!("TLS: {error}"),
            Error::Protocol(error) => format!("no HTTP: {error}"),
            Error::LargeResponseHeader(..) => "the header of its answer is too long".into(),
            _ => "the request cannot be made".into(),
        };
        FetchError::Unreachable(why.into())
    }
}

fn checked_uri(url: &str) -> Result<Uri, String> {
    // The text is not repeated: whoever put a password into it does not want to see it in a log.
    let uri: Uri = url.parse().map_err(|error| format!("`url` is no address: {error}"))?;
    if uri.scheme() != Some(&Scheme::HTTP) && uri.scheme() != Some(&Scheme::HTTPS) {
        return Err("`url` has to begin with https:// or http://".into());
    }
    let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    if authority.is_empty() || authority.contains('@') {
        return Err("`url` has no host, or credentials in it; those go into `headers_file`".into());
    }
    Ok(uri)
}

fn add_header(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), String> {
    let own = [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::HOST,
        header::TRANSFER_ENCODING,
    ];
    let name = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| format!("`{}` is no name of a header", name.escape_debug()))?;
    if own.contains(&name) {
        return Err(format!("the header `{name}` is set by the broker itself"));
    }
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| format!("the value of the header `{name}` holds a control character"))?;
    value.set_sensitive(true);
    headers.append(name, value);
    Ok(())
}

fn add_headers_of(headers: &mut HeaderMap, path: &Path) -> Result<(), String> {
    let name = path.display();
    let text = fs::read_to_string(path).map_err(|error| format!("cannot read {name}: {error}"))?;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (header, value) = line
            .split_once(':')
            .ok_or_else(|| format!("{name}:{number}: a line has to be `Name: value`"))?;
        add_header(headers, header.trim(), value.trim())
            .map_err(|problem| format!("{name}:{number}: {problem}"))?;
    }
    Ok(())
}

fn roots(config: &EndpointConfig) -> Result<RootCerts, String> {
    let Some(path) = &config.ca_file else { return Ok(RootCerts::WebPki) };
    let (certificates, _) = pem(path)?;
    match certificates.is_empty() {
        // Nobody is trusted then, and no handshake ends well.
        true => Err(format!("{} holds no certificate", path.display())),
        false => Ok(RootCerts::new_with_certs(&certificates)),
    }
}

fn own_certificate(config: &EndpointConfig) -> Result<Option<ClientCert>, String> {
    let Some(path) = &config.certificate_file else {
        return match &config.key_file {
            Some(_) => Err("`key_file` says nothing without `certificate_file`".into()),
            None => Ok(None),
        };
    };
    let (certificates, key) = pem(path)?;
    let key = match &config.key_file {
        Some(path) => pem(path)?.1,
        None => key,
    };
    match key {
        Some(key) if !certificates.is_empty() => {
            Ok(Some(ClientCert::new_with_certs(&certificates, key)))
        }
        _ => Err(format!("{} holds no certificate, or there is no key to it", path.display())),
    }
}

type Pem = (Vec<Certificate<'static>>, Option<PrivateKey<'static>>);

fn pem(path: &Path) -> Result<Pem, String> {
    let name = path.display();
    let text = fs::read(path).map_err(|error| format!("cannot read {name}: {error}"))?;
    let (mut certificates, mut key) = (Vec::new(), None);
    for item in parse_pem(&text) {
        match item.map_err(|_| format!("{name} is no PEM file"))? {
            PemItem::Certificate(certificate) => certificates.push(certificate),
            PemItem::PrivateKey(found) => key = Some(found),
            _ => {}
        }
    }
    Ok((certificates, key))
}
