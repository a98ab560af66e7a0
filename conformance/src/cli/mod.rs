//! The subcommands, one module each: its options, and `carry_out`, which says whether all is well.

pub(crate) mod check;
mod chosen;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod sim;

use chosen::Chosen;

/// Whether all is well; otherwise why nothing could be done.
pub(crate) type Verdict = Result<bool, Box<dyn std::error::Error>>;
