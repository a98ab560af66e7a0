//! The provider that asks an HTTP server.
//!
//! ```text
//! POST: { "client_id", "user_name", "password", "address", "listener", "transport", "protocol_version",
//!         "common_name" }
//! 2xx:  { "result": "accept" | "refuse" | "skip",
//!         "user", "groups", "client_type", "publish": [...], "subscribe": [...], "expires_in_s", "why" }
//! ```
//!
//! Of the answer only `result` has to be there. Whatever else comes (another status, a redirect, another form,
//! nothing in time) is a failure, and a failure lets nobody in.

mod answer;
mod fetch;
mod question;
mod rights;
#[cfg(test)]
pub(crate) mod server;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use session_core::Time;

pub use fetch::{Endpoint, EndpointConfig, Fetch, FetchError, Fetched};

use crate::{
    Attempt, Provider, Verdict, Work,
    breaker::{Breaker, BreakerConfig},
    cache::{Cache, Digest, Namer},
    turns::Turns,
};

/// How the server is asked.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Whether it is told passwords. If not, it has to know clients by something else, such as the name in
    /// their certificates.
    pub with_password: bool,
    /// For how long an acceptance holds for the same question again, seconds; 0 asks each time. Meanwhile a
    /// password that was changed or a client that was removed still gets in.
    pub cache_accepted_s: u32,
    /// For how long a refusal and a skip hold, seconds; 0 asks each time.
    pub cache_refused_s: u32,
    /// Answers that are kept of each of the two sorts.
    pub cache_entries_max: usize,
    /// Questions at a time.
    pub asking_max: usize,
    /// Questions that wait for their turn; beyond it they fail at once.
    pub waiting_max: usize,
    /// When the server is left alone.
    pub breaker: BreakerConfig,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            with_password: true,
            cache_accepted_s: 0,
            cache_refused_s: 0,
            cache_entries_max: 10_000,
            asking_max: 32,
            waiting_max: 1_000,
            breaker: BreakerConfig::default(),
        }
    }
}

/// Asks a server by HTTP who may come in.
pub struct HttpProvider {
    name: Box<str>,
    config: HttpConfig,
    fetch: Arc<dyn Fetch>,
    turns: Turns,
    patience: Duration,
    namer: Namer,
    state: Mutex<State>,
}

struct State {
    breaker: Breaker,
    /// Apart, so that a flood of wrong passwords does not push out who is known.
    accepted: Cache<Verdict>,
    others: Cache<Verdict>,
}

impl fmt::Debug for HttpProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpProvider").field("name", &self.name).finish_non_exhaustive()
    }
}

impl HttpProvider {
    /// A provider that asks there.
    ///
    /// # Errors
    /// What is wrong with the configuration, in a line.
    pub fn open(name: &str, endpoint: &EndpointConfig, config: HttpConfig) -> Result<Self, String> {
        let patience = Duration::from_millis(endpoint.timeout_ms);
        Self::new(name, Arc::new(Endpoint::open(endpoint)?), patience, config)
    }

    /// A provider that asks by any means. `patience` is how long a question waits for its turn.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn new(
        name: &str,
        fetch: Arc<dyn Fetch>,
        patience: Duration,
        config: HttpConfig,
    ) -> Result<Self, String> {
        let state = State {
            breaker: Breaker::new(config.breaker),
            accepted: Cache::new(config.cache_entries_max),
            others: Cache::new(config.cache_entries_max),
        };
        Ok(Self {
            name: name.into(),
            fetch,
            turns: Turns::new(config.asking_max, config.waiting_max),
            patience,
            namer: Namer::new()?,
            state: Mutex::new(state),
            config,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judge(&self, now: Time, attempt: &Attempt) -> Result<Verdict, String> {
        let question = question::question(attempt, self.config.with_password)?;
        let digest = self.namer.name(&question);
        if let Some(known) = self.state().known(now, &digest) {
            return Ok(known);
        }
        let left_alone = |until: Time| {
            let s = until.since_ms(now).div_ceil(1000);
            format!("its server has failed too often and is left alone for {s} s")
        };
        // Before it takes a turn: those that have one may all be waiting for nothing.
        if let Some(until) = self.state().breaker.closed_until(now) {
            return Err(left_alone(until));
        }
        let _turn = self.turns.take(self.patience).ok_or("busy: too many questions wait")?;
        let pass = self.state().breaker.ask(now).map_err(left_alone)?;
        let fetched = self.fetch.fetch(Some(&question));
        self.state().breaker.ended(now, pass, is_answered(&fetched));
        let verdict = verdict(now, &self.name, attempt, fetched)?;
        self.state().keep(now, digest, &verdict, &self.config);
        Ok(verdict)
    }
}

impl Provider for HttpProvider {
    fn name(&self) -> &str {
        &self.name
    }

    fn work(&self) -> Work {
        Work::Wait
    }

    fn begin(&self, now: Time, attempt: &Attempt) -> Verdict {
        if attempt.method.is_some() {
            return Verdict::Skip { why: "knows no enhanced authentication".into() };
        }
        self.judge(now, attempt).unwrap_or_else(|why| Verdict::Failed { why: why.into() })
    }
}

impl State {
    fn known(&mut self, now: Time, digest: &Digest) -> Option<Verdict> {
        self.accepted.get(now, digest).or_else(|| self.others.get(now, digest))
    }

    fn keep(&mut self, now: Time, digest: Digest, verdict: &Verdict, config: &HttpConfig) {
        match verdict {
            Verdict::Accept(identity) => {
                let until = now.plus_s(config.cache_accepted_s);
                let until = identity.expires.map_or(until, |expires| until.min(expires));
                self.accepted.put(now, digest, verdict.clone(), until);
            }
            Verdict::Refuse { .. } | Verdict::Skip { .. } => {
                let until = now.plus_s(config.cache_refused_s);
                self.others.put(now, digest, verdict.clone(), until);
            }
            Verdict::Continue { .. } | Verdict::Failed { .. } => {}
        }
    }
}

/// Whether the server is there and well, as far as the breaker cares. An answer that cannot be used is one:
/// clients could bring it about, and must not be able to keep others out.
fn is_answered(fetched: &Result<Fetched, FetchError>) -> bool {
    match fetched {
        Ok(fetched) => fetched.status < 500 && fetched.status != 429,
        Err(FetchError::TooLarge(_)) => true,
        Err(FetchError::Timeout | FetchError::Unreachable(_)) => false,
    }
}

/// What has come of a question.
fn verdict(
    now: Time,
    provider: &str,
    attempt: &Attempt,
    fetched: Result<Fetched, FetchError>,
) -> Result<Verdict, String> {
    let fetched = fetched.map_err(|error| format!("its server: {error}"))?;
    match fetched.status {
        200..300 => answer::verdict(now, provider, attempt, &fetched.body),
        300..400 => {
            Err(format!("its server redirects ({}), which is not followed", fetched.status))
        }
        status => Err(format!("its server answers with status {status}")),
    }
}

#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod tls_tests;
