//! A look inside, for metrics and administration.

use alloc::vec::Vec;

use super::{Shard, conn::Conn, session::Session, table::SessionId};
use crate::{
    ConnectionRow, DropCounts, DropRow, Page, QueueRow, Queues, RetainedRow, SessionRow,
    SubscriptionRow, Totals,
};

/// A look into a shard.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub(super) shard: &'a Shard,
}

impl View<'_> {
    /// Open connections, those without CONNECT included.
    pub const fn connections(&self) -> usize {
        self.shard.conns.len()
    }

    /// Sessions, connected or not.
    pub const fn sessions(&self) -> usize {
        self.shard.sessions.len()
    }

    /// Subscriptions of those sessions.
    pub const fn subscriptions(&self) -> u32 {
        self.shard.subscriptions
    }

    /// Retained messages of the topics owned here.
    pub const fn retained(&self) -> u32 {
        self.shard.retained_count
    }

    /// Messages that wait for sessions, sent ones included.
    pub fn queued(&self) -> usize {
        self.shard.sessions.iter().fold(0, |sum: usize, (_, session)| {
            let waiting = usize::try_from(session.waiting()).unwrap_or(usize::MAX);
            sum.saturating_add(waiting).saturating_add(session.traffic.exchanges.len())
        })
    }

    /// The Client Identifiers of all sessions, in order, and whether each is connected.
    pub fn clients(&self) -> impl Iterator<Item = (&str, bool)> {
        let clients = self.shard.sessions.iter();
        let mut clients: Vec<_> =
            clients.map(|(_, session)| (&*session.client_id, session.conn.is_some())).collect();
        clients.sort_unstable();
        clients.into_iter()
    }

    /// Numbers that are known without counting.
    pub fn totals(&self) -> Totals {
        let shard = self.shard;
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        Totals {
            connections: count(shard.conns.len()),
            sessions: count(shard.sessions.len()),
            subscriptions: shard.subscriptions.into(),
            retained: shard.retained_count.into(),
            retained_bytes: shard.retained_bytes,
            held: count(shard.held.len()),
        }
    }

    /// Messages that were dropped, by reason, since the start.
    pub const fn drops(&self) -> DropCounts {
        self.shard.drops.0.counts()
    }

    /// The clients that most messages were dropped for.
    pub fn drop_rows(&self) -> Vec<DropRow> {
        self.shard.drops.0.rows().collect()
    }

    /// The session of a client.
    pub fn session(&self, client_id: &str) -> Option<SessionRow> {
        let id = self.shard.session_of(client_id)?;
        self.shard.sessions.get(id).map(|session| self.session_row(session))
    }

    /// Some sessions: `from` is 0, or what the last page said is next. It looks at no more than
    /// `max` places, some of which may be empty.
    pub fn session_page(&self, from: u32, max: u32) -> Page<SessionRow> {
        let mut rows = Vec::new();
        let next = self.walk(from, max, |_, session| rows.push(self.session_row(session)));
        Page { rows, next }
    }

    /// The subscriptions of a client; `None` if it has no session.
    pub fn subscriptions_of(&self, client_id: &str) -> Option<Vec<SubscriptionRow>> {
        let id = self.shard.session_of(client_id)?;
        self.shard.sessions.get(id).map(|session| subscription_rows(session).collect())
    }

    /// The subscriptions of some sessions; see [`View::session_page`].
    pub fn subscription_page(&self, from: u32, max: u32) -> Page<SubscriptionRow> {
        let mut rows = Vec::new();
        let next = self.walk(from, max, |_, session| rows.extend(subscription_rows(session)));
        Page { rows, next }
    }

    /// Some retained messages of the topics owned here; see [`View::session_page`].
    pub fn retained_page(&self, from: u32, max: u32) -> Page<RetainedRow> {
        let mut rows = Vec::new();
        let next = self.shard.retained.page(from, max, |retained| {
            rows.push(RetainedRow {
                topic: retained.message.topic_str().into(),
                qos: retained.qos,
                payload_bytes: u64::try_from(retained.message.payload().len()).unwrap_or(u64::MAX),
                at: retained.at,
                expires: retained.expires(),
            });
        });
        Page { rows, next }
    }

    /// What waits for some sessions, and where to go on; see [`View::session_page`].
    pub fn queues(&self, from: u32, max: u32) -> (Queues, Option<u32>) {
        let mut queues = Queues::default();
        let next = self.walk(from, max, |_, session| {
            let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
            let (queued, bytes) = (session.waiting(), session.waiting_bytes());
            let qos0 = count(session.traffic.queue_qos0.len());
            let shared = session.subscriptions.iter();
            let shared = shared.filter(|(filter, _)| filter.starts_with("$share/")).count();
            let connected = session.conn.is_some();
            let one = Queues {
                connected: u64::from(connected),
                queued,
                queued_bytes: bytes,
                queued_qos0: qos0,
                in_flight: count(session.traffic.exchanges.len()),
                shared_subscriptions: count(shared),
                longest: Vec::new(),
            };
            queues.add(one);
            let queued = queued.saturating_add(qos0);
            let client_id = &session.client_id;
            queues.enter(queued, || QueueRow {
                client_id: client_id.clone(),
                queued,
                bytes,
                connected,
            });
        });
        (queues, next)
    }

    /// Sessions that ended by their expiry since the start.
    pub const fn expired_sessions(&self) -> u64 {
        self.shard.drops.0.expired_sessions
    }

    fn walk(&self, from: u32, max: u32, mut each: impl FnMut(SessionId, &Session)) -> Option<u32> {
        let sessions = &self.shard.sessions;
        let end = from.saturating_add(max).min(sessions.end());
        for slot in from..end {
            if let Some((id, session)) = sessions.by_slot(slot) {
                each(id, session);
            }
        }
        (end < sessions.end()).then_some(end)
    }

    fn session_row(&self, session: &Session) -> SessionRow {
        let conn = session.conn.and_then(|conn| self.shard.conns.get(conn));
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        SessionRow {
            client_id: session.client_id.clone(),
            connection: conn.map(connection_row),
            expiry_s: session.expiry_s,
            ends: session.ends,
            subscriptions: count(session.subscriptions.len()),
            queued: session.waiting(),
            queued_bytes: session.waiting_bytes(),
            queued_qos0: count(session.traffic.queue_qos0.len()),
            in_flight: count(session.traffic.exchanges.len()),
            has_will: session.will.is_some(),
        }
    }
}

fn connection_row(conn: &Conn) -> ConnectionRow {
    ConnectionRow {
        conn: conn.id,
        version: conn.version,
        keep_alive_s: conn.keep_alive_s(),
        subject: conn.rare().subject.clone(),
        is_slow: conn.credit <= 0,
        is_paused: conn.paused != 0,
    }
}

fn subscription_rows(session: &Session) -> impl Iterator<Item = SubscriptionRow> {
    session.subscriptions.iter().map(|(filter, subscription)| SubscriptionRow {
        client_id: session.client_id.clone(),
        filter: filter.into(),
        options: subscription.options,
        id: subscription.id,
    })
}
