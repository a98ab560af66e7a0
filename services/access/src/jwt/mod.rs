//! Tokens (JWT) in the password, or by the Authentication Method `JWT`, with which a client of 5.0 can also prove itself
//! anew while it is connected.

mod claims;
mod keys;

use std::any::Any;

use codec::ReasonCode;
use session_core::Time;

use crate::{Attempt, Identity, Provider, Step, Verdict, Work};
use claims::{Claims, Who};
use keys::KeySource;

pub use claims::ClaimsConfig;
pub use keys::{JwtKeySet, JwtKeys, Usable};

/// The Authentication Method of tokens.
const METHOD: &str = "JWT";

/// Lets in who shows a token that one of its keys has signed.
#[derive(Debug)]
pub struct JwtProvider {
    name: Box<str>,
    keys: KeySource,
    config: ClaimsConfig,
}

impl JwtProvider {
    /// A provider of this name.
    ///
    /// # Errors
    /// What is wrong with the claims that are wanted, in words.
    pub fn new(name: &str, keys: JwtKeys, config: ClaimsConfig) -> Result<Self, String> {
        config.judge()?;
        Ok(Self { name: name.into(), keys: KeySource::new(keys)?, config })
    }

    fn verify(&self, now: Time, token: &[u8], who: &Who<'_>) -> Verdict {
        let Some(token) = std::str::from_utf8(token).ok().filter(|text| keys::is_token(text))
        else {
            return Verdict::Skip { why: "it shows no token".into() };
        };
        let refuse = |why: String| {
            let (reason, why) = (ReasonCode::NotAuthorized, why.into());
            Verdict::Refuse { reason, why }
        };
        let claims = match self.keys.verified(now, token) {
            Ok(claims) => Claims(claims),
            Err(keys::Unverified::Token(why)) => return refuse(why),
            Err(keys::Unverified::Keys(why)) => return Verdict::Failed { why: why.into() },
        };
        match claims.identity(now, &self.config, who, &self.name) {
            Ok(identity) => Verdict::Accept(Box::new(identity)),
            Err(why) => refuse(why),
        }
    }
}

impl Provider for JwtProvider {
    fn name(&self) -> &str {
        &self.name
    }

    fn work(&self) -> Work {
        self.keys.work()
    }

    fn succeed(&self, older: &dyn Provider) {
        let older: &dyn Any = older;
        if let Some(older) = older.downcast_ref::<Self>() {
            self.keys.succeed(&older.keys);
        }
    }

    fn begin(&self, now: Time, attempt: &Attempt) -> Verdict {
        let token = match &attempt.method {
            Some(method) if **method == *METHOD => &attempt.data,
            Some(_) => return Verdict::Skip { why: "it proves itself by another method".into() },
            None => &attempt.password,
        };
        let Some(token) = token else {
            return Verdict::Skip { why: "it shows no token".into() };
        };
        let user_name = attempt.user_name.as_deref();
        self.verify(now, token.reveal(), &Who { client_id: &attempt.client_id, user_name })
    }

    fn step(&self, now: Time, step: &Step) -> Verdict {
        let token = step.data.as_ref().filter(|_| *step.method == *METHOD && step.again);
        let Some(token) = token else {
            let (reason, why) = (ReasonCode::NotAuthorized, "it shows no token".into());
            return Verdict::Refuse { reason, why };
        };
        let user_name = step.subject.user.as_deref();
        let who = Who { client_id: &step.subject.client_id, user_name };
        match self.verify(now, token.reveal(), &who) {
            Verdict::Skip { why } => Verdict::Refuse { reason: ReasonCode::NotAuthorized, why },
            verdict => verdict,
        }
    }
}

/// A verified token is an identity and nothing else.
const _: fn(Identity) = drop;

#[cfg(test)]
mod tests;
