//! `cairnmq config`, variables and flags.

use std::{fs, process::Output};

use serde_json::Value;

use crate::support::{Broker, program, text};

fn run(folder: &tempfile::TempDir, arguments: &[&str]) -> Output {
    program(arguments).current_dir(folder.path()).output().unwrap()
}

fn folder(config: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("c.toml"), config).unwrap();
    folder
}

/// `docs/configuration.md` is what the program prints: `cairnmq config docs > docs/configuration.md`.
#[test]
fn the_reference_is_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let printed = run(&folder, &["config", "docs"]);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    let written = fs::read_to_string(path).unwrap();
    assert!(
        text(&printed.stdout) == written,
        "docs/configuration.md is old; `cargo run -p cairnmq -- config docs > docs/configuration.md`"
    );
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let folder = folder(
        "workrs = 2\n[limits]\nretained_max = \"many\"\n[[listener]]\nurl = \"tls://127.0.0.1:0\"\n\
         certificate = \"no.pem\"\nkey = \"no.key\"\n",
    );
    let output = run(&folder, &["config", "check", "c.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        text(&output.stderr),
        "cairnmq: c.toml:1:1: unknown key `workrs`; did you mean `workers`?\n\
         cairnmq: c.toml:3:16: `retained_max` must be a number, not a string\n"
    );
    fs::write(
        folder.path().join("c.toml"),
        "listen = [\"tcp://0.0.0.0:0\"]\n[[listener]]\nurl = \"tls://127.0.0.1:0\"\n\
         certificate = \"no.pem\"\nkey = \"no.key\"\n[http]\ntoken_file = \"no.token\"\n",
    )
    .unwrap();
    let output = run(&folder, &["config", "check", "c.toml"]);
    let said = text(&output.stderr);
    for wanted in ["c.toml:1:11: tcp://0.0.0.0:0 can be reached", "no.pem", "cannot read no.token"]
    {
        assert!(said.contains(wanted), "{wanted}\n{said}");
    }
    fs::write(folder.path().join("c.toml"), "workers = 2\n").unwrap();
    let output = run(&folder, &["config", "check", "c.toml"]);
    assert_eq!(text(&output.stdout), "c.toml: nothing is wrong\n");
    assert!(output.status.success());
}

#[test]
fn a_starting_file_is_a_configuration() {
    let folder = tempfile::tempdir().unwrap();
    assert!(run(&folder, &["config", "init", "new.toml"]).status.success());
    assert!(run(&folder, &["config", "check", "new.toml"]).status.success());
    let again = run(&folder, &["config", "init", "new.toml"]);
    assert_eq!(again.status.code(), Some(2), "nothing is overwritten");
    let written = fs::read_to_string(folder.path().join("new.toml")).unwrap();
    assert!(written.contains("#packet_bytes_max = 1048576"), "{written}");
}

/// A flag counts more than a variable, and this more than the file; each value names where it comes from.
#[test]
fn values_tell_where_they_come_from() {
    let folder = folder("workers = 1\n[limits]\nretained_max = 5\nreceive_maximum = 6\n");
    let arguments =
        ["config", "show", "--json", "--config", "c.toml", "--set", "limits.receive_maximum=8"];
    let output = program(&arguments)
        .current_dir(folder.path())
        .env("CAIRNMQ__LIMITS__RECEIVE_MAXIMUM", "7")
        .env("CAIRNMQ__LIMITS__RETAINED_MAX", "9")
        .output()
        .unwrap();
    let rows: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<String> = rows
        .iter()
        .map(|row| {
            let part = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
            format!("{}={} from {}", part("key"), part("value"), part("from"))
        })
        .collect();
    assert_eq!(
        told,
        [
            "workers=1 from c.toml:1:11",
            "limits.receive_maximum=8 from --set limits.receive_maximum",
            "limits.retained_max=9 from CAIRNMQ__LIMITS__RETAINED_MAX",
        ]
    );
}

/// No secret that a table holds is shown.
#[test]
fn what_may_be_secret_is_not_shown() {
    let folder = folder(
        "[[access.provider]]\nkind = \"http\"\n\
         endpoint = { url = \"https://x\", headers = { Authorization = \"Bearer s3cret\" } }\n",
    );
    for arguments in [
        &["config", "show", "--config", "c.toml"][..],
        &["config", "show", "--all", "--json", "--config", "c.toml"],
    ] {
        let output = run(&folder, arguments);
        assert!(output.status.success());
        assert!(!text(&output.stdout).contains("s3cret"));
    }
}

#[test]
fn variables_configure_a_broker_without_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = Broker::start_in(folder, "", |command| {
        command.env("CAIRNMQ__LISTEN", "tcp://127.0.0.1:0").env("CAIRNMQ__WORKERS", "2");
    });
    let status = broker.rows(&["status"]);
    assert_eq!(status[0]["workers"], 2);
    broker.client("a").ping();
    broker.signal("-TERM");
    assert!(broker.ended().success());
}

#[test]
fn shells_and_manuals_are_served() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&folder, &["completions", shell]);
        assert!(output.status.success());
        assert!(text(&output.stdout).contains("end-session"), "{shell}");
    }
    assert!(run(&folder, &["man", "pages"]).status.success());
    for page in ["cairnmq.1", "cairnmq-ctl.1", "cairnmq-ctl-trace.1", "cairnmq-config-check.1"] {
        let page = fs::read_to_string(folder.path().join("pages").join(page)).unwrap();
        assert!(page.contains(".TH"));
    }
}

/// What mosquitto had is had here, passwords too; what could not be translated is said, and in the status.
#[test]
fn a_configuration_of_mosquitto_is_imported() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    // As `mosquitto_passwd -c -b pw alice secret` writes it.
    write(
        "pw",
        "alice:$7$101$MTIzNDU2Nzg5MDEy$UdHVnBp6wtbwmyKyzlHUaFMSwvLZm1C1tqAZ4oWOzLy2JjRMuDk7ZRw5gbGSvGvvz8m6nAm0QuvQPtBmvXvLYg==\n",
    );
    write("acl", "user alice\ntopic readwrite a/#\n");
    write(
        "mosquitto.conf",
        "listener 0 /nowhere/never.sock\nallow_anonymous false\npassword_file pw\nacl_file acl\nmax_queued_messages 7\n",
    );
    let output =
        run(&folder, &["config", "import", "mosquitto", "mosquitto.conf", "--output", "new.toml"]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    assert!(run(&folder, &["config", "check", "new.toml"]).status.success());
    let again =
        run(&folder, &["config", "import", "mosquitto", "mosquitto.conf", "--output", "new.toml"]);
    assert_eq!(again.status.code(), Some(1), "nothing is overwritten");
    let shown = run(&folder, &["config", "show", "--config", "new.toml"]);
    assert!(
        text(&shown.stdout).contains("limits.session_queue_max = 7"),
        "{}",
        text(&shown.stdout)
    );

    write("lossy.conf", "listener 1883 127.0.0.1\nallow_anonymous true\nmount_point a/\n");
    let output = run(&folder, &["config", "import", "mosquitto", "lossy.conf"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).starts_with("lossy.conf:3: NOT TRANSLATED: mount_point: "));
    assert!(text(&output.stdout).contains("url = \"tcp://127.0.0.1:1883\""));
}

/// The container's settings: it refuses to serve everybody unless that is said, and its health check finds the broker.
#[test]
fn the_settings_of_the_container_do_what_they_say() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/Containerfile");
    let file = fs::read_to_string(path).unwrap();
    let (_, from) = file.split_once("\nENV ").unwrap();
    let settings: Vec<(String, String)> = from
        .lines()
        .map(|line| line.trim().trim_end_matches(" \\"))
        .map_while(|line| line.split_once('='))
        .filter(|(name, _)| name.starts_with("CAIRNMQ__"))
        .map(|(name, value)| (name.to_owned(), value.replace("=/data", "=data")))
        .collect();
    assert!(settings.len() >= 3, "{settings:?}");
    let folder = tempfile::tempdir().unwrap();
    let with = |name: &str, value: &str| -> String {
        match name {
            "CAIRNMQ__STORE__DATA_DIR" => "data".to_owned(),
            "CAIRNMQ__HTTP__LISTEN" => "127.0.0.1:0".to_owned(),
            _ => value.to_owned(),
        }
    };
    let set = |command: &mut std::process::Command| {
        for (name, value) in &settings {
            command.env(name, with(name, value));
        }
    };
    let mut refused = program(&[]);
    set(refused.current_dir(folder.path()));
    let output = refused.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("tcp://0.0.0.0:1883 can be reached from other machines"));

    let broker =
        Broker::start_in(folder, "[control]\nsocket = \"data/control.sock\"\n", |command| {
            set(command);
            command
                .env("CAIRNMQ__ALLOW_ANONYMOUS", "true")
                .env("CAIRNMQ__LISTEN", "tcp://127.0.0.1:0");
        });
    let mut health = program(&["ctl", "health"]);
    set(health.current_dir(broker.folder.path()));
    let output = health.output().unwrap();
    assert_eq!(text(&output.stdout), "ready\n", "{}", text(&output.stderr));
}
