//! The core under a runtime that is not its usual one: the example with tokio passes every scenario that a live broker
//! can be asked, with the traces of the simulator.
#![allow(clippy::print_stderr, reason = "it says which scenarios failed")]

use std::{path::Path, sync::mpsc, thread, time::Duration};

use conformance::{
    live::Patience,
    requirements::Requirements,
    run::{self, Options},
    sim::{Run, sweep},
    suite::{self, Selection},
};
use tokio::net::TcpListener;

#[path = "../../session-core/examples/tokio.rs"]
#[allow(dead_code, missing_docs, unreachable_pub, reason = "it is a program of its own")]
mod example;

#[test]
fn the_example_with_tokio_gives_the_traces_of_the_simulated_broker() {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
            sender.send(listener.local_addr().expect("it is bound")).expect("the test waits");
            example::serve(listener).await
        })
    });
    let spec_tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec-tests");
    let files = suite::load(&[spec_tests]).expect("the scenarios are readable");
    let options = Options {
        patience: Patience { answer: Duration::from_secs(20), quiet: Duration::from_millis(100) },
        jobs: 64,
        ..Options::new(receiver.recv().expect("it listens"))
    };
    let chosen = Selection::default().choose(&files, &Requirements::embedded());
    let run = run::run(&chosen, &options, |_| {}).expect("it is reachable");
    assert_eq!(run.stopped, None);
    let mut failed = 0;
    for played in &run.played {
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
    assert_eq!(failed, 0, "of {} scenarios and versions", run.played.len());
}
