//! A shard that is rebuilt from any prefix of its log, or from a snapshot and what followed it.
//!
//! The reference folds records into plain maps. The core's own snapshot is a log too, so that the
//! same fold reads it: what was written one by one and what the shard says of itself must agree.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use codec::{PacketId, Will};
use session_core::{
    MsgId, Publication, QueueFull, Queued, Record, Retained, SessionId, SessionRef, Shard,
    ShardConfig, ShardId, ShardMap, Source, Subscription, Time, repartition,
};

use crate::{
    broker::Broker,
    cases::for_all,
    script::{self, CLIENTS, Step},
};

/// What the log says of one session.
#[derive(Clone, Debug, PartialEq)]
struct Remembered {
    client_id: Box<str>,
    expiry_s: u32,
    ends: Option<Time>,
    will: Option<(Will, Option<Time>)>,
    subscriptions: BTreeMap<Arc<str>, Subscription>,
    waiting: Vec<Queued>,
    /// In the order of their first transmission; without the message once PUBREC came.
    exchanges: Vec<(PacketId, Option<Queued>)>,
    held: BTreeMap<PacketId, Publication>,
    seen: BTreeSet<MsgId>,
}

/// What the log says of the shard.
#[derive(Clone, Debug, Default, PartialEq)]
struct Durable {
    sessions: BTreeMap<SessionId, Remembered>,
    retained: BTreeMap<Vec<u8>, Retained>,
    owed: BTreeMap<MsgId, Publication>,
}

impl Durable {
    fn of(records: impl IntoIterator<Item = Record>) -> Self {
        let mut durable = Self::default();
        records.into_iter().for_each(|record| durable.fold(record));
        durable
    }

    fn session(&mut self, id: SessionId) -> &mut Remembered {
        self.sessions.get_mut(&id).expect("the log speaks of living sessions")
    }

    fn fold(&mut self, record: Record) {
        match record {
            Record::Session { session, client_id, expiry_s } => {
                let remembered = self.sessions.entry(session).or_insert(Remembered {
                    client_id,
                    expiry_s,
                    ends: None,
                    will: None,
                    subscriptions: BTreeMap::new(),
                    waiting: Vec::new(),
                    exchanges: Vec::new(),
                    held: BTreeMap::new(),
                    seen: BTreeSet::new(),
                });
                remembered.expiry_s = expiry_s;
                remembered.ends = None;
            }
            Record::Detached { session, expiry_s, ends } => {
                let session = self.session(session);
                session.expiry_s = expiry_s;
                session.ends = ends;
            }
            Record::Ended { session } => drop(self.sessions.remove(&session)),
            Record::WillSet { session, will, due } => {
                self.session(session).will = will.map(|will| (*will, due));
            }
            Record::Subscribed { session, filter, subscription } => {
                self.session(session).subscriptions.insert(filter, subscription);
            }
            Record::Unsubscribed { session, filter } => {
                self.session(session).subscriptions.remove(&filter);
            }
            Record::Enqueued { session, queued, source } => {
                let session = self.session(session);
                session.waiting.push(*queued);
                if let Some(source) = source {
                    session.see(*source);
                }
            }
            Record::Seen { session, message, .. } => {
                self.session(session).seen.insert(message);
            }
            Record::Backlog { .. } => panic!("nothing is on disk only"),
            Record::Dropped { session, place } => {
                assert_eq!(self.session(session).waiting.remove(0).place, place);
            }
            Record::Sent { session, packet_id, place } => {
                let session = self.session(session);
                let queued = session.waiting.remove(0);
                assert_eq!(queued.place, place);
                session.exchanges.push((packet_id, Some(queued)));
            }
            Record::Releasing { session, packet_id, .. } => {
                self.session(session).exchanges.push((packet_id, None));
            }
            Record::Received { session, packet_id, .. } => {
                *self.session(session).exchange(packet_id) = None;
            }
            Record::Acknowledged { session, packet_id, .. } => {
                let session = self.session(session);
                session.exchange(packet_id);
                session.exchanges.retain(|(id, _)| *id != packet_id);
            }
            Record::Held { session, packet_id, publication } => {
                self.session(session).held.insert(packet_id, *publication);
            }
            Record::Released { session, packet_id, message, publication } => {
                let held = self.session(session).held.remove(&packet_id).expect("held");
                assert_eq!(held, *publication);
                assert!(self.owed.insert(message, held).is_none(), "a name is used once");
            }
            Record::Outgoing { message, publication } => {
                assert!(self.owed.insert(message, *publication).is_none(), "a name is used once");
            }
            Record::Delivered { message } => drop(self.owed.remove(&message).expect("owed")),
            Record::Numbered { .. } => {}
            Record::Retained { retained } => {
                self.retained.insert(retained.message.topic().into(), *retained);
            }
            Record::RetainedRemoved { topic } => {
                self.retained.remove(&*topic).expect("there was one");
            }
        }
    }
}

impl Remembered {
    fn see(&mut self, source: Source) {
        let Source { id, floor } = source;
        self.seen
            .retain(|one| (one.epoch, one.shard) != (id.epoch, id.shard) || one.number >= floor);
        self.seen.insert(id);
    }

    fn exchange(&mut self, id: PacketId) -> &mut Option<Queued> {
        let exchange = self.exchanges.iter_mut().find(|(open, _)| *open == id);
        exchange.map(|(_, queued)| queued).expect("the exchange is open")
    }
}

fn configure(config: &mut ShardConfig) {
    config.durable = true;
    config.limits.send_window_max = 2;
    config.limits.packet_id_max = 3;
    // A message for several sessions takes several calls, so that the log may end in between.
    config.limits.deliveries_per_turn_max = 1;
    config.limits.session_queue_max = 4;
    config.limits.session_queue_full = QueueFull::DropOldest;
}

fn recover(records: impl IntoIterator<Item = Record>) -> Shard {
    recover_at(ShardId(0), ShardMap::new(1, 2), records)
}

fn recover_at(id: ShardId, map: ShardMap, records: impl IntoIterator<Item = Record>) -> Shard {
    let mut config = ShardConfig::new(id, map);
    configure(&mut config);
    Shard::recovered(config, records)
}

/// What a shard remembers, by its own account.
fn account(shard: &Shard) -> Durable {
    Durable::of(shard.snapshot())
}

fn run(steps: &[Step], seen: &RefCell<BTreeSet<String>>) {
    let mut broker = Broker::new(1, CLIENTS, configure);
    broker.acknowledging = false;
    for (number, step) in steps.iter().enumerate() {
        script::carry_out(&mut broker, number, step);
    }
    let batches = std::mem::take(&mut broker.logs[0]);
    let records = |batches: &[Vec<Record>]| batches.concat();
    let all = Durable::of(records(&batches));
    seen.borrow_mut().append(&mut kinds(records(&batches)));
    assert_eq!(account(&broker.shards[0]), all, "what lives is what was written");

    for cut in 0..=batches.len() {
        let (before, after) = batches.split_at(cut);
        let expected = Durable::of(records(before));
        let shard = recover(records(before));
        assert_eq!(account(&shard), expected, "replay of {cut} batches");

        let again = recover(shard.snapshot());
        seen.borrow_mut().append(&mut kinds(shard.snapshot()));
        assert_eq!(account(&again), expected, "a snapshot of {cut} batches, read back");
        let last = |shard: &Shard| {
            shard.snapshot().find(|record| matches!(record, Record::Numbered { .. }))
        };
        assert_eq!(last(&again), last(&shard), "numbers are never used again");

        let compacted = recover(shard.snapshot().chain(records(after)));
        assert_eq!(account(&compacted), all, "a snapshot of {cut} batches, and what followed");

        // A broker that starts with it writes on in the same book, and nothing twice.
        let started = Broker::recovered(CLIENTS, broker.now, vec![shard]);
        for record in started.logs[0].iter().flatten() {
            if let Record::Enqueued { session, source: Some(source), .. } = record {
                let seen = &expected.sessions[session].seen;
                // [MQTT-4.3.3-10]
                assert!(!seen.contains(&source.id), "{source:?} again");
            }
        }
        let written = before.iter().chain(&started.logs[0]).flatten().cloned();
        assert_eq!(account(&started.shards[0]), Durable::of(written), "started after {cut}");
    }
}

/// The variant's name of every record that was written or came in a snapshot.
fn kinds(records: impl IntoIterator<Item = Record>) -> BTreeSet<String> {
    let name = |record| format!("{record:?}").split(' ').next().unwrap_or_default().to_owned();
    records.into_iter().map(name).collect()
}

/// `[MQTT-4.1.0-1]` `[MQTT-3.1.2-23]`
#[test]
fn any_prefix_of_the_log_rebuilds_what_it_says() {
    let seen = RefCell::default();
    for_all(200, &script::steps(true, 50), |steps| run(&steps, &seen));
    assert_eq!(seen.borrow().len(), 20, "every record there is: {seen:?}");
}

/// What all shards of a broker remember together, without the names that they have for it.
#[derive(Debug, PartialEq)]
struct Together {
    sessions: BTreeMap<Box<str>, Remembered>,
    retained: BTreeMap<Vec<u8>, Retained>,
    owed: BTreeMap<MsgId, Publication>,
    /// The Client Identifiers of the publishers of what is held and what is owed, where there are
    /// any; No Local has to know them.
    publishers: Vec<Option<Box<str>>>,
}

impl Together {
    fn of(shards: &[Shard]) -> Self {
        let accounts: Vec<Durable> = shards.iter().map(account).collect();
        let mut names = BTreeMap::new();
        for (id, durable) in (0_u16..).map(ShardId).zip(&accounts) {
            for (session, remembered) in &durable.sessions {
                names.insert(SessionRef { shard: id, session: *session }, &remembered.client_id);
            }
        }
        let mut publishers = Vec::new();
        let mut rename = |of: &mut Publication| {
            let publisher = of.publisher.take();
            publishers.push(publisher.and_then(|who| names.get(&who).map(|id| (*id).clone())));
            of.origin = ShardId(0);
        };
        let held = |durable: &Durable| durable.sessions.values().cloned().collect::<Vec<_>>();
        let mut sessions: BTreeMap<Box<str>, Remembered> = accounts
            .iter()
            .flat_map(held)
            .map(|session| (session.client_id.clone(), session))
            .collect();
        sessions.values_mut().flat_map(|one| one.held.values_mut()).for_each(&mut rename);
        let mut owed: BTreeMap<MsgId, Publication> =
            accounts.iter().flat_map(|durable| durable.owed.clone()).collect();
        owed.values_mut().for_each(&mut rename);
        for session in sessions.values_mut() {
            // What is owed no longer need not be remembered.
            session.seen.retain(|message| owed.contains_key(message));
        }
        let retained = accounts.iter().flat_map(|durable| durable.retained.clone()).collect();
        Self { sessions, retained, owed, publishers }
    }
}

/// `[MQTT-4.1.0-1]`: whatever the number of shards was and will be.
#[test]
fn another_number_of_shards_remembers_the_same() {
    let owed = RefCell::new(0);
    for_all(150, &script::steps(true, 50), |steps| {
        for (before, after) in [(3, 2), (2, 5), (1, 3), (3, 1)] {
            let mut broker = Broker::new(before, CLIENTS, configure);
            broker.acknowledging = false;
            for (number, step) in steps.iter().enumerate() {
                script::carry_out(&mut broker, number, step);
            }
            let map = ShardMap::new(before, 2);
            // The logs end where they may, and not at one moment.
            let ends = |id: usize, len: usize| len - len.min((steps.len() + 3 * id) % 5);
            let disks: Vec<Shard> = map
                .all()
                .zip(&broker.logs)
                .map(|(id, log)| {
                    let end = ends(usize::from(id.0), log.len());
                    recover_at(id, map, log[..end].concat())
                })
                .collect();
            let map = ShardMap::new(after, 2);
            let dealt = map.all().zip(repartition(&disks, map));
            let dealt: Vec<Shard> = dealt.map(|(id, log)| recover_at(id, map, log)).collect();
            assert_eq!(dealt.len(), usize::from(after));
            let together = Together::of(&dealt);
            assert_eq!(together, Together::of(&disks), "{before} shards, then {after}");
            let known = together.publishers.iter().flatten().count();
            *owed.borrow_mut() += known.min(together.owed.len());
            for client in together.sessions.keys() {
                let owner = &dealt[usize::from(map.session(client).0)];
                assert!(owner.view().clients().any(|(id, _)| id == &**client), "{client}");
            }
        }
    });
    assert!(*owed.borrow() > 50, "publications were owed: {}", owed.borrow());
}
