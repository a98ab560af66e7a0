//! What a question of the core is answered: blocks, then keys, then rights. Pure.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use bytes::{BufMut, Bytes, BytesMut};
use codec::ReasonCode;
use session_core::{
    Answer, ClientLimits, Exchange, Grants, Principal, Request, Subject, Time, Transport,
};

use crate::{Attempt, Identity, Secret, Step, Work, names};

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

/// A client that was turned away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// When.
    pub at: Time,
    /// Who. Its names are cut to 128 characters.
    pub visitor: Visitor,
    /// The provider that refused, or that had let it in; absent if nobody accepted, or nobody was asked.
    pub provider: Option<Box<str>>,
    /// What the client is told.
    pub reason: ReasonCode,
    /// What administrators are told.
    pub why: Box<str>,
}

/// Who is kept out, whatever its credentials. Asked on workers: it takes no time.
pub trait Gate: Send + Sync {
    /// Why this one is.
    fn blocked(&self, now: Time, visitor: &Visitor) -> Option<Box<str>>;

    /// Its credentials were refused; who fails too often may be kept out.
    fn failed(&self, now: Time, visitor: &Visitor) {
        let _ = (now, visitor);
    }
}

/// What providers have decided together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It may come in.
    Accepted {
        /// The provider that accepted.
        provider: Box<str>,
        /// Who it is.
        identity: Box<Identity>,
    },
    /// It has to send more.
    Continued {
        /// The provider that goes on.
        provider: Box<str>,
        /// For the client.
        data: Bytes,
        /// For the next step.
        state: Bytes,
    },
    /// It may not.
    Refused {
        /// The provider that refused; absent if nobody accepted.
        provider: Option<Box<str>>,
        /// What the client is told.
        reason: ReasonCode,
        /// What administrators are told.
        why: Box<str>,
    },
}

/// The chain of providers.
pub trait Keys: Send + Sync {
    /// The most that [`Keys::begin`] may cost.
    fn work(&self, attempt: &Attempt) -> Work;

    /// The most that [`Keys::step`] may cost.
    fn work_of_step(&self, step: &Step) -> Work;

    /// Judges a CONNECT.
    fn begin(&self, now: Time, attempt: &Attempt) -> Outcome;

    /// Judges a further step: whoever began, or let the client in, is asked and nobody else.
    fn step(&self, now: Time, step: &Step) -> Outcome;

    /// Whether whoever this provider has let in may stay: it is still one of the chain.
    fn has(&self, provider: &str) -> bool;
}

/// The rules. Asked on workers: they take no time to speak of.
pub trait Rights: Send + Sync {
    /// What a client may do, its rights of its own ([`Subject::own`]) considered.
    ///
    /// # Errors
    /// Why it may not even connect, for administrators.
    fn judge(&self, subject: &Subject) -> Result<Grants, Box<str>>;
}

/// Everything that decides; replaced as a whole.
#[derive(Clone)]
pub struct Judges {
    /// Who is kept out. Usually the same before and after a reload, since it remembers.
    pub gate: Arc<dyn Gate>,
    /// Who proves identities.
    pub keys: Arc<dyn Keys>,
    /// What who may do.
    pub rights: Arc<dyn Rights>,
    /// Limits of the clients of some listeners, by name. Those that came with an identity go before.
    pub limits: Vec<(Box<str>, Arc<ClientLimits>)>,
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

impl Judges {
    /// The answer to a question. This is all of it: [`Access`](crate::Access) only finds a thread for it.
    #[cfg(test)]
    pub(super) fn decide(&self, now: Time, request: Request) -> Decision {
        let question = Question::new(request);
        let outcome = self.prove(now, &question);
        self.settle(now, &question, outcome)
    }

    /// What [`Judges::prove`] may cost. A client that is kept out costs nothing.
    pub(super) fn work(&self, now: Time, question: &Question) -> Work {
        match &question.kind {
            _ if self.gate.blocked(now, &question.visitor).is_some() => Work::None,
            Kind::Connect(attempt) => self.keys.work(attempt),
            Kind::Step { step, .. } => self.keys.work_of_step(step),
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
            Kind::Connect(attempt) => Some(self.keys.begin(now, attempt)),
            Kind::Step { step, .. } => Some(self.keys.step(now, step)),
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
        if !self.keys.has(&subject.provider) {
            let why = "the provider that has let it in is gone";
            return Err((Some(subject.provider.clone()), ReasonCode::NotAuthorized, why.into()));
        }
        let principal = self.grant(Arc::clone(subject))?;
        Ok(Answer::Accept { principal, data: None })
    }

    fn grant(&self, subject: Arc<Subject>) -> Result<Principal, Refused> {
        let grants = self
            .rights
            .judge(&subject)
            .map_err(|why| (Some(subject.provider.clone()), ReasonCode::NotAuthorized, why))?;
        let of_listener = self.limits.iter().find(|(name, _)| *name == subject.listener);
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
    let visitor = Visitor {
        client_id: shortened(&visitor.client_id),
        user: visitor.user.as_deref().map(shortened),
        ..visitor.clone()
    };
    let refusal = Refusal { at: now, visitor, provider, reason, why };
    Decision { answer: Answer::Refuse { reason }, refusal: Some(refusal) }
}

/// Names may have 64 KiB, and are kept and written.
fn shortened(text: &str) -> Box<str> {
    const CHARS_MAX: usize = 128;
    text.chars().take(CHARS_MAX).collect::<String>().into()
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
        common_name: names::common_name(&attempt.origin),
        ..Subject::default()
    }
}
