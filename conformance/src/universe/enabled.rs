//! What can happen next.

use codec::ProtocolVersion;
use session_core::ShardId;

use super::{Clean, Op, Place, Universe};

impl Universe {
    /// Everything that can happen now and that the budget allows, in a fixed order.
    pub fn enabled(&self, ops: &mut Vec<Op>) {
        ops.clear();
        self.network(ops);
        for (index, node) in self.nodes.iter().enumerate() {
            let shard = index as u8;
            if self.is_due(node) {
                ops.push(Op::Tick { shard });
            }
            if !node.loads.is_empty() {
                ops.push(Op::Load { shard });
            }
            // The disk is durable through any batch: a step at a time reaches all.
            if node.undurable() > 0 {
                ops.push(Op::Persist { shard, records: 1 });
            }
        }
        for client in 0..self.clients.len() {
            self.decisions(client, ops);
        }
        if self.budget.advances > 0 && self.next_deadline().is_some() {
            ops.push(Op::Advance);
        }
        if self.budget.crashes > 0 {
            let most = self.nodes.iter().map(|node| node.undurable()).max().unwrap_or(0);
            ops.extend((0..=most as u8).map(|survive| Op::Crash { survive }));
        }
    }

    fn network(&self, ops: &mut Vec<Op>) {
        for (index, link) in self.links.iter().enumerate() {
            let at = index as u8;
            let is_open = link.place != Place::Closed;
            let moved = matches!(link.place, Place::Arriving(_, Some(_)));
            if is_open && !link.paused && (moved || !link.up.is_empty()) {
                ops.push(Op::Up { link: at });
            }
            if !link.deserted && (!link.down.is_empty() || !is_open) {
                ops.push(Op::Down { link: at });
            }
            if link.deserted && is_open {
                ops.push(Op::HangUp { link: at });
            }
        }
        ops.extend((0..self.mail.len() as u8).map(|mail| Op::Tell { mail }));
    }

    fn decisions(&self, index: usize, ops: &mut Vec<Op>) {
        let (client, persona) = (&self.clients[index], &self.setup.clients[index]);
        let (at, budget) = (index as u8, &self.budget);
        let cleans: &[bool] = match persona.clean {
            Clean::Never => &[false],
            Clean::Always => &[true],
            Clean::Sometimes => &[false, true],
        };
        let is_take_over = client.link.is_some();
        if !is_take_over || (client.online && budget.take_overs > 0) {
            for door in 0..self.setup.doors.len() as u8 {
                ops.extend(cleans.iter().map(|clean| Op::Connect {
                    client: at,
                    clean: *clean,
                    door,
                }));
            }
        }
        if is_take_over && budget.drops > 0 {
            ops.push(Op::Drop { client: at });
        }
        if !client.online {
            return;
        }
        if budget.goodbyes > 0 {
            let both = persona.version == ProtocolVersion::V5 && persona.will.is_some();
            let wills: &[bool] = if both { &[false, true] } else { &[false] };
            ops.extend(wills.iter().map(|will| Op::Goodbye { client: at, with_will: *will }));
        }
        if budget.publishes > 0 && client.may_publish() {
            let letters = 0..persona.letters.len() as u8;
            ops.extend(letters.map(|letter| Op::Publish { client: at, letter }));
        }
        for wish in 0..persona.wishes.len() as u8 {
            if budget.subscribes > 0 {
                ops.push(Op::Subscribe { client: at, wish });
            }
            if budget.unsubscribes > 0 {
                ops.push(Op::Unsubscribe { client: at, wish });
            }
        }
        ops.extend(client.sendable().map(|nth| Op::Ack { client: at, nth: nth as u8 }));
        if budget.refusals > 0 && persona.version == ProtocolVersion::V5 && client.can_refuse() {
            ops.push(Op::Refuse { client: at });
        }
        if budget.violations > 0 {
            ops.extend((0..8).map(|how| Op::Violate { client: at, how }));
        }
    }

    /// The first thing to happen that needs nobody's decision: packets arrive, shards work, disks
    /// sync, clients answer. Time does not pass.
    pub(super) fn inevitable(&self) -> Option<Op> {
        let mut ops = Vec::new();
        self.network(&mut ops);
        if let Some(op) = ops.first() {
            return Some(*op);
        }
        for (index, node) in self.nodes.iter().enumerate() {
            if self.is_due(node) {
                return Some(Op::Tick { shard: index as u8 });
            }
            if node.undurable() > 0 {
                return Some(Op::Persist { shard: index as u8, records: 0 });
            }
            if !node.loads.is_empty() {
                return Some(Op::Load { shard: index as u8 });
            }
        }
        let owing = self.clients.iter().position(|c| c.online && !c.owed.is_empty())?;
        let nth = self.clients[owing].sendable().next()?;
        Some(Op::Ack { client: owing as u8, nth: nth as u8 })
    }

    /// The next deadline of any shard, if nothing is due before it.
    pub(super) fn next_deadline(&self) -> Option<session_core::Time> {
        let next = self.nodes.iter().filter_map(|node| node.shard.next_timeout()).min()?;
        (next > self.now && self.nodes.iter().all(|node| !self.is_due(node))).then_some(next)
    }

    /// The shard behind a door.
    pub(super) fn door(&self, door: u8) -> ShardId {
        let doors = &self.setup.doors;
        let shard = doors[usize::from(door) % doors.len()];
        ShardId(shard % self.nodes.len() as u16)
    }
}
