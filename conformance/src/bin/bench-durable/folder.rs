//! The disk that data directories are on.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use crate::Result;
use crate::rig::broker::Folder;
use crate::rig::statistics::quantile;

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
