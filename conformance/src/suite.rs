//! Scenario files, on disk or built in, and which of them to play.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use codec::ProtocolVersion;

use crate::{
    embedded,
    lang::{self, ParseError, Scenario},
    requirements::Requirements,
};

/// A scenario and the file it was read from.
#[derive(Clone, Debug)]
pub struct File {
    /// Its path as found; of what is built in, the path below `spec-tests`.
    pub path: PathBuf,
    /// What it says.
    pub scenario: Scenario,
}

impl File {
    /// Its name wherever the suite lies: the path below `spec-tests`, without the ending.
    pub fn name(&self) -> String {
        let path = self.path.with_extension("").to_string_lossy().replace('\\', "/");
        path.rsplit_once("spec-tests/").map_or(path.clone(), |(_, name)| name.to_owned())
    }
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

/// The scenarios that this was built with.
///
/// # Errors
/// One cannot be parsed.
pub fn built_in() -> Result<Vec<File>, LoadError> {
    let scenarios = embedded::FILES.iter().filter(|(path, _)| path.ends_with(".scn"));
    scenarios.map(|(path, text)| parse(PathBuf::from(path), text)).collect()
}

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
    parse(path, &text)
}

fn parse(path: PathBuf, text: &str) -> Result<File, LoadError> {
    match lang::parse(text) {
        Ok(scenario) => Ok(File { path, scenario }),
        Err(error) => Err(LoadError::Parse(path, error)),
    }
}

/// Which scenarios to play, and for which versions. Of each list something must fit; an empty one
/// fits everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The version played.
    pub versions: Vec<ProtocolVersion>,
    /// A statement that the scenario claims for the version.
    pub ids: Vec<String>,
    /// The section of such a statement, or one around it: `3.3` has `3.3.2`.
    pub sections: Vec<String>,
    /// A part of the path.
    pub paths: Vec<String>,
}

impl Selection {
    /// What to play, in the order of the files.
    pub fn choose<'a>(
        &self,
        files: &'a [File],
        requirements: &Requirements,
    ) -> Vec<(&'a File, ProtocolVersion)> {
        let versions = |file| self.of(file, requirements).into_iter().map(move |v| (file, v));
        files.iter().flat_map(versions).collect()
    }

    /// The versions of a file that are selected.
    pub fn of(&self, file: &File, requirements: &Requirements) -> Vec<ProtocolVersion> {
        let path = file.path.to_string_lossy();
        if !fits(&self.paths, |part| path.contains(part)) {
            return Vec::new();
        }
        let mut versions = file.scenario.versions();
        versions.retain(|version| {
            let ids = file.scenario.ids(*version);
            let claimed = requirements.claimed(&file.scenario, *version);
            let is_in = |section: &str| {
                claimed.iter().any(|requirement| is_within(&requirement.section, section))
            };
            (self.versions.is_empty() || self.versions.contains(version))
                && fits(&self.ids, |id| ids.contains(&id))
                && fits(&self.sections, is_in)
        });
        versions
    }
}

fn fits(wanted: &[String], fit: impl Fn(&str) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(|wanted| fit(wanted))
}

/// Whether a section is this one or a part of it.
fn is_within(section: &str, around: &str) -> bool {
    section.strip_prefix(around).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The versions that a scenario, or an option, names by this.
pub fn versions_named(name: &str) -> Option<Vec<ProtocolVersion>> {
    use ProtocolVersion::{V5, V31, V311};
    Some(match name.strip_prefix('v').unwrap_or(name) {
        "3.1" => vec![V31],
        "3.1.1" => vec![V311],
        "3" => vec![V31, V311],
        "5" => vec![V5],
        "all" => vec![V31, V311, V5],
        _ => return None,
    })
}

/// The name of a version as scenarios write it.
pub fn version_name(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::V31 => "v3.1",
        ProtocolVersion::V311 => "v3.1.1",
        ProtocolVersion::V5 => "v5",
    }
}

#[cfg(test)]
mod tests {
    use codec::ProtocolVersion::{V5, V31, V311};

    use super::{Selection, built_in, is_within};
    use crate::requirements::Requirements;

    #[test]
    fn a_section_has_its_parts() {
        assert!(is_within("3.3.2.1", "3.3") && is_within("3.3", "3.3"));
        assert!(!is_within("3.30", "3.3") && !is_within("3", "3.3"));
    }

    #[test]
    fn what_is_selected_fits_every_option() {
        let files = built_in().expect("the suite parses");
        let requirements = Requirements::embedded();
        let selected = |selection: &Selection| {
            let chosen = selection.choose(&files, &requirements).into_iter();
            chosen.map(|(file, version)| (file.name(), version)).collect::<Vec<_>>()
        };
        let all = Selection::default();
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let path = Selection { paths: texts(&["all/3.12-ping/pingreq-is"]), ..all.clone() };
        let name = || "all/3.12-ping/pingreq-is-answered".to_owned();
        assert_eq!(selected(&path), [(name(), V31), (name(), V311), (name(), V5)]);
        let id = Selection { ids: texts(&["MQTT-3.12.4-1", "MQTT-0"]), ..path };
        assert!(!selected(&id).is_empty());
        let section = Selection { sections: texts(&["3.12"]), versions: vec![V5], ..id };
        assert_eq!(selected(&section), [(name(), V5)]);
        let none = Selection { sections: texts(&["3.13"]), ..section };
        assert_eq!(selected(&none), []);
        assert!(selected(&all).len() > 300);
    }
}
