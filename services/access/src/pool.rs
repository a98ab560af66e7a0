//! Threads for what a worker must not wait for.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// Something to do.
type Job = Box<dyn FnOnce() + Send>;

/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(60);

/// What a pool is.
#[derive(Clone, Debug)]
pub(crate) struct PoolConfig {
    /// What its threads are called.
    pub(crate) name: &'static str,
    /// So many threads at most, at least one.
    pub(crate) threads_max: usize,
    /// So many jobs wait for a thread at most.
    pub(crate) queue_max: usize,
    /// Whether threads have more niceness than the workers: these shall have the processors when there are not
    /// enough, and what is done here may take a moment longer.
    pub(crate) is_nice: bool,
}

/// A bounded number of threads and a queue with a bound. Threads start when there is work for them, and end when
/// there was none for a minute. When the pool is dropped, what waits is still done.
#[derive(Debug)]
pub(crate) struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: PoolConfig,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    threads: usize,
    /// Threads that have nothing to do, those included that are about to begin.
    idle: usize,
    is_closed: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { queue, threads, idle, .. } = self;
        write!(f, "{} jobs, {threads} threads, {idle} of them idle", queue.len())
    }
}

impl Pool {
    /// A pool without a thread as yet.
    pub(crate) fn new(config: PoolConfig) -> Self {
        let config = PoolConfig { threads_max: config.threads_max.max(1), ..config };
        Self(Arc::new(Shared { config, state: Mutex::default(), wake: Condvar::new() }))
    }

    /// Has a job done soon.
    ///
    /// # Errors
    /// Too many wait already, or the system refuses threads: the job is given back.
    pub(crate) fn run<J: FnOnce() + Send + 'static>(&self, job: J) -> Result<(), J> {
        let mut state = self.0.state();
        if state.queue.len() >= state.idle && state.threads < self.0.config.threads_max {
            self.start_thread(&mut state);
        }
        let has_room = state.queue.len() < state.idle.saturating_add(self.0.config.queue_max);
        if state.threads == 0 || !has_room {
            return Err(job);
        }
        state.queue.push_back(Box::new(job));
        drop(state);
        self.0.wake.notify_one();
        Ok(())
    }

    fn start_thread(&self, state: &mut State) {
        let shared = Arc::clone(&self.0);
        let name = format!("{}-{}", self.0.config.name, state.threads);
        // Refused, those that are there have to do; if there are none, the job is refused too.
        if thread::Builder::new().name(name).spawn(move || shared.work()).is_ok() {
            state.threads += 1;
            state.idle += 1;
        }
    }

    /// Threads that are there.
    #[cfg(test)]
    pub(crate) fn threads(&self) -> usize {
        self.0.state().threads
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.0.state().is_closed = true;
        self.0.wake.notify_all();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a thread does.
    fn work(&self) {
        if self.config.is_nice {
            // In Linux this is the thread's own niceness. That it may be refused does no harm.
            let _ = rustix::process::nice(5);
        }
        let mut state = self.state();
        loop {
            if let Some(job) = state.queue.pop_front() {
                state.idle -= 1;
                drop(state);
                // A job that panics ends nobody's thread; whoever waits for its answer sees to it itself.
                let _ = catch_unwind(AssertUnwindSafe(job));
                state = self.state();
                state.idle += 1;
                continue;
            }
            let has_waited = match state.is_closed {
                true => true,
                false => {
                    let waited = self.wake.wait_timeout(state, IDLE);
                    let (back, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                    state = back;
                    timeout.timed_out()
                }
            };
            if has_waited && state.queue.is_empty() {
                state.idle -= 1;
                state.threads -= 1;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use rustix::process::getpriority_process;

    use super::*;

    fn pool(threads_max: usize, queue_max: usize) -> Pool {
        Pool::new(PoolConfig { name: "test", threads_max, queue_max, is_nice: false })
    }

    /// A job that says when it has begun, and ends when it is told.
    fn held(pool: &Pool, begun: &Sender<()>, end: Receiver<()>) -> bool {
        let begun = begun.clone();
        let job = move || {
            begun.send(()).unwrap();
            end.recv().unwrap();
        };
        pool.run(job).is_ok()
    }

    #[test]
    fn more_jobs_than_threads_and_queue_take_are_given_back() {
        let pool = pool(2, 1);
        let (begun, has_begun) = channel();
        let ends: Vec<_> = (0..2)
            .map(|_| {
                let (end, is_ended) = channel();
                assert!(held(&pool, &begun, is_ended));
                has_begun.recv().unwrap();
                end
            })
            .collect();
        let (done, is_done) = channel();
        let told = done.clone();
        assert!(pool.run(move || told.send(7).unwrap()).is_ok(), "one may wait");
        let refused = pool.run(move || done.send(8).unwrap()).expect_err("a second may not");
        refused();
        assert_eq!(is_done.recv(), Ok(8));
        ends.iter().for_each(|end| end.send(()).unwrap());
        assert_eq!(is_done.recv(), Ok(7));
        assert_eq!(pool.threads(), 2);
    }

    #[test]
    fn threads_start_when_there_is_work_for_them() {
        let pool = pool(8, 0);
        assert_eq!(pool.threads(), 0);
        let (begun, has_begun) = channel();
        let (end, is_ended) = channel();
        assert!(held(&pool, &begun, is_ended));
        has_begun.recv().unwrap();
        assert_eq!(pool.threads(), 1);
        end.send(()).unwrap();
    }

    #[test]
    fn a_job_that_panics_ends_no_thread() {
        let pool = pool(1, 10);
        assert!(pool.run(|| panic!("a mistake")).is_ok());
        let (done, is_done) = channel();
        assert!(pool.run(move || done.send(()).unwrap()).is_ok());
        assert_eq!(is_done.recv(), Ok(()));
        assert_eq!(pool.threads(), 1);
    }

    #[test]
    fn what_waits_is_done_when_the_pool_is_dropped() {
        let pool = pool(1, 10);
        let (begun, has_begun) = channel();
        let (end, is_ended) = channel();
        assert!(held(&pool, &begun, is_ended));
        has_begun.recv().unwrap();
        let (done, is_done) = channel();
        assert!(pool.run(move || done.send(()).unwrap()).is_ok());
        drop(pool);
        end.send(()).unwrap();
        assert_eq!(is_done.recv(), Ok(()));
    }

    #[test]
    fn nice_threads_leave_the_processors_to_others() {
        let priority_in = |is_nice| {
            let config = PoolConfig { name: "test", threads_max: 1, queue_max: 1, is_nice };
            let pool = Pool::new(config);
            let (told, tells) = channel();
            let job = move || told.send(getpriority_process(None).unwrap()).unwrap();
            assert!(pool.run(job).is_ok());
            tells.recv().unwrap()
        };
        let own = getpriority_process(None).unwrap();
        assert_eq!(priority_in(false), own);
        assert_eq!(priority_in(true), (own + 5).min(19));
    }
}
