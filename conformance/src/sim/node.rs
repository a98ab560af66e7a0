//! One shard with what a runtime keeps for it: the names of its connections, its log, and the
//! questions that wait for an answer. Checks the promises of the core's interface on the way.

use std::collections::{BTreeMap, BTreeSet};

use codec::{Connect, DecodeError, Frame, Packet, ProtocolVersion};
use session_core::{
    Answer, Command, CommitSeq, ConnId, Effect, Effects, Input, Origin, Record, Request, Shard,
    ShardConfig, ShardId, ShardMsg, Ticket, Time, Transport,
};

use super::Rng;
use crate::world::WorldError;

/// Bytes that a socket takes before the shard has to hear of it.
const CREDIT_BYTES: u32 = 256 * 1024;

/// A shard and its surroundings.
#[derive(Clone, Debug)]
pub(super) struct Node {
    config: ShardConfig,
    shard: Shard,
    /// The socket of each connection that the shard knows.
    sockets: BTreeMap<ConnId, usize>,
    /// Connections that the shard closed or gave away; it must not name them again.
    gone: BTreeSet<ConnId>,
    last_epoch: u32,
    log: Vec<Record>,
    /// The records that were there at the start; the shard numbers those behind them from 1.
    recovered: usize,
    /// The records of the log that are durable.
    durable: usize,
    answers: Vec<(Ticket, Answer)>,
}

/// What came out of a client's bytes.
#[derive(Clone, Debug)]
pub(super) enum Decoded {
    Packet(Packet),
    Malformed(DecodeError, Option<ProtocolVersion>),
}

/// What a shard wants done outside; connections have become sockets.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    Send(usize, Frame),
    Close(usize),
    Pause(usize, bool),
    Move(usize, Box<Connect>, ShardId),
    Tell(ShardId, ShardMsg),
    Ask(Ticket, Box<Request>),
}

type Deeds = Result<Vec<Deed>, WorldError>;

impl Node {
    /// A shard that has read this log and begins to work.
    pub(super) fn start(config: ShardConfig, log: Vec<Record>, now: Time) -> (Self, Vec<Deed>) {
        let mut shard = Shard::recovered(config.clone(), log.iter().cloned());
        let mut effects = Effects::new();
        shard.start(now, &mut effects);
        let durable = log.len();
        let mut node = Self {
            config,
            shard,
            sockets: BTreeMap::new(),
            gone: BTreeSet::new(),
            last_epoch: 0,
            log,
            recovered: durable,
            durable,
            answers: Vec::new(),
        };
        let deeds = node.deeds(effects).unwrap_or_default();
        (node, deeds)
    }

    pub(super) fn id(&self) -> ShardId {
        self.config.id
    }

    /// What a crash leaves.
    pub(super) fn remains(mut self) -> (ShardConfig, Vec<Record>) {
        self.log.truncate(self.durable);
        (self.config, self.log)
    }

    pub(super) fn timeout(&self) -> Option<Time> {
        self.shard.next_timeout()
    }

    pub(super) fn has_answers(&self) -> bool {
        !self.answers.is_empty()
    }

    pub(super) fn can_persist(&self) -> bool {
        self.durable < self.log.len()
    }

    pub(super) fn will_be_answered(&mut self, ticket: Ticket, answer: Answer) {
        self.answers.push((ticket, answer));
    }

    // Inputs.

    /// A socket arrives; `connect` is its first packet if it was handed over.
    pub(super) fn opened(
        &mut self,
        now: Time,
        socket: usize,
        connect: Option<Box<Connect>>,
    ) -> Result<(ConnId, Vec<Deed>), WorldError> {
        self.last_epoch += 1;
        let used: BTreeSet<u32> = self.sockets.keys().map(|conn| conn.slot).collect();
        let slot = (0..).find(|slot| !used.contains(slot)).unwrap_or(0);
        let conn = ConnId { slot, epoch: self.last_epoch };
        self.sockets.insert(conn, socket);
        let origin = Box::new(Origin {
            listener: "tcp://simulated".into(),
            peer: None,
            transport: Transport::Tcp,
            certificates: Vec::new(),
            server_name: None,
            proxied: None,
        });
        let mut deeds = self.handle(now, Input::Opened { conn, origin, credit: CREDIT_BYTES })?;
        if let Some(connect) = connect {
            let packet = Packet::Connect(connect);
            deeds.extend(self.handle(now, Input::Packet { conn, packet })?);
        }
        Ok((conn, deeds))
    }

    pub(super) fn decoded(&mut self, now: Time, conn: ConnId, decoded: Decoded) -> Deeds {
        let input = match decoded {
            Decoded::Packet(packet) => Input::Packet { conn, packet },
            Decoded::Malformed(error, version) => Input::Malformed { conn, error, version },
        };
        self.handle(now, input)
    }

    pub(super) fn closed(&mut self, now: Time, conn: ConnId) -> Deeds {
        let deeds = self.handle(now, Input::Closed { conn })?;
        self.sockets.remove(&conn);
        self.gone.insert(conn);
        Ok(deeds)
    }

    pub(super) fn sent(&mut self, now: Time, conn: ConnId, bytes: u32) -> Deeds {
        self.handle(now, Input::Sent { conn, bytes })
    }

    pub(super) fn told(&mut self, now: Time, from: ShardId, message: ShardMsg) -> Deeds {
        self.handle(now, Input::Told { from, msg: Box::new(message) })
    }

    pub(super) fn answered(&mut self, now: Time, rng: &mut Rng) -> Deeds {
        let (ticket, answer) = self.answers.swap_remove(rng.below(self.answers.len()));
        self.handle(now, Input::Answer { ticket, answer: Box::new(answer) })
    }

    /// The log is durable at least one record further.
    pub(super) fn persisted(&mut self, now: Time, rng: &mut Rng) -> Deeds {
        self.durable += 1 + rng.below(self.log.len() - self.durable);
        self.handle(
            now,
            Input::Persisted { through: CommitSeq((self.durable - self.recovered) as u64) },
        )
    }

    pub(super) fn rights_change(&mut self, now: Time) -> Deeds {
        let command = Box::new(Command::RightsChanged);
        self.handle(now, Input::Command { ticket: Ticket(0), command })
    }

    pub(super) fn tick(&mut self, now: Time) -> Deeds {
        self.handle(now, Input::Tick)
    }

    fn handle(&mut self, now: Time, input: Input) -> Deeds {
        let mut effects = Effects::new();
        self.shard.handle(now, input, &mut effects);
        if let Err(violation) = self.shard.check() {
            return Err(self.violation(&violation.to_string()));
        }
        self.deeds(effects)
    }

    // Effects.

    fn deeds(&mut self, effects: Effects) -> Deeds {
        let effects = effects.into_iter().flat_map(Effect::each);
        effects.filter_map(|effect| self.deed(effect).transpose()).collect()
    }

    fn deed(&mut self, effect: Effect) -> Result<Option<Deed>, WorldError> {
        Ok(Some(match effect {
            Effect::Send { conn, frame } => Deed::Send(self.socket(conn, "Send")?, frame),
            Effect::SendMany(_) => unreachable!("crowds are taken apart"),
            Effect::Pause { conn } => Deed::Pause(self.socket(conn, "Pause")?, true),
            Effect::Resume { conn } => Deed::Pause(self.socket(conn, "Resume")?, false),
            Effect::Close { conn, .. } => Deed::Close(self.gives_up(conn, "Close")?),
            Effect::Move { conn, connect, to } => {
                Deed::Move(self.gives_up(conn, "Move")?, connect, to)
            }
            Effect::Tell { to, msg } if to == self.id() => {
                return Err(self.violation(&format!("it tells itself {msg:?}")));
            }
            Effect::Tell { to, msg } => Deed::Tell(to, *msg),
            Effect::Ask { ticket, request } => Deed::Ask(ticket, request),
            Effect::Persist { seq, record } => {
                self.log.push(*record);
                let number = (self.log.len() - self.recovered) as u64;
                if seq.0 != number {
                    return Err(self.violation(&format!("it numbers record {number} {seq:?}")));
                }
                return Ok(None);
            }
            Effect::Load(load) => {
                return Err(self.violation(&format!("it looks for more than it has: {load:?}")));
            }
            Effect::Reply { .. } | Effect::Note(_) => return Ok(None),
        }))
    }

    fn socket(&self, conn: ConnId, effect: &str) -> Result<usize, WorldError> {
        self.sockets.get(&conn).copied().ok_or_else(|| {
            let what = if self.gone.contains(&conn) { "is gone" } else { "never was" };
            self.violation(&format!("it says {effect} of {conn:?}, which {what}"))
        })
    }

    fn gives_up(&mut self, conn: ConnId, effect: &str) -> Result<usize, WorldError> {
        let socket = self.socket(conn, effect)?;
        self.sockets.remove(&conn);
        self.gone.insert(conn);
        Ok(socket)
    }

    fn violation(&self, what: &str) -> WorldError {
        WorldError(format!("the core broke its contract: shard {}: {what}", self.id().0))
    }
}
