//! A scenario as a value. The meaning of every part is in `spec-tests/README.md`.

use std::time::Duration;

use codec::{PacketType, ProtocolVersion};

use super::fields::Field;

/// A parsed scenario file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// The header lines; at least one.
    pub headers: Vec<Header>,
    /// Played in memory alone.
    pub core_only: bool,
    /// Played alone and without a root before its names.
    pub exact_names: bool,
    /// The first block of prose.
    pub about: String,
    /// The `config` lines' settings, in order.
    pub config: Vec<Setting>,
    /// What happens.
    pub body: Vec<Statement>,
}

impl Scenario {
    /// The versions it is played for, lowest first.
    pub fn versions(&self) -> Vec<ProtocolVersion> {
        let mut versions: Vec<_> =
            self.headers.iter().flat_map(|header| header.versions.iter().copied()).collect();
        versions.sort_unstable();
        versions.dedup();
        versions
    }

    /// The ids that it claims for a version.
    pub fn ids(&self, version: ProtocolVersion) -> Vec<&str> {
        let headers = self.headers.iter().filter(|header| header.versions.contains(&version));
        headers.flat_map(|header| header.ids.iter().map(String::as_str)).collect()
    }
}

/// One header line: what is claimed, for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Ids of statements, as written between the brackets.
    pub ids: Vec<String>,
    /// The versions that the ids are claimed for.
    pub versions: Vec<ProtocolVersion>,
    /// How binding they are.
    pub level: Level,
}

/// How binding a statement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub enum Level {
    Must,
    Should,
    May,
}

/// One `key=value` of a `config` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Where it is written.
    pub at: Position,
    /// The key.
    pub key: String,
    /// The value.
    pub value: Literal,
}

/// A value of which nothing is known but how it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Literal {
    /// Without quotes.
    Word(String),
    /// In quotes, or `x'…'`.
    Bytes(Vec<u8>),
    /// Two parts with a colon between.
    Pair(Vec<u8>, Vec<u8>),
    /// `$name`
    Variable(String),
}

/// A place in a file, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Where it begins.
    pub at: Position,
    /// As written, without its guard.
    pub text: String,
    /// The versions of its guard; `None` without one.
    pub only: Option<Vec<ProtocolVersion>>,
    /// What it says.
    pub action: Action,
}

impl Statement {
    /// Whether it is played for this version.
    pub fn is_for(&self, version: ProtocolVersion) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(&version))
    }
}

/// What a statement says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// `name > PACKET …`
    Send(String, PacketSpec),
    /// `name > raw …`
    SendRaw(String, Vec<RawItem>),
    /// `name < …`
    Expect(String, Expected),
    /// `name ! open`
    Open(String),
    /// `name ! drop`
    Drop(String),
    /// `wait 2s`
    Wait(Duration),
    /// `settle`
    Settle,
    /// `either … or … end`
    Either(Vec<Vec<Statement>>),
    /// `unordered … end`; only [`Expected::Packet`] inside.
    Unordered(Vec<Statement>),
    /// `crash`
    Crash,
    /// `rights key=value …`
    Rights(Vec<Setting>),
}

/// What a client must get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// This packet.
    Packet(PacketSpec),
    /// These bytes.
    Raw(Vec<RawItem>),
    /// The end of the connection; if it is explained, with one of these codes.
    Closed(Option<Vec<u64>>),
    /// Nothing.
    Nothing,
}

/// A packet as written: its type, and its fields in order. Positional values have their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketSpec {
    /// Its type.
    pub packet: PacketType,
    /// The version named in a CONNECT.
    pub version: Option<ProtocolVersion>,
    /// Its fields.
    pub fields: Vec<FieldSpec>,
}

/// A field as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldSpec {
    /// Where it is written.
    pub at: Position,
    /// Which field.
    pub field: &'static Field,
    /// Its value.
    pub pattern: Pattern,
}

/// The value of a field, or what it has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// This value.
    Is(Value),
    /// `$name`
    Variable(String),
    /// `0x81|0x82`
    OneOf(Vec<u64>),
    /// `7..10`, both included.
    Range(u64, u64),
    /// `*`
    Any,
    /// `!field`
    Absent,
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// A number.
    Number(u64),
    /// Text or bytes.
    Bytes(Vec<u8>),
    /// Two texts.
    Pair(Vec<u8>, Vec<u8>),
}

/// A part of `raw`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RawItem {
    /// These bytes.
    Bytes(Vec<u8>),
    /// These bytes with two bytes of length before them.
    Text(Vec<u8>),
    /// A topic, with two bytes of length.
    Topic(String),
    /// A Client Identifier, with two bytes of length.
    ClientId(String),
    /// The length as a Variable Byte Integer, then the items.
    Counted(Vec<RawItem>),
    /// Any one byte.
    AnyByte,
}
