//! From records to rows: what a record of the core changes in the store. Pure; nothing is read.

use std::collections::{BTreeMap, BTreeSet};

use codec::Message;
use session_core::{MsgId, Place, Queued, Record, SessionId, ShardId, Source, topic_mark};

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
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    sid: Sid,
    seen: BTreeSet<MsgId>,
}

/// Turns records into changes. Knows the numbers of the living sessions, and which of their rows go
/// without a record that says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Translator {
    sessions: BTreeMap<(ShardId, SessionId), Known>,
    /// The next number that is given to a session or a body.
    next: u64,
    /// Numbers below this one may be taken, by the store's word.
    reserved: u64,
    /// The last name that each shard gave: epoch and number.
    numbered: BTreeMap<ShardId, (u32, u64)>,
    /// The message that was queued last, and the number of its body if that is a row of its own. Who is
    /// next to wait for it shares that row: the second of a crowd makes it.
    last: Option<(Message, Option<u64>)>,
    /// Bodies that are rows of their own, and how many rows refer to each.
    bodies: BTreeMap<u64, u32>,
    /// What is not written yet about queued messages that have such a body or may have one: its number, or
    /// that they are gone.
    unwritten: BTreeMap<Vec<u8>, Option<u64>>,
    /// Messages of fewer bytes are never rows of their own.
    share_bytes: usize,
}

/// Finds the value of a row that is written.
pub(crate) type Find<'a> = &'a dyn Fn(&[u8]) -> Option<Vec<u8>>;

/// How many numbers are reserved at a time: one write for so many new sessions or bodies.
const RESERVE: u64 = 1024;

impl Translator {
    /// A translator for a store in which numbers below `next` may have been given.
    pub(crate) fn new(next: u64, share_bytes: usize) -> Self {
        Self { next, reserved: next, share_bytes, ..Self::default() }
    }

    /// A number was given, whatever the store says: the row that said so may be lost.
    pub(crate) fn know_given(&mut self, number: u64) {
        self.next = self.next.max(number.saturating_add(1));
    }

    /// A body that so many rows refer to.
    pub(crate) fn know_body(&mut self, number: u64, count: u32) {
        self.know_given(number);
        self.bodies.insert(number, count);
    }

    /// Everything so far is written.
    pub(crate) fn written(&mut self) {
        self.unwritten.clear();
    }

    /// A session that was there before.
    pub(crate) fn know(&mut self, shard: ShardId, session: SessionId, sid: Sid) {
        self.know_given(sid.0);
        self.sessions.insert((shard, session), Known { sid, seen: BTreeSet::new() });
    }

    /// A publication that such a session has seen.
    pub(crate) fn know_seen(&mut self, shard: ShardId, session: SessionId, message: MsgId) {
        if let Some(known) = self.sessions.get_mut(&(shard, session)) {
            known.seen.insert(message);
        }
    }

    pub(crate) fn sid(&self, shard: ShardId, session: SessionId) -> Option<Sid> {
        Some(self.sessions.get(&(shard, session))?.sid)
    }

    /// The changes that a record of a shard means, appended to `out`. Returns the number of a session
    /// that ended with it and whose other rows are to be swept away.
    pub(crate) fn translate(
        &mut self,
        shard: ShardId,
        record: &Record,
        find: Find<'_>,
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
            Record::Enqueued { session, queued, source } => {
                self.enqueue(shard, *session, queued, source.as_deref().copied(), out);
            }
            Record::Dropped { session, place } => {
                if let Some(sid) = self.sid(shard, *session) {
                    self.unqueue(sid, *place, find, out);
                }
            }
            record => self.translate_of_session(shard, record, find, out),
        }
        None
    }

    fn translate_of_session(
        &mut self,
        shard: ShardId,
        record: &Record,
        find: Find<'_>,
        out: &mut Vec<Change>,
    ) {
        let Some(session) = session_of(record) else { return };
        let Some(known) = self.sessions.get_mut(&(shard, session)) else { return };
        let sid = known.sid;
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
            Record::Seen { message, topic, .. } => known.see(sid, *message, *topic, out),
            Record::Sent { packet_id, place, .. } => {
                let exchange = Exchange { place: *place, released: false };
                out.push(Change::Insert(keys::exchange(sid, *packet_id), exchange.encode()));
            }
            Record::Received { packet_id, place, .. }
            | Record::Releasing { packet_id, place, .. } => {
                let exchange = Exchange { place: *place, released: true };
                out.push(Change::Put(keys::exchange(sid, *packet_id), exchange.encode()));
                self.unqueue(sid, *place, find, out);
            }
            Record::Acknowledged { packet_id, place, .. } => {
                out.push(Change::Delete(keys::exchange(sid, *packet_id)));
                self.unqueue(sid, *place, find, out);
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

    fn enqueue(
        &mut self,
        shard: ShardId,
        session: SessionId,
        queued: &Queued,
        source: Option<Source>,
        out: &mut Vec<Change>,
    ) {
        let Some(sid) = self.sid(shard, session) else { return };
        let body = self.body(&queued.message, out);
        let key = keys::queued(sid, queued.place.number);
        if let Some(number) = body {
            self.unwritten.insert(key.clone(), Some(number));
        }
        out.push(Change::Insert(key, values::encode_queued(queued, body)));
        if let Some(source) = source
            && let Some(known) = self.sessions.get_mut(&(shard, session))
        {
            known.remember(sid, source, topic_mark(queued.message.topic()), out);
        }
    }

    /// The number of a message's body, if one more session waits for it than the first.
    fn body(&mut self, message: &Message, out: &mut Vec<Change>) -> Option<u64> {
        if message.size() < self.share_bytes {
            return None;
        }
        let known = self.last.take().filter(|(last, _)| last.is_same(message));
        let Some((_, body)) = known else {
            self.last = Some((message.clone(), None));
            return None;
        };
        let number = body.filter(|number| self.bodies.contains_key(number)).unwrap_or_else(|| {
            let number = self.next_number(out);
            out.push(Change::Insert(keys::body(number), message.as_bytes().into()));
            number
        });
        self.last = Some((message.clone(), Some(number)));
        let count = self.bodies.entry(number).or_default();
        *count = count.saturating_add(1);
        out.push(Change::Put(keys::count(number), count.to_be_bytes().into()));
        Some(number)
    }

    /// A queued message is gone, and with it perhaps the last that referred to its body.
    fn unqueue(&mut self, sid: Sid, place: Place, find: Find<'_>, out: &mut Vec<Change>) {
        let key = keys::queued(sid, place.number);
        if !self.bodies.is_empty() {
            let unwritten = self.unwritten.insert(key.clone(), None);
            let body = unwritten.unwrap_or_else(|| values::body_of(&find(&key)?));
            body.into_iter().for_each(|body| self.release(body, out));
        }
        out.push(Change::Delete(key));
    }

    /// One row less refers to a body.
    pub(crate) fn release(&mut self, body: u64, out: &mut Vec<Change>) {
        let Some(count) = self.bodies.get_mut(&body) else { return };
        *count = count.saturating_sub(1);
        if *count > 0 {
            return out.push(Change::Put(keys::count(body), count.to_be_bytes().into()));
        }
        self.bodies.remove(&body);
        out.push(Change::Delete(keys::body(body)));
        out.push(Change::Delete(keys::count(body)));
    }

    /// A number that is given once, to a session or a body.
    fn next_number(&mut self, out: &mut Vec<Change>) -> u64 {
        let number = self.next;
        self.next = self.next.saturating_add(1);
        if self.reserved < self.next {
            self.reserved = self.next.saturating_add(RESERVE);
            out.push(Change::Put(keys::NEXT_NUMBER.into(), self.reserved.to_be_bytes().into()));
        }
        number
    }

    fn begin_session(
        &mut self,
        shard: ShardId,
        session: SessionId,
        client_id: &str,
        expiry_s: u32,
        out: &mut Vec<Change>,
    ) {
        let sid = self.sid(shard, session).unwrap_or_else(|| {
            let sid = Sid(self.next_number(out));
            self.know(shard, session, sid);
            let identity = Identity { shard, session, client_id: client_id.into() };
            out.push(Change::Insert(keys::of(kind::IDENTITY, sid), identity.encode()));
            sid
        });
        let lifetime = Lifetime { expiry_s, ends: None };
        out.push(Change::Put(keys::of(kind::LIFETIME, sid), lifetime.encode()));
    }

    fn end_session(
        &mut self,
        shard: ShardId,
        session: SessionId,
        out: &mut Vec<Change>,
    ) -> Option<Sid> {
        let Known { sid, .. } = self.sessions.remove(&(shard, session))?;
        for kind in [kind::IDENTITY, kind::LIFETIME, kind::WILL] {
            out.push(Change::Delete(keys::of(kind, sid)));
        }
        out.push(Change::Put(keys::of(kind::ENDING, sid), Vec::new()));
        Some(sid)
    }

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
