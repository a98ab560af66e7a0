//! What operators see, as rows.

use codec::ProtocolVersion;
use runtime_mio::Link;
use serde_json::{Map, Value, json};
use session_core::{RetainedRow, SessionRow, SubscriptionRow, Time};

pub(super) type Row = Map<String, Value>;

/// The object that `json!` makes.
pub(super) fn row(value: Value) -> Row {
    match value {
        Value::Object(row) => row,
        _ => Row::new(),
    }
}

const fn version(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::V31 => "3.1",
        ProtocolVersion::V311 => "3.1.1",
        ProtocolVersion::V5 => "5.0",
    }
}

/// Seconds, or nothing if it never ends.
fn expiry(seconds: u32) -> Value {
    if seconds == u32::MAX { "never".into() } else { seconds.into() }
}

/// A connected client.
pub(super) fn client(now: Time, session: &SessionRow, link: Option<&Link>) -> Row {
    let connection = session.connection.as_ref();
    let subject = connection.and_then(|connection| connection.subject.as_deref());
    let user = subject
        .map_or_else(|| link.and_then(|link| link.user.clone()), |subject| subject.user.clone());
    row(json!({
        "client": session.client_id,
        "user": user,
        "address": link.and_then(|link| link.peer).map(|peer| peer.to_string()),
        "listener": link.map(|link| link.listener.clone()),
        "version": connection.map(|connection| version(connection.version)),
        "connected_s": link.map(|link| now.since_ms(link.since) / 1000),
        "keep_alive_s": connection.map(|connection| connection.keep_alive_s),
        "in": link.map(|link| link.publishes_in),
        "out": link.map(|link| link.publishes_out),
        "queued": session.queued.saturating_add(session.queued_qos0.into()),
        "in_flight": session.in_flight,
        "slow": connection.is_some_and(|connection| connection.is_slow),
    }))
}

/// A session.
pub(super) fn session(now: Time, session: &SessionRow) -> Row {
    let ends = session.ends.filter(|_| session.connection.is_none());
    row(json!({
        "client": session.client_id,
        "connected": session.connection.is_some(),
        "expiry_s": expiry(session.expiry_s),
        "ends_in_s": ends.map(|ends| ends.since_ms(now) / 1000),
        "subscriptions": session.subscriptions,
        "queued": session.queued.saturating_add(session.queued_qos0.into()),
        "queued_bytes": session.queued_bytes,
        "in_flight": session.in_flight,
        "will": session.has_will,
    }))
}

/// Everything about a client.
pub(super) fn everything(
    now: Time,
    of: &SessionRow,
    link: Option<&Link>,
    filters: &[SubscriptionRow],
) -> Row {
    let mut all = client(now, of, link);
    all.extend(session(now, of));
    let connection = of.connection.as_ref();
    if let Some(subject) = connection.and_then(|connection| connection.subject.as_deref()) {
        all.insert("provider".into(), subject.provider.to_string().into());
        all.insert("groups".into(), json!(subject.groups));
        all.insert("common_name".into(), json!(subject.common_name));
    }
    all.insert("paused".into(), connection.is_some_and(|connection| connection.is_paused).into());
    let waiting = link.map(|link| link.waiting_bytes);
    all.insert("socket_waiting_bytes".into(), json!(waiting));
    let filters: Vec<_> = filters.iter().map(|filter| filter.filter.to_string()).collect();
    all.insert("filters".into(), json!(filters));
    all
}

/// A subscription.
pub(super) fn subscription(of: &SubscriptionRow) -> Row {
    row(json!({
        "client": of.client_id,
        "filter": of.filter,
        "qos": of.options.qos as u8,
        "no_local": of.options.no_local,
        "retain_as_published": of.options.retain_as_published,
        "identifier": (of.id > 0).then_some(of.id),
    }))
}

/// A retained message.
pub(super) fn retained(now: Time, of: &RetainedRow) -> Row {
    row(json!({
        "topic": of.topic,
        "qos": of.qos as u8,
        "payload_bytes": of.payload_bytes,
        "age_s": now.since_ms(of.at) / 1000,
        "expires_in_s": of.expires.map(|expires| expires.since_ms(now) / 1000),
    }))
}
