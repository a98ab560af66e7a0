//! What a change of rights brings about: who is connected is asked about again, and those on whose rights rests
//! what is retained, and what they may not have or do any more ends.

use alloc::{boxed::Box, collections::BTreeMap, sync::Arc, vec::Vec};

use codec::{PacketType, ReasonCode};

use super::{Cx, Shard, auth::sayable, msg::Retained};
use crate::{Action, Answer, ConnId, Effect, Event, Grants, Reply, Request, Subject, Ticket, Time};

/// Clients that are asked about again in one call.
const JUDGED_PER_CALL: u32 = 1_000;
/// The least time between two lines of what the same connection may not do.
const DENIAL_PAUSE_MS: u64 = 10_000;

/// Who has published something: Client Identifier and proved name.
type Publisher = (Box<str>, Option<Box<str>>);

fn publisher(subject: &Subject) -> Publisher {
    (subject.client_id.clone(), subject.user.clone())
}

/// Those on whose rights rests what is retained, and Wills that wait. Nothing is known of them until rights have
/// changed: each message was judged when it was published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Publishers {
    /// They are still to be asked about.
    to_judge: Vec<Arc<Subject>>,
    /// The open questions about them.
    tickets: BTreeMap<Ticket, Publisher>,
    /// Those who were asked about since rights have last changed.
    known: BTreeMap<Publisher, Known>,
    /// Until then somebody may have published by rights that it has no more.
    unsure_until: Option<Time>,
}

/// What is known of a publisher.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Known {
    /// As it was asked about last.
    subject: Arc<Subject>,
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
        let grants = self.known.get(&publisher(by)).and_then(|known| known.grants.as_ref());
        grants.is_none_or(|grants| {
            grants.may_publish(retained.message.topic_str(), retained.qos, true)
        })
    }

    /// Whether a Will may still be published, as far as it is known. It was judged when its client connected: what was
    /// found out about an earlier connection does not count.
    pub(super) fn allow_will(
        &self,
        by: &Subject,
        is_allowed: impl FnOnce(&Grants) -> bool,
    ) -> bool {
        if self.known.is_empty() {
            return true;
        }
        let known = self.known.get(&publisher(by)).filter(|known| *known.subject == *by);
        known.and_then(|known| known.grants.as_ref()).is_none_or(is_allowed)
    }

    /// One about whom a question is said to be open.
    #[cfg(test)]
    pub(super) fn waiting(subject: Arc<Subject>, asked: Ticket) -> Self {
        let name = publisher(&subject);
        let known = Known { subject, asked: Some(asked), grants: None };
        Self { known: [(name, known)].into(), ..Self::default() }
    }

    /// Whether each question that somebody waits for is open.
    pub(super) fn wait_for_open_questions(&self) -> bool {
        let mut known = self.known.iter();
        known.all(|(name, known)| {
            known.asked.is_none_or(|asked| self.tickets.get(&asked) == Some(name))
        })
    }
}

impl Shard {
    /// Everybody of whom it is known what rights are judged by is to be asked about again.
    pub(super) fn judge_all(&mut self, cx: &Cx<'_>) -> Reply {
        let known = self.conns.iter().filter(|conn| conn.rare().subject.is_some());
        self.to_judge = known.map(|conn| conn.id).collect();
        let mut publishers = BTreeMap::new();
        self.retained.each(|retained| {
            if let Some(by) = &retained.by {
                publishers.insert(publisher(by), by.clone());
            }
        });
        for (_, session) in self.sessions.iter() {
            if let Some(by) = session.will.as_ref().and_then(|will| will.by.as_ref()) {
                publishers.insert(publisher(by), by.clone());
            }
        }
        // Who has nothing here is not asked about, and what was found out about it is old.
        self.publishers.known.retain(|name, _| publishers.contains_key(name));
        self.publishers.to_judge = publishers.into_values().collect();
        // Within this time every client has been judged, or its connection has ended.
        let patience_ms = self.config.limits.ask_timeout_ms.saturating_mul(2);
        self.publishers.unsure_until = Some(cx.now.plus_ms(patience_ms));
        Reply::Done
    }

    /// Asks about those who are to be asked about, as far as one call goes.
    pub(super) fn judge_waiting(&mut self, cx: &mut Cx<'_>) {
        for _ in 0..JUDGED_PER_CALL {
            let Some(id) = self.to_judge.pop() else {
                let Some(subject) = self.publishers.to_judge.pop() else { return };
                self.judge_publisher(cx, subject);
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
                self.recheck(cx, id);
            }
            // Nobody has begun an exchange: whoever wants one does not know what it was asked.
            Answer::Continue { .. } => self.refuse(cx, id, ReasonCode::NotAuthorized),
            Answer::Refuse { reason } => {
                self.refuse(cx, id, sayable(reason, PacketType::Disconnect));
            }
        }
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
    fn judge_publisher(&mut self, cx: &mut Cx<'_>, subject: Arc<Subject>) {
        let ticket = self.put_question(cx, Request::Judge { subject: subject.clone() });
        let publishers = &mut self.publishers;
        let name = publisher(&subject);
        publishers.tickets.insert(ticket, name.clone());
        let grants = publishers.known.remove(&name).and_then(|known| known.grants);
        publishers.known.insert(name, Known { subject, asked: Some(ticket), grants });
    }

    /// What is retained of a publisher who may not publish it any more stays, and goes to nobody: rights may come
    /// back, as when a block ends.
    pub(super) fn on_publisher_judged(&mut self, ticket: Ticket, answer: Answer) {
        let Some(name) = self.publishers.tickets.remove(&ticket) else { return };
        let Some(known) = self.publishers.known.get_mut(&name) else { return };
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
        let is_asked = match publishers.known.get(&publisher(by)) {
            Some(known) => known.subject == *by,
            None => !is_unsure,
        };
        if !is_asked {
            self.judge_publisher(cx, by.clone());
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
