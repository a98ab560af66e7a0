//! A broker with a door of any kind, clients for each, and certificates.

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

use super::{connect, publish, subscribe};

/// What reads and writes: a socket, or TLS on one.
pub(crate) trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

/// An MQTT client on anything.
pub(crate) struct Client {
    pub(crate) wire: Box<dyn Wire>,
    framer: Framer,
    input: Vec<u8>,
    pub(crate) version: ProtocolVersion,
}

impl Client {
    pub(crate) fn new(wire: impl Wire + 'static) -> Self {
        let framer = Framer::new(Role::Client(ProtocolVersion::V311), u32::MAX, u32::MAX);
        Self { wire: Box::new(wire), framer, input: Vec::new(), version: ProtocolVersion::V311 }
    }

    pub(crate) fn send(&mut self, packet: &Packet) {
        self.wire.write_all(&encode(self.version, packet)).unwrap();
        self.wire.flush().unwrap();
    }

    pub(crate) fn receive(&mut self) -> Packet {
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

    pub(crate) fn connect(mut self, client_id: &str) -> Self {
        self.send(&connect(self.version, client_id));
        assert!(matches!(self.receive(), Packet::ConnAck(_)));
        self
    }

    /// Subscribes, publishes to itself, and gets it back.
    pub(crate) fn echo(&mut self, payload: &[u8]) {
        self.send(&subscribe("t", QoS::AtLeastOnce));
        assert!(matches!(self.receive(), Packet::SubAck(_)));
        self.send(&publish("t", payload, 0));
        let Packet::Publish(got) = self.receive() else { panic!("no PUBLISH") };
        assert!(got.message.payload() == payload, "{} bytes", got.message.payload().len());
    }
}

pub(crate) fn encode(version: ProtocolVersion, packet: &Packet) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes);
    bytes
}

/// A broker with one listener. It tells what it has learned of where clients come from.
pub(crate) struct Broker {
    pub(crate) running: Option<Running>,
    pub(crate) origins: Arc<Mutex<Vec<Origin>>>,
}

pub(crate) struct Asked(Arc<Mutex<Vec<Origin>>>);

impl Services for Asked {
    fn ask(&mut self, _: Ticket, request: Box<Request>) -> Option<Box<Answer>> {
        if let Request::Authenticate { origin, .. } = *request {
            self.0.lock().unwrap().push(*origin);
        }
        Some(Box::new(Answer::Accept { principal: Principal::default(), data: None }))
    }
}

impl Broker {
    pub(crate) fn start(listener: Listener, workers: u16) -> Self {
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

    pub(crate) fn address(&self) -> SocketAddr {
        self.running.as_ref().unwrap().local_addrs()[0].unwrap()
    }

    pub(crate) fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    pub(crate) fn last_origin(&self) -> Origin {
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

pub(crate) fn tcp_listener() -> Listener {
    Listener::bind_tcp("door", "127.0.0.1:0".parse().unwrap()).unwrap()
}

/// Whether the broker hangs up without a word of MQTT.
pub(crate) fn is_turned_away(mut stream: impl Read) -> bool {
    let mut rest = Vec::new();
    has_ended(stream.read_to_end(&mut rest)) && rest.is_empty()
}

/// Whether there was an end, not only nothing for a long time. A reset is as good as an end.
pub(crate) fn has_ended(read: std::io::Result<usize>) -> bool {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    !read.is_err_and(|error| matches!(error.kind(), TimedOut | WouldBlock))
}

/// An authority and its files.
pub(crate) struct Authority {
    pub(crate) issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    /// They all have one name, and keys of their own.
    pub(crate) fn new() -> Self {
        Self::named("authority")
    }

    pub(crate) fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { issuer, folder: tempfile::tempdir().unwrap() };
        fs::write(authority.path("ca.pem"), authority.issuer.pem()).unwrap();
        authority
    }

    pub(crate) fn path(&self, file: &str) -> std::path::PathBuf {
        self.folder.path().join(file)
    }

    pub(crate) fn issue(&self, file: &str, names: &[&str], serial: u64) -> CertificateFiles {
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

    pub(crate) fn revoke(&self, serial: u64) -> std::path::PathBuf {
        self.list("crl.pem", serial, 2100)
    }

    /// A list of nobody that was good until this year.
    pub(crate) fn revoke_until(&self, year: i32) -> std::path::PathBuf {
        self.list("old-crl.pem", 0, year)
    }

    fn list(&self, file: &str, serial: u64, until: i32) -> std::path::PathBuf {
        let date = rcgen::date_time_ymd(2024, 1, 1);
        let list = CertificateRevocationListParams {
            this_update: date,
            next_update: rcgen::date_time_ymd(until, 1, 1),
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
        let path = self.path(file);
        fs::write(&path, list.signed_by(&self.issuer).unwrap().pem().unwrap()).unwrap();
        path
    }

    pub(crate) fn setup(&self) -> TlsSetup {
        TlsSetup {
            certificates: vec![self.issue("server", &["localhost", "127.0.0.1"], 1)],
            client_ca: vec![self.path("ca.pem")],
            alpn: vec![b"mqtt".to_vec()],
            ..TlsSetup::default()
        }
    }

    /// TLS on a stream; `files` are shown to a server that asks.
    pub(crate) fn client(
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

pub(crate) fn tls<S: Read + Write>(
    config: Arc<ClientConfig>,
    name: &str,
    stream: S,
) -> StreamOwned<ClientConnection, S> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    StreamOwned::new(ClientConnection::new(config, name).unwrap(), stream)
}

pub(crate) fn tls_broker(setup: TlsSetup, workers: u16) -> Broker {
    Broker::start(tcp_listener().with_tls(TlsDoor::load(setup).unwrap()), workers)
}

/// A stream that gives and takes one byte at a time.
pub(crate) struct Slowly<S>(pub(crate) S);

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

pub(crate) fn proxied(range: &str) -> Listener {
    tcp_listener().with_proxies(vec![range.parse().unwrap()])
}

/// MQTT bytes in and out of frames.
pub(crate) struct Framed<S: Read + Write>(pub(crate) tungstenite::WebSocket<S>, Vec<u8>);

impl<S: Read + Write> Framed<S> {
    pub(crate) fn open(
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

/// Lets so many in, and counts who leaves.
#[derive(Default)]
pub(crate) struct Counter {
    pub(crate) max: usize,
    pub(crate) seen: Mutex<(usize, Vec<String>)>,
    pub(crate) gone: Mutex<Vec<String>>,
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

    fn left(&self, listener: &str, address: Option<std::net::IpAddr>) {
        self.gone.lock().unwrap().push(format!("{listener} {address:?}"));
        self.seen.lock().unwrap().0 -= 1;
    }
}
