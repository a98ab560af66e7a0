//! One shard of a closed world, with its disk: what a crash leaves of it.

use std::{
    collections::VecDeque,
    hash::{Hash, Hasher},
};

use session_core::{
    CommitSeq, Effect, Effects, Input, Load, Loaded, Queued, Record, Shard, ShardConfig, Time,
    model,
};

use super::Finding;

/// A shard and its disk.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) shard: Shard,
    config: ShardConfig,
    /// What the durable records alone would recover, without a limit of memory: a log, without its
    /// length.
    disk: Shard,
    /// Questions about what is on disk only, oldest first.
    pub(super) loads: VecDeque<Load>,
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
        let shard = recovered(&config, &disk, 1);
        Self::start_with(config, shard, disk, now)
    }

    /// A shard that read from a store what the plain records say.
    pub(super) fn start_with(
        config: ShardConfig,
        shard: Shard,
        disk: Shard,
        now: Time,
    ) -> Result<(Self, Effects), Finding> {
        let mut node = Self {
            shard,
            config,
            disk,
            loads: VecDeque::new(),
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

    /// The answer to the oldest question.
    pub(super) fn answer(&mut self) -> Option<Loaded> {
        let load = self.loads.pop_front()?;
        let mut waiting: Vec<Queued> = Vec::new();
        for record in self.disk.snapshot() {
            match record {
                Record::Enqueued { session, queued, .. } if session == load.session => {
                    waiting.push(*queued);
                }
                Record::Sent { session, .. } if session == load.session => drop(waiting.pop()),
                _ => {}
            }
        }
        waiting.retain(|queued| queued.place > load.after && queued.place <= load.through);
        let complete = waiting.len() <= load.messages_max as usize;
        waiting.truncate(load.messages_max as usize);
        Some(Loaded { load, messages: waiting, complete })
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

    /// Batches of records that are not durable: the first of them, so many.
    pub(super) fn tail(&self, most: usize) -> Vec<Vec<Record>> {
        self.tail.iter().take(most).cloned().collect()
    }

    /// The records that are durable, as a shard.
    pub(super) fn into_disk(self) -> Shard {
        self.disk
    }

    /// Dies, and leaves the durable records and so many batches of the others.
    pub(super) fn crash(mut self, survive: usize) -> Result<Shard, Finding> {
        self.persist(survive);
        // A compacted log recovers the same state.
        let compacted = Shard::recovered(disk_of(&self.config), self.disk.snapshot());
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
            self.loads.hash(state);
        }
    }
}

/// A shard that stands for a log holds all of it.
pub(super) fn disk_of(config: &ShardConfig) -> ShardConfig {
    let mut config = config.clone();
    config.limits.session_resident_max = u32::MAX;
    config.limits.session_resident_bytes_max = u64::MAX;
    config
}

/// What a shard finds at its start. Of the messages that wait for a session it reads the first, so many,
/// and of the others only that they are there.
pub(super) fn recovered(config: &ShardConfig, disk: &Shard, first: usize) -> Shard {
    let mut shard = Shard::new(config.clone());
    let mut records = disk.snapshot().peekable();
    let mut read = (None, 0);
    while let Some(record) = records.next() {
        let is_sent = matches!(records.peek(), Some(Record::Sent { .. }));
        match record {
            Record::Enqueued { session, queued, source } if !is_sent => {
                let place = queued.place;
                if read.0.replace(session) != Some(session) {
                    read.1 = 0;
                }
                read.1 += 1;
                let record = if read.1 > first {
                    Record::Backlog { session, through: place }
                } else {
                    Record::Enqueued { session, queued, source }
                };
                shard.recover(record);
            }
            record => shard.recover(record),
        }
    }
    shard
}
