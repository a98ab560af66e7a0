//! `cairnmq config`: checks, shows and makes configurations.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::Subcommand;
use serde_json::json;
use settings::{Entry, Kind};

use crate::{
    config::{self, Config, SettingsArguments},
    import::ImportCommand,
    serving,
};

/// What to do with a configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Says everything that is wrong, each with its place; status 2 if something is. Certificates, password files
    /// and rules are read too; no address is taken, and a running broker is left alone.
    Check {
        /// The configuration file; that of --config if it is not given.
        file: Option<PathBuf>,
        /// What is set elsewhere.
        #[command(flatten)]
        settings: SettingsArguments,
    },
    /// Shows the values in force, and where each comes from.
    Show {
        /// What is not set is shown too.
        #[arg(long)]
        all: bool,
        /// As JSON.
        #[arg(long)]
        json: bool,
        /// What is set, and where.
        #[command(flatten)]
        settings: SettingsArguments,
    },
    /// Writes a configuration to begin with, with all keys as comments.
    Init {
        /// Into this file, which must not be there; standard output if it is not given.
        file: Option<PathBuf>,
    },
    /// Translates the configuration of another broker.
    #[command(subcommand)]
    Import(ImportCommand),
    /// Writes the reference of all keys, in Markdown.
    Docs,
}

/// Carries out all but an import, which has a status of its own.
///
/// # Errors
/// What is wrong, one line each.
pub(crate) fn run(command: &ConfigCommand) -> Result<(), Vec<String>> {
    match command {
        ConfigCommand::Import(_) => Ok(()),
        ConfigCommand::Check { file, settings } => {
            let mut settings = settings.clone();
            if file.is_some() {
                settings.config.clone_from(file);
            }
            let (config, _) = Config::load(&settings)?;
            serving::check(&config)?;
            let name = settings.config.map(|path| path.display().to_string());
            print(&format!("{}: nothing is wrong\n", name.as_deref().unwrap_or("the defaults")))
        }
        ConfigCommand::Show { all, json, settings } => {
            let (_, entries) = Config::load(settings)?;
            let entries = entries.iter().filter(|entry| *all || entry.place.is_some());
            print(&if *json { as_json(entries) } else { as_text(entries) })
        }
        ConfigCommand::Init { file: None } => print(&config::starting_file()),
        ConfigCommand::Init { file: Some(path) } => {
            let write = || {
                let mut file = std::fs::File::create_new(path)?;
                file.write_all(config::starting_file().as_bytes())
            };
            write().map_err(|error| vec![format!("cannot write {}: {error}", path.display())])
        }
        ConfigCommand::Docs => print(&config::reference()),
    }
}

/// What is shown of a value: tables may hold what is secret.
fn shown(entry: &Entry) -> &str {
    match (&entry.value, &entry.kind) {
        (Some(_), Kind::Table) => "{ … }",
        (Some(value), _) => value,
        (None, _) => "(not set)",
    }
}

fn as_text<'e>(entries: impl Iterator<Item = &'e Entry>) -> String {
    let lines: Vec<_> = entries
        .map(|entry| {
            let place = entry.place.as_deref().unwrap_or("default");
            (format!("{} = {}", entry.path, shown(entry)), place)
        })
        .collect();
    let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0).min(60);
    lines.iter().map(|(line, place)| format!("{line:width$}  # {place}\n")).collect()
}

fn as_json<'e>(entries: impl Iterator<Item = &'e Entry>) -> String {
    let lines = entries.map(|entry| {
        let value = entry.value.as_ref().map(|_| shown(entry));
        json!({ "key": entry.path, "value": value, "from": entry.place }).to_string() + "\n"
    });
    lines.collect()
}

fn print(text: &str) -> Result<(), Vec<String>> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever closed the pipe has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(vec![format!("cannot write: {error}")])
        }
        _ => Ok(()),
    }
}
