//! The line between what is counted and what is not.

use std::hint::black_box;

/// What callgrind sees of [`counted`], whatever the work and the style of mangling.
pub(crate) const COUNTED: &str = "instructions::counted::counted*";

/// Does some work. callgrind counts from the call of this function to its return, and nothing else.
#[inline(never)]
pub(crate) fn counted<R>(work: impl FnOnce() -> R) -> R {
    black_box(work())
}
