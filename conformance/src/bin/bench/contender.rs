//! The programs that are compared: which there are, where they are, how they are started, and what
//! they are known not to have.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use clap::ValueEnum;

use crate::Result;
use crate::arguments::{Arguments, Pair};
use crate::rig::recipe::{self, Recipe};

/// What a row needs besides QoS 0 and plain topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Need {
    /// QoS 1.
    Qos1,
    /// QoS 2.
    Qos2,
    /// Wildcards in other places than the end.
    Wildcards,
    /// Shared subscriptions.
    Shared,
    /// Clients of 3.1.1 and 5.0 on one port.
    Mixed,
    /// Retained messages.
    Retained,
    /// Sessions that outlive their connections.
    Sessions,
}

/// One of the programs that are compared.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    pub(crate) recipe: Recipe,
    /// It has none of these, and is not asked for them.
    pub(crate) lacks: Vec<Need>,
    /// It is no broker.
    pub(crate) is_floor: bool,
    /// It is ours: the exit status depends on it.
    pub(crate) is_ours: bool,
}

impl Contender {
    pub(crate) fn name(&self) -> &str {
        &self.recipe.name
    }

    fn new(recipe: Recipe, lacks: &[Need]) -> Contender {
        Contender { recipe, lacks: lacks.to_vec(), is_floor: false, is_ours: false }
    }

    /// Ours, with this number of workers or its default.
    pub(crate) fn cairnmq(binary: &Path, workers: Option<u16>) -> Contender {
        let recipe = Recipe::cairnmq(binary.to_owned(), workers, "memory");
        Contender { is_ours: true, ..Contender::new(recipe, &[]) }
    }

    /// The name and, as far as the program says one, the version.
    pub(crate) fn describe(&self) -> String {
        if self.is_floor {
            return self.name().to_owned();
        }
        match version(&self.recipe.program) {
            Some(version) => format!("{} {version}", self.name()),
            None => self.name().to_owned(),
        }
    }
}

/// Those that are known without a description, in the order of columns.
const KNOWN: [&str; 6] = ["cairnmq", "floor", "mosquitto", "rumqttd", "rmqttd", "nats"];

/// The contenders that were named, or those that are there.
pub(crate) fn choose(arguments: &Arguments) -> Result<Vec<Contender>> {
    let peers = Peers::new(arguments)?;
    let programs: HashMap<&str, &Path> =
        arguments.program.iter().map(|pair| (pair.name.as_str(), Path::new(&pair.value))).collect();
    let known = |name: &str| known(name, programs.get(name).copied(), arguments);
    let mut contenders = Vec::new();
    for name in &arguments.contender {
        let contender = match peers.contender(name)? {
            Some(peer) => peer,
            None if KNOWN.contains(&name.as_str()) => known(name)?,
            None => {
                let known = KNOWN.join(", ");
                return Err(format!(
                    "--contender {name}: unknown; there are {known}, and what --peer describes"
                )
                .into());
            }
        };
        contenders.push(contender);
    }
    if arguments.contender.is_empty() {
        for name in if arguments.smoke { &KNOWN[..3] } else { &KNOWN[..] } {
            match known(name) {
                Ok(contender) => contenders.push(contender),
                Err(error) if *name == "cairnmq" => return Err(error),
                Err(error) => eprintln!("bench: without {name}: {error}"),
            }
        }
        for peer in &arguments.peer {
            contenders.extend(peers.contender(&peer.name)?);
        }
    }
    Ok(contenders)
}

fn known(name: &str, program: Option<&Path>, arguments: &Arguments) -> Result<Contender> {
    let found = || match program {
        Some(path) if path.exists() => Ok(path.to_owned()),
        Some(path) => Err(format!("--program {name}={}: no such file", path.display())),
        None => {
            let file = if name == "nats" { "nats-server" } else { name };
            in_path(file).ok_or(format!("{file} is not in PATH; give --program {name}=FILE"))
        }
    };
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<String>>();
    let recipe = |arguments: &str, config: &str| -> Result<Recipe> {
        let (name, arguments) = (name.to_owned(), words(arguments));
        Ok(Recipe { name, program: found()?, arguments, config: Some(config.to_owned()) })
    };
    Ok(match name {
        "cairnmq" => {
            let named = arguments.broker.clone().or(program.map(Path::to_owned));
            Contender::cairnmq(&recipe::our_binary(named)?, arguments.workers)
        }
        "floor" => floor()?,
        "mosquitto" => {
            let program = program.map(|_| found()).transpose()?;
            Contender::new(Recipe::mosquitto(program, false)?, &[])
        }
        // It listens for 3.1.1 and 5.0 on different ports.
        "rumqttd" => Contender::new(recipe("-q -c {config}", RUMQTTD)?, &[Need::Qos2, Need::Mixed]),
        // Both need plugins, which are not there by default.
        "rmqttd" => Contender::new(recipe("-f {config}", RMQTTD)?, &[Need::Retained, Need::Shared]),
        "nats" => {
            Contender::new(recipe("-c {config}", NATS)?, &[Need::Qos2, Need::Shared, Need::Mixed])
        }
        _ => return Err(format!("{name}: no such contender").into()),
    })
}

/// This program itself, as the least that moves the same bytes.
fn floor() -> Result<Contender> {
    let lacks = Need::value_variants().iter().copied().filter(|need| *need != Need::Qos1);
    let recipe = Recipe {
        name: "floor".to_owned(),
        program: env::current_exe()?,
        arguments: ["--serve-floor", "{port}"].map(str::to_owned).to_vec(),
        config: None,
    };
    Ok(Contender { is_floor: true, ..Contender::new(recipe, &lacks.collect::<Vec<Need>>()) })
}

/// Contenders that the command line describes.
struct Peers<'a> {
    commands: &'a [Pair],
    configs: HashMap<&'a str, String>,
    lacks: Vec<(&'a str, Vec<Need>)>,
}

impl<'a> Peers<'a> {
    fn new(arguments: &'a Arguments) -> Result<Peers<'a>> {
        let mut configs = HashMap::new();
        for pair in &arguments.peer_config {
            let text = fs::read_to_string(&pair.value)
                .map_err(|error| format!("--peer-config {}: {error}", pair.value))?;
            configs.insert(pair.name.as_str(), text);
        }
        let mut lacks = Vec::new();
        for pair in &arguments.peer_lacks {
            let needs = pair.value.split(',').map(|need| {
                Need::from_str(need, true).map_err(|error| format!("--peer-lacks {need}: {error}"))
            });
            lacks.push((pair.name.as_str(), needs.collect::<std::result::Result<Vec<_>, _>>()?));
        }
        let described = |name: &str| arguments.peer.iter().any(|peer| peer.name == name);
        let named = configs.keys().copied().chain(lacks.iter().map(|(name, _)| *name));
        if let Some(name) = named.into_iter().find(|name| !described(name)) {
            return Err(format!("{name}: there is no --peer of this name").into());
        }
        Ok(Peers { commands: &arguments.peer, configs, lacks })
    }

    fn contender(&self, name: &str) -> Result<Option<Contender>> {
        let Some(peer) = self.commands.iter().find(|peer| peer.name == name) else {
            return Ok(None);
        };
        let mut words = peer.value.split_whitespace().map(str::to_owned);
        let program = words.next().ok_or(format!("--peer {name}: no command"))?;
        let program = if program.contains('/') {
            Some(PathBuf::from(&program)).filter(|path| path.exists())
        } else {
            in_path(&program)
        };
        let program = program.ok_or(format!("--peer {name}: {}: no such program", peer.value))?;
        let config = self.configs.get(name).cloned();
        let recipe = Recipe { name: name.to_owned(), program, arguments: words.collect(), config };
        let lacks = self.lacks.iter().filter(|(of, _)| *of == name);
        let lacks: Vec<Need> = lacks.flat_map(|(_, needs)| needs).copied().collect();
        Ok(Some(Contender::new(recipe, &lacks)))
    }
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// The first word with digits and dots in what a program says about itself.
fn version(program: &Path) -> Option<String> {
    ["--version", "-h"].iter().find_map(|flag| version_in(&said(program, flag)?))
}

/// What a program prints with this flag, if it ends soon.
fn said(program: &Path, flag: &str) -> Option<String> {
    let mut command = Command::new(program);
    command.arg(flag).current_dir(env::temp_dir());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().ok()?;
    for _ in 0..40 {
        if child.try_wait().ok()?.is_some() {
            let output = child.wait_with_output().ok()?;
            let text = [output.stdout, output.stderr].concat();
            return Some(String::from_utf8_lossy(&text).into_owned());
        }
        thread::sleep(Duration::from_millis(50));
    }
    // It takes the flag for something else, and serves.
    let _ = child.kill();
    let _ = child.wait();
    None
}

fn version_in(text: &str) -> Option<String> {
    let words = text.lines().take(3).flat_map(str::split_whitespace);
    let mut versions = words.map(|word| word.trim_start_matches('v')).filter(|word| {
        word.contains('.') && word.starts_with(|first: char| first.is_ascii_digit())
    });
    versions.next().map(|word| word.trim_end_matches([',', ';', '.']).to_owned())
}

/// Its limits are raised so far that it drops nothing here.
const RUMQTTD: &str = r#"id = 0
[router]
id = 0
max_connections = 200000
max_outgoing_packet_count = 1000000
max_segment_size = 104857600
max_segment_count = 10
[v4.1]
name = "v4-1"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 0
[v4.1.connections]
connection_timeout_ms = 60000
max_payload_size = 1048576
max_inflight_count = 500
dynamic_filters = true
"#;

/// Without a log, and with limits that are never met here.
const RMQTTD: &str = r#"[node]
id = 1
[rpc]
server_addr = "127.0.0.1:0"
[log]
to = "off"
level = "error"
[plugins]
dir = "{folder}"
default_startups = ["rmqtt-retainer", "rmqtt-shared-subscription"]
[listener.tcp.external]
addr = "127.0.0.1:{port}"
allow_anonymous = true
max_connections = 1024000
max_handshaking_limit = 100000
handshake_timeout = "60s"
max_packet_size = "1m"
backlog = 4096
allow_zero_keepalive = true
max_inflight = 1024
max_mqueue_len = 1000000
mqueue_rate_limit = "1000000,1s"
session_expiry_interval = "2h"
"#;

/// MQTT needs its JetStream, which keeps QoS 1 in files, with a consumer for each subscription; it is
/// given time for that. Versions before 2.15 do not know the limit and need it left out.
const NATS: &str = r#"server_name: bench
host: 127.0.0.1
port: -1
jetstream { store_dir: "{folder}", limits { default_max_consumers: 10000000 } }
mqtt { host: 127.0.0.1, port: {port}, js_api_timeout: "60s" }
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        let found = |text| version_in(text);
        assert_eq!(found("cairnmq 0.1.0\n"), Some("0.1.0".to_owned()));
        assert_eq!(found("mosquitto version 2.0.11\n\nmore 1.1"), Some("2.0.11".to_owned()));
        assert_eq!(found("nats-server: v2.10.18"), Some("2.10.18".to_owned()));
        assert_eq!(found("usage: server [options]"), None);
    }
}
