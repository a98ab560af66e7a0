//! What is known of who wants to come in.

use std::{fmt, net::IpAddr, sync::Arc};

use bytes::Bytes;
use codec::{Connect, ProtocolVersion};
use session_core::{Origin, Subject};

/// Bytes that are never shown: a password, a token, Authentication Data.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Bytes);

impl Secret {
    /// Hides bytes.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    /// The bytes, for whoever has to look at them. They go into no text.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A client that wants to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its Client Identifier, assigned if it gave none.
    pub client_id: Box<str>,
    /// Its protocol version.
    pub version: ProtocolVersion,
    /// User Name, as it says.
    pub user_name: Option<Box<str>>,
    /// Password.
    pub password: Option<Secret>,
    /// Authentication Method (5.0).
    pub method: Option<Box<str>>,
    /// Authentication Data (5.0).
    pub data: Option<Secret>,
    /// Where it comes from.
    pub origin: Box<Origin>,
}

impl Attempt {
    /// The attempt that a CONNECT is.
    pub fn new(connect: &Connect, origin: Box<Origin>) -> Self {
        Self {
            client_id: connect.client_id.clone(),
            version: connect.version,
            user_name: connect.user_name.clone(),
            password: connect.password.clone().map(Secret::new),
            method: connect.properties.authentication_method().map(Into::into),
            data: connect.properties.authentication_data().cloned().map(Secret::new),
            origin,
        }
    }

    /// The address it comes from: the client's own, if a trusted proxy told it.
    pub fn address(&self) -> Option<IpAddr> {
        self.origin.peer.map(|peer| peer.ip().to_canonical())
    }
}

/// A further step of an enhanced authentication, or the first of a re-authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Authentication Method.
    pub method: Box<str>,
    /// Authentication Data.
    pub data: Option<Secret>,
    /// A re-authentication begins.
    pub again: bool,
    /// Who seems to be there: the client as it connected.
    pub subject: Arc<Subject>,
    /// What the provider gave with [`Verdict::Continue`](crate::Verdict::Continue); empty with `again`.
    pub state: Bytes,
}

#[cfg(test)]
pub(crate) mod tests {
    use session_core::Transport;

    use super::*;

    /// A client that says nothing but its identifier.
    pub(crate) fn attempt(client_id: &str) -> Attempt {
        Attempt {
            client_id: client_id.into(),
            version: ProtocolVersion::V5,
            user_name: None,
            password: None,
            method: None,
            data: None,
            origin: Box::new(Origin {
                listener: "door".into(),
                peer: Some(([192, 0, 2, 7], 1234).into()),
                transport: Transport::Tcp,
                certificates: Vec::new(),
                server_name: None,
                proxied: None,
            }),
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let attempt = Attempt {
            password: Some(Secret::new("geheim")),
            data: Some(Secret::new("geheim")),
            ..attempt("c")
        };
        assert!(!format!("{attempt:?}").contains("geheim"));
    }
}
