//! The durable part of a shard, change by change.
//!
//! Durable state is changed by the `apply_…` functions here and nowhere else; life and recovery
//! call the same ones.

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use codec::{PacketId, Will};

use super::{
    Cx, Shard,
    msg::{MsgId, Publication, Retained},
    outgoing::Source,
    session::{Held, PendingWill, Queued, Session, Stage, Subscription},
    table::SessionId,
};
use crate::{CommitSeq, Effect, Place, Time};

/// One change of durable state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the fields are those of the session or the message")]
pub enum Record {
    /// A session began, or a client resumed it with another expiry.
    Session { session: SessionId, client_id: Box<str>, expiry_s: u32 },
    /// The connection is gone; the session ends then unless somebody comes back.
    Detached { session: SessionId, expiry_s: u32, ends: Option<Time> },
    /// The session ended.
    Ended { session: SessionId },
    /// The Will changed or is due.
    WillSet { session: SessionId, will: Option<Box<Will>>, due: Option<Time> },
    /// A subscription was made or replaced.
    Subscribed { session: SessionId, filter: Arc<str>, subscription: Subscription },
    /// A subscription was removed.
    Unsubscribed { session: SessionId, filter: Arc<str> },
    /// A message waits for the session; its place is higher than any before.
    Enqueued { session: SessionId, queued: Box<Queued>, source: Option<Box<Source>> },
    /// A message that was stored and may come again, and a mark of its topic; occurs
    /// in snapshots.
    Seen { session: SessionId, message: MsgId, topic: u64 },
    /// More messages wait for the session, the last of them at this place, and are loaded when their
    /// turn comes; occurs in snapshots, behind the messages that are not left out.
    Backlog { session: SessionId, through: Place },
    /// The oldest waiting message, at this place, was dropped, expired or too large.
    Dropped { session: SessionId, place: Place },
    /// The oldest waiting message, at this place, was sent.
    Sent { session: SessionId, packet_id: PacketId, place: Place },
    /// An exchange of which only PUBCOMP is missing; occurs in snapshots.
    Releasing { session: SessionId, packet_id: PacketId, place: Place },
    /// PUBREC came for the message at this place.
    Received { session: SessionId, packet_id: PacketId, place: Place },
    /// The exchange of the message at this place is over.
    Acknowledged { session: SessionId, packet_id: PacketId, place: Place },
    /// A QoS 2 message came in.
    Held { session: SessionId, packet_id: PacketId, publication: Box<Publication> },
    /// PUBREL came: the shard owes the held message from now on, under this name.
    Released {
        session: SessionId,
        packet_id: PacketId,
        message: MsgId,
        publication: Box<Publication>,
    },
    /// The shard owes a message.
    Outgoing { message: MsgId, publication: Box<Publication> },
    /// Every receiver has what the shard owed.
    Delivered { message: MsgId },
    /// The epoch began, and numbers up to here are used in it; occurs in snapshots.
    Numbered { epoch: u32, last: u64 },
    /// A retained message was stored.
    Retained { retained: Box<Retained> },
    /// A retained message was removed.
    RetainedRemoved { topic: Box<[u8]> },
}

impl Shard {
    /// Takes one record of the log, oldest first, before [`Shard::start`].
    ///
    /// A log that was damaged may lack any records. What is left of it makes a state that keeps the
    /// invariants all the same: what is in the way of a record has ended before it.
    pub fn recover(&mut self, record: Record) {
        match record {
            Record::Session { session, client_id, expiry_s } => {
                self.end_predecessors(session, &client_id);
                self.apply_session(session, client_id, expiry_s);
                // Who is in the log once outlived a connection, whatever the expiry is now.
                if let Some(session) = self.sessions.get_mut(session) {
                    session.logged = true;
                }
            }
            Record::Detached { session, expiry_s, ends } => {
                self.apply_detached(session, expiry_s, ends);
            }
            Record::Ended { session } => drop(self.apply_ended(session)),
            Record::WillSet { session, will, due } => self.apply_will(session, will, due),
            Record::Subscribed { session, filter, subscription } => {
                self.apply_subscribed(session, (*filter).into(), subscription);
            }
            Record::Unsubscribed { session, filter } => {
                self.apply_unsubscribed(session, &filter);
            }
            Record::Enqueued { session, queued, source } => {
                let source = source.as_deref().copied();
                source.into_iter().for_each(|source| self.note_used(source.id));
                // One whose place is not behind the others' comes from a log that was damaged.
                let last = self.sessions.get(session).map_or(u64::MAX, Session::remembered);
                if queued.place.number > last {
                    let may_leave = self.logs(session);
                    self.apply_enqueued(session, *queued, source, may_leave);
                }
            }
            Record::Seen { session, message, topic } => {
                self.note_used(message);
                if let Some(session) = self.sessions.get_mut(session) {
                    session.traffic.seen.insert(message, topic);
                }
            }
            Record::Backlog { session, through } => self.apply_backlog(session, through),
            Record::Dropped { session, .. } => self.apply_dropped(session),
            Record::Sent { session, packet_id, .. } => {
                self.apply_acknowledged(session, packet_id);
                self.apply_sent(session, packet_id, false);
            }
            Record::Releasing { session, packet_id, place } => {
                self.apply_acknowledged(session, packet_id);
                if let Some(session) = self.sessions.get_mut(session) {
                    session.resume_release(packet_id, place);
                }
            }
            Record::Received { session, packet_id, .. } => self.apply_received(session, packet_id),
            Record::Acknowledged { session, packet_id, .. } => {
                self.apply_acknowledged(session, packet_id);
            }
            Record::Held { session, packet_id, publication } => {
                self.apply_held(session, packet_id, *publication, false);
            }
            Record::Released { session, packet_id, message, .. } => {
                self.note_used(message);
                self.apply_released(session, packet_id, message);
            }
            Record::Outgoing { message, publication } => self.apply_outgoing(message, *publication),
            Record::Delivered { message } => {
                self.note_used(message);
                self.apply_delivered(message);
            }
            Record::Numbered { epoch, last } => {
                self.note_used(MsgId { epoch, shard: self.config.id, number: last });
            }
            Record::Retained { retained } => self.apply_retained(*retained),
            Record::RetainedRemoved { topic } => self.apply_retained_removed(&topic),
        }
    }

    /// Ends the sessions whose slot or Client Identifier a later one has: the records of their ends
    /// are lost.
    fn end_predecessors(&mut self, id: SessionId, client_id: &str) {
        let older = [self.sessions.occupant(id), self.session_of(client_id)];
        for older in older.into_iter().flatten().filter(|older| *older != id) {
            self.apply_ended(older);
        }
    }

    /// Records that rebuild the durable state: a compact log.
    pub fn snapshot(&self) -> impl Iterator<Item = Record> + '_ {
        let mut retained = Vec::new();
        self.retained
            .each(|one| retained.push(Record::Retained { retained: Box::new(one.clone()) }));
        let logged = self.logged_sessions();
        let outgoing = self.outgoing.iter().filter(|(_, one)| one.logged);
        let outgoing = outgoing.map(|(message, one)| Record::Outgoing {
            message: *message,
            publication: Box::new(one.publication.clone()),
        });
        let (epoch, last) = (self.epoch, self.last_outgoing);
        let numbered = (epoch > 0 || last > 0).then_some(Record::Numbered { epoch, last });
        let sessions = logged.flat_map(|(id, session)| session_records(id, session));
        numbered.into_iter().chain(sessions).chain(retained).chain(outgoing)
    }

    /// The sessions that the log knows.
    pub(super) fn logged_sessions(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.sessions.iter().filter(|(_, session)| session.logged)
    }

    /// Hands a record to the log. What leaves the shard from now on waits for it.
    pub(super) fn log(&mut self, cx: &mut Cx<'_>, record: Record) {
        self.committed = CommitSeq(self.committed.0.saturating_add(1));
        cx.out.push(Effect::Persist { seq: self.committed, record: Box::new(record) });
    }

    /// Whether changes of this session are logged.
    pub(super) fn logs(&self, session: SessionId) -> bool {
        self.config.durable && self.sessions.get(session).is_some_and(|session| session.logged)
    }

    pub(super) fn apply_session(&mut self, id: SessionId, client_id: Box<str>, expiry_s: u32) {
        match self.sessions.get_mut(id) {
            Some(session) => {
                session.expiry_s = expiry_s;
                session.logged |= expiry_s > 0;
                session.ends = None;
            }
            None => {
                self.sessions.insert(id, Session::new(client_id, expiry_s));
                self.by_client.insert(&self.sessions, id);
            }
        }
    }

    pub(super) fn apply_detached(&mut self, id: SessionId, expiry_s: u32, ends: Option<Time>) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.expiry_s = expiry_s;
            session.ends = ends;
            session.detach();
            session.traffic.rest(&mut self.spares.0);
            if self.config.durable && session.logged {
                session.shrink(&self.config.limits);
            }
        }
    }

    pub(super) fn apply_ended(&mut self, id: SessionId) -> Option<Box<Session>> {
        self.by_client.remove(&self.sessions, id);
        let session = self.sessions.remove(id)?;
        let subscriptions = u32::try_from(session.subscriptions.len()).unwrap_or(u32::MAX);
        self.subscriptions = self.subscriptions.saturating_sub(subscriptions);
        Some(session)
    }

    pub(super) fn apply_will(&mut self, id: SessionId, will: Option<Box<Will>>, due: Option<Time>) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.will = will.map(|will| Box::new(PendingWill { will: *will, due, by: None }));
        }
    }

    pub(super) fn apply_subscribed(&mut self, id: SessionId, filter: Box<str>, to: Subscription) {
        if let Some(session) = self.sessions.get_mut(id)
            && session.subscriptions.insert(filter, to)
        {
            self.subscriptions = self.subscriptions.saturating_add(1);
        }
    }

    pub(super) fn apply_unsubscribed(&mut self, id: SessionId, filter: &str) {
        if let Some(session) = self.sessions.get_mut(id)
            && session.subscriptions.remove(filter)
        {
            self.subscriptions = self.subscriptions.saturating_sub(1);
        }
    }

    /// `may_leave` tells that the log has the message, so that memory need not.
    pub(super) fn apply_enqueued(
        &mut self,
        id: SessionId,
        queued: Queued,
        source: Option<Source>,
        may_leave: bool,
    ) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.traffic.wake(&mut self.spares.0);
            if let Some(source) = source {
                session.remember(source, topic_mark(queued.message.topic()));
            }
            session.push(queued, may_leave, &self.config.limits);
        }
    }

    fn apply_backlog(&mut self, id: SessionId, through: Place) {
        let may_leave = self.logs(id);
        if let Some(session) = self.sessions.get_mut(id).filter(|_| may_leave) {
            session.last = session.last.max(through);
        }
    }

    pub(super) fn apply_dropped(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.pop();
            session.traffic.rest(&mut self.spares.0);
        }
    }

    pub(super) fn apply_sent(&mut self, id: SessionId, packet_id: PacketId, sent: bool) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.begin_exchange(packet_id, sent);
        }
    }

    pub(super) fn apply_received(&mut self, id: SessionId, packet_id: PacketId) {
        if let Some(session) = self.sessions.get_mut(id)
            && let Some(exchange) = session.exchange(packet_id)
            && !seeded!(ForgetsPubrec)
        {
            exchange.stage = Stage::Released;
        }
    }

    pub(super) fn apply_acknowledged(&mut self, id: SessionId, packet_id: PacketId) {
        if let Some(session) = self.sessions.get_mut(id)
            && let Some(traffic) = session.traffic.present()
        {
            traffic.end_exchange(packet_id);
            session.traffic.rest(&mut self.spares.0);
        }
    }

    pub(super) fn apply_held(
        &mut self,
        id: SessionId,
        packet_id: PacketId,
        publication: Publication,
        counted: bool,
    ) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.traffic.wake(&mut self.spares.0);
            session.traffic.hold(packet_id, Held { publication, counted });
        }
    }

    pub(super) fn apply_retained(&mut self, retained: Retained) {
        self.apply_retained_removed(retained.message.topic());
        self.retained_count = self.retained_count.saturating_add(1);
        self.retained_bytes = self.retained_bytes.saturating_add(retained.message.size() as u64);
        if let Some(expires) = retained.expires() {
            self.retained_expiry.insert((expires, retained.message.topic().into()));
        }
        let message = retained.message.clone();
        self.retained.entry(message.topic(), || retained);
    }

    pub(super) fn apply_retained_removed(&mut self, topic: &[u8]) {
        if let Some(old) = self.retained.remove(topic) {
            self.retained_count = self.retained_count.saturating_sub(1);
            self.retained_bytes = self.retained_bytes.saturating_sub(old.message.size() as u64);
            if let Some(expires) = old.expires() {
                self.retained_expiry.remove(&(expires, topic.into()));
            }
        }
    }
}

/// What a session remembers of a topic: two topics with one mark are as rare as a broken disk.
pub fn topic_mark(topic: &[u8]) -> u64 {
    crate::ids::hash(topic)
}

/// The records of one session, in an order that recovery can follow.
pub(super) fn session_records(id: SessionId, session: &Session) -> Vec<Record> {
    let (client_id, expiry_s) = (session.client_id.clone(), session.expiry_s);
    let mut records = Vec::from([Record::Session { session: id, client_id, expiry_s }]);
    if let Some(ends) = session.ends {
        records.push(Record::Detached { session: id, expiry_s, ends: Some(ends) });
    }
    if let Some(PendingWill { will, due, .. }) = session.will.as_deref() {
        let will = Some(Box::new(will.clone()));
        records.push(Record::WillSet { session: id, will, due: *due });
    }
    records.extend(session.subscriptions.iter().map(|(filter, subscription)| {
        let (filter, subscription) = (filter.into(), *subscription);
        Record::Subscribed { session: id, filter, subscription }
    }));
    for exchange in &session.traffic.exchanges {
        let (packet_id, place) = (exchange.packet_id, exchange.place);
        match &exchange.stage {
            Stage::Published(queued) => {
                let queued = Box::new(queued.clone());
                records.push(Record::Enqueued { session: id, queued, source: None });
                records.push(Record::Sent { session: id, packet_id, place });
            }
            Stage::Released => {
                records.push(Record::Releasing { session: id, packet_id, place });
            }
        }
    }
    records.extend(
        session
            .traffic
            .queue
            .messages
            .iter()
            .map(|queued| (Box::new(queued.clone()), id))
            .map(|(queued, session)| Record::Enqueued { session, queued, source: None }),
    );
    if session.is_behind() {
        records.push(Record::Backlog { session: id, through: session.last });
    }
    records.extend(session.traffic.seen.iter().map(|(message, topic)| {
        let (message, topic) = (*message, *topic);
        Record::Seen { session: id, message, topic }
    }));
    records.extend(session.traffic.inbound.iter().map(|(packet_id, held)| Record::Held {
        session: id,
        packet_id: *packet_id,
        publication: Box::new(held.publication.clone()),
    }));
    records
}
