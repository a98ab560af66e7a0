//! Which scenarios: options that `run`, `sim` and `check` share.

use std::path::PathBuf;

use clap::Args;
use codec::ProtocolVersion;
use conformance::{
    requirements::Requirements,
    suite::{self, File, LoadError, Selection},
};

/// Which scenarios.
///
/// Several values of one option select what fits any of them; several options select what fits all.
#[derive(Args)]
pub(crate) struct Chosen {
    /// Files and folders; without any, the scenarios that are built in.
    paths: Vec<PathBuf>,
    /// Only what claims this statement: MQTT-3.1.2-24. Repeatable.
    #[arg(long, value_name = "ID")]
    id: Vec<String>,
    /// Only what claims a statement of this section or a part of it: 3.3. Repeatable.
    #[arg(long, value_name = "SECTION")]
    section: Vec<String>,
    /// Only for this version: v3.1, v3.1.1, v3 (both) or v5. Repeatable.
    #[arg(long, value_name = "VERSION", value_parser = versions)]
    version: Vec<Versions>,
    /// Only files whose path has this part. Repeatable.
    #[arg(long, value_name = "PART")]
    path: Vec<String>,
    /// Show what would be played, and play nothing.
    #[arg(long)]
    pub(crate) list: bool,
}

#[derive(Clone)]
struct Versions(Vec<ProtocolVersion>);

fn versions(name: &str) -> Result<Versions, String> {
    suite::versions_named(name).map(Versions).ok_or_else(|| "v3.1, v3.1.1, v3 or v5".to_owned())
}

impl Chosen {
    /// The files, not yet selected.
    pub(crate) fn files(&self) -> Result<Vec<File>, LoadError> {
        if self.paths.is_empty() { suite::built_in() } else { suite::load(&self.paths) }
    }

    /// What to play of the files: something.
    pub(crate) fn of<'a>(
        &self,
        files: &'a [File],
        requirements: &Requirements,
    ) -> Result<Vec<(&'a File, ProtocolVersion)>, &'static str> {
        let selection = Selection {
            versions: self.version.iter().flat_map(|versions| versions.0.clone()).collect(),
            ids: self.id.clone(),
            sections: self.section.clone(),
            paths: self.path.clone(),
        };
        let chosen = selection.choose(files, requirements);
        if chosen.is_empty() { Err("no scenario fits the options") } else { Ok(chosen) }
    }
}

/// Prints what is chosen; `live` marks what a live run leaves out.
pub(crate) fn list(chosen: &[(&File, ProtocolVersion)], live: bool) {
    for (file, version) in chosen {
        let skipped = if live && file.scenario.core_only { " (skipped: core-only)" } else { "" };
        let ids = file.scenario.ids(*version).join(" ");
        println!("{} ({}) {ids}{skipped}", file.name(), suite::version_name(*version));
    }
}
