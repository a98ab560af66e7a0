//! How much a client, and all of them together, may send and get.

use alloc::{boxed::Box, sync::Arc};

use codec::{Frame, ReasonCode};

use super::{
    Cx, Shard,
    conn::{Conn, paused},
    msg::Publication,
};
use crate::{ClientLimits, ConnId, Effect, Event, OverRate, Time, rate::Meter};

/// The least time between two lines of what the same connection has sent too much.
const LINE_PAUSE_MS: u64 = 10_000;

/// What a client with limits has used of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Limiter {
    pub(super) limits: Arc<ClientLimits>,
    input: Option<Way>,
    output: Option<Way>,
    /// No refusal is told before, and so many were not.
    refusals: Option<(Time, u32)>,
}

/// One direction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Way {
    meter: Meter,
    /// Bytes of a message that passed and was not paid for, and when it can be: nothing passes before.
    owed: Option<(u64, Time)>,
}

impl Limiter {
    fn new(limits: Arc<ClientLimits>, now: Time) -> Self {
        let way = |messages, bytes| Way { meter: Meter::new(messages, bytes, now), owed: None };
        let ClientLimits { publishes_in, bytes_in, publishes_out, bytes_out, .. } = &*limits;
        let input = limits.limits_in().then(|| way(publishes_in, bytes_in));
        let output = limits.limits_out().then(|| way(publishes_out, bytes_out));
        Self { limits, input, output, refusals: None }
    }

    /// When something that waits may go on.
    pub(super) fn resumes(&self) -> Option<Time> {
        let ways = [&self.input, &self.output].into_iter().flatten();
        ways.filter_map(|way| way.owed.map(|(_, at)| at)).min()
    }
}

impl Way {
    /// Pays for what passed, if it can be by now; whether it was.
    fn pay(&mut self, now: Time) -> bool {
        let Some((bytes, _)) = self.owed.filter(|(_, at)| *at <= now) else { return false };
        self.meter.take(now, bytes);
        self.owed = None;
        true
    }
}

impl Conn {
    /// Begins to count for a client with limits.
    pub(super) fn limit(&mut self, limits: &Arc<ClientLimits>, now: Time) {
        if limits.is_unlimited() && !self.limited {
            return;
        }
        let limiter = (!limits.is_unlimited()).then(|| Limiter::new(limits.clone(), now));
        self.limited = limiter.is_some();
        self.edit_rare(|rare| rare.limiter = limiter.map(Box::new));
    }

    /// Begins to count for a client that has no limits of its own.
    fn count(&mut self, now: Time) {
        if !self.limited {
            self.limited = true;
            let limiter = Box::new(Limiter::new(Arc::default(), now));
            self.edit_rare(|rare| rare.limiter = Some(limiter));
        }
    }

    /// A PUBLISH is being sent; whether the next one has to wait.
    #[inline]
    pub(super) fn meter_out(&mut self, now: Time, frame: &Frame) -> bool {
        self.limited && self.count_out(now, frame.len())
    }

    fn count_out(&mut self, now: Time, bytes: usize) -> bool {
        let Some(way) = self.limiter().and_then(|limiter| limiter.output.as_mut()) else {
            return false;
        };
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        if way.meter.take(now, bytes) {
            return false;
        }
        way.owed = Some((bytes, way.meter.ready(now, bytes)));
        self.held = true;
        true
    }
}

impl Shard {
    /// Whether a message of a client is within its limits and those of all. A client that is held up instead of being
    /// refused has this one taken, and pays for it before the next.
    pub(super) fn meter_in(
        &mut self,
        cx: &mut Cx<'_>,
        id: ConnId,
        publication: &Publication,
    ) -> Result<(), ReasonCode> {
        let Some(conn) = self.conns.get_mut(id) else { return Ok(()) };
        if !conn.limited && self.all_in.is_none() {
            return Ok(());
        }
        let bytes = publication.message.size() as u64;
        let is_v5 = conn.version.is_v5();
        let limiter = conn.limiter();
        let over_rate =
            limiter.as_ref().map_or(self.config.limits.client.over_rate, |it| it.limits.over_rate);
        let own = limiter.and_then(|limiter| limiter.input.as_mut());
        let own_ready = own.map_or(Time(0), |way| way.meter.ready(cx.now, bytes));
        let all_ready = self.all_in.as_mut().map_or(Time(0), |meter| meter.ready(cx.now, bytes));
        let ready = own_ready.max(all_ready);
        if ready <= cx.now {
            self.pay_in(cx, id, bytes);
            return Ok(());
        }
        match over_rate {
            OverRate::Disconnect => Err(ReasonCode::MessageRateTooHigh),
            OverRate::Refuse if is_v5 => {
                self.note_over_rate(cx, id);
                Err(ReasonCode::QuotaExceeded)
            }
            OverRate::Refuse | OverRate::Pause => {
                self.hold_up(cx, id, bytes, ready);
                Ok(())
            }
        }
    }

    fn pay_in(&mut self, cx: &Cx<'_>, id: ConnId, bytes: u64) {
        let own = self.conns.get_mut(id).and_then(Conn::limiter);
        if let Some(way) = own.and_then(|limiter| limiter.input.as_mut()) {
            way.meter.take(cx.now, bytes);
        }
        if let Some(meter) = &mut self.all_in {
            meter.take(cx.now, bytes);
        }
    }

    /// Reads nothing more of a client until it can pay for what it has sent.
    fn hold_up(&mut self, cx: &mut Cx<'_>, id: ConnId, bytes: u64, until: Time) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.count(cx.now);
        if let Some(limiter) = conn.limiter() {
            let unlimited = crate::Rates::default();
            let fresh = || Way { meter: Meter::new(&unlimited, &unlimited, cx.now), owed: None };
            limiter.input.get_or_insert_with(fresh).owed = Some((bytes, until));
        }
        self.pause(cx, id, paused::RATE);
        self.rearm(cx, id);
    }

    /// What waited for its rate goes on. Whether anything did.
    pub(super) fn resume_rates(&mut self, cx: &mut Cx<'_>, id: ConnId) -> bool {
        let Some(conn) = self.conns.get_mut(id) else { return false };
        let session = conn.session();
        let Some(limiter) = conn.limiter() else { return false };
        let owed = limiter.input.as_ref().and_then(|way| way.owed);
        let reads = limiter.input.as_mut().is_some_and(|way| way.pay(cx.now));
        let writes = limiter.output.as_mut().is_some_and(|way| way.pay(cx.now));
        if reads {
            if let (Some(meter), Some((bytes, _))) = (&mut self.all_in, owed) {
                meter.take(cx.now, bytes);
            }
            self.resume(cx, id, paused::RATE);
        }
        if writes {
            if let Some(conn) = self.conns.get_mut(id) {
                conn.held = false;
            }
            if let Some(session) = session {
                self.pump(cx, session);
            }
        }
        reads || writes
    }

    /// A client has other limits from now on.
    pub(super) fn relimit(&mut self, cx: &mut Cx<'_>, id: ConnId, limits: &Arc<ClientLimits>) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let present = conn.limiter().map(|limiter| limiter.limits.clone()).unwrap_or_default();
        if present == *limits {
            return;
        }
        conn.limit(limits, cx.now);
        conn.held = false;
        let session = conn.session();
        self.resume(cx, id, paused::RATE);
        if let Some(session) = session {
            self.pump(cx, session);
        }
        self.rearm(cx, id);
    }

    /// Tells that a client sends more than it may: not more often than every ten seconds.
    fn note_over_rate(&mut self, cx: &mut Cx<'_>, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let session = conn.session();
        let now = cx.now;
        conn.count(now);
        let Some(limiter) = conn.limiter() else { return };
        let (next, untold) = limiter.refusals.unwrap_or((now, 0));
        if now < next {
            limiter.refusals = Some((next, untold.saturating_add(1)));
            return;
        }
        limiter.refusals = Some((now.plus_ms(LINE_PAUSE_MS), 0));
        let session = session.and_then(|session| self.sessions.get(session));
        let client_id = session.map(|session| session.client_id.clone()).unwrap_or_default();
        let event = Event::OverRate { conn: id, client_id, untold };
        cx.out.push(Effect::Note(Box::new(event)));
    }
}
