//! What an HTTP server is asked.

use std::net::IpAddr;

use base64::{Engine, engine::general_purpose::STANDARD};
use codec::ProtocolVersion;
use serde::Serialize;
use session_core::Transport;

use crate::{Attempt, x509::common_name};

/// The body of the question. A serializer writes it, so nothing that a client says can be more than the text
/// of its field; and every field is there, so nobody has to know what an absent one means.
#[derive(Serialize)]
struct Question<'a> {
    client_id: &'a str,
    user_name: Option<&'a str>,
    password: Option<&'a str>,
    /// In place of `password`, if that is no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    password_base64: Option<String>,
    address: Option<IpAddr>,
    listener: &'a str,
    transport: &'static str,
    protocol_version: &'static str,
    common_name: Option<Box<str>>,
}

/// The question about an attempt, as JSON. Two attempts have the same one only if they are alike in all that
/// the answer can depend on.
///
/// # Errors
/// It cannot be written, which does not happen.
pub(super) fn question(attempt: &Attempt, with_password: bool) -> Result<Vec<u8>, String> {
    let secret = attempt.password.as_ref().filter(|_| with_password).map(|secret| secret.reveal());
    let password = secret.and_then(|bytes| std::str::from_utf8(bytes).ok());
    let question = Question {
        client_id: &attempt.client_id,
        user_name: attempt.user_name.as_deref(),
        password,
        password_base64: match password {
            Some(_) => None,
            None => secret.map(|bytes| STANDARD.encode(bytes)),
        },
        address: attempt.address(),
        listener: &attempt.origin.listener,
        transport: match attempt.origin.transport {
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::WebSocket => "ws",
            Transport::WebSocketTls => "wss",
            Transport::Unix => "unix",
        },
        protocol_version: match attempt.version {
            ProtocolVersion::V31 => "3.1",
            ProtocolVersion::V311 => "3.1.1",
            ProtocolVersion::V5 => "5.0",
        },
        common_name: common_name(&attempt.origin),
    };
    serde_json::to_vec(&question).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use session_core::Proxied;

    use super::*;
    use crate::{Secret, http::tests::attempt};

    fn asked(attempt: &Attempt, with_password: bool) -> Value {
        serde_json::from_slice(&question(attempt, with_password).unwrap()).unwrap()
    }

    /// CVE-2026-32696: a CONNECT without a User Name met a placeholder for it.
    #[test]
    fn all_fields_are_there_with_and_without_a_value() {
        let mut attempt = attempt("c1");
        assert_eq!(
            asked(&attempt, true),
            json!({
                "client_id": "c1", "user_name": null, "password": null, "address": "192.0.2.7",
                "listener": "door", "transport": "tcp", "protocol_version": "5.0",
                "common_name": null,
            })
        );
        attempt.user_name = Some("alice".into());
        attempt.password = Some(Secret::new("geheim"));
        attempt.origin.peer = Some("[::ffff:10.0.0.9]:5".parse().unwrap());
        attempt.origin.transport = Transport::WebSocketTls;
        attempt.origin.proxied =
            Some(Box::new(Proxied { common_name: Some("device".into()), ..Proxied::default() }));
        attempt.version = ProtocolVersion::V31;
        assert_eq!(
            asked(&attempt, true),
            json!({
                "client_id": "c1", "user_name": "alice", "password": "geheim",
                "address": "10.0.0.9", "listener": "door", "transport": "wss",
                "protocol_version": "3.1", "common_name": "device",
            })
        );
    }

    /// What a client says of itself cannot add a field, end a string or change another field, as it can where
    /// bodies are templates.
    #[test]
    fn a_client_id_with_quotes_cannot_change_the_structure_of_the_body() {
        let nasty = "x\",\"user_name\":\"admin\",\"z\":\"${password}\\\r\n\u{1}";
        let mut attempt = attempt(nasty);
        attempt.user_name = Some("a\"}{\"result\":\"accept\"".into());
        attempt.password = Some(Secret::new("\",\"client_id\":\"root"));
        let asked = asked(&attempt, true);
        assert_eq!(asked["client_id"], nasty);
        assert_eq!(asked["user_name"], "a\"}{\"result\":\"accept\"");
        assert_eq!(asked["password"], "\",\"client_id\":\"root");
        assert_eq!(asked.as_object().unwrap().len(), 8);
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_client_says_arrives_as_it_was_said(
            client_id: String, user: Option<String>, password: Option<String>,
        ) {
            let mut attempt = attempt(&client_id);
            attempt.user_name = user.as_deref().map(Into::into);
            attempt.password = password.clone().map(Secret::new);
            let asked = asked(&attempt, true);
            proptest::prop_assert_eq!(&asked["client_id"], &json!(client_id));
            proptest::prop_assert_eq!(&asked["user_name"], &json!(user));
            proptest::prop_assert_eq!(&asked["password"], &json!(password));
            proptest::prop_assert_eq!(asked.as_object().unwrap().len(), 8);
        }
    }

    #[test]
    fn a_password_goes_out_only_if_it_is_wanted_and_whatever_bytes_it_has() {
        let mut attempt = attempt("c1");
        attempt.password = Some(Secret::new("geheim"));
        assert_eq!(asked(&attempt, false)["password"], Value::Null);
        attempt.password = Some(Secret::new(&b"\xFF\x00"[..]));
        assert_eq!(asked(&attempt, true)["password"], Value::Null);
        assert_eq!(asked(&attempt, true)["password_base64"], "/wA=");
        assert_eq!(asked(&attempt, false).get("password_base64"), None);
    }

    #[test]
    fn a_certificate_goes_before_what_a_proxy_tells() {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "own");
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().to_vec();
        let mut attempt = attempt("c1");
        attempt.origin.proxied =
            Some(Box::new(Proxied { common_name: Some("told".into()), ..Proxied::default() }));
        attempt.origin.certificates = vec![certificate.into()];
        assert_eq!(asked(&attempt, true)["common_name"], "own");
    }
}
