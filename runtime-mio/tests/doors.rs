//! Every kind of door, over loopback: what comes before MQTT, and that all is the same behind it.

mod common;

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::{fs::symlink, net::UnixStream},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use codec::{Framer, Packet, ProtocolVersion, QoS, Role};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use runtime_mio::{
    CertificateFiles, ClientCertificates, Doorkeeper, Listener, Running, RuntimeConfig, Services,
    TlsDoor, TlsSetup, WebSocketSetup,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use session_core::{
    Answer, Authentication, Origin, Principal, Request, ShardConfig, ShardMap, Ticket, Transport,
};

use common::{connect, publish, subscribe};

/// What reads and writes: a socket, or TLS on one.
trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

/// An MQTT client on anything.
struct Client {
    wire: Box<dyn Wire>,
    framer: Framer,
    input: Vec<u8>,
    version: ProtocolVersion,
}

impl Client {
    fn new(wire: impl Wire + 'static) -> Self {
        let framer = Framer::new(Role::Client(ProtocolVersion::V311), u32::MAX, u32::MAX);
        Self { wire: Box::new(wire), framer, input: Vec::new(), version: ProtocolVersion::V311 }
    }

    fn send(&mut self, packet: &Packet) {
        self.wire.write_all(&encode(self.version, packet)).unwrap();
        self.wire.flush().unwrap();
    }

    fn receive(&mut self) -> Packet {
        loop {
            let mut input = &*self.input;
            let found = self.framer.decode(&mut input).unwrap();
            let rest = input.len();
            self.input.drain(..self.input.len() - rest);
            if let Some(packet) = found {
                return packet;
            }
            let mut buffer = [0; 65_536];
            let count = self.wire.read(&mut buffer).expect("bytes");
            assert!(count > 0, "the connection ended");
            self.input.extend_from_slice(&buffer[..count]);
        }
    }

    fn connect(mut self, client_id: &str) -> Self {
        self.send(&connect(self.version, client_id));
        assert!(matches!(self.receive(), Packet::ConnAck(_)));
        self
    }

    /// Subscribes, publishes to itself, and gets it back.
    fn echo(&mut self, payload: &[u8]) {
        self.send(&subscribe("t", QoS::AtLeastOnce));
        assert!(matches!(self.receive(), Packet::SubAck(_)));
        self.send(&publish("t", payload, 0));
        let Packet::Publish(got) = self.receive() else { panic!("no PUBLISH") };
        assert!(got.message.payload() == payload, "{} bytes", got.message.payload().len());
    }
}

fn encode(version: ProtocolVersion, packet: &Packet) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes);
    bytes
}

/// A broker with one listener. It tells what it has learned of where clients come from.
struct Broker {
    running: Option<Running>,
    origins: Arc<Mutex<Vec<Origin>>>,
}

struct Asked(Arc<Mutex<Vec<Origin>>>);

impl Services for Asked {
    fn ask(&mut self, _: Ticket, request: Box<Request>) -> Option<Box<Answer>> {
        if let Request::Authenticate { origin, .. } = *request {
            self.0.lock().unwrap().push(*origin);
        }
        Some(Box::new(Answer::Accept { principal: Principal::default(), data: None }))
    }
}

impl Broker {
    fn start(listener: Listener, workers: u16) -> Self {
        let map = ShardMap::new(workers, 2);
        let shard = |id| {
            let mut config = ShardConfig::new(id, map);
            config.authentication = Authentication::Ask;
            config.limits.packet_bytes_max = 8 << 20;
            config
        };
        let mut config = RuntimeConfig::new(map.all().map(shard).collect(), vec![listener]);
        let origins = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&origins);
        config.services = Box::new(move |_, _| Box::new(Asked(Arc::clone(&told))));
        Self { running: Some(runtime_mio::start(config).unwrap()), origins }
    }

    fn address(&self) -> SocketAddr {
        self.running.as_ref().unwrap().local_addrs()[0].unwrap()
    }

    fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    fn last_origin(&self) -> Origin {
        self.origins.lock().unwrap().last().expect("a CONNECT").clone()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.shutdown();
            running.join().unwrap();
        }
    }
}

fn tcp_listener() -> Listener {
    Listener::bind_tcp("door", "127.0.0.1:0".parse().unwrap()).unwrap()
}

/// Whether the broker hangs up without a word of MQTT.
fn is_turned_away(mut stream: impl Read) -> bool {
    let mut rest = Vec::new();
    // A reset is as good as an end.
    let _ = stream.read_to_end(&mut rest);
    rest.is_empty()
}

/// An authority and its files.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { issuer, folder: tempfile::tempdir().unwrap() };
        fs::write(authority.path("ca.pem"), authority.issuer.pem()).unwrap();
        authority
    }

    fn path(&self, file: &str) -> std::path::PathBuf {
        self.folder.path().join(file)
    }

    fn issue(&self, file: &str, names: &[&str], serial: u64) -> CertificateFiles {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, file);
        params.serial_number = Some(SerialNumber::from(serial));
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = CertificateFiles {
            chain: self.path(&format!("{file}.crt")),
            key: self.path(&format!("{file}.key")),
        };
        fs::write(&files.chain, certificate.pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    fn revoke(&self, serial: u64) -> std::path::PathBuf {
        let date = rcgen::date_time_ymd(2024, 1, 1);
        let list = CertificateRevocationListParams {
            this_update: date,
            next_update: rcgen::date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(serial),
                revocation_time: date,
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        let path = self.path("crl.pem");
        fs::write(&path, list.signed_by(&self.issuer).unwrap().pem().unwrap()).unwrap();
        path
    }

    fn setup(&self) -> TlsSetup {
        TlsSetup {
            certificates: vec![self.issue("server", &["localhost", "127.0.0.1"], 1)],
            client_ca: vec![self.path("ca.pem")],
            alpn: vec![b"mqtt".to_vec()],
            ..TlsSetup::default()
        }
    }

    /// TLS on a stream; `files` are shown to a server that asks.
    fn client(
        &self,
        files: Option<&CertificateFiles>,
        edit: impl FnOnce(&mut ClientConfig),
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match files {
            None => builder.with_no_client_auth(),
            Some(files) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_file(&files.chain).unwrap()],
                    PrivateKeyDer::from_pem_file(&files.key).unwrap(),
                )
                .unwrap(),
        };
        edit(&mut config);
        Arc::new(config)
    }
}

fn tls<S: Read + Write>(
    config: Arc<ClientConfig>,
    name: &str,
    stream: S,
) -> StreamOwned<ClientConnection, S> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    StreamOwned::new(ClientConnection::new(config, name).unwrap(), stream)
}

fn tls_broker(setup: TlsSetup, workers: u16) -> Broker {
    Broker::start(tcp_listener().with_tls(TlsDoor::load(setup).unwrap()), workers)
}

/// A stream that gives and takes one byte at a time.
struct Slowly<S>(S);

impl<S: Read> Read for Slowly<S> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(&mut buffer[..1])
    }
}

impl<S: Write> Write for Slowly<S> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(&bytes[..bytes.len().min(1)])
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

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
    fs::write(&path, "precious").unwrap();
    assert!(Listener::bind_unix("unix", &path, 0o600).is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

fn proxied(range: &str) -> Listener {
    tcp_listener().with_proxies(vec![range.parse().unwrap()])
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

/// MQTT bytes in and out of frames.
struct Framed<S: Read + Write>(tungstenite::WebSocket<S>, Vec<u8>);

impl<S: Read + Write> Framed<S> {
    fn open(
        stream: S,
        edit: impl FnOnce(&mut tungstenite::http::HeaderMap),
    ) -> Result<Self, String> {
        use tungstenite::client::IntoClientRequest;
        let mut request = "ws://localhost/mqtt".into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", "mqtt".parse().unwrap());
        edit(request.headers_mut());
        let opened = tungstenite::client(request, stream);
        opened.map(|(socket, _)| Self(socket, Vec::new())).map_err(|error| error.to_string())
    }
}

impl<S: Read + Write> Read for Framed<S> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.1.is_empty() {
            match self.0.read() {
                Ok(tungstenite::Message::Binary(bytes)) => self.1.extend_from_slice(&bytes),
                Ok(tungstenite::Message::Close(_)) | Err(_) => return Ok(0),
                Ok(_) => {}
            }
        }
        let count = buffer.len().min(self.1.len());
        buffer[..count].copy_from_slice(&self.1[..count]);
        self.1.drain(..count);
        Ok(count)
    }
}

impl<S: Read + Write> Write for Framed<S> {
    /// Packets and frames have nothing to do with one another.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let taken = bytes.len().min(1000);
        let message = tungstenite::Message::Binary(bytes[..taken].to_vec().into());
        self.0.send(message).map_err(std::io::Error::other)?;
        Ok(taken)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
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

/// Lets so many in, and counts who leaves.
struct Counter {
    max: usize,
    seen: Mutex<(usize, Vec<String>)>,
}

impl Doorkeeper for Counter {
    fn admit(&self, listener: &str, address: Option<std::net::IpAddr>) -> Result<(), &'static str> {
        let mut seen = self.seen.lock().unwrap();
        seen.1.push(format!("{listener} {address:?}"));
        if seen.0 >= self.max {
            return Err("full");
        }
        seen.0 += 1;
        Ok(())
    }

    fn left(&self, _: &str, _: Option<std::net::IpAddr>) {
        self.seen.lock().unwrap().0 -= 1;
    }
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
        let counter = Arc::new(Counter { max: 1, seen: Mutex::default() });
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
    }
}
