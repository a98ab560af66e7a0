//! The scenario language: text to [`Scenario`], without any knowledge of brokers.

pub mod ast;
pub mod fields;
mod lex;
mod packet;
mod parse;

pub use ast::{
    Action, Expected, FieldSpec, Header, Level, Literal, PacketSpec, Pattern, Position, RawItem,
    Scenario, Setting, Statement, Value,
};
pub use parse::parse;

/// What is wrong with a scenario's text: where, and what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Where.
    pub at: Position,
    /// What.
    pub message: String,
}

impl ParseError {
    fn new(at: Position, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.at.line, self.at.column, self.message)
    }
}

impl std::error::Error for ParseError {}
