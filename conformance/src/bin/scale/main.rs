//! How the core scales: what one session, subscription or message costs in memory and processor
//! time among a thousand and among a million of them, in one shard and without sockets.
//!
//! Each case runs in a process of its own, so that none finds memory that another gave back.
//! Figures are printed as the tables of `docs/scaling.md`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the command line")]

mod calls;
mod cost;
mod kernel;
mod matching;
mod memory;
mod meter;
mod start;
mod timers;
mod world;

use std::{
    env,
    error::Error,
    process::{Command, ExitCode, Stdio},
};

use clap::Parser;

/// What goes wrong ends the run with one line.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Sizes of `--smoke`.
const SMOKE: [u32; 2] = [100, 1000];

/// Measures memory and processor time of one shard as sessions, subscriptions and messages grow.
#[derive(Parser)]
struct Arguments {
    /// Only cases whose names contain this
    name: Option<String>,

    /// How many there are, in rising order
    #[arg(
        long,
        value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(1..=10_000_000),
        default_values_t = [1000, 10_000, 100_000, 1_000_000],
    )]
    sizes: Vec<u32>,

    /// Tiny sizes: not for the figures, but to see that everything runs
    #[arg(long, conflicts_with = "sizes")]
    smoke: bool,

    /// Runs one case: what the process of a case does
    #[arg(long, hide = true, conflicts_with = "name")]
    run: Option<String>,
}

/// Something to measure at each size.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) run: fn(u32, &mut Report),
}

/// Where a case puts its figures: at the parent process.
pub(crate) struct Report;

impl Report {
    /// One figure of a line of a table.
    pub(crate) fn line(&mut self, table: &str, label: &str, figure: &str) {
        println!("{table}\t{label}\t{figure}");
    }
}

/// Figures of a table's line by size.
type Figures = Vec<(u32, String)>;

/// All figures of a run: tables and their lines, in the order in which they first came.
#[derive(Default)]
struct Tables(Vec<(String, Vec<(String, Figures)>)>);

impl Tables {
    /// Takes what the process of a case printed.
    fn read(&mut self, size: u32, printed: &str) -> Result<()> {
        for line in printed.lines() {
            let mut parts = line.splitn(3, '\t');
            let (Some(table), Some(label), Some(figure)) =
                (parts.next(), parts.next(), parts.next())
            else {
                return Err(format!("what is this: {line}").into());
            };
            let lines = entry(&mut self.0, table);
            entry(lines, label).push((size, figure.into()));
        }
        Ok(())
    }

    fn print(&self, sizes: &[u32]) {
        for (table, lines) in &self.0 {
            println!("\n| {table} | {} |", join(sizes.iter().map(|size| grouped(*size))));
            println!("|---|{}", "--:|".repeat(sizes.len()));
            for (label, figures) in lines {
                let figure = |size: &u32| {
                    let found = figures.iter().find(|(of, _)| of == size);
                    found.map_or_else(|| "-".into(), |(_, figure)| figure.clone())
                };
                println!("| {label} | {} |", join(sizes.iter().map(figure)));
            }
        }
    }
}

fn entry<'a, T: Default>(list: &'a mut Vec<(String, T)>, key: &str) -> &'a mut T {
    let at = list.iter().position(|(present, _)| present == key).unwrap_or_else(|| {
        list.push((key.into(), T::default()));
        list.len() - 1
    });
    &mut list[at].1
}

fn join(cells: impl Iterator<Item = String>) -> String {
    cells.collect::<Vec<_>>().join(" | ")
}

/// A number with commas, as people read it.
fn grouped(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scale: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let cases = memory::CASES.iter().chain(&cost::CASES).chain(&matching::CASES);
    let cases = cases.chain(&timers::CASES).chain(&start::CASES).chain(&calls::CASES);
    let cases: Vec<&Case> = cases.chain(&kernel::CASES).collect();
    let sizes = if arguments.smoke { SMOKE.as_slice() } else { &arguments.sizes };
    if let Some(name) = &arguments.run {
        let case = cases.iter().find(|case| case.name == name);
        let case = case.ok_or_else(|| format!("there is no case {name}"))?;
        sizes.iter().for_each(|size| (case.run)(*size, &mut Report));
        return Ok(());
    }
    let is_chosen =
        |case: &&&Case| arguments.name.as_ref().is_none_or(|part| case.name.contains(part));
    let chosen: Vec<_> = cases.iter().filter(is_chosen).collect();
    if chosen.is_empty() {
        return Err("no case has such a name".into());
    }
    let mut tables = Tables::default();
    for case in chosen {
        for size in sizes {
            eprintln!("{} {size}", case.name);
            tables.read(*size, &run_apart(case.name, *size)?)?;
        }
    }
    tables.print(sizes);
    Ok(())
}

/// Runs a case in a process of its own, and returns what it printed.
fn run_apart(name: &str, size: u32) -> Result<String> {
    let output = Command::new(env::current_exe()?)
        .args(["--run", name, "--sizes", &size.to_string()])
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("{name} with {size} ended with {}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!([1, 999, 1000, 1_234_567].map(grouped), ["1", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn figures_are_gathered_by_table_and_line() {
        let mut tables = Tables::default();
        tables.read(10, "a\tx\t1\nb\ty\t2\na\tz\t3\n").expect("well-formed");
        tables.read(20, "a\tx\t4\n").expect("well-formed");
        let figures = |list: &[(u32, &str)]| {
            list.iter().map(|(size, figure)| (*size, (*figure).to_owned())).collect::<Vec<_>>()
        };
        let a = vec![
            ("x".into(), figures(&[(10, "1"), (20, "4")])),
            ("z".into(), figures(&[(10, "3")])),
        ];
        assert_eq!(
            tables.0,
            [("a".into(), a), ("b".into(), vec![("y".into(), figures(&[(10, "2")]))])]
        );
        assert!(tables.read(10, "nothing").is_err());
    }
}
