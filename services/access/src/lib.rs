//! Who may connect, and what they may do.
//!
//! A CONNECT becomes an [`Attempt`], which a chain of [`Provider`]s judges in the order written in the
//! configuration: each accepts it, refuses it (which ends the chain) or skips it. Nobody accepts means refused.

mod attempt;
mod breaker;
mod cache;
mod http;
mod jwks;
mod names;
mod pool;
mod provider;
mod service;
mod turns;

pub use attempt::{Attempt, Secret, Step};
pub use breaker::{Breaker, BreakerConfig, Pass};
pub use cache::{Cache, Digest, Namer};
pub use http::{Endpoint, EndpointConfig, Fetch, FetchError, Fetched, HttpConfig, HttpProvider};
pub use jwks::{Jwks, JwksConfig, KeySet};
pub use provider::{Identity, Provider, Verdict, Work};
pub use service::{
    Access, AccessConfig, AccessCounts, Clock, Gate, Judges, Keys, Outcome, Refusal, RefusalLog,
    Rights, Visitor,
};
