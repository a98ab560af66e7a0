//! The topics' half of a shard: who gets what, and what is retained.

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use codec::ReasonCode;

use super::{
    Cx, Shard,
    msg::{
        Declined, Delivery, Flight, Job, Offer, Publication, Retained, ShardMsg, Target, Unrouted,
    },
    record::Record,
    session::{Ids, Subscription, expiry_left_s},
    subscribers::{Group, Subscriber},
    table::{ROOM_KEPT, give_room_back},
};
use crate::ShardId;

/// Receivers of one publish that there is always room for.
const SCRATCH_KEPT: usize = 4096;

/// What came of offering a message to a share group.
enum Offered {
    /// A session here took it, or none anywhere could.
    Here,
    /// A session here could not take it: its queue is full.
    Refused,
    /// Another shard will answer the origin.
    Elsewhere,
}

impl Shard {
    /// Whether publishes may be routed now: every shard announced its subscriptions, this one too,
    /// and no receiver's shard is behind.
    fn can_route(&self) -> bool {
        let in_flight_max = self.config.limits.link_in_flight_max;
        (0_u16..).zip(&self.links).all(|(number, link)| {
            let is_behind = link.in_flight >= in_flight_max && ShardId(number) != self.config.id;
            link.announced && !is_behind
        })
    }

    /// Whether every shard announced its subscriptions.
    fn is_announced(&self) -> bool {
        self.links.iter().all(|link| link.announced)
    }

    /// Whether news of a shard about a subscription has to wait: it is none that it recovered, and
    /// what was owed at the start is not routed, or earlier news waits.
    fn is_too_soon(&self, from: ShardId) -> bool {
        let recovered = !self.links.get(usize::from(from.0)).is_some_and(|link| link.announced);
        let is_before = |waiting: &Unrouted| waiting.is_again() || waiting.is_news();
        !recovered && (!self.is_announced() || self.unrouted.iter().any(is_before))
    }

    /// Adds or removes a subscription to topics here, in its turn.
    pub(super) fn index_or_wait(&mut self, cx: &mut Cx<'_>, from: ShardId, news: ShardMsg) {
        if self.is_too_soon(from) {
            return self.unrouted.push_back(Unrouted::News(Box::new(news)));
        }
        self.index_news(cx, news);
    }

    fn index_news(&mut self, cx: &mut Cx<'_>, news: ShardMsg) {
        match news {
            ShardMsg::Subscribe { who, filter, options, id, replay, request } => {
                let subscription = Subscription { options, id };
                self.index_subscribe(cx, who, filter, subscription, replay, request);
            }
            ShardMsg::Unsubscribe { who, filter, request } => {
                self.index_unsubscribe(cx, who, filter, request);
            }
            _ => {}
        }
    }

    /// Hands a publication to the owner of its topic.
    pub(super) fn publish(&mut self, cx: &mut Cx<'_>, publication: Publication) {
        let owner = self.config.map.topic(publication.message.topic());
        if owner != self.config.id {
            if let Some(link) = self.links.get_mut(usize::from(owner.0)) {
                link.in_flight = link.in_flight.saturating_add(1);
            }
            self.tell(cx, owner, ShardMsg::Publish(publication));
        } else if self.jobs.is_empty() && self.unrouted.is_empty() && self.can_route() {
            // The common case takes no detour through the queue it would be alone in.
            self.route(cx, &publication);
        } else {
            self.jobs.push_back(Job::Msg(owner, ShardMsg::Publish(publication)));
        }
    }

    pub(super) fn route_or_wait(&mut self, cx: &mut Cx<'_>, publication: Publication) {
        if self.unrouted.is_empty() && self.can_route() {
            self.route(cx, &publication);
        } else if publication.is_again() {
            // Whatever was owed before a crash goes before everything that was published since.
            let at = self.unrouted.partition_point(Unrouted::is_again);
            self.unrouted.insert(at, Unrouted::Publication(Box::new(publication)));
        } else {
            self.unrouted.push_back(Unrouted::Publication(Box::new(publication)));
        }
    }

    /// Whether something waited for the barrier or a slow link, and need not any longer.
    pub(super) fn can_route_waiting(&self) -> bool {
        match self.unrouted.front() {
            Some(Unrouted::Publication(_)) => self.can_route(),
            Some(Unrouted::News(_)) => self.is_announced(),
            None => false,
        }
    }

    /// Routes the first publication that waited, or takes the first news.
    pub(super) fn route_waiting(&mut self, cx: &mut Cx<'_>) {
        while let Some(waiting) = self.unrouted.pop_front() {
            match waiting {
                Unrouted::Publication(publication) => self.route(cx, &publication),
                Unrouted::News(news) => self.index_news(cx, *news),
            }
            if !(seeded!(RoutesAllWaiting) && self.can_route()) {
                break;
            }
        }
        give_room_back(&mut self.unrouted, ROOM_KEPT);
    }

    /// Finds the receivers of a publication and gives it to them or to their shards.
    fn route(&mut self, cx: &mut Cx<'_>, publication: &Publication) {
        let mut reason = ReasonCode::Success;
        if publication.retain {
            reason = self.retain(cx, publication);
        }
        if reason.is_error() {
            if matches!(publication.flight, Flight::Ack { .. }) {
                return self.tell_routed(cx, publication, 0, reason);
            }
            // The publisher cannot be told any more (QoS 0, a Will) or was promised delivery
            // (PUBREC): the message goes out and is not retained, nor is what it replaces.
            self.remove_retained(cx, publication.message.topic());
            reason = ReasonCode::Success;
        }
        let mut targets = core::mem::take(&mut self.scratch);
        let shares = self.find_targets(publication, &mut targets);
        if targets.is_empty() && shares.is_empty() {
            //= [U5-3.4.2.1-a]
            reason = ReasonCode::NoMatchingSubscribers;
        }
        let (mut shards, mut refused) = if self.can_deliver_at_once(cx, &targets) {
            (0, self.deliver_each(cx, publication, targets.drain(..)))
        } else {
            self.fan_out(cx, publication, &mut targets)
        };
        if targets.capacity() <= SCRATCH_KEPT {
            self.scratch = targets;
        }
        for share in shares {
            let offer = Offer { publication: publication.clone(), share, declined: Vec::new() };
            match self.offer(cx, offer) {
                Offered::Here => {}
                Offered::Refused => refused = true,
                Offered::Elsewhere => shards = shards.saturating_add(1),
            }
        }
        if refused {
            reason = ReasonCode::QuotaExceeded;
        }
        self.tell_routed(cx, publication, shards, reason);
    }

    fn tell_routed(&mut self, cx: &mut Cx<'_>, of: &Publication, shards: u16, reason: ReasonCode) {
        match of.flight {
            Flight::Unwatched => {}
            flight if of.origin == self.config.id => self.on_routed(cx, flight, shards, reason),
            flight => self.tell(cx, of.origin, ShardMsg::Routed { flight, shards, reason }),
        }
    }

    /// Collects the receivers, one entry for each session, sorted by shard and session; returns
    /// the share groups that match.
    fn find_targets(
        &mut self,
        publication: &Publication,
        targets: &mut Vec<Target>,
    ) -> Vec<Arc<str>> {
        //= [MQTT-3.3.2-3] [MQTT-4.5.0-1]
        let mut shares = Vec::new();
        let mut lists = 0_u32;
        self.index.matching(publication.message.topic(), |subscribers| {
            shares.extend(subscribers.groups().iter().map(|group| group.share.clone()));
            let before = targets.len();
            subscribers.plain().for_each(|Subscriber { who, subscription }| {
                //= [MQTT-3.8.3-3]
                if subscription.options.no_local && publication.publisher == Some(*who) {
                    return;
                }
                targets.push(Target {
                    who: *who,
                    qos: subscription.options.qos,
                    //= [MQTT-3.3.1-12] [MQTT-3.3.1-13]
                    retain: subscription.options.retain_as_published && publication.retain,
                    ids: Ids::of(subscription.id),
                    share: None,
                });
            });
            if targets.len() > before {
                lists = lists.saturating_add(1);
            }
        });
        if lists > 1 {
            merge_overlapping(targets);
        }
        shares
    }

    /// Whether all receivers are here and few enough for this call, as nearly always. They are sorted
    /// by shard.
    fn can_deliver_at_once(&self, cx: &Cx<'_>, targets: &[Target]) -> bool {
        let is_here = |target: Option<&Target>| {
            target.is_none_or(|target| target.who.shard == self.config.id)
        };
        is_here(targets.first()) && is_here(targets.last()) && targets.len() <= cx.budget as usize
    }

    /// Gives each shard its receivers. Returns how many other shards will answer, and whether a
    /// session here refused.
    fn fan_out(
        &mut self,
        cx: &mut Cx<'_>,
        publication: &Publication,
        targets: &mut Vec<Target>,
    ) -> (u16, bool) {
        //= [MQTT-4.6.0-6]
        let mut answers = 0_u16;
        let mut refused = false;
        while let Some(shard) = targets.last().map(|target| target.who.shard) {
            let begin = targets.partition_point(|target| target.who.shard < shard);
            if shard != self.config.id {
                let others = targets.split_off(begin.saturating_add(1));
                let Some(first) = targets.pop() else { break };
                self.tell_delivery(cx, shard, publication, first, others);
                answers = answers.saturating_add(1);
            } else if targets.len().saturating_sub(begin) > cx.budget as usize {
                // Large fan-out goes on in the next call; the publisher waits like for a shard.
                let others = targets.split_off(begin.saturating_add(1));
                let Some(first) = targets.pop() else { break };
                let delivery =
                    Delivery { publication: publication.clone(), first, others, refused: false };
                self.jobs.push_front(Job::Rest(shard, Box::new(delivery), 0));
                answers = answers.saturating_add(1);
                cx.budget = 0;
            } else {
                refused |= self.deliver_each(cx, publication, targets.drain(begin..));
            }
        }
        (answers, refused)
    }

    fn tell_delivery(
        &mut self,
        cx: &mut Cx<'_>,
        to: ShardId,
        publication: &Publication,
        first: Target,
        others: Vec<Target>,
    ) {
        if let Some(link) = self.links.get_mut(usize::from(to.0)) {
            link.in_flight = link.in_flight.saturating_add(1);
        }
        let publication = publication.clone();
        let delivery = Delivery { publication, first, others, refused: false };
        self.tell(cx, to, ShardMsg::Deliver(delivery));
    }

    /// Delivers to sessions here, from number `begin` on, as many as the budget allows.
    pub(super) fn deliver_all(
        &mut self,
        cx: &mut Cx<'_>,
        from: ShardId,
        mut delivery: Delivery,
        begin: usize,
    ) {
        let end = begin.saturating_add(cx.budget as usize).min(delivery.count());
        let targets = (begin..end).map_while(|at| delivery.target(at)).cloned();
        delivery.refused |= self.deliver_each(cx, &delivery.publication, targets);
        if end < delivery.count() {
            return self.jobs.push_front(Job::Rest(from, Box::new(delivery), end));
        }
        self.worked_off(cx, from);
        let Publication { origin, flight, .. } = delivery.publication;
        self.tell_stored(cx, origin, flight, delivery.refused);
    }

    fn tell_stored(&mut self, cx: &mut Cx<'_>, origin: ShardId, flight: Flight, refused: bool) {
        match flight {
            Flight::Unwatched => {}
            // An answer to ourselves does not queue behind other work.
            flight if origin == self.config.id => self.on_stored(cx, flight, refused),
            flight => self.tell(cx, origin, ShardMsg::Stored { flight, refused }),
        }
    }

    /// Gives a message to the next member of a share group that is ready for it: one session gets
    /// it, and a member that is gone or has a full window is passed over.
    fn offer(&mut self, cx: &mut Cx<'_>, mut offer: Offer) -> Offered {
        while let Some(member) = self.next_member(&offer) {
            let target = share_target(&member, &offer);
            if member.who.shard != self.config.id {
                let to = member.who.shard;
                let msg = ShardMsg::Offer { target: Box::new(target), offer: Box::new(offer) };
                self.tell(cx, to, msg);
                return Offered::Elsewhere;
            }
            match self.readiness(member.who.session, offer.publication.qos.min(target.qos)) {
                Ok(()) => return self.deliver_shared(cx, &offer, target),
                Err(connected) => offer.declined.push(Declined { who: member.who, connected }),
            }
        }
        self.offer_anyway(cx, offer)
    }

    fn deliver_shared(&mut self, cx: &mut Cx<'_>, offer: &Offer, target: Target) -> Offered {
        //= [U5-4.8.2-a]
        let taken = self.deliver(cx, &offer.publication, target);
        if taken { Offered::Here } else { Offered::Refused }
    }

    /// Nobody is ready: the message waits with a member, a connected one if there is one.
    fn offer_anyway(&mut self, cx: &mut Cx<'_>, offer: Offer) -> Offered {
        let best = offer.declined.iter().find(|member| member.connected);
        let Some(best) = best.or(offer.declined.first()).copied() else { return Offered::Here };
        let Some(member) = self
            .group(&offer.share)
            .and_then(|group| group.members.iter().find(|member| member.who == best.who).copied())
        else {
            return Offered::Here;
        };
        let target = share_target(&member, &offer);
        if best.who.shard == self.config.id {
            return self.deliver_shared(cx, &offer, target);
        }
        self.tell_delivery(cx, best.who.shard, &offer.publication, target, Vec::new());
        Offered::Elsewhere
    }

    /// The next member in turn that was not asked yet. The first question of a message moves the
    /// turn on: round robin.
    fn next_member(&mut self, offer: &Offer) -> Option<Subscriber> {
        let (_, filter) = codec::topic::split_shared(&offer.share)?.ok()?;
        let group = self.index.get_mut(filter.as_bytes())?.group_mut(&offer.share)?;
        let count = group.members.len();
        let member = (0..count)
            .filter_map(|step| {
                let at = group.next.saturating_add(step).checked_rem(count)?;
                Some((at, *group.members.get(at)?))
            })
            .find(|(_, member)| offer.declined.iter().all(|asked| asked.who != member.who));
        let (at, member) = member?;
        group.next = at.saturating_add(1).checked_rem(count).unwrap_or(0);
        Some(member)
    }

    fn group(&self, share: &Arc<str>) -> Option<&Group> {
        let (_, filter) = codec::topic::split_shared(share)?.ok()?;
        self.index.get(filter.as_bytes())?.groups().iter().find(|group| group.share == *share)
    }

    /// Another shard's topic asks a session here.
    pub(super) fn on_offer(
        &mut self,
        cx: &mut Cx<'_>,
        from: ShardId,
        target: Target,
        mut offer: Offer,
    ) {
        let Publication { origin, flight, .. } = offer.publication;
        let qos = offer.publication.qos.min(target.qos);
        match self.readiness(target.who.session, qos) {
            Ok(()) => {
                let taken = self.deliver(cx, &offer.publication, target);
                self.tell_stored(cx, origin, flight, !taken);
            }
            Err(connected) => {
                offer.declined.push(Declined { who: target.who, connected });
                self.tell(cx, from, ShardMsg::Declined(Box::new(offer)));
            }
        }
    }

    /// A member somewhere declined, or ended with the message unacknowledged: ask the next.
    pub(super) fn on_declined(&mut self, cx: &mut Cx<'_>, offer: Offer) {
        let Publication { origin, flight, .. } = offer.publication;
        match self.offer(cx, offer) {
            Offered::Here => self.tell_stored(cx, origin, flight, false),
            Offered::Refused => self.tell_stored(cx, origin, flight, true),
            Offered::Elsewhere => {}
        }
    }

    /// Stores or removes the retained message of a topic `[MQTT-3.3.1-5]` `[MQTT-3.3.1-6]`
    /// `[MQTT-3.3.1-7]`.
    fn retain(&mut self, cx: &mut Cx<'_>, publication: &Publication) -> ReasonCode {
        //= [MQTT-3.3.1-7 of 3.1.1] [U3-4.1-a]
        //= [MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-8] [U5-3.3.1.3-a]
        let topic = publication.message.topic();
        // What is routed again after a crash takes no place of something later.
        let later = self.retained.get(topic).is_some_and(|present| present.at > publication.at);
        if (publication.is_again() && later)
            || (self.retained.get(topic).is_some()
                && seeded!(KeepsFirstRetained)
                && !publication.message.payload().is_empty())
            || (seeded!(KeepsEmptyRetained) && publication.message.payload().is_empty())
        {
            return ReasonCode::Success;
        }
        if publication.message.payload().is_empty() {
            self.remove_retained(cx, topic);
            return ReasonCode::Success;
        }
        let is_will = matches!(publication.flight, Flight::Unwatched);
        let is_exempt = seeded!(RetainsWillsBeyondQuota) && is_will;
        if !is_exempt && !self.has_room_to_retain(publication) {
            return ReasonCode::QuotaExceeded;
        }
        if let Some(by) = &publication.by {
            self.note_retained(cx, by);
        }
        let retained = Retained {
            message: publication.message.clone(),
            qos: publication.qos,
            at: publication.at,
            by: publication.by.clone(),
        };
        if self.config.durable && !is_own(retained.message.topic()) {
            self.log(cx, Record::Retained { retained: Box::new(retained.clone()) });
        }
        self.apply_retained(retained);
        ReasonCode::Success
    }

    pub(super) fn remove_retained(&mut self, cx: &mut Cx<'_>, topic: &[u8]) {
        if self.retained.get(topic).is_none() {
            return;
        }
        if self.config.durable && !is_own(topic) {
            self.log(cx, Record::RetainedRemoved { topic: topic.into() });
        }
        self.apply_retained_removed(topic);
    }

    /// Whether a message may be retained under the limits; the one it replaces makes room.
    pub(super) fn has_room_to_retain(&self, publication: &Publication) -> bool {
        let limits = &self.config.limits;
        let old = self.retained.get(publication.message.topic()).map(|old| old.message.size());
        let bytes = self
            .retained_bytes
            .saturating_sub(old.unwrap_or(0) as u64)
            .saturating_add(publication.message.size() as u64);
        !self.storage_full
            && (old.is_some() || self.retained_count < limits.retained_max)
            && bytes <= limits.retained_bytes_max
    }

    /// The retained messages that a filter matches and that have not expired.
    pub(super) fn retained_for(&self, cx: &Cx<'_>, filter: &[u8]) -> Vec<Retained> {
        let mut found = Vec::new();
        self.retained.matched_by(filter, |retained| {
            if expiry_left_s(&retained.message, retained.at, cx.now).is_some()
                && self.publishers.allow_retained(retained)
            {
                found.push(retained.clone());
            }
        });
        found
    }
}

/// What a member of a share group is to get of an offer.
fn share_target(member: &Subscriber, offer: &Offer) -> Target {
    let Subscription { options, id } = member.subscription;
    Target {
        who: member.who,
        //= [MQTT-4.8.2-3]
        qos: options.qos,
        retain: options.retain_as_published && offer.publication.retain,
        //= [U5-3.3.4-a]
        ids: Ids::of(id),
        share: Some(offer.share.clone()),
    }
}

/// Makes one target of all that belong to one session: the highest QoS, every identifier
/// `[MQTT-3.3.4-2]` `[MQTT-3.3.4-4]`.
fn merge_overlapping(targets: &mut Vec<Target>) {
    //= [MQTT-3.3.5-1 of 3.1.1]
    //= [MQTT-3.3.4-2] [MQTT-3.3.4-3] [MQTT-3.3.4-4]
    targets.sort_by_key(|target| target.who);
    targets.dedup_by(|next, kept| {
        if next.who != kept.who {
            return false;
        }
        kept.qos = kept.qos.max(next.qos);
        kept.retain |= next.retain;
        match core::mem::take(&mut next.ids) {
            Ids::None => {}
            Ids::One(id) => kept.ids.add(id),
            Ids::Many(ids) => ids.iter().for_each(|id| kept.ids.add(*id)),
        }
        true
    });
}

/// Whether a topic is the broker's own, which is published anew after each start: what it retains is
/// worth no record.
fn is_own(topic: &[u8]) -> bool {
    topic.first() == Some(&b'$')
}
