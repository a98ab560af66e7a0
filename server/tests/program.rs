//! The program from outside: flags, refusals, start and stop.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

#[test]
fn version_and_help_are_printed() {
    let output = run(&["--version"]);
    assert_eq!(text(&output.stdout), format!("cairnmq {}\n", env!("CARGO_PKG_VERSION")));
    let output = run(&["--help"]);
    assert!(output.status.success());
    assert!(text(&output.stdout).contains("cairnmq --listen tcp://0.0.0.0:1883 --allow-anonymous"));
}

#[test]
fn a_wrong_flag_is_a_usage_error() {
    let output = run(&["--lisen", "tcp://127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("'--listen'"), "{}", text(&output.stderr));
}

#[test]
fn a_wrong_configuration_is_refused_with_its_places() {
    let file = File::new("workrs = 2\n[limits]\nretained_max = \"many\"\n");
    let output = run(&["--config", file.path()]);
    assert_eq!(output.status.code(), Some(2));
    let path = file.path();
    assert_eq!(
        text(&output.stderr),
        format!(
            "cairnmq: {path}:1:1: unknown key `workrs`; did you mean `workers`?\n\
             cairnmq: {path}:3:16: `retained_max` must be a number, not a string\n"
        )
    );
}

#[test]
fn a_missing_configuration_is_named() {
    let output = run(&["--config", "/nowhere/c.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        text(&output.stderr),
        "cairnmq: cannot read /nowhere/c.toml: No such file or directory (os error 2)\n"
    );
}

#[test]
fn an_address_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let output = run(&["--listen", &format!("tcp://127.0.0.1:{port}")]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        format!(
            "cairnmq: --listen: cannot listen on tcp://127.0.0.1:{port}: Address already in use \
             (os error 98); another program listens there (`ss -ltnp sport = :{port}` shows \
             which)\n"
        )
    );
}

#[test]
fn nobody_is_let_in_from_other_machines_unless_it_is_written_down() {
    let output = run(&["--listen", "tcp://0.0.0.0:0"]);
    assert_eq!(output.status.code(), Some(2));
    let error = text(&output.stderr);
    assert!(error.starts_with("cairnmq: --listen: tcp://0.0.0.0:0 can be reached"), "{error}");
    assert!(error.contains("`allow_anonymous = true`"), "{error}");

    let file = File::new("listen = [\"tcp://0.0.0.0:0\"]\nallow_anonymous = true\n");
    let mut broker = Broker::start(&["--config", file.path()]);
    assert_eq!(broker.stop("-TERM").code(), Some(0));
}

#[test]
fn a_signal_stops_in_good_order() {
    for signal in ["-TERM", "-INT"] {
        let mut broker = Broker::start(&["--listen", "tcp://127.0.0.1:0", "--workers", "2"]);
        let mut client = broker.connect();
        // A connection that still waits to be accepted would be reset by the kernel.
        client.write_all(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01c").unwrap();
        let mut connack = [0; 4];
        client.read_exact(&mut connack).expect("CONNACK");
        assert_eq!(connack, [0x20, 2, 0, 0]);
        assert_eq!(broker.stop(signal).code(), Some(0));
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).expect("the connection is closed, not reset");
    }
}

#[test]
fn every_listener_has_its_line() {
    let mut broker =
        Broker::start(&["--listen", "tcp://127.0.0.1:0", "--listen", "tcp://localhost:0"]);
    assert!(broker.lines.iter().any(|line| line.contains("CairnMQ starts version=\"0.")));
    assert!(broker.addresses().len() >= 2);
    broker.stop("-TERM");
}

#[test]
fn data_is_kept_in_a_directory_that_only_its_owner_reads() {
    let mut broker = Broker::start(&["--listen", "tcp://127.0.0.1:0"]);
    let data = broker.folder.path().join("cairnmq-data");
    assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
    let data = data.to_str().unwrap();
    let second = run(&["--listen", "tcp://127.0.0.1:0", "--data-dir", data]);
    assert_eq!(second.status.code(), Some(1));
    let said = "in use by another process; stop that one or name another data directory\n";
    assert!(text(&second.stderr).ends_with(said), "{}", text(&second.stderr));
    assert_eq!(broker.stop("-TERM").code(), Some(0));
    let format = fs::read_to_string(format!("{data}/FORMAT")).unwrap();
    assert_eq!(format, "cairnmq data, format 1\n");
}

/// One clear line and status 1, and nothing is touched.
#[test]
fn what_is_no_data_directory_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |path: &Path| {
        let path = path.to_str().unwrap();
        let output = run(&["--listen", "tcp://127.0.0.1:0", "--data-dir", path]);
        assert_eq!(output.status.code(), Some(1));
        let error = text(&output.stderr);
        error.lines().last().unwrap().to_owned()
    };
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    let line = refused(&file);
    let expected = "is not a directory; name another data directory";
    assert!(line.starts_with("cairnmq: store: ") && line.ends_with(expected), "{line}");
    assert_eq!(fs::read(&file).unwrap(), b"x");

    let foreign = folder.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("mosquitto.db"), "x").unwrap();
    assert!(refused(&foreign).contains("holds files of something else"));
    assert_eq!(fs::read_dir(&foreign).unwrap().count(), 1);

    let newer = folder.path().join("newer");
    fs::create_dir(&newer).unwrap();
    fs::write(newer.join("FORMAT"), "cairnmq data, format 2\n").unwrap();
    let line = refused(&newer);
    assert!(line.contains("was written by another version (format 2, this one knows 1)"), "{line}");
    assert_eq!(fs::read_dir(&newer).unwrap().count(), 1);

    let line = refused(Path::new("/proc/cairnmq"));
    assert!(line.contains("cannot create /proc/cairnmq: "), "{line}");
}

/// What a client left is there after the broker was killed, and can be looked at without a broker.
#[test]
fn a_data_directory_can_be_looked_at() {
    let mut broker = Broker::start(&["--listen", "tcp://127.0.0.1:0"]);
    let data = broker.folder.path().join("cairnmq-data");
    let data = data.to_str().unwrap();
    let mut client = broker.connect();
    // CONNECT without clean session, SUBSCRIBE to `a`, a retained PUBLISH of QoS 1 there.
    client.write_all(b"\x10\x0d\x00\x04MQTT\x04\x00\x00\x00\x00\x01c").unwrap();
    client.write_all(b"\x82\x06\x00\x01\x00\x01a\x01").unwrap();
    client.write_all(b"\x33\x07\x00\x01a\x00\x02hi").unwrap();
    let mut answers = [0; 4 + 5 + 4 + 9];
    client.read_exact(&mut answers).expect("CONNACK, SUBACK, PUBACK and PUBLISH");

    let busy = run(&["store", "check", data]);
    assert_eq!(busy.status.code(), Some(1));
    assert!(text(&busy.stderr).contains("in use by another process"), "{}", text(&busy.stderr));

    broker.child.kill().unwrap();
    broker.child.wait().unwrap();
    let checked = run(&["store", "check", data]);
    assert_eq!(checked.status.code(), Some(0));
    assert_eq!(
        text(&checked.stdout),
        "1 sessions with 1 subscriptions\n\
         1 messages waiting or unacknowledged, 13 bytes\n\
         1 retained messages\n\
         1 Wills, exchanges and QoS 2 messages in between\n\
         nothing is damaged\n"
    );
    let dumped = run(&["store", "dump", data]);
    assert_eq!(
        text(&dumped.stdout),
        "session \"c\" expiry_s=4294967295 ends=never\n\
         subscription \"c\" \"a\" qos=1 id=0\n\
         exchange \"c\" packet_id=1 place=1 published\n\
         message \"c\" place=1 topic=\"a\" qos=1 retain=false bytes=2\n\
         retained topic=\"a\" qos=1 retain=true bytes=2\n"
    );
    let exported = run(&["store", "export", data]);
    let exported = text(&exported.stdout);
    assert_eq!(exported.lines().count(), 5);
    assert!(exported.lines().all(|line| line.starts_with('{') && line.ends_with('}')));
    assert!(exported.contains("\"payload_hex\":\"6869\""), "{exported}");

    // A flipped bit in the first frame of the log.
    let log = fs::read_dir(format!("{data}/log")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&log).unwrap();
    bytes[60] ^= 1;
    fs::write(&log, &bytes).unwrap();
    let damaged = run(&["store", "check", data]);
    assert_eq!(damaged.status.code(), Some(1));
    assert!(
        text(&damaged.stdout).contains("damaged: segment 1, bytes"),
        "{}",
        text(&damaged.stdout)
    );
    assert_eq!(fs::read(&log).unwrap(), bytes, "looking changes nothing");
    let output = run(&["store", "check", "/nowhere"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        "cairnmq: cannot open /nowhere: No such file or directory (os error 2)\n"
    );
}

/// A disk that counts as full refuses what would have to be kept, and serves everything else.
#[test]
fn a_full_disk_refuses_messages() {
    let file = File::new(
        "listen = [\"tcp://127.0.0.1:0\"]\n[store]\nreserve_bytes = 9223372036854775807\n",
    );
    let broker = Broker::start(&["--config", file.path()]);
    let mut client = broker.connect();
    // CONNECT (5.0), and a PUBLISH of QoS 1 until it is refused: the disk is looked at now and then.
    client.write_all(b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01c").unwrap();
    let mut header = [0; 2];
    client.read_exact(&mut header).expect("CONNACK");
    client.read_exact(&mut vec![0; usize::from(header[1])]).unwrap();
    let patience = Instant::now() + Duration::from_secs(20);
    loop {
        client.write_all(b"\x32\x08\x00\x01a\x00\x02\x00hi").unwrap();
        client.read_exact(&mut header).expect("PUBACK");
        let mut rest = vec![0; usize::from(header[1])];
        client.read_exact(&mut rest).unwrap();
        if rest.get(2) == Some(&0x97) {
            break;
        }
        assert!(Instant::now() < patience, "it is never refused: {rest:?}");
    }
    client.write_all(b"\xc0\x00").unwrap();
    client.read_exact(&mut header).expect("PINGRESP");
    assert_eq!(header, [0xD0, 0]);
}

/// After a failed sync nobody knows what is durable: nothing more is acknowledged, and the broker ends.
#[test]
fn a_sync_that_fails_ends_the_broker() {
    let mut broker = Broker::start(&["--listen", "tcp://127.0.0.1:0", "--syncs-max", "1"]);
    let mut client = broker.connect();
    client.write_all(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01c").unwrap();
    client.read_exact(&mut [0; 4]).expect("CONNACK, which waits for nothing");
    // A retained PUBLISH of QoS 1 has to be kept.
    client.write_all(b"\x33\x07\x00\x01a\x00\x02hi").unwrap();
    let mut rest = Vec::new();
    // The end of a process may reset what it has not read.
    let _ = client.read_to_end(&mut rest);
    assert!(rest.is_empty(), "it was acknowledged: {rest:?}");
    let patience = Instant::now() + Duration::from_secs(10);
    let status = loop {
        if let Some(status) = broker.child.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < patience, "it does not end");
        thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(status.code(), Some(1));
}

fn run(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    program(arguments, &folder).output().unwrap()
}

/// The program in a folder of its own, where its data directory is by default.
fn program(arguments: &[&str], folder: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cairnmq"));
    command.args(arguments).stdin(Stdio::null()).current_dir(folder.path());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A broker at work; killed when dropped.
struct Broker {
    child: Child,
    /// What it has logged until it listened.
    lines: Vec<String>,
    folder: TempDir,
}

impl Broker {
    fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = program(arguments, &folder).stderr(Stdio::piped()).spawn().unwrap();
        let mut reader = BufReader::new(child.stderr.take().unwrap());
        let mut lines = Vec::new();
        let wanted = arguments.iter().filter(|argument| **argument == "--listen").count().max(1);
        while lines.iter().filter(|line: &&String| line.contains("listening on")).count() < wanted {
            let mut line = String::new();
            assert!(reader.read_line(&mut line).unwrap() > 0, "it ended early: {lines:?}");
            lines.push(line);
        }
        thread::spawn(move || reader.read_to_end(&mut Vec::new()));
        Self { child, lines, folder }
    }

    fn addresses(&self) -> Vec<String> {
        let address = |line: &String| Some(line.split_once("tcp://")?.1.trim().to_owned());
        self.lines.iter().filter_map(address).collect()
    }

    fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(&self.addresses()[0]).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client
    }

    fn stop(&mut self, signal: &str) -> ExitStatus {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        let patience = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < patience, "it does not stop");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A file with a name of its own, removed when dropped.
struct File(PathBuf);

impl File {
    fn new(content: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("cairnmq-test-{}-{number}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, content).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
