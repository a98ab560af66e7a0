//! Another configuration while clients are connected: all of it, or nothing.

use std::{fs, net::TcpStream, os::unix::net::UnixDatagram};

use codec::{Packet, QoS, ReasonCode};

use crate::support::{Broker, Client, PATIENCE, program, text, until};

const PLAIN: &str = "listen = [\"tcp://127.0.0.1:0\"]\n[sys]\ninterval_s = 0\n";

#[test]
fn listeners_limits_and_levels_change_and_clients_stay() {
    let broker = Broker::start(PLAIN);
    let first = broker.addresses()[0];
    let mut client = broker.client("stays");
    client.subscribe("t", QoS::AtLeastOnce);
    broker.configure(
        "listen = [\"tcp://127.0.0.1:0\", \"tcp://localhost:0\"]\n[limits]\npacket_bytes_max = 1000\n\
         [log]\nlevel = \"warn\"\n[sys]\ninterval_s = 0\n",
    );
    let changed = broker.said(&["reload"]);
    for wanted in ["limits.packet_bytes_max: 1048576 -> 1000", "log.level: \"info\" -> \"warn\""] {
        assert!(changed.contains(wanted), "{changed}");
    }
    let addresses = broker.addresses();
    assert!(addresses.len() > 1 && addresses.contains(&first), "{addresses:?}");
    let second = *addresses.iter().find(|address| **address != first).unwrap();
    let mut late = Client::knock(second, "late", None);
    let Some(Packet::ConnAck(ack)) = late.next() else { panic!("no CONNACK") };
    assert_eq!(ack.properties.maximum_packet_size(), Some(1000));
    assert!(!broker.log().contains("late"), "connects are no warnings");
    client.ping();

    // By signal; the second listener goes, and who came by it stays.
    broker.configure(PLAIN);
    broker.signal("-HUP");
    until("the second listener goes", || TcpStream::connect(second).is_err().then_some(()));
    broker.line(&["limits.packet_bytes_max: 1000 -> 1048576"]);
    late.ping();
    client.ping();
    assert_eq!(broker.addresses(), [first]);
    assert_eq!(broker.said(&["reload"]), "nothing has changed\n");
}

#[test]
fn a_broken_file_changes_nothing() {
    let broker = Broker::start(PLAIN);
    let mut client = broker.client("stays");
    let before = broker.addresses();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let wrong = [
        ("workrs = 3".to_owned(), "c.toml:1:1: unknown key `workrs`"),
        ("listen = [\"tcp://0.0.0.0:0\"]".to_owned(), "can be reached from other machines"),
        ("[access]\nrules = \"no.toml\"".to_owned(), "cannot read no.toml"),
        (format!("listen = [\"tcp://{taken}\", \"tcp://127.0.0.1:0\"]"), "Address already in use"),
        (format!("[http]\nlisten = [\"{taken}\"]"), "[http] cannot listen on"),
    ];
    for (config, wanted) in wrong {
        let config = format!("{config}\n[limits]\nretained_max = 7\n");
        broker.configure(&config);
        let said = broker.failure(&["reload"]);
        assert!(said.contains(wanted), "{wanted}\n{said}");
        broker.line(&["what was in force stays so", wanted]);
        assert_eq!(broker.addresses(), before);
        client.ping();
        broker.client("another").ping();
    }
    broker.configure("listen = [");
    broker.signal("-HUP");
    broker.line(&["what was in force stays so: c.toml:1:"]);
    fs::remove_file(broker.path("c.toml")).unwrap();
    broker.signal("-HUP");
    broker.line(&["what was in force stays so: cannot read c.toml"]);
    client.ping();
}

/// Once somebody decides who may connect, whoever came before has to come again; and the other way round.
#[test]
fn access_begins_and_ends() {
    let broker = Broker::start(PLAIN);
    let mut nobody = broker.client("nobody");
    add_user(&broker, "alice", "secret");
    broker.configure(&format!(
        "{PLAIN}[access]\nrules = \"rules\"\n[[access.provider]]\nkind = \"password\"\nfile = \"passwords\"\n"
    ));
    fs::write(
        broker.path("rules"),
        "[[rule]]\nallow = [\"publish\", \"subscribe\"]\nuser = \"alice\"\ntopics = \"a/#\"\n",
    )
    .unwrap();
    broker.said(&["reload"]);
    let Some(Packet::Disconnect(said)) = nobody.next() else { panic!("it is still there") };
    assert_eq!(said.reason, ReasonCode::NotAuthorized);
    let address = broker.addresses()[0];
    let mut wrong = Client::knock(address, "x", Some(("alice", "wrong")));
    let Some(Packet::ConnAck(ack)) = wrong.next() else { panic!("no CONNACK") };
    assert_eq!(ack.reason, ReasonCode::BadUserNameOrPassword);
    let mut alice = Client::knock(address, "x", Some(("alice", "secret")));
    let Some(Packet::ConnAck(ack)) = alice.next() else { panic!("no CONNACK") };
    assert!(!ack.reason.is_error());
    alice.subscribe("a/b", QoS::AtMostOnce);

    broker.configure(PLAIN);
    broker.said(&["reload"]);
    alice.subscribe("b", QoS::AtMostOnce);
    broker.client("nobody").ping();
}

pub(crate) fn add_user(broker: &Broker, user: &str, password: &str) {
    use std::io::Write as _;
    let path = broker.path("passwords");
    let mut child = program(&["passwd", "add", path.to_str().unwrap(), user])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{password}").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// What needs a restart is said, and changes nothing until then.
#[test]
fn what_needs_a_restart_says_so() {
    let broker = Broker::start(PLAIN);
    let memory = format!("{PLAIN}[store]\ndurability = \"memory\"\n");
    broker.configure(&memory);
    assert!(
        broker
            .failure(&["--socket", "cairnmq-data/control.sock", "reload"])
            .contains("by a restart only")
    );
    broker.configure(&format!("workers = 7\n{PLAIN}[store]\ndata_dir = \"elsewhere\"\n[control]\nsocket = \"cairnmq-data/control.sock\"\n"));
    let changed = broker.said(&["reload"]);
    assert!(changed.contains("(in force after a restart)"), "{changed}");
    assert!(changed.contains("workers: nothing -> 7"), "{changed}");
    assert!(!broker.path("elsewhere").exists());
}

/// systemd hears when clients are served, that workers answer, of a reload, and of the end.
#[test]
fn systemd_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = |wanted: &str| {
        until(wanted, || {
            let mut buffer = [0; 1024];
            let count = socket.recv(&mut buffer).unwrap();
            let said = text(&buffer[..count]);
            said.lines().any(|line| line == wanted).then_some(())
        });
    };
    let path = folder.path().join("notify");
    let mut broker = Broker::start_with(PLAIN, |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    });
    hear("READY=1");
    hear("WATCHDOG=1");
    broker.said(&["reload"]);
    hear("RELOADING=1");
    hear("READY=1");
    hear("WATCHDOG=1");
    broker.signal("-TERM");
    hear("STOPPING=1");
    assert!(broker.ended().success());
}

/// The form of the log, the control socket and how the store works change too.
#[test]
fn the_rest_changes_without_a_restart() {
    let broker = Broker::start(PLAIN);
    let mut client = broker.client("a");
    broker.configure(&format!(
        "{PLAIN}[log]\nformat = \"json\"\n[control]\nsocket = \"other.sock\"\n\
         [store]\ndurability = \"interval\"\ninterval_ms = 5\n"
    ));
    let said = broker.said(&["--socket", "cairnmq-data/control.sock", "reload"]);
    assert!(
        said.contains("log.format: \"text\" -> \"json\"") && !said.contains("restart"),
        "{said}"
    );
    broker.line(&["{\"timestamp\"", "durability: interval"]);
    until("the old socket goes", || {
        (!broker.path("cairnmq-data/control.sock").exists()).then_some(())
    });
    client.publish("t", b"x", true);
    assert_eq!(broker.rows(&["retained"]).len(), 1, "by the new socket");
    broker.client("b").ping();
    broker.line(&["{\"timestamp\"", "\"message\":\"connected\",\"client\":\"b\""]);
}

/// Messages flow while everything that can change changes again and again: none is lost, and nobody is cut off.
#[test]
fn traffic_goes_on_while_the_configuration_changes() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("rules"),
        "[[rule]]\nallow = [\"publish\", \"subscribe\"]\ntopics = \"#\"\n",
    )
    .unwrap();
    let access = "[access]\nrules = \"rules\"\n[[access.provider]]\nkind = \"anonymous\"\n";
    let config = |round: u32| {
        let limit = if round.is_multiple_of(2) { 3 } else { 1024 };
        let listen = match round % 2 {
            0 => "\"tcp://127.0.0.1:0\"",
            _ => "\"tcp://localhost:0\", \"tcp://127.0.0.1:0\"",
        };
        format!(
            "workers = 2\nlisten = [{listen}]\n[sys]\ninterval_s = {round}\n[limits]\nlink_in_flight_max = {limit}\n\
             deliveries_per_turn_max = {limit}\nsession_queue_max = {}\n{access}",
            10_000 + round
        )
    };
    let broker = Broker::start_in(folder, &config(0), |_| ());
    let address = broker.addresses()[0];
    let mut subscriber = Client::connect(address, "subscriber");
    subscriber.subscribe("t/#", QoS::AtLeastOnce);
    let total = 3000_u32;
    let publisher = std::thread::spawn(move || {
        let mut client = Client::connect(address, "publisher");
        for number in 0..total {
            client.publish(&format!("t/{}", number % 7), &number.to_be_bytes(), false);
        }
    });
    let reader = std::thread::spawn(move || {
        let mut got = std::collections::BTreeSet::new();
        while got.len() < total as usize {
            let Some(Packet::Publish(publish)) = subscriber.next() else { panic!("cut off") };
            let id = publish.packet_id.unwrap();
            got.insert(publish.message.payload().to_vec());
            subscriber.send(&Packet::PubAck(codec::Ack::success(id)));
        }
    });
    let mut round = 0;
    while !(publisher.is_finished() && reader.is_finished()) {
        round += 1;
        broker.configure(&config(round));
        let changed = broker.said(&["reload"]);
        assert!(changed.contains("limits.session_queue_max"), "{changed}");
    }
    publisher.join().unwrap();
    reader.join().unwrap();
    assert!(round > 2, "it was over before anything changed: {round}");
}
