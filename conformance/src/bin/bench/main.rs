//! A benchmark of the broker beside others: all are started here, on this machine, and take turns
//! within one run. Prints medians as Markdown tables, or writes them into a document.
//!
//! Processor time per delivered message says more than messages per second: the generator shares
//! the machine with the broker. Every delivery is checked; a broker that loses, doubles or misorders a
//! message gets no figure, and the exit status is 1 if it was ours.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the command line")]

mod arguments;
mod backlog;
mod connections;
mod contender;
mod document;
mod floor;
mod host;
mod latency;
mod messages;
mod retained;
#[allow(dead_code, reason = "the other benchmark uses the rest")]
mod rig;
mod rounds;
mod scenario;
mod sections;
mod table;
mod wildcards;
mod workers;

use std::error::Error;
use std::fs;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use arguments::Arguments;
use document::Section;
use rounds::Bench;

/// What goes wrong outside of the brokers ends the run with one line.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    match run(Arguments::parse().complete()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether our broker did nothing wrong.
fn run(arguments: Arguments) -> Result<bool> {
    if let Some(port) = arguments.serve_floor {
        rig::broker::raise_open_files();
        floor::serve(port)?;
        return Ok(true);
    }
    rig::broker::raise_open_files();
    let wanted = sections::wanted(&arguments)?;
    let write = arguments.write.clone();
    // That it can be read is known before hours are spent.
    let before = match &write {
        Some(path) if path.exists() => fs::read_to_string(path)
            .map_err(|error| format!("--write {}: {error}", path.display()))?,
        _ => String::new(),
    };
    if write.is_some() {
        // Whether the document can take them is known beforehand too.
        let empty = wanted.iter().map(|&name| Section { name, text: String::new() });
        document::merge(&before, "", &empty.collect::<Vec<_>>(), &sections::NAMES)?;
    }
    let contenders = contender::choose(&arguments)?;
    let command = command_line();
    let mut bench = Bench { arguments, contenders, notes: Vec::new(), ours_failed: false };
    let began = Instant::now();
    let mut written = Vec::new();
    for name in wanted {
        let text = sections::measure(&mut bench, name, &command)?;
        if write.is_none() {
            println!("{}\n", text.trim());
        }
        written.push(Section { name, text });
        if let Some(path) = &write {
            // After every table: a long run that is interrupted has not been in vain.
            let document = document::merge(&before, &sections::head(), &written, &sections::NAMES);
            // The first tables of a new document cannot stand beside what is no table yet.
            if let Ok(document) = document {
                fs::write(path, document)
                    .map_err(|error| format!("--write {}: {error}", path.display()))?;
            }
        }
    }
    eprintln!("bench: done in {:.0} s", began.elapsed().as_secs_f64());
    if bench.ours_failed {
        eprintln!("bench: cairnmq did something wrong; see above");
    }
    Ok(!bench.ours_failed)
}

/// The command as somebody would repeat it, whose programs are in other folders.
fn command_line() -> String {
    let words = std::env::args().skip(1).map(|word| {
        let word = without_folders(&word);
        if word.contains([' ', '{']) { format!("'{word}'") } else { word }
    });
    std::iter::once("target/release/bench".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

/// The text with the last component of each absolute path in place of all.
fn without_folders(text: &str) -> String {
    let part = |part: &str| {
        let last = part.rsplit('/').next().unwrap_or_default();
        if part.starts_with('/') { last.to_owned() } else { part.to_owned() }
    };
    let word = |word: &str| word.split('=').map(part).collect::<Vec<String>>().join("=");
    text.split(' ').map(word).collect::<Vec<String>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::without_folders;

    #[test]
    fn a_command_names_no_folders_of_this_machine() {
        assert_eq!(without_folders("--program=nats=/opt/x/nats"), "--program=nats=nats");
        assert_eq!(without_folders("a=/opt/a --config {config}"), "a=a --config {config}");
        assert_eq!(without_folders("docs/benchmarks.md"), "docs/benchmarks.md");
    }
}
