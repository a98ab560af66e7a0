//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{
    acl_tool::AclCommand,
    client::{PubArguments, SubArguments},
    config::SettingsArguments,
    config_tool::ConfigCommand,
    control::{CtlArguments, DrainArguments},
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
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
