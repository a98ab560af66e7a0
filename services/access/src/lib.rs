//! Who may connect, and what they may do.
//!
//! A CONNECT becomes an [`Attempt`], which a chain of [`Provider`]s judges in the order written in the
//! configuration: each accepts it, refuses it (which ends the chain) or skips it. Nobody accepts means refused.

mod anonymous;
mod attempt;
mod chain;
mod password;
mod provider;
mod rights;

pub use anonymous::AnonymousProvider;
pub use attempt::{Attempt, Secret, Step};
pub use chain::{Chain, Link, Outcome};
pub use password::{
    EditError, PasswordFile, PasswordProvider, Verification, add_user, remove_user,
};
pub use provider::{Identity, Provider, Verdict, Work};
pub use rights::{Denial, Explanation, Policy, Question, SubscribeMode};
