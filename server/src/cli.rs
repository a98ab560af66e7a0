//! The command line.

use std::{num::NonZeroU16, path::PathBuf};

use clap::{Parser, Subcommand, ValueEnum};

use crate::{
    acl_tool::AclCommand, listen::ListenUrl, passwd_tool::PasswdCommand, store_tool::StoreCommand,
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
  cairnmq --config /etc/cairnmq.toml
      Takes the settings from a file; flags override it.

SIGTERM and SIGINT stop the broker once clients have been told; a second one stops it at once.
Exit status: 0 after a stop, 1 if the broker cannot work, 2 if a flag or the configuration is wrong."
)]
pub(crate) struct Arguments {
    /// Something else than to serve.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// An address to serve, such as tcp://127.0.0.1:1883 or tcp://[::1]:1883; may be given more
    /// than once, and then the file's listeners are not used.
    #[arg(long, value_name = "URL")]
    pub(crate) listen: Vec<ListenUrl>,

    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Let everybody connect, even from other machines, whatever user name they give.
    #[arg(long)]
    pub(crate) allow_anonymous: bool,

    /// How much is logged (on standard error). The default is `info`: start, stop, connects and
    /// disconnects.
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

    /// Keeps what is not synced back from the system: killing the broker then does what a power failure
    /// would. For tests.
    #[arg(long, hide = true)]
    pub(crate) lose_unsynced: bool,

    /// Lets every sync fail after so many. For tests.
    #[arg(long, hide = true, value_name = "N")]
    pub(crate) syncs_max: Option<u64>,

    /// The number of worker threads, 1 to 1024. The default is one for every two
    /// processors.
    #[arg(long, value_name = "N", value_parser = workers)]
    pub(crate) workers: Option<NonZeroU16>,
}

/// What the program can do besides serving.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Looks into a data directory that no broker uses.
    #[command(subcommand)]
    Store(StoreCommand),
    /// Adds, removes and verifies users of a password file.
    #[command(subcommand)]
    Passwd(PasswdCommand),
    /// Says what rules allow, and why.
    #[command(subcommand)]
    Acl(Box<AclCommand>),
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

    #[test]
    fn flags_are_read() {
        let arguments = Arguments::parse_from([
            "cairnmq",
            "--listen=tcp://127.0.0.1:1",
            "--listen=tcp://[::1]:2",
            "--workers=3",
            "--data-dir=/tmp/x",
            "--durability=memory",
            "--log-level=warn",
        ]);
        assert_eq!(arguments.listen.len(), 2);
        assert_eq!(arguments.workers, NonZeroU16::new(3));
        assert_eq!(arguments.log_level, Some(LogLevel::Warn));
        assert_eq!(arguments.data_dir, Some("/tmp/x".into()));
        assert_eq!(arguments.durability, Some(DurabilityMode::Memory));
        assert!(!arguments.allow_anonymous);
    }

    #[test]
    fn wrong_values_are_refused() {
        for wrong in ["--workers=0", "--workers=1025", "--listen=mqtt://x", "--log-level=loud"] {
            assert!(Arguments::try_parse_from(["cairnmq", wrong]).is_err(), "{wrong}");
        }
    }
}
