//! Files that are read again when they change.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime},
};

use tracing::{error, info};

/// How often files are looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// Files that belong together, and what reads them again: all of it, or nothing and why not.
pub(crate) struct Watched {
    /// What they are, for the log.
    pub(crate) what: String,
    /// The files.
    pub(crate) files: Vec<PathBuf>,
    /// Reads them.
    pub(crate) reload: Box<dyn Fn() -> Result<(), Vec<String>> + Send>,
}

/// Looks at the files from now on. A change that is still being written may be read in part; then it is wrong, the old
/// state stays, and the next look reads the whole.
pub(crate) fn start(all: Vec<Watched>) -> Result<(), String> {
    let watch = move || {
        let mut stamps: Vec<Vec<Stamp>> =
            all.iter().map(|watched| stamp_all(&watched.files)).collect();
        loop {
            thread::sleep(PERIOD);
            for (watched, before) in all.iter().zip(&mut stamps) {
                let now = stamp_all(&watched.files);
                if now != *before {
                    *before = now;
                    read_again(watched);
                }
            }
        }
    };
    let thread = thread::Builder::new().name("watch".into()).spawn(watch);
    thread.map(drop).map_err(|error| format!("cannot start a thread: {error}"))
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
