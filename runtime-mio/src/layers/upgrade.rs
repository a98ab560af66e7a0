//! The HTTP request with which a WebSocket begins.

use std::net::IpAddr;

use tungstenite::handshake::derive_accept_key;

use super::websocket::WebSocketSetup;

/// Bytes of a request, and its headers. Nothing is known of who sends it (RUSTSEC-2023-0065: without a bound).
const REQUEST_MAX: usize = 8 * 1024;
const HEADERS_MAX: usize = 64;

/// Sub-protocols that are MQTT `[MQTT-6.0.0-3]`.
const PROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// What a request is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Upgrade {
    /// Not complete.
    Waiting,
    /// A WebSocket begins.
    Accepted {
        /// To be sent.
        response: String,
        /// Bytes of the request; behind them there are frames.
        length: usize,
        /// The client's address as a trusted proxy has told it.
        forwarded: Option<IpAddr>,
    },
    /// None does.
    Refused {
        /// To be sent.
        response: String,
        /// For the log.
        why: &'static str,
    },
}

/// Judges the beginning of a connection; `trusted` says whether its peer is a proxy that is believed.
pub(super) fn judge(bytes: &[u8], setup: &WebSocketSetup, trusted: bool) -> Upgrade {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= REQUEST_MAX => length,
        Ok(httparse::Status::Partial) if bytes.len() < REQUEST_MAX => return Upgrade::Waiting,
        Ok(_) | Err(httparse::Error::TooManyHeaders) => {
            return refused("431 Request Header Fields Too Large", "the request is too large", "");
        }
        Err(_) => return refused("400 Bad Request", "it is no HTTP request", ""),
    };
    let headers = Headers(request.headers);
    if request.method != Some("GET") || request.version != Some(1) {
        return refused("400 Bad Request", "it is no GET request of HTTP/1.1", "");
    }
    if request.path.map(|path| path.split('?').next().unwrap_or(path)) != Some(&*setup.path) {
        return refused("404 Not Found", "there is nothing at this path", "");
    }
    if !headers.has_word("connection", "upgrade") || !headers.has_word("upgrade", "websocket") {
        return refused(
            "426 Upgrade Required",
            "it is no WebSocket request",
            "Upgrade: websocket\r\n",
        );
    }
    if headers.one("sec-websocket-version") != Some("13") {
        let version = "Sec-WebSocket-Version: 13\r\n";
        return refused("426 Upgrade Required", "it is of another WebSocket version", version);
    }
    let key = headers.one("sec-websocket-key").filter(|key| is_key(key));
    let Some(key) = key else { return refused("400 Bad Request", "its key is no key", "") };
    if !may_come_from(headers.one("origin"), setup) {
        return refused("403 Forbidden", "its origin is not allowed", "");
    }
    //= [MQTT-6.0.0-3] [MQTT-6.0.0-4]
    let offered = headers.words("sec-websocket-protocol");
    let known = |offered: &str| PROTOCOLS.into_iter().find(|known| *known == offered);
    let Some(protocol) = offered.into_iter().find_map(known) else {
        return refused("400 Bad Request", "it does not offer the sub-protocol mqtt", "");
    };
    let accept = derive_accept_key(key.as_bytes());
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n"
    );
    let forwarded = if trusted { headers.forwarded(setup) } else { None };
    Upgrade::Accepted { response, length, forwarded }
}

/// 16 bytes in Base64.
fn is_key(key: &str) -> bool {
    key.len() == 24
        && key.ends_with("==")
        && key
            .bytes()
            .take(22)
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

/// Browsers say which page's script it is that connects; other programs need not.
fn may_come_from(origin: Option<&str>, setup: &WebSocketSetup) -> bool {
    match origin {
        None => !setup.require_origin,
        Some(_) if setup.origins.is_empty() => true,
        Some(origin) => setup.origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)),
    }
}

fn refused(status: &str, why: &'static str, header: &str) -> Upgrade {
    let length = why.len() + 1;
    let response = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: text/plain\r\n\
         Content-Length: {length}\r\n{header}\r\n{why}\n"
    );
    Upgrade::Refused { response, why }
}

struct Headers<'h, 'b>(&'h [httparse::Header<'b>]);

impl<'b> Headers<'_, 'b> {
    fn all(&self, name: &str) -> impl Iterator<Item = &'b str> {
        let named = self.0.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        named.filter_map(|header| std::str::from_utf8(header.value).ok()).map(str::trim)
    }

    /// The only one of this name.
    fn one(&self, name: &str) -> Option<&'b str> {
        let mut all = self.all(name);
        all.next().filter(|_| all.next().is_none())
    }

    fn words(&self, name: &str) -> Vec<&'b str> {
        self.all(name).flat_map(|value| value.split(',')).map(str::trim).collect()
    }

    fn has_word(&self, name: &str, word: &str) -> bool {
        self.words(name).iter().any(|found| found.eq_ignore_ascii_case(word))
    }

    /// The address that the proxies have told: the last that is no proxy's own, since whoever is before it may have
    /// written anything.
    fn forwarded(&self, setup: &WebSocketSetup) -> Option<IpAddr> {
        let is_proxy =
            |address: &IpAddr| setup.forwarded_from.iter().any(|range| range.contains(*address));
        let mut told = self.words("x-forwarded-for");
        if told.is_empty() {
            told = self.words("x-real-ip");
        }
        let mut last = None;
        for text in told.into_iter().rev() {
            let address: IpAddr = text.parse().ok()?;
            last = Some(address.to_canonical());
            if !is_proxy(&address) {
                break;
            }
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    fn request(line: &str, headers: &str) -> String {
        format!(
            "{line}\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n{headers}\r\n"
        )
    }

    fn good(more: &str) -> String {
        let headers =
            format!("{KEY}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n{more}");
        request("GET /mqtt HTTP/1.1", &headers)
    }

    fn setup() -> WebSocketSetup {
        WebSocketSetup {
            origins: vec!["https://example.org".into()],
            forwarded_from: vec!["10.0.0.0/8".parse().unwrap()],
            ..WebSocketSetup::default()
        }
    }

    /// The status of the answer.
    fn status(text: &str) -> u16 {
        match judge(text.as_bytes(), &setup(), false) {
            Upgrade::Waiting => 0,
            Upgrade::Accepted { response, .. } | Upgrade::Refused { response, .. } => {
                assert!(response.contains("\r\n\r\n"));
                response.split(' ').nth(1).unwrap().parse().unwrap()
            }
        }
    }

    #[test]
    fn a_request_is_answered_as_the_rfc_says() {
        let text = good("");
        let Upgrade::Accepted { response, length, forwarded: None } =
            judge(text.as_bytes(), &setup(), false)
        else {
            panic!("refused")
        };
        assert_eq!(length, text.len());
        // The example of RFC 6455, section 1.3.
        assert!(response.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert!(response.contains("\r\nSec-WebSocket-Protocol: mqtt\r\n"));
        for end in 0..text.len() {
            assert_eq!(status(&text[..end]), 0, "{end}");
        }
    }

    #[test]
    fn the_first_sub_protocol_that_is_mqtt_is_chosen() {
        for (offered, status_wanted, chosen) in [
            ("mqttv3.1", 101, "mqttv3.1"),
            ("chat, mqttv3.1, mqtt", 101, "mqttv3.1"),
            ("chat", 400, ""),
            ("MQTT", 400, ""),
        ] {
            let text = good("").replace("Protocol: mqtt", &format!("Protocol: {offered}"));
            assert_eq!(status(&text), status_wanted, "{offered}");
            if let Upgrade::Accepted { response, .. } = judge(text.as_bytes(), &setup(), false) {
                assert!(response.contains(&format!("Protocol: {chosen}\r\n")));
            }
        }
        assert_eq!(
            status(&good("").replace("Sec-WebSocket-Protocol: mqtt\r\n", "")),
            400,
            "[MQTT-6.0.0-3]"
        );
    }

    #[test]
    fn what_is_no_websocket_request_is_refused() {
        for (from, to, wanted) in [
            ("GET", "POST", 400),
            ("HTTP/1.1", "HTTP/1.0", 400),
            ("/mqtt", "/", 404),
            ("/mqtt", "/mqtt/x", 404),
            ("/mqtt", "/mqtt?x=1", 101),
            ("Upgrade: WebSocket", "Upgrade: h2c", 426),
            ("keep-alive, Upgrade", "close", 426),
            ("Version: 13", "Version: 8", 426),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ==", 400),
            ("GET /mqtt", "\0\0\0", 400),
            ("Host: x\r\n", "Origin: https://example.org\r\n", 101),
            ("Host: x\r\n", "Origin: https://evil.example.org\r\n", 403),
            ("Host: x\r\n", "Origin: http://example.org\r\n", 403),
        ] {
            assert_eq!(status(&good("").replace(from, to)), wanted, "{from} {to}");
        }
        let strict = WebSocketSetup { require_origin: true, ..setup() };
        assert!(matches!(judge(good("").as_bytes(), &strict, false), Upgrade::Refused { .. }));
    }

    /// RUSTSEC-2023-0065: a request without an end took memory without a bound.
    #[test]
    fn a_request_has_a_bound() {
        assert_eq!(status(&good(&format!("X: {}\r\n", "y".repeat(9000)))), 431);
        assert_eq!(status(&format!("GET /mqtt HTTP/1.1\r\nX: {}", "y".repeat(9000))), 431);
        let many: String = (0..100).map(|n| format!("X-{n}: y\r\n")).collect();
        assert_eq!(status(&good(&many)), 431);
    }

    #[test]
    fn addresses_are_taken_from_trusted_proxies_only() {
        let told = |header: &str, trusted| match judge(good(header).as_bytes(), &setup(), trusted) {
            Upgrade::Accepted { forwarded, .. } => forwarded.map(|address| address.to_string()),
            other => panic!("{other:?}"),
        };
        let one = "X-Forwarded-For: 192.0.2.7\r\n";
        assert_eq!(told(one, true).as_deref(), Some("192.0.2.7"));
        assert_eq!(told(one, false), None, "spoofed");
        let spoofed = "X-Forwarded-For: 1.1.1.1, 192.0.2.7, 10.0.0.5\r\n";
        assert_eq!(told(spoofed, true).as_deref(), Some("192.0.2.7"), "the last that is no proxy");
        assert_eq!(told("X-Real-IP: 192.0.2.9\r\n", true).as_deref(), Some("192.0.2.9"));
        assert_eq!(told("X-Forwarded-For: rubbish\r\n", true), None);
        assert_eq!(told("", true), None);
    }
}
