//! The broker's life and death: starts, its disk, and the failure of power.

use std::sync::{Mutex, MutexGuard, PoisonError};

use session_core::{Input, Shard, ShardConfig, ShardId, ShardMap, repartition};

use super::{
    Finding, Place, Sight, Universe,
    node::{Node, disk_of},
    paper::Paper,
    step::{Step, spend},
};

impl Universe {
    /// Starts every shard with what is on its disk; the first time that is nothing.
    pub(super) fn start_nodes(&mut self, disks: Vec<Shard>) -> Result<(), Finding> {
        let map = ShardMap::new(self.setup.shards_after(self.lives), 1);
        self.lives += 1;
        let is_same = disks.len() == usize::from(map.shards());
        // The first time there is nothing to deal.
        let is_first = disks.is_empty();
        let dealt = if is_same || is_first { Vec::new() } else { repartition(&disks, map) };
        let mut dealt = dealt.into_iter();
        let mut disks = disks.into_iter();
        let mut started = Vec::new();
        for id in map.all() {
            let config = self.config(id, map);
            let disk = disks.next().filter(|_| is_same).unwrap_or_else(|| {
                Shard::recovered(disk_of(&config), dealt.next().unwrap_or_default())
            });
            let (node, effects) = Node::start(config, disk, self.now)?;
            self.nodes.push(node);
            started.push((id, effects));
        }
        if let (1, Some(paper)) = (self.lives, &self.paper) {
            locked(paper).begin(map)?;
        }
        started.into_iter().try_for_each(|(id, effects)| self.carry_out(id, effects))
    }

    /// Starts shards with what the store gave back, each with its plain log.
    fn start_found(&mut self, map: ShardMap, found: Vec<(Shard, Shard)>) -> Result<(), Finding> {
        self.lives += 1;
        let mut started = Vec::new();
        for (id, (shard, disk)) in map.all().zip(found) {
            let config = self.config(id, map);
            let (node, effects) = Node::start_with(config, shard, disk, self.now)?;
            self.nodes.push(node);
            started.push((id, effects));
        }
        started.into_iter().try_for_each(|(id, effects)| self.carry_out(id, effects))
    }

    fn config(&self, id: ShardId, map: ShardMap) -> ShardConfig {
        let mut config = ShardConfig::new(id, map);
        config.durable = self.setup.durable;
        config.limits = self.setup.limits.clone();
        config
    }

    pub(super) fn persist(&mut self, shard: u8, records: u8) -> Step {
        let Some(at) = usize::from(shard).checked_rem(self.nodes.len()) else { return Ok(false) };
        let most = self.nodes[at].undurable();
        if most == 0 {
            return Ok(false);
        }
        let batches = if records == 0 { most } else { usize::from(records) };
        if let Some(paper) = &self.paper {
            locked(paper).persist(ShardId(at as u16), &self.nodes[at].tail(batches))?;
        }
        let through = self.nodes[at].persist(batches);
        self.input(ShardId(at as u16), Input::Persisted { through })?;
        Ok(true)
    }

    pub(super) fn load(&mut self, shard: u8) -> Step {
        let shard = usize::from(shard) % self.nodes.len();
        let Some(loaded) = self.nodes[shard].answer() else { return Ok(false) };
        if let Some(paper) = &self.paper {
            locked(paper).check_load(ShardId(shard as u16), &loaded.load, &loaded)?;
        }
        if !loaded.messages.is_empty() {
            self.oracle.sights |= Sight::BacklogLoaded.bit();
        }
        self.input(ShardId(shard as u16), Input::Loaded(Box::new(loaded)))?;
        Ok(true)
    }

    pub(super) fn crash(&mut self, survive: u8) -> Step {
        if !self.setup.durable || !spend(&mut self.budget.crashes) {
            return Ok(false);
        }
        let told = self.mail.values().any(|queue| !queue.is_empty());
        self.mail.clear();
        for link in &mut self.links {
            link.up.clear();
            link.down.clear();
            link.place = Place::Closed;
        }
        self.sweep();
        // A faulty disk may lose also what was written before the power failed.
        let certain = if self.paper.is_some() { 0 } else { usize::from(survive) };
        let forgotten = self.nodes.iter().any(|node| node.undurable() > certain);
        let lost = told || forgotten;
        self.oracle.crashed(lost, self.now);
        let survived = survive > 0 && self.nodes.iter().any(|node| node.undurable() > 0);
        self.oracle.sights |= if survived { Sight::RecordsSurvived.bit() } else { 0 };
        let nodes = std::mem::take(&mut self.nodes);
        let before = self.setup.shards_after(self.lives - 1);
        if let Some(paper) = self.paper.clone() {
            let map = ShardMap::new(self.setup.shards_after(self.lives), 1);
            let config = |id| self.config(id, map);
            let found = locked(&paper).crash(nodes, usize::from(survive), map, config)?;
            self.start_found(map, found)?;
        } else {
            let nodes = nodes.into_iter();
            let disks: Result<Vec<Shard>, Finding> =
                nodes.map(|node| node.crash(usize::from(survive))).collect();
            self.start_nodes(disks?)?;
        }
        if self.nodes.len() != usize::from(before) {
            self.oracle.sights |= Sight::Repartitioned.bit();
        }
        Ok(true)
    }
}

/// Nothing panics while it is held, so that its poison says nothing.
fn locked(paper: &Mutex<Paper>) -> MutexGuard<'_, Paper> {
    paper.lock().unwrap_or_else(PoisonError::into_inner)
}
