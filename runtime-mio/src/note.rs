//! The log of events: one line for what an operator wants to know, none per message.

use std::{fmt, net::SocketAddr, sync::Arc};

use codec::{ProtocolVersion, ReasonCode};
use session_core::{Action, Cause, ConnId, DropReason, Event};
use tracing::{info, warn};

use crate::door::Door;

/// What is known of the connection that an event speaks of.
pub(crate) struct About<'a> {
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) door: Arc<Door>,
    /// The name that the client has proved, or gave.
    pub(crate) user: &'a str,
    pub(crate) lasted_ms: u64,
    pub(crate) publishes_in: u64,
    pub(crate) publishes_out: u64,
}

/// Writes the line of an event. Client Identifiers and user names are quoted and escaped: they may
/// hold anything, line breaks too.
pub(crate) fn write(event: &Event, about: Option<&About<'_>>) {
    let peer = Peer(about.and_then(|about| about.peer));
    let listener = about.map_or("-", |about| &*about.door.name);
    match event {
        Event::Connected { client_id, user, version, session_present, keep_alive_s, conn: _ } => {
            info!(
                client = &**client_id,
                user = user.as_deref().unwrap_or_default(),
                %peer,
                listener,
                version = version_name(*version),
                session_present,
                keep_alive_s,
                "connected"
            );
        }
        Event::Disconnected { client_id, user, was_connected, cause, conn: _ } => {
            let user = user.as_deref().or(about.map(|about| about.user)).unwrap_or_default();
            let what = match cause {
                Cause::Refused(_) | Cause::Malformed(_) if !was_connected => "refused",
                _ => "disconnected",
            };
            write_end(what, client_id, user, *cause, about);
        }
        Event::Denied { conn: _, client_id, user, action, topic, rule, untold } => {
            let action = match action {
                Action::Publish => "publish",
                Action::Subscribe => "subscribe",
                Action::Receive => "receive",
            };
            warn!(
                client = &**client_id,
                %peer,
                user = user.as_deref().unwrap_or_default(),
                action,
                topic = &**topic,
                rule = rule.as_deref().unwrap_or("no rule allows it"),
                untold,
                "denied"
            );
        }
        Event::OverRate { conn: _, client_id, untold } => {
            warn!(client = &**client_id, %peer, untold, "the client sends more than it may");
        }
        Event::Dropped { client_id, reason, count, queued } => {
            let why = match reason {
                DropReason::NotRead => "the client does not read; QoS 0 messages are dropped",
                DropReason::Aged => "messages have waited for too long and are dropped",
                _ => "the session's queue is full; messages are dropped",
            };
            warn!(client = &**client_id, reason = reason.name(), count, queued, "{why}");
        }
        Event::SharedBacklogLost { client_id, messages } => {
            warn!(
                client = &**client_id,
                messages,
                "the session ended; messages of its shared subscriptions that were on disk are dropped"
            );
        }
    }
}

fn write_end(what: &str, client_id: &str, user: &str, cause: Cause, about: Option<&About<'_>>) {
    let peer = Peer(about.and_then(|about| about.peer));
    let listener = about.map_or("-", |about| &*about.door.name);
    let lasted_s = about.map_or(0, |about| about.lasted_ms) / 1000;
    let messages_in = about.map_or(0, |about| about.publishes_in);
    let messages_out = about.map_or(0, |about| about.publishes_out);
    let text = CauseText(cause).to_string();
    match cause {
        Cause::Malformed(error) => warn!(
            client = client_id,
            user,
            %peer,
            listener,
            rule = error.rule(),
            cause = text,
            lasted_s,
            messages_in,
            messages_out,
            "{what}"
        ),
        _ => info!(
            client = client_id,
            user,
            %peer,
            listener,
            cause = text,
            lasted_s,
            messages_in,
            messages_out,
            "{what}"
        ),
    }
}

/// The connection that an event speaks of.
pub(crate) const fn connection_of(event: &Event) -> Option<ConnId> {
    match event {
        Event::Connected { conn, .. }
        | Event::Disconnected { conn, .. }
        | Event::Denied { conn, .. }
        | Event::OverRate { conn, .. } => Some(*conn),
        Event::Dropped { .. } | Event::SharedBacklogLost { .. } => None,
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
