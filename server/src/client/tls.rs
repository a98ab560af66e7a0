//! TLS towards the broker: whom to trust, and who connects.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};

use super::{args::ConnectionArguments, link::Plain};

/// Shakes hands with `host`, so that what is wrong with a certificate is said now, and not with the first packet.
///
/// # Errors
/// A file cannot be used, or one side does not trust the other.
pub(super) fn secure(
    plain: Plain,
    host: &str,
    protocol: &[u8],
    arguments: &ConnectionArguments,
) -> Result<StreamOwned<ClientConnection, Plain>, String> {
    let mut config = config(arguments)?;
    config.alpn_protocols = vec![protocol.to_vec()];
    let name = ServerName::try_from(host.to_owned()).map_err(|error| format!("{host}: {error}"))?;
    let connection =
        ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
    let mut stream = StreamOwned::new(connection, plain);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).map_err(|error| {
            let hint = match (&arguments.cafile, arguments.insecure) {
                (None, false) => "; --cafile says whom to trust",
                _ => "",
            };
            format!("no TLS with {host}: {error}{hint}")
        })?;
    }
    Ok(stream)
}

fn config(arguments: &ConnectionArguments) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match arguments.insecure {
        true => builder.dangerous().with_custom_certificate_verifier(Arc::new(Credulous(provider))),
        false => builder.with_root_certificates(roots(arguments.cafile.as_deref())?),
    };
    let (Some(chain), Some(key)) = (&arguments.cert, &arguments.key) else {
        return Ok(builder.with_no_client_auth());
    };
    let of = |path: &Path, error: &dyn std::fmt::Display| {
        format!("cannot use {}: {error}", path.display())
    };
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(chain).map_err(|error| of(chain, &error))?.collect();
    let certificates = certificates.map_err(|error| of(chain, &error))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| of(key, &error))?;
    builder.with_client_auth_cert(certificates, secret).map_err(|error| of(key, &error))
}

fn roots(cafile: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let Some(path) = cafile else {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        return Ok(roots);
    };
    let name = path.display();
    let all = CertificateDer::pem_file_iter(path)
        .map_err(|error| format!("cannot read {name}: {error}"))?;
    for one in all {
        let one = one.map_err(|error| format!("{name}: {error}"))?;
        roots.add(one).map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(roots)
}

/// Believes any certificate, and still checks that the broker has its key.
#[derive(Debug)]
struct Credulous(Arc<CryptoProvider>);

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
