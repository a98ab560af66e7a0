//! The core under a runtime that is not its usual one: the example with tokio passes every scenario that a live broker
//! can be asked, with the traces of the simulator.
#![allow(clippy::print_stderr, reason = "it says which scenarios failed")]

mod common;

use std::{sync::mpsc, thread};

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
    common::assert_traces_of_the_simulator(receiver.recv().expect("it listens"));
}
