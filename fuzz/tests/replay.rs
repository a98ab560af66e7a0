//! Replays every file of every corpus through its target, and every input that once broke one.

use std::{collections::BTreeSet, fs, path::Path};

/// The files of a folder, by name.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<(String, Vec<u8>)> = entries
        .map(|entry| {
            let entry = entry.expect("a readable folder");
            let bytes = fs::read(entry.path()).expect("a readable file");
            (entry.file_name().to_string_lossy().into_owned(), bytes)
        })
        .collect();
    files.sort();
    files
}

#[test]
fn every_corpus_file_is_replayed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (target, run) in fuzz::TARGETS {
        let corpus = files(&root.join("corpus").join(target));
        let seeds: BTreeSet<String> =
            fuzz::seeds::seeds(target).into_iter().map(|(name, _)| name).collect();
        let names: BTreeSet<String> = corpus.iter().map(|(name, _)| name.clone()).collect();
        assert!(seeds.is_subset(&names), "write the seeds: cargo run -p fuzz --example seeds");
        let regressions = files(&root.join("regressions").join(target));
        for (name, bytes) in corpus.into_iter().chain(regressions) {
            let done = std::panic::catch_unwind(|| run(&bytes));
            assert!(done.is_ok(), "{target} fails on {name}");
        }
    }
}

/// A seed that is refused at once is no start for a search.
#[test]
fn every_seed_is_a_packet() {
    for (name, bytes) in fuzz::seeds::seeds("decode") {
        let mut input = &bytes[1..];
        let packet = fuzz::framer(bytes[0]).decode(&mut input);
        assert!(matches!(packet, Ok(Some(_))), "{name}: {packet:?}");
        assert!(input.is_empty(), "{name}");
    }
}
