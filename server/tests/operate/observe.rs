//! Metrics, health and `$SYS`.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::Command,
};

use codec::{Packet, QoS};

use crate::support::{Broker, Client, get, until};

const HTTP: &str = "listen = [\"tcp://127.0.0.1:0\"]\n[http]\nlisten = [\"127.0.0.1:0\"]\n";

/// The value of a metric.
fn metric(address: SocketAddr, name: &str) -> Option<f64> {
    let text = get(address, "/metrics", "");
    let line = text.lines().find(|line| line.starts_with(&format!("{name} ")))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn metrics_count_what_was_done() {
    let broker = Broker::start(HTTP);
    let http = broker.http();
    let mut subscriber = broker.client("subscriber");
    subscriber.subscribe("t", QoS::AtMostOnce);
    let mut publisher = broker.client("publisher");
    publisher.publish("t", b"12345", true);
    assert!(matches!(subscriber.next(), Some(Packet::Publish(_))));
    for (name, wanted) in [
        ("cairnmq_connections", 2.0),
        ("cairnmq_sessions", 2.0),
        ("cairnmq_subscriptions", 1.0),
        ("cairnmq_publishes_received_total{qos=\"1\"}", 1.0),
        ("cairnmq_publishes_sent_total{qos=\"0\"}", 1.0),
        ("cairnmq_payload_bytes_received_total", 5.0),
        ("cairnmq_payload_bytes_sent_total", 5.0),
        ("cairnmq_messages_dropped_total{reason=\"queue_full\"}", 0.0),
        ("cairnmq_delivery_seconds_count", 1.0),
        ("cairnmq_store_full", 0.0),
    ] {
        assert_eq!(metric(http, name), Some(wanted), "{name}");
    }
    until("syncs are counted", || {
        let count = metric(http, "cairnmq_store_sync_seconds_count")?;
        let batches = metric(http, "cairnmq_store_batch_records_count")?;
        (count >= 1.0 && batches >= 1.0).then_some(())
    });
    let text = get(http, "/metrics", "");
    assert!(text.contains("content-type: application/openmetrics-text; version=1.0.0"), "{text}");
    assert!(text.ends_with("# EOF\n"));
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    for line in body.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok() && name.starts_with("cairnmq_"), "{line}");
    }
}

/// A scraper's own parser (PyPI `prometheus-client`, in `.venv`) finds nothing wrong, whatever clients are called.
#[test]
#[allow(clippy::print_stderr, reason = "whoever reads the result wants to know what was skipped")]
fn an_independent_parser_reads_the_metrics() {
    let python = concat!(env!("CARGO_MANIFEST_DIR"), "/../.venv/bin/python");
    let is_there = Command::new(python).args(["-c", "import prometheus_client"]).output();
    if !is_there.is_ok_and(|output| output.status.success()) {
        let is_required = std::env::var_os("CAIRNMQ_REQUIRE_CLIENTS").is_some();
        assert!(!is_required, "prometheus-client is not in .venv");
        return eprintln!("skipped: prometheus-client is not in .venv");
    }
    let broker =
        Broker::start(&format!("{HTTP}[limits]\nsession_queue_max = 1\n[sys]\ninterval_s = 1\n"));
    let mut away = broker.client("a \"b\"\n\\c");
    away.subscribe("t", QoS::AtLeastOnce);
    drop(away);
    until("it has gone", || broker.rows(&["clients"]).is_empty().then_some(()));
    let mut publisher = broker.client("publisher");
    (0..3).for_each(|_| publisher.publish("t", b"x", false));
    let http = broker.http();
    let text = until("queues are counted", || {
        let text = get(http, "/metrics", "");
        text.contains("cairnmq_client_messages_queued{").then_some(text)
    });
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    fs::write(broker.path("metrics"), body).unwrap();
    let script = "from prometheus_client.openmetrics.parser import text_string_to_metric_families as p\n\
                  all = {f.name: f for f in p(open('metrics').read())}\n\
                  print(all['cairnmq_client_messages_dropped'].samples[0].labels['client'].encode())\n\
                  print(all['cairnmq_delivery_seconds'].type, len(all))";
    let output = Command::new(python)
        .args(["-c", script])
        .current_dir(broker.folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{wrong}\n{body}");
    assert!(said.starts_with("b'a \"b\"\\n\\\\c'\nhistogram "), "{said}");
}

/// Names of clients are told of few, and may hold anything.
#[test]
fn who_loses_messages_is_told_by_name_and_bounded() {
    let config = format!("{HTTP}[limits]\nsession_queue_max = 1\n[sys]\ninterval_s = 1\n");
    let broker = Broker::start(&config);
    let mut publisher = broker.client("publisher");
    for n in 0..30 {
        let mut client = broker.client(&format!("slow \"{n}\"\n"));
        client.subscribe("t", QoS::AtLeastOnce);
    }
    until("they have gone", || (broker.rows(&["clients"]).len() == 1).then_some(()));
    (0..3).for_each(|_| publisher.publish("t", b"x", false));
    let http = broker.http();
    let text = until("queues are counted", || {
        let text = get(http, "/metrics", "");
        text.contains("cairnmq_client_messages_queued{").then_some(text)
    });
    for name in ["cairnmq_client_messages_queued{", "cairnmq_client_messages_dropped{"] {
        let count = text.lines().filter(|line| line.starts_with(name)).count();
        assert_eq!(count, 20, "{name}");
    }
    assert!(text.contains("client=\"slow \\\"1\\\"\\n\""), "{text}");
    assert_eq!(metric(http, "cairnmq_messages_dropped_total{reason=\"queue_full\"}"), Some(60.0));
}

#[test]
fn health_needs_no_token_and_metrics_do() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("token"), "s3cret\n").unwrap();
    let config = format!("{HTTP}token_file = \"token\"\n");
    let broker = Broker::start_in(folder, &config, |_| ());
    let http = broker.http();
    for path in ["/health/live", "/health/ready"] {
        let answer = get(http, path, "");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let tells = [env!("CARGO_PKG_VERSION"), "cairn", "hyper"];
        assert!(!tells.iter().any(|word| answer.to_lowercase().contains(word)), "{answer}");
    }
    for header in ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic s3cret\r\n"] {
        let answer = get(http, "/metrics", header);
        assert!(answer.starts_with("HTTP/1.1 401 "), "{header}: {answer}");
    }
    let answer = get(http, "/metrics", "Authorization: Bearer s3cret\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("cairnmq_sessions 0"));
    assert!(get(http, "/nothing", "").starts_with("HTTP/1.1 404 "));

    // The token changes with a reload, and so do the addresses.
    fs::write(broker.path("token"), "other").unwrap();
    broker.said(&["reload"]);
    let answer = get(http, "/metrics", "Authorization: Bearer other\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"));
    broker.configure("listen = [\"tcp://127.0.0.1:0\"]\n");
    broker.said(&["reload"]);
    until("nobody is there", || TcpStream::connect(http).is_err().then_some(()));
}

#[test]
fn a_full_disk_is_not_ready_but_alive() {
    let broker = Broker::start(&format!("{HTTP}[store]\nreserve_bytes = 9223372036854775807\n"));
    let http = broker.http();
    // The disk is looked at when something is written.
    let address = broker.addresses()[0];
    until("it is noticed", || {
        let mut client = Client::connect(address, "a");
        client.subscribe("t", QoS::AtLeastOnce);
        get(http, "/health/ready", "").starts_with("HTTP/1.1 503 ").then_some(())
    });
    assert!(get(http, "/health/ready", "").ends_with("the disk has no room\n"));
    assert!(get(http, "/health/live", "").starts_with("HTTP/1.1 200 "));
    assert_eq!(broker.failure(&["health"]), "cairnmq: the disk has no room\n");
}

/// Readers that read nothing, and requests that never end, hold up nobody but themselves.
#[test]
fn slow_readers_of_metrics_hold_nobody_up() {
    let broker = Broker::start(HTTP);
    let http = broker.http();
    let slow: Vec<TcpStream> = (0..40)
        .map(|n| {
            let mut stream = TcpStream::connect(http).unwrap();
            let request: &[u8] = match n % 2 {
                0 => b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
                _ => b"GET /metrics HTTP/1.1\r\nHost:",
            };
            (0..=n).for_each(|_| stream.write_all(request).unwrap());
            stream
        })
        .collect();
    let mut client = broker.client("a");
    client.publish("t", b"x", false);
    client.ping();
    assert!(get(http, "/health/ready", "").starts_with("HTTP/1.1 200 "));
    for mut stream in slow {
        stream.set_nonblocking(true).unwrap();
        let _ = stream.read(&mut [0; 10]);
    }
}

/// mosquitto's own, as its manual lists them.
const MOSQUITTO: &[&str] = &[
    "bytes/received",
    "bytes/sent",
    "clients/connected",
    "clients/expired",
    "clients/disconnected",
    "clients/maximum",
    "clients/total",
    "heap/current",
    "heap/maximum",
    "load/connections/1min",
    "load/bytes/received/5min",
    "load/bytes/sent/15min",
    "load/messages/received/1min",
    "load/messages/sent/1min",
    "load/publish/dropped/1min",
    "load/publish/received/1min",
    "load/publish/sent/1min",
    "load/sockets/1min",
    "messages/inflight",
    "messages/received",
    "messages/sent",
    "messages/stored",
    "publish/messages/dropped",
    "publish/messages/received",
    "publish/messages/sent",
    "publish/bytes/received",
    "publish/bytes/sent",
    "retained messages/count",
    "store/messages/count",
    "store/messages/bytes",
    "subscriptions/count",
    "shared_subscriptions/count",
    "version",
    "uptime",
];

#[test]
fn the_broker_publishes_what_mosquitto_does() {
    let broker =
        Broker::start("workers = 2\nlisten = [\"tcp://127.0.0.1:0\"]\n[sys]\ninterval_s = 1\n");
    let mut client = broker.client("watcher");
    client.publish("t", b"123", false);
    client.subscribe("$SYS/#", QoS::AtMostOnce);
    let mut seen = BTreeMap::new();
    until("all topics", || {
        let Some(Packet::Publish(publish)) = client.next() else { panic!("no PUBLISH") };
        let topic = publish.message.topic_str().trim_start_matches("$SYS/broker/").to_owned();
        let value = String::from_utf8(publish.message.payload().to_vec()).unwrap();
        seen.insert(topic, value);
        let all = MOSQUITTO.iter().all(|topic| seen.contains_key(*topic));
        // The first were published before the client was there.
        (all && seen["clients/connected"] == "1" && seen["publish/bytes/received"] == "3")
            .then_some(())
    });
    assert!(seen["uptime"].ends_with(" seconds"), "{seen:?}");
    assert!(seen["heap/current"].parse::<u64>().unwrap() > 1_000_000);
    assert!(seen["load/publish/received/1min"].contains('.'));
    assert_eq!(seen["subscriptions/count"], "1");

    // Switched off, and in no log of the store.
    broker.configure("workers = 2\nlisten = [\"tcp://127.0.0.1:0\"]\n[sys]\ninterval_s = 0\n");
    broker.said(&["reload"]);
}
