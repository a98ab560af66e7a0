//! How threads talk to a worker.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering, fence},
    mpsc::{Receiver, Sender, TryRecvError, channel},
};

use codec::Connect;
use mio::Waker;
use session_core::{Answer, Command, CommitSeq, Loaded, Reply, ShardId, ShardMsg, Ticket};

use crate::{
    Look, TraceFilter,
    connection::{Connection, Source},
    socket::Stream,
};

/// What a worker gets.
pub(crate) enum Mail {
    /// A new connection.
    Accepted(Stream, Source),
    /// What another worker has to say: everything of one of its turns, in order.
    Posts(ShardId, Vec<Post>),
    /// An answer to what the shard asked.
    Answer(Ticket, Box<Answer>),
    /// A command to the shard.
    Command(Ticket, Box<Command>),
    /// The log is durable through this record.
    Persisted(CommitSeq),
    /// The next part of a backlog.
    Loaded(Box<Loaded>),
    /// An operator wants to look.
    Look(Box<dyn FnOnce(&Look<'_>) + Send>),
    /// An operator wants something; the reply goes there.
    Order(Box<Command>, Sender<Reply>),
    /// What is traced from now on.
    Trace(Arc<[TraceFilter]>),
    /// Time to go.
    Shutdown,
}

/// One thing that a worker has to say to another.
pub(crate) enum Post {
    Told(Box<ShardMsg>),
    Moved(Box<Handover>),
}

/// A connection on its way to the owner of its session, with every byte behind its CONNECT.
pub(crate) struct Handover {
    pub(crate) connection: Connection,
    pub(crate) connect: Box<Connect>,
}

/// A way to a worker. Sending takes no lock, and no system call if the worker is awake.
#[derive(Clone)]
pub(crate) struct Address {
    sender: Sender<Mail>,
    bell: Arc<Bell>,
}

struct Bell {
    waker: Waker,
    /// The worker waits in its poll, or is about to.
    asleep: AtomicBool,
    /// New connections that the worker has not taken yet.
    arrivals: AtomicUsize,
}

impl Address {
    /// Sends; to a worker that has gone, nothing happens.
    pub(crate) fn send(&self, mail: Mail) {
        if matches!(mail, Mail::Accepted(..)) {
            self.bell.arrivals.fetch_add(1, Ordering::Relaxed);
        }
        if self.sender.send(mail).is_err() {
            return;
        }
        // Either this load sees that the worker fell asleep, or the worker, which looks into its
        // mailbox once more after saying so, sees the mail: the two fences order the four steps.
        fence(Ordering::SeqCst);
        if self.bell.asleep.load(Ordering::Relaxed)
            && self.bell.asleep.swap(false, Ordering::Relaxed)
        {
            // It fails only when the worker's poll is gone, and then nobody listens.
            let _ = self.bell.waker.wake();
        }
    }

    /// New connections that the worker has not taken yet.
    pub(crate) fn arrivals(&self) -> usize {
        self.bell.arrivals.load(Ordering::Relaxed)
    }
}

/// The receiving end.
pub(crate) struct Mailbox {
    receiver: Receiver<Mail>,
    bell: Arc<Bell>,
    /// Mail found by the last look before sleeping.
    early: Option<Mail>,
}

/// A mailbox whose owner is woken from its poll by `waker`.
pub(crate) fn mailbox(waker: Waker) -> (Address, Mailbox) {
    let (sender, receiver) = channel();
    let bell =
        Arc::new(Bell { waker, asleep: AtomicBool::new(false), arrivals: AtomicUsize::new(0) });
    (Address { sender, bell: Arc::clone(&bell) }, Mailbox { receiver, bell, early: None })
}

impl Mailbox {
    pub(crate) fn take(&mut self) -> Option<Mail> {
        let mail = match self.early.take() {
            Some(mail) => mail,
            None => self.receiver.try_recv().ok()?,
        };
        if matches!(mail, Mail::Accepted(..)) {
            self.bell.arrivals.fetch_sub(1, Ordering::Relaxed);
        }
        Some(mail)
    }

    /// Says that the owner goes to sleep, unless there is mail: then it returns false.
    pub(crate) fn fall_asleep(&mut self) -> bool {
        if self.early.is_some() {
            return false;
        }
        self.bell.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        match self.receiver.try_recv() {
            Ok(mail) => {
                self.early = Some(mail);
                self.wake_up();
                false
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => true,
        }
    }

    /// Says that the owner is awake: until it falls asleep, nobody rings.
    pub(crate) fn wake_up(&mut self) {
        self.bell.asleep.store(false, Ordering::Relaxed);
    }
}

/// How the outside reaches the shard of one worker, from any thread.
#[derive(Clone)]
pub struct Inbox(pub(crate) Address);

impl Inbox {
    /// Answers what the shard asked.
    pub fn answer(&self, ticket: Ticket, answer: Box<Answer>) {
        self.0.send(Mail::Answer(ticket, answer));
    }

    /// Gives the shard a command; the reply comes by
    /// [`Services::reply`](crate::Services::reply).
    pub fn command(&self, ticket: Ticket, command: Box<Command>) {
        self.0.send(Mail::Command(ticket, command));
    }

    /// Gives the shard the next part of a backlog.
    pub fn loaded(&self, loaded: Box<Loaded>) {
        self.0.send(Mail::Loaded(loaded));
    }

    /// Tells the shard that its log is durable through this record.
    pub fn persisted(&self, through: CommitSeq) {
        self.0.send(Mail::Persisted(through));
    }
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use mio::{Events, Poll, Token};

    use super::*;

    /// A sender that races with a receiver on its way to sleep never leaves mail behind.
    #[test]
    fn no_wake_up_is_lost() {
        const COUNT: u64 = 20_000;
        let mut poll = Poll::new().unwrap();
        let (address, mut mailbox) = mailbox(Waker::new(poll.registry(), Token(0)).unwrap());
        let (turn, turns) = channel();
        let sender = thread::spawn(move || {
            for seq in 0..COUNT {
                address.send(Mail::Persisted(CommitSeq(seq)));
                turns.recv().unwrap();
            }
        });
        let mut events = Events::with_capacity(4);
        let mut next = 0;
        while next < COUNT {
            if mailbox.fall_asleep() {
                let patience = Duration::from_secs(10);
                poll.poll(&mut events, Some(patience)).unwrap();
                assert!(!events.is_empty(), "mail {next} woke nobody in {patience:?}");
            }
            mailbox.wake_up();
            while let Some(Mail::Persisted(CommitSeq(seq))) = mailbox.take() {
                assert_eq!(seq, next);
                next += 1;
                turn.send(()).unwrap();
            }
        }
        sender.join().unwrap();
    }

    #[test]
    fn whoever_is_awake_is_not_rung() {
        let mut poll = Poll::new().unwrap();
        let (address, mut mailbox) = mailbox(Waker::new(poll.registry(), Token(0)).unwrap());
        let mut events = Events::with_capacity(4);
        address.send(Mail::Shutdown);
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(events.is_empty());
        assert!(!mailbox.fall_asleep(), "mail waits");
        assert!(matches!(mailbox.take(), Some(Mail::Shutdown)));
        assert!(mailbox.fall_asleep());
        address.send(Mail::Shutdown);
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(!events.is_empty());
    }
}
