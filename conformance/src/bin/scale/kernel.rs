//! What the system takes for connections that nobody uses. Both ends are here, as they would be on
//! two machines.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    time::Duration,
};

use mio::{Events, Interest, Poll, Token, net};
use rustix::process::{Resource, getrlimit, setrlimit};
use socket2::SockRef;

use crate::{Case, Report, meter::processor_time};

/// The table of these.
const TABLE: &str = "Idle TCP connections over loopback";

/// Open files besides the connections.
const OTHER_FILES: u64 = 50;

/// All cases.
pub(crate) const CASES: [Case; 1] = [Case { name: "kernel", run: kernel }];

fn kernel(size: u32, report: &mut Report) {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let raised = setrlimit(Resource::Nofile, limit).is_ok();
    let files = limit.maximum.unwrap_or(u64::MAX);
    // As many as there are ports to connect from, beside those of others.
    if !raised || files < 2 * u64::from(size) + OTHER_FILES || size > 20_000 {
        return;
    }
    let before = slab();
    let mut took = Duration::ZERO;
    let (clients, servers) = connect(size, &mut took);
    let connected = slab();
    let mut servers: Vec<_> = servers.into_iter().map(net::TcpStream::from_std).collect();
    let mut poll = Poll::new().expect("an epoll");
    for (number, server) in servers.iter_mut().enumerate() {
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(server, Token(number), both).expect("registered");
    }
    let watched = slab();
    let each = |bytes: u64, of: u32| format!("{:.0}", bytes as f64 / f64::from(of));
    let ends = connected.saturating_sub(before);
    report.line(TABLE, "bytes of the kernel's slabs for each end", &each(ends, 2 * size));
    let epoll = watched.saturating_sub(connected);
    report.line(TABLE, "bytes more for an end that epoll watches", &each(epoll, size));
    let ns = u64::try_from(took.as_nanos()).expect("short");
    report.line(TABLE, "connect and accept together, ns", &each(ns, size));
    let took = pings(&mut poll, &clients, &mut servers);
    let ns = u64::try_from(took.as_nanos()).expect("short");
    let label = "two bytes found by epoll, read, and two written, ns";
    report.line(TABLE, label, &each(ns, size));
    // Without a good-bye, so that no port waits for a minute before it may be used again.
    for client in &clients {
        SockRef::from(client).set_linger(Some(Duration::ZERO)).expect("an option that all have");
    }
}

/// Both ends of so many connections.
fn connect(size: u32, took: &mut Duration) -> (Vec<TcpStream>, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let (mut clients, mut servers) = (Vec::new(), Vec::new());
    *took = processor_time(|| {
        for _ in 0..size {
            clients.push(TcpStream::connect(address).expect("a port to connect from"));
            let (server, _) = listener.accept().expect("just connected");
            server.set_nonblocking(true).expect("an option that all have");
            servers.push(server);
        }
    });
    (clients, servers)
}

/// Each client sends two bytes, and the other ends answer: what a PINGREQ costs without a broker.
fn pings(poll: &mut Poll, clients: &[TcpStream], servers: &mut [net::TcpStream]) -> Duration {
    let mut events = Events::with_capacity(1024);
    // So much was said since they were registered: that they can be written to.
    while poll.poll(&mut events, Some(Duration::ZERO)).is_ok() && !events.is_empty() {}
    clients.iter().for_each(|mut client| client.write_all(&[0xC0, 0]).expect("room"));
    let mut bytes = [0; 64];
    let mut answered = 0;
    let took = processor_time(|| {
        while answered < servers.len() {
            poll.poll(&mut events, None).expect("not interrupted");
            for event in events.iter().filter(|event| event.is_readable()) {
                let server = &mut servers[event.token().0];
                if matches!(server.read(&mut bytes), Ok(2)) {
                    server.write_all(&[0xD0, 0]).expect("room");
                    answered += 1;
                }
            }
        }
    });
    clients.iter().for_each(|mut client| client.read_exact(&mut bytes[..2]).expect("answered"));
    took
}

/// Bytes of the kernel's small objects, those of other programs included.
fn slab() -> u64 {
    let all = fs::read_to_string("/proc/meminfo").expect("Linux tells");
    let line = all.lines().find_map(|line| line.strip_prefix("Slab:")).expect("always there");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib * 1024
}
