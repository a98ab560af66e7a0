//! `cairnmq pub` and `cairnmq sub`, against the broker of the same program.

#[path = "operate/support.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdout, Output, Stdio},
};

use serde_json::Value;
use support::{Broker, program, text, until};

const PLAIN: &str = "listen = [\"tcp://127.0.0.1:0\"]\n[sys]\ninterval_s = 0\n";

fn url(broker: &Broker) -> String {
    format!("mqtt://{}", broker.addresses()[0])
}

fn publish(url: &str, arguments: &[&str]) -> Output {
    program(&[&["pub", "--url", url], arguments].concat()).output().unwrap()
}

/// A subscriber whose subscription is acknowledged.
struct Subscriber {
    child: Child,
    /// Absent once the pipe is closed.
    lines: Option<BufReader<ChildStdout>>,
}

impl Subscriber {
    fn start(broker: &Broker, url: &str, arguments: &[&str]) -> Self {
        let before = broker.rows(&["subscriptions"]).len();
        let arguments = [&["sub", "--url", url], arguments].concat();
        let mut child =
            program(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        until("the subscription", || {
            (broker.rows(&["subscriptions"]).len() > before).then_some(())
        });
        let lines = child.stdout.take().map(BufReader::new);
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.as_mut().unwrap().read_line(&mut line).unwrap();
        line.trim_end_matches('\n').to_owned()
    }

    fn end(mut self) -> (Option<i32>, String) {
        let status = until("it ends", || self.child.try_wait().unwrap());
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status.code(), said)
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn every_version_and_qos_goes_through() {
    let broker = Broker::start(PLAIN);
    let url = url(&broker);
    for version in ["3.1", "3.1.1", "5"] {
        for qos in ["0", "1", "2"] {
            let topic = format!("t/{version}/{qos}");
            let arguments = ["-t", &topic, "-q", qos, "--protocol", version, "-v", "-C", "2"];
            let mut subscriber = Subscriber::start(&broker, &url, &arguments);
            for payload in ["one", "two words"] {
                let arguments = ["-t", &topic, "-m", payload, "-q", qos, "--protocol", version];
                let output = publish(&url, &arguments);
                assert!(output.status.success(), "{}", text(&output.stderr));
                assert_eq!(subscriber.line(), format!("{topic} {payload}"));
            }
            assert_eq!(subscriber.end(), (Some(0), String::new()));
        }
    }
}

#[test]
fn properties_of_5_0_arrive() {
    let broker = Broker::start(PLAIN);
    let url = url(&broker);
    let arguments = ["-t", "t", "--json", "-C", "1", "-q", "1", "--subscription-id", "7"];
    let mut subscriber = Subscriber::start(&broker, &url, &arguments);
    let output = publish(
        &url,
        &[
            "-t",
            "t",
            "-m",
            "hällo",
            "-q",
            "1",
            "--content-type",
            "text/plain",
            "--response-topic",
            "answers",
            "--correlation-data",
            "42",
            "--message-expiry",
            "60",
            "--payload-format",
            "utf8",
            "--property",
            "a=b",
            "--property",
            "a=c=d",
            "--topic-alias",
            "1",
        ],
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    let got: Value = serde_json::from_str(&subscriber.line()).unwrap();
    for (name, wanted) in [
        ("payload", Value::from("hällo")),
        ("content_type", "text/plain".into()),
        ("response_topic", "answers".into()),
        ("correlation_data", "42".into()),
        ("payload_format", 1.into()),
        ("qos", 1.into()),
        ("subscription_ids", vec![7].into()),
        ("user_properties", serde_json::json!([["a", "b"], ["a", "c=d"]])),
    ] {
        assert_eq!(got[name], wanted, "{name}");
    }
    assert!(got["message_expiry"].as_u64().is_some_and(|left| left > 50));
}

#[test]
fn lines_and_files_are_published() {
    let broker = Broker::start(PLAIN);
    let url = url(&broker);
    let mut subscriber = Subscriber::start(&broker, &url, &["-t", "t", "-q", "2", "-F", "%l:%p"]);
    let mut child = program(&["pub", "--url", &url, "-t", "t", "--lines", "-q", "2"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"first\r\n").unwrap();
    assert_eq!(subscriber.line(), "5:first");
    (0..200).for_each(|n| writeln!(input, "{n}").unwrap());
    drop(input);
    for n in 0..200 {
        let number = n.to_string();
        assert_eq!(subscriber.line(), format!("{}:{number}", number.len()));
    }
    assert!(child.wait().unwrap().success());
    let file = broker.path("payload");
    fs::write(&file, "from a file").unwrap();
    let output = publish(&url, &["-t", "t", "-f", file.to_str().unwrap(), "--repeat", "2"]);
    assert!(output.status.success());
    assert_eq!([subscriber.line(), subscriber.line()], ["11:from a file", "11:from a file"]);
}

#[test]
fn retained_messages_come_and_go_and_a_will_is_left() {
    let broker = Broker::start(PLAIN);
    let url = url(&broker);
    assert!(publish(&url, &["-t", "r", "-m", "kept", "-r", "-q", "1"]).status.success());
    let got =
        program(&["sub", "--url", &url, "-t", "r", "-C", "1", "-F", "%p %r"]).output().unwrap();
    assert_eq!(text(&got.stdout), "kept 1\n");
    assert!(publish(&url, &["-t", "r", "--null", "-r", "-q", "1"]).status.success());
    let got = program(&["sub", "--url", &url, "-t", "r", "-C", "1", "-W", "1"]).output().unwrap();
    assert_eq!((got.status.code(), text(&got.stdout)), (Some(27), String::new()));

    let mut watcher = Subscriber::start(&broker, &url, &["-t", "gone/#", "-C", "1", "-v"]);
    let will = ["-t", "x", "-i", "mortal", "--will-topic", "gone/mortal", "--will-payload", "bye"];
    let mut mortal = Subscriber::start(&broker, &url, &will);
    mortal.child.kill().unwrap();
    assert_eq!(watcher.line(), "gone/mortal bye");
}

/// A publisher that the broker holds up waits, and all arrives.
#[test]
fn a_publisher_is_held_up() {
    let broker = Broker::start(&format!(
        "{PLAIN}[limits]\nbyte_rate_in = \"100000:1\"\nover_rate = \"pause\"\n"
    ));
    let url = url(&broker);
    let mut subscriber = Subscriber::start(&broker, &url, &["-t", "t", "-F", "%l"]);
    let payload = "x".repeat(10_000);
    let output = publish(&url, &["-t", "t", "-m", &payload, "--repeat", "30"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    (0..30).for_each(|_| assert_eq!(subscriber.line(), "10000"));
}

/// How a publisher ends: nobody's message is no failure, what cannot be sent brings no Will about.
#[test]
fn a_publisher_ends_in_good_order() {
    let broker = Broker::start(PLAIN);
    let url = url(&broker);
    for (more, said) in [("-v", "cairnmq: the broker took it; nobody subscribes\n"), ("-r", "")] {
        let output = publish(&url, &["-t", "nobody", "-m", "x", "-q", "1", more]);
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), said.to_owned()));
    }
    let mut watcher = Subscriber::start(&broker, &url, &["-t", "gone/#", "-v"]);
    let file = broker.path("payload");
    fs::write(&file, vec![0; 2 << 20]).unwrap();
    let file = file.to_str().unwrap();
    let output = publish(&url, &["-t", "t", "-f", file, "--will-topic", "gone/big"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("and the broker takes"), "{}", text(&output.stderr));
    assert!(publish(&url, &["-t", "gone/no", "-m", "Will", "-q", "1"]).status.success());
    assert_eq!(watcher.line(), "gone/no Will");
}

/// A password of a file comes before one of the environment, which is taken if there is no other.
#[test]
fn a_password_comes_from_where_nobody_sees_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret"), "right\n").unwrap();
    let secret = fs::File::open(folder.path().join("secret")).unwrap();
    let added = program(&["passwd", "add", "passwords", "alice"])
        .current_dir(folder.path())
        .stdin(secret)
        .output()
        .unwrap();
    assert!(added.status.success(), "{}", text(&added.stderr));
    let rules = "[[rule]]\nallow = \"publish\"\nuser = \"alice\"\ntopics = \"t\"\n";
    fs::write(folder.path().join("rules.toml"), rules).unwrap();
    let access = "[access]\nrules = \"rules.toml\"\n[[access.provider]]\nkind = \"password\"\nfile = \"passwords\"\n";
    let broker = Broker::start_in(folder, &format!("{PLAIN}{access}"), |_| ());
    let url = url(&broker);
    let file = broker.path("secret");
    let file = ["--password-file", file.to_str().unwrap()];
    for (variable, more, status) in
        [("right", &[][..], 0), ("wrong", &[], 1), ("wrong", &file, 0), ("right", &["-P", "no"], 1)]
    {
        let arguments =
            [&["pub", "--url", &url, "-u", "alice", "-t", "t", "-m", "x"], more].concat();
        let output = program(&arguments).env("CAIRNMQ_PASSWORD", variable).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{more:?}: {}", text(&output.stderr));
    }
}

/// A port beside the URL, and what is said if nobody listens there.
#[test]
fn host_and_port_may_stand_alone() {
    let broker = Broker::start(PLAIN);
    let address = broker.addresses()[0];
    // Its own end of a connection is a port that nobody listens on, and that nobody else can take.
    let taken = TcpStream::connect(address).unwrap();
    let publish = |port: u16| {
        let port = port.to_string();
        let arguments =
            ["pub", "--host", "127.0.0.1", "-p", &port, "-t", "t", "-m", "x", "-q", "1"];
        program(&arguments).env_remove("CAIRNMQ_URL").output().unwrap()
    };
    let output = publish(address.port());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let port = taken.local_addr().unwrap().port();
    let output = publish(port);
    assert_eq!(output.status.code(), Some(1));
    let refused = "Connection refused (os error 111); does a broker listen there? (--url)";
    let wanted = format!("cairnmq: cannot reach mqtt://127.0.0.1:{port}: {refused}\n");
    assert_eq!(text(&output.stderr), wanted);
}

/// A signal ends a publisher that waits, and it says what is not known to be there.
#[test]
fn a_publisher_that_is_stopped_says_what_is_open() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("mqtt://{}", silent.local_addr().unwrap());
    let arguments = ["pub", "--url", &url, "-t", "t", "-m", "x", "-q", "1", "--protocol", "3.1.1"];
    let child = program(&arguments).stderr(Stdio::piped()).spawn().unwrap();
    let (mut stream, _) = silent.accept().unwrap();
    let mut packets = [0; 1024];
    assert!(stream.read(&mut packets).unwrap() > 0, "CONNECT");
    stream.write_all(&[0x20, 2, 0, 0]).unwrap();
    assert!(stream.read(&mut packets).unwrap() > 0, "PUBLISH");
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert_eq!(stream.read(&mut packets).unwrap(), 2, "DISCONNECT");
    drop(stream);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("acknowledged 1 of"), "{}", text(&output.stderr));
}

/// Whoever closes the pipe has seen enough, as `head` does; the session has what was not shown.
#[test]
fn a_closed_pipe_ends_a_subscriber_quietly() {
    let broker = Broker::start(PLAIN);
    let url = url(&broker);
    let arguments = ["sub", "--url", &url, "-t", "t", "-q", "1", "-i", "piped", "-c"];
    let mut subscriber = Subscriber::start(&broker, &url, &arguments[3..]);
    assert!(publish(&url, &["-t", "t", "-m", "seen", "-q", "1"]).status.success());
    assert_eq!(subscriber.line(), "seen");
    subscriber.lines = None;
    assert!(publish(&url, &["-t", "t", "-m", "unseen", "-q", "1"]).status.success());
    assert_eq!(subscriber.end(), (Some(0), String::new()));
    let again = program(&[&arguments[..], &["-C", "1"]].concat()).output().unwrap();
    assert_eq!(text(&again.stdout), "unseen\n");
}

/// A session goes on where it was, and a signal ends a subscriber in good order.
#[test]
fn a_session_is_kept() {
    let broker = Broker::start(PLAIN);
    let url = url(&broker);
    let keep = ["-t", "t", "-q", "1", "-i", "keeper", "-c"];
    let output = program(&[&["sub", "--url", &url, "-E"], &keep[..]].concat()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(publish(&url, &["-t", "t", "-m", "waited", "-q", "1"]).status.success());
    let mut subscriber = program(&[&["sub", "--url", &url], &keep[..]].concat())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(subscriber.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "waited\n");
    let id = subscriber.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    assert!(subscriber.wait().unwrap().success());
    broker.line(&["disconnected", "client=\"keeper\"", "client disconnected, 0x00 Success"]);
}

#[test]
fn what_is_wrong_is_said() {
    let broker = Broker::start(&format!(
        "{PLAIN}[features]\nmaximum_qos = 1\nretain = false\nshared_subscriptions = false\n"
    ));
    let url = url(&broker);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = format!("mqtt://{nobody}");
    for (url, arguments, wanted) in [
        (&nobody, &["-t", "t", "-m", "x"][..], "does a broker listen there? (--url)"),
        (&url, &["-t", "t", "-m", "x", "-q", "2"], "use -q 1"),
        (&url, &["-t", "t", "-m", "x", "-r"], "leave --retain out"),
        (&url, &["-t", "a/#", "-m", "x"], "is no Topic Name"),
        (&url, &["-t", "$SYS/x", "-m", "x", "-q", "1"], "the broker refused: 0x90"),
        (&url, &["-t", "t", "-m", "x", "--auth-method", "none"], "lets nobody in: 0x8C"),
        (
            &url,
            &["-t", "t", "-m", "x", "--content-type", "a", "--protocol", "3.1.1"],
            "only MQTT 5.0 has Content Type",
        ),
    ] {
        let output = publish(url, arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(text(&output.stderr).contains(wanted), "{wanted}\n{}", text(&output.stderr));
    }
    for (filter, wanted) in [("a/#/b", "is no Topic Filter"), ("$share/g/t", "0x9E")] {
        let output = program(&["sub", "--url", &url, "-t", filter]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{filter}");
        assert!(text(&output.stderr).contains(wanted), "{}", text(&output.stderr));
    }
    // The end that the broker makes is told in its words.
    let subscriber = Subscriber::start(&broker, &url, &["-t", "t", "-i", "victim"]);
    broker.said(&["kick", "victim"]);
    let (status, said) = subscriber.end();
    assert_eq!(status, Some(1));
    assert!(said.contains("the broker ends the connection: 0x98"), "{said}");
}

/// A subscriber that hears nothing says that it is there, for as long as its Keep Alive demands.
#[test]
fn a_quiet_subscriber_stays() {
    let broker = Broker::start(PLAIN);
    let mut subscriber = Subscriber::start(&broker, &url(&broker), &["-t", "t", "-k", "1"]);
    until("it is there for longer than 1.5 s", || {
        let row = &broker.rows(&["clients"])[0];
        row["connected_s"].as_u64().is_some_and(|s| s >= 3).then_some(())
    });
    assert!(publish(&url(&broker), &["-t", "t", "-m", "x"]).status.success());
    assert_eq!(subscriber.line(), "x");
}

/// By TLS, WebSocket, both, and over a socket of the file system.
#[test]
fn every_door_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(folder.path().join("crt"), key.cert.pem()).unwrap();
    fs::write(folder.path().join("key"), key.signing_key.serialize_pem()).unwrap();
    let socket = folder.path().join("s");
    let tls = "certificate = \"crt\"\nkey = \"key\"";
    let config = format!(
        "listen = [\"ws://127.0.0.1:0\", \"unix://{}\"]\n[sys]\ninterval_s = 0\n[[listener]]\nurl = \"tls://127.0.0.1:0\"\n{tls}\n\
         [[listener]]\nurl = \"wss://127.0.0.1:0\"\n{tls}\n",
        socket.display()
    );
    let broker = Broker::start_in(folder, &config, |_| ());
    let authority = broker.path("crt");
    let authority = authority.to_str().unwrap();
    let rows = broker.rows(&["listeners"]);
    for row in rows {
        let address = row["address"].as_str().unwrap();
        let url = address.replace("tls://", "mqtts://").replace("127.0.0.1", "localhost");
        let arguments = ["-t", "t", "-C", "1", "--cafile", authority];
        let mut subscriber = Subscriber::start(&broker, &url, &arguments);
        let payload = "x".repeat(1_000_000);
        let file = broker.path("payload");
        fs::write(&file, &payload).unwrap();
        let file = file.to_str().unwrap();
        let output = publish(&url, &["-t", "t", "-f", file, "-q", "1", "--cafile", authority]);
        assert!(output.status.success(), "{url}: {}", text(&output.stderr));
        assert_eq!(subscriber.line(), payload, "{url}");
        if url.starts_with("mqtts://") {
            let output = publish(&url, &["-t", "t", "-m", "x"]);
            assert!(text(&output.stderr).contains("--cafile says whom to trust"));
            let output = publish(&url, &["-t", "t", "-m", "x", "--insecure", "-q", "1"]);
            assert!(output.status.success(), "{}", text(&output.stderr));
        }
    }
}
