//! What once led to a mistake leads to none; `bugs` shows that each trace still could.

use std::{fs, path::Path};

use conformance::traces::Trace;

#[test]
fn no_trace_breaks_anything() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec-tests/traces");
    let mut replayed = 0;
    for entry in fs::read_dir(folder).expect("there are traces") {
        let path = entry.expect("readable").path();
        let text = fs::read_to_string(&path).expect("readable");
        let trace: Trace = text.parse().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(text, trace.to_string(), "{} is written as it is read", path.display());
        assert_eq!(trace.replay(), Ok(()), "{}", path.display());
        replayed += 1;
    }
    assert!(replayed >= 25, "{replayed} traces");
}
