//! What answers the core: blocks, then providers, then rules.

mod judge;
mod lines;
mod records;

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use codec::ReasonCode;
use session_core::{Answer, Request, Time};
use tracing::error;

use judge::{Court, Decision, Question, refusal};
pub use judge::{Judges, Visitor};
use records::{Change, Records};

use crate::{
    Block, Blocked, GuardConfig, Refusal, Work,
    pool::{Pool, PoolConfig},
};

/// How often a login is judged anew because the judges were replaced while it went on.
const TRIES_MAX: usize = 3;

/// How the service works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessConfig {
    /// Threads that compute, such as password hashes; 0 stands for one for every two processors.
    pub compute_threads: usize,
    /// Questions to other servers at a time, each of which has a thread.
    pub waiting_max: usize,
    /// Logins that wait for a thread, of each of the two sorts. More are told that the server is busy.
    pub queue_max: usize,
    /// A login that has waited so long for a thread is told that the server is busy, milliseconds: its client, or
    /// the core, is about to give up, and work for it would be lost on those behind it. Less than
    /// `ask_timeout_ms` of the core.
    pub patience_ms: u64,
    /// When addresses are kept out by themselves.
    pub guard: GuardConfig,
    /// Where blocks are kept; absent: they end with the broker.
    pub blocks: Option<PathBuf>,
}

impl Default for AccessConfig {
    fn default() -> Self {
        Self {
            compute_threads: 0,
            waiting_max: 64,
            queue_max: 1_000,
            patience_ms: 8_000,
            guard: GuardConfig::default(),
            blocks: None,
        }
    }
}

impl AccessConfig {
    fn compute_threads(&self) -> usize {
        let processors = || thread::available_parallelism().map_or(1, usize::from);
        match self.compute_threads {
            0 => (processors() / 2).max(1),
            threads => threads,
        }
    }
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

/// What has become of questions since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccessCounts {
    /// Let in, or let stay.
    pub accepted: u64,
    /// Asked for more (enhanced authentication).
    pub continued: u64,
    /// Turned away, those included that are counted below.
    pub refused: u64,
    /// Turned away since too many waited, or one had waited for too long.
    pub busy: u64,
    /// Turned away since a bug was met.
    pub panicked: u64,
}

#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    continued: AtomicU64,
    refused: AtomicU64,
    busy: AtomicU64,
    panicked: AtomicU64,
}

/// The service; one for all workers.
///
/// No answer is given by judges that have been replaced: [`Access::replace`] and [`Access::command`] return when
/// all answers by the old state have been handed over. Whoever then tells the shards that rights have changed
/// (`session_core::Command::RightsChanged`) has everybody judged by the new state, those included who came in a
/// moment before.
pub struct Access {
    judges: RwLock<Arc<Judges>>,
    records: Records,
    /// What is written into the file of blocks is written in the order of the changes.
    changing: Mutex<()>,
    compute: Pool,
    waiting: Pool,
    patience_ms: u64,
    /// Tells how long a login has waited.
    clock: Box<dyn Fn() -> Instant + Send + Sync>,
    counters: Counters,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl Access {
    /// Reads the blocks. Threads start when there is work for them.
    ///
    /// # Errors
    /// The file of blocks cannot be used: one line for everything that is wrong.
    pub fn start(config: AccessConfig, judges: Judges) -> Result<Arc<Self>, Vec<String>> {
        Self::with_clock(config, judges, Box::new(Instant::now))
    }

    fn with_clock(
        config: AccessConfig,
        judges: Judges,
        clock: Box<dyn Fn() -> Instant + Send + Sync>,
    ) -> Result<Arc<Self>, Vec<String>> {
        let pool = |name, threads_max, is_nice| {
            let queue_max = config.queue_max;
            Pool::new(PoolConfig { name, threads_max, queue_max, is_nice })
        };
        Ok(Arc::new(Self {
            compute: pool("login", config.compute_threads(), true),
            waiting: pool("ask", config.waiting_max, false),
            judges: RwLock::new(Arc::new(judges)),
            records: Records::open(config.blocks, config.guard)?,
            changing: Mutex::new(()),
            patience_ms: config.patience_ms,
            clock,
            counters: Counters::default(),
        }))
    }

    /// Answers a question of the core: at once, or, if that takes time, later by `reply` on another thread.
    /// `reply` is called exactly once if this returns `None`, and never otherwise. It must not block, nor call
    /// [`Access::replace`] or [`Access::command`].
    #[expect(clippy::boxed_local, reason = "so it comes from the core")]
    pub fn ask(
        self: &Arc<Self>,
        now: Time,
        request: Box<Request>,
        reply: impl FnOnce(Answer) + Send + 'static,
    ) -> Option<Answer> {
        let question = Question::new(*request);
        let judges = self.judges();
        let work = catch_unwind(AssertUnwindSafe(|| self.court(&judges).work(now, &question)));
        let pool = match work {
            Ok(Work::None) => {
                let mut answer = None;
                self.judge(now, &question, |given| answer = Some(given));
                return answer;
            }
            Ok(Work::Compute) => &self.compute,
            Ok(Work::Wait) => &self.waiting,
            Err(_) => return Some(self.give_up(now, &question)),
        };
        let this = Arc::clone(self);
        let question = Arc::new(question);
        let waits = Arc::clone(&question);
        let asked = (self.clock)();
        let job = move || {
            let waited = (this.clock)().saturating_duration_since(asked).as_millis();
            let waited_ms = u64::try_from(waited).unwrap_or(u64::MAX);
            let now = now.plus_ms(waited_ms);
            if waited_ms > this.patience_ms {
                let why = "it has waited too long for a thread";
                return reply(this.busy(now, &waits, why));
            }
            this.judge(now, &waits, reply);
        };
        match pool.run(job) {
            Ok(()) => None,
            Err(_) => Some(self.busy(now, &question, "too many logins wait")),
        }
    }

    /// Puts other judges in the place of the present ones, all at once. Logins that are going on are judged by
    /// the new ones. The core has to hear of it.
    pub fn replace(&self, judges: Judges) {
        judges.chain.succeed(&self.judges().chain);
        *self.judges.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(judges);
    }

    /// Carries out what an administrator wants. It may write a file, so no worker calls it.
    pub fn command(&self, now: Time, command: Command) -> Reply {
        match command {
            Command::Block(block) => self.change(now, Change::Block(block)),
            Command::Unblock(of) => self.change(now, Change::Unblock(of)),
            Command::Blocks => Reply::Blocks(self.records.blocks(now)),
            Command::Refusals { max } => Reply::Refusals(self.records.refusals(max)),
        }
    }

    /// Reads the file of blocks again, which somebody has changed. The core has to hear of it. Not on a worker.
    ///
    /// # Errors
    /// Everything that is wrong with it, one line each; the blocks stay as they were.
    pub fn reload_blocks(&self) -> Result<(), Vec<String>> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let _no_answer_meanwhile = self.judges.write().unwrap_or_else(PoisonError::into_inner);
        self.records.reload()
    }

    fn change(&self, now: Time, change: Change) -> Reply {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = {
            let _no_answer_meanwhile = self.judges.write().unwrap_or_else(PoisonError::into_inner);
            self.records.change(now, change)
        };
        match changed {
            Ok(text) => self.records.keep(&text),
            Err(reply) => reply,
        }
    }

    /// What has become of questions since the start.
    pub fn counts(&self) -> AccessCounts {
        let Counters { accepted, continued, refused, busy, panicked } = &self.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        AccessCounts {
            accepted: read(accepted),
            continued: read(continued),
            refused: read(refused),
            busy: read(busy),
            panicked: read(panicked),
        }
    }

    fn judges(&self) -> Arc<Judges> {
        Arc::clone(&self.present())
    }

    fn court<'a>(&'a self, judges: &'a Judges) -> Court<'a> {
        Court { gate: &self.records, judges }
    }

    fn present(&self) -> RwLockReadGuard<'_, Arc<Judges>> {
        self.judges.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Judges a question and hands the answer over while nobody can replace the judges.
    fn judge(&self, now: Time, question: &Question, reply: impl FnOnce(Answer)) {
        let mut tries = 0;
        loop {
            tries += 1;
            let judges = self.judges();
            let outcome =
                catch_unwind(AssertUnwindSafe(|| self.court(&judges).prove(now, question)));
            let present = self.present();
            if !Arc::ptr_eq(&judges, &present) && tries < TRIES_MAX {
                continue;
            }
            let is_stale = !Arc::ptr_eq(&judges, &present);
            let decision = match outcome {
                Ok(_) if is_stale => Ok(busy(now, question, "the judges change all the time")),
                Ok(outcome) => {
                    let court = self.court(&present);
                    catch_unwind(AssertUnwindSafe(|| court.settle(now, question, outcome)))
                }
                Err(panicked) => Err(panicked),
            };
            let Decision { answer, refusal } =
                decision.unwrap_or_else(|_| self.after_panic(now, question));
            self.count(&answer);
            // Whoever has got the answer finds the refusal among those that are remembered.
            if let Some(refusal) = &refusal {
                self.records.remember(refusal.clone());
            }
            reply(answer);
            drop(present);
            if let Some(refusal) = &refusal {
                self.records.write_line(refusal);
            }
            return;
        }
    }

    fn count(&self, answer: &Answer) {
        let counter = match answer {
            Answer::Accept { .. } => &self.counters.accepted,
            Answer::Continue { .. } => &self.counters.continued,
            Answer::Refuse { .. } => &self.counters.refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Turns away whom there is no time for. That says nothing about the client, so it is counted and not kept:
    /// a storm would push out what administrators look for.
    fn busy(&self, now: Time, question: &Question, why: &str) -> Answer {
        let Decision { answer, refusal } = busy(now, question, why);
        self.count(&answer);
        self.counters.busy.fetch_add(1, Ordering::Relaxed);
        if let Some(refusal) = refusal {
            self.records.write_line(&refusal);
        }
        answer
    }

    /// A bug lets nobody in.
    fn after_panic(&self, now: Time, question: &Question) -> Decision {
        self.counters.panicked.fetch_add(1, Ordering::Relaxed);
        error!("judging a client has panicked, which is a bug; it is refused");
        let why = "judging it has panicked, which is a bug";
        refusal(now, &question.visitor, (None, ReasonCode::ServerUnavailable, why.into()))
    }

    fn give_up(&self, now: Time, question: &Question) -> Answer {
        let Decision { answer, refusal } = self.after_panic(now, question);
        self.count(&answer);
        if let Some(refusal) = refusal {
            self.records.write_line(&refusal);
            self.records.remember(refusal);
        }
        answer
    }
}

fn busy(now: Time, question: &Question, why: &str) -> Decision {
    refusal(now, &question.visitor, (None, ReasonCode::ServerBusy, why.into()))
}

#[cfg(test)]
mod tests;
