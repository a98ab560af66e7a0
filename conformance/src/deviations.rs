//! What is known of a broker: where it does otherwise than the scenarios demand.

use codec::ProtocolVersion;
use serde::Deserialize;

use crate::{
    requirements::{Requirement, Requirements, Table},
    suite::{self, File},
};

/// A broker's deviations.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deviations {
    /// The broker's name.
    pub broker: String,
    /// Its version; another one may do otherwise.
    pub version: String,
    /// What it does.
    #[serde(default, rename = "deviation")]
    pub all: Vec<Deviation>,
}

/// One thing that a broker does.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deviation {
    /// What it does, in a sentence.
    pub does: String,
    /// The statements that say otherwise: `MQTT-3.1.4-3` of 5.0, `MQTT-3.1.4-2 of 3.1.1`.
    pub statements: Vec<String>,
    /// The scenarios that fail for it: a name, then the versions unless it is all.
    pub scenarios: Vec<String>,
    /// Whether the standard leaves it to the broker: then it is an option and no deviation.
    #[serde(default)]
    pub allowed: bool,
    /// Whether it shows in some runs only.
    #[serde(default)]
    pub sometimes: bool,
}

impl Deviations {
    /// Reads a file, in TOML.
    ///
    /// # Errors
    /// The place, and what is wrong there.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    /// Why a scenario is known to fail.
    pub fn of(&self, file: &File, version: ProtocolVersion) -> Option<&Deviation> {
        let name = file.name();
        self.all.iter().find(|deviation| deviation.covers(&name, version))
    }

    /// What in the file speaks of no scenario and no statement that there is.
    pub fn mistakes(&self, files: &[File], requirements: &Requirements) -> Vec<String> {
        let mut mistakes = Vec::new();
        for deviation in &self.all {
            for statement in &deviation.statements {
                if found(requirements, statement).is_none() {
                    mistakes.push(format!("{statement}: no such statement"));
                }
            }
            for entry in &deviation.scenarios {
                let (name, versions) = taken_apart(entry);
                let file = files.iter().find(|file| file.name() == name);
                let plays =
                    |version| file.is_some_and(|f| f.scenario.versions().contains(&version));
                let is_right = versions.is_some_and(|versions| versions.into_iter().all(plays));
                if file.is_none() || !is_right {
                    mistakes.push(format!("{entry}: no such scenario, or not for this version"));
                }
            }
        }
        mistakes
    }
}

impl Deviation {
    fn covers(&self, name: &str, version: ProtocolVersion) -> bool {
        self.scenarios.iter().any(|entry| {
            let (known, versions) = taken_apart(entry);
            known == name
                && versions
                    .is_some_and(|versions| versions.is_empty() || versions.contains(&version))
        })
    }

    /// The statements that are known.
    pub fn requirements<'a>(&self, requirements: &'a Requirements) -> Vec<&'a Requirement> {
        self.statements.iter().filter_map(|statement| found(requirements, statement)).collect()
    }
}

/// The name in an entry, and its versions if all of them are versions.
fn taken_apart(entry: &str) -> (&str, Option<Vec<ProtocolVersion>>) {
    let mut words = entry.split_whitespace();
    let name = words.next().unwrap_or_default();
    let versions: Option<Vec<_>> = words.map(suite::versions_named).collect();
    (name, versions.map(|versions| versions.concat()))
}

fn found<'a>(requirements: &'a Requirements, statement: &str) -> Option<&'a Requirement> {
    match statement.strip_suffix(" of 3.1.1") {
        Some(id) => requirements.get(Table::V3, id),
        // Names that only the table of 3.1.1 has need not say so.
        None => requirements
            .get(Table::V5, statement)
            .or_else(|| requirements.get(Table::V3, statement).filter(|r| !r.id.starts_with('M'))),
    }
}
