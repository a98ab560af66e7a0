//! Threads for what a worker must not wait for.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

/// Something to do.
type Job = Box<dyn FnOnce() + Send>;

/// A few threads and a queue with a bound. Threads end when the pool is dropped and the queue is empty.
pub(crate) struct Pool {
    queue: SyncSender<Job>,
}

impl Pool {
    /// Starts threads of this name.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(crate) fn start(name: &str, threads: usize, queue_max: usize) -> io::Result<Self> {
        let (queue, jobs) = sync_channel(queue_max);
        let jobs = Arc::new(Mutex::new(jobs));
        for number in 0..threads.max(1) {
            let jobs = Arc::clone(&jobs);
            let name = format!("{name}-{number}");
            thread::Builder::new().name(name).spawn(move || work(&jobs))?;
        }
        Ok(Self { queue })
    }

    /// Has a job done soon; false if too many wait already.
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) -> bool {
        self.queue.try_send(Box::new(job)).is_ok()
    }
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    // Workers shall have the processors when there are not enough: what is hashed here may take a moment longer.
    // In Linux this is the thread's own niceness. That it may be refused does no harm.
    let _ = rustix::process::nice(5);
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn jobs_are_done_and_too_many_refused() {
        let pool = Pool::start("test", 1, 1).unwrap();
        let (begun, has_begun) = channel();
        let (go, goes) = channel::<()>();
        let (done, is_done) = channel();
        assert!(pool.run(move || {
            begun.send(()).unwrap();
            goes.recv().unwrap();
        }));
        has_begun.recv().unwrap();
        assert!(pool.run(move || done.send(7).unwrap()), "one may wait");
        assert!(!pool.run(|| ()), "a second may not");
        go.send(()).unwrap();
        assert_eq!(is_done.recv(), Ok(7));
    }
}
