//! The log: its lines, and who reads it slowly or not at all.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    os::unix::net::UnixListener,
    process::Stdio,
};

use codec::{Packet, QoS};
use serde_json::Value;

use crate::support::{Broker, Client, program, text, until};

const PLAIN: &str = "listen = [\"tcp://127.0.0.1:0\"]\n[sys]\ninterval_s = 0\n";

/// One line for each connect and disconnect, with who, where, why, how long and how much.
#[test]
fn lines_tell_of_connects_and_ends() {
    for format in ["text", "json"] {
        let broker = Broker::start(&format!("{PLAIN}[log]\nformat = \"{format}\"\n"));
        let address = broker.addresses()[0];
        let mut client = Client::knock(address, "we\nird", Some(("alice", "s3cret")));
        assert!(matches!(client.next(), Some(Packet::ConnAck(_))));
        client.subscribe("t", QoS::AtMostOnce);
        client.publish("u", b"x", false);
        client.publish("t", b"x", false);
        drop(client);
        // A client whose first packet is none of MQTT.
        drop(std::net::TcpStream::connect(address).map(|mut stream| {
            use std::io::Write as _;
            stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            let _ = stream.read(&mut [0; 10]);
        }));
        let end = broker.line(&["disconnected", "ird"]);
        let refused = broker.line(&["refused"]);
        assert!(!broker.log().contains("s3cret"));
        if format == "text" {
            let start =
                broker.line(&["connected client=\"we\\nird\" user=\"alice\" peer=127.0.0.1:"]);
            assert!(
                start.contains("version=\"5.0\" session_present=false keep_alive_s=0"),
                "{start}"
            );
            for wanted in [
                "cause=\"connection lost\"",
                "lasted_s=0 messages_in=2 messages_out=1",
                "listener=\"tcp://127.0.0.1:0\"",
            ] {
                assert!(end.contains(wanted), "{wanted}\n{end}");
            }
            assert!(refused.contains("cause=\"rule broken:"), "{refused}");
            continue;
        }
        let end: Value = serde_json::from_str(&end).unwrap();
        let parts = ["message", "client", "user", "cause", "level"].map(|part| end[part].clone());
        assert_eq!(parts, ["disconnected", "we\nird", "alice", "connection lost", "INFO"]);
        assert_eq!((&end["messages_in"], &end["messages_out"]), (&2.into(), &1.into()));
        let all_json = broker.log().lines().all(|line| serde_json::from_str::<Value>(line).is_ok());
        assert!(all_json);
    }
}

/// Clients, many of them, so that there is much to log, and one that gets its messages meanwhile.
fn work(broker: &Broker) {
    let address = broker.addresses()[0];
    let mut client = Client::connect(address, "worker");
    client.subscribe("t", QoS::AtMostOnce);
    for round in 0..300 {
        drop(Client::connect(address, &format!("{}-{round}", "x".repeat(1000))));
    }
    client.publish("u", b"x", false);
    client.ping();
}

/// Nobody reads standard error: the pipe is full soon, and the broker goes on.
#[test]
fn a_log_that_nobody_reads_holds_nobody_up() {
    let mut broker = Broker::start_with(PLAIN, |command| {
        command.stderr(Stdio::piped());
    });
    work(&broker);
    // Nor does an end of the reader.
    drop(broker.child.stderr.take());
    work(&broker);
    broker.said(&["stop"]);
    assert!(broker.ended().success());
}

#[test]
fn a_full_disk_for_the_log_holds_nobody_up() {
    let mut broker = Broker::start_with(PLAIN, |command| {
        command.stderr(File::options().write(true).open("/dev/full").unwrap());
    });
    work(&broker);
    broker.said(&["stop"]);
    assert!(broker.ended().success());
}

/// Under systemd lines go to the journal, each with its level, behind a few that say whose they are.
#[test]
fn the_journal_is_told_levels() {
    let folder = tempfile::tempdir().unwrap();
    let journal = UnixListener::bind(folder.path().join("journal")).unwrap();
    let config = format!("{PLAIN}[log]\ntarget = \"journald\"\njournal = \"journal\"\n");
    let broker = Broker::start_in(folder, &config, |_| ());
    let lines = BufReader::new(journal.accept().unwrap().0).lines();
    let lines = &mut lines.map(|line| line.unwrap());
    let header: Vec<_> = lines.take(7).collect();
    assert_eq!(header, ["cairnmq", "", "6", "1", "0", "0", "0"]);
    let first = lines.next().unwrap();
    assert!(first.starts_with("<6> INFO CairnMQ starts version="), "{first}");
    broker.configure("workrs = 1");
    assert!(
        broker.failure(&["--socket", "cairnmq-data/control.sock", "reload"]).contains("workrs")
    );
    let wrong = lines.find(|line| line.contains("workrs")).unwrap();
    assert!(wrong.starts_with("<3>ERROR"), "{wrong}");
}

#[test]
fn without_a_journal_the_target_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = format!("{PLAIN}[log]\ntarget = \"journald\"\njournal = \"nowhere\"\n");
    fs::write(folder.path().join("c.toml"), config).unwrap();
    let output = program(&["--config", "c.toml"]).current_dir(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("set [log] target = \"stderr\""));
}

/// What is lost is counted.
#[test]
fn lines_that_are_lost_are_counted() {
    let broker = Broker::start(PLAIN);
    let lost = until("a status", || broker.rows(&["status"])[0]["log_lines_lost"].as_u64());
    assert_eq!(lost, 0);
}
