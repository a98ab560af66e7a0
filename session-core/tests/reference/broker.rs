//! Shards, the links between them, their disks, and clients that speak when they are told to.

use std::collections::{BTreeMap, VecDeque};

use codec::{Ack, Connect, Frame, Framer, Packet, ProtocolVersion, Publish, QoS, Role};
use session_core::{
    Cause, CommitSeq, ConnId, Effect, Input, Origin, Record, Shard, ShardConfig, ShardId, ShardMap,
    ShardMsg, Time, Transport,
};

use crate::{cases::seed_bug, packets::id};

/// A client as its peer sees it.
#[derive(Default)]
pub(crate) struct Client {
    /// Its connection: the shard, and the name there.
    pub(crate) conn: Option<(usize, ConnId)>,
    /// What it got and has not looked at.
    pub(crate) inbox: Vec<Packet>,
    /// Why its last connection was closed, by whom it was not.
    pub(crate) closed: Option<Cause>,
    /// Answers to what it got that it has not given.
    pub(crate) owed: VecDeque<Packet>,
    /// Bytes that its socket took and has not told of.
    unreported: u32,
    next_packet_id: u16,
}

/// The broker and its clients; every call of it goes on until nothing is left to be done.
pub(crate) struct Broker {
    pub(crate) now: Time,
    pub(crate) shards: Vec<Shard>,
    pub(crate) clients: Vec<Client>,
    /// For each shard, the records of each call that made some: a log keeps or loses them together.
    pub(crate) logs: Vec<Vec<Vec<Record>>>,
    /// Every effect of every shard, if somebody wants to compare them.
    pub(crate) effects: Option<Vec<(usize, Effect)>>,
    /// Clients answer each PUBLISH, PUBREC and PUBREL at once.
    pub(crate) acknowledging: bool,
    /// Invariants are checked after every step; where the state is large, that takes too long.
    pub(crate) checking: bool,
    /// How many bytes a socket takes before it tells of them.
    pub(crate) credit: u32,
    /// Between the times at which the shards want to be called, they are called all the same.
    pub(crate) restless: bool,
    /// For each shard, whether it made records that are not durable.
    unsaved: Vec<bool>,
    links: BTreeMap<(usize, usize), VecDeque<Box<ShardMsg>>>,
    conns: BTreeMap<(usize, ConnId), (usize, ProtocolVersion)>,
    connections: u32,
}

impl Broker {
    /// A started broker of so many shards and clients, with a configuration that is changed before.
    pub(crate) fn new(shards: u16, clients: usize, change: impl Fn(&mut ShardConfig)) -> Self {
        let map = ShardMap::new(shards, 2);
        Self::recovered(
            clients,
            Time(1_000_000),
            map.all()
                .map(|shard| {
                    let mut config = ShardConfig::new(shard, map);
                    change(&mut config);
                    Shard::new(config)
                })
                .collect(),
        )
    }

    /// Starts shards that may have recovered something.
    pub(crate) fn recovered(clients: usize, now: Time, shards: Vec<Shard>) -> Self {
        seed_bug();
        let mut broker = Self {
            now,
            logs: vec![Vec::new(); shards.len()],
            clients: (0..clients).map(|_| Client::default()).collect(),
            effects: None,
            acknowledging: true,
            checking: true,
            credit: u32::MAX,
            restless: false,
            unsaved: vec![false; shards.len()],
            shards,
            links: BTreeMap::new(),
            conns: BTreeMap::new(),
            connections: 0,
        };
        for shard in 0..broker.shards.len() {
            let mut effects = Vec::new();
            broker.shards[shard].start(now, &mut effects);
            broker.shards[shard].check().expect("invariants");
            broker.carry_out(shard, effects);
        }
        broker.settle();
        broker
    }

    /// Opens a connection at some shard and sends CONNECT; the client's earlier connection, if
    /// there is one, is left alone.
    pub(crate) fn connect(&mut self, client: usize, connect: Connect) {
        self.open(client, self.connections as usize % self.shards.len(), connect);
        self.settle();
    }

    fn open(&mut self, client: usize, shard: usize, connect: Connect) {
        let conn = self.open_silently(client, shard, connect.version);
        self.input(shard, Input::Packet { conn, packet: Packet::Connect(Box::new(connect)) });
    }

    /// Opens a connection without a CONNECT.
    pub(crate) fn open_silently(
        &mut self,
        client: usize,
        shard: usize,
        version: ProtocolVersion,
    ) -> ConnId {
        self.connections += 1;
        let is_free = |slot: &u32| {
            self.conns.keys().all(|(other, conn)| *other != shard || conn.slot != *slot)
        };
        let slot = (0..).find(is_free).expect("few");
        let conn = ConnId { slot, epoch: self.connections };
        self.conns.insert((shard, conn), (client, version));
        self.clients[client].conn = Some((shard, conn));
        self.clients[client].closed = None;
        self.clients[client].owed.clear();
        self.clients[client].unreported = 0;
        let origin = Origin {
            listener: "test".into(),
            peer: None,
            transport: Transport::Tcp,
            certificates: Vec::new(),
            server_name: None,
            proxied: None,
        };
        self.input(shard, Input::Opened { conn, origin: Box::new(origin), credit: self.credit });
        conn
    }

    /// The network of a client fails.
    pub(crate) fn drop_connection(&mut self, client: usize) {
        if let Some((shard, conn)) = self.clients[client].conn.take() {
            self.conns.remove(&(shard, conn));
            self.clients[client].owed.clear();
            self.input(shard, Input::Closed { conn });
            self.settle();
        }
    }

    /// A client that is connected sends a packet.
    pub(crate) fn send(&mut self, client: usize, packet: Packet) {
        self.send_only(client, packet);
        self.settle();
    }

    fn send_only(&mut self, client: usize, packet: Packet) {
        if let Some((shard, conn)) = self.clients[client].conn {
            self.input(shard, Input::Packet { conn, packet });
        }
    }

    /// A client publishes under a Packet Identifier of its own choice, and says PUBREL at once.
    pub(crate) fn publish(&mut self, client: usize, publish: Publish) {
        self.publish_all(client, [publish]);
    }

    /// The same with many messages, without waiting for an answer in between.
    pub(crate) fn publish_all(
        &mut self,
        client: usize,
        publishes: impl IntoIterator<Item = Publish>,
    ) {
        for mut publish in publishes {
            let next = &mut self.clients[client].next_packet_id;
            *next = *next % 60_000 + 1;
            let packet_id = id(*next);
            publish.packet_id = publish.packet_id.map(|_| packet_id);
            let qos = publish.qos;
            self.send_only(client, Packet::Publish(publish));
            if qos == QoS::ExactlyOnce {
                self.send_only(client, Packet::PubRel(Ack::success(packet_id)));
            }
        }
        self.settle();
    }

    /// What a client got since this was asked last.
    pub(crate) fn take(&mut self, client: usize) -> Vec<Packet> {
        std::mem::take(&mut self.clients[client].inbox)
    }

    /// The PUBLISH packets that a client got since its inbox was emptied last; all else is dropped.
    pub(crate) fn take_publishes(&mut self, client: usize) -> Vec<Publish> {
        let publish = |packet| match packet {
            Packet::Publish(publish) => Some(publish),
            _ => None,
        };
        self.take(client).into_iter().filter_map(publish).collect()
    }

    /// Time passes, and each shard is called exactly when it wants to be.
    pub(crate) fn advance(&mut self, ms: u64) {
        let end = self.now.plus_ms(ms);
        loop {
            let due = self.next_timeout().unwrap_or(Time::NEVER).max(self.now);
            if self.restless {
                self.call_before(due.min(end));
            }
            if due > end {
                break;
            }
            self.now = due;
            self.settle();
        }
        self.now = end;
    }

    /// How many nodes the trees of all shards have: their memory of topics. An empty shard has two.
    pub(crate) fn nodes(&self) -> usize {
        self.shards.iter().map(|shard| format!("{shard:?}").matches("Node {").count()).sum()
    }

    /// When the first of the shards wants to be called.
    pub(crate) fn next_timeout(&self) -> Option<Time> {
        self.shards.iter().filter_map(Shard::next_timeout).min()
    }

    /// A call before its time changes nothing, and brings nothing about.
    fn call_before(&self, due: Time) {
        let ms = due.since_ms(self.now);
        for early in [0, 1, ms / 2, ms.saturating_sub(1)].into_iter().filter(|early| *early < ms) {
            for before in &self.shards {
                let (mut shard, mut effects) = (before.clone(), Vec::new());
                shard.handle(self.now.plus_ms(early), Input::Tick, &mut effects);
                assert_eq!(effects, [], "{early} of {ms} ms before it wants to be called");
                assert_eq!(&shard, before, "{early} of {ms} ms before it wants to be called");
            }
        }
    }

    /// One input, and nothing that follows from it in other shards.
    pub(crate) fn input(&mut self, shard: usize, input: Input) {
        let mut effects = Vec::new();
        self.shards[shard].handle(self.now, input, &mut effects);
        if self.checking {
            self.shards[shard].check().expect("invariants");
        }
        self.carry_out(shard, effects);
    }

    /// Works until nothing is left that could be done now.
    pub(crate) fn settle(&mut self) {
        for _ in 0..100_000 {
            let busy = self.persist() | self.tick() | self.deliver();
            if !(busy | self.reply() | self.report_sent()) {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    fn persist(&mut self) -> bool {
        let Some(shard) = self.unsaved.iter().position(|unsaved| *unsaved) else { return false };
        self.unsaved[shard] = false;
        self.input(shard, Input::Persisted { through: CommitSeq(u64::MAX) });
        true
    }

    fn tick(&mut self) -> bool {
        let due = |shard: &Shard| shard.next_timeout().is_some_and(|due| due <= self.now);
        let due: Vec<usize> = (0..self.shards.len()).filter(|n| due(&self.shards[*n])).collect();
        due.iter().for_each(|shard| self.input(*shard, Input::Tick));
        !due.is_empty()
    }

    fn deliver(&mut self) -> bool {
        let Some((link, msg)) = self
            .links
            .iter_mut()
            .find_map(|(link, queue)| queue.pop_front().map(|msg| (*link, msg)))
        else {
            return false;
        };
        let from = ShardId(u16::try_from(link.0).expect("few"));
        self.input(link.1, Input::Told { from, msg });
        true
    }

    fn reply(&mut self) -> bool {
        self.acknowledging && (0..self.clients.len()).any(|client| self.answer(client))
    }

    /// A socket that took much says so.
    fn report_sent(&mut self) -> bool {
        let credit = self.credit;
        let Some(client) = self.clients.iter_mut().find(|client| client.unreported >= credit)
        else {
            return false;
        };
        let bytes = std::mem::take(&mut client.unreported);
        if let Some((shard, conn)) = client.conn {
            self.input(shard, Input::Sent { conn, bytes });
        }
        true
    }

    /// A client gives the answer that it has owed longest; false if it owes none.
    fn answer(&mut self, client: usize) -> bool {
        let answer = self.clients[client].owed.pop_front();
        let owed = answer.is_some();
        if let Some(packet) = answer {
            self.send_only(client, packet);
        }
        owed
    }

    /// The same, and all that follows.
    pub(crate) fn acknowledge(&mut self, client: usize) {
        self.answer(client);
        self.settle();
    }

    fn carry_out(&mut self, shard: usize, effects: Vec<Effect>) {
        if let Some(all) = &mut self.effects {
            all.extend(effects.iter().map(|effect| (shard, effect.clone())));
        }
        let mut batch = Vec::new();
        for effect in effects.into_iter().flat_map(Effect::each) {
            let speaks =
                matches!(effect, Effect::Send { .. } | Effect::Close { .. } | Effect::Tell { .. });
            assert!(!(speaks && self.unsaved[shard]), "{effect:?} waits for the log");
            match effect {
                Effect::Send { conn, frame } => self.receive(shard, conn, &frame),
                Effect::Close { conn, cause } => self.hang_up(shard, conn, cause),
                Effect::Move { conn, connect, to } => {
                    if let Some((client, _)) = self.conns.remove(&(shard, conn)) {
                        self.open(client, usize::from(to.0), *connect);
                    }
                }
                Effect::Tell { to, msg } => {
                    self.links.entry((shard, usize::from(to.0))).or_default().push_back(msg);
                }
                Effect::Persist { record, .. } => {
                    self.unsaved[shard] = true;
                    batch.push(*record);
                }
                // What is paused for the sake of its socket goes on when that has room, in this call.
                Effect::Pause { .. } | Effect::Resume { .. } => {}
                Effect::Note(_) | Effect::Reply { .. } => {}
                other => panic!("nobody asked for {other:?}"),
            }
        }
        if !batch.is_empty() {
            self.logs[shard].push(batch);
        }
    }

    fn hang_up(&mut self, shard: usize, conn: ConnId, cause: Cause) {
        let Some((client, _)) = self.conns.remove(&(shard, conn)) else { return };
        let client = &mut self.clients[client];
        client.closed = Some(cause);
        if client.conn.take_if(|current| *current == (shard, conn)).is_some() {
            client.owed.clear();
        }
    }

    /// A client reads the bytes of a packet.
    fn receive(&mut self, shard: usize, conn: ConnId, frame: &Frame) {
        let Some((client, version)) = self.conns.get(&(shard, conn)).copied() else { return };
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        let mut framer = Framer::new(Role::Client(version), u32::MAX, u32::MAX);
        let packet = framer.decode(&mut &*bytes).expect("valid").expect("whole");
        if self.clients[client].conn == Some((shard, conn)) {
            self.clients[client].owed.extend(answer_to(&packet));
            let bytes = u32::try_from(bytes.len()).expect("short");
            self.clients[client].unreported = self.clients[client].unreported.saturating_add(bytes);
        }
        self.clients[client].inbox.push(packet);
    }
}

/// The acknowledgement that a packet asks for.
fn answer_to(packet: &Packet) -> Option<Packet> {
    match packet {
        Packet::Publish(publish) => publish.packet_id.map(|id| match publish.qos {
            QoS::ExactlyOnce => Packet::PubRec(Ack::success(id)),
            _ => Packet::PubAck(Ack::success(id)),
        }),
        Packet::PubRel(ack) => Some(Packet::PubComp(Ack::success(ack.packet_id))),
        _ => None,
    }
}
