//! What always holds, in words that a machine can check.
//!
//! Every layer of tests calls [`Shard::check`] after every step; each clause has a test that
//! corrupts a state and expects the clause to say so.

use alloc::collections::BTreeSet;

use super::{
    Shard,
    conn::{Conn, Phase},
    msg::Unrouted,
    session::{Queued, Session, Stage},
    table::SessionId,
    timer::Timer,
};

/// A broken invariant, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Violation(pub &'static str);

impl core::fmt::Display for Violation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "broken invariant: {}", self.0)
    }
}

impl core::error::Error for Violation {}

fn ensure(holds: bool, name: &'static str) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation(name)) }
}

fn bytes<'a>(queue: impl IntoIterator<Item = &'a Queued>) -> u64 {
    queue.into_iter().fold(0, |sum, queued| sum.saturating_add(queued.message.size() as u64))
}

impl Shard {
    /// Checks the invariants between two calls of [`Shard::handle`]; time and memory in proportion
    /// to the state.
    ///
    /// # Errors
    /// The first invariant that does not hold. It is a mistake in this crate.
    pub fn check(&self) -> Result<(), Violation> {
        for conn in self.conns.iter() {
            self.check_conn(conn)?;
        }
        for (id, session) in self.sessions.iter() {
            self.check_session(id, session)?;
            self.check_exchanges(session)?;
            self.check_progress(session)?;
        }
        self.check_names()?;
        self.check_retained()?;
        self.check_index()?;
        self.check_gate()
    }

    fn check_conn(&self, conn: &Conn) -> Result<(), Violation> {
        if let Some(deadline) = conn.deadline {
            let armed = self.timers.contains((deadline, Timer::Conn(conn.id)));
            ensure(armed, "a connection's deadline is armed")?;
        }
        let is_open = |ticket| self.tickets.get(&ticket) == Some(&conn.id);
        ensure(conn.questions().all(is_open), "a client waits for open questions only")?;
        let Phase::Connected(id) = conn.phase else { return Ok(()) };
        let session = self.sessions.get(id);
        let mutual = session.is_some_and(|session| session.conn == Some(conn.id));
        ensure(mutual, "a connection and its session know each other")?;
        let held = session.map_or(0, |session| {
            session.traffic.inbound.values().filter(|held| held.counted).count()
        });
        let answers = self.outgoing.values().filter_map(|one| one.answer?.counted);
        let releasing = answers.filter(|counted| *counted == conn.id).count();
        let used = conn.acks.len().saturating_add(held).saturating_add(releasing);
        ensure(usize::from(conn.inbound_used) == used, "inbound quota equals open exchanges")
    }

    fn check_session(&self, id: SessionId, session: &Session) -> Result<(), Violation> {
        let named = self.session_of(&session.client_id) == Some(id);
        ensure(named, "a session is found by its Client Identifier")?;
        ensure(
            session.traffic.queue.bytes == bytes(&session.traffic.queue.messages),
            "queued bytes equal a recount",
        )?;
        let qos0 = bytes(&session.traffic.queue_qos0.messages);
        ensure(session.traffic.queue_qos0.bytes == qos0, "queued QoS 0 bytes equal a recount")?;
        ensure(!session.is_behind() || self.logs(id), "only what is logged is left to the disk")?;
        let places = session.traffic.queue.messages.iter().map(|queued| queued.place);
        let last = session.traffic.queue.messages.back().map(|queued| queued.place);
        let is_ordered = places.is_sorted_by(|a, b| a.number < b.number)
            && last.is_none_or(|last| last.number <= session.loaded.number)
            && session.loaded.number <= session.last.number;
        ensure(is_ordered, "places are in the order of the queue")?;
        let held = session
            .traffic
            .inbound
            .values()
            .fold(0, |sum: u64, one| sum.saturating_add(one.bytes()));
        ensure(session.traffic.inbound_bytes == held, "held bytes equal a recount")?;
        match session.conn {
            Some(conn) => {
                let connected = self.conns.get(conn).and_then(Conn::session) == Some(id);
                ensure(connected, "a session and its connection know each other")?;
            }
            None => {
                ensure(
                    session.traffic.queue_qos0.is_empty(),
                    "nothing of QoS 0 waits for the absent",
                )?;
                ensure(session.expiry_s > 0, "a session without expiry ends with its connection")?;
                if let Some(ends) = session.ends {
                    let armed = self.timers.contains((ends, Timer::Session(id)));
                    ensure(armed, "the end of a session is armed")?;
                }
                if let Some(will) = &session.will {
                    let armed =
                        will.due.is_some_and(|due| self.timers.contains((due, Timer::Will(id))));
                    ensure(armed, "the Will of an absent client is armed")?;
                }
            }
        }
        Ok(())
    }

    //= [MQTT-2.2.1-4] [MQTT-3.3.4-9]
    fn check_exchanges(&self, session: &Session) -> Result<(), Violation> {
        let ids: BTreeSet<_> = session.traffic.exchanges.iter().map(|e| e.packet_id).collect();
        let unique = ids.len() == session.traffic.exchanges.len();
        ensure(unique, "no two exchanges share a Packet Identifier")?;
        let max = self.config.limits.packet_id_max.max(1);
        let within = ids.iter().all(|id| id.get() <= max);
        ensure(within, "Packet Identifiers stay within their space")?;
        ensure(session.remembers_well(), "an identifier that is known to be free is free")?;
        let sent = session.traffic.exchanges.iter().filter(|exchange| exchange.sent);
        let published = sent.clone().filter(|e| matches!(e.stage, Stage::Published(_))).count();
        let sent = sent.count();
        ensure(usize::from(session.traffic.window_used) == sent, "the window equals a recount")?;
        let unsent = session.traffic.exchanges.len().saturating_sub(sent);
        ensure(session.traffic.unsent as usize == unsent, "unsent exchanges equal a recount")?;
        let window = session.conn.and_then(|conn| self.conns.get(conn)).map_or(0, |c| c.window);
        ensure(published <= usize::from(window), "the receiver's window is kept")
    }

    /// Nothing waits that could go: no wake-up is ever lost.
    fn check_progress(&self, session: &Session) -> Result<(), Violation> {
        let Some(conn) = session.conn.and_then(|conn| self.conns.get(conn)) else { return Ok(()) };
        if !conn.has_room() || session.traffic.subscribing > 0 {
            return Ok(());
        }
        ensure(session.traffic.queue_qos0.is_empty(), "QoS 0 does not wait for an open socket")?;
        let room = session.traffic.window_used < conn.window
            && session.find_packet_id(self.config.limits.packet_id_max).is_some();
        let stalled = room && !(session.traffic.queue.is_empty() && session.traffic.unsent == 0);
        ensure(!stalled, "a message does not wait for an open window")?;
        let missed = room && session.is_behind() && !session.traffic.loading;
        ensure(!missed, "a backlog is asked for when there is room")
    }

    fn check_names(&self) -> Result<(), Violation> {
        let all = self.by_client.len() == self.sessions.len();
        ensure(all, "Client Identifiers name the sessions one to one")?;
        let subscriptions = self
            .sessions
            .iter()
            .fold(0_usize, |sum, (_, session)| sum.saturating_add(session.subscriptions.len()));
        ensure(self.subscriptions as usize == subscriptions, "subscriptions equal a recount")?;
        let open = self.waiters.values().all(|waiter| waiter.is_open());
        ensure(open, "an answered SUBSCRIBE does not wait")
    }

    fn check_retained(&self) -> Result<(), Violation> {
        let (mut count, mut size, mut empty, mut armed) = (0_u32, 0_u64, false, true);
        self.retained.each(|retained| {
            count = count.saturating_add(1);
            size = size.saturating_add(retained.message.size() as u64);
            empty |= retained.message.payload().is_empty();
            let topic = retained.message.topic();
            armed &= retained
                .expires()
                .is_none_or(|expires| self.retained_expiry.contains(&(expires, topic.into())));
        });
        ensure(armed, "the expiry of a retained message is armed")?;
        let same = count == self.retained_count && size == self.retained_bytes;
        ensure(same, "retained messages equal a recount")?;
        //= [MQTT-3.3.1-7]
        ensure(!empty, "no retained message is empty")?;
        let open = self.publishers.wait_for_open_questions();
        ensure(open, "a publisher waits for open questions only")
    }

    /// With one shard and no work left, the topics' half knows what the sessions' half knows.
    fn check_index(&self) -> Result<(), Violation> {
        let is_late = !self.jobs.is_empty() || self.unrouted.iter().any(Unrouted::is_news);
        if self.links.len() > 1 || is_late {
            return Ok(());
        }
        let mut indexed = 0_usize;
        let mut known = true;
        self.index.each(|subscribers| {
            let shared = subscribers.groups().iter().flat_map(|group| &group.members);
            for subscriber in subscribers.plain().chain(shared) {
                indexed = indexed.saturating_add(1);
                known &= self.sessions.get(subscriber.who.session).is_some();
            }
        });
        ensure(known, "the index names living sessions")?;
        ensure(indexed == self.subscriptions as usize, "the index holds every subscription")?;
        ensure(self.index.remembers_well(), "filters that a topic is known to match match it")
    }

    fn check_gate(&self) -> Result<(), Violation> {
        ensure(self.persisted <= self.committed, "nothing is durable before it is committed")?;
        let open = self.persisted == self.committed;
        ensure(!open || self.held.is_empty(), "an open gate holds nothing")?;
        let sorted = self.held.iter().is_sorted_by_key(|(seq, _)| *seq);
        ensure(sorted, "the gate keeps the order")?;
        ensure(self.scratch.is_empty(), "the scratch list is empty between calls")
    }
}

#[cfg(test)]
mod tests {
    use alloc::{boxed::Box, vec::Vec};

    use codec::{Connect, Message, Packet, PacketId, Properties, Publish, QoS, Subscribe};

    use super::{
        super::{
            msg::{SessionRef, Target},
            session::Ids,
            subscribe::Waiter,
            subscribers::Subscribers,
        },
        *,
    };
    use crate::{
        CommitSeq, ConnId, Effect, Input, Origin, ShardConfig, ShardId, ShardMap, Ticket, Time,
        Transport,
    };

    const CONN: ConnId = ConnId { slot: 0, epoch: 0 };

    /// Somebody who subscribed, has one unacknowledged message and one waiting.
    fn shard() -> Shard {
        let mut config = ShardConfig::new(ShardId(0), ShardMap::new(1, 2));
        config.limits.send_window_max = 1;
        let mut shard = Shard::new(config);
        let mut effects = Vec::new();
        shard.start(Time(0), &mut effects);
        let origin = Origin {
            listener: "test".into(),
            peer: None,
            transport: Transport::Tcp,
            certificates: Vec::new(),
            server_name: None,
            proxied: None,
        };
        let mut inputs =
            Vec::from([Input::Opened { conn: CONN, origin: Box::new(origin), credit: 1000 }]);
        let packet_id = PacketId::new(1).expect("not zero");
        let filter = codec::SubscribeFilter {
            filter: "a".into(),
            options: codec::SubscriptionOptions { qos: QoS::AtLeastOnce, ..Default::default() },
        };
        let connect = Connect {
            version: codec::ProtocolVersion::V311,
            bridge: false,
            clean_start: false,
            keep_alive_s: 10,
            client_id: "c".into(),
            will: None,
            user_name: None,
            password: None,
            properties: Properties::new(),
        };
        let subscribe =
            Subscribe { packet_id, properties: Properties::new(), filters: Vec::from([filter]) };
        let message = Message::new("a", &Properties::new(), b"x").expect("short");
        let publish = Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: true,
            packet_id: Some(packet_id),
            topic_alias: None,
            message,
        });
        inputs.extend(
            [
                Packet::Connect(Box::new(connect)),
                Packet::Subscribe(Box::new(subscribe)),
                publish.clone(),
                publish,
            ]
            .map(|packet| Input::Packet { conn: CONN, packet }),
        );
        for input in inputs {
            shard.handle(Time(0), input, &mut effects);
            shard.check().expect("a correct shard");
        }
        let sent = effects.iter().filter(|e| matches!(e, Effect::Send { .. })).count();
        assert_eq!(sent, 5, "CONNACK, SUBACK, PUBLISH and two PUBACKs: {effects:#?}");
        shard
    }

    fn only(shard: &mut Shard) -> &mut Session {
        let id = shard.session_of("c").expect("the only session");
        shard.sessions.get_mut(id).expect("the only session")
    }

    #[test]
    fn each_clause_says_so_when_it_is_broken() {
        type Corruption = fn(&mut Shard);
        let table: &[(&str, Corruption)] = &[
            ("a connection's deadline is armed", |s| s.timers.clear()),
            ("a client waits for open questions only", |s| {
                let conn = s.conns.get_mut(CONN).expect("open");
                conn.edit_rare(|rare| rare.judged = Some(Ticket(9)));
            }),
            ("a publisher waits for open questions only", |s| {
                let subject = crate::Subject { client_id: "c".into(), ..Default::default() };
                s.publishers = super::super::rights::Publishers::waiting(subject.into(), Ticket(9));
            }),
            ("a connection and its session know each other", |s| only(s).conn = None),
            ("inbound quota equals open exchanges", |s| {
                s.conns.get_mut(CONN).expect("open").inbound_used = 3;
            }),
            ("a session is found by its Client Identifier", |s| s.by_client.clear()),
            ("queued bytes equal a recount", |s| only(s).traffic.queue.bytes = 0),
            ("queued QoS 0 bytes equal a recount", |s| only(s).traffic.queue_qos0.bytes = 9),
            ("only what is logged is left to the disk", |s| {
                only(s).last = only(s).last.next(1);
            }),
            ("places are in the order of the queue", |s| {
                only(s).traffic.queue.messages[0].place.number = 9;
            }),
            ("a backlog is asked for when there is room", |s| {
                s.config.durable = true;
                only(s).traffic.queue = Default::default();
                only(s).last = only(s).last.next(1);
                s.conns.get_mut(CONN).expect("open").window = 2;
            }),
            ("an identifier that is known to be free is free", |s| {
                (only(s).next_packet_id, only(s).free_below.0) = (1, 2);
            }),
            ("held bytes equal a recount", |s| only(s).traffic.inbound_bytes = 9),
            ("a session and its connection know each other", |s| {
                s.conns.remove(CONN);
            }),
            ("nothing of QoS 0 waits for the absent", |s| {
                s.handle(Time(0), Input::Closed { conn: CONN }, &mut Vec::new());
                let queued = only(s).traffic.queue.messages[0].clone();
                only(s).traffic.queue_qos0.push(queued);
            }),
            ("a session without expiry ends with its connection", |s| {
                s.handle(Time(0), Input::Closed { conn: CONN }, &mut Vec::new());
                only(s).expiry_s = 0;
            }),
            ("the end of a session is armed", |s| {
                s.handle(Time(0), Input::Closed { conn: CONN }, &mut Vec::new());
                only(s).ends = Some(Time(7));
            }),
            ("the Will of an absent client is armed", |s| {
                s.handle(Time(0), Input::Closed { conn: CONN }, &mut Vec::new());
                let message = only(s).traffic.queue.messages[0].message.clone();
                let (qos, retain) = (QoS::AtMostOnce, false);
                let will = codec::Will { qos, retain, delay_s: 5, message };
                only(s).will = Some(Box::new(super::super::session::PendingWill {
                    will,
                    due: None,
                    by: None,
                }));
            }),
            ("no two exchanges share a Packet Identifier", |s| {
                let twin = only(s).traffic.exchanges[0].clone();
                only(s).traffic.exchanges.push_back(twin);
            }),
            ("Packet Identifiers stay within their space", |s| {
                only(s).traffic.exchanges[0].packet_id = PacketId::new(9).expect("not zero");
                s.config.limits.packet_id_max = 8;
            }),
            ("the window equals a recount", |s| only(s).traffic.window_used = 0),
            ("unsent exchanges equal a recount", |s| only(s).traffic.unsent = 1),
            ("the receiver's window is kept", |s| {
                s.conns.get_mut(CONN).expect("open").window = 0;
            }),
            ("QoS 0 does not wait for an open socket", |s| {
                let queued = only(s).traffic.queue.messages[0].clone();
                only(s).traffic.queue_qos0.push(queued);
            }),
            ("a message does not wait for an open window", |s| {
                s.conns.get_mut(CONN).expect("open").window = 2;
            }),
            ("Client Identifiers name the sessions one to one", |s| s.by_client.repeat()),
            ("subscriptions equal a recount", |s| s.subscriptions = 0),
            ("an answered SUBSCRIBE does not wait", |s| {
                let answered = Waiter::answered(CONN, s.session_of("c").expect("present"));
                s.waiters.insert(9, answered);
            }),
            ("the scratch list is empty between calls", |s| {
                let who =
                    SessionRef { shard: ShardId(0), session: s.session_of("c").expect("present") };
                let (qos, ids) = (QoS::AtMostOnce, Ids::None);
                s.scratch.push(Target { who, qos, retain: false, ids, share: None });
            }),
            ("retained messages equal a recount", |s| s.retained_count = 0),
            ("the expiry of a retained message is armed", |s| {
                let expiry = Properties::from_iter([codec::Property::MessageExpiryInterval(1)]);
                s.retained.get_mut(b"a").expect("retained").message =
                    Message::new("a", &expiry, b"x").expect("short");
            }),
            ("no retained message is empty", |s| {
                let empty = Message::new("a", &Properties::new(), b"").expect("short");
                s.retained_bytes = empty.size() as u64;
                s.retained.get_mut(b"a").expect("retained").message = empty;
            }),
            ("the index names living sessions", |s| {
                let Some(Subscribers::One(one)) = s.index.get_mut(b"a") else { panic!("indexed") };
                one.who.session.generation += 1;
            }),
            ("the index holds every subscription", |s| drop(s.index.remove(b"a"))),
            ("nothing is durable before it is committed", |s| s.persisted = CommitSeq(1)),
            ("an open gate holds nothing", |s| {
                let effect = Effect::Pause { conn: CONN };
                s.held.push_back((CommitSeq(0), effect));
            }),
            ("the gate keeps the order", |s| {
                s.committed = CommitSeq(3);
                for seq in [2, 1] {
                    s.held.push_back((CommitSeq(seq), Effect::Pause { conn: CONN }));
                }
            }),
        ];
        for (name, corrupt) in table {
            let mut shard = shard();
            corrupt(&mut shard);
            assert_eq!(shard.check(), Err(Violation(name)));
        }
    }
}
