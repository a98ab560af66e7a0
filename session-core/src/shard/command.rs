//! Wishes of administrators, and the talk between shards that keeps them in step.

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use codec::{Disconnect, Frame, Packet, Properties, Property, ReasonCode};

use super::{
    Cx, Shard,
    conn::{Told, paused},
    msg::{Flight, Publication, ShardMsg},
    session::Subscription,
    share_of_all,
    table::SessionId,
};
use crate::{
    Authentication, Cause, Command, ConnId, Effect, Grants, Limits, Reply, Settings, ShardId,
    Ticket,
};

/// Worked off publishes are reported to their sender in lots: one message for so many.
const CREDIT_LOT: u32 = 64;

impl Shard {
    pub(super) fn on_command(&mut self, cx: &mut Cx<'_>, ticket: Ticket, command: Command) {
        let reply = match command {
            Command::Disconnect { client_id, reason } => self.kick(cx, &client_id, reason),
            Command::EndSession { client_id } => self.end_session_of(cx, &client_id),
            Command::RightsChanged => self.judge_all(cx),
            Command::Reconfigure(settings) => self.reconfigure(cx, *settings),
            Command::Drain { max, server_reference } => {
                self.drain(cx, max, server_reference.as_deref())
            }
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

    fn end_session_of(&mut self, cx: &mut Cx<'_>, client_id: &str) -> Reply {
        let Some(id) = self.session_of(client_id) else { return Reply::NotFound };
        if let Some(conn) = self.sessions.get(id).and_then(|session| session.conn) {
            let reason = ReasonCode::AdministrativeAction;
            self.disconnect(cx, conn, reason, Cause::Administrative(reason));
        }
        if let Some(id) = self.session_of(client_id) {
            self.end_session(cx, id);
        }
        Reply::Done
    }

    /// Goes on by other settings. Whoever is connected keeps what CONNACK told it; limits of rates
    /// that everybody has are in force at once.
    fn reconfigure(&mut self, cx: &mut Cx<'_>, settings: Settings) -> Reply {
        let Settings { authentication, denied_publish_v3, features, limits } = settings;
        let asked_before = self.config.authentication;
        let client_before = self.config.limits.client.clone();
        let all_before = self.config.limits.all.clone();
        self.config.authentication = authentication;
        self.config.denied_publish_v3 = denied_publish_v3;
        self.config.features = features;
        // Identifiers that are in use cannot leave their space.
        let packet_id_max = self.config.limits.packet_id_max;
        self.config.limits = Limits { packet_id_max, ..limits };
        self.told = Arc::new(Told::of(&self.config));
        self.report_all_work(cx);
        if all_before != self.config.limits.all {
            self.all_in = share_of_all(&self.config, cx.now);
        }
        let all: Vec<ConnId> = self.conns.iter().map(|conn| conn.id).collect();
        if client_before != self.config.limits.client {
            let limits = self.config.limits.client.clone();
            for conn in &all {
                let has_own = self.conns.get_mut(*conn).and_then(|conn| conn.limiter());
                let has_own = has_own.is_some_and(|limiter| {
                    limiter.limits != client_before && !limiter.limits.is_unlimited()
                });
                if !has_own && self.conns.get(*conn).is_some_and(|conn| conn.session().is_some()) {
                    self.relimit(cx, *conn, &limits);
                }
            }
        }
        match (asked_before, authentication) {
            (Authentication::Anonymous, Authentication::Ask) => self.turn_out_unknown(cx, all),
            (Authentication::Ask, Authentication::Anonymous) => self.free_all(cx, all),
            _ => {}
        }
        Reply::Done
    }

    /// Whoever was let in without a question has to come again.
    fn turn_out_unknown(&mut self, cx: &mut Cx<'_>, all: Vec<ConnId>) {
        for id in all {
            let Some(conn) = self.conns.get(id) else { continue };
            if conn.session().is_some() && conn.rare().subject.is_none() {
                self.turn_out(cx, id, ReasonCode::NotAuthorized);
            }
        }
    }

    /// Nobody decides any more what clients may do.
    fn free_all(&mut self, cx: &mut Cx<'_>, all: Vec<ConnId>) {
        self.forget_rights();
        for id in all {
            let Some(conn) = self.conns.get_mut(id) else { continue };
            if conn.session().is_none() {
                continue;
            }
            conn.grants = Grants::All;
            conn.edit_rare(|rare| {
                rare.subject = None;
                rare.authority_ends = None;
                rare.lapsed = false;
            });
            self.rearm(cx, id);
        }
    }

    /// Sends some clients elsewhere, and takes no more.
    fn drain(&mut self, cx: &mut Cx<'_>, max: u32, server_reference: Option<&str>) -> Reply {
        self.stopping = true;
        let some: Vec<ConnId> = self.conns.iter().map(|conn| conn.id).take(max as usize).collect();
        for conn in some {
            self.send_away(cx, conn, server_reference);
            self.close(cx, conn, Cause::Shutdown);
        }
        Reply::Left(u32::try_from(self.conns.len()).unwrap_or(u32::MAX))
    }

    fn send_away(&mut self, cx: &mut Cx<'_>, id: ConnId, server_reference: Option<&str>) {
        let Some(server) = server_reference else {
            let reason = ReasonCode::ServerShuttingDown;
            return self.send_disconnect(cx, id, reason, reason.name());
        };
        //= [U5-4.11-a]
        let Some(conn) = self.conns.get(id) else { return };
        if !conn.version.is_v5() || conn.session().is_none() {
            return;
        }
        let properties = Properties::from_iter([Property::ServerReference(server.into())]);
        let reason = ReasonCode::UseAnotherServer;
        let packet = Packet::Disconnect(Box::new(Disconnect { reason, properties }));
        let frame = Frame::Packet(conn.version, Box::new(packet));
        match frame.len() <= conn.packet_max as usize {
            true => self.send(cx, id, frame),
            false => self.send_disconnect(cx, id, reason, reason.name()),
        }
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

    /// Reports what was kept back for a lot: of other limits, it may be what publishers wait for.
    fn report_all_work(&mut self, cx: &mut Cx<'_>) {
        for shard in self.config.map.all() {
            let link = self.links.get_mut(usize::from(shard.0));
            let count = link.map_or(0, |link| core::mem::take(&mut link.worked));
            if count > 0 {
                self.tell(cx, shard, ShardMsg::Credit(count));
            }
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
