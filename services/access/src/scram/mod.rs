//! SCRAM-SHA-256 and SCRAM-SHA-512 (RFC 5802, RFC 7677) by MQTT 5's enhanced authentication: the server never has a
//! password, and client and server both prove that they know of it.

mod exchange;
mod file;
mod hash;

use std::{fmt, sync::Arc};

use codec::ReasonCode;
use session_core::{Subject, Time};

use crate::{Attempt, Identity, Provider, Secret, Step, Verdict, Work};
use exchange::{First, State};
use hash::Digest;

pub use file::{ScramFile, add_scram_user, remove_scram_user};

/// Random bytes; a seam for tests.
pub type Random = Arc<dyn Fn(&mut [u8]) -> Result<(), String> + Send + Sync>;

/// Lets in who proves to know the password of a user.
pub struct ScramProvider {
    name: Box<str>,
    file: ScramFile,
    random: Random,
    /// What makes up the credentials of users who do not exist.
    pepper: [u8; 32],
}

impl fmt::Debug for ScramProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramProvider").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ScramProvider {
    /// A provider of this name.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new(name: &str, file: ScramFile) -> Result<Self, String> {
        let random = |bytes: &mut [u8]| {
            getrandom::fill(bytes).map_err(|error| format!("no random numbers: {error}"))
        };
        Self::with_random(name, file, Arc::new(random))
    }

    fn with_random(name: &str, file: ScramFile, random: Random) -> Result<Self, String> {
        let mut pepper = [0; 32];
        random(&mut pepper)?;
        Ok(Self { name: name.into(), file, random, pepper })
    }

    /// The answer to the client's first message: a challenge, whether there is such a user or not.
    fn challenge(&self, digest: Digest, data: Option<&Secret>) -> Verdict {
        let first = match data.map(|data| First::parse(data.reveal())) {
            Some(Ok(first)) => first,
            Some(Err(why)) => return refuse(why),
            None => return refuse("the first message is missing"),
        };
        let mut nonce = [0; 18];
        if let Err(why) = (self.random)(&mut nonce) {
            return Verdict::Failed { why: why.into() };
        }
        let found = self.file.find(&first.user, digest);
        let credentials =
            found.unwrap_or_else(|| file::Credentials::made_up(digest, &self.pepper, &first.user));
        let (message, state) = exchange::challenge(&first, &credentials, &nonce);
        Verdict::Continue { data: message.into(), state: state.encode().into() }
    }

    fn prove(&self, digest: Digest, step: &Step) -> Verdict {
        let Some(state) = State::decode(&step.state) else {
            return refuse("it goes on with what nobody began");
        };
        let Some(data) = &step.data else { return refuse("the proof is missing") };
        let found = self.file.find(&state.user, digest);
        let is_known = found.is_some();
        let credentials =
            found.unwrap_or_else(|| file::Credentials::made_up(digest, &self.pepper, &state.user));
        match exchange::judge(&state, &credentials, data.reveal()) {
            // Nobody knows a made-up password, and who proves it nevertheless is nobody.
            Ok(_) if !is_known => refuse("unknown user"),
            Ok(signature) => {
                let user = Some(state.user.into());
                let data = Some(signature.into());
                Verdict::Accept(Box::new(Identity { user, data, ..Identity::default() }))
            }
            Err(why) if is_known => refuse(why),
            Err(_) => refuse("unknown user"),
        }
    }
}

impl Provider for ScramProvider {
    fn name(&self) -> &str {
        &self.name
    }

    /// A few hashes: the many rounds are the client's.
    fn work(&self) -> Work {
        Work::None
    }

    fn keeps(&self, subject: &Subject) -> bool {
        let user = subject.user.as_deref().unwrap_or_default();
        Digest::ALL.into_iter().any(|digest| self.file.find(user, digest).is_some())
    }

    fn begin(&self, _now: Time, attempt: &Attempt) -> Verdict {
        match attempt.method.as_deref().and_then(Digest::of_method) {
            Some(digest) => self.challenge(digest, attempt.data.as_ref()),
            None => Verdict::Skip { why: "it wants no SCRAM".into() },
        }
    }

    fn step(&self, _now: Time, step: &Step) -> Verdict {
        match Digest::of_method(&step.method) {
            Some(digest) if step.again => self.challenge(digest, step.data.as_ref()),
            Some(digest) => self.prove(digest, step),
            None => refuse("it wants no SCRAM"),
        }
    }
}

fn refuse(why: &str) -> Verdict {
    Verdict::Refuse { reason: ReasonCode::NotAuthorized, why: why.into() }
}

#[cfg(test)]
mod tests;
