//! SUBSCRIBE and UNSUBSCRIBE, on the session's side and on the topics' side.

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use codec::{
    Packet, PacketId, QoS, ReasonCode, RetainHandling, SubAck, Subscribe, SubscribeFilter,
    UnsubAck, Unsubscribe,
};

use super::{
    Cx, Shard,
    msg::{Retained, SessionRef, ShardMsg},
    record::Record,
    session::{Extra, Ids, Queued, Subscription},
    subscribers::{Subscriber, Subscribers},
    table::SessionId,
};
use crate::{Action, ConnId, Place};

/// What a SUBSCRIBE or UNSUBSCRIBE waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Waiter {
    conn: ConnId,
    session: SessionId,
    packet_id: PacketId,
    subscribe: bool,
    reasons: Vec<ReasonCode>,
    /// Answers to come from topics' owners.
    answers: u32,
}

impl Waiter {
    /// Whether an answer is still to come.
    pub(super) const fn is_open(&self) -> bool {
        self.answers > 0
    }

    /// One whose answers have all come, which should not be there.
    #[cfg(test)]
    pub(super) fn answered(conn: ConnId, session: SessionId) -> Self {
        let packet_id = PacketId::new(1).unwrap();
        Self { conn, session, packet_id, subscribe: true, reasons: Vec::new(), answers: 0 }
    }
}

impl Shard {
    pub(super) fn on_subscribe(
        &mut self,
        cx: &mut Cx<'_>,
        conn: ConnId,
        session: SessionId,
        subscribe: Subscribe,
    ) {
        if let Err(reason) = self.judge_subscribe(conn, &subscribe) {
            return self.refuse(cx, conn, reason);
        }
        let id = subscribe.properties.subscription_identifier().unwrap_or(0);
        let request = self.open_waiter(conn, session, subscribe.packet_id, true);
        if let Some(session) = self.sessions.get_mut(session) {
            session.traffic.subscribing = session.traffic.subscribing.saturating_add(1);
        }
        //= [MQTT-3.8.4-5] several filters act like consecutive packets.
        for wanted in subscribe.filters {
            let reason = self.subscribe_one(cx, conn, session, request, id, wanted);
            if let Some(waiter) = self.waiters.get_mut(&request) {
                //= [MQTT-3.9.3-1] [MQTT-3.8.4-6]
                waiter.reasons.push(reason);
            }
        }
        self.finish_waiter(cx, request);
    }

    /// What is wrong with the whole packet.
    fn judge_subscribe(&self, conn: ConnId, subscribe: &Subscribe) -> Result<(), ReasonCode> {
        //= [U5-3.2.2.3.12-a]
        let Some(conn) = self.conns.get(conn) else { return Ok(()) };
        let (features, is_v5) = (&conn.told.features, conn.version.is_v5());
        if !features.subscription_identifiers
            && subscribe.properties.subscription_identifier().is_some()
        {
            return Err(ReasonCode::SubscriptionIdentifiersNotSupported);
        }
        for SubscribeFilter { filter, options } in &subscribe.filters {
            let shared = codec::topic::split_shared(filter);
            //= [MQTT-3.8.3-4]
            if shared.is_some() && options.no_local {
                return Err(ReasonCode::ProtocolError);
            }
            if is_v5 && shared.is_some() && !features.shared_subscriptions {
                return Err(ReasonCode::SharedSubscriptionsNotSupported);
            }
            if is_v5 && filter.contains(['+', '#']) && !features.wildcard_subscriptions {
                return Err(ReasonCode::WildcardSubscriptionsNotSupported);
            }
        }
        Ok(())
    }

    fn subscribe_one(
        &mut self,
        cx: &mut Cx<'_>,
        conn: ConnId,
        session: SessionId,
        request: u32,
        id: u32,
        wanted: SubscribeFilter,
    ) -> ReasonCode {
        //= [MQTT-3.2.2-10] [MQTT-3.8.4-3] [U5-4.8.2-b]
        let existed = match self.judge_filter(cx, conn, session, &wanted.filter, wanted.options.qos)
        {
            Ok(existed) => existed,
            Err(reason) => return reason,
        };
        let shared = codec::topic::split_shared(&wanted.filter).is_some();
        let mut options = wanted.options;
        if let Some(conn) = self.conns.get(conn) {
            options.qos = options.qos.min(conn.told.features.maximum_qos);
            //= [D31-2] a bridge means what 5.0 lets every client say: what it sent does not come back,
            // and what is retained here is retained there.
            if conn.bridge {
                options.no_local = !shared;
                options.retain_as_published = true;
            }
        }
        let filter: Arc<str> = Arc::from(&*wanted.filter);
        let subscription = Subscription { options, id };
        if self.logs(session) {
            let filter = filter.clone();
            self.log(cx, Record::Subscribed { session, filter, subscription });
        }
        self.apply_subscribed(session, wanted.filter, subscription);
        //= [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11], U5-3.8.4-a
        let replay = !shared
            && match options.retain_handling {
                RetainHandling::Send => true,
                RetainHandling::SendIfNew => !existed,
                RetainHandling::DoNotSend => false,
            };
        self.tell_subscribe(cx, session, filter, subscription, replay, Some(request));
        match options.qos {
            QoS::AtMostOnce => ReasonCode::Success,
            QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
            QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
        }
    }

    /// Whether a filter may be subscribed to; `Ok` tells whether it already is.
    fn judge_filter(
        &mut self,
        cx: &mut Cx<'_>,
        conn: ConnId,
        session: SessionId,
        filter: &str,
        qos: QoS,
    ) -> Result<bool, ReasonCode> {
        //= [MQTT-3.8.3-2 of 3.1.1]
        //= [U5-3.2.2.3.11-a] [U5-3.2.2.3.13-a]
        let limits = &self.config.limits;
        let told = self.conns.get(conn).map_or(&self.told, |conn| &conn.told);
        let features = &told.features;
        //= [MQTT-4.8.2-1] [MQTT-4.8.2-2] [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-1]
        let plain = match codec::topic::split_shared(filter) {
            None => filter,
            Some(Ok(_)) if !features.shared_subscriptions => {
                return Err(ReasonCode::SharedSubscriptionsNotSupported);
            }
            Some(Ok((_, plain))) => plain,
            Some(Err(())) => return Err(ReasonCode::TopicFilterInvalid),
        };
        let levels = plain.bytes().filter(|byte| *byte == b'/').count();
        if !codec::topic::is_valid_filter(plain)
            || filter.len() > usize::from(limits.topic_bytes_max)
            || levels >= usize::from(limits.topic_levels_max)
        {
            return Err(ReasonCode::TopicFilterInvalid);
        }
        if !features.wildcard_subscriptions && plain.contains(['+', '#']) {
            return Err(ReasonCode::WildcardSubscriptionsNotSupported);
        }
        let Some(grants) = self.conns.get(conn).map(|conn| &conn.grants) else {
            return Err(ReasonCode::UnspecifiedError);
        };
        let verdict = grants.judge_subscribe(plain, qos);
        if !verdict.allowed {
            let rule = verdict.rule.map(|rule| rule.source.clone());
            self.note_denied(cx, conn, Action::Subscribe, plain, rule);
            return Err(ReasonCode::NotAuthorized);
        }
        let Some(state) = self.sessions.get(session) else {
            return Err(ReasonCode::UnspecifiedError);
        };
        let existed = state.subscriptions.contains_key(filter);
        let limiter = self.conns.get(conn).and_then(|conn| conn.rare().limiter.as_ref());
        let own = limiter.and_then(|limiter| limiter.limits.subscriptions_max);
        let limits = &self.config.limits;
        let max = own.unwrap_or(u32::MAX).min(limits.subscriptions_per_session_max);
        if !existed && state.subscriptions.len() >= max as usize {
            return Err(ReasonCode::QuotaExceeded);
        }
        Ok(existed)
    }

    /// Tells the owners of all topics that a filter can match. Retained messages are asked of
    /// each; a waiting SUBSCRIBE waits for each.
    pub(super) fn tell_subscribe(
        &mut self,
        cx: &mut Cx<'_>,
        session: SessionId,
        filter: Arc<str>,
        subscription: Subscription,
        replay: bool,
        request: Option<u32>,
    ) {
        let who = SessionRef { shard: self.config.id, session };
        let Subscription { options, id } = subscription;
        self.tell_owners(cx, filter, request, |filter| ShardMsg::Subscribe {
            who,
            filter,
            options,
            id,
            replay,
            request,
        });
    }

    fn tell_unsubscribe(
        &mut self,
        cx: &mut Cx<'_>,
        session: SessionId,
        filter: Arc<str>,
        request: Option<u32>,
    ) {
        let who = SessionRef { shard: self.config.id, session };
        self.tell_owners(cx, filter, request, |filter| ShardMsg::Unsubscribe {
            who,
            filter,
            request,
        });
    }

    fn tell_owners(
        &mut self,
        cx: &mut Cx<'_>,
        filter: Arc<str>,
        request: Option<u32>,
        msg: impl Fn(Arc<str>) -> ShardMsg,
    ) {
        let map = self.config.map;
        let plain = match codec::topic::split_shared(&filter) {
            // Each owner knows the whole group: a message has one owner, and so one member gets it.
            Some(Ok((_, plain))) => plain,
            _ => &filter,
        };
        let one = map.filter(plain.as_bytes());
        for owner in map.all().filter(|shard| one.is_none_or(|one| one == *shard)) {
            if let Some(waiter) = request.and_then(|request| self.waiters.get_mut(&request)) {
                waiter.answers = waiter.answers.saturating_add(1);
            }
            self.tell(cx, owner, msg(filter.clone()));
        }
    }

    pub(super) fn on_unsubscribe(
        &mut self,
        cx: &mut Cx<'_>,
        conn: ConnId,
        session: SessionId,
        unsubscribe: Unsubscribe,
    ) {
        //= [MQTT-3.10.4-3] [MQTT-3.10.4-6]
        let request = self.open_waiter(conn, session, unsubscribe.packet_id, false);
        for filter in &unsubscribe.filters {
            //= [MQTT-3.10.4-1] filters are compared as they are.
            let existed = self
                .sessions
                .get(session)
                .is_some_and(|session| session.subscriptions.contains_key(filter));
            let filter: Arc<str> = Arc::from(&**filter);
            let reason = if existed {
                self.forget_subscription(cx, session, filter, Some(request));
                ReasonCode::Success
            } else {
                //= [MQTT-3.10.4-2] an earlier connection may have given the same subscription up, and
                // the topics' owners may not have heard of it yet.
                if !seeded!(AnswersUnsubscribeEarly) {
                    self.tell_unsubscribe(cx, session, filter, Some(request));
                }
                ReasonCode::NoSubscriptionExisted
            };
            if let Some(waiter) = self.waiters.get_mut(&request) {
                //= [MQTT-3.11.3-1]
                waiter.reasons.push(reason);
            }
        }
        self.finish_waiter(cx, request);
    }

    /// Removes a subscription here and with the topics' owners.
    pub(super) fn forget_subscription(
        &mut self,
        cx: &mut Cx<'_>,
        session: SessionId,
        filter: Arc<str>,
        request: Option<u32>,
    ) {
        //= [MQTT-3.10.4-2] [U5-3.10.4-a]
        if self.logs(session) {
            self.log(cx, Record::Unsubscribed { session, filter: filter.clone() });
        }
        self.apply_unsubscribed(session, &filter);
        self.tell_unsubscribe(cx, session, filter, request);
    }

    /// Removes all subscriptions of a session that ended from the index.
    pub(super) fn unsubscribe_ended(
        &mut self,
        cx: &mut Cx<'_>,
        session: SessionId,
        filters: impl Iterator<Item = Box<str>>,
    ) {
        for filter in filters {
            self.tell_unsubscribe(cx, session, filter.into(), None);
        }
    }

    fn open_waiter(
        &mut self,
        conn: ConnId,
        session: SessionId,
        packet_id: PacketId,
        subscribe: bool,
    ) -> u32 {
        // Never one of before: an answer to a packet of a dead connection may still be on its way.
        self.last_request = self.last_request.wrapping_add(1);
        let request = self.last_request;
        let reasons = Vec::new();
        let waiter = Waiter { conn, session, packet_id, subscribe, reasons, answers: 0 };
        self.waiters.insert(request, waiter);
        request
    }

    /// Answers a packet once every owner has: SUBACK means routed.
    fn finish_waiter(&mut self, cx: &mut Cx<'_>, request: u32) {
        //= [MQTT-3.9.3-2 of 3.1.1] [D31-6]
        //= [MQTT-2.2.1-6] [MQTT-3.8.4-7]
        if self.waiters.get(&request).is_none_or(|waiter| waiter.answers > 0) {
            return;
        }
        let Some(waiter) = self.waiters.remove(&request) else { return };
        let Waiter { conn, session, packet_id, subscribe, reasons, .. } = waiter;
        // Connections die, and their sessions may have a new one.
        if self.conns.get(conn).is_none_or(|conn| conn.session() != Some(session)) {
            return;
        }
        let problem_info = self.conns.get(conn).is_some_and(|conn| conn.problem_info);
        let why = reasons.iter().find(|reason| reason.is_error()).map(|reason| reason.name());
        //= [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.10.4-4] [MQTT-3.10.4-5]
        let sent = self.send_explained(cx, conn, why.filter(|_| problem_info), |properties| {
            let reasons = reasons.clone();
            if subscribe {
                Packet::SubAck(SubAck { packet_id, properties, reasons }.into())
            } else {
                Packet::UnsubAck(UnsubAck { packet_id, properties, reasons }.into())
            }
        });
        if !sent {
            // The client would wait for its answer for ever.
            return self.refuse(cx, conn, ReasonCode::PacketTooLarge);
        }
        if subscribe {
            if let Some(session) = self.sessions.get_mut(session) {
                session.traffic.subscribing = session.traffic.subscribing.saturating_sub(1);
                session.traffic.rest(&mut self.spares.0);
            }
            self.pump(cx, session);
        }
    }

    /// Forgets the packets of a connection that is gone.
    pub(super) fn drop_waiters(&mut self, conn: ConnId) {
        self.waiters.retain(|_, waiter| waiter.conn != conn);
    }

    /// A topics' owner has done what was asked.
    pub(super) fn on_done(
        &mut self,
        cx: &mut Cx<'_>,
        session: SessionId,
        request: u32,
        filter: &Arc<str>,
        retained: Vec<Retained>,
    ) {
        let Some(waiter) = self.waiters.get_mut(&request) else { return };
        if waiter.session != session {
            return;
        }
        waiter.answers = waiter.answers.saturating_sub(1);
        for retained in retained {
            self.replay(cx, session, filter, retained);
        }
        self.finish_waiter(cx, request);
    }

    /// A retained message goes to a new subscription, with RETAIN whatever Retain As Published
    /// says (U5-3.3.1.3-b). The queue's limits do not apply: the set was asked for.
    fn replay(&mut self, cx: &mut Cx<'_>, id: SessionId, filter: &Arc<str>, of: Retained) {
        //= [U3-3.8.4-a] [D31-16]
        //= [MQTT-3.8.4-4] [U5-3.8.4-a] [U5-3.8.4-b]
        let Some(session) = self.sessions.get_mut(id) else { return };
        let Some(subscription) = session.subscriptions.get(filter).copied() else { return };
        let ids = Ids::of(subscription.id);
        let queued = Queued {
            qos: of.qos,
            message: of.message,
            //= [U5-3.3.1.3-b]
            retain: true,
            at: of.at,
            place: Place::default(),
            extra: (ids != Ids::None).then(|| Extra { ids, share: None }.into()),
        };
        if queued.qos == QoS::AtMostOnce {
            session.traffic.queue_qos0.push(queued);
        } else {
            self.push(cx, id, queued, None);
        }
    }

    /// The topics' side of SUBSCRIBE: the subscription and the retained messages in one step.
    pub(super) fn index_subscribe(
        &mut self,
        cx: &mut Cx<'_>,
        who: SessionRef,
        filter: Arc<str>,
        subscription: Subscription,
        replay: bool,
        request: Option<u32>,
    ) {
        let new = Subscriber { who, subscription };
        match codec::topic::split_shared(&filter) {
            Some(Ok((_, plain))) => {
                if let Some(entry) = self.index.entry(plain.as_bytes(), Subscribers::default) {
                    entry.put_shared(filter.clone(), new);
                }
            }
            _ => {
                if let Some(entry) = self.index.entry(filter.as_bytes(), Subscribers::default) {
                    entry.put(new);
                }
            }
        }
        let Some(request) = request else { return };
        let mut retained =
            if replay { self.retained_for(cx, filter.as_bytes()) } else { Vec::new() };
        // The QoS is that of this mention of the filter, whatever a later one in the packet says.
        for message in &mut retained {
            message.qos = message.qos.min(subscription.options.qos);
        }
        self.tell(cx, who.shard, ShardMsg::Done { who, request, filter, retained });
    }

    /// The topics' side of UNSUBSCRIBE.
    pub(super) fn index_unsubscribe(
        &mut self,
        cx: &mut Cx<'_>,
        who: SessionRef,
        filter: Arc<str>,
        request: Option<u32>,
    ) {
        let (plain, shared) = match codec::topic::split_shared(&filter) {
            Some(Ok((_, plain))) => (plain, true),
            _ => (&*filter, false),
        };
        if let Some(entry) = self.index.get_mut(plain.as_bytes()) {
            if shared {
                entry.remove_shared(&filter, who);
            } else {
                entry.remove(who);
            }
            if entry.is_empty() {
                self.index.remove(plain.as_bytes());
            }
        }
        let Some(request) = request else { return };
        let retained = Vec::new();
        self.tell(cx, who.shard, ShardMsg::Done { who, request, filter, retained });
    }
}
