//! The data plane: sockets, worker threads and nothing that decides.
//!
//! [`start`] takes bound [`Listener`]s and one [`session_core::ShardConfig`] for each worker. One
//! thread accepts and hands sockets out round robin; each worker thread owns one `mio::Poll`, one
//! [`session_core::Shard`], one read buffer and the connections it was given. Workers share no
//! state: they talk through mailboxes, in batches, once a turn.
//!
//! A turn of a worker: wait; take mail; let the shard's timers run; read each readable connection
//! once, decode, handle, carry out; hand the turn's messages to the other workers; write each
//! connection that has something to write once. So a connection costs at most one read and one
//! write a turn, however many packets that moves, and no connection starves another.
//!
//! What the shard asks of the outside (a log, authentication) goes through [`Services`]. An operator reaches all workers
//! by the [`Desk`].

mod acceptor;
mod clock;
mod connection;
mod counters;
mod desk;
mod door;
mod doorkeeper;
mod layers;
mod listener;
mod mailbox;
mod note;
mod outbox;
mod runtime;
mod services;
mod socket;
mod trace;
mod worker;

pub use counters::{Counter, Counts, Histogram, LATENCY_US};
pub use desk::{Desk, Link, Look};
pub use door::{DoorId, Fittings};
pub use doorkeeper::Doorkeeper;
pub use layers::{
    CertificateFiles, ClientCertificates, TlsDoor, TlsError, TlsSetup, WebSocketSetup,
};
pub use listener::{BindError, Listener, UnixSocket};
pub use mailbox::Inbox;
pub use runtime::{
    MakeServices, Running, RuntimeConfig, StartError, Stopper, WorkerPanicked, start,
};
pub use services::{NoServices, Services};
pub use trace::{TRACE_TARGET, TraceFilter};
