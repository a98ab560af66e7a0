//! Wishes of administrators, and the talk between shards that keeps them in step.

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use codec::ReasonCode;

use super::{
    Cx, Shard,
    conn::paused,
    msg::{Flight, Publication, ShardMsg},
    session::Subscription,
    table::SessionId,
};
use crate::{Cause, Command, ConnId, Effect, Reply, ShardId, Ticket};

/// Worked off publishes are reported to their sender in lots: one message for so many.
const CREDIT_LOT: u32 = 64;

impl Shard {
    pub(super) fn on_command(&mut self, cx: &mut Cx<'_>, ticket: Ticket, command: Command) {
        let reply = match command {
            Command::Disconnect { client_id, reason } => self.kick(cx, &client_id, reason),
            Command::RightsChanged => self.judge_all(cx),
            Command::Shutdown => self.shut_down(cx),
            Command::StorageFull(full) => {
                self.storage_full = full;
                Reply::Done
            }
            Command::Publish { message, qos, retain } => {
                let publication = Publication {
                    message,
                    qos,
                    retain,
                    at: cx.now,
                    publisher: None,
                    by: None,
                    origin: self.config.id,
                    flight: Flight::Unwatched,
                };
                self.publish(cx, publication);
                Reply::Done
            }
        };
        self.emit(cx, Effect::Reply { ticket, reply: Box::new(reply) });
    }

    fn kick(&mut self, cx: &mut Cx<'_>, client_id: &str, reason: ReasonCode) -> Reply {
        let session = self.session_of(client_id).and_then(|id| self.sessions.get(id));
        let Some(conn) = session.and_then(|session| session.conn) else { return Reply::NotFound };
        self.disconnect(cx, conn, reason, Cause::Administrative(reason));
        Reply::Done
    }

    fn shut_down(&mut self, cx: &mut Cx<'_>) -> Reply {
        self.stopping = true;
        let all: Vec<ConnId> = self.conns.iter().map(|conn| conn.id).collect();
        for conn in all {
            self.disconnect(cx, conn, ReasonCode::ServerShuttingDown, Cause::Shutdown);
        }
        Reply::Done
    }

    /// Tells every topics' owner the subscriptions of the sessions here, then that this was all.
    pub(super) fn announce(&mut self, cx: &mut Cx<'_>) {
        let sessions: Vec<SessionId> = self.sessions.iter().map(|(id, _)| id).collect();
        let is_idle = self.jobs.is_empty();
        for id in sessions {
            let Some(session) = self.sessions.get(id) else { continue };
            let all = session.subscriptions.iter();
            let all: Vec<(Arc<str>, Subscription)> =
                all.map(|(filter, subscription)| (filter.into(), *subscription)).collect();
            for (filter, subscription) in all {
                self.tell_subscribe(cx, id, filter, subscription, false, None);
            }
            // What it tells itself need not pile up, unless something else comes before it.
            if is_idle {
                self.work(cx);
            }
        }
        for shard in self.config.map.all() {
            self.tell(cx, shard, ShardMsg::Announced);
        }
    }

    pub(super) fn on_announced(&mut self, from: ShardId) {
        if let Some(link) = self.links.get_mut(usize::from(from.0)) {
            link.announced = true;
        }
    }

    /// One publish or delivery of another shard was worked off.
    pub(super) fn worked_off(&mut self, cx: &mut Cx<'_>, from: ShardId) {
        if from == self.config.id {
            return;
        }
        let Some(link) = self.links.get_mut(usize::from(from.0)) else { return };
        link.worked = link.worked.saturating_add(1);
        // What is kept back must not look like work: publishers wait for half of the limit.
        let lot = CREDIT_LOT.min(self.config.limits.link_in_flight_max / 2).max(1);
        if link.worked >= lot {
            let count = core::mem::take(&mut link.worked);
            self.tell(cx, from, ShardMsg::Credit(count));
        }
    }

    /// Another shard has worked something off.
    pub(super) fn on_credit(&mut self, from: ShardId, count: u32) {
        let Some(link) = self.links.get_mut(usize::from(from.0)) else { return };
        link.in_flight = link.in_flight.saturating_sub(count);
    }

    /// Lets the publishers go on that waited for this shard or another to catch up.
    pub(super) fn release_waiters(&mut self, cx: &mut Cx<'_>) {
        let maximum = self.config.limits.link_in_flight_max / 2;
        let caught_up = self.jobs.is_empty()
            && self.unrouted.is_empty()
            && self.links.iter().all(|link| link.in_flight <= maximum);
        if caught_up {
            for conn in core::mem::take(&mut self.link_waiters) {
                self.resume(cx, conn, paused::LINK);
            }
        }
    }
}
