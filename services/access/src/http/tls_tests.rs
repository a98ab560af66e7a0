//! The adapter with TLS: who is believed, and who is shown what.

use std::{fs, io::Write, path::PathBuf, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::PrivateKeyDer,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tempfile::TempDir;

use super::{
    server::{Server, request, response},
    *,
};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

struct Pair {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

fn issued(authority: &Authority, name: &str) -> Pair {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    Pair { certificate: params.signed_by(&key, authority).unwrap(), key }
}

/// A server that accepts every question which comes by TLS; with an authority, clients have to show a
/// certificate of it.
fn server(pair: &Pair, clients: Option<&Authority>) -> Server {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            let verifier: Arc<dyn ClientCertVerifier> = verifier.build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::try_from(pair.key.serialize_der()).unwrap();
    let config = builder.with_single_cert(vec![pair.certificate.der().clone()], key).unwrap();
    let config = Arc::new(config);
    Server::start(move |stream| {
        let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        if request(&mut stream).is_some() {
            let answer = response("200 OK", "", r#"{"result": "accept"}"#);
            let _ = stream.write_all(answer.as_bytes());
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    })
}

fn file(directory: &TempDir, name: &str, text: &str) -> Option<PathBuf> {
    let path = directory.path().join(name);
    fs::write(&path, text).unwrap();
    Some(path)
}

fn asked(server: &Server, config: EndpointConfig) -> Verdict {
    let url = format!("https://127.0.0.1:{}/", server.address.port());
    let endpoint = EndpointConfig { url, timeout_ms: 60_000, connect_timeout_ms: 60_000, ..config };
    let provider = HttpProvider::open("http", &endpoint, HttpConfig::default()).unwrap();
    provider.begin(Time(0), &tests::attempt("c1"))
}

fn failure(verdict: Verdict) -> String {
    match verdict {
        Verdict::Failed { why } => why.into(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_of_the_configured_authority_is_believed_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, theirs) = (authority(), authority());
    let config = |name, authority: &Authority| EndpointConfig {
        ca_file: file(&directory, name, &authority.pem()),
        ..EndpointConfig::new("")
    };
    let server = server(&issued(&ours, "127.0.0.1"), None);
    assert!(matches!(asked(&server, config("ours", &ours)), Verdict::Accept(_)));
    for config in [config("theirs", &theirs), EndpointConfig::new("")] {
        let why = failure(asked(&server, config));
        assert!(why.contains("TLS") || why.contains("certificate"), "{why}");
    }
}

#[test]
fn a_server_with_a_certificate_of_another_name_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let ours = authority();
    let config =
        EndpointConfig { ca_file: file(&directory, "ca", &ours.pem()), ..EndpointConfig::new("") };
    let why = failure(asked(&server(&issued(&ours, "other.example"), None), config));
    assert!(why.contains("certificate"), "{why}");
}

#[test]
fn the_broker_shows_its_certificate_if_it_has_one() {
    let directory = tempfile::tempdir().unwrap();
    let ours = authority();
    let own = issued(&ours, "broker");
    let server = server(&issued(&ours, "127.0.0.1"), Some(&ours));
    let without =
        EndpointConfig { ca_file: file(&directory, "ca", &ours.pem()), ..EndpointConfig::new("") };
    let apart = EndpointConfig {
        certificate_file: file(&directory, "certificate", &own.certificate.pem()),
        key_file: file(&directory, "key", &own.key.serialize_pem()),
        ..without.clone()
    };
    let both = own.certificate.pem() + &own.key.serialize_pem();
    let together =
        EndpointConfig { certificate_file: file(&directory, "both", &both), ..without.clone() };
    failure(asked(&server, without));
    assert!(matches!(asked(&server, apart), Verdict::Accept(_)));
    assert!(matches!(asked(&server, together), Verdict::Accept(_)));
}
