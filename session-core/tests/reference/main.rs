//! The core against reference models: naive, one for each subject, and sharing no code with it.
//!
//! `PROPTEST_CASES` runs more cases, `PROPTEST_RNG_SEED` others. With the feature `bugs` the
//! variable `BUG` names a mistake of `session_core::model::Bug` to be switched on, so that one can
//! see which tests find it.

mod aliases;
mod broker;
mod cases;
mod deadlines;
mod overlaps;
mod packet_ids;
mod packets;
mod recovery;
mod retained;
mod script;
mod shards;
mod shared;
mod timers;
mod topics;
