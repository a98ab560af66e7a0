//! Plays a scenario in a [`World`]: sends what it says, and compares what comes with what must.

mod branch;
mod build;
mod client;
mod diff;
mod expect;
mod facts;
mod names;
mod print;
mod tidy;

use std::collections::HashMap;

use codec::{Packet, PacketType, ProtocolVersion};

use crate::{
    lang::{Action, Expected, PacketSpec, Position, RawItem, Scenario, Statement, Value, fields},
    world::{World, WorldError},
};
use build::Context;
use client::{Client, Event, Link};
pub use diff::Row;
pub use names::{Login, Names};
use tidy::Leftovers;

/// What became of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What was sent and received, one line each, in the order of the statements.
    pub trace: String,
    /// The first thing that was not as it must be.
    pub failure: Option<Failure>,
}

/// Why a scenario failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The statement's place.
    pub at: Position,
    /// The statement as written.
    pub statement: String,
    /// What is wrong, one line each.
    pub problems: Vec<String>,
    /// What was expected beside what came, if one thing was expected and another came.
    pub diff: Vec<Row>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.at.line, self.at.column, self.statement)?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n    {problem}"))
    }
}

/// Plays a scenario for one version.
pub fn play(
    scenario: &Scenario,
    version: ProtocolVersion,
    world: &mut dyn World,
    names: &Names,
) -> Outcome {
    let mut player = Player {
        world,
        names,
        version,
        clients: Vec::new(),
        variables: HashMap::new(),
        trace: Vec::new(),
        leftovers: Leftovers::default(),
    };
    let mut failure = player.statements(&scenario.body).err();
    if failure.is_none() {
        failure = player.ends().err().map(|problem| Failure {
            at: scenario.body.last().map_or(Position { line: 1, column: 1 }, |last| last.at),
            statement: "the end of the scenario".to_owned(),
            problems: problem.lines,
            diff: problem.diff,
        });
    }
    player.tidy_up();
    Outcome { trace: player.trace.join("\n") + "\n", failure }
}

/// What is wrong at the statement that is being played.
#[derive(Default)]
struct Problem {
    lines: Vec<String>,
    diff: Vec<Row>,
}

impl Problem {
    fn new<T>(text: impl Into<String>) -> Result<T, Self> {
        Err(Self::from(text.into()))
    }
}

impl From<Vec<String>> for Problem {
    fn from(lines: Vec<String>) -> Self {
        Self { lines, diff: Vec::new() }
    }
}

impl From<WorldError> for Problem {
    fn from(error: WorldError) -> Self {
        Self::from(error.0)
    }
}

impl From<String> for Problem {
    fn from(text: String) -> Self {
        Self::from(vec![text])
    }
}

struct Player<'a> {
    world: &'a mut dyn World,
    names: &'a Names,
    version: ProtocolVersion,
    clients: Vec<Client>,
    variables: HashMap<String, Value>,
    trace: Vec<String>,
    /// What the scenario leaves behind on a broker that outlives it.
    leftovers: Leftovers,
}

impl Player<'_> {
    fn statements(&mut self, statements: &[Statement]) -> Result<(), Failure> {
        statements.iter().try_for_each(|statement| self.statement(statement))
    }

    fn statement(&mut self, statement: &Statement) -> Result<(), Failure> {
        if !statement.is_for(self.version) {
            return Ok(());
        }
        if let Action::Either(branches) = &statement.action {
            let branch = self.choose(branches).map_err(|problem| failure(statement, problem))?;
            return self.statements(branch);
        }
        self.simple(statement).map_err(|problem| failure(statement, problem))
    }

    fn simple(&mut self, statement: &Statement) -> Result<(), Problem> {
        match &statement.action {
            Action::Expect(name, expected) => return self.expect(name, expected),
            Action::Unordered(statements) => return self.unordered(statements),
            _ => self.trace.push(statement.text.clone()),
        }
        match &statement.action {
            Action::Send(name, spec) => self.send(name, spec),
            Action::SendRaw(name, items) => self.send_raw(name, items),
            Action::Open(name) => self.open(name),
            Action::Drop(name) => self.drop_connection(name),
            Action::Wait(time) => Ok(self.world.wait(*time)?),
            Action::Settle => self.settle(),
            Action::Crash => {
                for client in &mut self.clients {
                    client.link = None;
                }
                Ok(self.world.crash()?)
            }
            Action::Rights(settings) => Ok(self.world.change_rights(settings)?),
            Action::Expect(..) | Action::Unordered(_) | Action::Either(_) => {
                unreachable!("played above")
            }
        }
    }

    // What clients do.

    fn client(&mut self, name: &str) -> usize {
        let known = self.clients.iter().position(|client| client.name == name);
        known.unwrap_or_else(|| {
            let client = Client { name: name.to_owned(), version: self.version, link: None };
            self.clients.push(client);
            self.clients.len() - 1
        })
    }

    fn link(&mut self, name: &str) -> Result<&mut Link, Problem> {
        let client = self.client(name);
        let link = self.clients[client].link.as_mut();
        link.ok_or_else(|| Problem::from(format!("{name} has no connection")))
    }

    fn open(&mut self, name: &str) -> Result<(), Problem> {
        let client = self.client(name);
        if self.clients[client].link.as_ref().is_some_and(|link| link.is_over) {
            self.expect_close(client, None)?;
        }
        if self.clients[client].link.is_some() {
            return Problem::new(format!("{name} has a connection already"));
        }
        self.clients[client].link = Some(Link::new(self.world.open()?));
        Ok(())
    }

    fn send(&mut self, name: &str, spec: &PacketSpec) -> Result<(), Problem> {
        let client = self.client(name);
        let is_connect = spec.packet == PacketType::Connect;
        if is_connect && self.clients[client].link.as_ref().is_none_or(|link| link.is_over) {
            self.open(name)?;
            self.clients[client].version = spec.version.unwrap_or(self.version);
        }
        let packet = build::packet(spec, &self.context(client))?;
        let version = self.clients[client].version;
        let mut bytes = Vec::new();
        packet.encode(version, &mut bytes);
        let link = self.link(name)?;
        link.sends(&packet);
        let connection = link.connection;
        self.leftovers.sent(&packet, version);
        self.world.send(connection, &bytes);
        Ok(())
    }

    fn send_raw(&mut self, name: &str, items: &[RawItem]) -> Result<(), Problem> {
        let client = self.client(name);
        if self.clients[client].link.is_none() {
            self.open(name)?;
            self.clients[client].version = self.version;
        }
        let bytes: Vec<u8> = build::raw(items, self.names).into_iter().flatten().collect();
        let connection = self.link(name)?.connection;
        self.world.send(connection, &bytes);
        Ok(())
    }

    fn drop_connection(&mut self, name: &str) -> Result<(), Problem> {
        let connection = self.link(name)?.connection;
        let client = self.client(name);
        self.clients[client].link = None;
        self.world.close(connection);
        self.settle()
    }

    // What clients get.

    fn expect(&mut self, name: &str, expected: &Expected) -> Result<(), Problem> {
        self.link(name)?;
        let client = self.client(name);
        match expected {
            Expected::Packet(spec) => self.expect_packet(client, spec),
            Expected::Raw(items) => self.expect_raw(client, items),
            Expected::Closed(codes) => self.expect_close(client, codes.as_deref()),
            Expected::Nothing => self.expect_nothing(client),
        }
    }

    fn expect_packet(&mut self, client: usize, spec: &PacketSpec) -> Result<(), Problem> {
        match self.next(client)? {
            Some(Event::Packet { packet, bytes, topic }) => {
                let result = self.compare(client, spec, &packet, &topic);
                match result {
                    Ok(bindings) => {
                        self.variables.extend(bindings);
                        self.take(client, &packet, bytes, &topic, Some(spec))
                    }
                    Err(differences) => {
                        let shown = self.shown(client, &packet, &topic, None);
                        let lines = differences.iter().map(ToString::to_string);
                        let lines = lines.chain([format!("received: {shown}")]).collect();
                        let facts = facts::facts(&packet, self.clients[client].version, &topic);
                        let received = (packet.packet_type(), facts.as_slice());
                        let diff = diff::of(spec, received, &topic, &differences, self.names);
                        Err(Problem { lines, diff })
                    }
                }
            }
            other => self.not_expected(client, fields::packet_name(spec.packet), other),
        }
    }

    fn expect_raw(&mut self, client: usize, items: &[RawItem]) -> Result<(), Problem> {
        let bytes = build::raw(items, self.names).len();
        let version = self.clients[client].version;
        loop {
            self.pull(client);
            let is_there = self.raw_is_there(client, items);
            let link = self.clients[client].link.as_mut().expect("looked at before");
            if is_there == Some(true) {
                let shown = print::hexadecimal(&link.inbox[..bytes]);
                link.take_raw(bytes, version);
                self.trace.push(format!("{} < raw {shown}", self.clients[client].name));
                return Ok(());
            }
            if is_there == Some(false) || !self.advance()? {
                let link = self.clients[client].link.as_ref().expect("looked at before");
                let received = print::hexadecimal(&link.inbox);
                let expected = diff::raw(&build::raw(items, self.names));
                let diff = vec![Row::new("bytes", &expected, &received, true)];
                return Err(Problem { lines: vec![format!("received: {received}")], diff });
            }
        }
    }

    /// Whether the next bytes are these; `None` if too few have come to tell.
    fn raw_is_there(&self, client: usize, items: &[RawItem]) -> Option<bool> {
        let expected = build::raw(items, self.names);
        let link = self.clients[client].link.as_ref()?;
        let same = |(byte, expected): (&u8, &Option<u8>)| expected.is_none_or(|e| e == *byte);
        match link.inbox.iter().zip(&expected).all(same) {
            true if link.inbox.len() >= expected.len() => Some(true),
            true if !link.ended => None,
            _ => Some(false),
        }
    }

    fn expect_close(&mut self, client: usize, codes: Option<&[u64]>) -> Result<(), Problem> {
        let mut event = self.next(client)?;
        if let (Some(Event::Packet { packet, bytes, topic }), Some(codes)) = (&event, codes)
            && let Some(code) = farewell(packet, self.clients[client].version)
        {
            if !codes.contains(&code) {
                return self.not_expected(client, &diff::closed(Some(codes)), event);
            }
            self.take(client, packet, *bytes, topic, None)?;
            event = self.next(client)?;
        }
        match event {
            Some(Event::Closed) => {
                let client = &mut self.clients[client];
                if let Some(link) = client.link.take() {
                    self.world.close(link.connection);
                }
                self.trace.push(format!("{} < closed", client.name));
                Ok(())
            }
            other => self.not_expected(client, &diff::closed(codes), other),
        }
    }

    fn expect_nothing(&mut self, client: usize) -> Result<(), Problem> {
        self.settle()?;
        match self.peek(client) {
            None => {
                self.trace.push(format!("{} < nothing", self.clients[client].name));
                Ok(())
            }
            event => self.not_expected(client, "nothing", event),
        }
    }

    /// Nothing may be left unread, and no connection may have ended unmentioned.
    fn ends(&mut self) -> Result<(), Problem> {
        self.settle()?;
        let mut problems = Vec::new();
        for client in 0..self.clients.len() {
            let is_over = self.clients[client].link.as_ref().is_none_or(|link| link.is_over);
            match self.peek(client) {
                None => {}
                Some(Event::Closed) if is_over => {}
                event => {
                    let shown = self.event(client, event);
                    problems.push(format!("{} < {shown}, unexpected", self.clients[client].name));
                }
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(Problem::from(problems)) }
    }

    // The inbox of a client.

    fn pull(&mut self, client: usize) {
        if let Some(link) = &mut self.clients[client].link {
            link.ended |= self.world.receive(link.connection, &mut link.inbox);
        }
    }

    /// Lets the world go on, and takes what came for anybody: a world that has news goes no
    /// further.
    fn advance(&mut self) -> Result<bool, Problem> {
        let has_news = self.world.advance()?;
        (0..self.clients.len()).for_each(|client| self.pull(client));
        Ok(has_news)
    }

    fn peek(&mut self, client: usize) -> Option<Event> {
        self.pull(client);
        let client = &mut self.clients[client];
        let version = client.version;
        let link = client.link.as_mut()?;
        link.skip_fences(version);
        link.peek(version)
    }

    /// What comes next, as soon as it is there; `None` if nothing comes.
    fn next(&mut self, client: usize) -> Result<Option<Event>, Problem> {
        loop {
            if let Some(event) = self.peek(client) {
                return Ok(Some(event));
            }
            if !self.advance()? {
                return Ok(None);
            }
        }
    }

    fn take(
        &mut self,
        client: usize,
        packet: &Packet,
        bytes: usize,
        topic: &[u8],
        spec: Option<&PacketSpec>,
    ) -> Result<(), Problem> {
        let shown = self.shown(client, packet, topic, spec);
        self.trace.push(format!("{} < {shown}", self.clients[client].name));
        let version = self.clients[client].version;
        let link = self.clients[client].link.as_mut().expect("a packet came from it");
        self.leftovers.received(packet);
        link.take(packet, bytes, version)
            .map_err(|broken| Problem::from(vec![format!("received: {shown}"), broken]))
    }

    fn compare(
        &self,
        client: usize,
        spec: &PacketSpec,
        packet: &Packet,
        topic: &[u8],
    ) -> Result<expect::Bindings, Vec<expect::Difference>> {
        if packet.packet_type() != spec.packet {
            return Err(Vec::new());
        }
        let facts = facts::facts(packet, self.clients[client].version, topic);
        expect::compare(spec, &facts, &self.context(client))
    }

    fn context(&self, client: usize) -> Context<'_> {
        let client = &self.clients[client];
        Context {
            names: self.names,
            variables: &self.variables,
            client: &client.name,
            version: client.version,
        }
    }

    fn shown(
        &self,
        client: usize,
        packet: &Packet,
        topic: &[u8],
        spec: Option<&PacketSpec>,
    ) -> String {
        print::packet(packet, self.clients[client].version, topic, spec, self.names)
    }

    fn event(&self, client: usize, event: Option<Event>) -> String {
        match event {
            None => "nothing".to_owned(),
            Some(Event::Closed) => "closed".to_owned(),
            Some(Event::Broken(rule)) => rule,
            Some(Event::Packet { packet, topic, .. }) => self.shown(client, &packet, &topic, None),
        }
    }

    fn not_expected(
        &self,
        client: usize,
        expected: &str,
        event: Option<Event>,
    ) -> Result<(), Problem> {
        let received = self.event(client, event);
        let lines = vec![format!("received: {received}")];
        Err(Problem { lines, diff: vec![Row::other(expected, &received)] })
    }

    /// Everything under way has arrived. A live broker is asked by a PINGREQ on each connection,
    /// whose answer cannot overtake what was written before; then it gets a little time.
    fn settle(&mut self) -> Result<(), Problem> {
        if self.world.is_live() {
            for client in &mut self.clients {
                if let Some(link) = client.link.as_mut().filter(|link| link.can_be_fenced()) {
                    let mut ping = Vec::new();
                    Packet::PingReq.encode(client.version, &mut ping);
                    link.pings.push_back(client::Ping::Fence);
                    self.world.send(link.connection, &ping);
                }
            }
            for client in 0..self.clients.len() {
                self.fence(client)?;
            }
        }
        self.world.settle()?;
        (0..self.clients.len()).for_each(|client| self.pull(client));
        Ok(())
    }

    fn fence(&mut self, client: usize) -> Result<(), Problem> {
        loop {
            self.pull(client);
            let version = self.clients[client].version;
            let Some(link) = &self.clients[client].link else { return Ok(()) };
            if link.ended || link.fences_are_answered(version) || !self.advance()? {
                return Ok(());
            }
        }
    }
}

fn failure(statement: &Statement, problem: Problem) -> Failure {
    let Problem { lines: problems, diff } = problem;
    Failure { at: statement.at, statement: statement.text.clone(), problems, diff }
}

/// The code with which the broker says that it closes the connection.
fn farewell(packet: &Packet, version: ProtocolVersion) -> Option<u64> {
    match packet {
        Packet::Disconnect(disconnect) => Some(disconnect.reason.code().into()),
        Packet::ConnAck(connack) => {
            Some(facts::connack_code(connack.reason, version)).filter(|code| *code != 0)
        }
        _ => None,
    }
}
