//! The PROXY protocol, versions 1 and 2: what a proxy tells before the client's first byte.

use std::{io, io::Read, net::SocketAddr};

use proxy_header::{Error, ParseConfig, ProxyHeader, Tlv};

use super::failed;

/// A header with all that a proxy may add is shorter.
const HEADER_MAX: usize = 4096;

/// What a proxy has told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) source: Option<SocketAddr>,
    pub(crate) common_name: Option<Box<str>>,
    pub(crate) authority: Option<Box<str>>,
    pub(crate) tls: bool,
}

/// Reads a header, however it is cut up.
#[derive(Debug, Default)]
pub(crate) struct HeaderReader {
    bytes: Vec<u8>,
}

impl HeaderReader {
    /// Reads on. The header (none if the proxy speaks for itself), and what came behind it; `None` if it is not complete.
    ///
    /// # Errors
    /// It is no header, or the stream has ended.
    pub(crate) fn read(
        &mut self,
        stream: &mut impl Read,
    ) -> io::Result<Option<(Option<Header>, Vec<u8>)>> {
        let mut buffer = [0; HEADER_MAX];
        loop {
            let count = match stream.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.bytes.extend_from_slice(&buffer[..count]);
            if let Some((header, length)) = parse(&self.bytes).map_err(failed)? {
                let early = self.bytes.split_off(length);
                return Ok(Some((header, early)));
            }
            if self.bytes.len() >= HEADER_MAX {
                return Err(failed("the PROXY header is too long"));
            }
        }
    }
}

/// A header and its length; `None` if it is not complete.
fn parse(bytes: &[u8]) -> Result<Option<(Option<Header>, usize)>, &'static str> {
    const V1: &[u8] = b"PROXY ";
    const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    const V1_MAX: usize = 107;
    let begins = |with: &[u8]| {
        let count = bytes.len().min(with.len());
        bytes[..count] == with[..count]
    };
    if !begins(V1) && !begins(V2) {
        return Err("there is no PROXY header");
    }
    let ends = bytes.iter().take(V1_MAX).position(|byte| *byte == b'\n');
    if begins(V1) && ends.is_none() && bytes.len() >= V1_MAX {
        return Err("the PROXY header is too long");
    }
    let is_whole = match bytes {
        _ if begins(V1) => ends.is_some(),
        [_, _, _, _, _, _, _, _, _, _, _, _, _, _, high, low, rest @ ..] => {
            rest.len() >= usize::from(u16::from_be_bytes([*high, *low]))
        }
        _ => false,
    };
    let config = ParseConfig { include_tlvs: true, ..ParseConfig::default() };
    let (header, length) = match ProxyHeader::parse(bytes, config) {
        Ok(found) => found,
        // The library also says so of a whole header in which something is missing.
        Err(Error::BufferTooShort) if !is_whole => return Ok(None),
        Err(_) => return Err("the PROXY header is malformed"),
    };
    let Some(address) = header.proxied_address() else { return Ok(Some((None, length))) };
    // The library passes over what it cannot read. Who then has no name would count as somebody without one.
    let is_sound = header.tlvs().all(|tlv| match tlv {
        Ok(Tlv::Ssl(ssl)) => ssl.tlvs().all(|tlv| tlv.is_ok()),
        tlv => tlv.is_ok(),
    });
    if !is_sound {
        return Err("what the PROXY header adds is malformed");
    }
    let mut told = Header { source: Some(address.source), ..Header::default() };
    told.authority = clean(header.authority())?;
    if let Some(ssl) = header.ssl() {
        told.tls = ssl.client_ssl();
        // A name counts if the proxy has verified the certificate that it is in.
        if ssl.verify() == 0 && (ssl.client_cert_conn() || ssl.client_cert_sess()) {
            told.common_name = clean(ssl.cn())?;
        }
    }
    Ok(Some((Some(told), length)))
}

/// Line breaks and the like would mean something else where the text is written.
fn clean(text: Option<&str>) -> Result<Option<Box<str>>, &'static str> {
    match text {
        Some(text) if text.contains(char::is_control) => {
            Err("the PROXY header has control characters in a name")
        }
        text => Ok(text.map(Into::into)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream that gives its bytes one by one, and then has none for now.
    struct Slowly(Vec<u8>, bool);

    impl Read for Slowly {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if std::mem::replace(&mut self.1, false) || self.0.is_empty() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.1 = true;
            buffer[0] = self.0.remove(0);
            Ok(1)
        }
    }

    fn v2(command: u8, family: u8, addresses: &[u8], tlvs: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len() + tlvs.len()).unwrap().to_be_bytes();
        [b"\r\n\r\n\0\r\nQUIT\n", &[0x20 | command, family][..], &length, addresses, tlvs].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 7, 0x5b];

    fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len()).unwrap().to_be_bytes();
        [&[kind][..], &length, value].concat()
    }

    fn ssl(client: u8, verify: u32, common_name: &[u8]) -> Vec<u8> {
        tlv(0x20, &[&[client][..], &verify.to_be_bytes(), &tlv(0x22, common_name)].concat())
    }

    fn told(bytes: &[u8]) -> Result<Option<Header>, String> {
        let whole = parse(bytes).map_err(str::to_owned)?.ok_or("incomplete")?;
        // Cut into single bytes it is the same, and what follows is kept.
        let mut reader = HeaderReader::default();
        let mut stream = Slowly([bytes, b"MQTT"].concat(), false);
        let found = loop {
            match reader.read(&mut stream) {
                Ok(Some(found)) => break found,
                Ok(None) => {}
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!((found.0, found.1.len()), (whole.0.clone(), 0));
        assert_eq!((whole.1, stream.0), (bytes.len(), b"MQTT".to_vec()));
        Ok(whole.0)
    }

    #[test]
    fn version_1_tells_the_address() {
        let header = told(b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 1883\r\n").unwrap().unwrap();
        assert_eq!(header.source, Some("192.0.2.1:4660".parse().unwrap()));
        let header = told(b"PROXY TCP6 2001:db8::1 ::1 4660 1883\r\n").unwrap().unwrap();
        assert_eq!(header.source, Some("[2001:db8::1]:4660".parse().unwrap()));
        assert_eq!(told(b"PROXY UNKNOWN\r\n"), Ok(None));
    }

    #[test]
    fn version_2_tells_the_address_and_of_tls() {
        let header = told(&v2(1, 0x11, &V4, &[])).unwrap().unwrap();
        assert_eq!(
            header,
            Header { source: Some("192.0.2.1:4660".parse().unwrap()), ..Header::default() }
        );
        let tlvs = [tlv(2, b"mqtt.example"), ssl(7, 0, b"alice")].concat();
        let header = told(&v2(1, 0x11, &V4, &tlvs)).unwrap().unwrap();
        assert_eq!(
            (header.authority.as_deref(), header.common_name.as_deref()),
            (Some("mqtt.example"), Some("alice"))
        );
        assert!(header.tls);
        assert_eq!(told(&v2(0, 0, &[], &[])), Ok(None), "a proxy that looks whether we live");
    }

    #[test]
    fn a_name_that_was_not_verified_is_no_name() {
        for (client, verify) in [(7, 1), (1, 0)] {
            let header = told(&v2(1, 0x11, &V4, &ssl(client, verify, b"alice"))).unwrap().unwrap();
            assert_eq!((header.common_name, header.tls), (None, true));
        }
    }

    /// Line breaks in the names of certificates went into the headers of requests (EMQX #17309).
    #[test]
    fn control_characters_in_names_are_refused() {
        for name in [&b"a\r\nb"[..], b"a\0", b"\x7f"] {
            assert!(told(&v2(1, 0x11, &V4, &ssl(7, 0, name))).is_err());
            assert!(told(&v2(1, 0x11, &V4, &tlv(2, name))).is_err());
        }
    }

    /// A name that cannot be read must not make its owner somebody without a name.
    #[test]
    fn what_cannot_be_read_is_not_passed_over() {
        let cut = |mut bytes: Vec<u8>, by: u8| {
            bytes[2] += by;
            bytes
        };
        for tlvs in [
            ssl(7, 0, b"\xff"),
            tlv(2, b"\xff\xfe"),
            cut(tlv(2, b"name"), 1),
            cut(ssl(7, 0, b"alice"), 1),
            tlv(0x20, &[7, 0, 0, 0]),
            tlv(0x20, &[7, 0, 0, 0, 0, 0x22, 0, 9, b'a']),
            vec![2, 0],
        ] {
            assert!(parse(&v2(1, 0x11, &V4, &tlvs)).is_err(), "{tlvs:?}");
            assert!(parse(&v2(1, 0x11, &V4, &[tlv(4, b"fill"), tlvs].concat())).is_err());
        }
        let unknown = tlv(0xE1, b"\xff\r\n");
        assert!(told(&v2(1, 0x11, &V4, &unknown)).is_ok(), "what is unknown means nothing here");
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let mut long = b"PROXY TCP4 ".to_vec();
        long.resize(200, b'1');
        let wrong: [&[u8]; 8] = [
            b"\x10\x0c\0\x04MQTT",
            b"GET / HTTP/1.1\r\n",
            b"PROXY TCP4 256.0.0.1 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 10.0.0.1 10.0.0.1 1\r\n",
            b"PROXY TCP5 10.0.0.1 10.0.0.1 1 2\r\n",
            &long,
            &v2(1, 0x11, &V4[..11], &[]),
            b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c",
        ];
        for bytes in wrong {
            assert!(!matches!(parse(bytes), Ok(Some(_))), "{bytes:?}");
            assert!(parse(bytes).is_err() || bytes[12..13] == [0x31], "{bytes:?}");
        }
        for bytes in [&b""[..], b"P", b"PROXY TCP4 1", b"\r\n\r\n"] {
            assert_eq!(parse(bytes), Ok(None), "{bytes:?}");
        }
    }

    #[test]
    fn no_bytes_are_a_mistake_of_the_parser() {
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            u8::try_from(state >> 56).unwrap()
        };
        let whole = v2(1, 0x11, &V4, &[tlv(2, b"name"), ssl(7, 0, b"alice")].concat());
        for _ in 0..20_000 {
            let mut bytes = match random() % 3 {
                0 => b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 1883\r\n".to_vec(),
                _ => whole.clone(),
            };
            for _ in 0..random() % 4 {
                let at = usize::from(random()) % bytes.len();
                bytes[at] = random();
            }
            bytes.truncate(usize::from(random()));
            if let Ok(Some((_, length))) = parse(&bytes) {
                assert!(length <= bytes.len());
            }
        }
    }
}
