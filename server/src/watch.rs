//! Files that are read again when they change.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, SystemTime},
};

use tracing::{error, info};

/// How often files are looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// Reads files again: all of it, or nothing and why not.
pub(crate) type Reload = Box<dyn Fn() -> Result<(), Vec<String>> + Send>;

/// Files that belong together, and what reads them again.
pub(crate) struct Watched {
    /// What they are, for the log.
    pub(crate) what: String,
    /// The files.
    pub(crate) files: Vec<PathBuf>,
    /// Reads them.
    pub(crate) reload: Reload,
}

/// What is looked at.
#[derive(Clone, Default)]
pub(crate) struct Watch(Arc<Mutex<Vec<Seen>>>);

/// Files as they were when they were last looked at.
struct Seen {
    watched: Watched,
    stamps: Vec<Stamp>,
}

impl Watch {
    /// Looks at the files from now on, which are none at first.
    ///
    /// # Errors
    /// There is no thread for it.
    pub(crate) fn start() -> Result<Self, String> {
        let this = Self::default();
        let watch = this.clone();
        let look = move || {
            loop {
                thread::sleep(PERIOD);
                watch.look();
            }
        };
        let thread = thread::Builder::new().name("watch".into()).spawn(look);
        thread.map(|_| this).map_err(|error| format!("cannot start a thread: {error}"))
    }

    /// Looks at these files instead, as they are now.
    pub(crate) fn set(&self, all: Vec<Watched>) {
        let all = all.into_iter().map(|watched| {
            let stamps = stamp_all(&watched.files);
            Seen { watched, stamps }
        });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = all.collect();
    }

    /// A change that is still being written may be read in part; then it is wrong, the old state stays, and the next
    /// look reads the whole.
    fn look(&self) {
        for Seen { watched, stamps } in &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)
        {
            let now = stamp_all(&watched.files);
            if now != *stamps {
                *stamps = now;
                read_again(watched);
            }
        }
    }
}

fn read_again(watched: &Watched) {
    match (watched.reload)() {
        Ok(()) => info!("{} changed and was read again", watched.what),
        Err(problems) => {
            for problem in problems {
                error!("{} changed, and what was in force stays so: {problem}", watched.what);
            }
        }
    }
}

/// What tells a file from what it was: another file behind a link counts as another.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    target: Option<PathBuf>,
    inode: u64,
    bytes: u64,
    modified: Option<SystemTime>,
}

fn stamp_all(files: &[PathBuf]) -> Vec<Stamp> {
    files.iter().map(|path| stamp(path)).collect()
}

fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok();
    Stamp {
        target: fs::canonicalize(path).ok(),
        inode: metadata.as_ref().map_or(0, fs::Metadata::ino),
        bytes: metadata.as_ref().map_or(0, fs::Metadata::len),
        modified: metadata.and_then(|metadata| metadata.modified().ok()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_kind_of_change_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let none = stamp(&path("a"));
        fs::write(path("a"), "one").unwrap();
        let first = stamp(&path("a"));
        assert_ne!(none, first, "it came");
        assert_eq!(first, stamp(&path("a")), "nothing changed");
        fs::write(path("b"), "two").unwrap();
        fs::rename(path("b"), path("a")).unwrap();
        assert_ne!(first, stamp(&path("a")), "another file of the same length");

        fs::write(path("c"), "two").unwrap();
        symlink(path("a"), path("link")).unwrap();
        let old = stamp(&path("link"));
        symlink(path("c"), path("new")).unwrap();
        fs::rename(path("new"), path("link")).unwrap();
        assert_ne!(old, stamp(&path("link")), "the link names another file");
        fs::remove_file(path("c")).unwrap();
        assert_eq!(stamp(&path("link")), stamp(&path("a-file-that-never-was")), "it is gone");
    }
}
