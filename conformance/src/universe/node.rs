//! One shard of a closed world, with its disk: what a crash leaves of it.

use std::{
    collections::VecDeque,
    hash::{Hash, Hasher},
};

use session_core::{CommitSeq, Effect, Effects, Input, Record, Shard, ShardConfig, Time, model};

use super::Finding;

/// A shard and its disk.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) shard: Shard,
    config: ShardConfig,
    /// What the durable records alone would recover: a log, without its length.
    disk: Shard,
    /// Records that are not durable yet; each batch was written in one call of the shard.
    tail: VecDeque<Vec<Record>>,
    /// The position of the last record in the log of this run.
    committed: u64,
    /// The position of the last durable one.
    durable: u64,
}

impl Node {
    /// A shard that begins with what is on its disk.
    pub(super) fn start(
        config: ShardConfig,
        disk: Shard,
        now: Time,
    ) -> Result<(Self, Effects), Finding> {
        let mut node = Self {
            shard: disk.clone(),
            config,
            disk,
            tail: VecDeque::new(),
            committed: 0,
            durable: 0,
        };
        let mut effects = Effects::new();
        node.shard.start(now, &mut effects);
        let checked = node.shard.check();
        checked.map_err(|violation| Finding::new("recovered-invariant", violation.to_string()))?;
        Ok((node, effects))
    }

    /// Gives the shard an input, and checks it afterwards.
    pub(super) fn handle(&mut self, now: Time, input: Input) -> Result<Effects, Finding> {
        let mut effects = Effects::new();
        self.shard.handle(now, input, &mut effects);
        self.shard.check().map_err(|violation| Finding::new("invariant", violation.to_string()))?;
        Ok(effects)
    }

    /// Takes the records out of a call's effects.
    pub(super) fn append(&mut self, effects: &mut Effects) -> Result<(), Finding> {
        let mut batch = Vec::new();
        for effect in effects.iter() {
            if let Effect::Persist { seq, record } = effect {
                self.committed += 1;
                if seq.0 != self.committed {
                    let detail = format!("record {} is numbered {}", self.committed, seq.0);
                    return Err(Finding::new("log-positions", detail));
                }
                batch.push((**record).clone());
            }
        }
        effects.retain(|effect| !matches!(effect, Effect::Persist { .. }));
        if !batch.is_empty() {
            self.tail.push_back(batch);
        }
        Ok(())
    }

    /// Batches of records that are not durable.
    pub(super) fn undurable(&self) -> usize {
        self.tail.len()
    }

    /// Makes so many batches durable; the shard has to hear of the position that is returned.
    pub(super) fn persist(&mut self, batches: usize) -> CommitSeq {
        for batch in self.tail.drain(..batches.min(self.tail.len())) {
            self.durable += batch.len() as u64;
            batch.into_iter().for_each(|record| self.disk.recover(record));
        }
        CommitSeq(self.durable)
    }

    /// Dies, and leaves the durable records and so many batches of the others.
    pub(super) fn crash(mut self, survive: usize) -> Result<Shard, Finding> {
        self.persist(survive);
        // A compacted log recovers the same state.
        let mut compacted = Shard::new(self.config.clone());
        self.disk.snapshot().for_each(|record| compacted.recover(record));
        let mut recovered: Vec<Record> = compacted.snapshot().collect();
        for record in self.disk.snapshot() {
            // Topics are listed in the order of their coming, which is no part of the state.
            let Some(at) = recovered.iter().position(|one| *one == record) else {
                return Err(Finding::new("snapshot", format!("{record:?} is not recovered")));
            };
            recovered.swap_remove(at);
        }
        if let Some(record) = recovered.first() {
            return Err(Finding::new("snapshot", format!("{record:?} comes from nowhere")));
        }
        Ok(self.disk)
    }
}

impl Hash for Node {
    fn hash<H: Hasher>(&self, state: &mut H) {
        model::set_committed(CommitSeq(self.committed));
        self.shard.hash(state);
        if self.config.durable {
            model::set_committed(CommitSeq(0));
            self.disk.hash(state);
            self.tail.hash(state);
        }
    }
}
