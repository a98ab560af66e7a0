//! The broker without sockets and threads: framers, shards and the bytes that leave them. What
//! happens in here is what the figures are of.

use std::collections::VecDeque;

use codec::{Frame, Framer, Role};
use session_core::{
    ConnId, Effect, Effects, Input, Origin, Shard, ShardConfig, ShardId, ShardMap, ShardMsg, Time,
    Transport,
};

/// It stands still: no scenario is about timers.
const NOW: Time = Time(1_000_000);

/// Bytes that a socket takes before it is asked again; no scenario fills one.
const CREDIT_BYTES: u32 = 1 << 20;

/// All shards of a broker, and their connections.
pub(crate) struct Broker {
    map: ShardMap,
    shards: Vec<Shard>,
    links: Vec<Link>,
    /// Links that were written to in this turn.
    written: Vec<usize>,
    /// What shards told each other and has not arrived.
    mail: VecDeque<(ShardId, ShardId, Box<ShardMsg>)>,
    effects: Effects,
}

/// The broker's side of a connection.
struct Link {
    shard: ShardId,
    conn: ConnId,
    framer: Framer,
    out: Vec<u8>,
    /// Bytes of `out` that the shard knows of as sent.
    sent: usize,
}

impl Broker {
    /// A broker of so many shards that have said all they have to say to each other.
    pub(crate) fn new(shards: u16) -> Self {
        let map = ShardMap::new(shards, 2);
        let mut broker = Self {
            map,
            shards: map.all().map(|id| Shard::new(ShardConfig::new(id, map))).collect(),
            links: Vec::new(),
            written: Vec::new(),
            mail: VecDeque::new(),
            effects: Effects::new(),
        };
        for id in map.all() {
            broker.shards[usize::from(id.0)].start(NOW, &mut broker.effects);
            broker.carry_out(id);
        }
        broker.settle();
        broker
    }

    /// Who owns what.
    pub(crate) fn map(&self) -> ShardMap {
        self.map
    }

    /// Accepts a connection at this shard, and returns its number.
    pub(crate) fn open(&mut self, shard: ShardId) -> usize {
        let number = self.links.len();
        let slot = u32::try_from(number).expect("few connections");
        let conn = ConnId { slot, epoch: 0 };
        let limits = ShardConfig::new(shard, self.map).limits;
        self.links.push(Link {
            shard,
            conn,
            framer: Framer::new(
                Role::Server,
                limits.connect_packet_bytes_max,
                limits.packet_bytes_max,
            ),
            out: Vec::new(),
            sent: 0,
        });
        let origin = Origin {
            listener: "tcp://127.0.0.1:1883".into(),
            peer: None,
            transport: Transport::Tcp,
            certificates: Vec::new(),
            server_name: None,
            proxied: None,
        };
        let input = Input::Opened { conn, origin: Box::new(origin), credit: CREDIT_BYTES };
        self.handle(shard, input);
        number
    }

    /// Bytes arrive: one turn of a worker.
    pub(crate) fn receive(&mut self, number: usize, mut bytes: &[u8]) {
        let Link { shard, conn, .. } = self.links[number];
        while let Some(packet) =
            self.links[number].framer.decode(&mut bytes).expect("clients keep the rules")
        {
            self.handle(shard, Input::Packet { conn, packet });
        }
        self.settle();
    }

    /// The peer of a connection vanishes.
    pub(crate) fn lose(&mut self, number: usize) {
        let Link { shard, conn, .. } = self.links[number];
        self.handle(shard, Input::Closed { conn });
        self.settle();
    }

    /// What was written to a connection since the last call.
    pub(crate) fn take_output(&mut self, number: usize) -> Vec<u8> {
        let link = &mut self.links[number];
        link.sent = 0;
        std::mem::take(&mut link.out)
    }

    fn handle(&mut self, shard: ShardId, input: Input) {
        self.shards[usize::from(shard.0)].handle(NOW, input, &mut self.effects);
        self.carry_out(shard);
    }

    fn carry_out(&mut self, from: ShardId) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Send { conn, frame } => self.write(conn, &frame),
                Effect::SendMany(crowd) => {
                    for (conn, packet_id) in crowd.conns {
                        self.write(conn, &crowd.frame.with_packet_id(packet_id));
                    }
                }
                Effect::Tell { to, msg } => self.mail.push_back((from, to, msg)),
                Effect::Note(_) => {}
                other => panic!("no scenario is about {other:?}"),
            }
        }
        self.effects = effects;
    }

    fn write(&mut self, conn: ConnId, frame: &Frame) {
        let number = conn.slot as usize;
        let link = &mut self.links[number];
        if link.sent == link.out.len() {
            self.written.push(number);
        }
        frame.encode(&mut link.out);
    }

    /// Lets shards hear each other, do what they put off, and learn what the sockets took.
    fn settle(&mut self) {
        loop {
            if let Some((from, to, msg)) = self.mail.pop_front() {
                self.handle(to, Input::Told { from, msg });
            } else if let Some(shard) = self.late() {
                self.handle(shard, Input::Tick);
            } else if let Some(number) = self.written.pop() {
                let link = &mut self.links[number];
                let bytes = u32::try_from(link.out.len() - link.sent).expect("bounded by credit");
                link.sent = link.out.len();
                let (shard, conn) = (link.shard, link.conn);
                self.handle(shard, Input::Sent { conn, bytes });
            } else {
                return;
            }
        }
    }

    /// A shard that put work off.
    fn late(&self) -> Option<ShardId> {
        let is_late = |id: &ShardId| {
            let timeout = self.shards[usize::from(id.0)].next_timeout();
            timeout.is_some_and(|time| time <= NOW)
        };
        self.map.all().find(is_late)
    }
}
