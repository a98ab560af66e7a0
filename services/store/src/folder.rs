//! The data directory: whose it is, and who uses it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use crate::{
    StoreError,
    files::{sync_folder, write_private},
};

/// What the file `FORMAT` begins with.
const NAME: &str = "cairnmq data, format ";
/// The format that this version writes.
const FORMAT: &str = "1";

/// A data directory that this process has for itself.
#[derive(Debug)]
pub(crate) struct DataFolder {
    path: PathBuf,
    /// Unlocked by the system when it is closed, however the process ends.
    _lock: File,
}

impl DataFolder {
    /// Takes a directory; `create` makes it, or fills an empty one.
    pub(crate) fn take(path: &Path, create: bool) -> Result<Self, StoreError> {
        match fs::metadata(path) {
            Ok(found) if !found.is_dir() => return Err(StoreError::NotADirectory(path.into())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && create => {
                let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                made.and_then(|()| sync_folder(parent.unwrap_or(Path::new("."))))
                    .map_err(StoreError::io(format!("create {}", path.display())))?;
            }
            Err(error) => return Err(StoreError::io(format!("open {}", path.display()))(error)),
        }
        let is_known = known(path)?;
        let is_ours = is_known || (create && is_empty(path)?);
        if !is_ours {
            return Err(StoreError::Foreign(path.into()));
        }
        let lock = lock(path)?;
        let folder = Self { path: path.into(), _lock: lock };
        if !is_known {
            folder.fill()?;
        }
        Ok(folder)
    }

    fn fill(&self) -> Result<(), StoreError> {
        let failed = || format!("write to {}", self.path.display());
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(self.log())
            .map_err(StoreError::io(failed()))?;
        // The name is the last to appear: without it the directory is still seen as empty or foreign.
        let new = self.path.join("FORMAT.new");
        let text = format!("{NAME}{FORMAT}\n");
        write_private(&new, text.as_bytes())
            .and_then(|()| fs::rename(&new, self.path.join("FORMAT")))
            .and_then(|()| sync_folder(&self.path))
            .map_err(StoreError::io(failed()))
    }

    /// Makes the names in the directory durable.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        let tables = self.tables();
        for path in [&tables.join("keyspaces"), &tables, &self.path] {
            sync_folder(path).map_err(StoreError::io(format!("sync {}", path.display())))?;
        }
        Ok(())
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    pub(crate) fn tables(&self) -> PathBuf {
        self.path.join("tables")
    }

    pub(crate) fn quarantine(&self) -> PathBuf {
        self.path.join("quarantine")
    }

    /// Moves the tables to where damaged parts are kept.
    pub(crate) fn set_tables_aside(&self) -> Result<PathBuf, StoreError> {
        let quarantine = self.quarantine();
        let failed = || format!("set the tables aside in {}", quarantine.display());
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&quarantine)
            .map_err(StoreError::io(failed()))?;
        let free = (1..).map(|number| quarantine.join(format!("tables-{number}")));
        let Some(aside) = free.into_iter().find(|path| !path.exists()) else {
            return Err(StoreError::io(failed())(io::ErrorKind::AlreadyExists.into()));
        };
        fs::rename(self.tables(), &aside)
            .and_then(|()| sync_folder(&self.path))
            .map_err(StoreError::io(failed()))?;
        Ok(aside)
    }
}

/// Bytes that the file system of a directory has left.
pub(crate) fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Whether the directory is one of ours, of a format that this version reads.
fn known(path: &Path) -> Result<bool, StoreError> {
    let mut text = String::new();
    let name = path.join("FORMAT");
    match File::open(&name).and_then(|file| file.take(100).read_to_string(&mut text)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(false),
        Err(error) => return Err(StoreError::io(format!("read {}", name.display()))(error)),
    }
    let Some(format) = text.strip_prefix(NAME) else { return Ok(false) };
    match format.trim_end() {
        FORMAT => Ok(true),
        format => Err(StoreError::OtherVersion { path: path.into(), format: format.into() }),
    }
}

/// What a start that did not get far may have left counts as nothing.
fn is_empty(path: &Path) -> Result<bool, StoreError> {
    let failed = || format!("list {}", path.display());
    for entry in fs::read_dir(path).map_err(StoreError::io(failed()))? {
        let name = entry.map_err(StoreError::io(failed()))?.file_name();
        if !matches!(name.to_str(), Some("lock" | "log" | "FORMAT.new" | "lost+found")) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let name = path.join("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&name);
    let file = file.map_err(StoreError::io(format!("open {}", name.display())))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked(path.into())),
        Err(TryLockError::Error(error)) => {
            Err(StoreError::io(format!("lock {}", name.display()))(error))
        }
    }
}
