//! Logins with passwords that are hashed by Argon2id, while messages flow; and what the messages notice.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use codec::Packet;

use crate::{
    broker::Broker,
    client::{Client, Wire},
};

/// Messages a second of the load.
const RATE: u64 = 500;
/// Clients that log in, again and again.
const STORM: usize = 8;

pub(crate) fn run(seconds: u64) -> Result<(), String> {
    println!(
        "Logins with Argon2id (19 MiB, 2 passes) by {STORM} clients beside {RATE} messages a second"
    );
    let folder = tempfile::tempdir().map_err(|error| format!("no folder: {error}"))?;
    add_user(folder.path())?;
    let rules = "[[rule]]\nallow = [\"publish\", \"subscribe\"]\ntopics = \"#\"\n";
    std::fs::write(folder.path().join("rules.toml"), rules).map_err(|error| error.to_string())?;
    let config = "[[listener]]\nurl = \"tcp://ADDRESS\"\n[access]\nrules = \"rules.toml\"\n[[access.provider]]\n\
                  kind = \"password\"\nfile = \"passwords\"\n";
    let broker = Broker::own(folder.path(), config)?;
    let quiet = latencies(&broker, seconds)?;
    let stop = Arc::new(AtomicBool::new(false));
    let count = Arc::new(AtomicU64::new(0));
    let storm: Vec<_> = (0..STORM)
        .map(|number| {
            let (stop, count, address) = (Arc::clone(&stop), Arc::clone(&count), broker.address);
            thread::spawn(move || -> Result<(), String> {
                while !stop.load(Ordering::Relaxed) {
                    let wire = Wire::Tcp(Wire::tcp(address)?);
                    Client::connect(wire, &format!("storm-{number}"), Some(("alice", "secret")))?;
                    count.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        })
        .collect();
    let began = Instant::now();
    let storm_latencies = latencies(&broker, seconds);
    let per_second = count.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    for thread in storm {
        thread.join().map_err(|_| "a client panicked")??;
    }
    println!("  latency without logins   {}", show(quiet));
    println!("  latency with logins      {}", show(storm_latencies?));
    println!("  logins a second          {per_second:.1}");
    Ok(())
}

fn show((half, most): (Duration, Duration)) -> String {
    format!("p50 {:>5} us, p99 {:>6} us", half.as_micros(), most.as_micros())
}

/// Half of the messages, and all but one in a hundred, took no longer than this.
fn latencies(broker: &Broker, seconds: u64) -> Result<(Duration, Duration), String> {
    let login = Some(("alice", "secret"));
    let mut reader = Client::connect(Wire::Tcp(Wire::tcp(broker.address)?), "reader", login)?;
    reader.subscribe("load")?;
    let mut writer = Client::connect(Wire::Tcp(Wire::tcp(broker.address)?), "writer", login)?;
    let began = Instant::now();
    let count = RATE * seconds;
    let writing = thread::spawn(move || -> Result<(), String> {
        for number in 0..count {
            let due = Duration::from_micros(number * 1_000_000 / RATE);
            thread::sleep(due.saturating_sub(began.elapsed()));
            let now = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            writer.publish("load", &now.to_be_bytes())?;
        }
        Ok(())
    });
    let mut all = Vec::new();
    while (all.len() as u64) < count {
        let Packet::Publish(publish) = reader.receive()? else { continue };
        let sent = publish.message.payload().try_into().map_err(|_| "another payload")?;
        all.push(began.elapsed().saturating_sub(Duration::from_nanos(u64::from_be_bytes(sent))));
    }
    writing.join().map_err(|_| "the writer panicked")??;
    all.sort();
    let at = |part: usize| all.get(all.len() * part / 100).copied().unwrap_or_default();
    Ok((at(50), at(99)))
}

fn add_user(folder: &Path) -> Result<(), String> {
    use std::io::Write as _;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut child = Command::new(program.with_file_name("cairnmq"))
        .args(["passwd", "add", "passwords", "alice"])
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| format!("cairnmq passwd: {error}"))?;
    let mut input = child.stdin.take().ok_or("no input")?;
    input.write_all(b"secret\n").map_err(|error| error.to_string())?;
    drop(input);
    match child.wait() {
        Ok(status) if status.success() => Ok(()),
        other => Err(format!("cairnmq passwd: {other:?}")),
    }
}
