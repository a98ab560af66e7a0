//! What a question of the core is answered: blocks, then keys, then rights. Pure.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use bytes::{BufMut, Bytes, BytesMut};
use codec::ReasonCode;
use session_core::{Answer, ClientLimits, Exchange, Principal, Request, Subject, Time, Transport};

use crate::{Attempt, Chain, Identity, Outcome, Policy, Refusal, Secret, Step, Work, x509};

/// Who asks to be let in, or to stay: what blocks look at, and what a refusal tells. Nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visitor {
    /// Client Identifier.
    pub client_id: Box<str>,
    /// User Name as it says; once it is let in, its name as it was proved.
    pub user: Option<Box<str>>,
    /// Where it comes from.
    pub address: Option<IpAddr>,
    /// The same with its port, while it is not let in.
    pub peer: Option<SocketAddr>,
    /// The listener.
    pub listener: Box<str>,
    /// How its bytes travel, while it is not let in.
    pub transport: Option<Transport>,
    /// Whether it showed a password, or data of an enhanced authentication.
    pub has_secret: bool,
}

impl Visitor {
    /// It is at the door, and not in yet.
    pub fn is_newcomer(&self) -> bool {
        self.transport.is_some()
    }
}

/// Who is kept out, whatever its credentials. Asked on workers: it takes no time.
pub(super) trait Gate {
    /// Why this one is.
    fn blocked(&self, now: Time, visitor: &Visitor) -> Option<Box<str>>;

    /// Its credentials were refused; who fails too often may be kept out.
    fn failed(&self, now: Time, visitor: &Visitor);
}

/// What decides; replaced as a whole.
#[derive(Default)]
pub struct Judges {
    /// Who proves identities.
    pub chain: Chain,
    /// What who may do.
    pub policy: Policy,
    /// Limits of the clients of some listeners, by name. Those that came with an identity go before.
    pub limits: Vec<(Box<str>, Arc<ClientLimits>)>,
}

/// Everything that a question is judged by.
#[derive(Clone, Copy)]
pub(super) struct Court<'a> {
    pub(super) gate: &'a dyn Gate,
    pub(super) judges: &'a Judges,
}

/// A question of the core, read.
pub(super) struct Question {
    pub(super) visitor: Visitor,
    kind: Kind,
}

enum Kind {
    Connect(Attempt),
    Step {
        step: Step,
        is_renewal: bool,
    },
    Stay(Arc<Subject>),
    /// A step of nothing that was begun.
    Nonsense,
}

/// What is said of a question.
#[derive(Debug)]
pub(super) struct Decision {
    pub(super) answer: Answer,
    pub(super) refusal: Option<Refusal>,
}

/// Which exchange a state belongs to, in front of what the provider keeps in it.
const BEGIN: u8 = 0;
const RENEWAL: u8 = 1;

impl Question {
    pub(super) fn new(request: Request) -> Self {
        match request {
            Request::Authenticate { connect, origin } => {
                let attempt = Attempt::new(&connect, origin);
                Self { visitor: visitor(&attempt), kind: Kind::Connect(attempt) }
            }
            Request::Judge { subject } => {
                Self { visitor: known(&subject, false), kind: Kind::Stay(subject) }
            }
            Request::Continue { client_id, method, data, again, exchange } => {
                let Some(Exchange { subject, state }) = exchange else {
                    let visitor = Visitor { client_id, ..known(&Subject::default(), true) };
                    return Self { visitor, kind: Kind::Nonsense };
                };
                let visitor = known(&subject, data.is_some());
                let (is_renewal, state) = match state.first() {
                    _ if again => (true, Bytes::new()),
                    Some(&RENEWAL) => (true, state.slice(1..)),
                    Some(&BEGIN) => (false, state.slice(1..)),
                    _ => return Self { visitor, kind: Kind::Nonsense },
                };
                let step = Step { method, data: data.map(Secret::new), again, subject, state };
                Self { visitor, kind: Kind::Step { step, is_renewal } }
            }
        }
    }
}

fn visitor(attempt: &Attempt) -> Visitor {
    Visitor {
        client_id: attempt.client_id.clone(),
        user: attempt.user_name.clone(),
        address: attempt.address(),
        peer: attempt.origin.peer,
        listener: attempt.origin.listener.clone(),
        transport: Some(attempt.origin.transport),
        has_secret: attempt.password.is_some() || attempt.data.is_some(),
    }
}

fn known(subject: &Subject, has_secret: bool) -> Visitor {
    Visitor {
        client_id: subject.client_id.clone(),
        user: subject.user.clone(),
        address: subject.address,
        peer: None,
        listener: subject.listener.clone(),
        transport: None,
        has_secret,
    }
}

impl Court<'_> {
    /// The answer to a question. This is all of it: [`Access`](crate::Access) only finds a thread for it.
    #[cfg(test)]
    pub(super) fn decide(&self, now: Time, request: Request) -> Decision {
        let question = Question::new(request);
        let outcome = self.prove(now, &question);
        self.settle(now, &question, outcome)
    }

    /// What [`Court::prove`] may cost. A client that is kept out costs nothing.
    pub(super) fn work(&self, now: Time, question: &Question) -> Work {
        match &question.kind {
            _ if self.gate.blocked(now, &question.visitor).is_some() => Work::None,
            Kind::Connect(attempt) => self.judges.chain.work(&attempt.origin.listener),
            Kind::Step { step, .. } => self.judges.chain.work_of(&step.subject.provider),
            Kind::Stay(_) | Kind::Nonsense => Work::None,
        }
    }

    /// The part that takes time: asks the keys, if the client is not kept out. `None` if there is nothing
    /// to prove.
    pub(super) fn prove(&self, now: Time, question: &Question) -> Option<Outcome> {
        if self.gate.blocked(now, &question.visitor).is_some() {
            return None;
        }
        match &question.kind {
            Kind::Connect(attempt) => Some(self.judges.chain.judge(now, attempt)),
            Kind::Step { step, .. } => Some(self.judges.chain.step(now, step)),
            Kind::Stay(_) | Kind::Nonsense => None,
        }
    }

    /// The rest, which is quick: blocks, in which something may have changed meanwhile, and rights.
    pub(super) fn settle(
        &self,
        now: Time,
        question: &Question,
        outcome: Option<Outcome>,
    ) -> Decision {
        let visitor = &question.visitor;
        let decided = match self.gate.blocked(now, visitor) {
            Some(why) => Err((None, ReasonCode::Banned, why)),
            None => match (&question.kind, outcome) {
                (Kind::Connect(attempt), Some(outcome)) => {
                    self.come_in(now, question, &subject_of(attempt), false, outcome)
                }
                (Kind::Step { step, is_renewal }, Some(outcome)) => {
                    self.come_in(now, question, &step.subject, *is_renewal, outcome)
                }
                (Kind::Stay(subject), _) => self.stay(subject),
                // Blocked before and not any more: it may try again.
                (Kind::Connect(_) | Kind::Step { .. }, None) => {
                    Err((None, ReasonCode::ServerBusy, "a block has ended just now".into()))
                }
                (Kind::Nonsense, _) => {
                    let why = "it goes on with what nobody has begun";
                    Err((None, ReasonCode::ProtocolError, why.into()))
                }
            },
        };
        match decided {
            Ok(answer) => Decision { answer, refusal: None },
            Err(refused) => refusal(now, visitor, refused),
        }
    }

    fn come_in(
        &self,
        now: Time,
        question: &Question,
        before: &Subject,
        is_renewal: bool,
        outcome: Outcome,
    ) -> Result<Answer, Refused> {
        match outcome {
            Outcome::Accepted { provider, identity } => {
                let Identity { user, groups, client_type, expires, own, limits, data } = *identity;
                // The session is that of whoever began it.
                if is_renewal && (before.user != user || before.provider != provider) {
                    let why = "a re-authentication has proved somebody else";
                    return Err((Some(provider), ReasonCode::NotAuthorized, why.into()));
                }
                if expires.is_some_and(|expires| expires <= now) {
                    let why = "what it has shown has lapsed";
                    return Err((Some(provider), ReasonCode::NotAuthorized, why.into()));
                }
                // It may have a name that it did not say at the door.
                let proved = Visitor { user: user.clone(), ..question.visitor.clone() };
                if let Some(why) = self.gate.blocked(now, &proved) {
                    return Err((Some(provider), ReasonCode::Banned, why));
                }
                let groups = groups.into();
                let subject =
                    Subject { user, groups, client_type, own, provider, ..before.clone() };
                let mut principal = self.grant(Arc::new(subject))?;
                principal.expires = expires;
                principal.limits = limits.or(principal.limits);
                Ok(Answer::Accept { principal, data })
            }
            Outcome::Continued { provider, data, state } => {
                let mut marked = BytesMut::with_capacity(state.len().saturating_add(1));
                marked.put_u8(if is_renewal { RENEWAL } else { BEGIN });
                marked.put(state);
                let subject = Arc::new(Subject { provider, ..before.clone() });
                let exchange = Some(Exchange { subject, state: marked.freeze() });
                Ok(Answer::Continue { data: Some(data), exchange })
            }
            Outcome::Refused { provider, reason, why } => {
                if is_proof_of_guessing(reason) {
                    self.gate.failed(now, &question.visitor);
                }
                Err((provider, reason, why))
            }
        }
    }

    fn stay(&self, subject: &Arc<Subject>) -> Result<Answer, Refused> {
        if !self.judges.chain.keeps(subject) {
            let why = "the provider that has let it in is gone";
            return Err((Some(subject.provider.clone()), ReasonCode::NotAuthorized, why.into()));
        }
        let principal = self.grant(Arc::clone(subject))?;
        Ok(Answer::Accept { principal, data: None })
    }

    fn grant(&self, subject: Arc<Subject>) -> Result<Principal, Refused> {
        let grants = self.judges.policy.judge(&subject).map_err(|denial| {
            let why = match denial.rule {
                Some(rule) => format!("denied to connect by {rule}"),
                None => "no rule allows it to connect".to_owned(),
            };
            (Some(subject.provider.clone()), ReasonCode::NotAuthorized, why.into())
        })?;
        let mut limits = self.judges.limits.iter();
        let of_listener = limits.find(|(name, _)| *name == subject.listener);
        let limits = of_listener.map(|(_, limits)| Arc::clone(limits));
        let name = subject.user.clone();
        Ok(Principal { name, grants, expires: None, subject: Some(subject), limits })
    }
}

/// The provider, what the client is told, and what administrators are told.
type Refused = (Option<Box<str>>, ReasonCode, Box<str>);

/// A refusal as the answer to the client and the note about it.
pub(super) fn refusal(now: Time, visitor: &Visitor, refused: Refused) -> Decision {
    let (provider, reason, why) = refused;
    let refusal = Refusal { at: now, visitor: visitor.clone(), provider, reason, why };
    Decision { answer: Answer::Refuse { reason }, refusal: Some(refusal) }
}

/// Whether a refusal counts against an address. That a server was not there does not.
const fn is_proof_of_guessing(reason: ReasonCode) -> bool {
    matches!(
        reason,
        ReasonCode::BadUserNameOrPassword
            | ReasonCode::NotAuthorized
            | ReasonCode::BadAuthenticationMethod
    )
}

fn subject_of(attempt: &Attempt) -> Subject {
    Subject {
        client_id: attempt.client_id.clone(),
        address: attempt.address(),
        listener: attempt.origin.listener.clone(),
        common_name: x509::common_name(&attempt.origin),
        ..Subject::default()
    }
}
