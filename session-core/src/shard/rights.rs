//! What a change of rights brings about: who is connected is asked about again, and those on whose rights rests
//! what is retained, and what they may not have or do any more ends.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    vec::Vec,
};
use core::{
    cmp::Ordering,
    hash::{Hash, Hasher},
};

use codec::{PacketType, ReasonCode};

use super::{Cx, Shard, auth::sayable, conn::Conn, msg::Retained};
use crate::{Action, Answer, ConnId, Effect, Event, Grants, Reply, Request, Subject, Ticket, Time};

/// Clients that are asked about again in one call.
const JUDGED_PER_CALL: u32 = 1_000;
/// The least time between two lines of what the same connection may not do.
const DENIAL_PAUSE_MS: u64 = 10_000;

/// Who has published something, by Client Identifier and proved name: from whatever address it came, it is the same.
#[derive(Clone, Debug)]
struct Publisher(Arc<Subject>);

impl Publisher {
    fn name(&self) -> (&str, Option<&str>) {
        (&self.0.client_id, self.0.user.as_deref())
    }
}

impl PartialEq for Publisher {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Publisher {}

impl PartialOrd for Publisher {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Publisher {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name().cmp(&other.name())
    }
}

impl Hash for Publisher {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

/// Those on whose rights rests what is retained, and Wills that wait. Nothing is known of them until rights have
/// changed: each message was judged when it was published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Publishers {
    /// They are still to be asked about.
    to_judge: Vec<Publisher>,
    /// The open questions about them.
    tickets: BTreeMap<Ticket, Publisher>,
    /// Those who were asked about since rights have last changed, each as it was asked about last.
    known: BTreeMap<Publisher, Known>,
    /// Until then somebody may have published by rights that it has no more.
    unsure_until: Option<Time>,
}

/// What is known of a publisher.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Known {
    /// The last question, while it is open: an answer to an earlier one comes too late.
    asked: Option<Ticket>,
    /// What it may do, as far as that was answered.
    grants: Option<Grants>,
}

impl Publishers {
    /// Whether the publisher of a retained message may still publish it, as far as it is known. Whatever the
    /// publisher was when it published it, what counts is what it may do now.
    pub(super) fn allow_retained(&self, retained: &Retained) -> bool {
        let Some(by) = retained.by.as_ref().filter(|_| !self.known.is_empty()) else { return true };
        let known = self.known.get(&Publisher(by.clone()));
        let grants = known.and_then(|known| known.grants.as_ref());
        grants.is_none_or(|grants| {
            grants.may_publish(retained.message.topic_str(), retained.qos, true)
        })
    }

    /// Whether a Will may still be published, as far as it is known. It was judged when its client connected: what was
    /// found out about an earlier connection does not count.
    pub(super) fn allow_will(
        &self,
        by: &Arc<Subject>,
        is_allowed: impl FnOnce(&Grants) -> bool,
    ) -> bool {
        if self.known.is_empty() {
            return true;
        }
        let known = self.known.get_key_value(&Publisher(by.clone()));
        let grants =
            known.filter(|(who, _)| who.0 == *by).and_then(|(_, known)| known.grants.as_ref());
        grants.is_none_or(is_allowed)
    }

    /// One about whom a question is said to be open.
    #[cfg(test)]
    pub(super) fn waiting(subject: Arc<Subject>, asked: Ticket) -> Self {
        let known = Known { asked: Some(asked), grants: None };
        Self { known: [(Publisher(subject), known)].into(), ..Self::default() }
    }

    /// Whether each question that somebody waits for is open.
    pub(super) fn wait_for_open_questions(&self) -> bool {
        let mut known = self.known.iter();
        known.all(|(who, known)| {
            known.asked.is_none_or(|asked| self.tickets.get(&asked) == Some(who))
        })
    }
}

impl Shard {
    /// Everybody of whom it is known what rights are judged by is to be asked about again.
    pub(super) fn judge_all(&mut self, cx: &Cx<'_>) -> Reply {
        let known = self.conns.iter().filter(|conn| conn.rare().subject.is_some());
        self.to_judge = known.map(|conn| conn.id).collect();
        self.judge_publishers();
        // Within this time every client has been judged, or its connection has ended.
        let patience_ms = self.config.limits.ask_timeout_ms.saturating_mul(2);
        self.publishers.unsure_until = Some(cx.now.plus_ms(patience_ms));
        Reply::Done
    }

    /// Everybody on whose rights something rests is to be asked about: they have changed, or may have while the broker
    /// was not there.
    pub(super) fn judge_publishers(&mut self) {
        let mut publishers = BTreeSet::new();
        let mut add = |by: Option<&Arc<Subject>>| {
            if let Some(by) = by {
                publishers.replace(Publisher(by.clone()));
            }
        };
        self.retained.each(|retained| add(retained.by.as_ref()));
        self.outgoing.values().for_each(|outgoing| add(outgoing.publication.by.as_ref()));
        for (_, session) in self.sessions.iter() {
            add(session.will.as_ref().and_then(|will| will.by.as_ref()));
        }
        // Who has nothing here is not asked about, and what was found out about it is old.
        self.publishers.known.retain(|who, _| publishers.contains(who));
        self.publishers.to_judge = publishers.into_iter().collect();
    }

    /// Nobody is asked any more: everybody may do everything.
    pub(super) fn forget_rights(&mut self) {
        self.to_judge = Vec::new();
        self.publishers = Publishers::default();
    }

    /// Asks about those who are to be asked about, as far as one call goes.
    pub(super) fn judge_waiting(&mut self, cx: &mut Cx<'_>) {
        for _ in 0..JUDGED_PER_CALL {
            let Some(id) = self.to_judge.pop() else {
                let Some(who) = self.publishers.to_judge.pop() else { return };
                self.judge_publisher(cx, who);
                continue;
            };
            let Some(conn) = self.conns.get(id) else { continue };
            let Some(subject) = conn.rare().subject.clone() else { continue };
            let earlier = conn.rare().judged;
            let ticket = self.ask(cx, id, Request::Judge { subject });
            if let Some(conn) = self.conns.get_mut(id) {
                conn.edit_rare(|rare| rare.judged = Some(ticket));
            }
            if let Some(earlier) = earlier {
                self.tickets.remove(&earlier);
            }
        }
    }

    /// Whether somebody is still to be asked about.
    pub(super) const fn has_to_judge(&self) -> bool {
        !self.to_judge.is_empty() || !self.publishers.to_judge.is_empty()
    }

    /// What a client may do now. Its proof is as old as before, so that it lapses when it would have.
    pub(super) fn on_judged(&mut self, cx: &mut Cx<'_>, id: ConnId, answer: Answer) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.edit_rare(|rare| rare.judged = None);
        match answer {
            Answer::Accept { principal, .. } => {
                conn.grants = principal.grants;
                conn.edit_rare(|rare| rare.subject = principal.subject);
                let limits = principal.limits.unwrap_or_else(|| self.config.limits.client.clone());
                self.relimit(cx, id, &limits);
                self.recheck(cx, id);
            }
            // Nobody has begun an exchange: whoever wants one does not know what it was asked.
            Answer::Continue { .. } => self.turn_out(cx, id, ReasonCode::NotAuthorized),
            Answer::Refuse { reason } => self.turn_out(cx, id, reason),
        }
    }

    /// Ends the connection of a client that may not be there any more. Nothing is published on its behalf.
    pub(super) fn turn_out(&mut self, cx: &mut Cx<'_>, id: ConnId, reason: ReasonCode) {
        if let Some(session) = self.conns.get(id).and_then(Conn::session) {
            self.set_will(cx, session, None);
        }
        self.refuse(cx, id, sayable(reason, PacketType::Disconnect));
    }

    /// Ends what a client may no longer have: subscriptions, and a Will.
    pub(super) fn recheck(&mut self, cx: &mut Cx<'_>, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        let Some(session) = conn.session() else { return };
        let will = self.sessions.get(session).and_then(|session| session.will.as_ref());
        let may_have = will.is_none_or(|pending| {
            let will = &pending.will;
            conn.grants.may_publish(will.message.topic_str(), will.qos, will.retain)
        });
        if !may_have {
            self.set_will(cx, session, None);
        }
        self.recheck_subscriptions(cx, id);
    }

    /// Asks whether what somebody has published, and is retained, may still be there.
    fn judge_publisher(&mut self, cx: &mut Cx<'_>, who: Publisher) {
        let ticket = self.put_question(cx, Request::Judge { subject: who.0.clone() });
        let publishers = &mut self.publishers;
        publishers.tickets.insert(ticket, who.clone());
        // Removed, so that the name stands for who was asked about last.
        let grants = publishers.known.remove(&who).and_then(|known| known.grants);
        publishers.known.insert(who, Known { asked: Some(ticket), grants });
    }

    /// What is retained of a publisher who may not publish it any more stays, and goes to nobody: rights may come
    /// back, as when a block ends.
    pub(super) fn on_publisher_judged(&mut self, ticket: Ticket, answer: Answer) {
        let Some(who) = self.publishers.tickets.remove(&ticket) else { return };
        let Some(known) = self.publishers.known.get_mut(&who) else { return };
        if known.asked != Some(ticket) {
            return;
        }
        known.asked = None;
        known.grants = Some(match answer {
            Answer::Accept { principal, .. } => principal.grants,
            Answer::Continue { .. } | Answer::Refuse { .. } => Grants::none(),
        });
    }

    /// Something of somebody's is going to be retained. It may have come by rights that have just ended; or its
    /// publisher has come back with others than those that are known, which hold for all that is its.
    pub(super) fn note_retained(&mut self, cx: &mut Cx<'_>, by: &Arc<Subject>) {
        let publishers = &self.publishers;
        let is_unsure = publishers.unsure_until.is_some_and(|until| cx.now < until);
        if !is_unsure && publishers.known.is_empty() {
            return;
        }
        let who = Publisher(by.clone());
        let is_asked = match publishers.known.get_key_value(&who) {
            Some((known, _)) => known.0 == *by,
            None => !is_unsure,
        };
        if !is_asked {
            self.judge_publisher(cx, who);
        }
    }

    /// Tells of something that a client may not do, and which rule says so: not more often than every
    /// [`DENIAL_PAUSE_MS`], and then how many were not told.
    pub(super) fn note_denied(
        &mut self,
        cx: &mut Cx<'_>,
        id: ConnId,
        action: Action,
        topic: &str,
        rule: Option<Arc<str>>,
    ) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let (next, untold) = conn.rare().denials.unwrap_or((cx.now, 0));
        if cx.now < next {
            let untold = untold.saturating_add(1);
            return conn.edit_rare(|rare| rare.denials = Some((next, untold)));
        }
        let next = cx.now.plus_ms(DENIAL_PAUSE_MS);
        conn.edit_rare(|rare| rare.denials = Some((next, 0)));
        let user = conn.rare().subject.as_ref().and_then(|subject| subject.user.clone());
        let session = conn.session().and_then(|session| self.sessions.get(session));
        let client_id = session.map(|session| session.client_id.clone()).unwrap_or_default();
        let topic = topic.into();
        let event = Event::Denied { conn: id, client_id, user, action, topic, rule, untold };
        cx.out.push(Effect::Note(Box::new(event)));
    }
}
