//! Providers in the order in which they are asked.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use codec::ReasonCode;
use session_core::{Subject, Time};

use crate::{Attempt, Identity, Provider, Step, Verdict, Work};

/// A provider in its place.
#[derive(Clone)]
pub struct Link {
    /// Who is asked.
    pub provider: Arc<dyn Provider>,
    /// When it cannot tell, the next one is asked instead of refusing.
    pub on_error_skip: bool,
    /// The listeners at which it is asked; absent: at all.
    pub listeners: Option<Box<[Box<str>]>>,
}

impl Link {
    fn is_at(&self, listener: &str) -> bool {
        self.listeners.as_ref().is_none_or(|all| all.iter().any(|name| **name == *listener))
    }
}

/// All providers. Nobody accepts means refused, and an empty chain refuses everybody.
#[derive(Clone, Default)]
pub struct Chain(Arc<[Link]>);

/// What a chain has decided.
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
        data: bytes::Bytes,
        /// For the next step.
        state: bytes::Bytes,
    },
    /// It may not.
    Refused {
        /// The provider that refused; absent if nobody accepted.
        provider: Option<Box<str>>,
        /// What the client is told.
        reason: ReasonCode,
        /// What each provider said, for administrators.
        why: Box<str>,
    },
}

impl Chain {
    /// A chain of these links.
    pub fn new(links: Vec<Link>) -> Self {
        Self(links.into())
    }

    /// The most that a decision at this listener may cost.
    pub fn work(&self, listener: &str) -> Work {
        let links = self.0.iter().filter(|link| link.is_at(listener));
        links.map(|link| link.provider.work()).max().unwrap_or(Work::None)
    }

    /// What a decision of one provider may cost.
    pub fn work_of(&self, provider: &str) -> Work {
        self.find(provider).map_or(Work::None, |link| link.provider.work())
    }

    /// Whether the provider that let a client in is still there, and would keep it.
    pub fn keeps(&self, subject: &Subject) -> bool {
        self.find(&subject.provider).is_some_and(|link| link.provider.keeps(subject))
    }

    /// It takes the place of another one.
    pub fn succeed(&self, older: &Self) {
        for link in &*self.0 {
            if let Some(older) = older.find(link.provider.name()) {
                link.provider.succeed(&*older.provider);
            }
        }
    }

    fn find(&self, provider: &str) -> Option<&Link> {
        self.0.iter().find(|link| link.provider.name() == provider)
    }

    /// Judges a CONNECT.
    pub fn judge(&self, now: Time, attempt: &Attempt) -> Outcome {
        let mut trail = Vec::new();
        for link in self.0.iter().filter(|link| link.is_at(&attempt.origin.listener)) {
            let name = link.provider.name();
            let verdict = guarded(|| link.provider.begin(now, attempt));
            match link.settle(verdict) {
                Settled::Done(outcome) => return outcome.after(trail),
                Settled::Next(why) => trail.push(format!("{name}: {why}")),
            }
        }
        let reason = match (&attempt.method, &attempt.user_name, &attempt.password) {
            //= [MQTT-4.12.0-1]
            (Some(_), ..) => ReasonCode::BadAuthenticationMethod,
            (None, None, None) => ReasonCode::NotAuthorized,
            _ => ReasonCode::BadUserNameOrPassword,
        };
        if trail.is_empty() {
            trail.push("no provider is asked here".into());
        }
        Outcome::Refused { provider: None, reason, why: trail.join("; ").into() }
    }

    /// Judges a further step: who let the client in, or began to, is asked and nobody else.
    pub fn step(&self, now: Time, step: &Step) -> Outcome {
        let Some(link) = self.find(&step.subject.provider) else {
            let (reason, why) = (ReasonCode::NotAuthorized, "its provider is gone".into());
            return Outcome::Refused { provider: None, reason, why };
        };
        match link.settle(guarded(|| link.provider.step(now, step))) {
            Settled::Done(outcome) => outcome,
            Settled::Next(why) => Outcome::Refused {
                provider: Some(link.provider.name().into()),
                reason: ReasonCode::NotAuthorized,
                why,
            },
        }
    }
}

enum Settled {
    Done(Outcome),
    Next(Box<str>),
}

impl Link {
    /// What a verdict means in this place of the chain.
    fn settle(&self, verdict: Verdict) -> Settled {
        let provider: Box<str> = self.provider.name().into();
        match verdict {
            Verdict::Accept(identity) => Settled::Done(Outcome::Accepted { provider, identity }),
            Verdict::Continue { data, state } => {
                Settled::Done(Outcome::Continued { provider, data, state })
            }
            Verdict::Refuse { reason, why } => {
                Settled::Done(Outcome::Refused { provider: Some(provider), reason, why })
            }
            Verdict::Skip { why } => Settled::Next(why),
            Verdict::Failed { why } if self.on_error_skip => Settled::Next(why),
            Verdict::Failed { why } => {
                let reason = ReasonCode::ServerUnavailable;
                Settled::Done(Outcome::Refused { provider: Some(provider), reason, why })
            }
        }
    }
}

impl Outcome {
    /// The same, with what was said before in the explanation of a refusal.
    fn after(self, mut trail: Vec<String>) -> Self {
        let Self::Refused { provider: Some(provider), reason, why } = self else { return self };
        trail.push(format!("{provider}: {why}"));
        Self::Refused { provider: Some(provider), reason, why: trail.join("; ").into() }
    }
}

/// A provider that panics has not let anybody in.
fn guarded(decide: impl FnOnce() -> Verdict) -> Verdict {
    catch_unwind(AssertUnwindSafe(decide))
        .unwrap_or_else(|_| Verdict::Failed { why: "it panicked, which is a bug".into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Secret, attempt::tests::attempt};

    struct Fixed(&'static str, fn() -> Verdict);

    impl Provider for Fixed {
        fn name(&self) -> &str {
            self.0
        }
        fn work(&self) -> Work {
            if self.0 == "slow" { Work::Wait } else { Work::None }
        }
        fn begin(&self, _: Time, _: &Attempt) -> Verdict {
            self.1()
        }
        fn step(&self, _: Time, _: &Step) -> Verdict {
            self.1()
        }
    }

    fn accept() -> Verdict {
        Verdict::Accept(Box::default())
    }
    fn skip() -> Verdict {
        Verdict::Skip { why: "not mine".into() }
    }
    fn refuse() -> Verdict {
        Verdict::Refuse { reason: ReasonCode::Banned, why: "known".into() }
    }
    fn fail() -> Verdict {
        Verdict::Failed { why: "no answer".into() }
    }
    fn panics() -> Verdict {
        panic!("a mistake")
    }

    fn link(name: &'static str, verdict: fn() -> Verdict) -> Link {
        Link { provider: Arc::new(Fixed(name, verdict)), on_error_skip: false, listeners: None }
    }

    fn judged(links: Vec<Link>) -> String {
        match Chain::new(links).judge(Time(0), &attempt("c")) {
            Outcome::Accepted { provider, .. } => format!("accepted by {provider}"),
            Outcome::Continued { provider, .. } => format!("continued by {provider}"),
            Outcome::Refused { provider, reason, why } => {
                format!("{} {reason:?} {why}", provider.as_deref().unwrap_or("nobody"))
            }
        }
    }

    #[test]
    fn the_first_who_does_not_skip_decides() {
        assert_eq!(
            judged(vec![link("a", skip), link("b", accept), link("c", refuse)]),
            "accepted by b"
        );
        assert_eq!(
            judged(vec![link("a", skip), link("b", refuse), link("c", accept)]),
            "b Banned a: not mine; b: known"
        );
    }

    #[test]
    fn nobody_accepts_means_refused() {
        assert_eq!(judged(vec![]), "nobody NotAuthorized no provider is asked here");
        assert_eq!(judged(vec![link("a", skip)]), "nobody NotAuthorized a: not mine");
    }

    #[test]
    fn a_provider_that_fails_or_panics_refuses_unless_it_is_told_to_skip() {
        assert_eq!(
            judged(vec![link("a", fail), link("b", accept)]),
            "a ServerUnavailable a: no answer"
        );
        let told = |verdict| Link { on_error_skip: true, ..link("a", verdict) };
        assert_eq!(judged(vec![told(fail), link("b", accept)]), "accepted by b");
        assert_eq!(
            judged(vec![link("a", panics), link("b", accept)]),
            "a ServerUnavailable a: it panicked, which is a bug"
        );
        assert_eq!(judged(vec![told(fail)]), "nobody NotAuthorized a: no answer");
    }

    #[test]
    fn a_provider_is_asked_at_its_listeners_only() {
        let at = |names: &[&str], link: Link| Link {
            listeners: Some(names.iter().map(|name| (*name).into()).collect()),
            ..link
        };
        assert_eq!(
            judged(vec![at(&["other"], link("a", accept))]),
            "nobody NotAuthorized no provider is asked here"
        );
        assert_eq!(judged(vec![at(&["other", "door"], link("a", accept))]), "accepted by a");
        let chain = Chain::new(vec![at(&["other"], link("slow", accept)), link("a", accept)]);
        assert_eq!((chain.work("door"), chain.work("other")), (Work::None, Work::Wait));
    }

    #[test]
    fn the_client_is_told_what_it_showed_in_vain() {
        let chain = Chain::new(vec![link("a", skip)]);
        let told = |attempt: Attempt| match chain.judge(Time(0), &attempt) {
            Outcome::Refused { reason, .. } => reason,
            other => panic!("{other:?}"),
        };
        let named = Attempt { user_name: Some("u".into()), ..attempt("c") };
        assert_eq!(told(named), ReasonCode::BadUserNameOrPassword);
        let secret = Attempt { password: Some(Secret::new("x")), ..attempt("c") };
        assert_eq!(told(secret), ReasonCode::BadUserNameOrPassword);
        let method = Attempt { method: Some("M".into()), ..attempt("c") };
        assert_eq!(told(method), ReasonCode::BadAuthenticationMethod);
    }

    #[test]
    fn a_step_goes_to_whoever_let_the_client_in() {
        let chain = Chain::new(vec![link("a", refuse), link("b", accept)]);
        let step = |provider: &str| {
            let subject = Subject { provider: provider.into(), ..Default::default() };
            let (method, state) = ("M".into(), bytes::Bytes::new());
            let step = Step { method, data: None, again: true, subject: Arc::new(subject), state };
            chain.step(Time(0), &step)
        };
        assert!(matches!(step("b"), Outcome::Accepted { .. }));
        assert!(matches!(step("a"), Outcome::Refused { .. }));
        assert!(matches!(step("gone"), Outcome::Refused { provider: None, .. }));
    }
}
