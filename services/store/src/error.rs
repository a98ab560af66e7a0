//! What can go wrong with a store.

use std::{fmt, io, path::PathBuf};

/// Why a data directory cannot be used, or a store cannot go on.
#[derive(Debug)]
pub enum StoreError {
    /// The path is there and is no directory.
    NotADirectory(PathBuf),
    /// The directory holds something, and not what this program writes.
    Foreign(PathBuf),
    /// Another version of this program wrote the directory, nearly always a newer one.
    OtherVersion {
        /// The directory.
        path: PathBuf,
        /// The format that it says.
        format: String,
    },
    /// Another process uses the directory.
    Locked(PathBuf),
    /// The system refuses something.
    Io {
        /// What was tried.
        what: String,
        /// The system's answer.
        error: io::Error,
    },
    /// The tables refuse something.
    Tables {
        /// What was tried.
        what: String,
        /// Their answer.
        error: String,
    },
    /// The tables are there and cannot be read at all.
    Unreadable {
        /// What was tried.
        what: String,
        /// Their answer.
        error: String,
    },
    /// A thread of the store ended by a broken invariant, which is a bug; its message was printed before.
    Panicked,
    /// There is damage, and the settings forbid a start that leaves it out.
    Damaged(Vec<String>),
}

impl StoreError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        |error| Self::Io { what, error }
    }

    /// The disk has no room.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { error, .. }
            if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotADirectory(path) => {
                write!(f, "{} is not a directory; name another data directory", path.display())
            }
            Self::Foreign(path) => write!(
                f,
                "{} holds files of something else and is left alone; name an empty directory or one \
                 that does not exist",
                path.display()
            ),
            Self::OtherVersion { path, format } => write!(
                f,
                "{} was written by another version (format {format}, this one knows 1) and is left \
                 alone; start a version that knows it",
                path.display()
            ),
            Self::Locked(path) => write!(
                f,
                "{} is in use by another process; stop that one or name another data directory",
                path.display()
            ),
            Self::Io { what, error } => write!(f, "cannot {what}: {error}"),
            Self::Tables { what, error } | Self::Unreadable { what, error } => {
                write!(f, "cannot {what}: {error}")
            }
            Self::Panicked => {
                f.write_str("a thread of the store failed, which is a bug; its message came before")
            }
            Self::Damaged(what) => write!(
                f,
                "the data directory is damaged, and repair = \"refuse\" forbids a start: {}",
                what.join("; ")
            ),
        }
    }
}

impl std::error::Error for StoreError {}
