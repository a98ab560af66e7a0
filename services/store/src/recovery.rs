//! From rows to records: what the shards of a broker read before they start.

use std::collections::{BTreeMap, BTreeSet};

use codec::{Message, PacketId, Will};
use session_core::{
    Load, Loaded, MsgId, Place, Publication, Queued, Record, Shard, ShardConfig, ShardId, ShardMap,
    Subscription, Time, repartition,
};

use crate::{
    book::Opening,
    changes::{Change, Translator},
    keys::{self, Sid, kind},
    rows::Rows,
    subjects::Subjects,
    tables::{Tables, Unreadable},
    values::{self, Exchange, Identity, Lifetime},
    wire::{Reader, Write},
};

/// What the store remembers.
#[derive(Debug, Default)]
pub struct Recovered {
    /// For each shard, the records that it reads before it starts.
    pub logs: Vec<Vec<Record>>,
    /// Sessions that there are.
    pub sessions: usize,
    /// Rows that are there and cannot be read, in words.
    pub losses: Vec<String>,
    /// Bytes at the end of the log that were never durable, and are cut off.
    pub torn_bytes: u64,
    /// The number of shards before, if it was another.
    pub shards_before: Option<u16>,
}

/// What a store has to do before its shards start.
#[derive(Debug, Default)]
pub(crate) struct Restart {
    pub(crate) recovered: Recovered,
    pub(crate) translator: Translator,
    /// To be written first.
    pub(crate) changes: Vec<Change>,
    /// Sessions whose rows are to be swept away.
    pub(crate) ended: BTreeSet<Sid>,
}

/// The rows of one session.
#[derive(Debug)]
struct Session {
    identity: Identity,
    lifetime: Lifetime,
    will: Option<(Will, Option<Time>)>,
    subscriptions: Vec<(String, Subscription)>,
    exchanges: Vec<(PacketId, Exchange, Option<Queued>)>,
    waiting: Vec<Queued>,
    /// The last place, if messages are left out.
    through: Option<Place>,
    seen: Vec<(MsgId, u64)>,
    held: Vec<(PacketId, Publication)>,
}

/// All rows but those that wait for their turn.
#[derive(Debug, Default)]
struct Everything {
    sessions: BTreeMap<Sid, Session>,
    /// Rows of these belong to no session.
    ended: BTreeSet<Sid>,
    numbered: Vec<(ShardId, u32, u64)>,
    outgoing: Vec<(ShardId, MsgId, Publication)>,
    retained: Vec<session_core::Retained>,
    /// On whose rights those rest.
    subjects: Subjects,
    /// Waiting messages of one session that are read.
    first_messages: usize,
    losses: Vec<String>,
}

/// Reads what the shards of this map have to know. A new epoch of names begins if the map is another
/// than before, or if the caller says so because something is lost.
pub(crate) fn recover<T: Tables>(
    rows: &Rows<T>,
    map: ShardMap,
    topic_levels: u8,
    how: Opening,
    lost: bool,
) -> Restart {
    let before = rows.get(&keys::MAP).and_then(|value| decode_map(&value));
    let next = rows.get(&keys::NEXT_NUMBER).and_then(|value| value.try_into().ok());
    let next = next.map_or(1, u64::from_be_bytes);
    let mut everything =
        Everything { first_messages: how.first_messages.max(1), ..Everything::default() };
    everything.read(rows);
    let lost = lost || !everything.losses.is_empty();
    let sids: BTreeMap<Box<str>, Sid> = everything
        .sessions
        .iter()
        .map(|(sid, session)| (session.identity.client_id.clone(), *sid))
        .collect();
    let mut restart = Restart {
        translator: Translator::new(next, how.share_bytes),
        ended: everything.ended.clone(),
        ..Restart::default()
    };
    everything.ended.iter().for_each(|sid| restart.translator.know_given(sid.0));
    restart.recovered.sessions = sids.len();
    restart.recovered.losses = std::mem::take(&mut everything.losses);
    restart.learn_bodies(rows, lost);
    let (old_map, old_levels) = before.unwrap_or((map, topic_levels));
    let mut logs = everything.records(old_map);
    if old_map != map || lost {
        restart.recovered.shards_before = (old_map != map).then_some(old_map.shards());
        let shards: Vec<Shard> =
            old_map.all().zip(logs).map(|(id, log)| shard_of(id, old_map, log)).collect();
        everything.forget_names(&mut restart.changes);
        logs = repartition(&shards, map);
    }
    for (shard, log) in (0..).map(ShardId).zip(&logs) {
        restart.learn(shard, log, &sids, old_map != map || lost);
    }
    if before.is_none() || (old_map, old_levels) != (map, topic_levels) {
        let mut value = Vec::new();
        value.u16(map.shards());
        value.u8(topic_levels);
        restart.changes.push(Change::Put(keys::MAP.into(), value));
    }
    restart.recovered.logs = logs;
    restart
}

fn decode_map(value: &[u8]) -> Option<(ShardMap, u8)> {
    let mut rest = Reader(value);
    let (shards, levels) = (rest.u16()?, rest.u8()?);
    Some((ShardMap::new(shards, levels), levels))
}

fn shard_of(id: ShardId, map: ShardMap, log: Vec<Record>) -> Shard {
    let mut config = ShardConfig::new(id, map);
    config.durable = true;
    Shard::recovered(config, log)
}

impl Restart {
    /// Learns which bodies are rows of their own. After damage their counts cannot be trusted: then all
    /// messages are looked at.
    fn learn_bodies<T: Tables>(&mut self, rows: &Rows<T>, lost: bool) {
        let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
        let range = |kind: u8| ([kind], keys::end_of(&[kind]));
        let (from, to) = range(kind::COUNT);
        rows.each(&from, &to, |key, value| {
            let number = Reader(key.get(1..).unwrap_or_default()).u64();
            counts.extend(number.zip(Reader(&value).u32()));
        });
        if lost {
            let written = std::mem::take(&mut counts);
            let (from, to) = range(kind::QUEUED);
            rows.each(&from, &to, |_, value| {
                if let Some(body) = values::body_of(&value) {
                    let count = counts.entry(body).or_default();
                    *count = count.saturating_add(1);
                }
            });
            for (body, count) in &counts {
                let value = count.to_be_bytes().into();
                self.changes.push(Change::Put(keys::count(*body), value));
            }
            for body in written.keys().filter(|body| !counts.contains_key(body)) {
                self.changes.push(Change::Delete(keys::body(*body)));
                self.changes.push(Change::Delete(keys::count(*body)));
            }
        }
        counts.into_iter().for_each(|(body, count)| self.translator.know_body(body, count));
    }

    /// Learns which sessions there are, and notes what has other names than before.
    fn learn(
        &mut self,
        shard: ShardId,
        log: &[Record],
        sids: &BTreeMap<Box<str>, Sid>,
        renamed: bool,
    ) {
        for record in log {
            match record {
                Record::Session { session, client_id, .. } => {
                    let Some(sid) = sids.get(client_id) else { continue };
                    self.translator.know(shard, *session, *sid);
                    if renamed {
                        let client_id = client_id.clone();
                        let identity = Identity { shard, session: *session, client_id };
                        let key = keys::of(kind::IDENTITY, *sid);
                        self.changes.push(Change::Put(key, identity.encode()));
                    }
                }
                Record::Seen { session, message, .. } if !renamed => {
                    self.translator.know_seen(shard, *session, *message);
                }
                Record::Numbered { epoch, last } => {
                    let message = MsgId { epoch: *epoch, shard, number: *last };
                    let mut changes = Vec::new();
                    self.translator.number(shard, message, &mut changes);
                    if renamed {
                        self.changes.append(&mut changes);
                    }
                }
                Record::Seen { .. } | Record::Held { .. } | Record::Outgoing { .. } if renamed => {
                    self.translator.translate(shard, record, &|_| None, &mut self.changes);
                }
                _ => {}
            }
        }
    }
}

impl Everything {
    fn read<T: Tables>(&mut self, rows: &Rows<T>) {
        self.read_sessions(rows);
        self.read_queues(rows);
        let shard_message =
            |rest: &mut Reader<'_>| Some((ShardId(rest.u16()?), keys::message(rest)?));
        self.each(rows, kind::OUTGOING, |all, key, value| {
            let (shard, message) = shard_message(&mut Reader(key))?;
            let publication = values::decode_publication(shard, value, &mut all.subjects)?;
            all.outgoing.push((shard, message, publication));
            Some(())
        });
        self.each(rows, kind::NUMBERED, |all, key, value| {
            let (mut key, mut value) = (Reader(key), Reader(value));
            all.numbered.push((ShardId(key.u16()?), value.u32()?, value.u64()?));
            Some(())
        });
        self.each(rows, kind::RETAINED, |all, _, value| {
            all.retained.push(values::decode_retained(value, &mut all.subjects)?);
            Some(())
        });
        self.each(rows, kind::ENDING, |all, key, _| {
            all.ended.insert(Sid(Reader(key).u64()?));
            Some(())
        });
    }

    fn read_sessions<T: Tables>(&mut self, rows: &Rows<T>) {
        self.each(rows, kind::IDENTITY, |all, key, value| {
            let sid = Sid(Reader(key).u64()?);
            let session = Session {
                identity: Identity::decode(value)?,
                // Should its row be lost, it is kept.
                lifetime: Lifetime { expiry_s: u32::MAX, ends: None },
                will: None,
                subscriptions: Vec::new(),
                exchanges: Vec::new(),
                waiting: Vec::new(),
                through: None,
                seen: Vec::new(),
                held: Vec::new(),
            };
            all.sessions.insert(sid, session);
            Some(())
        });
        self.each_of_session(rows, kind::LIFETIME, |session, _, value| {
            session.lifetime = Lifetime::decode(value)?;
            Some(())
        });
        self.each_of_session(rows, kind::WILL, |session, _, value| {
            session.will = Some(values::decode_will(value)?);
            Some(())
        });
        self.each_of_session(rows, kind::SUBSCRIPTION, |session, key, value| {
            let filter = std::str::from_utf8(key.rest()).ok()?;
            session.subscriptions.push((filter.into(), values::decode_subscription(value)?));
            Some(())
        });
        self.each_of_session(rows, kind::EXCHANGE, |session, key, value| {
            session.exchanges.push((keys::packet_id(key)?, Exchange::decode(value)?, None));
            Some(())
        });
        self.each_of_session(rows, kind::SEEN, |session, key, value| {
            session.seen.push((keys::message(key)?, Reader(value).u64()?));
            Some(())
        });
        let mut subjects = Subjects::default();
        self.each_of_session(rows, kind::HELD, |session, key, value| {
            let shard = session.identity.shard;
            let publication = values::decode_publication(shard, value, &mut subjects)?;
            session.held.push((keys::packet_id(key)?, publication));
            Some(())
        });
    }

    /// The messages of open exchanges, and the first of those that wait. Whatever else waits is skipped
    /// over, however much it is.
    fn read_queues<T: Tables>(&mut self, rows: &Rows<T>) {
        let all = [kind::QUEUED];
        let (mut begin, end) = (all.to_vec(), keys::end_of(&all));
        loop {
            let (mut first, gaps) = rows.collect(&begin, &end, 1);
            self.lose(&gaps);
            let Some((key, _)) = first.pop() else { break };
            let sid = Reader(key.get(1..).unwrap_or_default()).u64();
            let Some(sid) = sid.map(Sid) else {
                begin = [&key[..], &[0]].concat();
                continue;
            };
            self.read_queue(rows, sid);
            begin = keys::of(kind::QUEUED, Sid(sid.0.saturating_add(1)));
        }
        // Whose messages are all lost has no row that leads here.
        let is_open = |session: &Session| {
            session.exchanges.iter().any(|(_, one, message)| !one.released && message.is_none())
        };
        let unread = self.sessions.iter().filter(|(_, session)| is_open(session));
        for sid in unread.map(|(sid, _)| *sid).collect::<Vec<_>>() {
            self.read_queue(rows, sid);
        }
    }

    fn read_queue<T: Tables>(&mut self, rows: &Rows<T>, sid: Sid) {
        let Some(session) = self.sessions.get_mut(&sid) else {
            self.ended.insert(sid);
            return;
        };
        let mut losses = Vec::new();
        session.exchanges.sort_by_key(|(_, exchange, _)| exchange.place);
        let mut first = 0;
        for (packet_id, exchange, message) in &mut session.exchanges {
            first = exchange.place.number.saturating_add(1);
            if exchange.released {
                continue;
            }
            let number = exchange.place.number;
            let value = rows.get(&keys::queued(sid, number));
            *message = value.and_then(|value| {
                values::decode_queued(number, &value, |body| read_body(rows, body))
            });
            if message.is_none() {
                losses.push(format!(
                    "the message of the exchange {} of client {:?}",
                    packet_id.get(),
                    session.identity.client_id
                ));
            }
        }
        session.exchanges.retain(|(_, exchange, message)| exchange.released || message.is_some());
        let (from, to) = (keys::queued(sid, first), keys::end_of(&keys::of(kind::QUEUED, sid)));
        let (found, gaps) = rows.collect(&from, &to, self.first_messages);
        let is_all = found.len() < self.first_messages;
        for (key, value) in found {
            match queued_at(rows, &key, &value) {
                Some(queued) => session.waiting.push(queued),
                None => losses.push(keys::describe(&key)),
            }
        }
        if !is_all {
            let last = rows.last(&from, &to).and_then(|(key, value)| queued_at(rows, &key, &value));
            session.through = last.map(|last| last.place);
        }
        self.losses.append(&mut losses);
        self.lose(&gaps);
    }

    fn each<T: Tables>(
        &mut self,
        rows: &Rows<T>,
        kind: u8,
        mut read: impl FnMut(&mut Self, &[u8], &[u8]) -> Option<()>,
    ) {
        let prefix = [kind];
        let gaps = rows.each(&prefix, &keys::end_of(&prefix), |key, value| {
            if read(self, key.get(1..).unwrap_or_default(), &value).is_none() {
                self.losses.push(keys::describe(&key));
            }
        });
        self.lose(&gaps);
    }

    fn each_of_session<T: Tables>(
        &mut self,
        rows: &Rows<T>,
        kind: u8,
        mut read: impl FnMut(&mut Session, &mut Reader<'_>, &[u8]) -> Option<()>,
    ) {
        self.each(rows, kind, |all, key, value| {
            let mut key = Reader(key);
            let sid = Sid(key.u64()?);
            match all.sessions.get_mut(&sid) {
                Some(session) => read(session, &mut key, value),
                None => {
                    all.ended.insert(sid);
                    Some(())
                }
            }
        });
    }

    fn lose(&mut self, gaps: &[Unreadable]) {
        self.losses.extend(gaps.iter().map(describe_gap));
    }

    /// The logs of the shards that wrote these rows.
    fn records(&self, map: ShardMap) -> Vec<Vec<Record>> {
        let mut logs: Vec<Vec<Record>> = map.all().map(|_| Vec::new()).collect();
        let mut give = |shard: ShardId, record| {
            if let Some(log) = logs.get_mut(usize::from(shard.0)) {
                log.push(record);
            }
        };
        for (shard, epoch, last) in &self.numbered {
            give(*shard, Record::Numbered { epoch: *epoch, last: *last });
        }
        for session in self.sessions.values() {
            let shard = session.identity.shard;
            session.records().into_iter().for_each(|record| give(shard, record));
        }
        for retained in &self.retained {
            let shard = map.topic(retained.message.topic());
            give(shard, Record::Retained { retained: Box::new(retained.clone()) });
        }
        for (shard, message, publication) in &self.outgoing {
            let publication = Box::new(publication.clone());
            give(*shard, Record::Outgoing { message: *message, publication });
        }
        logs
    }

    /// Removes the rows that hold names of sessions and shards: they are written anew.
    fn forget_names(&self, changes: &mut Vec<Change>) {
        for (sid, session) in &self.sessions {
            let seen = session.seen.iter().map(|(message, _)| keys::seen(*sid, *message));
            changes.extend(seen.map(Change::Delete));
        }
        let outgoing = self.outgoing.iter();
        let outgoing = outgoing.map(|(shard, message, _)| keys::outgoing(*shard, *message));
        changes.extend(outgoing.map(Change::Delete));
    }
}

impl Session {
    /// As [`Shard::snapshot`] gives them.
    fn records(&self) -> Vec<Record> {
        let Identity { session, client_id, .. } = &self.identity;
        let (session, client_id) = (*session, client_id.clone());
        let Lifetime { expiry_s, ends } = self.lifetime;
        let mut records = vec![Record::Session { session, client_id, expiry_s }];
        if ends.is_some() {
            records.push(Record::Detached { session, expiry_s, ends });
        }
        if let Some((will, due)) = self.will.clone() {
            records.push(Record::WillSet { session, will: Some(Box::new(will)), due });
        }
        for (filter, subscription) in &self.subscriptions {
            let (filter, subscription) = (filter.as_str().into(), *subscription);
            records.push(Record::Subscribed { session, filter, subscription });
        }
        let enqueued = |queued: &Queued| Record::Enqueued {
            session,
            queued: Box::new(queued.clone()),
            source: None,
        };
        let mut exchanges: Vec<_> = self.exchanges.iter().collect();
        exchanges.sort_by_key(|(_, exchange, _)| exchange.place);
        for (packet_id, exchange, message) in exchanges {
            let (packet_id, place) = (*packet_id, exchange.place);
            match message {
                _ if exchange.released => {
                    records.push(Record::Releasing { session, packet_id, place });
                }
                Some(queued) => {
                    records.push(enqueued(queued));
                    records.push(Record::Sent { session, packet_id, place });
                }
                None => {}
            }
        }
        records.extend(self.waiting.iter().map(enqueued));
        records.extend(self.through.map(|through| Record::Backlog { session, through }));
        for (message, topic) in &self.seen {
            records.push(Record::Seen { session, message: *message, topic: *topic });
        }
        for (packet_id, publication) in &self.held {
            let publication = Box::new(publication.clone());
            records.push(Record::Held { session, packet_id: *packet_id, publication });
        }
        records
    }
}

/// A message and its place.
fn queued_at<T: Tables>(rows: &Rows<T>, key: &[u8], value: &[u8]) -> Option<Queued> {
    let mut rest = Reader(key.get(9..)?);
    let number = rest.u64()?;
    let queued = values::decode_queued(number, value, |body| read_body(rows, body))?;
    rest.is_at_end().then_some(queued)
}

/// A message that several sessions wait for.
pub(crate) fn read_body<T: Tables>(rows: &Rows<T>, number: u64) -> Option<Message> {
    Message::from_bytes(&rows.get(&keys::body(number))?)
}

/// The next part of a backlog, and what of it is lost.
pub(crate) fn read_backlog<T: Tables>(
    rows: &Rows<T>,
    sid: Sid,
    load: Load,
) -> (Loaded, Vec<String>) {
    let from = keys::queued(sid, load.after.number.saturating_add(1));
    let to = keys::queued(sid, load.through.number.saturating_add(1));
    let max = (load.messages_max as usize).max(1);
    let (found, gaps) = rows.collect(&from, &to, max);
    let mut losses: Vec<String> = gaps.iter().map(describe_gap).collect();
    let mut complete = found.len() < max;
    let (mut messages, mut bytes) = (Vec::new(), 0_u64);
    for (key, value) in found {
        let Some(queued) = queued_at(rows, &key, &value) else {
            losses.push(keys::describe(&key));
            continue;
        };
        bytes = bytes.saturating_add(queued.message.size() as u64);
        if bytes > load.bytes_max && !messages.is_empty() {
            complete = false;
            break;
        }
        messages.push(queued);
    }
    (Loaded { load, messages, complete }, losses)
}

pub(crate) fn describe_gap(gap: &Unreadable) -> String {
    let after = gap.after.as_deref().map_or_else(|| "the beginning".into(), keys::describe);
    format!("rows behind {after} and before {}: {}", keys::describe(&gap.before), gap.error)
}
