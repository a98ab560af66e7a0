//! The sessions' half: messages that go to clients.

use alloc::boxed::Box;
use core::num::NonZeroU16;

use codec::{AckKind, Frame, Message, PacketId, PublishFrame, QoS, ReasonCode};

use super::{
    Cx, Shard,
    conn::Conn,
    msg::{Publication, Target},
    outgoing::Source,
    record::{Record, topic_mark},
    session::{Extra, Ids, Queued, Session, Shared, Stage, expiry_left_s},
    table::SessionId,
};
use crate::{ConnId, DropReason, Grants, Place, QueueFull, Time};

/// A PUBLISH on its way to one connection.
#[derive(Clone, Copy)]
pub(super) struct Sending<'a> {
    message: &'a Message,
    qos: QoS,
    retain: bool,
    /// When the broker got the message.
    at: Time,
    ids: &'a Ids,
    packet_id: Option<PacketId>,
    //= [MQTT-3.3.1-3]
    dup: bool,
}

impl<'a> Sending<'a> {
    fn of(queued: &'a Queued, packet_id: Option<PacketId>, dup: bool) -> Self {
        Self {
            message: &queued.message,
            qos: queued.qos,
            retain: queued.retain,
            at: queued.at,
            ids: queued.extra.as_ref().map_or(&Ids::None, |extra| &extra.ids),
            packet_id,
            dup,
        }
    }

    /// What is sent as it is published.
    pub(super) fn first(
        of: &'a Publication,
        target: &'a Target,
        qos: QoS,
        packet_id: Option<PacketId>,
    ) -> Self {
        let (message, at) = (&of.message, of.at);
        Self { message, qos, retain: target.retain, at, ids: &target.ids, packet_id, dup: false }
    }

    /// Seconds left of its expiry; `None` once it has expired.
    fn left_s(&self, now: Time) -> Option<u32> {
        expiry_left_s(self.message, self.at, now)
    }
}

impl Shard {
    /// Whether a session would send a message of this QoS at once; `Err` tells whether it is
    /// connected at all.
    pub(super) fn readiness(&self, id: SessionId, qos: QoS) -> Result<(), bool> {
        //= [MQTT-4.9.0-3]
        let session = self.sessions.get(id).ok_or(false)?;
        let conn = session.conn.and_then(|conn| self.conns.get(conn)).ok_or(false)?;
        if is_ready(session, conn, qos) { Ok(()) } else { Err(true) }
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
        //= [MQTT-3.8.4-8]
        let qos = of.qos.min(target.qos);
        if qos == QoS::AtMostOnce {
            //= [MQTT-4.3.1-1] at most once: who may have got it before a crash gets it no more.
            if !of.is_again() {
                self.deliver_qos0(cx, of, target);
            }
            return true;
        }
        self.enqueue(cx, id, queued(of, target, qos), source)
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

    /// Sends a QoS 0 message at once, or keeps it if the socket or another message is in its way.
    fn deliver_qos0(&mut self, cx: &mut Cx<'_>, of: &Publication, target: Target) {
        //= [U3-3.1.2.4-a]
        //= [MQTT-4.3.1-1]
        let Some(session) = self.sessions.get_mut(target.who.session) else { return };
        let Some(conn) = session.conn.and_then(|conn| self.conns.get_mut(conn)) else { return };
        if session.traffic.subscribing == 0
            && session.traffic.queue_qos0.is_empty()
            && conn.has_room()
        {
            let sending = Sending::first(of, &target, QoS::AtMostOnce, None);
            let Some(frame) = frame_if_deliverable(conn, sending, cx.now) else {
                let reason = why_not(conn, sending, cx.now);
                return self.note_dropped(cx, target.who.session, reason);
            };
            let (id, is_beyond) = (conn.id, conn.charge(frame.len()));
            let waits = conn.meter_out(cx.now, &frame);
            self.send_charged(cx, id, frame, is_beyond);
            return self.rearm_if(cx, id, waits);
        }
        if !session.traffic.queue_qos0.is_full(&of.message, &self.config.limits) {
            return session.traffic.queue_qos0.push(queued(of, target, QoS::AtMostOnce));
        }
        self.note_dropped(cx, target.who.session, DropReason::NotRead);
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
        if session.is_full(&queued.message, &self.config.limits)
            && (self.config.limits.session_queue_full == QueueFull::Reject
                || !self.make_room(cx, id, &queued))
        {
            self.note_dropped(cx, id, DropReason::QueueFull);
            return false;
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
            if session.traffic.queue.is_empty() {
                if !session.is_behind() {
                    return false;
                }
                // The oldest are on disk only: they make room once they are known.
                session.traffic.overdue = session.traffic.overdue.saturating_add(1);
                self.load(cx, id);
                return true;
            }
            self.drop_first(cx, id, DropReason::QueueFull);
        }
        false
    }

    pub(super) fn drop_first(&mut self, cx: &mut Cx<'_>, id: SessionId, reason: DropReason) {
        let first =
            self.sessions.get(id).and_then(|session| session.traffic.queue.messages.front());
        let Some(place) = first.map(|queued| queued.place) else { return };
        if self.logs(id) {
            self.log(cx, Record::Dropped { session: id, place });
        }
        self.apply_dropped(id);
        self.note_dropped(cx, id, reason);
    }

    /// Sends what waits for a session, as far as its window and its socket have room.
    pub(super) fn pump(&mut self, cx: &mut Cx<'_>, id: SessionId) {
        while let Some(session) = self.sessions.get(id) {
            let resends = session.traffic.unsent > 0;
            let sends = !session.traffic.queue.is_empty();
            let sends_qos0 = !session.traffic.queue_qos0.is_empty();
            let sent = (resends && self.resend_next(cx, id))
                || (sends && self.send_next(cx, id))
                || (sends_qos0 && self.send_next_qos0(cx, id));
            if !sent {
                break;
            }
        }
        self.refill(cx, id);
    }

    /// Sends the next unfinished exchange of an earlier connection again, in its order and with
    /// its identifier `[MQTT-4.4.0-1]` `[MQTT-4.6.0-1]`. Expiry does not stop it `[MQTT-4.3.3-7]`.
    fn resend_next(&mut self, cx: &mut Cx<'_>, id: SessionId) -> bool {
        //= [MQTT-4.3.3-6] [MQTT-4.3.3-7] [MQTT-4.4.0-1] [MQTT-4.8.2-4] [U5-3.8.4-c]
        let Some(session) = self.sessions.get_mut(id) else { return false };
        if session.traffic.unsent == 0 {
            return false;
        }
        let Some(conn) = session.conn.and_then(|conn| self.conns.get(conn)) else { return false };
        if !conn.has_room() {
            return false;
        }
        // A PUBREL is not held back by the window [MQTT-3.3.4-10]; it takes a place in it all the
        // same, as its exchange began with a PUBLISH.
        let window_open = session.traffic.window_used < conn.window;
        let next = session.traffic.exchanges.iter().find(|exchange| {
            !exchange.sent && (window_open || matches!(exchange.stage, Stage::Released))
        });
        let Some(exchange) = next else { return false };
        let (packet_id, place) = (exchange.packet_id, exchange.place);
        let stage = exchange.stage.clone();
        let may_read = |queued: &Queued| may_receive(conn, &queued.message);
        let has_room = |queued| fits(conn, Sending::of(queued, Some(packet_id), true), 0);
        let is_withheld = matches!(&stage, Stage::Published(queued) if !may_read(queued));
        let is_over =
            matches!(&stage, Stage::Published(queued) if is_withheld || !has_room(queued));
        let conn = conn.id;
        session.traffic.mark_sent(packet_id);
        match stage {
            // The receiver may have it, and what it remembers of the identifier ends by PUBREL.
            Stage::Published(queued) if is_withheld && queued.qos == QoS::ExactlyOnce => {
                if self.logs(id) {
                    self.log(cx, Record::Received { session: id, packet_id, place });
                }
                self.apply_received(id, packet_id);
                self.send_ack(cx, conn, AckKind::PubRel, packet_id, ReasonCode::Success);
            }
            //= [MQTT-3.1.2-25] this connection takes less than the earlier one did, or may not read it any more.
            Stage::Published(_) if is_over => {
                if self.logs(id) {
                    self.log(cx, Record::Acknowledged { session: id, packet_id, place });
                }
                self.apply_acknowledged(id, packet_id);
                let reason = if is_withheld { DropReason::Denied } else { DropReason::TooLarge };
                self.note_dropped(cx, id, reason);
            }
            //= [MQTT-3.3.1-1] [MQTT-4.9.0-2]
            Stage::Published(queued) => {
                let dup = !seeded!(ForgetsDup);
                self.send_publish(cx, id, Sending::of(&queued, Some(packet_id), dup));
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
        let Some(session) = self.sessions.get_mut(id) else { return false };
        let Some(queued) = session.traffic.queue.messages.front() else { return false };
        let Some(conn) = session.conn.and_then(|conn| self.conns.get_mut(conn)) else {
            return false;
        };
        if session.traffic.subscribing > 0 || session.traffic.unsent > 0 || !conn.has_room() {
            return false;
        }
        //= [MQTT-3.3.4-9] [MQTT-3.3.4-10] only PUBLISH waits for the window.
        if session.traffic.window_used >= conn.window && !seeded!(IgnoresWindow) {
            return false;
        }
        let age_s = self.config.limits.session_queue_age_s_max;
        if age_s > 0 && queued.at.plus_s(age_s) <= cx.now {
            self.drop_first(cx, id, DropReason::Aged);
            return true;
        }
        //= [MQTT-3.3.2-5] [MQTT-3.1.2-25]
        let sending = Sending::of(queued, None, false);
        if !is_deliverable(conn, sending, cx.now) {
            let reason = why_not(conn, sending, cx.now);
            self.drop_first(cx, id, reason);
            return true;
        }
        let Some(packet_id) = session.free_packet_id(self.config.limits.packet_id_max) else {
            return false;
        };
        let Some(queued) = session.traffic.queue.messages.front() else { return false };
        let sending = Sending::of(queued, Some(packet_id), false);
        let frame = publish_frame(conn, sending, sending.left_s(cx.now).unwrap_or(0));
        let is_beyond = conn.charge(frame.len());
        let waits = conn.meter_out(cx.now, &frame);
        let conn = conn.id;
        self.begin_next(cx, id, packet_id);
        self.send_charged(cx, conn, frame, is_beyond);
        self.rearm_if(cx, conn, waits);
        true
    }

    /// The first waiting message begins its exchange under this identifier.
    pub(super) fn begin_next(&mut self, cx: &mut Cx<'_>, id: SessionId, packet_id: PacketId) {
        let Some(session) = self.sessions.get(id) else { return };
        let Some(queued) = session.traffic.queue.messages.front() else { return };
        if self.config.durable && session.logged {
            let place = queued.place;
            self.log(cx, Record::Sent { session: id, packet_id, place });
        }
        self.apply_sent(id, packet_id, true);
    }

    fn send_next_qos0(&mut self, cx: &mut Cx<'_>, id: SessionId) -> bool {
        let Some(session) = self.sessions.get_mut(id) else { return false };
        let Some(conn) = session.conn.and_then(|conn| self.conns.get_mut(conn)) else {
            return false;
        };
        if session.traffic.queue_qos0.is_empty()
            || session.traffic.subscribing > 0
            || !conn.has_room()
        {
            return false;
        }
        let Some(queued) = session.pop_qos0() else { return false };
        let sending = Sending::of(&queued, None, false);
        let frame = frame_if_deliverable(conn, sending, cx.now);
        let waits = frame.as_ref().is_some_and(|frame| conn.meter_out(cx.now, frame));
        let lost = frame.is_none().then(|| why_not(conn, sending, cx.now));
        let conn = conn.id;
        session.traffic.rest(&mut self.spares.0);
        if let Some(frame) = frame {
            self.send(cx, conn, frame);
        }
        if let Some(reason) = lost {
            self.note_dropped(cx, id, reason);
        }
        self.rearm_if(cx, conn, waits);
        true
    }

    fn send_publish(&mut self, cx: &mut Cx<'_>, id: SessionId, sending: Sending<'_>) {
        let Some(session) = self.sessions.get(id) else { return };
        let Some(conn) = session.conn.and_then(|conn| self.conns.get_mut(conn)) else { return };
        let frame = publish_frame(conn, sending, sending.left_s(cx.now).unwrap_or(0));
        let waits = conn.meter_out(cx.now, &frame);
        let conn = conn.id;
        self.send(cx, conn, frame);
        self.rearm_if(cx, conn, waits);
    }

    /// Whoever waits for its rate is woken by its timer.
    #[inline]
    fn rearm_if(&mut self, cx: &Cx<'_>, id: ConnId, waits: bool) {
        if waits {
            self.rearm(cx, id);
        }
    }
}

/// Whether a message of this QoS would be sent at once: nothing waits before it, and window and
/// socket have room.
#[inline]
pub(super) fn is_ready(session: &Session, conn: &Conn, qos: QoS) -> bool {
    let window_open = qos == QoS::AtMostOnce
        || (session.waiting() == 0 && session.traffic.window_used < conn.window);
    window_open && conn.has_room()
}

/// What a session keeps of a delivery.
pub(super) fn queued(of: &Publication, target: Target, qos: QoS) -> Queued {
    let Target { ids, share, retain, .. } = target;
    let share = share.map(|filter| Shared { filter, qos: of.qos, retain: of.retain });
    let extra = match (&ids, &share) {
        (Ids::None, None) => None,
        _ => Some(Box::new(Extra { ids, share })),
    };
    let message = of.message.clone();
    Queued { message, qos, retain, at: of.at, place: Place::default(), extra }
}

/// The PUBLISH for a connection, if it may be sent to it for the first time.
#[inline]
pub(super) fn frame_if_deliverable(
    conn: &mut Conn,
    sending: Sending<'_>,
    now: Time,
) -> Option<Frame> {
    let left_s = sending.left_s(now)?;
    (may_receive(conn, sending.message) && fits(conn, sending, left_s))
        .then(|| publish_frame(conn, sending, left_s))
}

/// Whether a message may be sent to this connection for the first time: it has not expired, fits
/// its Maximum Packet Size `[MQTT-3.1.2-24]`, and its topic may be read.
fn is_deliverable(conn: &Conn, sending: Sending<'_>, now: Time) -> bool {
    let Some(left_s) = sending.left_s(now) else { return false };
    may_receive(conn, sending.message) && fits(conn, sending, left_s)
}

/// Why a message is not sent to this connection, which is not.
#[cold]
fn why_not(conn: &Conn, sending: Sending<'_>, now: Time) -> DropReason {
    if sending.left_s(now).is_none() {
        DropReason::Expired
    } else if may_receive(conn, sending.message) {
        DropReason::TooLarge
    } else {
        DropReason::Denied
    }
}

#[inline]
fn may_receive(conn: &Conn, message: &Message) -> bool {
    conn.grants == Grants::All
        || conn.grants.may_receive(message.topic_str())
        || seeded!(ForgetsGrants)
}

/// Whether a message is within the connection's Maximum Packet Size `[MQTT-3.1.2-24]`.
#[inline]
fn fits(conn: &Conn, sending: Sending<'_>, left_s: u32) -> bool {
    //= [U5-3.1.2.11.4-b]
    // The layout's own size bounds what the frame adds: a header, identifiers and an alias.
    if sending.message.size().saturating_add(32) <= conn.packet_max as usize
        && *sending.ids == Ids::None
    {
        return true;
    }
    let packet_id = if sending.qos == QoS::AtMostOnce { None } else { PacketId::new(1) };
    let frame = plain_frame(conn, Sending { packet_id, ..sending }, left_s);
    frame.len() <= conn.packet_max as usize
}

/// The PUBLISH for a connection, with a Topic Alias if the client takes one and the packet stays
/// within its limit.
#[inline]
fn publish_frame(conn: &mut Conn, sending: Sending<'_>, left_s: u32) -> Frame {
    let frame = plain_frame(conn, sending, left_s);
    if conn.alias_out_max == 0 {
        return frame;
    }
    //= [MQTT-3.1.2-26] [MQTT-3.3.2-8] [MQTT-3.3.2-11] aliases are 1 to the client's maximum, first come.
    let known = conn.rare().aliases_out.get(sending.message.topic()).copied();
    let alias = known.or_else(|| {
        let next = u16::try_from(conn.rare().aliases_out.len()).ok()?.checked_add(1)?;
        (next <= conn.alias_out_max).then_some(next)
    });
    let Some(alias) = alias.and_then(NonZeroU16::new) else { return frame };
    let aliased = Frame::PublishWith(Box::new(PublishFrame {
        topic_alias: Some(alias),
        omit_topic: known.is_some(),
        ..publish_parts(conn, sending, left_s)
    }));
    if aliased.len() > conn.packet_max as usize {
        return frame;
    }
    if known.is_none() {
        let topic = sending.message.topic().into();
        conn.edit_rare(|rare| {
            rare.aliases_out.insert(topic, alias.get());
        });
    }
    aliased
}

#[inline]
fn plain_frame(conn: &Conn, sending: Sending<'_>, left_s: u32) -> Frame {
    if conn.version.is_v5() && *sending.ids != Ids::None {
        return Frame::PublishWith(Box::new(publish_parts(conn, sending, left_s)));
    }
    Frame::Publish {
        message: sending.message.clone(),
        version: conn.version,
        flags: Frame::publish_flags(sending.dup, sending.qos, sending.retain),
        packet_id: sending.packet_id.map_or(0, PacketId::get),
        expiry_s: left_s,
    }
}

fn publish_parts(conn: &Conn, sending: Sending<'_>, left_s: u32) -> PublishFrame {
    PublishFrame {
        message: sending.message.clone(),
        version: conn.version,
        flags: Frame::publish_flags(sending.dup, sending.qos, sending.retain),
        packet_id: sending.packet_id,
        expiry_s: left_s,
        topic_alias: None,
        omit_topic: false,
        subscription_ids: sending.ids.to_vec(),
    }
}
