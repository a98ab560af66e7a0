//! A closed world: the real shards of a broker, its disk, its links, and clients that behave as
//! real ones, with a judge who sees only packets and time.
//!
//! Whatever can happen is one [`Op`]. Explorer, simulation, property tests and fuzzing differ only
//! in who chooses the next one; a run found by one of them is replayed by all.

mod client;
mod enabled;
mod fingerprint;
mod node;
mod op;
mod oracle;
mod paper;
mod power;
mod setup;
mod step;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    hash::{Hash, Hasher},
    sync::{Arc, Mutex},
};

use codec::{Connect, Packet};
use session_core::{ConnId, ShardId, ShardMsg, Time, model};

use self::{client::Client, node::Node, oracle::Oracle, paper::Paper};
pub use self::{
    fingerprint::{Fingerprinter, fingerprint},
    op::Op,
    oracle::Sight,
    setup::{Budget, Clean, Letter, Persona, Setup, WillPlan, Wish, matches},
};

/// The wall clock at which every world begins: any instant will do that is not 0.
const BEGINNING: Time = Time(1_000_000);

/// What must not happen, and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The property that does not hold.
    pub property: &'static str,
    /// What happened.
    pub detail: String,
}

impl Finding {
    pub(crate) fn new(property: &'static str, detail: String) -> Self {
        Self { property, detail }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.detail)
    }
}

impl std::error::Error for Finding {}

/// The broker's end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Place {
    /// On its way to a shard, with the CONNECT if another shard has read it.
    Arriving(ShardId, Option<Box<Connect>>),
    Open(ShardId, ConnId),
    Closed,
}

/// A connection, for as long as either end knows of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Link {
    /// The client and the number of its connection.
    name: ConnId,
    place: Place,
    /// From the client.
    up: VecDeque<Packet>,
    /// To the client, each with its size in bytes.
    down: VecDeque<(Packet, u32)>,
    /// The client's end is gone.
    deserted: bool,
    /// The broker does not read from it.
    paused: bool,
}

/// A closed world at one moment.
#[derive(Clone, Debug)]
pub struct Universe {
    setup: Arc<Setup>,
    now: Time,
    nodes: Vec<Node>,
    /// The store, if the disk of this world is a faulty one. Worlds that are cloned have none.
    paper: Option<Arc<Mutex<Paper>>>,
    /// How often the broker was started.
    lives: usize,
    /// What is under way between two shards, in order; no empty queue.
    mail: BTreeMap<(ShardId, ShardId), VecDeque<ShardMsg>>,
    links: Vec<Link>,
    clients: Vec<Client>,
    /// How many connections each client has had.
    epochs: Vec<u32>,
    budget: Budget,
    oracle: Oracle,
    /// Connections that the world, not the shard, ended: effects for them are harmless.
    hung_up: BTreeSet<(ShardId, ConnId)>,
    /// Operations that had an effect; no part of the state.
    steps: u64,
    /// Packets as they are read and sent, if somebody wants to read them.
    journal: Option<Vec<String>>,
}

impl Universe {
    /// The world of this setup, after its prelude.
    ///
    /// # Errors
    /// The prelude already breaks a property.
    pub fn new(setup: Arc<Setup>) -> Result<Self, Finding> {
        let mut universe = Self {
            now: BEGINNING,
            nodes: Vec::new(),
            paper: setup.paper.map(|seed| Arc::new(Mutex::new(Paper::new(seed)))),
            lives: 0,
            mail: BTreeMap::new(),
            links: Vec::new(),
            clients: setup.clients.iter().map(|p| Client::new(p.version, p.lazy)).collect(),
            epochs: vec![0; setup.clients.len()],
            budget: Budget::UNBOUNDED,
            oracle: Oracle::new(setup.clone()),
            hung_up: BTreeSet::new(),
            steps: 0,
            journal: None,
            setup,
        };
        universe.start_nodes(Vec::new())?;
        universe.settle()?;
        for op in universe.setup.clone().prelude.iter().copied() {
            universe.apply(op)?;
            universe.settle()?;
        }
        universe.budget = universe.setup.budget.clone();
        universe.oracle.sights = 0;
        universe.steps = 0;
        Ok(universe)
    }

    /// What was seen since [`Universe::forget_sights`], as a set of [`Sight::bit`]s.
    pub fn sights(&self) -> u32 {
        self.oracle.sights
    }

    /// Forgets what was seen.
    pub fn forget_sights(&mut self) {
        self.oracle.sights = 0;
    }

    /// From now on every packet at the broker's door is written down.
    pub fn keep_journal(&mut self) {
        self.journal = Some(Vec::new());
    }

    /// What was written down since the last call.
    pub fn take_journal(&mut self) -> Vec<String> {
        self.journal.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn note(&mut self, line: impl FnOnce(&Setup) -> String) {
        if let Some(journal) = &mut self.journal {
            journal.push(line(&self.setup));
        }
    }

    /// Operations that were possible at their moment.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Virtual time since the beginning, milliseconds.
    pub fn elapsed_ms(&self) -> u64 {
        self.now.since_ms(BEGINNING)
    }

    /// Messages that clients composed.
    pub fn messages(&self) -> usize {
        self.oracle.messages()
    }

    /// Everybody is connected, nothing is under way, and nobody is owed anything.
    pub fn is_content(&self) -> bool {
        self.is_quiet()
            && self.clients.iter().all(Client::is_idle)
            && self.oracle.is_content()
            && self.oracle.tolerates().is_none()
    }

    /// Nothing is under way.
    fn is_quiet(&self) -> bool {
        self.mail.is_empty()
            && self.links.iter().all(|link| {
                link.up.is_empty()
                    && link.down.is_empty()
                    && !link.deserted
                    && link.place != Place::Closed
            })
            && self.nodes.iter().all(|node| node.undurable() == 0 && !self.is_due(node))
    }

    fn is_due(&self, node: &Node) -> bool {
        node.shard.next_timeout().is_some_and(|due| due <= self.now)
    }

    /// Lets everything happen that needs nobody's decision, in a fixed order, until all is quiet.
    ///
    /// # Errors
    /// A property is broken on the way, or there is no end to it.
    pub fn settle(&mut self) -> Result<(), Finding> {
        for _ in 0..100_000 {
            let Some(op) = self.inevitable() else {
                if self.is_quiet() {
                    self.oracle.at_rest();
                }
                return Ok(());
            };
            self.apply(op)?;
        }
        Err(Finding::new("comes-to-rest", "100,000 steps without rest".into()))
    }

    /// Whether anything of this world is retained.
    pub fn retains(&self) -> bool {
        let wills = self.setup.clients.iter().filter_map(|persona| persona.will);
        self.setup.publications.iter().any(|letter| letter.retain)
            || wills.into_iter().any(|will| will.retain)
    }

    /// Everybody asks again for everything, and must be told what is retained.
    ///
    /// # Errors
    /// Something else is retained than the last message that the broker took.
    pub fn probe(&mut self) -> Result<(), Finding> {
        self.budget = Budget { subscribes: u32::MAX, ..Budget::default() };
        for client in 0..self.clients.len() {
            for wish in 0..self.setup.clients[client].wishes.len() {
                self.oracle.forget_replays(client);
                self.apply(Op::Subscribe { client: client as u8, wish: wish as u8 })?;
                self.settle()?;
                self.oracle.judge_replays(client, wish)?;
            }
        }
        Ok(())
    }

    /// Faults are over: everybody connects, and everything goes on until all is quiet. Then
    /// nothing may be owed, and what is retained must be what it should be.
    ///
    /// # Errors
    /// A property is broken, now or at the end.
    pub fn drain(&mut self) -> Result<(), Finding> {
        self.budget = Budget { crashes: 0, drops: 0, ..Budget::UNBOUNDED };
        self.settle()?;
        for round in 0..4 {
            for client in 0..self.clients.len() {
                if !self.clients[client].online {
                    let connect = Op::Connect { client: client as u8, clean: false, door: 0 };
                    self.apply(connect)?;
                    self.settle()?;
                }
            }
            if self.is_content() || round == 3 {
                break;
            }
        }
        if let Some(name) = self.oracle.tolerates() {
            return Err(Finding::new("violations-close", format!("{name} is still connected")));
        }
        if !self.oracle.is_content() {
            return Err(Finding::new(
                "delivered",
                format!("not delivered: {}", self.oracle.owed()),
            ));
        }
        if let Some(client) = self.clients.iter().position(|client| !client.is_idle()) {
            let name = self.setup.clients[client].id;
            let state = format!("{name} waits: {}", self.clients[client].state());
            return Err(Finding::new("comes-to-rest", state));
        }
        let queued: usize = self.nodes.iter().map(|node| node.shard.view().queued()).sum();
        if queued > 0 {
            return Err(Finding::new("no-stall", format!("{queued} messages wait for nothing")));
        }
        if self.retains() { self.probe() } else { Ok(()) }
    }
}

impl Hash for Universe {
    fn hash<H: Hasher>(&self, state: &mut H) {
        model::set_present(self.now, &self.epochs);
        self.nodes.hash(state);
        self.mail.hash(state);
        self.links.hash(state);
        self.clients.hash(state);
        self.budget.hash(state);
        self.oracle.hash(state);
    }
}

impl PartialEq for Universe {
    /// Behaves alike from now on: equal fingerprints.
    fn eq(&self, other: &Self) -> bool {
        fingerprint(self) == fingerprint(other)
    }
}

impl Eq for Universe {}
