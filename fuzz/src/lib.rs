//! Fuzz targets as plain functions: bytes in, a panic if something that must hold does not.
//!
//! They are pure, so a test replays every corpus file on the ordinary toolchain, and libFuzzer
//! only adds the search for new files.

mod packets;
mod records;
pub mod seeds;
mod worlds;

pub use packets::{decode, framer, roundtrip, split};
pub use records::records;
pub use worlds::{choices, narrate, operations};

/// A target's name and its function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 6] = [
    ("decode", decode),
    ("roundtrip", roundtrip),
    ("split", split),
    ("records", records),
    ("choices", choices),
    ("operations", operations),
];
