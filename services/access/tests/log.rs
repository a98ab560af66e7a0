//! What refusals write into the log. It is one test in a program of its own, since the log is one for all threads.

use std::{
    io,
    sync::{Arc, Mutex},
};

use access::{
    Access, AccessConfig, Attempt, Block, Blocked, Chain, Command, GuardConfig, Judges, Link,
    Policy, Provider, Verdict, Work,
};
use bytes::Bytes;
use codec::{Connect, ProtocolVersion, ReasonCode};
use session_core::{Origin, Request, Time, Transport};

struct Refusing;

impl Provider for Refusing {
    fn name(&self) -> &str {
        "keys"
    }

    fn work(&self) -> Work {
        Work::None
    }

    fn begin(&self, _: Time, _: &Attempt) -> Verdict {
        Verdict::Refuse { reason: ReasonCode::BadUserNameOrPassword, why: "says who".into() }
    }
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Buffer {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut self.0.lock().unwrap())).unwrap()
    }
}

fn login(client_id: &str) -> Box<Request> {
    let connect = Connect {
        version: ProtocolVersion::V5,
        bridge: false,
        clean_start: true,
        keep_alive_s: 0,
        client_id: client_id.into(),
        will: None,
        user_name: Some("alice".into()),
        password: Some(Bytes::from_static(b"geheim")),
        properties: std::iter::empty().collect(),
    };
    let origin = Origin {
        listener: "door".into(),
        peer: Some(([192, 0, 2, 7], 1234).into()),
        transport: Transport::Tls,
        certificates: Vec::new(),
        server_name: None,
        proxied: None,
    };
    Request::Authenticate { connect: Box::new(connect), origin: Box::new(origin) }.into()
}

/// A refusal is one line without secrets; a name with a line break cannot forge another one, and a storm of
/// refusals is a few lines.
#[test]
fn refusals_are_lines_of_the_log() {
    let log = Buffer::default();
    let to = log.clone();
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || to.clone())
        .init();
    let provider = Arc::new(Refusing);
    let link = Link { provider, on_error_skip: false, listeners: None };
    let judges =
        Judges { chain: Chain::new(vec![link]), policy: Policy::deny_all(), limits: Vec::new() };
    let guard = GuardConfig { failures: 0, ..GuardConfig::default() };
    let access = Access::start(AccessConfig { guard, ..AccessConfig::default() }, judges).unwrap();
    let ask = |now, client_id| access.ask(Time(now), login(client_id), |_| panic!("at once"));

    ask(0, "c1");
    let line = log.take();
    assert_eq!(line.lines().count(), 1, "{line}");
    for part in ["c1", "alice", "192.0.2.7", "door", "keys", "says who"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(!line.contains("geheim"), "{line}");

    let forged = "x\nINFO accepted client=root\u{1b}[2J";
    let block = Block { of: Blocked::ClientId(forged.into()), until: None, note: "".into() };
    access.command(Time(0), Command::Block(block));
    ask(0, forged);
    let line = log.take();
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(!line.contains('\u{1b}'), "{line}");

    for _ in 0..1000 {
        ask(0, "c1");
    }
    let storm = log.take();
    assert!(storm.lines().count() < 10, "{storm}");
    ask(60_000, "c1");
    let line = log.take();
    assert!(line.contains("left_out=997"), "it says how many are missing: {line}");
    assert!(!(storm + &line).contains("geheim"));
}
