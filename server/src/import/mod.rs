//! `cairnmq config import`: configurations of other brokers, as far as they can be had here.

mod conf;
mod draft;
mod grant;
mod options;
mod translate;

use std::{
    fmt, fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};

use crate::config::Config;

use translate::translate;

/// The status if something could not be translated.
pub(crate) const LOST: u8 = 3;

/// Of which broker.
#[derive(Debug, Subcommand)]
pub(crate) enum ImportCommand {
    /// Translates a mosquitto.conf, with the files that it includes. What could not be translated, or is different here,
    /// is said on standard error, and then the status is 3; it is 0 if nothing was lost.
    Mosquitto(MosquittoArguments),
}

/// What is translated, and where to.
#[derive(Args, Debug)]
pub(crate) struct MosquittoArguments {
    /// The mosquitto.conf.
    file: PathBuf,
    /// Into this file, which must not be there; standard output if it is not given.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The file of rules, if one is needed, which must not be there: mosquitto allows everything without an acl_file,
    /// and here that is written down.
    #[arg(long, value_name = "FILE", default_value = "rules.toml")]
    rules: PathBuf,
}

/// What came of a configuration.
pub(crate) struct Imported {
    /// The configuration.
    pub(crate) settings: String,
    /// A file of rules that it names.
    pub(crate) rules: Option<String>,
    /// What to know, in the order of the file.
    pub(crate) notes: Vec<Note>,
}

/// Something to know about an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    /// Where: `file:line`.
    pub(crate) place: String,
    pub(crate) kind: Kind,
    pub(crate) text: String,
}

/// What became of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It says what is so anyway.
    NotNeeded,
    /// It is nearly the same.
    Differs,
    /// It is not there.
    Lost,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::NotNeeded => "not needed",
            Kind::Differs => "differs",
            Kind::Lost => "NOT TRANSLATED",
        };
        write!(f, "{}: {kind}: {}", self.place, self.text)
    }
}

/// Translates. Returns the status to end with.
///
/// # Errors
/// A file cannot be read or written.
pub(crate) fn run(command: &ImportCommand) -> Result<u8, Vec<String>> {
    let ImportCommand::Mosquitto(arguments) = command;
    let lines = conf::read(&arguments.file).map_err(|problem| vec![problem])?;
    let imported = translate(&lines, &arguments.rules.display().to_string());
    // Nothing is written that would not be read.
    Config::parse("the translation", &imported.settings, &[])?;
    if let Some(rules) = &imported.rules {
        write_new(&arguments.rules, rules)?;
    }
    match &arguments.output {
        Some(path) => write_new(path, &imported.settings)?,
        None => match io::stdout().lock().write_all(imported.settings.as_bytes()) {
            // Whoever closed the pipe has seen enough.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                return Err(vec![format!("cannot write: {error}")]);
            }
            _ => {}
        },
    }
    let mut stderr = io::stderr().lock();
    for note in &imported.notes {
        let _ = writeln!(stderr, "{note}");
    }
    let lost = imported.notes.iter().any(|note| note.kind == Kind::Lost);
    Ok(if lost { LOST } else { 0 })
}

fn write_new(path: &Path, text: &str) -> Result<(), Vec<String>> {
    let write = || {
        let mut file = fs::File::create_new(path)?;
        file.write_all(text.as_bytes())
    };
    write().map_err(|error| vec![format!("cannot write {}: {error}", path.display())])
}
