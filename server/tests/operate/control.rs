//! `cairnmq ctl` and `cairnmq drain`.

use std::{fs, os::unix::fs::PermissionsExt};

use codec::{Packet, QoS, ReasonCode};

use crate::{
    reload::add_user,
    support::{Broker, Client, program, text, until},
};

const PLAIN: &str = "listen = [\"tcp://127.0.0.1:0\"]\n[sys]\ninterval_s = 0\n";

#[test]
fn rows_tell_who_is_there_and_what_they_have() {
    let broker = Broker::start(&format!("workers = 2\n{PLAIN}"));
    let mut clients: Vec<Client> = (0..5).map(|n| broker.client(&format!("client-{n}"))).collect();
    clients[0].subscribe("a/+", QoS::AtLeastOnce);
    clients[0].subscribe("$share/g/b", QoS::AtMostOnce);
    clients[1].publish("a/b", b"12345", true);
    assert!(matches!(clients[0].next(), Some(Packet::Publish(_))));
    drop(clients.pop());
    until("the last one has gone", || (broker.rows(&["clients"]).len() == 4).then_some(()));

    let found = broker.rows(&["clients", "--match", "client-1"]);
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0]["in"], &found[0]["version"]), (&1.into(), &"5.0".into()));
    assert_eq!(broker.rows(&["clients", "--max", "2"]).len(), 2);
    let client = &broker.rows(&["client", "client-0"])[0];
    assert_eq!(client["filters"], serde_json::json!(["$share/g/b", "a/+"]));
    assert_eq!((&client["out"], &client["in_flight"]), (&1.into(), &1.into()));
    assert_eq!(client["expiry_s"], 3600);
    let sessions = broker.rows(&["sessions"]);
    let away: Vec<_> = sessions.iter().filter(|row| row["connected"] == false).collect();
    assert_eq!((sessions.len(), away.len()), (5, 1));
    assert!(away[0]["ends_in_s"].as_u64().is_some_and(|left| left > 3500), "{away:?}");
    assert_eq!(broker.rows(&["subscriptions"]).len(), 2);
    assert_eq!(broker.rows(&["subscriptions", "--client", "client-0"]).len(), 2);
    let retained = broker.rows(&["retained"]);
    assert_eq!((&retained[0]["topic"], &retained[0]["payload_bytes"]), (&"a/b".into(), &5.into()));
    assert_eq!(broker.rows(&["retained", "--topic", "x/#"]).len(), 0);
    let status = &broker.rows(&["status"])[0];
    let numbers = ["connections", "sessions", "subscriptions", "retained", "workers"];
    assert_eq!(numbers.map(|name| status[name].as_u64().unwrap()), [4, 5, 2, 1, 2]);
    assert_eq!(broker.said(&["health"]), "ready\n");
    let table = broker.said(&["clients"]);
    assert!(table.starts_with("CLIENT    USER  ADDRESS"), "{table}");
    assert_eq!(table.lines().count(), 5);
    assert_eq!(broker.failure(&["client", "nobody"]), "cairnmq: nobody has no session\n");
}

#[test]
fn clients_are_kicked_and_sessions_ended() {
    let broker = Broker::start(PLAIN);
    let mut client = broker.client("a");
    assert_eq!(broker.said(&["kick", "a"]), "a is disconnected\n");
    let Some(Packet::Disconnect(said)) = client.next() else { panic!("no DISCONNECT") };
    assert_eq!(said.reason, ReasonCode::AdministrativeAction);
    assert_eq!(broker.rows(&["sessions"]).len(), 1, "the session stays");
    assert_eq!(broker.failure(&["kick", "a"]), "cairnmq: a is not there\n");
    assert_eq!(broker.said(&["end-session", "a"]), "the session of a is over\n");
    assert_eq!(broker.rows(&["sessions"]).len(), 0);
    broker.line(&["disconnected by the administrator, 0x98"]);
}

/// Whose queue is long, and who loses messages, is told by name.
#[test]
fn the_top_names_who_is_slow() {
    let broker = Broker::start(&format!("{PLAIN}[limits]\nsession_queue_max = 3\n"));
    let mut slow = broker.client("slow");
    slow.subscribe("#", QoS::AtLeastOnce);
    drop(slow);
    until("it has gone", || broker.rows(&["clients"]).is_empty().then_some(()));
    let mut publisher = broker.client("publisher");
    (0..10).for_each(|_| publisher.publish("t", b"x", false));
    let queued = &broker.rows(&["top"])[0];
    assert_eq!((&queued["client"], &queued["queued"]), (&"slow".into(), &3.into()));
    let dropped = &broker.rows(&["top", "dropped"])[0];
    assert_eq!((&dropped["client"], &dropped["dropped"]), (&"slow".into(), &7.into()));
    assert_eq!(dropped["reason"], "queue_full");
    let line = broker.line(&["the session's queue is full"]);
    assert!(line.contains("client=\"slow\" reason=\"queue_full\" count=1"), "{line}");
    let lines = broker.log().lines().filter(|line| line.contains("queue is full")).count();
    assert_eq!(lines, 1, "one line in ten seconds");
}

#[test]
fn one_client_is_traced_whatever_the_level_is() {
    let broker = Broker::start(&format!("{PLAIN}[log]\nlevel = \"error\"\n"));
    let mut one = broker.client("one");
    let mut other = broker.client("other");
    broker.said(&["trace", "--client", "one"]);
    broker.said(&["trace", "--topic", "watched/#"]);
    assert_eq!(broker.rows(&["trace"]).len(), 2);
    one.publish("from/one", b"secret", false);
    other.publish("from/other", b"secret", false);
    other.publish("watched/x", b"secret", false);
    broker.line(&["< PUBLISH \"from/one\" id=9 qos=1", "bytes=6"]);
    broker.line(&["> PUBACK id=9"]);
    broker.line(&["< PUBLISH \"watched/x\""]);
    broker.said(&["trace", "--off"]);
    one.publish("from/one/later", b"x", false);
    let log = broker.log();
    for unwanted in ["from/other", "later", "secret"] {
        assert!(!log.contains(unwanted), "{unwanted}\n{log}");
    }
    assert!(broker.failure(&["trace", "--topic", "a/#/b"]).contains("is no Topic Filter"));
    assert!(broker.failure(&["trace", "--address", "x"]).contains("`x`"));
}

#[test]
fn clients_are_blocked_and_refusals_shown() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("rules"),
        "[[rule]]\nallow = [\"publish\", \"subscribe\"]\ntopics = \"#\"\n",
    )
    .unwrap();
    fs::write(folder.path().join("passwords"), "").unwrap();
    let config = format!(
        "{PLAIN}[access]\nrules = \"rules\"\n[[access.provider]]\nkind = \"password\"\nfile = \"passwords\"\n"
    );
    let broker = Broker::start_in(folder, &config, |_| ());
    add_user(&broker, "alice", "secret");
    broker.said(&["reload"]);
    let address = broker.addresses()[0];
    let knock = || Client::knock(address, "a", Some(("alice", "secret")));
    let reason = |client: &mut Client| match client.next() {
        Some(Packet::ConnAck(ack)) => ack.reason,
        other => panic!("{other:?}"),
    };
    let mut alice = knock();
    assert_eq!(reason(&mut alice), ReasonCode::Success);
    broker.said(&["block", "--user", "alice", "--minutes", "5", "--note", "left the company"]);
    let Some(Packet::Disconnect(_)) = alice.next() else { panic!("it is still there") };
    assert_eq!(reason(&mut knock()), ReasonCode::Banned);
    let blocks = broker.rows(&["block"]);
    assert_eq!(
        (&blocks[0]["who"], &blocks[0]["note"]),
        (&"alice".into(), &"left the company".into())
    );
    let refusals = broker.rows(&["refusals"]);
    assert_eq!((&refusals[0]["user"], &refusals[0]["client"]), (&"alice".into(), &"a".into()));
    broker.said(&["unblock", "--user", "alice"]);
    assert_eq!(
        broker.failure(&["unblock", "--user", "alice"]),
        "cairnmq: there is no such block\n"
    );
    assert_eq!(reason(&mut knock()), ReasonCode::Success);

    let open = Broker::start(PLAIN);
    assert!(open.failure(&["block", "--client", "a"]).contains("needs [access]"));
}

/// The file says who may; nobody else gets in.
#[test]
fn the_socket_has_permissions_and_goes_with_the_broker() {
    let mut broker = Broker::start(&format!("{PLAIN}[control]\nsocket = \"s\"\nmode = \"0600\"\n"));
    let mode = fs::metadata(broker.path("s")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let second = program(&["--config", "c.toml", "--data-dir", "other"])
        .current_dir(broker.folder.path())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains("cannot make the control socket s"));
    broker.said(&["stop"]);
    assert!(broker.ended().success());
    assert!(!broker.path("s").exists());
    let said = broker.failure(&["status"]);
    assert!(said.contains("does the broker run?"), "{said}");
}

fn drained(server_reference: bool, arguments: &[&str]) -> (ReasonCode, Option<String>) {
    let config = match server_reference {
        true => format!(
            "workers = 2\n{PLAIN}[drain]\nserver_reference = \"elsewhere:1883\"\nbatch = 1\n"
        ),
        false => PLAIN.to_owned(),
    };
    let mut broker = Broker::start(&config);
    let mut clients: Vec<Client> = (0..3).map(|n| broker.client(&format!("client-{n}"))).collect();
    let drain = [&["drain", "--config", "c.toml"], arguments].concat();
    let output = program(&drain).current_dir(broker.folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).ends_with("drained; the broker ends\n"));
    assert!(broker.ended().success());
    let mut said = clients.iter_mut().map(|client| match client.next() {
        Some(Packet::Disconnect(said)) => {
            let server = said.properties.iter().find_map(|property| match property {
                codec::Property::ServerReference(server) => Some(server.to_string()),
                _ => None,
            });
            (said.reason, server)
        }
        other => panic!("{other:?}"),
    });
    let first = said.next().unwrap();
    assert!(said.all(|other| other == first));
    first
}

#[test]
fn a_drain_sends_clients_elsewhere_and_ends_the_broker() {
    assert_eq!(drained(false, &[]), (ReasonCode::ServerShuttingDown, None));
    let elsewhere = |server: &str| (ReasonCode::UseAnotherServer, Some(server.to_owned()));
    assert_eq!(drained(true, &[]), elsewhere("elsewhere:1883"));
    assert_eq!(drained(true, &["--server-reference", "third:1"]), elsewhere("third:1"));
}

/// A copy of the data directory of a broker that has stopped is a back-up: it can be checked, and served.
#[test]
fn a_back_up_is_a_copy() {
    let mut broker = Broker::start(PLAIN);
    let mut client = broker.client("a");
    client.subscribe("t", QoS::AtLeastOnce);
    client.publish("r", b"kept", true);
    drop(client);
    broker.said(&["stop"]);
    assert!(broker.ended().success());
    let folder = tempfile::tempdir().unwrap();
    copy(&broker.path("cairnmq-data"), &folder.path().join("cairnmq-data"));
    let copied = folder.path().join("cairnmq-data");
    let check = program(&["store", "check", copied.to_str().unwrap()]).output().unwrap();
    assert!(text(&check.stdout).ends_with("nothing is damaged\n"), "{}", text(&check.stdout));
    let restored = Broker::start_in(folder, PLAIN, |_| ());
    assert_eq!(restored.rows(&["sessions"])[0]["subscriptions"], 1);
    assert_eq!(restored.rows(&["retained"])[0]["topic"], "r");
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}
