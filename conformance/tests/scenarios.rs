//! Every scenario in memory: on brokers of 1, 2 and 5 shards and with several seeds, which must all
//! give one trace. The trace is a snapshot beside the scenarios.
#![allow(clippy::print_stderr, reason = "it says which scenarios failed")]

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use conformance::{
    sim::{Run, sweep},
    suite::{self, File},
};

const RUNS: [Run; 9] = [
    Run { shards: 1, seed: 0 },
    Run { shards: 1, seed: 1 },
    Run { shards: 2, seed: 2 },
    Run { shards: 2, seed: 3 },
    Run { shards: 2, seed: 4 },
    Run { shards: 5, seed: 5 },
    Run { shards: 5, seed: 6 },
    Run { shards: 5, seed: 7 },
    Run { shards: 5, seed: 8 },
];

#[test]
fn every_scenario_gives_one_trace() {
    let root = spec_tests();
    let mut failed = Vec::new();
    for file in suite::load(std::slice::from_ref(&root)).expect("the scenarios are readable") {
        let name = snapshot_name(&root, &file.path);
        let fits = std::panic::catch_unwind(|| match traces(&file) {
            Ok(traces) => matches_snapshot(&root, &name, &traces),
            Err(failures) => {
                eprintln!("{failures}");
                false
            }
        });
        if !matches!(fits, Ok(true)) {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "{} failed: {}", failed.len(), failed.join(", "));
}

#[test]
fn every_snapshot_has_a_scenario() {
    let root = spec_tests();
    let files = suite::load(std::slice::from_ref(&root)).expect("the scenarios are readable");
    let known: BTreeSet<_> =
        files.iter().map(|file| snapshot_name(&root, &file.path) + ".snap").collect();
    let found = fs::read_dir(root.join("snapshots")).expect("there are snapshots");
    for entry in found {
        let name = entry.expect("readable").file_name().to_string_lossy().into_owned();
        assert!(known.contains(&name), "{name} belongs to no scenario: remove it");
    }
}

/// The traces of all versions of a scenario; how they failed otherwise.
fn traces(file: &File) -> Result<String, String> {
    let (mut traces, mut failures) = (String::new(), String::new());
    for version in file.scenario.versions() {
        let outcome = sweep(&file.scenario, version, &RUNS);
        let name = suite::version_name(version);
        if let Some(failure) = outcome.failure {
            let path = file.path.display();
            let _ = writeln!(failures, "{path} ({name})\n  {path}:{failure}\n{}", outcome.trace);
        }
        let _ = writeln!(traces, "== {name}\n{}", outcome.trace);
    }
    if failures.is_empty() { Ok(traces) } else { Err(failures) }
}

fn matches_snapshot(root: &Path, name: &str, traces: &str) -> bool {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(root.join("snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, traces));
    true
}

fn spec_tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec-tests")
}

fn snapshot_name(root: &Path, path: &Path) -> String {
    let path = path.strip_prefix(root).unwrap_or(path).with_extension("");
    path.to_string_lossy().replace(['/', '\\'], "__")
}
