//! The broker as a value.
//!
//! A [`Shard`] is a deterministic state machine: it gets the time and one [`Input`], and writes
//! [`Effect`]s into a buffer that the caller owns. It has no clock, socket, file, thread or random
//! source. Everything else is a shell that turns the world into inputs and carries out effects.
//!
//! # Contract
//! 1. [`Shard::handle`] never fails, never blocks, does bounded work and hands out all its effects
//!    at once. [`Shard::next_timeout`] at or before `now` says that more work waits: call again
//!    with [`Input::Tick`].
//! 2. Effects are carried out in order; an effect or an input for what is gone is harmless.
//! 3. `now` never goes back.
//! 4. [`Input::Persisted`] is the only news from the log. Losing the log means dropping the
//!    `Shard`: nothing that left it depended on what was not durable.
//! 5. [`Input::Told`] messages of one sender come in order and once.
//! 6. Two shards given the same configuration, records and inputs are equal, and so are their
//!    effects.
#![no_std]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::panic
    )
)]

extern crate alloc;
#[cfg(feature = "model")]
extern crate std;

/// Whether a mistake is switched on; never, but where tests are tested.
#[cfg(feature = "bugs")]
macro_rules! seeded {
    ($bug:ident) => {
        crate::model::is_seeded(crate::model::Bug::$bug)
    };
}
#[cfg(not(feature = "bugs"))]
macro_rules! seeded {
    ($bug:ident) => {
        false
    };
}

mod access;
mod address;
mod api;
mod config;
mod ids;
#[cfg(feature = "model")]
pub mod model;
mod rate;
mod rows;
mod shard;

pub use access::{Action, Actions, Grants, Level, LevelTest, Pattern, Rule, Verdict};
pub use address::AddressRange;
pub use api::{
    Answer, Cause, Command, Crowd, Effect, Effects, Event, Exchange, Input, Load, Loaded, Origin,
    Principal, Proxied, Reply, Request, Subject, Transport,
};
pub use config::{
    Authentication, DeniedPublish, Features, Limits, QueueFull, Settings, ShardConfig,
};
pub use ids::{CommitSeq, ConnId, Place, ShardId, ShardMap, Ticket, Time};
pub use rate::{Buckets, ClientLimits, OverRate, Rate, Rates};
pub use rows::{
    ConnectionRow, DropCounts, DropReason, DropRow, Page, QueueRow, Queues, RetainedRow,
    SessionRow, SubscriptionRow, Totals,
};
pub use shard::{
    Declined, Delivery, Extra, Flight, Ids, MsgId, Offer, Publication, Queued, Record, Retained,
    SessionId, SessionRef, Shard, ShardMsg, Shared, Source, Subscription, Target, View, Violation,
    repartition, topic_mark,
};

/// The code of the guide is compiled, and run.
#[cfg(doctest)]
#[doc = include_str!("../../docs/embedding.md")]
pub struct EmbeddingGuide;
