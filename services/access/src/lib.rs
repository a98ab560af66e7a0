//! Who may connect, and what they may do.
//!
//! A CONNECT becomes an [`Attempt`], which a chain of [`Provider`]s judges in the order written in the
//! configuration: each accepts it, refuses it (which ends the chain) or skips it. Nobody accepts means refused.

mod anonymous;
mod attempt;
mod blocks;
mod breaker;
mod cache;
mod chain;
mod doorway;
mod guard;
mod http;
mod jwks;
mod jwt;
mod matching;
mod password;
mod pool;
mod provider;
mod refusals;
mod rights;
mod scram;
mod service;
mod turns;
mod x509;

pub use anonymous::AnonymousProvider;
pub use attempt::{Attempt, Secret, Step};
pub use blocks::{Block, Blocked, Blocks};
pub use breaker::{Breaker, BreakerConfig, Pass};
pub use cache::{Cache, Digest, Namer};
pub use chain::{Chain, Link, Outcome};
pub use doorway::{Doorway, DoorwayConfig};
pub use guard::{Guard, GuardConfig};
pub use http::{Endpoint, EndpointConfig, Fetch, FetchError, Fetched, HttpConfig, HttpProvider};
pub use jwks::{Jwks, JwksConfig, KeySet};
pub use jwt::{ClaimsConfig, JwtKeySet, JwtKeys, JwtProvider, Usable};
pub use password::{
    EditError, PasswordFile, PasswordProvider, Verification, add_user, remove_user,
};
pub use provider::{Identity, Provider, Verdict, Work};
pub use refusals::{Refusal, Refusals};
pub use rights::{Denial, Explanation, Policy, Question, SubscribeMode};
pub use scram::{Random, ScramFile, ScramProvider, add_scram_user, remove_scram_user};
pub use service::{Access, AccessConfig, AccessCounts, Command, Judges, Reply, Visitor};
pub use x509::{CertificateName, X509Config, X509Provider, name_pattern};
