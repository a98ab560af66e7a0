//! What answers the core, for all workers.

mod judge;
mod lines;

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use codec::ReasonCode;
use session_core::{Answer, Request, Time};
use tracing::{error, info};

use crate::{
    Work,
    pool::{Pool, PoolConfig},
};
use judge::{Decision, Question, refusal};
pub use judge::{Gate, Judges, Keys, Outcome, Refusal, Rights, Visitor};
use lines::Lines;

/// How often a login is judged anew because the judges were replaced while it went on.
const TRIES_MAX: usize = 3;

/// How much may go on at the same time.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessConfig {
    /// Threads that compute, such as password hashes; 0 stands for one for every two processors.
    pub compute_threads: usize,
    /// Threads that wait for other servers, which is how many logins may do so at the same time.
    pub waiting_threads: usize,
    /// Logins that wait for a thread, of each of the two sorts. More are told that the server is busy.
    pub queue_max: usize,
    /// A login that has waited so long for a thread is told that the server is busy, milliseconds: its client, or
    /// the core, is about to give up, and work for it would be lost on those behind it. Less than
    /// `ask_timeout_ms` of the core.
    pub patience_ms: u64,
}

impl Default for AccessConfig {
    fn default() -> Self {
        Self { compute_threads: 0, waiting_threads: 64, queue_max: 1_000, patience_ms: 8_000 }
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

/// Tells the time on all threads, as the workers' own `now` does.
pub type Clock = Arc<dyn Fn() -> Time + Send + Sync>;

/// Where refusals are remembered.
pub trait RefusalLog: Send + Sync {
    /// Remembers one. Called on workers and threads of the service; it must not block.
    fn record(&self, refusal: Refusal);
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
/// No answer is given by judges that have been replaced: [`Access::reload`] and [`Access::change`] return when
/// all answers by the old state have been handed over. Whoever then tells the shards that rights have changed
/// (`Command::RightsChanged`) has everybody judged by the new state, those included who came in a moment before.
pub struct Access {
    judges: RwLock<Arc<Judges>>,
    log: Arc<dyn RefusalLog>,
    lines: Mutex<Lines>,
    clock: Clock,
    compute: Pool,
    waiting: Pool,
    patience_ms: u64,
    counters: Counters,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl Access {
    /// A service. Its threads start when there is work for them.
    pub fn new(
        config: &AccessConfig,
        clock: Clock,
        judges: Judges,
        log: Arc<dyn RefusalLog>,
    ) -> Arc<Self> {
        let pool = |name, threads_max, is_nice| {
            let queue_max = config.queue_max;
            Pool::new(PoolConfig { name, threads_max, queue_max, is_nice })
        };
        Arc::new(Self {
            judges: RwLock::new(Arc::new(judges)),
            log,
            lines: Mutex::new(Lines::new()),
            clock,
            compute: pool("login", config.compute_threads(), true),
            waiting: pool("ask", config.waiting_threads, false),
            patience_ms: config.patience_ms,
            counters: Counters::default(),
        })
    }

    /// Answers a question of the core: at once, or, if that takes time, later by `reply` on another thread.
    /// `reply` is called exactly once if this returns `None`, and never otherwise. It must not block, nor call
    /// [`Access::reload`] or [`Access::change`].
    #[expect(clippy::boxed_local, reason = "so it comes from the core")]
    pub fn answer(
        self: &Arc<Self>,
        now: Time,
        request: Box<Request>,
        reply: impl FnOnce(Answer) + Send + 'static,
    ) -> Option<Answer> {
        let question = Question::new(*request);
        let judges = self.judges();
        let work = catch_unwind(AssertUnwindSafe(|| judges.work(now, &question)));
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
        let job = move || {
            let begun = (this.clock)();
            if begun.since_ms(now) > this.patience_ms {
                let why = "it has waited too long for a thread";
                return reply(this.busy(begun, &waits, why));
            }
            this.judge(begun, &waits, reply);
        };
        match pool.run(job) {
            Ok(()) => None,
            Err(_) => Some(self.busy(now, &question, "too many logins wait")),
        }
    }

    /// Puts other judges in the place of the present ones, all at once. Logins that are going on are judged by
    /// the new ones.
    pub fn reload(&self, judges: Judges) {
        *self.judges.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(judges);
    }

    /// Changes something in the present judges, such as a block. No answer is given meanwhile.
    pub fn change<T>(&self, change: impl FnOnce(&Judges) -> T) -> T {
        change(&self.judges.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// The present judges.
    pub fn judges(&self) -> Arc<Judges> {
        Arc::clone(&self.present())
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

    fn present(&self) -> RwLockReadGuard<'_, Arc<Judges>> {
        self.judges.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Judges a question and hands the answer over while nobody can replace the judges.
    fn judge(&self, now: Time, question: &Question, reply: impl FnOnce(Answer)) {
        let mut tries = 0;
        loop {
            tries += 1;
            let judges = self.judges();
            let outcome = catch_unwind(AssertUnwindSafe(|| judges.prove(now, question)));
            let present = self.present();
            if !Arc::ptr_eq(&judges, &present) && tries < TRIES_MAX {
                continue;
            }
            let is_stale = !Arc::ptr_eq(&judges, &present);
            let decision = match outcome {
                Ok(_) if is_stale => Ok(busy(now, question, "the judges change all the time")),
                Ok(outcome) => {
                    catch_unwind(AssertUnwindSafe(|| present.settle(now, question, outcome)))
                }
                Err(panicked) => Err(panicked),
            };
            let Decision { answer, refusal } =
                decision.unwrap_or_else(|_| self.after_panic(now, question));
            self.count(&answer);
            reply(answer);
            drop(present);
            if let Some(refusal) = refusal {
                self.tell(refusal);
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
            self.write_line(&refusal);
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
            self.tell(refusal);
        }
        answer
    }

    fn tell(&self, refusal: Refusal) {
        self.write_line(&refusal);
        self.log.record(refusal);
    }

    fn write_line(&self, refusal: &Refusal) {
        let Refusal { at, visitor, provider, reason, why } = refusal;
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(left_out) = lines.take(*at, visitor.address) else { return };
        drop(lines);
        let address = visitor.address.map(|address| address.to_string()).unwrap_or_default();
        info!(
            client_id = ?visitor.client_id,
            user = ?visitor.user.as_deref().unwrap_or_default(),
            address,
            listener = %visitor.listener,
            has_secret = visitor.has_secret,
            provider = provider.as_deref().unwrap_or_default(),
            reason = reason.name(),
            ?why,
            left_out,
            "refused"
        );
    }
}

fn busy(now: Time, question: &Question, why: &str) -> Decision {
    refusal(now, &question.visitor, (None, ReasonCode::ServerBusy, why.into()))
}

#[cfg(test)]
mod tests;
