//! What answers the core: blocks, then providers, then rules.

use std::{
    fmt, fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use bytes::Bytes;
use codec::ReasonCode;
use session_core::{Answer, ClientLimits, Exchange, Principal, Request, Subject, Time};
use tracing::{error, warn};

use crate::{
    Attempt, Block, Blocked, Blocks, Chain, Guard, GuardConfig, Identity, Outcome, Policy, Refusal,
    Refusals, Secret, Step, Work, pool::Pool, x509,
};

/// Refusals that administrators may look at.
const REFUSALS_MAX: usize = 1000;
/// Lines of refusals in the log within [`LINES_WITHIN_MS`]; what is beyond is counted.
const LINES_MAX: u32 = 100;
const LINES_WITHIN_MS: u64 = 10_000;

/// What decides; replaced as a whole.
#[derive(Default)]
pub struct Judges {
    /// Who proves identities.
    pub chain: Chain,
    /// What who may do.
    pub policy: Policy,
    /// Limits of clients of some listeners, by name.
    pub limits: Vec<(Box<str>, Arc<ClientLimits>)>,
}

/// How the service works.
#[derive(Clone, Debug, Default)]
pub struct AccessConfig {
    /// Threads that hash passwords; 0 is one for every two processors.
    pub compute_threads: usize,
    /// Questions to other servers at a time.
    pub waiting_max: usize,
    /// Logins that wait for a thread; beyond it clients are told that the server is busy.
    pub queue_max: usize,
    /// When addresses are kept out by themselves.
    pub guard: GuardConfig,
    /// Where blocks are kept; absent: they end with the broker.
    pub blocks: Option<PathBuf>,
}

/// The service; one for all workers.
pub struct Access {
    judges: RwLock<Arc<Judges>>,
    records: Mutex<Records>,
    blocks_file: Option<PathBuf>,
    compute: Pool,
    waiting: Pool,
}

/// What is remembered.
struct Records {
    blocks: Blocks,
    guard: Guard,
    refusals: Refusals,
    lines: Lines,
}

/// Bounds the lines of refusals in the log.
#[derive(Default)]
struct Lines {
    since: Time,
    written: u32,
    unreported: u64,
}

/// A wish of an administrator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Keep clients out. Those that are connected end.
    Block(Block),
    /// Let them in again.
    Unblock(Blocked),
    /// Which blocks are there?
    Blocks,
    /// Who was turned away lately?
    Refusals {
        /// No more than so many.
        max: usize,
    },
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is done. The core has to hear of it: `session_core::Command::RightsChanged`.
    Changed,
    /// There is no such block.
    NotFound,
    /// It cannot be done, in words.
    Failed(String),
    /// All blocks.
    Blocks(Vec<Block>),
    /// The latest first.
    Refusals(Vec<Refusal>),
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

impl Access {
    /// Starts the threads, and reads the blocks.
    ///
    /// # Errors
    /// A thread cannot be started, or the file of blocks not be used: one line each.
    pub fn start(config: AccessConfig, judges: Judges) -> Result<Arc<Self>, Vec<String>> {
        let blocks = match &config.blocks {
            None => Blocks::default(),
            Some(path) => read_blocks(path)?,
        };
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = match config.compute_threads {
            0 => processors.div_ceil(2),
            threads => threads,
        };
        let failed = |error: io::Error| vec![format!("cannot start a thread: {error}")];
        let compute = Pool::start("login", threads, config.queue_max.max(1)).map_err(failed)?;
        let waiting = Pool::start("ask", config.waiting_max.max(1), config.queue_max.max(1))
            .map_err(failed)?;
        Ok(Arc::new(Self {
            judges: RwLock::new(Arc::new(judges)),
            records: Mutex::new(Records {
                blocks,
                guard: Guard::new(config.guard),
                refusals: Refusals::new(REFUSALS_MAX),
                lines: Lines::default(),
            }),
            blocks_file: config.blocks,
            compute,
            waiting,
        }))
    }

    /// Answers a question of the core at once, or later by `answer`, which is called on another thread.
    pub fn ask(
        self: &Arc<Self>,
        now: Time,
        request: Box<Request>,
        answer: impl FnOnce(Answer) + Send + 'static,
    ) -> Option<Answer> {
        let judges = self.judges();
        let Some(pool) = self.pool_for(&judges, &request) else {
            return Some(self.decide(now, &judges, *request));
        };
        let door = Door::of(&request);
        let this = Arc::clone(self);
        if pool.run(move || answer(this.decide(now, &judges, *request))) {
            return None;
        }
        let why = "too many logins wait";
        Some(self.refuse(now, &door, None, ReasonCode::ServerBusy, why))
    }

    /// Puts other judges in the place of the present ones. The core has to hear of it.
    pub fn replace(&self, judges: Judges) {
        *self.judges.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(judges);
    }

    /// Carries out what an administrator wants.
    pub fn command(&self, now: Time, command: Command) -> Reply {
        let mut records = self.records();
        let changed = match command {
            Command::Block(block) => match records.blocks.add(block) {
                Ok(()) => true,
                Err(problem) => return Reply::Failed(problem),
            },
            Command::Unblock(of) => records.blocks.remove(&of),
            Command::Blocks => {
                let holding = records
                    .blocks
                    .iter()
                    .filter(|block| block.until.is_none_or(|until| now < until));
                return Reply::Blocks(holding.cloned().collect());
            }
            Command::Refusals { max } => {
                return Reply::Refusals(records.refusals.latest().take(max).cloned().collect());
            }
        };
        if !changed {
            return Reply::NotFound;
        }
        records.blocks.sweep(now);
        match self.blocks_file.as_deref().map(|path| write(path, &records.blocks.text(now))) {
            Some(Err(error)) => Reply::Failed(format!("it holds, but cannot be kept: {error}")),
            _ => Reply::Changed,
        }
    }

    fn judges(&self) -> Arc<Judges> {
        Arc::clone(&self.judges.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pool_for(&self, judges: &Judges, request: &Request) -> Option<&Pool> {
        let work = match request {
            Request::Authenticate { origin, .. } => judges.chain.work(&origin.listener),
            Request::Continue { exchange, .. } => {
                let provider = exchange.as_ref().map(|exchange| &*exchange.subject.provider);
                judges.chain.work_of(provider.unwrap_or_default())
            }
            Request::Judge { .. } => Work::None,
        };
        match work {
            Work::None => None,
            Work::Compute => Some(&self.compute),
            Work::Wait => Some(&self.waiting),
        }
    }

    fn decide(&self, now: Time, judges: &Judges, request: Request) -> Answer {
        let door = Door::of(&request);
        if let Some(why) = self.blocked(now, &door) {
            return self.refuse(now, &door, None, ReasonCode::Banned, &why);
        }
        match request {
            Request::Authenticate { connect, origin } => {
                let attempt = Attempt::new(&connect, origin);
                let outcome = judges.chain.judge(now, &attempt);
                self.settle(now, judges, &door, &subject_of(&attempt), outcome)
            }
            Request::Continue { method, data, again, exchange, .. } => {
                let Some(Exchange { subject, state }) = exchange else {
                    let why = "it goes on with what nobody began";
                    return self.refuse(now, &door, None, ReasonCode::ProtocolError, why);
                };
                let data = data.map(Secret::new);
                let step = Step { method, data, again, subject: Arc::clone(&subject), state };
                let outcome = judges.chain.step(now, &step);
                self.settle(now, judges, &door, &subject, outcome)
            }
            Request::Judge { subject } => {
                let is_kept = judges.chain.has(&subject.provider);
                if !is_kept {
                    let why = "its provider is gone";
                    return self.refuse(now, &door, None, ReasonCode::NotAuthorized, why);
                }
                self.grant(
                    now,
                    judges,
                    &door,
                    Principal { expires: None, ..Principal::default() },
                    (*subject).clone(),
                    None,
                )
            }
        }
    }

    /// What an outcome is for the core.
    fn settle(
        &self,
        now: Time,
        judges: &Judges,
        door: &Door,
        before: &Subject,
        outcome: Outcome,
    ) -> Answer {
        match outcome {
            Outcome::Accepted { provider, identity } => {
                let Identity { user, groups, client_type, expires, own, limits, data } = *identity;
                // Who proves to be somebody else cannot go on with another's session.
                let is_renewal = !before.provider.is_empty() && before.user.is_some();
                if is_renewal && before.user != user {
                    let why = "it has become somebody else";
                    return self.refuse(now, door, Some(provider), ReasonCode::NotAuthorized, why);
                }
                let groups = groups.into();
                let subject =
                    Subject { user, groups, client_type, own, provider, ..before.clone() };
                let principal = Principal { expires, limits, ..Principal::default() };
                self.grant(now, judges, door, principal, subject, data)
            }
            Outcome::Continued { provider, data, state } => {
                let subject = Arc::new(Subject { provider, ..before.clone() });
                let exchange = Some(Exchange { subject, state });
                Answer::Continue { data: Some(data), exchange }
            }
            Outcome::Refused { provider, reason, why } => {
                self.refuse(now, door, provider, reason, &why)
            }
        }
    }

    /// Gives a client the rights that it has.
    fn grant(
        &self,
        now: Time,
        judges: &Judges,
        door: &Door,
        principal: Principal,
        subject: Subject,
        data: Option<Bytes>,
    ) -> Answer {
        let grants = match judges.policy.judge(&subject) {
            Ok(grants) => grants,
            Err(denial) => {
                let why = match denial.rule {
                    Some(rule) => format!("denied to connect by {rule}"),
                    None => "no rule allows it to connect".to_owned(),
                };
                let (provider, reason) = (subject.provider, ReasonCode::NotAuthorized);
                return self.refuse(now, door, Some(provider), reason, &why);
            }
        };
        let of_listener = || {
            let mut limits = judges.limits.iter();
            limits.find(|(name, _)| *name == subject.listener).map(|(_, limits)| Arc::clone(limits))
        };
        let limits = principal.limits.or_else(of_listener);
        let name = subject.user.clone();
        let subject = Some(Arc::new(subject));
        Answer::Accept { principal: Principal { name, grants, subject, limits, ..principal }, data }
    }

    /// Why a client may not even try.
    fn blocked(&self, now: Time, door: &Door) -> Option<String> {
        let records = self.records();
        let address = door.address();
        let user = door.user_name.as_deref();
        if let Some(block) = records.blocks.find(now, &door.client_id, user, address) {
            return Some(match &*block.note {
                "" => format!("blocked: {:?}", block.of),
                note => format!("blocked: {:?} ({note})", block.of),
            });
        }
        let until = records.guard.kept_out(now, address?)?;
        Some(format!("too many failures; kept out for {} s", until.since_ms(now).div_ceil(1000)))
    }

    /// Says no, and remembers it.
    fn refuse(
        &self,
        now: Time,
        door: &Door,
        provider: Option<Box<str>>,
        reason: ReasonCode,
        why: &str,
    ) -> Answer {
        let mut records = self.records();
        let is_failure = matches!(
            reason,
            ReasonCode::BadUserNameOrPassword
                | ReasonCode::NotAuthorized
                | ReasonCode::BadAuthenticationMethod
        );
        if let Some(address) = door.address().filter(|_| is_failure)
            && let Some(until) = records.guard.failed(now, address)
        {
            let seconds = until.since_ms(now).div_ceil(1000);
            warn!(%address, seconds, "too many failures: the address is kept out");
        }
        if let Some(unreported) = records.lines.take(now) {
            warn!(
                client = ?door.client_id,
                user = ?door.user_name.as_deref().unwrap_or_default(),
                peer = %door.peer_text(),
                listener = %door.listener,
                password_given = door.password_given,
                provider = provider.as_deref().unwrap_or_default(),
                reason = reason.name(),
                why,
                unreported,
                "refused"
            );
        }
        records.refusals.add(Refusal {
            at: now,
            client_id: door.client_id.clone(),
            user_name: door.user_name.clone(),
            peer: door.peer,
            listener: door.listener.clone(),
            transport: door.transport,
            password_given: door.password_given,
            provider,
            reason,
            why: why.into(),
        });
        Answer::Refuse { reason }
    }
}

impl Lines {
    /// How many lines were left out before this one; `None` if it is left out too.
    fn take(&mut self, now: Time) -> Option<u64> {
        if now.since_ms(self.since) >= LINES_WITHIN_MS {
            (self.since, self.written) = (now, 0);
        }
        if self.written >= LINES_MAX {
            self.unreported += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.unreported))
    }
}

/// What a refusal tells of a client.
struct Door {
    client_id: Box<str>,
    user_name: Option<Box<str>>,
    peer: Option<std::net::SocketAddr>,
    /// Where only the address is known.
    address: Option<IpAddr>,
    listener: Box<str>,
    transport: session_core::Transport,
    password_given: bool,
}

impl Door {
    fn of(request: &Request) -> Self {
        let of_subject = |subject: &Subject, password_given| Self {
            client_id: subject.client_id.clone(),
            user_name: subject.user.clone(),
            peer: None,
            address: subject.address,
            listener: subject.listener.clone(),
            transport: session_core::Transport::Tcp,
            password_given,
        };
        match request {
            Request::Authenticate { connect, origin } => Self {
                client_id: connect.client_id.clone(),
                user_name: connect.user_name.clone(),
                peer: origin.peer,
                address: None,
                listener: origin.listener.clone(),
                transport: origin.transport,
                password_given: connect.password.is_some(),
            },
            Request::Continue { client_id, exchange, .. } => match exchange {
                Some(exchange) => of_subject(&exchange.subject, true),
                None => {
                    Self { client_id: client_id.clone(), ..of_subject(&Subject::default(), true) }
                }
            },
            Request::Judge { subject } => of_subject(subject, false),
        }
    }

    fn address(&self) -> Option<IpAddr> {
        self.peer.map(|peer| peer.ip().to_canonical()).or(self.address)
    }

    fn peer_text(&self) -> String {
        match (self.peer, self.address) {
            (Some(peer), _) => peer.to_string(),
            (None, Some(address)) => address.to_string(),
            (None, None) => String::new(),
        }
    }
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

fn read_blocks(path: &Path) -> Result<Blocks, Vec<String>> {
    let name = path.display().to_string();
    match fs::read_to_string(path) {
        Ok(text) => Blocks::parse(&name, &text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Blocks::default()),
        Err(error) => Err(vec![format!("cannot read {name}: {error}")]),
    }
}

/// Replaces the file in one step.
fn write(path: &Path, text: &str) -> io::Result<()> {
    crate::password::replace_file(path, text).inspect_err(|error| {
        error!("{}: {error}", path.display());
    })
}

#[cfg(test)]
mod tests;
