//! A client of 5.0 with enhanced authentication.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use codec::{
    Auth, Connect, Framer, Packet, Properties, Property, ProtocolVersion, ReasonCode, Role,
};

/// A connected client.
pub(crate) struct Client {
    stream: TcpStream,
    framer: Framer,
    input: Vec<u8>,
    method: String,
}

/// What a broker says to AUTH.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Auth(ReasonCode),
    Goodbye(ReasonCode),
}

impl Client {
    /// Connects by a method.
    pub(crate) fn connect(port: u16, method: &str, data: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let framer = Framer::new(Role::Client(ProtocolVersion::V5), u32::MAX, u32::MAX);
        let mut client = Self { stream, framer, input: Vec::new(), method: method.into() };
        let properties = client.properties(data);
        client.send(&Packet::Connect(Box::new(Connect {
            version: ProtocolVersion::V5,
            bridge: false,
            clean_start: true,
            keep_alive_s: 0,
            client_id: "raw".into(),
            will: None,
            user_name: None,
            password: None,
            properties,
        })));
        let Packet::ConnAck(ack) = client.receive() else { panic!("no CONNACK") };
        assert_eq!(ack.reason, ReasonCode::Success);
        client
    }

    /// Proves itself anew.
    pub(crate) fn authenticate(&mut self, data: &str) -> Said {
        let properties = self.properties(data);
        self.send(&Packet::Auth(Box::new(Auth { reason: ReasonCode::ReAuthenticate, properties })));
        match self.receive() {
            Packet::Auth(auth) => Said::Auth(auth.reason),
            Packet::Disconnect(goodbye) => Said::Goodbye(goodbye.reason),
            other => panic!("{other:?}"),
        }
    }

    fn properties(&self, data: &str) -> Properties {
        let method = Property::AuthenticationMethod(self.method.as_str().into());
        let data = Property::AuthenticationData(data.as_bytes().to_vec().into());
        [method, data].into_iter().collect()
    }

    fn send(&mut self, packet: &Packet) {
        let mut bytes = Vec::new();
        packet.encode(ProtocolVersion::V5, &mut bytes);
        self.stream.write_all(&bytes).unwrap();
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
            let mut buffer = [0; 4096];
            let count = self.stream.read(&mut buffer).unwrap();
            assert!(count > 0, "the broker hung up");
            self.input.extend_from_slice(&buffer[..count]);
        }
    }
}
