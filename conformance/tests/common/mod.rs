//! Every scenario against a live broker, and what differs from the simulator.

use std::{net::SocketAddr, path::Path, time::Duration};

use conformance::{
    live::Patience,
    requirements::Requirements,
    run::{self, Options},
    sim::{Run, sweep},
    suite::{self, Selection},
};

/// Plays every scenario that a live broker can be asked against this one: the traces are those of the simulator.
pub(crate) fn assert_traces_of_the_simulator(broker: SocketAddr) {
    let spec_tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec-tests");
    let files = suite::load(&[spec_tests]).expect("the scenarios are readable");
    let options = Options {
        patience: Patience { answer: Duration::from_secs(20), quiet: Duration::from_millis(100) },
        jobs: 64,
        ..Options::new(broker)
    };
    let chosen = Selection::default().choose(&files, &Requirements::embedded());
    let run = run::run(&chosen, &options, |_| {}).expect("it is reachable");
    assert_eq!(run.stopped, None);
    let all = run.played;
    let mut failed = 0;
    for played in &all {
        let Some(live) = &played.outcome else { continue };
        let simulated = sweep(&played.file.scenario, played.version, &[Run { shards: 1, seed: 0 }]);
        if *live != simulated {
            failed += 1;
            let (path, version) = (played.file.path.display(), suite::version_name(played.version));
            let failure = live.failure.as_ref().map(ToString::to_string).unwrap_or_default();
            eprintln!("{path} ({version})\n  {failure}\n-- live\n{}", live.trace);
            eprintln!("-- simulated\n{}", simulated.trace);
        }
    }
    assert_eq!(failed, 0, "of {} scenarios and versions", all.len());
}
