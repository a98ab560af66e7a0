//! What operators see and do: logs, control, metrics, `$SYS`, drain.

use std::{net::SocketAddr, path::PathBuf};

use settings::{Choice, Section};

use super::{Config, LogLevel};

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogConfig {
    /// How much.
    pub(crate) level: LogLevel,
    /// In which form.
    pub(crate) format: LogFormat,
    /// Where to.
    pub(crate) target: LogTarget,
    /// The socket on which systemd takes lines.
    pub(crate) journal: PathBuf,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            level: LogLevel::default(),
            format: LogFormat::default(),
            target: LogTarget::default(),
            journal: "/run/systemd/journal/stdout".into(),
        }
    }
}

/// The form of lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// An object a line, for programs.
    Json,
}

/// Where lines go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LogTarget {
    /// Standard error.
    #[default]
    Stderr,
    /// The journal of systemd, with levels.
    Journald,
}

/// `[control]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ControlConfig {
    /// Where; absent: `control.sock` in the data directory. Empty: nowhere.
    pub(crate) socket: Option<PathBuf>,
    /// Permissions of the file.
    pub(crate) mode: u32,
}

/// `[http]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HttpConfig {
    /// Where; empty: nowhere.
    pub(crate) listen: Vec<SocketAddr>,
    /// What `/metrics` wants to be shown; absent: nothing, and then it answers on loopback addresses only.
    pub(crate) token_file: Option<PathBuf>,
}

/// `[sys]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SysConfig {
    /// How often, seconds; 0: never.
    pub(crate) interval_s: u32,
}

/// `[drain]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DrainConfig {
    /// Where clients of 5.0 are told to go.
    pub(crate) server_reference: Option<String>,
    /// So many at a time, of each worker.
    pub(crate) batch: u32,
    /// Between two batches, milliseconds.
    pub(crate) pause_ms: u64,
}

impl Default for ControlConfig {
    fn default() -> Self {
        Self { socket: None, mode: 0o660 }
    }
}

impl Default for SysConfig {
    fn default() -> Self {
        Self { interval_s: 10 }
    }
}

impl Default for DrainConfig {
    fn default() -> Self {
        Self { server_reference: None, batch: 1000, pause_ms: 100 }
    }
}

impl Choice for LogFormat {
    const CHOICES: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

impl Choice for LogTarget {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("stderr", Self::Stderr), ("journald", Self::Journald)];
}

impl Config {
    pub(super) fn read_operation(&mut self, top: &mut Section<'_, '_>) {
        top.table_or_defaults("log", |section| {
            section.choice("level", &mut self.log.level);
            section.choice("format", &mut self.log.format);
            section.choice("target", &mut self.log.target);
            let mut journal = self.log.journal.to_string_lossy().into_owned();
            section.string_into("journal", &mut journal);
            self.log.journal = journal.into();
        });
        top.table_or_defaults("control", |section| {
            self.control.socket = section.string("socket").map(|(path, _)| path.into());
            read_mode(section, &mut self.control.mode);
        });
        top.table_or_defaults("http", |section| read_http(section, &mut self.http));
        top.table_or_defaults("sys", |section| {
            section.number("interval_s", 0, 86_400, &mut self.sys.interval_s);
        });
        top.table_or_defaults("drain", |section| {
            self.drain.server_reference = section.string("server_reference").map(|(to, _)| to);
            section.number("batch", 1, u32::MAX, &mut self.drain.batch);
            section.number("pause_ms", 0, 3_600_000, &mut self.drain.pause_ms);
        });
    }
}

/// Permissions of a socket file.
pub(super) fn read_mode(section: &mut Section<'_, '_>, mode: &mut u32) {
    let mut text = format!("{mode:04o}");
    section.string_into("mode", &mut text);
    match u32::from_str_radix(&text, 8) {
        Ok(read) if read <= 0o777 => *mode = read,
        _ => {
            let problem = format!("`mode` must be permissions such as \"0660\", not \"{text}\"");
            section.problem_at("mode", problem);
        }
    }
}

fn read_http(section: &mut Section<'_, '_>, http: &mut HttpConfig) {
    for (text, span) in section.strings("listen") {
        match text.parse() {
            Ok(address) => http.listen.push(address),
            Err(_) => {
                let problem = format!("`{text}` is no address; write one such as 127.0.0.1:9883");
                section.problem(&span, problem);
            }
        }
    }
    http.token_file = section.string("token_file").map(|(path, _)| path.into());
}
