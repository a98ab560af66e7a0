//! Large fan-out: what many connections get alike is one effect.

use alloc::{boxed::Box, vec::Vec};

use codec::{ProtocolVersion, QoS};

use super::{
    Cx, Shard,
    conn::paused,
    deliver::{Sending, frame_if_deliverable},
    msg::{Publication, Target},
    session::Ids,
};
use crate::{Crowd, Effect, Grants};

/// Fewer receivers are served one by one.
const CROWD_MIN: usize = 8;

/// Connections of one kind, to which a publication makes the same packet.
struct Gathering {
    version: ProtocolVersion,
    retain: bool,
    crowd: Box<Crowd>,
    /// Bytes of the packet.
    bytes: usize,
}

impl Shard {
    /// Delivers to sessions here, as many as there are; whether one of them refused.
    pub(super) fn deliver_each(
        &mut self,
        cx: &mut Cx<'_>,
        publication: &Publication,
        targets: impl Iterator<Item = Target>,
    ) -> bool {
        let mut refused = false;
        if targets.size_hint().1.is_some_and(|most| most < CROWD_MIN) {
            for target in targets {
                refused |= !self.deliver(cx, publication, target);
            }
            return refused;
        }
        // There are as many as there are versions, with and without RETAIN.
        let mut gatherings: Vec<Gathering> = Vec::new();
        for target in targets {
            if !self.gather(cx, publication, &target, &mut gatherings) {
                refused |= !self.deliver(cx, publication, target);
            }
        }
        for Gathering { crowd, .. } in gatherings {
            self.emit(cx, Effect::SendMany(crowd));
        }
        refused
    }

    /// Adds a receiver to those that get the same packet at once; false if it is another case. It gets
    /// nothing else of this publication, so that it does not matter when the others are served.
    fn gather(
        &mut self,
        cx: &mut Cx<'_>,
        of: &Publication,
        target: &Target,
        gatherings: &mut Vec<Gathering>,
    ) -> bool {
        if of.qos.min(target.qos) != QoS::AtMostOnce || of.is_again() || target.ids != Ids::None {
            return false;
        }
        let Some(session) = self.sessions.get(target.who.session) else { return false };
        let traffic = &session.traffic;
        let Some(conn) = session.conn.and_then(|conn| self.conns.get_mut(conn)) else {
            return false;
        };
        let waits = traffic.subscribing > 0 || !traffic.queue_qos0.is_empty() || conn.credit <= 0;
        if waits || conn.alias_out_max > 0 || !matches!(conn.grants, Grants::All) {
            return false;
        }
        let is_kind =
            |one: &&mut Gathering| one.version == conn.version && one.retain == target.retain;
        let known = gatherings.iter_mut().find(is_kind);
        let gathering = match known {
            Some(gathering) => gathering,
            None => {
                let sending = Sending::qos0(of, target);
                let Some(frame) = frame_if_deliverable(conn, sending, cx.now) else {
                    return false;
                };
                gatherings.push(Gathering {
                    version: conn.version,
                    retain: target.retain,
                    bytes: frame.len(),
                    crowd: Box::new(Crowd { conns: Vec::new(), frame }),
                });
                let Some(gathering) = gatherings.last_mut() else { return false };
                gathering
            }
        };
        if gathering.bytes > conn.packet_max as usize {
            return false;
        }
        gathering.crowd.conns.push(conn.id);
        cx.budget = cx.budget.saturating_sub(1);
        if conn.charge(gathering.bytes) {
            let conn = conn.id;
            self.pause(cx, conn, paused::CREDIT);
        }
        true
    }
}
