//! The command line.

use std::{ffi::OsString, num::NonZeroU16, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum, builder::PossibleValue};
use settings::Override;

use crate::{
    acl_tool::AclCommand,
    client::{PubArguments, SubArguments},
    config_tool::ConfigCommand,
    control::{CtlArguments, DrainArguments},
    listen::ListenUrl,
    passwd_tool::PasswdCommand,
    store_tool::StoreCommand,
};

/// An MQTT broker for the versions 3.1, 3.1.1 and 5.0.
#[derive(Debug, Parser)]
#[command(
    name = "cairnmq",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  cairnmq
      Serves tcp://127.0.0.1:1883 and tcp://[::1]:1883, which only this machine can reach, and
      keeps sessions and messages in ./cairnmq-data.
  cairnmq --listen tcp://127.0.0.1:2883 --log-level debug
      Serves another port, and says more about it.
  cairnmq --listen tcp://0.0.0.0:1883 --allow-anonymous
      Lets everybody connect who can reach this machine.
  cairnmq --config /etc/cairnmq.toml --set limits.packet_bytes_max=65536
      Takes the settings from a file; flags override it.

Every key of the configuration file can be set by --set KEY=VALUE, and by a variable such as
CAIRNMQ__LIMITS__PACKET_BYTES_MAX. Flags override variables, and these the file.

SIGTERM and SIGINT stop the broker once clients have been told; a second one stops it at once. SIGHUP
reads the configuration again.
Exit status: 0 after a stop, 1 if the broker cannot work, 2 if a flag or the configuration is wrong."
)]
pub(crate) struct Arguments {
    /// Something else than to serve.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// What the broker goes by.
    #[command(flatten)]
    pub(crate) settings: SettingsArguments,

    /// How the disk fails.
    #[command(flatten)]
    pub(crate) faults: FaultArguments,
}

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

/// How the disk fails. For tests.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct FaultArguments {
    /// Keeps what is not synced back from the system: killing the broker then does what a power failure
    /// would.
    #[arg(long, hide = true)]
    pub(crate) lose_unsynced: bool,

    /// Lets every sync fail after so many.
    #[arg(long, hide = true, value_name = "N")]
    pub(crate) syncs_max: Option<u64>,
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

/// What the program can do besides serving.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Checks, shows, documents and makes configurations.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Publishes messages, to this broker or any other.
    Pub(Box<PubArguments>),
    /// Subscribes, and shows what comes, from this broker or any other.
    Sub(Box<SubArguments>),
    /// Looks into a running broker on this machine, and tells it what to do.
    Ctl(CtlArguments),
    /// Sends the clients of the running broker elsewhere, and ends it.
    Drain(DrainArguments),
    /// Looks into a data directory that no broker uses.
    #[command(subcommand)]
    Store(StoreCommand),
    /// Adds, removes and verifies users of a password file.
    #[command(subcommand)]
    Passwd(PasswdCommand),
    /// Says what rules allow, and why.
    #[command(subcommand)]
    Acl(Box<AclCommand>),
    /// Writes what a shell completes after `cairnmq`.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Writes the manual pages.
    Man {
        /// Into this folder, which is made if it is not there.
        folder: PathBuf,
    },
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
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    fn overrides(arguments: &[&str], environment: &[(&str, &str)]) -> Vec<String> {
        let arguments = [&["cairnmq"], arguments].concat();
        let environment = environment.iter().map(|(name, value)| (name.into(), value.into()));
        let overrides = Arguments::parse_from(arguments).settings.overrides(environment);
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

    #[test]
    fn wrong_values_are_refused() {
        for wrong in [
            "--workers=0",
            "--workers=1025",
            "--listen=mqtt://x",
            "--log-level=loud",
            "--set=a",
            "--set=a..b=1",
        ] {
            assert!(Arguments::try_parse_from(["cairnmq", wrong]).is_err(), "{wrong}");
        }
    }
}
