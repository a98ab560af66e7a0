//! The sessions' half: messages that go to clients.

use alloc::{boxed::Box, vec::Vec};
use core::num::NonZeroU16;

use codec::{AckKind, Frame, PacketId, PublishFrame, QoS, ReasonCode};

use super::{
    Cx, Shard,
    conn::Conn,
    msg::{Publication, Target},
    outgoing::Source,
    record::{Record, topic_mark},
    session::{Extra, Ids, Queued, Shared, Stage, expiry_left_s},
    table::SessionId,
};
use crate::{Effect, Event, Place, QueueFull, Time};

/// How a PUBLISH goes out.
#[derive(Clone, Copy)]
struct Sending {
    packet_id: Option<PacketId>,
    //= [MQTT-3.3.1-3]
    dup: bool,
}

impl Shard {
    /// Whether a session would send a message of this QoS at once; `Err` tells whether it is
    /// connected at all.
    pub(super) fn readiness(&self, id: SessionId, qos: QoS) -> Result<(), bool> {
        //= [MQTT-4.9.0-3]
        let session = self.sessions.get(id).ok_or(false)?;
        let conn = session.conn.and_then(|conn| self.conns.get(conn)).ok_or(false)?;
        let window_open =
            qos == QoS::AtMostOnce || (session.waiting() == 0 && session.window_used < conn.window);
        if window_open && conn.credit > 0 { Ok(()) } else { Err(true) }
    }

    /// Gives a message to a session here: sends it, or keeps it for later. False if a message that
    /// must not be lost could not be taken.
    pub(super) fn deliver(&mut self, cx: &mut Cx<'_>, of: &Publication, target: Target) -> bool {
        cx.budget = cx.budget.saturating_sub(1);
        let id = target.who.session;
        let source = of.source();
        if of.is_again() && self.had(id, of, source, target.share.is_some()) {
            return true;
        }
        let Target { ids, share, .. } = target;
        let share = share.map(|filter| Shared { filter, qos: of.qos, retain: of.retain });
        let extra = match (&ids, &share) {
            (Ids::None, None) => None,
            _ => Some(Box::new(Extra { ids, share })),
        };
        let queued = Queued {
            message: of.message.clone(),
            //= [MQTT-3.8.4-8]
            qos: of.qos.min(target.qos),
            retain: target.retain,
            at: of.at,
            place: Place::default(),
            extra,
        };
        if queued.qos == QoS::AtMostOnce {
            //= [MQTT-4.3.1-1] at most once: who may have got it before a crash gets it no more.
            if !of.is_again() {
                self.deliver_qos0(cx, id, queued);
            }
            return true;
        }
        self.enqueue(cx, id, queued, source)
    }

    /// Whether a session had its chance to get a publication that is routed again.
    fn had(&self, id: SessionId, of: &Publication, source: Option<Source>, shared: bool) -> bool {
        let (Some(session), Some(Source { id, .. })) = (self.sessions.get(id), source) else {
            return false;
        };
        let stored = session.has_seen(id) && !seeded!(StoresTwice);
        // What came to a share group before may have gone to another member.
        if stored || shared || seeded!(DeliversLate) {
            return stored;
        }
        session.has_seen_later(id, topic_mark(of.message.topic()))
    }

    fn deliver_qos0(&mut self, cx: &mut Cx<'_>, id: SessionId, queued: Queued) {
        //= [U3-3.1.2.4-a]
        //= [MQTT-4.3.1-1]
        let Some(session) = self.sessions.get_mut(id) else { return };
        let Some(conn) = session.conn.and_then(|conn| self.conns.get_mut(conn)) else { return };
        if session.subscribing == 0 && session.queue_qos0.is_empty() && conn.credit > 0 {
            return self.send_publish(cx, id, &queued, Sending { packet_id: None, dup: false });
        }
        if !session.queue_qos0.is_full(&queued.message, &self.config.limits) {
            return session.queue_qos0.push(queued);
        }
        if !session.reported {
            session.reported = true;
            let client_id = session.client_id.clone();
            cx.out.push(Effect::Note(Box::new(Event::SlowConsumer { client_id })));
        }
    }

    /// Adds a QoS 1 or 2 message to a session's queue and sends what can be sent.
    fn enqueue(
        &mut self,
        cx: &mut Cx<'_>,
        id: SessionId,
        queued: Queued,
        source: Option<Source>,
    ) -> bool {
        //= [MQTT-3.1.2-5 of 3.1.1]
        let Some(session) = self.sessions.get_mut(id) else { return true };
        if self.config.limits.session_queue_age_s_max > 0 && session.waiting() > 0 {
            self.drop_aged(cx, id);
        }
        let Some(session) = self.sessions.get(id) else { return true };
        if session.is_full(&queued.message, &self.config.limits) {
            self.report_full(cx, id);
            if self.config.limits.session_queue_full == QueueFull::Reject
                || !self.make_room(cx, id, &queued)
            {
                return false;
            }
        }
        self.push(cx, id, queued, source);
        self.pump(cx, id);
        true
    }

    pub(super) fn push(
        &mut self,
        cx: &mut Cx<'_>,
        id: SessionId,
        mut queued: Queued,
        source: Option<Source>,
    ) {
        let Some(session) = self.sessions.get(id) else { return };
        queued.place = session.last.next(queued.bytes());
        let is_logged = self.config.durable && session.logged;
        // What does not survive a crash need not know what comes again after one.
        let source = source.filter(|_| is_logged);
        if is_logged {
            let (queued, source) = (Box::new(queued.clone()), source.map(Box::new));
            self.log(cx, Record::Enqueued { session: id, queued, source });
        }
        self.apply_enqueued(id, queued, source, is_logged);
    }

    fn report_full(&mut self, cx: &mut Cx<'_>, id: SessionId) {
        self.report_drops(cx, id, |client_id, queued| Event::QueueFull { client_id, queued });
    }

    pub(super) fn report_aged(&mut self, cx: &mut Cx<'_>, id: SessionId) {
        self.report_drops(cx, id, |client_id, queued| Event::QueueAged { client_id, queued });
    }

    /// Says once, until the queue was empty, that messages are dropped.
    fn report_drops(
        &mut self,
        cx: &mut Cx<'_>,
        id: SessionId,
        event: impl FnOnce(Box<str>, u32) -> Event,
    ) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        if !core::mem::replace(&mut session.reported, true) {
            let queued = u32::try_from(session.waiting()).unwrap_or(u32::MAX);
            let event = event(session.client_id.clone(), queued);
            cx.out.push(Effect::Note(Box::new(event)));
        }
    }

    /// Drops the oldest waiting messages until there is room; false if that cannot help.
    fn make_room(&mut self, cx: &mut Cx<'_>, id: SessionId, queued: &Queued) -> bool {
        // What could not even be there alone costs no other message its place.
        let bytes = u64::try_from(queued.message.size()).unwrap_or(u64::MAX);
        if bytes > self.config.limits.session_queue_bytes_max {
            return false;
        }
        while let Some(session) = self.sessions.get_mut(id) {
            if !session.is_full(&queued.message, &self.config.limits) {
                return true;
            }
            if session.queue.is_empty() {
                if !session.is_behind() {
                    return false;
                }
                // The oldest are on disk only: they make room once they are known.
                session.overdue = session.overdue.saturating_add(1);
                self.load(cx, id);
                return true;
            }
            self.drop_first(cx, id);
        }
        false
    }

    pub(super) fn drop_first(&mut self, cx: &mut Cx<'_>, id: SessionId) {
        let first = self.sessions.get(id).and_then(|session| session.queue.messages.front());
        let Some(place) = first.map(|queued| queued.place) else { return };
        if self.logs(id) {
            self.log(cx, Record::Dropped { session: id, place });
        }
        self.apply_dropped(id);
    }

    /// Sends what waits for a session, as far as its window and its socket have room.
    pub(super) fn pump(&mut self, cx: &mut Cx<'_>, id: SessionId) {
        while self.resend_next(cx, id) || self.send_next(cx, id) || self.send_next_qos0(cx, id) {}
        self.refill(cx, id);
    }

    /// Sends the next unfinished exchange of an earlier connection again, in its order and with
    /// its identifier `[MQTT-4.4.0-1]` `[MQTT-4.6.0-1]`. Expiry does not stop it `[MQTT-4.3.3-7]`.
    fn resend_next(&mut self, cx: &mut Cx<'_>, id: SessionId) -> bool {
        //= [MQTT-4.3.3-6] [MQTT-4.3.3-7] [MQTT-4.4.0-1] [MQTT-4.8.2-4] [U5-3.8.4-c]
        let Some(session) = self.sessions.get_mut(id) else { return false };
        if session.unsent == 0 {
            return false;
        }
        let Some(conn) = session.conn.and_then(|conn| self.conns.get(conn)) else { return false };
        if conn.credit <= 0 {
            return false;
        }
        // A PUBREL is not held back by the window [MQTT-3.3.4-10]; it takes a place in it all the
        // same, as its exchange began with a PUBLISH.
        let window_open = session.window_used < conn.window;
        let next = session.exchanges.iter().find(|exchange| {
            !exchange.sent && (window_open || matches!(exchange.stage, Stage::Released))
        });
        let Some(exchange) = next else { return false };
        let (packet_id, place) = (exchange.packet_id, exchange.place);
        let stage = exchange.stage.clone();
        let too_large = matches!(&stage, Stage::Published(queued) if !fits(conn, queued, 0));
        let conn = conn.id;
        session.mark_sent(packet_id);
        match stage {
            //= [MQTT-3.1.2-25] this connection takes less than the earlier one did.
            Stage::Published(_) if too_large => {
                if self.logs(id) {
                    self.log(cx, Record::Acknowledged { session: id, packet_id, place });
                }
                self.apply_acknowledged(id, packet_id);
            }
            //= [MQTT-3.3.1-1] [MQTT-4.9.0-2]
            Stage::Published(queued) => {
                let dup = !seeded!(ForgetsDup);
                let how = Sending { packet_id: Some(packet_id), dup };
                self.send_publish(cx, id, &queued, how);
            }
            Stage::Released if seeded!(ForgetsPubrel) => {}
            Stage::Released => {
                self.send_ack(cx, conn, AckKind::PubRel, packet_id, ReasonCode::Success);
            }
        }
        true
    }

    /// Begins the exchange of the first waiting message.
    fn send_next(&mut self, cx: &mut Cx<'_>, id: SessionId) -> bool {
        //= [MQTT-4.3.2-1 of 3.1.1]
        //= [MQTT-4.3.2-2] [MQTT-4.3.3-2] [MQTT-4.6.0-5]
        let Some(session) = self.sessions.get(id) else { return false };
        let Some(queued) = session.queue.messages.front() else { return false };
        let Some(conn) = session.conn.and_then(|conn| self.conns.get(conn)) else { return false };
        if session.subscribing > 0 || session.unsent > 0 || conn.credit <= 0 {
            return false;
        }
        //= [MQTT-3.3.4-9] [MQTT-3.3.4-10] only PUBLISH waits for the window.
        if session.window_used >= conn.window && !seeded!(IgnoresWindow) {
            return false;
        }
        let age_s = self.config.limits.session_queue_age_s_max;
        if age_s > 0 && queued.at.plus_s(age_s) <= cx.now {
            self.report_aged(cx, id);
            self.drop_first(cx, id);
            return true;
        }
        //= [MQTT-3.3.2-5] [MQTT-3.1.2-25]
        if !is_deliverable(conn, queued, cx.now) {
            self.drop_first(cx, id);
            return true;
        }
        let Some(packet_id) = session.free_packet_id(self.config.limits.packet_id_max) else {
            return false;
        };
        let queued = queued.clone();
        if self.logs(id) {
            let place = queued.place;
            self.log(cx, Record::Sent { session: id, packet_id, place });
        }
        self.apply_sent(id, packet_id, true);
        self.send_publish(cx, id, &queued, Sending { packet_id: Some(packet_id), dup: false });
        true
    }

    fn send_next_qos0(&mut self, cx: &mut Cx<'_>, id: SessionId) -> bool {
        let Some(session) = self.sessions.get_mut(id) else { return false };
        let Some(conn) = session.conn.and_then(|conn| self.conns.get(conn)) else { return false };
        if session.queue_qos0.is_empty() || session.subscribing > 0 || conn.credit <= 0 {
            return false;
        }
        let Some(queued) = session.pop_qos0() else { return false };
        self.send_publish(cx, id, &queued, Sending { packet_id: None, dup: false });
        true
    }

    fn send_publish(&mut self, cx: &mut Cx<'_>, id: SessionId, queued: &Queued, how: Sending) {
        let Some(session) = self.sessions.get(id) else { return };
        let Some(conn) = session.conn.and_then(|conn| self.conns.get_mut(conn)) else { return };
        if how.packet_id.is_none() && !is_deliverable(conn, queued, cx.now) {
            return;
        }
        let left_s = expiry_left_s(&queued.message, queued.at, cx.now).unwrap_or(0);
        let frame = publish_frame(conn, queued, how, left_s);
        let conn = conn.id;
        self.send(cx, conn, frame);
    }
}

/// Whether a message may be sent to this connection for the first time: it has not expired, fits
/// its Maximum Packet Size `[MQTT-3.1.2-24]`, and its topic may be read.
fn is_deliverable(conn: &Conn, queued: &Queued, now: Time) -> bool {
    let Some(left_s) = expiry_left_s(&queued.message, queued.at, now) else { return false };
    if !conn.grants.may_receive(queued.message.topic_str()) && !seeded!(ForgetsGrants) {
        return false;
    }
    fits(conn, queued, left_s)
}

/// Whether a message is within the connection's Maximum Packet Size `[MQTT-3.1.2-24]`.
fn fits(conn: &Conn, queued: &Queued, left_s: u32) -> bool {
    //= [U5-3.1.2.11.4-b]
    // The layout's own size bounds what the frame adds: a header, identifiers and an alias.
    if queued.message.size().saturating_add(32) <= conn.packet_max as usize
        && queued.extra.is_none()
    {
        return true;
    }
    let packet_id = if queued.qos == QoS::AtMostOnce { None } else { PacketId::new(1) };
    let frame = plain_frame(conn, queued, Sending { packet_id, dup: false }, left_s);
    frame.len() <= conn.packet_max as usize
}

/// The PUBLISH for a connection, with a Topic Alias if the client takes one and the packet stays
/// within its limit.
fn publish_frame(conn: &mut Conn, queued: &Queued, how: Sending, left_s: u32) -> Frame {
    let frame = plain_frame(conn, queued, how, left_s);
    if conn.alias_out_max == 0 {
        return frame;
    }
    //= [MQTT-3.1.2-26] [MQTT-3.3.2-8] [MQTT-3.3.2-11] aliases are 1 to the client's maximum, first come.
    let known = conn.aliases_out.get(queued.message.topic()).copied();
    let alias = known.or_else(|| {
        let next = u16::try_from(conn.aliases_out.len()).ok()?.checked_add(1)?;
        (next <= conn.alias_out_max).then_some(next)
    });
    let Some(alias) = alias.and_then(NonZeroU16::new) else { return frame };
    let aliased = Frame::PublishWith(Box::new(PublishFrame {
        topic_alias: Some(alias),
        omit_topic: known.is_some(),
        ..publish_parts(conn, queued, how, left_s)
    }));
    if aliased.len() > conn.packet_max as usize {
        return frame;
    }
    if known.is_none() {
        conn.aliases_out.insert(queued.message.topic().into(), alias.get());
    }
    aliased
}

fn plain_frame(conn: &Conn, queued: &Queued, how: Sending, left_s: u32) -> Frame {
    let has_ids =
        conn.version.is_v5() && queued.extra.as_ref().is_some_and(|extra| extra.ids != Ids::None);
    if has_ids {
        return Frame::PublishWith(Box::new(publish_parts(conn, queued, how, left_s)));
    }
    Frame::Publish {
        message: queued.message.clone(),
        version: conn.version,
        flags: Frame::publish_flags(how.dup, queued.qos, queued.retain),
        packet_id: how.packet_id.map_or(0, PacketId::get),
        expiry_s: left_s,
    }
}

fn publish_parts(conn: &Conn, queued: &Queued, how: Sending, left_s: u32) -> PublishFrame {
    let ids = queued.extra.as_ref().map(|extra| &extra.ids);
    PublishFrame {
        message: queued.message.clone(),
        version: conn.version,
        flags: Frame::publish_flags(how.dup, queued.qos, queued.retain),
        packet_id: how.packet_id,
        expiry_s: left_s,
        topic_alias: None,
        omit_topic: false,
        subscription_ids: ids.map_or_else(Vec::new, Ids::to_vec),
    }
}
