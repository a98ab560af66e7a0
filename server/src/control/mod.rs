//! `cairnmq ctl`: an operator on the same machine, over a socket of the file system. Who may open the file may do
//! everything, so no password is needed.
//!
//! One request is one line of JSON; the answer is any number of lines, each an [`Answer`], the last of which is no row.

mod desk;
mod rows;
mod socket;
mod table;
mod tool;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tracing::warn;

use crate::config::{Config, DurabilityMode, SettingsArguments};

pub(crate) use socket::Control;
pub(crate) use tool::{ctl, drain};

/// What `cairnmq ctl` is asked.
#[derive(Args, Debug)]
pub(crate) struct CtlArguments {
    /// Objects of JSON, one a line, for programs.
    #[arg(long, global = true)]
    json: bool,

    /// The socket of the broker; that of its configuration if it is not given.
    #[arg(long, value_name = "PATH", global = true)]
    socket: Option<PathBuf>,

    #[command(flatten)]
    settings: Place,

    #[command(subcommand)]
    what: Request,
}

/// What `cairnmq drain` is asked.
#[derive(Args, Debug)]
pub(crate) struct DrainArguments {
    /// Where clients of 5.0 are told to go instead (Server Reference); that of the configuration if it is not given.
    #[arg(long, value_name = "SERVER")]
    server_reference: Option<String>,

    /// Objects of JSON, one a line, for programs.
    #[arg(long)]
    json: bool,

    /// The socket of the broker; that of its configuration if it is not given.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,

    #[command(flatten)]
    settings: Place,
}

/// Where the configuration is that tells the socket.
#[derive(Args, Clone, Debug)]
struct Place {
    /// The configuration file of the broker.
    #[arg(long, value_name = "FILE", env = "CAIRNMQ_CONFIG", global = true)]
    config: Option<PathBuf>,

    /// The data directory of the broker.
    #[arg(long, value_name = "PATH", global = true)]
    data_dir: Option<PathBuf>,
}

/// A wish.
#[derive(Clone, Debug, Deserialize, Serialize, Subcommand)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(crate) enum Request {
    /// What the broker is and has, in a few lines.
    Status,
    /// Whether clients are served, and messages taken; status 1 if not, and why.
    Health,
    /// Connected clients.
    Clients {
        #[command(flatten)]
        #[serde(flatten)]
        which: Which,
    },
    /// Everything about one client.
    Client {
        /// Its Client Identifier.
        client_id: String,
    },
    /// Takes the connection of a client away. It may come back; `block` keeps it out.
    Kick {
        /// Its Client Identifier.
        client_id: String,
    },
    /// Sessions, of clients that are away too.
    Sessions {
        #[command(flatten)]
        #[serde(flatten)]
        which: Which,
    },
    /// Ends the session of a client, and its connection: its subscriptions and what waits for it are gone.
    EndSession {
        /// Its Client Identifier.
        client_id: String,
    },
    /// Subscriptions, of all clients or of one.
    Subscriptions {
        /// Only of this client.
        #[arg(long)]
        client: Option<String>,
        #[command(flatten)]
        #[serde(flatten)]
        which: Which,
    },
    /// Retained messages, without their payloads.
    Retained {
        /// Only of topics that this Topic Filter matches.
        #[arg(long, value_name = "FILTER")]
        topic: Option<String>,
        #[command(flatten)]
        #[serde(flatten)]
        which: Which,
    },
    /// Listeners.
    Listeners,
    /// Who loses messages, and for whom most wait.
    Top {
        /// What counts.
        #[arg(value_enum, default_value = "queued")]
        by: By,
    },
    /// Writes the packets of one client, address or topic to the log, whatever its level is; without any of these,
    /// lists what is traced.
    Trace {
        #[command(flatten)]
        #[serde(flatten)]
        what: TraceWhat,
    },
    /// Reads the configuration again: all of it comes into force, or nothing.
    Reload,
    /// Keeps clients out, and ends their connections; lists blocks if nothing is named. Needs [access].
    Block {
        #[command(flatten)]
        #[serde(flatten)]
        who: Who,
        /// For so long, minutes; for ever if it is not given.
        #[arg(long)]
        minutes: Option<u64>,
        /// Why, for people.
        #[arg(long, default_value = "")]
        #[serde(default)]
        note: String,
    },
    /// Ends a block.
    Unblock {
        #[command(flatten)]
        #[serde(flatten)]
        who: Who,
    },
    /// Who was turned away lately, and why. Needs [access].
    Refusals {
        /// No more than so many.
        #[arg(long, default_value_t = 50)]
        max: usize,
    },
    /// Sends all clients elsewhere, and ends the broker; as `cairnmq drain`.
    Drain {
        /// Where clients of 5.0 are told to go instead.
        #[arg(long, value_name = "SERVER")]
        server_reference: Option<String>,
    },
    /// Ends the broker in good order.
    Stop,
}

/// Which rows are wanted.
#[derive(Args, Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Which {
    /// Only those in which this occurs.
    #[arg(long = "match", value_name = "TEXT")]
    #[serde(default)]
    pub(crate) contains: Option<String>,
    /// No more than so many.
    #[arg(long, value_name = "N")]
    #[serde(default)]
    pub(crate) max: Option<usize>,
}

/// What `top` counts.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum By {
    /// Messages that wait.
    Queued,
    /// Messages that were dropped.
    Dropped,
}

/// What is traced.
#[derive(Args, Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct TraceWhat {
    /// The packets of this client.
    #[arg(long, value_name = "CLIENT_ID")]
    #[serde(default)]
    pub(crate) client: Option<String>,
    /// The packets of connections from this address, or range.
    #[arg(long, value_name = "ADDRESS")]
    #[serde(default)]
    pub(crate) address: Option<String>,
    /// Messages whose topic this Topic Filter matches.
    #[arg(long, value_name = "FILTER")]
    #[serde(default)]
    pub(crate) topic: Option<String>,
    /// For so long.
    #[arg(long, default_value_t = 10)]
    #[serde(default)]
    pub(crate) minutes: u64,
    /// Ends all traces.
    #[arg(long)]
    #[serde(default)]
    pub(crate) off: bool,
}

/// Who is kept out.
#[derive(Args, Clone, Debug, Default, Deserialize, Serialize)]
#[group(multiple = false)]
pub(crate) struct Who {
    /// The client with this identifier.
    #[arg(long, value_name = "CLIENT_ID")]
    #[serde(default)]
    pub(crate) client: Option<String>,
    /// Clients with this user name.
    #[arg(long)]
    #[serde(default)]
    pub(crate) user: Option<String>,
    /// Clients from this address, or range.
    #[arg(long)]
    #[serde(default)]
    pub(crate) address: Option<String>,
    /// Clients whose identifier this regular expression fits as a whole.
    #[arg(long, value_name = "REGEX")]
    #[serde(default)]
    pub(crate) client_pattern: Option<String>,
    /// Clients whose user name one fits.
    #[arg(long, value_name = "REGEX")]
    #[serde(default)]
    pub(crate) user_pattern: Option<String>,
    /// Clients whose address, as text, one fits.
    #[arg(long, value_name = "REGEX")]
    #[serde(default)]
    pub(crate) address_pattern: Option<String>,
}

/// A line of the answer.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// A row; all rows of an answer have the same columns.
    Row(Map<String, Value>),
    /// It is done; in words, if there is something to say.
    Done(String),
    /// It is not done, and why.
    Failed(Vec<String>),
}

/// Where the socket of a broker with this configuration is; `None` if it has none.
pub(crate) fn socket_of(config: &Config) -> Option<PathBuf> {
    match &config.control.socket {
        Some(path) if path.as_os_str().is_empty() => None,
        Some(path) => Some(path.clone()),
        // What keeps nothing on disk has no data directory.
        None if config.store.durability == DurabilityMode::Memory => None,
        None => Some(config.store.data_dir.join("control.sock")),
    }
}

/// A configuration of which only what says where the socket is counts.
fn where_at_least(path: &Path) -> Option<Config> {
    let text = std::fs::read_to_string(path).ok()?;
    let table: toml::Table = text.parse().ok()?;
    let path_at =
        |section: &str, key: &str| table.get(section)?.get(key)?.as_str().map(PathBuf::from);
    let mut config = Config::default();
    config.control.socket = path_at("control", "socket");
    if let Some(path) = path_at("store", "data_dir") {
        config.store.data_dir = path;
    }
    Some(config)
}

/// Opens the socket of a configuration. One that nobody asked for may be missing.
///
/// # Errors
/// The socket that was asked for cannot be made.
pub(crate) fn open(config: &Config) -> Result<Option<Control>, String> {
    let Some(path) = socket_of(config) else { return Ok(None) };
    match (Control::bind(&path, config.control.mode), &config.control.socket) {
        (Ok(control), _) => Ok(Some(control)),
        (Err(problem), Some(_)) => Err(problem),
        (Err(problem), None) => {
            warn!("`cairnmq ctl` will not reach this broker: {problem}; set `socket` in [control]");
            Ok(None)
        }
    }
}

impl Place {
    /// The socket of the broker.
    fn socket(&self, given: Option<&Path>) -> Result<PathBuf, Vec<String>> {
        if let Some(path) = given {
            return Ok(path.to_owned());
        }
        let settings = SettingsArguments {
            config: self.config.clone(),
            data_dir: self.data_dir.clone(),
            ..SettingsArguments::default()
        };
        let config = match Config::load(&settings) {
            Ok((config, _)) => config,
            // A configuration that is wrong elsewhere still says where the broker is that goes by an earlier one.
            Err(problems) => self.config.as_deref().and_then(where_at_least).ok_or(problems)?,
        };
        socket_of(&config).ok_or_else(|| {
            vec![
                "the broker of this configuration has no control socket; set `socket` in [control]"
                    .to_owned(),
            ]
        })
    }
}
