//! The log of events: one line for what an operator wants to know, none per message.

use std::{fmt, net::SocketAddr};

use codec::{ProtocolVersion, ReasonCode};
use session_core::{Action, Cause, ConnId, Event};
use tracing::{info, warn};

/// Writes the line of an event. Client Identifiers and user names are quoted and escaped: they may
/// hold anything, line breaks too.
pub(crate) fn write(event: &Event, peer: Option<SocketAddr>) {
    let peer = Peer(peer);
    match event {
        Event::Connected { client_id, user, version, session_present, keep_alive_s, conn: _ } => {
            info!(
                client = ?client_id,
                %peer,
                user = ?user.as_deref().unwrap_or_default(),
                version = version_name(*version),
                session_present,
                keep_alive_s,
                "connected"
            );
        }
        Event::Disconnected { client_id, cause, conn: _ } => match cause {
            Cause::Malformed(error) => warn!(
                client = ?client_id,
                %peer,
                rule = error.rule(),
                cause = CauseText(*cause).to_string(),
                "disconnected"
            ),
            cause => info!(
                client = ?client_id,
                %peer,
                cause = CauseText(*cause).to_string(),
                "disconnected"
            ),
        },
        Event::Denied { conn: _, client_id, user, action, topic, rule, untold } => {
            let action = match action {
                Action::Publish => "publish",
                Action::Subscribe => "subscribe",
                Action::Receive => "receive",
            };
            warn!(
                client = ?client_id,
                %peer,
                user = ?user.as_deref().unwrap_or_default(),
                action,
                ?topic,
                rule = rule.as_deref().unwrap_or("no rule allows it"),
                untold,
                "denied"
            );
        }
        Event::OverRate { conn: _, client_id, untold } => {
            warn!(client = ?client_id, %peer, untold, "the client sends more than it may");
        }
        Event::QueueFull { client_id, queued } => {
            warn!(client = ?client_id, queued, "the session's queue is full");
        }
        Event::QueueAged { client_id, queued } => {
            warn!(client = ?client_id, queued, "messages have waited for too long and are dropped");
        }
        Event::SharedBacklogLost { client_id, messages } => {
            warn!(
                client = ?client_id,
                messages,
                "the session ended; messages of its shared subscriptions that were on disk are dropped"
            );
        }
        Event::SlowConsumer { client_id } => {
            warn!(client = ?client_id, "the client does not read; QoS 0 messages to it are dropped");
        }
    }
}

/// The connection that an event speaks of.
pub(crate) const fn connection_of(event: &Event) -> Option<ConnId> {
    match event {
        Event::Connected { conn, .. }
        | Event::Disconnected { conn, .. }
        | Event::Denied { conn, .. }
        | Event::OverRate { conn, .. } => Some(*conn),
        Event::QueueFull { .. }
        | Event::QueueAged { .. }
        | Event::SharedBacklogLost { .. }
        | Event::SlowConsumer { .. } => None,
    }
}

pub(crate) struct Peer(pub(crate) Option<SocketAddr>);

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(peer) => peer.fmt(f),
            None => f.write_str("-"),
        }
    }
}

const fn version_name(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::V31 => "3.1",
        ProtocolVersion::V311 => "3.1.1",
        ProtocolVersion::V5 => "5.0",
    }
}

struct CauseText(Cause);

impl fmt::Display for CauseText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Cause::Lost => f.write_str("connection lost"),
            Cause::Disconnected(reason) => write!(f, "client disconnected, {}", Reason(reason)),
            Cause::Malformed(error) => write!(f, "rule broken: {error}"),
            Cause::Refused(reason) => write!(f, "refused, {}", Reason(reason)),
            Cause::ConnectTimeout => f.write_str("no CONNECT in time"),
            Cause::KeepAliveTimeout => f.write_str("keep alive timeout"),
            Cause::TakenOver => f.write_str("session taken over by another connection"),
            Cause::Administrative(reason) => {
                write!(f, "disconnected by the administrator, {}", Reason(reason))
            }
            Cause::Shutdown => f.write_str("server shutting down"),
        }
    }
}

/// `0x97 QuotaExceeded`.
struct Reason(ReasonCode);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:02X} {:?}", self.0.code(), self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_in_words() {
        let texts = [
            Cause::Disconnected(ReasonCode::DisconnectWithWill),
            Cause::Refused(ReasonCode::QuotaExceeded),
            Cause::ConnectTimeout,
        ]
        .map(|cause| CauseText(cause).to_string());
        assert_eq!(
            texts,
            [
                "client disconnected, 0x04 DisconnectWithWill",
                "refused, 0x97 QuotaExceeded",
                "no CONNECT in time",
            ]
        );
    }
}
