//! Every scenario that a live broker can be asked, over TCP against the real runtime: the traces
//! are those of the simulator.
#![allow(clippy::print_stderr, reason = "it says which scenarios failed")]

mod common;

use std::net::SocketAddr;

use runtime_mio::{Listener, Running, RuntimeConfig};
use session_core::{ShardConfig, ShardMap};

#[test]
fn a_live_broker_gives_the_traces_of_the_simulated_one() {
    let broker = start_broker(2);
    let address = broker.local_addrs()[0].expect("a TCP address");
    common::assert_traces_of_the_simulator(address);
    broker.shutdown();
    broker.join().expect("no worker panicked");
}

fn start_broker(shards: u16) -> Running {
    let map = ShardMap::new(shards, 2);
    let shards = map.all().map(|id| ShardConfig::new(id, map)).collect();
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = Listener::bind_tcp("tcp://test", anywhere).expect("a port is free");
    runtime_mio::start(RuntimeConfig::new(shards, vec![listener])).expect("threads are to be had")
}
