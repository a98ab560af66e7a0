//! TLS: certificates, keys and authorities from files, and what new connections begin with.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    RootCertStore, ServerConfig, ServerConnection,
    crypto::{CryptoProvider, ring},
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime,
    pem::{self, PemObject},
};

/// Sessions that clients may resume without a full handshake, for each listener.
const RESUMABLE_MAX: usize = 1024;

/// The files of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, and those between it and its authority (PEM).
    pub chain: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
}

/// Whether clients show certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They are not asked.
    #[default]
    Off,
    /// They are asked, and come in without.
    Optional,
    /// They do not come in without.
    Required,
}

/// What a TLS listener is made of.
#[derive(Clone, Debug, Default)]
pub struct TlsSetup {
    /// The first is for clients that ask for no name that another one has.
    pub certificates: Vec<CertificateFiles>,
    /// Whether clients show certificates.
    pub client_certificates: ClientCertificates,
    /// Authorities that may have signed them (PEM).
    pub client_ca: Vec<PathBuf>,
    /// Lists of those that are revoked (PEM).
    pub crl: Vec<PathBuf>,
    /// A certificate whose authority has no list in `crl`, or one that should have been replaced by now, is refused. If
    /// not, what is on no list is good, and so it always is without any list.
    pub crl_strict: bool,
    /// TLS 1.2 is not spoken.
    pub tls13_only: bool,
    /// Cipher suites by name, such as `TLS13_AES_128_GCM_SHA256`, best first; empty: all that are known.
    pub cipher_suites: Vec<String>,
    /// Protocols that are agreed on (ALPN) with clients that name any.
    pub alpn: Vec<Vec<u8>>,
}

impl TlsSetup {
    /// All files, so that somebody can watch them.
    pub fn files(&self) -> Vec<PathBuf> {
        let pairs = self.certificates.iter().flat_map(|files| [&files.chain, &files.key]);
        pairs.chain(&self.client_ca).chain(&self.crl).cloned().collect()
    }
}

/// Why TLS cannot be spoken with these files. No content of a file is in it.
#[derive(Debug)]
pub struct TlsError(String);

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TlsError {}

/// What new connections of a listener begin with. Clones are the same door.
#[derive(Clone)]
pub struct TlsDoor {
    setup: Arc<TlsSetup>,
    loaded: Arc<RwLock<Loaded>>,
}

/// What the files hold.
#[derive(Clone)]
struct Loaded {
    config: Arc<ServerConfig>,
    /// Whom client certificates are verified by; absent if none is asked for.
    authorities: Option<Arc<RootCertStore>>,
}

impl fmt::Debug for TlsDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsDoor").field("setup", &self.setup).finish_non_exhaustive()
    }
}

impl TlsDoor {
    /// Reads all files.
    ///
    /// # Errors
    /// One cannot be read, or does not hold what it should.
    pub fn load(setup: TlsSetup) -> Result<Self, TlsError> {
        let loaded = Arc::new(RwLock::new(load(&setup)?));
        Ok(Self { setup: Arc::new(setup), loaded })
    }

    /// Reads all files again, for connections that begin from now on. Those that are there stay as they are.
    ///
    /// # Errors
    /// As [`TlsDoor::load`]; then everything is as it was.
    pub fn reload(&self) -> Result<(), TlsError> {
        let loaded = load(&self.setup)?;
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    /// The files that are read.
    pub fn files(&self) -> Vec<PathBuf> {
        self.setup.files()
    }

    /// A connection that begins.
    pub(crate) fn connection(&self) -> Result<Tls, rustls::Error> {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Loaded { config, authorities } = loaded;
        Ok(Tls { connection: ServerConnection::new(config)?, authorities })
    }
}

/// TLS of one connection.
pub(crate) struct Tls {
    pub(super) connection: ServerConnection,
    authorities: Option<Arc<RootCertStore>>,
}

impl Tls {
    /// The client's certificate and those between it and its authority, as they were verified.
    ///
    /// A client may send more than that, and nobody looks at the rest: whatever name stands there proves nothing.
    pub(super) fn verified_chain(&self) -> Vec<CertificateDer<'_>> {
        let shown = self.connection.peer_certificates().unwrap_or_default();
        let (Some(authorities), [own, others @ ..]) = (&self.authorities, shown) else {
            return Vec::new();
        };
        let mut chain = vec![CertificateDer::from(own.as_ref())];
        if others.is_empty() {
            return chain;
        }
        // The handshake has verified that there is a way; this finds which.
        let Ok(leaf) = webpki::EndEntityCert::try_from(own) else { return chain };
        let way = leaf.verify_for_usage(
            ring::default_provider().signature_verification_algorithms.all,
            &authorities.roots,
            others,
            UnixTime::now(),
            webpki::KeyUsage::client_auth(),
            None,
            None,
        );
        if let Ok(way) = way {
            let between = way.intermediate_certificates().map(|one| one.der().to_vec());
            chain.extend(between.map(CertificateDer::from));
        }
        chain
    }
}

fn load(setup: &TlsSetup) -> Result<Loaded, TlsError> {
    let authorities = match setup.client_certificates {
        ClientCertificates::Off => None,
        _ => Some(Arc::new(authorities(setup)?)),
    };
    let config = Arc::new(server_config(setup, authorities.as_ref())?);
    Ok(Loaded { config, authorities })
}

fn server_config(
    setup: &TlsSetup,
    authorities: Option<&Arc<RootCertStore>>,
) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(provider(&setup.cipher_suites)?);
    let versions: &[_] = if setup.tls13_only { &[&TLS13] } else { &[&TLS13, &TLS12] };
    let resolver = Arc::new(ByName::load(setup, &provider)?);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|error| TlsError(format!("these cipher suites cannot be used: {error}")))?;
    let builder = match authorities {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            builder.with_client_cert_verifier(verifier(setup, Arc::clone(roots), provider)?)
        }
    };
    let mut config = builder.with_cert_resolver(resolver);
    config.alpn_protocols.clone_from(&setup.alpn);
    config.session_storage = rustls::server::ServerSessionMemoryCache::new(RESUMABLE_MAX);
    // One ticket is enough, and a resumed session would keep what a list has revoked meanwhile.
    config.send_tls13_tickets = usize::from(setup.client_certificates == ClientCertificates::Off);
    if setup.client_certificates != ClientCertificates::Off {
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    }
    Ok(config)
}

fn provider(suites: &[String]) -> Result<CryptoProvider, TlsError> {
    let mut provider = ring::default_provider();
    if suites.is_empty() {
        return Ok(provider);
    }
    let known = std::mem::take(&mut provider.cipher_suites);
    for name in suites {
        let named = known.iter().find(|suite| format!("{:?}", suite.suite()) == *name);
        let suite = named.ok_or_else(|| {
            let names: Vec<_> = known.iter().map(|suite| format!("{:?}", suite.suite())).collect();
            TlsError(format!("there is no cipher suite {name}; known are {}", names.join(", ")))
        })?;
        provider.cipher_suites.push(*suite);
    }
    Ok(provider)
}

fn authorities(setup: &TlsSetup) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for path in &setup.client_ca {
        for der in certificates(path)? {
            roots.add(der).map_err(|error| wrong(path, &format!("no authority: {error}")))?;
        }
    }
    Ok(roots)
}

fn verifier(
    setup: &TlsSetup,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    let mut lists = Vec::new();
    for path in &setup.crl {
        let read = CertificateRevocationListDer::pem_file_iter(path);
        let read = read.and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let read = read.map_err(|error| wrong(path, &reason(&error)))?;
        if read.is_empty() {
            return Err(wrong(path, "there is no revocation list in it"));
        }
        lists.extend(read);
    }
    let builder = WebPkiClientVerifier::builder_with_provider(roots, provider).with_crls(lists);
    let mut builder = match setup.crl_strict {
        true => builder.enforce_revocation_expiration(),
        false => builder.allow_unknown_revocation_status(),
    };
    if setup.client_certificates == ClientCertificates::Optional {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|error| TlsError(format!("client certificates: {error}")))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = read.map_err(|error| wrong(path, &reason(&error)))?;
    if read.is_empty() {
        return Err(wrong(path, "there is no certificate in it"));
    }
    Ok(read)
}

fn wrong(path: &Path, why: &str) -> TlsError {
    TlsError(format!("{}: {why}", path.display()))
}

/// What is wrong with a PEM file, in words that hold nothing of it: the library's would show a line, and a key whose line
/// breaks were lost is one line.
fn reason(error: &pem::Error) -> String {
    match error {
        pem::Error::Io(error) => error.to_string(),
        pem::Error::MissingSectionEnd { .. } => "a section has no END line".to_owned(),
        pem::Error::IllegalSectionStart { .. } => {
            "a BEGIN line does not end with five dashes".to_owned()
        }
        pem::Error::Base64Decode(_) => "a section is not Base64".to_owned(),
        pem::Error::NoItemsFound => "there is none in it".to_owned(),
        _ => "it is no PEM file".to_owned(),
    }
}

/// Chooses a certificate by the name that a client asks for.
#[derive(Debug)]
struct ByName {
    certificates: Vec<Arc<CertifiedKey>>,
}

impl ByName {
    fn load(setup: &TlsSetup, provider: &CryptoProvider) -> Result<Self, TlsError> {
        let mut all = Vec::new();
        for CertificateFiles { chain, key } in &setup.certificates {
            let chain_der = certificates(chain)?;
            let key_der = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| wrong(key, &format!("no private key: {}", reason(&error))))?;
            let certified =
                CertifiedKey::from_der(chain_der, key_der, provider).map_err(|error| {
                    TlsError(format!(
                        "{} and {} do not fit: {error}",
                        chain.display(),
                        key.display()
                    ))
                })?;
            all.push(Arc::new(certified));
        }
        match all.is_empty() {
            true => Err(TlsError("there is no certificate".to_owned())),
            false => Ok(Self { certificates: all }),
        }
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let named = name.and_then(|name| {
            self.certificates.iter().find(|certified| {
                let leaf = certified.cert.first();
                leaf.and_then(|der| webpki::EndEntityCert::try_from(der).ok())
                    .is_some_and(|leaf| leaf.verify_is_valid_for_subject_name(&name).is_ok())
            })
        });
        named.or(self.certificates.first()).cloned()
    }
}
