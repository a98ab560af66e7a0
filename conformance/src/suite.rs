//! Scenario files on disk.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use codec::ProtocolVersion;

use crate::lang::{self, ParseError, Scenario};

/// A scenario and the file it was read from.
#[derive(Clone, Debug)]
pub struct File {
    /// Its path as found.
    pub path: PathBuf,
    /// What it says.
    pub scenario: Scenario,
}

/// Why a suite cannot be read.
#[derive(Debug)]
pub enum LoadError {
    /// A file or folder cannot be read.
    Io(PathBuf, io::Error),
    /// A file is no scenario.
    Parse(PathBuf, ParseError),
    /// There is no scenario at all.
    Empty,
}

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Parse(path, error) => write!(f, "{}:{error}", path.display()),
            Self::Empty => f.write_str("no file that ends in .scn was found"),
        }
    }
}

impl std::error::Error for LoadError {}

/// Reads every `.scn` file in these files and folders, in the order of their paths.
///
/// # Errors
/// The first file that cannot be read or parsed.
pub fn load(paths: &[PathBuf]) -> Result<Vec<File>, LoadError> {
    let mut found = Vec::new();
    for path in paths {
        find(path, true, &mut found)?;
    }
    found.sort();
    found.dedup();
    if found.is_empty() {
        return Err(LoadError::Empty);
    }
    found.into_iter().map(read).collect()
}

fn find(path: &Path, is_named: bool, found: &mut Vec<PathBuf>) -> Result<(), LoadError> {
    let failed = |error| LoadError::Io(path.to_owned(), error);
    if fs::metadata(path).map_err(failed)?.is_dir() {
        for entry in fs::read_dir(path).map_err(failed)? {
            find(&entry.map_err(failed)?.path(), false, found)?;
        }
    } else if is_named || path.extension().is_some_and(|extension| extension == "scn") {
        found.push(path.to_owned());
    }
    Ok(())
}

fn read(path: PathBuf) -> Result<File, LoadError> {
    let text = fs::read_to_string(&path).map_err(|error| LoadError::Io(path.clone(), error))?;
    match lang::parse(&text) {
        Ok(scenario) => Ok(File { path, scenario }),
        Err(error) => Err(LoadError::Parse(path, error)),
    }
}

/// Which scenarios to play: those that fit every word.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    versions: Vec<ProtocolVersion>,
    words: Vec<String>,
}

impl Selection {
    /// A word is a version (`v5`), the id of a statement, or a part of a path.
    pub fn new(words: &[String]) -> Self {
        let mut selection = Self::default();
        for word in words {
            match word.as_str() {
                "v3.1" => selection.versions.push(ProtocolVersion::V31),
                "v3.1.1" => selection.versions.push(ProtocolVersion::V311),
                "v3" => selection.versions.extend([ProtocolVersion::V31, ProtocolVersion::V311]),
                "v5" => selection.versions.push(ProtocolVersion::V5),
                _ => selection.words.push(word.clone()),
            }
        }
        selection
    }

    /// The versions of a file that are selected.
    pub fn of(&self, file: &File) -> Vec<ProtocolVersion> {
        let path = file.path.to_string_lossy();
        let ids: Vec<_> = file.scenario.headers.iter().flat_map(|header| &header.ids).collect();
        if !self.words.iter().all(|word| ids.contains(&word) || path.contains(word.as_str())) {
            return Vec::new();
        }
        let mut versions = file.scenario.versions();
        versions.retain(|version| self.versions.is_empty() || self.versions.contains(version));
        versions
    }
}

/// The name of a version as scenarios write it.
pub fn version_name(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::V31 => "v3.1",
        ProtocolVersion::V311 => "v3.1.1",
        ProtocolVersion::V5 => "v5",
    }
}
