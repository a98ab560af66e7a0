//! An authority of our own, and clients that trust it.

use std::{fs, path::Path, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ClientConfig, RootCertStore};

/// Writes `server.crt` and `server.key` (ECDSA, P-256) for 127.0.0.1; the configuration of clients that trust it and
/// never resume a session.
pub(crate) fn make(folder: &Path) -> Result<Arc<ClientConfig>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("certificates: {error}");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().map_err(|error| failed(&error))?;
    let issuer = CertifiedIssuer::self_signed(params, key).map_err(|error| failed(&error))?;
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]);
    let params = params.map_err(|error| failed(&error))?;
    let key = KeyPair::generate().map_err(|error| failed(&error))?;
    let certificate = params.signed_by(&key, &issuer).map_err(|error| failed(&error))?;
    let write = |name: &str, text: String| fs::write(folder.join(name), text);
    write("server.crt", certificate.pem()).map_err(|error| failed(&error))?;
    write("server.key", key.serialize_pem()).map_err(|error| failed(&error))?;

    let mut roots = RootCertStore::empty();
    roots.add(issuer.der().clone()).map_err(|error| failed(&error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}
