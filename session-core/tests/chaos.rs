//! Clients that come and go at random, on one to three shards, with small windows and few Packet
//! Identifiers, while limits change: whatever happens, what was acknowledged arrives, and QoS 2 arrives once.

mod common;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use codec::{
    Ack, Connect, Frame, Message, Packet, PacketId, Properties, Property, ProtocolVersion, Publish,
    QoS, Subscribe, SubscribeFilter, SubscriptionOptions,
};
use session_core::{
    Command, CommitSeq, ConnId, Effect, Input, QueueFull, Shard, ShardConfig, ShardId, ShardMap,
    ShardMsg, Ticket, Time,
};

use common::opened;

const CLIENTS: usize = 4;
const TOPICS: [&str; 3] = ["a/1/x", "b/2/y", "c"];
const CREDIT: u32 = 60;

/// A small generator of random numbers (xorshift), so that a seed names a run for ever.
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// An outbound exchange of a client.
#[derive(Clone)]
enum Sending {
    Published { payload: u32, topic: usize, qos: QoS },
    Released { payload: u32 },
}

/// A client that keeps its side of the protocol, but slowly.
#[derive(Default)]
struct Client {
    conn: Option<(usize, ConnId)>,
    connected: bool,
    /// Packets it will send some time.
    replies: VecDeque<Packet>,
    sending: BTreeMap<u16, Sending>,
    next_id: u16,
    /// QoS 2 identifiers between PUBLISH and PUBREL.
    receiving: BTreeSet<u16>,
    /// Payloads and how often each arrived.
    got: BTreeMap<u32, u32>,
    /// Bytes that its socket has not reported as sent.
    unreported: u32,
}

struct World {
    rng: Rng,
    shards: Vec<Shard>,
    /// Between each two shards, in order.
    mail: BTreeMap<(u16, u16), VecDeque<Box<ShardMsg>>>,
    clients: Vec<Client>,
    conns: BTreeMap<(usize, ConnId), usize>,
    now: Time,
    epoch: u32,
    next_payload: u32,
    /// Payload and QoS of what the broker acknowledged.
    acknowledged: Vec<(u32, QoS)>,
}

fn id(value: u16) -> PacketId {
    PacketId::new(value).expect("not zero")
}

impl World {
    fn new(shards: u16, seed: u64) -> Self {
        let map = ShardMap::new(shards, 2);
        let shards = map.all().map(|shard| {
            let mut config = ShardConfig::new(shard, map);
            config.durable = seed.is_multiple_of(2);
            config.limits.send_window_max = 2;
            config.limits.packet_id_max = 3;
            config.limits.link_in_flight_max = 2;
            config.limits.deliveries_per_turn_max = 1;
            config.limits.session_queue_full = QueueFull::Reject;
            Shard::new(config)
        });
        let mut world = Self {
            rng: Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            shards: shards.collect(),
            mail: BTreeMap::new(),
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            conns: BTreeMap::new(),
            now: Time(1000),
            epoch: 0,
            next_payload: 0,
            acknowledged: Vec::new(),
        };
        for shard in 0..world.shards.len() {
            let mut effects = Vec::new();
            world.shards[shard].start(world.now, &mut effects);
            world.carry_out(shard, effects);
        }
        world
    }

    fn input(&mut self, shard: usize, input: Input) {
        let mut effects = Vec::new();
        self.shards[shard].handle(self.now, input, &mut effects);
        self.shards[shard].check().expect("invariants");
        self.carry_out(shard, effects);
    }

    fn carry_out(&mut self, shard: usize, effects: Vec<Effect>) {
        for effect in effects.into_iter().flat_map(Effect::each) {
            match effect {
                Effect::Send { conn, frame } => self.receive(shard, conn, &frame),
                Effect::Close { conn, .. } => {
                    if let Some(client) = self.conns.remove(&(shard, conn)) {
                        self.clients[client].conn = None;
                    }
                }
                Effect::Move { conn, connect, to } => {
                    // An effect for a connection that is gone by now is harmless.
                    if let Some(client) = self.conns.remove(&(shard, conn)) {
                        self.open(client, usize::from(to.0), *connect);
                    }
                }
                Effect::Tell { to, msg } => {
                    let link = (u16::try_from(shard).expect("few"), to.0);
                    self.mail.entry(link).or_default().push_back(msg);
                }
                _ => {}
            }
        }
    }

    fn open(&mut self, client: usize, shard: usize, connect: Connect) {
        self.epoch += 1;
        let conn = ConnId { slot: client as u32, epoch: self.epoch };
        self.clients[client].conn = Some((shard, conn));
        self.conns.insert((shard, conn), client);
        self.input(shard, opened(conn, CREDIT));
        let packet = Packet::Connect(Box::new(connect));
        self.input(shard, Input::Packet { conn, packet });
    }

    fn connect(&mut self, client: usize) {
        self.drop_connection(client);
        let shard = self.rng.below(self.shards.len());
        let connect = common::connect(
            ProtocolVersion::V5,
            &format!("client-{client}"),
            [Property::SessionExpiryInterval(u32::MAX)].into_iter().collect(),
        );
        self.open(client, shard, connect);
    }

    fn drop_connection(&mut self, client: usize) {
        let state = &mut self.clients[client];
        state.connected = false;
        state.replies.clear();
        state.unreported = 0;
        if let Some((shard, conn)) = state.conn.take() {
            self.conns.remove(&(shard, conn));
            self.input(shard, Input::Closed { conn });
        }
    }

    /// A client gets a packet; what it answers waits.
    fn receive(&mut self, shard: usize, conn: ConnId, frame: &Frame) {
        let Some(&client) = self.conns.get(&(shard, conn)) else { return };
        let state = &mut self.clients[client];
        state.unreported += frame.len() as u32;
        match frame {
            Frame::Publish { message, flags, packet_id, .. } => {
                let payload = u32::from_be_bytes(message.payload().try_into().expect("4 bytes"));
                let first = (flags >> 1) & 3 != 2 || state.receiving.insert(*packet_id);
                if first {
                    *state.got.entry(payload).or_default() += 1;
                }
                match (flags >> 1) & 3 {
                    1 => state.replies.push_back(Packet::PubAck(Ack::success(id(*packet_id)))),
                    2 => state.replies.push_back(Packet::PubRec(Ack::success(id(*packet_id)))),
                    _ => {}
                }
            }
            Frame::Ack { kind, packet_id, reason, .. } => {
                assert!(!reason.is_error() || *kind != codec::AckKind::PubAck, "{frame:?}");
                self.acknowledge(client, *kind, packet_id.get());
            }
            Frame::Packet(_, packet) => match &**packet {
                Packet::ConnAck(_) => self.on_connack(client),
                Packet::PubComp(ack) => {
                    self.acknowledge(client, codec::AckKind::PubComp, ack.packet_id.get());
                }
                Packet::SubAck(_) => {}
                other => panic!("unexpected {other:?}"),
            },
            other => panic!("unexpected {other:?}"),
        }
    }

    fn acknowledge(&mut self, client: usize, kind: codec::AckKind, packet_id: u16) {
        let state = &mut self.clients[client];
        match kind {
            codec::AckKind::PubRel => {
                state.receiving.remove(&packet_id);
                state.replies.push_back(Packet::PubComp(Ack::success(id(packet_id))));
            }
            codec::AckKind::PubRec => {
                if let Some(sending) = state.sending.get_mut(&packet_id) {
                    if let Sending::Published { payload, .. } = *sending {
                        *sending = Sending::Released { payload };
                    }
                    state.replies.push_back(Packet::PubRel(Ack::success(id(packet_id))));
                }
            }
            codec::AckKind::PubAck | codec::AckKind::PubComp => {
                match state.sending.remove(&packet_id) {
                    Some(Sending::Published { payload, qos, .. }) => {
                        self.acknowledged.push((payload, qos));
                    }
                    Some(Sending::Released { payload }) => {
                        self.acknowledged.push((payload, QoS::ExactlyOnce));
                    }
                    None => {}
                }
            }
        }
    }

    /// Subscribes and sends again what is unacknowledged.
    fn on_connack(&mut self, client: usize) {
        let state = &mut self.clients[client];
        state.connected = true;
        let filters = [["a/+/x", "c"], ["#", "b/2/y"], ["b/#", "c"], ["a/1/x", "+/2/#"]][client];
        let filters = filters.map(|filter| SubscribeFilter {
            filter: filter.into(),
            options: SubscriptionOptions { qos: QoS::ExactlyOnce, ..Default::default() },
        });
        state.replies.push_back(Packet::Subscribe(Box::new(Subscribe {
            packet_id: id(60_000),
            properties: Properties::new(),
            filters: filters.to_vec(),
        })));
        for (packet_id, sending) in state.sending.clone() {
            state.replies.push_back(match sending {
                Sending::Published { payload, topic, qos } => {
                    publish(payload, topic, qos, packet_id, true)
                }
                Sending::Released { .. } => Packet::PubRel(Ack::success(id(packet_id))),
            });
        }
    }

    fn publish(&mut self, client: usize) {
        let topic = self.rng.below(TOPICS.len());
        let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce][self.rng.below(2)];
        let state = &mut self.clients[client];
        if !state.connected || state.sending.len() >= 5 {
            return;
        }
        state.next_id = state.next_id % 50_000 + 1;
        self.next_payload += 1;
        let payload = self.next_payload;
        state.sending.insert(state.next_id, Sending::Published { payload, topic, qos });
        state.replies.push_back(publish(payload, topic, qos, state.next_id, false));
    }

    /// One packet of a client reaches the broker.
    fn reply(&mut self, client: usize) -> bool {
        let Some((shard, conn)) = self.clients[client].conn else { return false };
        let Some(packet) = self.clients[client].replies.pop_front() else { return false };
        self.input(shard, Input::Packet { conn, packet });
        true
    }

    fn report_sent(&mut self, client: usize) -> bool {
        let Some((shard, conn)) = self.clients[client].conn else { return false };
        let bytes = std::mem::take(&mut self.clients[client].unreported);
        if bytes > 0 {
            self.input(shard, Input::Sent { conn, bytes });
        }
        bytes > 0
    }

    fn deliver_mail(&mut self) -> bool {
        let links: Vec<_> = self
            .mail
            .iter()
            .filter(|(_, queue)| !queue.is_empty())
            .map(|(link, _)| *link)
            .collect();
        if links.is_empty() {
            return false;
        }
        let (from, to) = links[self.rng.below(links.len())];
        let msg = self.mail.get_mut(&(from, to)).and_then(VecDeque::pop_front).expect("mail");
        self.input(usize::from(to), Input::Told { from: ShardId(from), msg });
        true
    }

    fn tick(&mut self) -> bool {
        let mut worked = false;
        for shard in 0..self.shards.len() {
            if self.shards[shard].next_timeout().is_some_and(|due| due <= self.now) {
                self.input(shard, Input::Tick);
                worked = true;
            }
        }
        worked
    }

    fn persist(&mut self) {
        for shard in 0..self.shards.len() {
            self.input(shard, Input::Persisted { through: CommitSeq(u64::MAX) });
        }
    }

    /// The operator changes limits, of all shards.
    fn reconfigure(&mut self) {
        let drawn = [0; 5].map(|_| u32::try_from(self.rng.below(4)).expect("few") + 1);
        let [links, deliveries, flights, window, receive] = drawn;
        for shard in 0..self.shards.len() {
            let map = ShardMap::new(u16::try_from(self.shards.len()).expect("few"), 2);
            let mut settings = ShardConfig::new(ShardId(0), map).settings();
            settings.limits.link_in_flight_max = links;
            settings.limits.deliveries_per_turn_max = deliveries;
            settings.limits.publishes_in_flight_max = flights;
            settings.limits.send_window_max = u16::try_from(window).expect("few");
            // No less than what a client has open, which may not know the new limit yet.
            settings.limits.receive_maximum = 5 + u16::try_from(receive).expect("few");
            settings.limits.session_queue_full = QueueFull::Reject;
            let command = Box::new(Command::Reconfigure(Box::new(settings)));
            self.input(shard, Input::Command { ticket: Ticket(1), command });
        }
    }

    fn step(&mut self) {
        let client = self.rng.below(CLIENTS);
        match self.rng.below(25) {
            24 if self.rng.below(4) == 0 => self.reconfigure(),
            0 => self.connect(client),
            1 if self.rng.below(3) == 0 => self.drop_connection(client),
            2..=7 => self.publish(client),
            8..=14 => drop(self.reply(client)),
            15..=19 => drop(self.deliver_mail()),
            20 => self.persist(),
            21 | 22 => drop(self.report_sent(client)),
            _ => drop(self.tick()),
        }
    }

    /// The faults stop: everybody connects, and everything that waits goes on until all is quiet.
    fn drain(&mut self) {
        for client in 0..CLIENTS {
            if !self.clients[client].connected {
                self.connect(client);
            }
        }
        loop {
            self.persist();
            let mut worked = self.tick() | self.deliver_mail();
            for client in 0..CLIENTS {
                worked |= self.reply(client) | self.report_sent(client);
            }
            if !worked {
                return;
            }
        }
    }
}

fn publish(payload: u32, topic: usize, qos: QoS, packet_id: u16, dup: bool) -> Packet {
    let message = Message::new(TOPICS[topic], &Properties::new(), &payload.to_be_bytes());
    Packet::Publish(Publish {
        dup,
        qos,
        retain: false,
        packet_id: Some(id(packet_id)),
        topic_alias: None,
        message: message.expect("short"),
    })
}

fn run(shards: u16, seed: u64) -> usize {
    let mut world = World::new(shards, seed);
    // All have their sessions and subscriptions before the first message.
    world.drain();
    for _ in 0..400 {
        world.step();
    }
    world.drain();
    for (number, client) in world.clients.iter().enumerate() {
        assert!(client.sending.is_empty(), "client {number} waits for acknowledgements");
        assert!(client.receiving.is_empty(), "client {number} waits for PUBREL");
    }
    for shard in &world.shards {
        assert_eq!(shard.view().queued(), 0, "everything drained");
    }
    // Client 1 subscribed to everything.
    for (payload, qos) in &world.acknowledged {
        let times = world.clients[1].got.get(payload).copied().unwrap_or(0);
        assert!(times >= 1, "payload {payload} of {qos:?} was acknowledged and lost");
        if *qos == QoS::ExactlyOnce {
            assert_eq!(times, 1, "payload {payload} arrived more than once");
        }
    }
    world.acknowledged.len()
}

#[test]
fn nothing_acknowledged_is_lost_and_qos_2_comes_once() {
    let mut acknowledged = 0;
    for seed in 0..200 {
        for shards in 1..=3 {
            let result = std::panic::catch_unwind(|| run(shards, seed));
            acknowledged +=
                result.unwrap_or_else(|_| panic!("seed {seed} on {shards} shards fails"));
        }
    }
    assert!(acknowledged > 5_000, "the runs did something: {acknowledged}");
}
