//! What a worker cannot do itself.

use codec::ReasonCode;
use session_core::{Answer, CommitSeq, Load, Loaded, Record, Reply, Request, Ticket};

/// What the shard of one worker asks of the outside: questions, and a log.
///
/// Every function is called on the worker's thread and must not block; what takes time is begun
/// here and ends by a call of the worker's [`Inbox`](crate::Inbox) from any other thread.
pub trait Services: Send {
    /// A question ([`Effect::Ask`](session_core::Effect::Ask)). `None` means that the answer
    /// comes later. The default refuses.
    fn ask(&mut self, ticket: Ticket, request: Box<Request>) -> Option<Box<Answer>> {
        let _ = (ticket, request);
        Some(Box::new(Answer::Refuse { reason: ReasonCode::NotAuthorized }))
    }

    /// The reply to a command that came by the [`Inbox`](crate::Inbox). The default drops it.
    fn reply(&mut self, ticket: Ticket, reply: Box<Reply>) {
        let _ = (ticket, reply);
    }

    /// A record for the log. The default drops it.
    fn append(&mut self, seq: CommitSeq, record: Box<Record>) {
        let _ = (seq, record);
    }

    /// A question about messages that are in the log only
    /// ([`Effect::Load`](session_core::Effect::Load)). `None` means that the answer comes later, by
    /// [`Inbox::loaded`](crate::Inbox::loaded). The default, which keeps no log, has nothing.
    fn load(&mut self, load: Load) -> Option<Box<Loaded>> {
        Some(Box::new(Loaded { load, messages: Vec::new(), complete: true }))
    }

    /// The turn in which records were appended is over; `last` is the last of them. Returns
    /// through where the log is durable, if it knows already. The default, which keeps no log,
    /// says that all of it is.
    fn commit(&mut self, last: CommitSeq) -> Option<CommitSeq> {
        Some(last)
    }
}

/// No authentication service and no log.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoServices;

impl Services for NoServices {}
