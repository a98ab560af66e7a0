//! The state machine.

use crate::{Effects, Input, ShardConfig, Time};

/// What shards say to one another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ShardMsg {
    /// Placeholder.
    Announced,
}

/// One change of durable state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Record {
    /// Placeholder.
    Placeholder,
}

/// A look into a shard, for metrics and administration.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    _shard: &'a Shard,
}

/// A part of the broker: some sessions and some topics.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shard {
    config: ShardConfig,
}

impl Shard {
    /// An empty shard.
    pub fn new(config: ShardConfig) -> Self {
        Self { config }
    }

    /// Takes one record of the log, oldest first, before [`Shard::start`].
    pub fn recover(&mut self, record: Record) {
        let _ = record;
    }

    /// Begins to work; called once.
    pub fn start(&mut self, now: Time, effects: &mut Effects) {
        let _ = (now, effects, &self.config);
    }

    /// Takes one input and writes what is to be done.
    pub fn handle(&mut self, now: Time, input: Input, effects: &mut Effects) {
        let _ = (now, input, effects);
    }

    /// When to call with [`Input::Tick`] at the latest; at or before `now` if work is left over.
    pub fn next_timeout(&self) -> Option<Time> {
        None
    }

    /// A look inside.
    pub fn view(&self) -> View<'_> {
        View { _shard: self }
    }
}
