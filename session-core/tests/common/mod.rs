//! How a client comes to a shard, for all tests that do without the reference models.

use codec::{Connect, Properties, ProtocolVersion};
use session_core::{ConnId, Input, Origin, Transport};

/// A connection is accepted, and takes so many bytes.
pub(crate) fn opened(conn: ConnId, credit: u32) -> Input {
    let origin = Origin {
        listener: "test".into(),
        peer: None,
        transport: Transport::Tcp,
        certificates: Vec::new(),
        server_name: None,
        proxied: None,
    };
    Input::Opened { conn, origin: Box::new(origin), credit }
}

/// A CONNECT that resumes its session, without Keep Alive, Will and names.
pub(crate) fn connect(
    version: ProtocolVersion,
    client_id: &str,
    properties: Properties,
) -> Connect {
    Connect {
        version,
        bridge: false,
        clean_start: false,
        keep_alive_s: 0,
        client_id: client_id.into(),
        will: None,
        user_name: None,
        password: None,
        properties,
    }
}
