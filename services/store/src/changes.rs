//! From records to rows: what a record of the core changes in the store. Pure; nothing is read.

use std::collections::{BTreeMap, BTreeSet};

use session_core::{MsgId, Record, SessionId, ShardId, Source, topic_mark};

use crate::{
    keys::{self, Sid, kind},
    values::{self, Exchange, Identity, Lifetime},
    wire::Write,
};

/// One change of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The row is there, with this value, whatever was there before.
    Put(Vec<u8>, Vec<u8>),
    /// The row is new: nothing had this key, or it was deleted since. If it is deleted before the
    /// tables have heard of it, they need not hear of that either.
    Insert(Vec<u8>, Vec<u8>),
    /// The row is gone.
    Delete(Vec<u8>),
}

impl Change {
    /// Bytes of its key and value.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Put(key, value) | Self::Insert(key, value) => {
                key.len().saturating_add(value.len())
            }
            Self::Delete(key) => key.len(),
        }
    }
}

/// A session as the store knows it while it lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    sid: Option<Sid>,
    seen: BTreeSet<MsgId>,
}

/// Turns records into changes. Knows the numbers of the living sessions, and which of their rows go
/// without a record that says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Translator {
    sessions: BTreeMap<(ShardId, SessionId), Known>,
    next_sid: u64,
    /// Session numbers below this one are taken, by the store's word.
    reserved: u64,
    /// The last name that each shard gave: epoch and number.
    numbered: BTreeMap<ShardId, (u32, u64)>,
}

/// How many session numbers are reserved at a time: one write for so many new sessions.
const RESERVE: u64 = 1024;

impl Translator {
    /// A translator for a store in which session numbers below `next_sid` may have been given.
    pub(crate) fn new(next_sid: u64) -> Self {
        Self { next_sid, reserved: next_sid, ..Self::default() }
    }

    /// A session that was there before.
    pub(crate) fn know(&mut self, shard: ShardId, session: SessionId, sid: Sid) {
        self.sessions.entry((shard, session)).or_default().sid = Some(sid);
    }

    /// A publication that such a session has seen.
    pub(crate) fn know_seen(&mut self, shard: ShardId, session: SessionId, message: MsgId) {
        if let Some(known) = self.sessions.get_mut(&(shard, session)) {
            known.seen.insert(message);
        }
    }

    pub(crate) fn sid(&self, shard: ShardId, session: SessionId) -> Option<Sid> {
        self.sessions.get(&(shard, session))?.sid
    }

    /// The changes that a record of a shard means, appended to `out`. Returns the number of a session
    /// that ended with it and whose other rows are to be swept away.
    pub(crate) fn translate(
        &mut self,
        shard: ShardId,
        record: &Record,
        out: &mut Vec<Change>,
    ) -> Option<Sid> {
        match record {
            Record::Session { session, client_id, expiry_s } => {
                self.begin_session(shard, *session, client_id, *expiry_s, out);
            }
            Record::Ended { session } => return self.end_session(shard, *session, out),
            Record::Outgoing { message, publication } => {
                let value = values::encode_publication(publication);
                out.push(Change::Insert(keys::outgoing(shard, *message), value));
                self.number(shard, *message, out);
            }
            Record::Delivered { message } => {
                out.push(Change::Delete(keys::outgoing(shard, *message)));
            }
            Record::Numbered { epoch, last } => {
                self.number(shard, MsgId { epoch: *epoch, shard, number: *last }, out);
            }
            Record::Retained { retained } => {
                let key = keys::retained(retained.message.topic());
                out.push(Change::Put(key, values::encode_retained(retained)));
            }
            Record::RetainedRemoved { topic } => out.push(Change::Delete(keys::retained(topic))),
            record => self.translate_of_session(shard, record, out),
        }
        None
    }

    fn translate_of_session(&mut self, shard: ShardId, record: &Record, out: &mut Vec<Change>) {
        let Some(session) = session_of(record) else { return };
        let Some(known) = self.sessions.get_mut(&(shard, session)) else { return };
        let Some(sid) = known.sid else { return };
        match record {
            Record::Detached { expiry_s, ends, .. } => {
                let lifetime = Lifetime { expiry_s: *expiry_s, ends: *ends };
                out.push(Change::Put(keys::of(kind::LIFETIME, sid), lifetime.encode()));
            }
            Record::WillSet { will, due, .. } => {
                let key = keys::of(kind::WILL, sid);
                out.push(match will {
                    Some(will) => Change::Put(key, values::encode_will(will, *due)),
                    None => Change::Delete(key),
                });
            }
            Record::Subscribed { filter, subscription, .. } => {
                let value = values::encode_subscription(*subscription);
                out.push(Change::Put(keys::subscription(sid, filter), value));
            }
            Record::Unsubscribed { filter, .. } => {
                out.push(Change::Delete(keys::subscription(sid, filter)));
            }
            Record::Enqueued { queued, source, .. } => {
                let key = keys::queued(sid, queued.place.number);
                out.push(Change::Insert(key, values::encode_queued(queued)));
                if let Some(source) = source.as_deref() {
                    let topic = topic_mark(queued.message.topic());
                    known.remember(sid, *source, topic, out);
                }
            }
            Record::Seen { message, topic, .. } => known.see(sid, *message, *topic, out),
            Record::Dropped { place, .. } => {
                out.push(Change::Delete(keys::queued(sid, place.number)));
            }
            Record::Sent { packet_id, place, .. } => {
                let exchange = Exchange { place: *place, released: false };
                out.push(Change::Insert(keys::exchange(sid, *packet_id), exchange.encode()));
            }
            Record::Received { packet_id, place, .. }
            | Record::Releasing { packet_id, place, .. } => {
                let exchange = Exchange { place: *place, released: true };
                out.push(Change::Put(keys::exchange(sid, *packet_id), exchange.encode()));
                out.push(Change::Delete(keys::queued(sid, place.number)));
            }
            Record::Acknowledged { packet_id, place, .. } => {
                out.push(Change::Delete(keys::exchange(sid, *packet_id)));
                out.push(Change::Delete(keys::queued(sid, place.number)));
            }
            Record::Held { packet_id, publication, .. } => {
                let value = values::encode_publication(publication);
                out.push(Change::Put(keys::held(sid, *packet_id), value));
            }
            Record::Released { packet_id, message, publication, .. } => {
                out.push(Change::Delete(keys::held(sid, *packet_id)));
                let value = values::encode_publication(publication);
                out.push(Change::Insert(keys::outgoing(shard, *message), value));
                self.number(shard, *message, out);
            }
            // The others are not of a session, or say only what the rows say already.
            _ => {}
        }
    }

    fn begin_session(
        &mut self,
        shard: ShardId,
        session: SessionId,
        client_id: &str,
        expiry_s: u32,
        out: &mut Vec<Change>,
    ) {
        let known = self.sessions.entry((shard, session)).or_default();
        let sid = known.sid.unwrap_or_else(|| {
            let sid = Sid(self.next_sid);
            self.next_sid = self.next_sid.saturating_add(1);
            known.sid = Some(sid);
            let identity = Identity { shard, session, client_id: client_id.into() };
            out.push(Change::Insert(keys::of(kind::IDENTITY, sid), identity.encode()));
            sid
        });
        if self.reserved < self.next_sid {
            self.reserved = self.next_sid.saturating_add(RESERVE);
            out.push(Change::Put(keys::NEXT_SID.into(), self.reserved.to_be_bytes().into()));
        }
        let lifetime = Lifetime { expiry_s, ends: None };
        out.push(Change::Put(keys::of(kind::LIFETIME, sid), lifetime.encode()));
    }

    fn end_session(
        &mut self,
        shard: ShardId,
        session: SessionId,
        out: &mut Vec<Change>,
    ) -> Option<Sid> {
        let sid = self.sessions.remove(&(shard, session))?.sid?;
        for kind in [kind::IDENTITY, kind::LIFETIME, kind::WILL] {
            out.push(Change::Delete(keys::of(kind, sid)));
        }
        out.push(Change::Put(keys::of(kind::ENDING, sid), Vec::new()));
        Some(sid)
    }
}

impl Translator {
    /// A name was given, and is given to nothing else.
    pub(crate) fn number(&mut self, shard: ShardId, message: MsgId, out: &mut Vec<Change>) {
        // What another shard named, before the number of shards changed, counts there.
        let last = self.numbered.entry(shard).or_default();
        if message.shard != shard || (message.epoch, message.number) <= *last {
            return;
        }
        *last = (message.epoch, message.number);
        let mut value = Vec::with_capacity(12);
        value.u32(message.epoch);
        value.u64(message.number);
        out.push(Change::Put(keys::numbered(shard), value));
    }
}

impl Known {
    /// As the session does: what will not come again is forgotten.
    fn remember(&mut self, sid: Sid, source: Source, topic: u64, out: &mut Vec<Change>) {
        let floor = MsgId { number: source.floor, ..source.id };
        let first = MsgId { number: 0, ..source.id };
        while let Some(over) = self.seen.range(first..floor).next().copied() {
            self.seen.remove(&over);
            out.push(Change::Delete(keys::seen(sid, over)));
        }
        self.see(sid, source.id, topic, out);
    }

    fn see(&mut self, sid: Sid, message: MsgId, topic: u64, out: &mut Vec<Change>) {
        self.seen.insert(message);
        out.push(Change::Put(keys::seen(sid, message), topic.to_be_bytes().into()));
    }
}

/// The session that a record is about.
const fn session_of(record: &Record) -> Option<SessionId> {
    match record {
        Record::Session { session, .. }
        | Record::Detached { session, .. }
        | Record::Ended { session }
        | Record::WillSet { session, .. }
        | Record::Subscribed { session, .. }
        | Record::Unsubscribed { session, .. }
        | Record::Enqueued { session, .. }
        | Record::Seen { session, .. }
        | Record::Backlog { session, .. }
        | Record::Dropped { session, .. }
        | Record::Sent { session, .. }
        | Record::Releasing { session, .. }
        | Record::Received { session, .. }
        | Record::Acknowledged { session, .. }
        | Record::Held { session, .. }
        | Record::Released { session, .. } => Some(*session),
        Record::Outgoing { .. }
        | Record::Delivered { .. }
        | Record::Numbered { .. }
        | Record::Retained { .. }
        | Record::RetainedRemoved { .. } => None,
    }
}
