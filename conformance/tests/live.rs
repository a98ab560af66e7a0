//! Every scenario that a live broker can be asked, over TCP against the real runtime: the traces
//! are those of the simulator.
#![allow(clippy::print_stderr, reason = "it says which scenarios failed")]

use std::{net::SocketAddr, path::Path, time::Duration};

use conformance::{
    live::Patience,
    requirements::Requirements,
    run::{self, Options},
    sim::{Run, sweep},
    suite::{self, Selection},
};
use runtime_mio::{Listener, Running, RuntimeConfig};
use session_core::{ShardConfig, ShardMap};

#[test]
fn a_live_broker_gives_the_traces_of_the_simulated_one() {
    let broker = start_broker(2);
    let spec_tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec-tests");
    let files = suite::load(&[spec_tests]).expect("the scenarios are readable");
    let options = Options {
        patience: Patience { answer: Duration::from_secs(20), quiet: Duration::from_millis(100) },
        jobs: 64,
        ..Options::new(broker.local_addrs()[0].expect("a TCP address"))
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
    broker.shutdown();
    broker.join().expect("no worker panicked");
    assert_eq!(failed, 0, "of {} scenarios and versions", all.len());
}

fn start_broker(shards: u16) -> Running {
    let map = ShardMap::new(shards, 2);
    let shards = map.all().map(|id| ShardConfig::new(id, map)).collect();
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = Listener::bind_tcp("tcp://test", anywhere).expect("a port is free");
    runtime_mio::start(RuntimeConfig::new(shards, vec![listener])).expect("threads are to be had")
}
