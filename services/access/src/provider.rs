//! What a provider of identity is.

use std::{any::Any, sync::Arc};

use bytes::Bytes;
use codec::ReasonCode;
use session_core::{ClientLimits, Grants, Subject, Time};

use crate::{Attempt, Step};

/// Who a client has proved to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Its name; absent if it proved none.
    pub user: Option<Box<str>>,
    /// Groups it belongs to.
    pub groups: Vec<Box<str>>,
    /// What kind of client it is, such as `device` or `application`.
    pub client_type: Option<Box<str>>,
    /// When the proof lapses.
    pub expires: Option<Time>,
    /// Rights that came with the proof.
    pub own: Option<Grants>,
    /// Limits that came with it.
    pub limits: Option<Arc<ClientLimits>>,
    /// Authentication Data for CONNACK or AUTH.
    pub data: Option<Bytes>,
}

/// What a provider says. `why` goes to the log and to administrators, never to the client; it holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is who it says.
    Accept(Box<Identity>),
    /// It has to send more (enhanced authentication only).
    Continue {
        /// Authentication Data for AUTH.
        data: Bytes,
        /// Comes back with the next step. Nobody else sees it.
        state: Bytes,
    },
    /// It is not, and no other provider is asked.
    Refuse {
        /// What the client is told.
        reason: ReasonCode,
        /// What an administrator is told.
        why: Box<str>,
    },
    /// The next provider may know.
    Skip {
        /// What an administrator is told.
        why: Box<str>,
    },
    /// The provider cannot tell: a file, a server or a key is missing. The chain refuses then, or goes on if it is
    /// configured so.
    Failed {
        /// What an administrator is told.
        why: Box<str>,
    },
}

/// What a decision costs, which says where it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// So little that a worker does it itself.
    None,
    /// Milliseconds of processor time, such as a password hash: a few threads do it, away from the workers.
    Compute,
    /// It waits for somebody else: many may wait at once.
    Wait,
}

/// A provider of identity. Deciding is pure but for what a provider was given to ask with.
pub trait Provider: Any + Send + Sync {
    /// What it is called in the configuration, in logs and in rules.
    fn name(&self) -> &str;

    /// What a decision costs.
    fn work(&self) -> Work;

    /// Judges a CONNECT.
    fn begin(&self, now: Time, attempt: &Attempt) -> Verdict;

    /// Whether it would still let this client in, as far as it can tell without the client: a user who was removed does
    /// not stay.
    fn keeps(&self, subject: &Subject) -> bool {
        let _ = subject;
        true
    }

    /// It takes the place of another one of its name. What that has learned of others, such as the keys of a
    /// server that may be away now, need not be learned again.
    fn succeed(&self, older: &dyn Provider) {
        let _ = older;
    }

    /// Judges a further step. Whoever began is asked; with `again`, whoever let the client in.
    fn step(&self, now: Time, step: &Step) -> Verdict {
        let _ = (now, step);
        Verdict::Refuse {
            reason: ReasonCode::BadAuthenticationMethod,
            why: "knows no enhanced authentication".into(),
        }
    }
}
