//! A whole broker in memory: shards, the links between them, sockets and time, driven by one seed.
//!
//! Whatever a real machine leaves to chance is drawn from the seed: which shard accepts, how bytes
//! are split, in which order links deliver, when a socket takes bytes, when the log is durable and
//! when a question is answered. Time passes only when it is told to.

mod authenticator;
mod config;
mod node;
mod rng;
mod socket;
mod sweep;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use session_core::{ShardId, ShardMsg, Time};

use crate::{
    lang::{ParseError, Setting},
    world::{Connection, World, WorldError},
};
pub use authenticator::Authenticator;
pub use config::Config;
use node::{Deed, Node};
pub use rng::Rng;
use socket::{End, Socket};
pub use sweep::{Run, play_all, sweep};

/// The wall clock at which every simulation begins: any instant will do that is not 0.
const BEGINNING: Time = Time(1_000_000);

/// Steps without rest after which the simulation gives up.
const STEPS_MAX: usize = 100_000;

/// A simulated broker with its clients' connections.
#[derive(Clone, Debug)]
pub struct Sim {
    rng: Rng,
    now: Time,
    config: Config,
    nodes: Vec<Node>,
    /// What is under way between two shards, in order; no empty queue.
    links: BTreeMap<(ShardId, ShardId), VecDeque<ShardMsg>>,
    sockets: Vec<Socket>,
}

/// One thing that can happen next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A socket is accepted, or arrives at the shard it was handed to.
    Accept(usize),
    /// Some bytes of a client are read.
    Read(usize),
    /// The end of a client's bytes is noticed.
    HangUp(usize),
    /// A socket takes the bytes that wait for it.
    Flush(usize),
    /// A message arrives at a shard.
    Tell(ShardId, ShardId),
    /// A question of a shard is answered.
    Answer(usize),
    /// A shard's log becomes durable a little further.
    Persist(usize),
    /// A shard has work left, or its time has come.
    Tick(usize),
}

impl Sim {
    /// A broker of so many shards that has just started.
    ///
    /// # Errors
    /// A setting that there is not.
    pub fn new(shards: u16, seed: u64, settings: &[Setting]) -> Result<Self, ParseError> {
        let config = Config::new(shards, settings)?;
        let mut sim = Self {
            rng: Rng::new(seed),
            now: BEGINNING,
            nodes: Vec::new(),
            links: BTreeMap::new(),
            sockets: Vec::new(),
            config,
        };
        for id in sim.config.shard.map.all() {
            let mut shard = sim.config.shard.clone();
            shard.id = id;
            let (node, deeds) = Node::start(shard, Vec::new(), sim.now);
            sim.nodes.push(node);
            sim.carry_out(id, deeds);
        }
        Ok(sim)
    }

    /// Everything that can happen at this instant.
    fn steps(&self) -> Vec<Step> {
        let mut steps: Vec<Step> =
            self.links.keys().map(|(from, to)| Step::Tell(*from, *to)).collect();
        for (index, socket) in self.sockets.iter().enumerate() {
            steps.extend(socket.is_arriving().then_some(Step::Accept(index)));
            steps.extend(socket.can_be_read().then_some(Step::Read(index)));
            steps.extend(socket.has_hung_up().then_some(Step::HangUp(index)));
            steps.extend(socket.has_output().then_some(Step::Flush(index)));
        }
        for (index, node) in self.nodes.iter().enumerate() {
            steps.extend(node.has_answers().then_some(Step::Answer(index)));
            steps.extend(node.can_persist().then_some(Step::Persist(index)));
            steps
                .extend(node.timeout().is_some_and(|t| t <= self.now).then_some(Step::Tick(index)));
        }
        steps
    }

    /// Does one thing; `false` if there is none to do.
    fn step(&mut self) -> Result<bool, WorldError> {
        let (now, steps) = (self.now, self.steps());
        if steps.is_empty() {
            return Ok(false);
        }
        match steps[self.rng.below(steps.len())] {
            Step::Accept(socket) => self.accept(socket)?,
            Step::Read(socket) => self.read(socket)?,
            Step::HangUp(socket) => {
                if let Some((shard, conn)) = self.sockets[socket].hang_up() {
                    let deeds = self.node(shard).closed(now, conn)?;
                    self.carry_out(shard, deeds);
                }
            }
            Step::Flush(socket) => {
                if let Some((shard, conn, bytes)) = self.sockets[socket].flush() {
                    let deeds = self.node(shard).sent(now, conn, bytes)?;
                    self.carry_out(shard, deeds);
                }
            }
            Step::Tell(from, to) => {
                if let Some(queue) = self.links.get_mut(&(from, to)) {
                    let message = queue.pop_front();
                    if queue.is_empty() {
                        self.links.remove(&(from, to));
                    }
                    if let Some(message) = message {
                        let deeds = self.nodes[usize::from(to.0)].told(now, from, message)?;
                        self.carry_out(to, deeds);
                    }
                }
            }
            Step::Answer(index) => {
                let deeds = self.nodes[index].answered(now, &mut self.rng)?;
                self.carry_out(self.nodes[index].id(), deeds);
            }
            Step::Persist(index) => {
                let deeds = self.nodes[index].persisted(now, &mut self.rng)?;
                self.carry_out(self.nodes[index].id(), deeds);
            }
            Step::Tick(index) => {
                let deeds = self.nodes[index].tick(now)?;
                self.carry_out(self.nodes[index].id(), deeds);
            }
        }
        Ok(true)
    }

    /// A new connection comes to any shard; one that was handed over to the one it was handed to,
    /// with its CONNECT.
    fn accept(&mut self, socket: usize) -> Result<(), WorldError> {
        let End::Arriving(moved) = std::mem::replace(&mut self.sockets[socket].end, End::Closed)
        else {
            return Ok(());
        };
        let now = self.now;
        let anywhere = ShardId(self.rng.below(self.nodes.len()) as u16);
        let (shard, connect) = moved.map_or((anywhere, None), |(to, connect)| (to, Some(connect)));
        let (conn, deeds) = self.node(shard).opened(now, socket, connect)?;
        self.sockets[socket].end = End::Open { shard, conn };
        self.carry_out(shard, deeds);
        Ok(())
    }

    fn read(&mut self, socket: usize) -> Result<(), WorldError> {
        let End::Open { shard, conn } = self.sockets[socket].end else { return Ok(()) };
        let now = self.now;
        if let Some(decoded) = self.sockets[socket].read(&mut self.rng) {
            let deeds = self.node(shard).decoded(now, conn, decoded)?;
            self.carry_out(shard, deeds);
        }
        Ok(())
    }

    fn node(&mut self, shard: ShardId) -> &mut Node {
        &mut self.nodes[usize::from(shard.0)]
    }

    /// What a shard wants done outside of itself.
    fn carry_out(&mut self, from: ShardId, deeds: Vec<Deed>) {
        for deed in deeds {
            match deed {
                Deed::Send(socket, frame) => self.sockets[socket].write(&frame),
                Deed::Close(socket) => self.sockets[socket].end = End::Closing,
                Deed::Pause(socket, paused) => self.sockets[socket].is_paused = paused,
                Deed::Move(socket, connect, to) => {
                    self.sockets[socket].end = End::Arriving(Some((to, connect)));
                }
                Deed::Tell(to, message) => {
                    self.links.entry((from, to)).or_default().push_back(message);
                }
                Deed::Ask(ticket, request) => {
                    if let Some(answer) = self.config.authenticator.answer(&request) {
                        self.node(from).will_be_answered(ticket, answer);
                    }
                }
            }
        }
    }
}

impl World for Sim {
    fn open(&mut self) -> Result<Connection, WorldError> {
        self.sockets.push(Socket::new(&self.config.shard.limits));
        Ok(Connection(self.sockets.len() - 1))
    }

    fn send(&mut self, connection: Connection, bytes: &[u8]) {
        self.sockets[connection.0].client_sends(bytes);
    }

    fn close(&mut self, connection: Connection) {
        self.sockets[connection.0].client_closes();
    }

    fn receive(&mut self, connection: Connection, inbox: &mut Vec<u8>) -> bool {
        self.sockets[connection.0].client_receives(inbox)
    }

    fn advance(&mut self) -> Result<bool, WorldError> {
        for _ in 0..STEPS_MAX {
            if self.sockets.iter().any(Socket::has_news) {
                return Ok(true);
            }
            if !self.step()? {
                return Ok(false);
            }
        }
        Err(WorldError(format!("the broker does not come to rest in {STEPS_MAX} steps")))
    }

    fn settle(&mut self) -> Result<(), WorldError> {
        for _ in 0..STEPS_MAX {
            if !self.step()? {
                return Ok(());
            }
        }
        Err(WorldError(format!("the broker does not come to rest in {STEPS_MAX} steps")))
    }

    fn wait(&mut self, time: Duration) -> Result<(), WorldError> {
        let end = self.now.plus_ms(time.as_millis() as u64);
        self.settle()?;
        while let Some(next) = self.nodes.iter().filter_map(Node::timeout).min()
            && next <= end
        {
            self.now = self.now.max(next);
            self.settle()?;
        }
        self.now = end;
        self.settle()
    }

    fn crash(&mut self) -> Result<(), WorldError> {
        self.links.clear();
        for socket in &mut self.sockets {
            socket.breaks();
        }
        let nodes = std::mem::take(&mut self.nodes);
        for node in nodes {
            let id = node.id();
            let (config, log) = node.remains();
            let (node, deeds) = Node::start(config, log, self.now);
            self.nodes.push(node);
            self.carry_out(id, deeds);
        }
        Ok(())
    }

    fn change_rights(&mut self, settings: &[Setting]) -> Result<(), WorldError> {
        // No answer by the earlier rights comes after they have changed.
        self.settle()?;
        self.config
            .authenticator
            .change_rights(settings)
            .map_err(|ParseError { at, message }| WorldError(format!("{at:?}: {message}")))?;
        for index in 0..self.nodes.len() {
            let deeds = self.nodes[index].rights_change(self.now)?;
            self.carry_out(self.nodes[index].id(), deeds);
        }
        self.settle()
    }

    fn is_live(&self) -> bool {
        false
    }
}
