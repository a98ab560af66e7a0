//! What a broker remembers, on disk.
//!
//! The core hands [`Record`](session_core::Record)s over; each is turned into changes of rows. They are
//! appended to a log, which is synced once for many, and the newest state of the rows that changed is
//! kept in memory. When that grows large it goes into sorted tables, and the log up to there is removed.
//! At a start, rows are read back as records. All of this is a [`Book`]: plain code over two seams,
//! [`Files`] and [`Tables`], so that tests can lose what was not synced, tear it, and flip bits.
//! [`open`] and [`Store`] put it on a file system and on threads.

mod book;
mod changes;
mod engine;
mod error;
mod files;
mod folder;
mod frame;
mod inspect;
mod keys;
mod overlay;
mod recovery;
mod rows;
pub mod sim;
mod store;
mod subjects;
mod sweep;
mod tables;
mod values;
mod wire;

pub use book::{Book, Opening, Repair};
pub use error::StoreError;
pub use files::{Faults, Files, Folder};
pub use inspect::{Item, Report, inspect};
pub use recovery::Recovered;
pub use store::{Durability, Log, News, Opened, Options, Store, Tuner, open};
pub use tables::{Lsm, Tables, Unreadable, Walk};
