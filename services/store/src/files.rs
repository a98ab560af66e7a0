//! The files of the log: a seam, so that tests can lose what was not synced.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// Numbered segments, of which the last created is written to.
pub trait Files: Send {
    /// The numbers of all segments, ascending.
    ///
    /// # Errors
    /// The system's; so for all that follow.
    fn list(&mut self) -> io::Result<Vec<u64>>;

    /// The whole of a segment.
    #[allow(clippy::missing_errors_doc, reason = "said above")]
    fn read(&mut self, segment: u64) -> io::Result<Vec<u8>>;

    /// Creates a segment with these first bytes, durably, and writes to it from now on.
    #[allow(clippy::missing_errors_doc, reason = "said above")]
    fn create(&mut self, segment: u64, header: &[u8]) -> io::Result<()>;

    /// Appends to the last segment.
    #[allow(clippy::missing_errors_doc, reason = "said above")]
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes everything durable that was appended.
    #[allow(clippy::missing_errors_doc, reason = "said above")]
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts a segment to this length, and makes all of it durable.
    #[allow(clippy::missing_errors_doc, reason = "said above")]
    fn cut(&mut self, segment: u64, len: u64) -> io::Result<()>;

    /// Removes a segment.
    #[allow(clippy::missing_errors_doc, reason = "said above")]
    fn remove(&mut self, segment: u64) -> io::Result<()>;

    /// Puts bytes aside for whoever wants to look at them.
    #[allow(clippy::missing_errors_doc, reason = "said above")]
    fn quarantine(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;
}

/// How a disk fails, for tests of what happens then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// What is appended is kept back from the system until it is synced: whoever kills the process then
    /// sees what a power failure would leave.
    pub lose_unsynced: bool,
    /// After so many syncs, none succeeds any more.
    pub syncs_max: Option<u64>,
}

/// Segments in a directory of the file system.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    quarantine: PathBuf,
    current: Option<File>,
    /// What was appended and not synced, if it is kept back until then.
    kept_back: Option<Vec<u8>>,
    /// After so many syncs, none succeeds any more.
    syncs_left: Option<u64>,
}

impl Folder {
    /// Segments in this directory, which exists; damaged parts go to the other, which may not.
    pub fn new(path: PathBuf, quarantine: PathBuf) -> Self {
        Self { path, quarantine, current: None, kept_back: None, syncs_left: None }
    }

    /// Makes it behave as a disk does that fails; for tests.
    #[must_use]
    pub fn with_faults(self, faults: Faults) -> Self {
        let kept_back = faults.lose_unsynced.then(Vec::new);
        Self { kept_back, syncs_left: faults.syncs_max, ..self }
    }

    fn name(&self, segment: u64) -> PathBuf {
        self.path.join(format!("{segment:016x}.log"))
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Writes a file that only its owner may read, durably.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

impl Files for Folder {
    fn list(&mut self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".log"));
            numbers.extend(number.and_then(|number| u64::from_str_radix(number, 16).ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn read(&mut self, segment: u64) -> io::Result<Vec<u8>> {
        fs::read(self.name(segment))
    }

    fn create(&mut self, segment: u64, header: &[u8]) -> io::Result<()> {
        let path = self.name(segment);
        let made = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path);
        let written = made.and_then(|mut file| {
            file.write_all(header)?;
            file.sync_all()?;
            sync_folder(&self.path)?;
            Ok(file)
        });
        match written {
            Ok(file) => {
                self.current = Some(file);
                Ok(())
            }
            Err(error) => {
                // Half a segment is worse than none. What cannot be removed is found at the next start.
                let _ = fs::remove_file(&path);
                Err(error)
            }
        }
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.kept_back {
            Some(kept_back) => {
                kept_back.extend_from_slice(bytes);
                Ok(())
            }
            None => self.current()?.write_all(bytes),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        if let Some(left) = &mut self.syncs_left {
            *left = left.checked_sub(1).ok_or_else(|| io::Error::other("so the test wants it"))?;
        }
        if let Some(kept_back) = &mut self.kept_back {
            let bytes = std::mem::take(kept_back);
            self.current()?.write_all(&bytes)?;
        }
        self.current()?.sync_data()
    }

    fn cut(&mut self, segment: u64, len: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.name(segment))?;
        file.set_len(len)?;
        file.sync_all()
    }

    fn remove(&mut self, segment: u64) -> io::Result<()> {
        fs::remove_file(self.name(segment))
    }

    fn quarantine(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.quarantine)?;
        write_private(&self.quarantine.join(name), bytes)
    }
}

impl Folder {
    fn current(&mut self) -> io::Result<&mut File> {
        self.current.as_mut().ok_or_else(|| io::Error::other("no segment was created"))
    }
}
