//! Data directories, and the disk that they are on.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use crate::Result;
use crate::rig::statistics::quantile;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A directory that is removed in the end. A broker is to be dropped before it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(parent: &Path) -> Result<Folder> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("bench-durable-{}-{number}", std::process::id()));
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Folder(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Of all files in it.
    pub(crate) fn bytes(&self) -> u64 {
        conformance::folder::bytes_below(&self.0)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("bench-durable: {} is left behind: {error}", self.0.display());
        }
    }
}

/// What one sync costs here, without any broker.
pub(crate) fn describe_disk(parent: &Path) -> Result<String> {
    let folder = Folder::new(parent)?;
    let mut file = File::create(folder.path().join("file"))?;
    let mut times = Vec::new();
    for _ in 0..200 {
        let began = Instant::now();
        file.write_all(&[1; 4096])?;
        file.sync_data()?;
        times.push(began.elapsed().as_micros());
    }
    times.sort_unstable();
    let [p50, p99] = [0.5, 0.99].map(|part| quantile(&times, part));
    Ok(format!(
        "In {}, 4 KiB more in a file are synced within {p50} us (p50), {p99} us (p99).",
        parent.display()
    ))
}
