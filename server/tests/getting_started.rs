//! The commands of `docs/getting-started.md`, executed in their order, and what it says they show.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
};

const GUIDE: &str = include_str!("../../docs/getting-started.md");

/// The fenced blocks of a language, in their order.
fn blocks<'g>(guide: &'g str, language: &str) -> Vec<&'g str> {
    let begin = format!("\n```{language}\n");
    let parts = guide.split(begin.as_str()).skip(1);
    parts.map(|part| part.split("```").next().unwrap_or_default()).collect()
}

/// Ports that nobody uses instead of those of the guide, which somebody may.
fn with_free_ports(text: &str) -> String {
    let mut text = text.to_owned();
    let mut held = Vec::new();
    for port in ["1883", "8883", "9883"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let free = listener.local_addr().unwrap().port().to_string();
        // Held until all are chosen, so that they differ.
        held.push(listener);
        text = text.replace(port, &free);
    }
    text
}

#[test]
fn every_command_of_the_guide_does_what_it_says() {
    let guide = with_free_ports(GUIDE);
    let port = {
        // Whatever the first port has become is where the first broker and its clients have to be too.
        let at = guide.find("listen = [\"tcp://127.0.0.1:").unwrap()
            + "listen = [\"tcp://127.0.0.1:".len();
        guide[at..].split('"').next().unwrap().to_owned()
    };
    let folder = tempfile::tempdir().unwrap();
    let bin = folder.path().join("target/release");
    fs::create_dir_all(&bin).unwrap();
    symlink(env!("CARGO_BIN_EXE_cairnmq"), bin.join("cairnmq")).unwrap();
    let mut script = String::from("set -e\ntrap 'kill $(jobs -p) 2>/dev/null; exit 9' ERR\n");
    for block in blocks(&guide, "sh") {
        // The release build is what .ci/run does; here the program is there already.
        script.push_str(&block.replace("cargo build --release\n", ""));
    }
    // Whatever hangs ends, and its broker with it.
    let output = Command::new("timeout")
        .args(["120", "bash", "-c", &script])
        .current_dir(folder.path())
        .env("CAIRNMQ_URL", format!("mqtt://127.0.0.1:{port}"))
        .env("CAIRNMQ__LISTEN", format!("tcp://127.0.0.1:{port}"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    let log = read(&folder.path().join("try/log"));
    assert!(output.status.success(), "{shown}\n--- stderr\n{said}\n--- log\n{log}");

    // What is shown comes in this order; a line may have more columns than the guide has room for.
    let mut lines = shown.lines();
    for wanted in blocks(&guide, "text").into_iter().flat_map(str::lines) {
        let words: Vec<&str> = wanted.split_whitespace().collect();
        let is_it = |line: &str| {
            let found: Vec<&str> = line.split_whitespace().collect();
            found.starts_with(&words)
        };
        assert!(
            lines.any(is_it),
            "{wanted:?} is not shown, or not in this order:\n{shown}\n{said}"
        );
    }
    assert!(
        said.contains("unknown key `certficate` in [[listener]]; did you mean `certificate`?"),
        "{said}"
    );
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
