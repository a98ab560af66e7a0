//! Every kind of door, over loopback: what comes before MQTT, and that all is the same behind it.

mod common;

use std::{
    fs,
    io::{Read, Write},
    os::unix::{fs::symlink, net::UnixStream},
    path::Path,
    sync::Arc,
};

use codec::{Packet, ProtocolVersion};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use runtime_mio::{
    CertificateFiles, ClientCertificates, Listener, RuntimeConfig, TlsDoor, TlsSetup,
    WebSocketSetup,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use session_core::{ShardConfig, ShardMap, Transport};

use common::{connect, doors::*};

#[test]
fn messages_of_all_sizes_go_through_tls() {
    let authority = Authority::new();
    let broker = tls_broker(authority.setup(), 1);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for length in [0, 1, 16_384, 200_000, 3_000_000] {
            let mut roots = RootCertStore::empty();
            roots.add(authority.issuer.der().clone()).unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            let mut client =
                Client::new(tls(Arc::new(config), "localhost", broker.tcp())).connect("c");
            client.echo(&vec![7; length]);
        }
    }
    let origin = broker.last_origin();
    assert_eq!(
        (origin.transport, origin.server_name.as_deref()),
        (Transport::Tls, Some("localhost"))
    );
    assert!(origin.certificates.is_empty());
}

#[test]
fn a_handshake_may_come_byte_by_byte() {
    let authority = Authority::new();
    let broker = tls_broker(authority.setup(), 1);
    let stream = Slowly(broker.tcp());
    let mut client =
        Client::new(tls(authority.client(None, |_| ()), "localhost", stream)).connect("c");
    client.echo(&[7; 1000]);
}

#[test]
fn a_connection_takes_its_layers_to_another_worker() {
    let authority = Authority::new();
    let broker = tls_broker(authority.setup(), 4);
    for number in 0..16 {
        let stream = tls(authority.client(None, |_| ()), "localhost", broker.tcp());
        let mut client = Client::new(stream);
        // What is sent behind the CONNECT goes along.
        let version = client.version;
        let ping = encode(version, &Packet::PingReq);
        let both = [encode(version, &connect(version, &format!("c{number}"))), ping].concat();
        client.wire.write_all(&both).unwrap();
        assert!(matches!(client.receive(), Packet::ConnAck(_)));
        assert!(matches!(client.receive(), Packet::PingResp));
        client.echo(&[1; 5000]);
        assert_eq!(broker.last_origin().transport, Transport::Tls);
    }
}

#[test]
fn client_certificates_are_verified() {
    let authority = Authority::new();
    let (alice, mallory) = (authority.issue("alice", &[], 7), authority.issue("mallory", &[], 8));
    let stranger = Authority::new();
    let other = stranger.issue("alice", &[], 7);
    let setup = TlsSetup {
        client_certificates: ClientCertificates::Required,
        crl: vec![authority.revoke(8)],
        ..authority.setup()
    };
    let broker = tls_broker(setup.clone(), 1);
    let with =
        |broker: &Broker, files| tls(authority.client(files, |_| ()), "localhost", broker.tcp());
    let mut client = Client::new(with(&broker, Some(&alice))).connect("c");
    client.echo(b"x");
    assert_eq!(broker.last_origin().certificates.len(), 1);
    for files in [None, Some(&mallory), Some(&other)] {
        let mut stream = with(&broker, files);
        let _ =
            stream.write_all(&encode(ProtocolVersion::V311, &connect(ProtocolVersion::V311, "c")));
        assert!(is_turned_away(&mut stream), "{files:?}");
    }
    assert_eq!(broker.origins.lock().unwrap().len(), 1, "nobody else came as far as CONNECT");

    let optional = TlsSetup { client_certificates: ClientCertificates::Optional, ..setup };
    let broker = tls_broker(optional, 1);
    Client::new(with(&broker, None)).connect("c").echo(b"x");
    assert!(broker.last_origin().certificates.is_empty());
    Client::new(with(&broker, Some(&alice))).connect("c").echo(b"x");
    assert_eq!(broker.last_origin().certificates.len(), 1);
    assert!(is_turned_away(with(&broker, Some(&mallory))), "one that is shown has to be good");
}

/// A client may send certificates that have nothing to do with its own: names in them prove nothing.
#[test]
fn only_what_was_verified_is_told_of_a_chain() {
    let authority = Authority::new();
    let alice = authority.issue("alice", &[], 7);
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "middle");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().unwrap();
    let middle = CertifiedIssuer::signed_by(params, key, &authority.issuer).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "bob");
    let bobs_key = KeyPair::generate().unwrap();
    let bob = params.signed_by(&bobs_key, &middle).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "admin");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let forged = params.self_signed(&KeyPair::generate().unwrap()).unwrap();

    let setup = TlsSetup { client_certificates: ClientCertificates::Required, ..authority.setup() };
    let broker = tls_broker(setup, 1);
    let told = |chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>| {
        let mut roots = RootCertStore::empty();
        roots.add(authority.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .unwrap();
        Client::new(tls(Arc::new(config), "localhost", broker.tcp())).connect("c").echo(b"x");
        broker.last_origin().certificates
    };
    let alices = CertificateDer::from_pem_file(&alice.chain).unwrap();
    let key = PrivateKeyDer::from_pem_file(&alice.key).unwrap();
    let forged = forged.der().clone();
    assert_eq!(told(vec![alices.clone(), forged.clone()], key), [alices.to_vec()]);
    let key = PrivateKeyDer::from_pem_slice(bobs_key.serialize_pem().as_bytes()).unwrap();
    let (bob, middle) = (bob.der().clone(), middle.der().clone());
    assert_eq!(
        told(vec![bob.clone(), forged, middle.clone()], key),
        [bob.to_vec(), middle.to_vec()]
    );
}

/// A certificate by the name that is asked for; the first one else.
#[test]
fn certificates_are_chosen_by_name() {
    let authority = Authority::new();
    let mut setup = authority.setup();
    setup.certificates.push(authority.issue("a", &["a.example"], 2));
    setup.certificates.push(authority.issue("wild", &["*.b.example"], 3));
    let broker = tls_broker(setup, 1);
    let seen = |name: &str| {
        let mut stream = tls(authority.client(None, |_| ()), name, broker.tcp());
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).ok()?;
        }
        Some(stream.conn.peer_certificates().unwrap()[0].to_vec())
    };
    let der = |file: &str| CertificateDer::from_pem_file(authority.path(file)).unwrap().to_vec();
    assert_eq!(seen("a.example"), Some(der("a.crt")));
    assert_eq!(seen("x.b.example"), Some(der("wild.crt")));
    assert_eq!(seen("localhost"), Some(der("server.crt")));
    assert_eq!(seen("127.0.0.1"), Some(der("server.crt")));
    assert_eq!(seen("x.y.b.example"), None, "a wildcard is one level");
}

#[test]
fn certificates_change_while_clients_stay() {
    let authority = Authority::new();
    let setup = authority.setup();
    let door = TlsDoor::load(setup.clone()).unwrap();
    let broker = Broker::start(tcp_listener().with_tls(door.clone()), 1);
    let open = || tls(authority.client(None, |_| ()), "localhost", broker.tcp());
    let mut old = Client::new(open()).connect("old");
    let before = fs::read(&setup.certificates[0].chain).unwrap();

    fs::write(
        &setup.certificates[0].key,
        "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n",
    )
    .unwrap();
    let error = door.reload().unwrap_err().to_string();
    assert!(error.contains("server.key") && !error.contains("c2VjcmV0"), "{error}");
    Client::new(open()).connect("new").echo(b"what was in force stays so");

    authority.setup();
    assert_ne!(fs::read(&setup.certificates[0].chain).unwrap(), before);
    door.reload().unwrap();
    let mut stream = open();
    stream.conn.complete_io(&mut stream.sock).unwrap();
    let shown = stream.conn.peer_certificates().unwrap()[0].clone();
    assert_eq!(shown, CertificateDer::from_pem_file(&setup.certificates[0].chain).unwrap());
    old.echo(b"healthy clients stay");
}

/// Whatever is wrong with a key, no part of it is told.
#[test]
fn a_key_that_cannot_be_read_is_not_shown() {
    let authority = Authority::new();
    let setup = authority.setup();
    let files = &setup.certificates[0];
    let good = fs::read_to_string(&files.key).unwrap();
    let secret = good.lines().nth(1).unwrap();
    let one_line = good.replace('\n', "");
    let begin_only = good.replace("KEY-----\n", "KEY-----");
    let cut = &good[..good.len() - 30];
    let renamed = good.replace("PRIVATE KEY", "SECRET");
    let spoiled = good.replace(secret, &format!("{}!", &secret[..secret.len() - 1]));
    let bytes: Vec<String> = secret.bytes().map(|byte| byte.to_string()).collect();
    let bytes = bytes[4..12].join(", ");
    for text in [&*one_line, &begin_only, cut, &renamed, &spoiled, ""] {
        fs::write(&files.key, text).unwrap();
        let error = TlsDoor::load(setup.clone()).unwrap_err();
        for shown in [error.to_string(), format!("{error:?}")] {
            assert!(shown.contains("server.key: no private key: "), "{shown}");
            assert!(!shown.contains(&secret[4..12]) && !shown.contains(&bytes), "{shown}");
        }
    }
}

/// CVE-like: a list of revoked certificates was read at the start only (mosquitto#1877).
#[test]
fn a_new_revocation_list_holds_for_new_connections() {
    let authority = Authority::new();
    let alice = authority.issue("alice", &[], 7);
    let crl = authority.revoke(1000);
    let setup = TlsSetup {
        client_certificates: ClientCertificates::Required,
        crl: vec![authority.path("link")],
        ..authority.setup()
    };
    symlink(&crl, authority.path("link")).unwrap();
    let door = TlsDoor::load(setup).unwrap();
    let broker = Broker::start(tcp_listener().with_tls(door.clone()), 1);
    let open = || tls(authority.client(Some(&alice), |_| ()), "localhost", broker.tcp());
    Client::new(open()).connect("c").echo(b"x");
    authority.revoke(7);
    door.reload().unwrap();
    assert!(is_turned_away(open()));
}

/// `door_that_skips_a_check`: without its authority's present list, nobody can say whether a certificate is good.
#[test]
fn a_strict_door_wants_a_present_list() {
    let authority = Authority::new();
    let alice = authority.issue("alice", &[], 7);
    let stranger = Authority::named("another");
    let lists = [
        (vec![authority.revoke(1000)], true),
        (vec![stranger.revoke(1000)], false),
        (vec![authority.revoke_until(2025)], false),
    ];
    for (crl, is_present) in lists {
        for crl_strict in [false, true] {
            let setup = TlsSetup {
                client_certificates: ClientCertificates::Required,
                crl: crl.clone(),
                crl_strict,
                ..authority.setup()
            };
            let broker = tls_broker(setup, 1);
            let config = authority.client(Some(&alice), |_| ());
            let mut stream = tls(config, "localhost", broker.tcp());
            if is_present || !crl_strict {
                Client::new(stream).connect("c").echo(b"x");
            } else {
                let _ = stream.write_all(&encode(ProtocolVersion::V311, &Packet::PingReq));
                assert!(is_turned_away(&mut stream), "{crl:?}");
            }
        }
    }
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let authority = Authority::new();
    let good = authority.setup();
    let other = authority.issue("other", &["x"], 9);
    let mismatched = CertificateFiles { chain: good.certificates[0].chain.clone(), key: other.key };
    let path = |name: &str| Path::new("/nowhere").join(name);
    let missing = CertificateFiles { chain: path("chain"), key: path("key") };
    let with = |certificate: CertificateFiles| TlsSetup {
        certificates: vec![certificate],
        ..good.clone()
    };
    let required = ClientCertificates::Required;
    for (setup, expected) in [
        (with(missing), "/nowhere/chain: "),
        (with(mismatched), "do not fit"),
        (TlsSetup { certificates: Vec::new(), ..good.clone() }, "there is no certificate"),
        (
            TlsSetup { client_certificates: required, client_ca: vec![path("ca")], ..good.clone() },
            "/nowhere/ca: ",
        ),
        (
            TlsSetup {
                client_certificates: required,
                crl: vec![good.client_ca[0].clone()],
                ..good.clone()
            },
            "no revocation list",
        ),
        (
            TlsSetup { cipher_suites: vec!["RC4".into()], ..good.clone() },
            "no cipher suite RC4; known are TLS13_",
        ),
    ] {
        let error = TlsDoor::load(setup).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn a_door_may_want_the_newest_tls_and_some_suites_only() {
    let authority = Authority::new();
    let setup = TlsSetup {
        tls13_only: true,
        cipher_suites: vec!["TLS13_CHACHA20_POLY1305_SHA256".into()],
        ..authority.setup()
    };
    let broker = tls_broker(setup, 1);
    let mut stream = tls(
        authority.client(None, |config| config.alpn_protocols = vec![b"mqtt".to_vec()]),
        "localhost",
        broker.tcp(),
    );
    stream.conn.complete_io(&mut stream.sock).unwrap();
    assert_eq!(
        stream.conn.negotiated_cipher_suite().unwrap().suite(),
        rustls::CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
    );
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"mqtt"[..]));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.issuer.der().clone()).unwrap();
    let old = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    assert!(is_turned_away(tls(Arc::new(old), "localhost", broker.tcp())));
}

#[test]
fn plain_bytes_at_a_tls_door_and_broken_handshakes_are_turned_away() {
    let authority = Authority::new();
    let broker = tls_broker(authority.setup(), 1);
    let mut stream = broker.tcp();
    stream.write_all(&encode(ProtocolVersion::V311, &connect(ProtocolVersion::V311, "c"))).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.first().is_none_or(|first| *first == 21), "an alert at most: {answer:?}");
    let mut stream = broker.tcp();
    stream.write_all(&[22, 3, 1, 0, 100, 1]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(is_turned_away(stream));
    assert!(broker.origins.lock().unwrap().is_empty());
}

#[test]
fn who_does_not_finish_is_cut_off() {
    let authority = Authority::new();
    let door = TlsDoor::load(authority.setup()).unwrap();
    let listener = tcp_listener().with_tls(door).with_handshake_timeout_ms(50);
    let broker = Broker::start(listener, 1);
    assert!(is_turned_away(broker.tcp()), "it says nothing at all");
    let mut stream = broker.tcp();
    stream.write_all(&[22, 3, 1]).unwrap();
    assert!(is_turned_away(stream), "it says a little");
}

#[test]
fn a_socket_of_the_file_system_is_a_door() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    // One that is left over is replaced.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listener = Listener::bind_unix("unix", &path, 0o600).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let broker = Broker::start(listener, 2);
    Client::new(UnixStream::connect(&path).unwrap()).connect("c").echo(&[3; 100_000]);
    let origin = broker.last_origin();
    assert_eq!((origin.transport, origin.peer), (Transport::Unix, None));
    let again = Listener::bind_unix("unix", &path, 0o600).unwrap_err();
    assert_eq!(again.source.kind(), std::io::ErrorKind::AddrInUse);
    drop(broker);
    assert!(!path.exists(), "the file goes with the broker");

    let first = Listener::bind_unix("unix", &path, 0o600).unwrap();
    fs::remove_file(&path).unwrap();
    let second = Listener::bind_unix("unix", &path, 0o600).unwrap();
    drop(first);
    assert!(path.exists(), "it is another broker's by now");
    drop(second);
    let _datagrams = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    assert!(Listener::bind_unix("unix", &path, 0o600).is_err());
    assert!(path.exists(), "a socket of another kind is not ours to remove");
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    assert!(Listener::bind_unix("unix", &path, 0o600).is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn a_proxy_tells_the_address_of_its_client() {
    let broker = Broker::start(proxied("127.0.0.0/8"), 1);
    let header = b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 1883\r\n";
    let mut stream = broker.tcp();
    stream.write_all(header).unwrap();
    Client::new(stream).connect("c").echo(b"x");
    assert_eq!(broker.last_origin().peer, Some("192.0.2.7:4660".parse().unwrap()));
    // With the first packet in the same write, and cut into bytes.
    let packet = encode(ProtocolVersion::V311, &connect(ProtocolVersion::V311, "c"));
    let mut stream = Slowly(broker.tcp());
    stream.write_all(&[&header[..], &packet].concat()).unwrap();
    let mut client = Client::new(stream);
    assert!(matches!(client.receive(), Packet::ConnAck(_)));
}

#[test]
fn a_proxy_stands_before_tls() {
    let authority = Authority::new();
    let listener = proxied("127.0.0.1").with_tls(TlsDoor::load(authority.setup()).unwrap());
    let broker = Broker::start(listener, 1);
    let mut stream = broker.tcp();
    stream.write_all(b"PROXY TCP6 2001:db8::7 ::1 4660 8883\r\n").unwrap();
    Client::new(tls(authority.client(None, |_| ()), "localhost", stream))
        .connect("c")
        .echo(&[1; 100_000]);
    let origin = broker.last_origin();
    assert_eq!(
        (origin.peer, origin.transport),
        (Some("[2001:db8::7]:4660".parse().unwrap()), Transport::Tls)
    );
}

/// A door that believes everybody lets anybody be anybody.
#[test]
fn a_spoofed_or_malformed_proxy_header_ends_the_connection() {
    let header = b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 1883\r\n";
    let packet = encode(ProtocolVersion::V311, &connect(ProtocolVersion::V311, "c"));
    let untrusted = Broker::start(proxied("192.0.2.0/24"), 1);
    let mut stream = untrusted.tcp();
    let _ = stream.write_all(&[&header[..], &packet].concat());
    assert!(is_turned_away(stream), "this peer is no proxy");

    let broker = Broker::start(proxied("127.0.0.1"), 1);
    for bytes in [&packet[..], b"PROXY TCP4 1 2 3 4\r\n", &[b'P'; 300]] {
        let mut stream = broker.tcp();
        let _ = stream.write_all(bytes);
        assert!(is_turned_away(stream), "{bytes:?}");
    }
    // Where no proxy is expected, its header is no MQTT.
    let plain = Broker::start(tcp_listener(), 1);
    let mut stream = plain.tcp();
    stream.write_all(&[&header[..], &packet].concat()).unwrap();
    assert!(is_turned_away(stream));
    for broker in [untrusted, broker, plain] {
        assert!(broker.origins.lock().unwrap().is_empty());
    }
}

#[test]
fn mqtt_goes_through_websocket() {
    let broker = Broker::start(tcp_listener().with_websocket(WebSocketSetup::default()), 1);
    for length in [0, 1, 999, 100_000, 1_000_000] {
        let mut client = Client::new(Framed::open(broker.tcp(), |_| ()).unwrap()).connect("c");
        client.echo(&vec![7; length]);
    }
    assert_eq!(broker.last_origin().transport, Transport::WebSocket);
}

#[test]
fn mqtt_goes_through_websocket_and_tls_to_any_worker() {
    let authority = Authority::new();
    let listener = tcp_listener()
        .with_tls(TlsDoor::load(authority.setup()).unwrap())
        .with_websocket(WebSocketSetup::default());
    let broker = Broker::start(listener, 3);
    for number in 0..8 {
        let stream = tls(
            authority.client(None, |config| config.alpn_protocols = Vec::new()),
            "localhost",
            broker.tcp(),
        );
        let mut client =
            Client::new(Framed::open(stream, |_| ()).unwrap()).connect(&format!("c{number}"));
        client.echo(&[7; 70_000]);
        assert_eq!(broker.last_origin().transport, Transport::WebSocketTls);
    }
}

#[test]
fn a_websocket_is_closed_with_words() {
    let broker = Broker::start(tcp_listener().with_websocket(WebSocketSetup::default()), 1);
    let mut socket = Framed::open(broker.tcp(), |_| ()).unwrap().0;
    socket.send(tungstenite::Message::Text("no MQTT".into())).unwrap();
    let Ok(tungstenite::Message::Close(Some(frame))) = socket.read() else { panic!("no close") };
    assert_eq!(u16::from(frame.code), 1003);
    let mut socket = Framed::open(broker.tcp(), |_| ()).unwrap().0;
    socket.close(None).unwrap();
    while socket.read().is_ok() {}
    assert!(broker.origins.lock().unwrap().is_empty());
}

#[test]
fn pages_and_proxies_are_believed_as_the_setup_says() {
    let setup = WebSocketSetup {
        origins: vec!["https://example.org".into()],
        forwarded_from: vec!["127.0.0.1".parse().unwrap()],
        ..WebSocketSetup::default()
    };
    let broker = Broker::start(tcp_listener().with_websocket(setup), 1);
    let opened = Framed::open(broker.tcp(), |headers| {
        headers.insert("Origin", "https://evil.org".parse().unwrap());
    });
    assert!(opened.is_err_and(|error| error.contains("403")));
    let stream = Framed::open(broker.tcp(), |headers| {
        headers.insert("Origin", "https://example.org".parse().unwrap());
        headers.insert("X-Forwarded-For", "192.0.2.7".parse().unwrap());
    });
    Client::new(stream.unwrap()).connect("c").echo(b"x");
    assert_eq!(broker.last_origin().peer.unwrap().ip().to_string(), "192.0.2.7");
}

#[test]
fn a_doorkeeper_is_asked_once_the_true_address_is_known() {
    let authority = Authority::new();
    let tls_door = || TlsDoor::load(authority.setup()).unwrap();
    for (listener, header, expected) in [
        (tcp_listener(), "", "door Some(127.0.0.1)"),
        (
            proxied("127.0.0.1").with_tls(tls_door()),
            "PROXY TCP4 192.0.2.7 10.0.0.1 4660 1883\r\n",
            "door Some(192.0.2.7)",
        ),
    ] {
        let counter = Arc::new(Counter { max: 1, ..Counter::default() });
        let map = ShardMap::new(2, 2);
        let shards = map.all().map(|id| ShardConfig::new(id, map)).collect();
        let mut config = RuntimeConfig::new(shards, vec![listener]);
        config.doorkeeper = Some(counter.clone());
        let running = runtime_mio::start(config).unwrap();
        let broker = Broker { running: Some(running), origins: Arc::default() };
        let open = || {
            let mut stream = broker.tcp();
            stream.write_all(header.as_bytes()).unwrap();
            if header.is_empty() {
                Client::new(stream)
            } else {
                Client::new(tls(authority.client(None, |_| ()), "localhost", stream))
            }
        };
        let mut first = open().connect("first");
        first.echo(b"x");
        assert_eq!(counter.seen.lock().unwrap().1, [expected]);
        let mut stream = broker.tcp();
        stream.write_all(header.as_bytes()).unwrap();
        assert!(is_turned_away(stream), "one is enough");
        drop(first);
        drop(broker);
        let seen = counter.seen.lock().unwrap();
        assert_eq!((seen.0, seen.1.len()), (0, 2), "who came has left, wherever it was");
        assert_eq!(*counter.gone.lock().unwrap(), [expected], "and who has left is who came");
    }
}
