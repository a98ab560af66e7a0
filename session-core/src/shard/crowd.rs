//! Large fan-out: what many connections get alike is one effect.

use alloc::{boxed::Box, vec::Vec};

use codec::{PacketId, ProtocolVersion, QoS};

use super::{
    Cx, Shard,
    conn::{Conn, paused},
    deliver::{Sending, frame_if_deliverable, is_ready, queued},
    msg::{Publication, Target},
    session::Ids,
};
use crate::{Crowd, Effect, Grants};

/// Fewer receivers are served one by one.
const CROWD_MIN: usize = 8;

/// Connections of one kind, to which a publication makes the same packet.
struct Gathering {
    kind: Kind,
    crowd: Box<Crowd>,
    /// Bytes of the packet.
    bytes: usize,
}

/// What makes the packets of one publication differ, but for Packet Identifiers.
#[derive(Clone, Copy, PartialEq)]
struct Kind {
    version: ProtocolVersion,
    qos: QoS,
    retain: bool,
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
        // There are as many as there are kinds, which are few.
        let mut gatherings: Vec<Gathering> = Vec::new();
        let is_crowd = targets.size_hint().1.is_none_or(|most| most >= CROWD_MIN);
        for target in targets {
            let is_gathered = is_crowd && self.gather(cx, publication, &target, &mut gatherings);
            if !is_gathered {
                refused |= !self.deliver(cx, publication, target);
            }
        }
        // The one for whom a kind was made may have had no identifier left.
        for Gathering { crowd, .. } in gatherings {
            if !crowd.conns.is_empty() {
                self.emit(cx, Effect::SendMany(crowd));
            }
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
        let qos = of.qos.min(target.qos);
        let Some(conn) = self.ready_conn(of, target, qos) else { return false };
        let kind = Kind { version: conn.version, qos, retain: target.retain };
        let at = match gatherings.iter().position(|one| one.kind == kind) {
            Some(at) => at,
            None => {
                // The identifier is that of whoever is copied last.
                let packet_id = if qos == QoS::AtMostOnce { None } else { PacketId::new(1) };
                let sending = Sending::first(of, target, qos, packet_id);
                let Some(frame) = frame_if_deliverable(conn, sending, cx.now) else {
                    return false;
                };
                let bytes = frame.len();
                let crowd = Box::new(Crowd { conns: Vec::new(), frame });
                gatherings.push(Gathering { kind, crowd, bytes });
                gatherings.len().saturating_sub(1)
            }
        };
        let Some(Gathering { crowd, bytes, .. }) = gatherings.get_mut(at) else { return false };
        if *bytes > conn.packet_max as usize {
            return false;
        }
        let conn = conn.id;
        let packet_id = match qos {
            QoS::AtMostOnce => None,
            _ => match self.begin_at_once(cx, of, target, qos) {
                Some(packet_id) => Some(packet_id),
                None => return false,
            },
        };
        crowd.conns.push((conn, packet_id));
        cx.budget = cx.budget.saturating_sub(1);
        if self.conns.get_mut(conn).is_some_and(|conn| conn.charge(*bytes)) {
            self.pause(cx, conn, paused::CREDIT);
        }
        true
    }

    /// The connection of a receiver that takes the message at once, as it is, with nothing before it.
    fn ready_conn(&mut self, of: &Publication, target: &Target, qos: QoS) -> Option<&mut Conn> {
        if of.is_again() || target.ids != Ids::None || target.share.is_some() {
            return None;
        }
        let session = self.sessions.get(target.who.session)?;
        let traffic = &session.traffic;
        let conn = self.conns.get_mut(session.conn?)?;
        let is_first = match qos {
            QoS::AtMostOnce => traffic.queue_qos0.is_empty(),
            _ => {
                traffic.unsent == 0
                    && self.config.limits.session_queue_age_s_max == 0
                    && !session.is_full(&of.message, &self.config.limits)
            }
        };
        let is_plain =
            conn.alias_out_max == 0 && matches!(conn.grants, Grants::All) && !conn.limited;
        let is_ready = traffic.subscribing == 0 && is_ready(session, conn, qos);
        (is_first && is_plain && is_ready).then_some(conn)
    }

    /// Begins the exchange of a message that a session sends at once; `None` if it has no identifier
    /// left.
    fn begin_at_once(
        &mut self,
        cx: &mut Cx<'_>,
        of: &Publication,
        target: &Target,
        qos: QoS,
    ) -> Option<PacketId> {
        let id = target.who.session;
        let session = self.sessions.get_mut(id)?;
        let packet_id = session.free_packet_id(self.config.limits.packet_id_max)?;
        self.push(cx, id, queued(of, target.clone(), qos), of.source());
        self.begin_next(cx, id, packet_id);
        Some(packet_id)
    }
}
