//! Where settings come from besides the file: flags, and variables of the environment.

use std::{ffi::OsString, num::NonZeroU16, path::PathBuf};

use clap::{Args, ValueEnum, builder::PossibleValue};
use settings::Override;

use crate::address::ListenUrl;

/// Where settings come from.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct SettingsArguments {
    /// An address to serve, such as tcp://127.0.0.1:1883 or tcp://[::1]:1883; may be given more
    /// than once, and then the file's listeners are not used.
    #[arg(long, value_name = "URL")]
    pub(crate) listen: Vec<ListenUrl>,

    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "CAIRNMQ_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// Let everybody connect, even from other machines, whatever user name they give.
    #[arg(long)]
    pub(crate) allow_anonymous: bool,

    /// How much is logged. The default is `info`: start, stop, connects and disconnects.
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<LogLevel>,

    /// Where sessions and messages are kept; made if it is not there. The default is ./cairnmq-data.
    #[arg(long, value_name = "PATH")]
    pub(crate) data_dir: Option<PathBuf>,

    /// When what was written becomes durable. The default is `sync`: before it is acknowledged.
    #[arg(long, value_name = "WHEN")]
    pub(crate) durability: Option<DurabilityMode>,

    /// What to do if something in the data directory is damaged. The default is `quarantine`.
    #[arg(long, value_name = "HOW")]
    pub(crate) repair: Option<Repair>,

    /// The number of worker threads, 1 to 1024. The default is one for every two
    /// processors.
    #[arg(long, value_name = "N", value_parser = workers)]
    pub(crate) workers: Option<NonZeroU16>,

    /// Any key of the configuration file, such as limits.packet_bytes_max=65536; may be given more
    /// than once.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub(crate) set: Vec<(String, String)>,
}

impl SettingsArguments {
    /// What is set elsewhere than in the file, in the order in which it counts: variables of the environment, then
    /// flags.
    pub(crate) fn overrides(
        &self,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Vec<Override> {
        let mut all: Vec<Override> = environment.filter_map(of_variable).collect();
        // The order of the environment is anybody's.
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all.extend(self.flags());
        all
    }

    fn flags(&self) -> Vec<Override> {
        let mut all = Vec::new();
        let mut set = |flag: &str, key: &str, value: String| {
            let path = key.split('.').map(str::to_owned).collect();
            all.push(Override { name: flag.to_owned(), path, value });
        };
        if !self.listen.is_empty() {
            let urls: Vec<_> = self.listen.iter().map(|url| quoted(&url.to_string())).collect();
            set("--listen", "listener", "[]".to_owned());
            set("--listen", "listen", format!("[{}]", urls.join(", ")));
        }
        if self.allow_anonymous {
            set("--allow-anonymous", "allow_anonymous", "true".to_owned());
        }
        let word = |value: &dyn Fn() -> Option<PossibleValue>| {
            value().map(|value| value.get_name().to_owned()).unwrap_or_default()
        };
        if let Some(level) = self.log_level {
            set("--log-level", "log.level", word(&|| level.to_possible_value()));
        }
        if let Some(path) = &self.data_dir {
            set("--data-dir", "store.data_dir", quoted(&path.to_string_lossy()));
        }
        if let Some(durability) = self.durability {
            set("--durability", "store.durability", word(&|| durability.to_possible_value()));
        }
        if let Some(repair) = self.repair {
            set("--repair", "store.repair", word(&|| repair.to_possible_value()));
        }
        if let Some(workers) = self.workers {
            set("--workers", "workers", workers.to_string());
        }
        for (key, value) in &self.set {
            set(&format!("--set {key}"), key, value.clone());
        }
        all
    }
}

/// What begins like this names a key: the tables and the key, in capitals, with two underscores between.
const VARIABLE: &str = "CAIRNMQ__";

fn of_variable((name, value): (OsString, OsString)) -> Option<Override> {
    let (name, value) = (name.into_string().ok()?, value.to_string_lossy().into_owned());
    let path = name.strip_prefix(VARIABLE)?.split("__").map(str::to_lowercase).collect();
    Some(Override { name, path, value })
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    let is_key = |part: &str| {
        !part.is_empty() && part.chars().all(|char| char.is_ascii_alphanumeric() || char == '_')
    };
    match key.split('.').all(is_key) {
        true => Ok((key.to_owned(), value.to_owned())),
        false => Err(format!("`{key}` is no key; write one such as limits.packet_bytes_max")),
    }
}

/// The most worker threads.
pub(crate) const WORKERS_MAX: u16 = 1024;

/// When what was written becomes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DurabilityMode {
    /// Before it is acknowledged.
    Sync,
    /// Now and then; it is acknowledged once the system has it.
    Interval,
    /// Never: nothing is kept on disk.
    Memory,
}

/// What to do about damage at a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Repair {
    /// Set damaged parts aside, say what is lost, and start.
    Quarantine,
    /// Do not start.
    Refuse,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    /// Only what ends the broker.
    Error,
    /// And what an operator should look at.
    Warn,
    /// And start, stop, connects and disconnects.
    #[default]
    Info,
    /// And what helps to find a mistake.
    Debug,
    /// And everything else.
    Trace,
}

fn workers(text: &str) -> Result<NonZeroU16, String> {
    text.parse()
        .ok()
        .filter(|count: &NonZeroU16| count.get() <= WORKERS_MAX)
        .ok_or_else(|| format!("not a number from 1 to {WORKERS_MAX}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Whole {
        #[command(flatten)]
        settings: SettingsArguments,
    }

    fn overrides(arguments: &[&str], environment: &[(&str, &str)]) -> Vec<String> {
        let arguments = [&["cairnmq"], arguments].concat();
        let environment = environment.iter().map(|(name, value)| (name.into(), value.into()));
        let overrides = Whole::parse_from(arguments).settings.overrides(environment);
        let shown = overrides
            .iter()
            .map(|set| format!("{}: {} = {}", set.name, set.path.join("."), set.value));
        shown.collect()
    }

    #[test]
    fn variables_come_before_flags_and_each_names_its_key() {
        let flags = [
            "--listen=tcp://127.0.0.1:1",
            "--listen=tcp://[::1]:2",
            "--workers=3",
            "--data-dir=/tmp/x",
            "--durability=memory",
            "--log-level=warn",
            "--set=limits.packet_bytes_max=1=2",
        ];
        let environment = [
            ("HOME", "/root"),
            ("CAIRNMQ__STORE__DATA_DIR", "/var/x"),
            ("CAIRNMQ__LISTEN", "tcp://[::1]:3"),
        ];
        assert_eq!(
            overrides(&flags, &environment),
            [
                "CAIRNMQ__LISTEN: listen = tcp://[::1]:3",
                "CAIRNMQ__STORE__DATA_DIR: store.data_dir = /var/x",
                "--listen: listener = []",
                "--listen: listen = [\"tcp://127.0.0.1:1\", \"tcp://[::1]:2\"]",
                "--log-level: log.level = warn",
                "--data-dir: store.data_dir = \"/tmp/x\"",
                "--durability: store.durability = memory",
                "--workers: workers = 3",
                "--set limits.packet_bytes_max: limits.packet_bytes_max = 1=2",
            ]
        );
    }
}
