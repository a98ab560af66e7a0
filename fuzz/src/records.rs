//! Any records as a log: a shard that reads them back keeps its invariants, delivers what it has, and
//! comes to rest.
//!
//! A log that was damaged has lost records in its middle, so that a session may begin twice, or a
//! message be sent that was never queued. Each record is one that a shard may have written; their
//! order and choice are the input's.

use std::collections::BTreeSet;

use arbitrary::{Result, Unstructured};
use codec::{
    Ack, Connect, Frame, Framer, Message, Packet, PacketId, Properties, Property, ProtocolVersion,
    QoS, Role, SubscriptionOptions, Will,
};
use session_core::{
    CommitSeq, ConnId, Effect, Effects, Extra, Flight, Ids, Input, Loaded, MsgId, Origin, Place,
    Publication, Queued, Record, Retained, SessionId, SessionRef, Shard, ShardConfig, ShardId,
    ShardMap, Shared, Source, Subscription, Time, Transport,
};

/// Records of one input; more only make it slow.
const RECORDS_MAX: usize = 100;

/// Calls within which a shard comes to rest, at the most.
const CALLS_MAX: usize = 2_000;

/// What the clock shows when the shard starts. Records are older and younger.
const START: Time = Time(100_000);

/// Kinds of records.
const KINDS: u8 = 21;

const CLIENTS: [&str; 3] = ["a", "b", "c"];
const TOPICS: [&str; 3] = ["t", "t/u", "v"];
const FILTERS: [&str; 6] = ["t", "t/#", "+/u", "#", "$share/g/t", "$share/g/#"];

/// Reads any records back, starts, lets every client come and acknowledge all, and lets all the
/// time pass that anything waits for.
pub fn records(data: &[u8]) {
    let names = session_ids();
    let mut rest = Unstructured::new(data);
    let mut log = Vec::new();
    let mut place = Place::default();
    while !rest.is_empty() && log.len() < RECORDS_MAX {
        // Places are given in order; which of them are in the log is the input's choice.
        place = place.next(10);
        log.extend(record(&mut rest, &names, place));
    }
    let recovered = recover(log);
    let snapshot: Vec<Record> = recovered.snapshot().collect();
    let again = recover(snapshot.clone());
    // Retained messages come in any order.
    assert_eq!(again.snapshot().count(), snapshot.len());
    let same = again.snapshot().all(|record| snapshot.contains(&record));
    assert!(same, "a snapshot of a snapshot is the same");
    let told = World::new(recovered).live();
    assert_eq!(World::new(again).live(), told, "a snapshot stands for the log");
}

fn recover(log: Vec<Record>) -> Shard {
    let mut config = ShardConfig::new(ShardId(0), ShardMap::new(1, 2));
    config.durable = true;
    Shard::recovered(config, log)
}

/// A shard and its clients, all on a disk that is never late.
struct World {
    shard: Shard,
    now: Time,
    calls: usize,
    /// Records that are not durable yet.
    committed: CommitSeq,
    persisted: CommitSeq,
    /// What the clients were told.
    told: Vec<(ConnId, Packet)>,
}

impl World {
    fn new(shard: Shard) -> Self {
        let (committed, persisted) = Default::default();
        Self { shard, now: START, calls: 0, committed, persisted, told: Vec::new() }
    }

    /// What the clients are told by a shard that starts, and that all of them leave in the end. New
    /// exchanges may have any free Packet Identifiers, so that these are left out.
    fn live(mut self) -> Vec<(ConnId, Packet)> {
        let mut effects = Effects::new();
        self.shard.start(START, &mut effects);
        self.carry_out(effects);
        self.settle(START);
        for (slot, client_id) in (0..).zip(CLIENTS) {
            self.connect(ConnId { slot, epoch: 1 }, client_id);
        }
        let mut answered = 0;
        while let Some((conn, packet)) = self.told.get_mut(answered) {
            answered += 1;
            let conn = *conn;
            if let Some(packet) = answer(packet) {
                self.call(Input::Packet { conn, packet });
                self.settle(self.now);
            }
        }
        assert_eq!(self.shard.view().queued(), 0, "whoever is there gets what waits");
        for slot in (0..).take(CLIENTS.len()) {
            self.call(Input::Closed { conn: ConnId { slot, epoch: 1 } });
        }
        self.settle(Time::NEVER);
        assert_eq!(self.shard.view().sessions(), 0, "every session ends");
        self.told
    }

    fn connect(&mut self, conn: ConnId, client_id: &str) {
        let origin = Origin {
            listener: "fuzz".into(),
            peer: None,
            transport: Transport::Tcp,
            certificates: Vec::new(),
            server_name: None,
            proxied: None,
        };
        self.call(Input::Opened { conn, origin: Box::new(origin), credit: u32::MAX / 4 });
        let connect = Connect {
            version: ProtocolVersion::V5,
            bridge: false,
            clean_start: false,
            keep_alive_s: 0,
            client_id: client_id.into(),
            will: None,
            user_name: None,
            password: None,
            properties: [Property::SessionExpiryInterval(5)].into_iter().collect(),
        };
        self.call(Input::Packet { conn, packet: Packet::Connect(Box::new(connect)) });
        self.settle(self.now);
    }

    /// Lets time pass until nothing waits for it, but no further than to `end`.
    fn settle(&mut self, end: Time) {
        loop {
            if self.persisted < self.committed {
                self.persisted = self.committed;
                self.call(Input::Persisted { through: self.committed });
                continue;
            }
            let Some(next) = self.shard.next_timeout().filter(|next| *next <= end) else { return };
            self.now = self.now.max(next);
            self.call(Input::Tick);
        }
    }

    fn call(&mut self, input: Input) {
        self.calls += 1;
        assert!(self.calls < CALLS_MAX, "it comes to rest");
        let mut effects = Effects::new();
        self.shard.handle(self.now, input, &mut effects);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Effects) {
        self.shard.check().expect("what always holds");
        for effect in effects.into_iter().flat_map(Effect::each) {
            match effect {
                Effect::Persist { seq, .. } => self.committed = seq,
                Effect::Send { conn, frame } => self.told.push((conn, read(&frame))),
                // The disk has lost it.
                Effect::Load(load) => {
                    let (load, messages) = (*load, Vec::new());
                    let loaded = Loaded { load, messages, complete: true };
                    self.call(Input::Loaded(Box::new(loaded)));
                }
                _ => {}
            }
        }
    }
}

/// What a client reads.
fn read(frame: &Frame) -> Packet {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    let mut framer = Framer::new(Role::Client(ProtocolVersion::V5), u32::MAX, u32::MAX);
    match framer.decode(&mut &bytes[..]) {
        Ok(Some(packet)) => packet,
        other => panic!("{frame:?} is no packet for a client: {other:?}"),
    }
}

/// What a client says to a packet that wants an answer; the identifier goes from the packet to it.
fn answer(packet: &mut Packet) -> Option<Packet> {
    let any = PacketId::new(1).expect("not zero");
    match packet {
        Packet::Publish(publish) => {
            let id = std::mem::replace(publish.packet_id.as_mut()?, any);
            Some(match publish.qos {
                QoS::ExactlyOnce => Packet::PubRec(Ack::success(id)),
                _ => Packet::PubAck(Ack::success(id)),
            })
        }
        Packet::PubRel(ack) => {
            Some(Packet::PubComp(Ack::success(std::mem::replace(&mut ack.packet_id, any))))
        }
        _ => None,
    }
}

/// Names of sessions, some of which use the same place one after the other. Only a shard can give
/// them.
fn session_ids() -> Vec<SessionId> {
    let mut names = BTreeSet::new();
    let mut world = World::new(recover(Vec::new()));
    for epoch in 0..2 {
        for (slot, client_id) in (0..).zip(CLIENTS) {
            world.connect(ConnId { slot, epoch }, client_id);
        }
        names.extend(world.shard.snapshot().filter_map(|record| match record {
            Record::Session { session, .. } => Some(session),
            _ => None,
        }));
        for slot in (0..).take(CLIENTS.len()) {
            world.call(Input::Closed { conn: ConnId { slot, epoch } });
        }
        world.settle(Time::NEVER);
    }
    assert_eq!(names.len(), 2 * CLIENTS.len());
    names.into_iter().collect()
}

/// One of the records that a shard writes.
fn record(rest: &mut Unstructured<'_>, names: &[SessionId], place: Place) -> Result<Record> {
    let kind = rest.int_in_range(0..=KINDS - 1)?;
    let session = *rest.choose(names)?;
    Ok(match kind {
        0 => Record::Session {
            session,
            client_id: (*rest.choose(&CLIENTS)?).into(),
            expiry_s: *rest.choose(&[0, 5, 50, u32::MAX])?,
        },
        1 => Record::Detached {
            session,
            expiry_s: *rest.choose(&[0, 5, 50, u32::MAX])?,
            ends: rest.arbitrary::<bool>()?.then_some(time(rest)?),
        },
        2 => Record::Ended { session },
        3 => Record::WillSet {
            session,
            will: if rest.ratio(3, 4)? { Some(Box::new(will(rest)?)) } else { None },
            due: rest.arbitrary::<bool>()?.then_some(time(rest)?),
        },
        4 => Record::Subscribed {
            session,
            filter: (*rest.choose(&FILTERS)?).into(),
            subscription: Subscription {
                options: SubscriptionOptions { qos: qos(rest)?, ..Default::default() },
                id: rest.int_in_range(0..=2)?,
            },
        },
        5 => Record::Unsubscribed { session, filter: (*rest.choose(&FILTERS)?).into() },
        6 => Record::Enqueued {
            session,
            queued: Box::new(queued(rest, place)?),
            source: rest.arbitrary::<bool>()?.then_some(Box::new(source(rest)?)),
        },
        7 => Record::Seen { session, message: named(rest)?, topic: *rest.choose(&[0, u64::MAX])? },
        8 => Record::Dropped { session, place },
        9 => Record::Sent { session, packet_id: packet_id(rest)?, place },
        10 => Record::Releasing { session, packet_id: packet_id(rest)?, place },
        11 => Record::Received { session, packet_id: packet_id(rest)?, place },
        12 => Record::Acknowledged { session, packet_id: packet_id(rest)?, place },
        13 => Record::Held {
            session,
            packet_id: packet_id(rest)?,
            publication: Box::new(publication(rest, session)?),
        },
        14 => Record::Released {
            session,
            packet_id: packet_id(rest)?,
            message: named(rest)?,
            publication: Box::new(publication(rest, session)?),
        },
        15 => Record::Outgoing {
            message: named(rest)?,
            publication: Box::new(publication(rest, session)?),
        },
        16 => Record::Delivered { message: named(rest)? },
        17 => Record::Numbered { epoch: rest.int_in_range(0..=1)?, last: number(rest)? },
        18 => {
            let retained = Retained {
                message: message(rest, b"r")?,
                qos: qos(rest)?,
                at: time(rest)?,
                by: None,
            };
            Record::Retained { retained: Box::new(retained) }
        }
        19 => Record::RetainedRemoved { topic: rest.choose(&TOPICS)?.as_bytes().into() },
        _ => Record::Backlog { session, through: place },
    })
}

/// Around the start of the shard.
fn time(rest: &mut Unstructured<'_>) -> Result<Time> {
    Ok(Time(rest.int_in_range(95..=105)? * 1_000))
}

fn qos(rest: &mut Unstructured<'_>) -> Result<QoS> {
    rest.choose(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]).copied()
}

fn packet_id(rest: &mut Unstructured<'_>) -> Result<PacketId> {
    Ok(PacketId::new(rest.int_in_range(1..=3)?).expect("not zero"))
}

/// The number of a publication that the shard owes.
fn number(rest: &mut Unstructured<'_>) -> Result<u64> {
    rest.int_in_range(1..=4)
}

fn source(rest: &mut Unstructured<'_>) -> Result<Source> {
    Ok(Source { id: named(rest)?, floor: number(rest)? })
}

/// The name of a publication that the shard owes.
fn named(rest: &mut Unstructured<'_>) -> Result<MsgId> {
    Ok(MsgId { epoch: rest.int_in_range(0..=1)?, shard: ShardId(0), number: number(rest)? })
}

fn message(rest: &mut Unstructured<'_>, payload: &[u8]) -> Result<Message> {
    let topic = rest.choose(&TOPICS)?;
    let expiry = if rest.ratio(1, 4)? { Some(Property::MessageExpiryInterval(3)) } else { None };
    let properties: Properties = expiry.into_iter().collect();
    Ok(Message::new(topic, &properties, payload).expect("a valid message"))
}

fn will(rest: &mut Unstructured<'_>) -> Result<Will> {
    let delay_s = *rest.choose(&[0, 2, 20])?;
    let message = message(rest, b"w")?;
    Ok(Will { qos: qos(rest)?, retain: rest.arbitrary()?, delay_s, message })
}

/// A message of QoS 1 or 2; others are not kept.
fn queued(rest: &mut Unstructured<'_>, place: Place) -> Result<Queued> {
    let qos = *rest.choose(&[QoS::AtLeastOnce, QoS::ExactlyOnce])?;
    let extra = if rest.ratio(1, 4)? {
        let filter = (*rest.choose(&FILTERS[4..])?).into();
        let share = rest.arbitrary::<bool>()?.then_some(Shared { filter, qos, retain: false });
        Some(Box::new(Extra { ids: Ids::One(1), share }))
    } else {
        None
    };
    let message = message(rest, b"q")?;
    Ok(Queued { message, qos, retain: rest.arbitrary()?, at: time(rest)?, place, extra })
}

fn publication(rest: &mut Unstructured<'_>, publisher: SessionId) -> Result<Publication> {
    // Retained, an empty message removes the one that there is.
    let payload: &[u8] = if rest.ratio(1, 4)? { b"" } else { b"p" };
    Ok(Publication {
        message: message(rest, payload)?,
        qos: qos(rest)?,
        retain: rest.arbitrary()?,
        at: time(rest)?,
        publisher: Some(SessionRef { shard: ShardId(0), session: publisher }),
        by: None,
        origin: ShardId(0),
        flight: Flight::Unwatched,
    })
}

/// Inputs to begin with: a session, and one record of each kind about it.
pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let session = [0, 0, 0, 1];
    let seed = |kind| [&session[..], &[kind, 0, 0, 0, 0, 0, 0, 0]].concat();
    (0..KINDS).map(|kind| (format!("record-{kind}"), seed(kind))).collect()
}
