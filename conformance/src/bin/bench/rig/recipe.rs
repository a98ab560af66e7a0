//! How a broker is started: a program, its arguments and its configuration, with placeholders for
//! what is decided at the start.

use std::path::{Path, PathBuf};
use std::process::Command;

use conformance::differential::broker::installed_mosquitto;

use crate::Result;

/// A program with its arguments and the text of its configuration file. `{port}`, `{folder}` (an
/// empty directory of its own) and, in arguments, `{config}` (the path of that file) are replaced.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Recipe {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) config: Option<String>,
}

/// What placeholders stand for.
pub(crate) struct Places<'a> {
    pub(crate) port: u16,
    pub(crate) folder: &'a Path,
    pub(crate) config: &'a Path,
}

impl Places<'_> {
    /// The text with placeholders replaced.
    pub(crate) fn fill(&self, text: &str) -> String {
        text.replace("{port}", &self.port.to_string())
            .replace("{folder}", &self.folder.display().to_string())
            .replace("{config}", &self.config.display().to_string())
    }
}

/// Without a limit on queues, so that it drops nothing; all else as installed.
const CAIRNMQ_FILE: &str = "[limits]
session_queue_max = 4000000000
session_queue_bytes_max = 1000000000000
";

/// The same for mosquitto, without a log.
const MOSQUITTO_FILE: &str = "listener {port} 127.0.0.1
allow_anonymous true
log_type none
max_queued_messages 0
";

/// It keeps what it keeps in the folder; `user` is for root only, of whom it would not be the user who
/// may write there.
const MOSQUITTO_PERSISTENCE: &str = "persistence true
persistence_location {folder}/
user root
";

impl Recipe {
    /// Ours.
    pub(crate) fn cairnmq(program: PathBuf, workers: Option<u16>, durability: &str) -> Recipe {
        let mut arguments = "--listen tcp://127.0.0.1:{port} --log-level error --config {config} \
                             --data-dir {folder} --durability"
            .split(' ')
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect::<Vec<String>>();
        arguments.push(durability.to_owned());
        if let Some(workers) = workers {
            arguments.extend(["--workers".to_owned(), workers.to_string()]);
        }
        let config = Some(CAIRNMQ_FILE.to_owned());
        Recipe { name: "cairnmq".to_owned(), program, arguments, config }
    }

    /// The installed mosquitto, if there is no other.
    pub(crate) fn mosquitto(program: Option<PathBuf>, is_persistent: bool) -> Result<Recipe> {
        let program = program
            .or_else(installed_mosquitto)
            .ok_or("mosquitto is missing: apt-get install mosquitto, or give --program")?;
        let mut config = MOSQUITTO_FILE.to_owned();
        if is_persistent {
            config += MOSQUITTO_PERSISTENCE;
        }
        let arguments = ["-c", "{config}"].map(str::to_owned).to_vec();
        Ok(Recipe { name: "mosquitto".to_owned(), program, arguments, config: Some(config) })
    }
}

/// The binary to measure. `cargo run` builds only this program, so the broker is built here.
pub(crate) fn our_binary(named: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(path) = named {
        return Ok(path);
    }
    if let Some(cargo) = std::env::var_os("CARGO") {
        let status = Command::new(cargo).args(["build", "--release", "-p", "cairnmq"]).status()?;
        if !status.success() {
            return Err(format!("cargo build --release -p cairnmq: {status}").into());
        }
        return Ok(std::env::current_exe()?.with_file_name("../release/cairnmq"));
    }
    let path = std::env::current_exe()?.with_file_name("cairnmq");
    if !path.exists() {
        let path = path.display();
        return Err(format!("{path} is missing: cargo build --release, or give --broker").into());
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_replaced_wherever_they_stand() {
        let (folder, config) = (Path::new("/tmp/f"), Path::new("/tmp/f/config"));
        let places = Places { port: 1884, folder, config };
        assert_eq!(
            places.fill("listen {port} {folder}/a {folder}/b -c {config} {other}"),
            "listen 1884 /tmp/f/a /tmp/f/b -c /tmp/f/config {other}"
        );
    }

    #[test]
    fn our_arguments_end_with_what_was_chosen() {
        let recipe = Recipe::cairnmq("cairnmq".into(), Some(2), "sync");
        let end = &recipe.arguments[recipe.arguments.len() - 4..];
        assert_eq!(end, ["--durability", "sync", "--workers", "2"]);
        assert_eq!(recipe.arguments[0], "--listen");
    }
}
