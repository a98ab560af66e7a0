//! Every contender in turn, each time started anew: what else the machine does meanwhile hits all.

use std::fmt::Display;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::arguments::Arguments;
use crate::contender::{Contender, Need};
use crate::rig::broker::{Broker, Folder, free_port};
use crate::rig::ledger::Faults;
use crate::rig::open::Unsupported;
use crate::rig::statistics::median;
use crate::table::{Cell, Column};
use crate::{Result, host};

/// What is measured with, and what has gone wrong.
pub(crate) struct Bench {
    pub(crate) arguments: Arguments,
    pub(crate) contenders: Vec<Contender>,
    /// Of the table at hand: what was wrong, and with whom.
    pub(crate) notes: Vec<String>,
    /// Some of them are of our broker.
    pub(crate) ours_failed: bool,
}

/// The runs of one contender.
pub(crate) enum Outcome<T> {
    Measured(Vec<T>),
    Unsupported,
    Failed,
}

impl<T> Outcome<T> {
    /// The median of a figure, if there are any.
    pub(crate) fn median(&self, value: impl Fn(&T) -> f64) -> f64 {
        match self {
            Outcome::Measured(runs) => median(runs, value),
            Outcome::Unsupported | Outcome::Failed => f64::NAN,
        }
    }

    /// The median of a figure.
    pub(crate) fn cell(&self, value: impl Fn(&T) -> f64) -> Cell {
        match self {
            Outcome::Measured(runs) => Cell::Value(median(runs, value)),
            Outcome::Unsupported => Cell::Unsupported,
            Outcome::Failed => Cell::Failed,
        }
    }
}

/// A figure of all contenders.
pub(crate) fn cells<T>(outcomes: &[Outcome<T>], value: impl Fn(&T) -> f64 + Copy) -> Vec<Cell> {
    outcomes.iter().map(|outcome| outcome.cell(value)).collect()
}

impl Bench {
    /// Measures all contenders that have what the row needs. Whoever does something wrong is not
    /// measured again, and does not end the run.
    pub(crate) fn in_turn<T: Display>(
        &mut self,
        row: &str,
        needs: &[Need],
        measure: impl FnMut(&Broker, &Contender) -> Result<(T, Faults)>,
    ) -> Result<Vec<Outcome<T>>> {
        let contenders = self.contenders.clone();
        self.in_turn_of(&contenders, row, needs, measure)
    }

    /// The same with contenders that are not those of the command line.
    pub(crate) fn in_turn_of<T: Display>(
        &mut self,
        contenders: &[Contender],
        row: &str,
        needs: &[Need],
        mut measure: impl FnMut(&Broker, &Contender) -> Result<(T, Faults)>,
    ) -> Result<Vec<Outcome<T>>> {
        let outcome = |contender: &Contender| {
            let lacks = needs.iter().any(|need| contender.lacks.contains(need));
            if lacks { Outcome::Unsupported } else { Outcome::Measured(Vec::new()) }
        };
        let mut outcomes: Vec<Outcome<T>> = contenders.iter().map(outcome).collect();
        let mut port = free_port()?;
        for round in 1..=self.arguments.rounds {
            for (contender, outcome) in contenders.iter().zip(&mut outcomes) {
                let Outcome::Measured(runs) = outcome else { continue };
                let name = contender.name();
                match run(contender, &mut port, &mut measure) {
                    Ok(value) => {
                        eprintln!("bench: {row}, {name}, round {round}: {value}");
                        runs.push(value);
                    }
                    Err(error) if error.is::<Unsupported>() => {
                        eprintln!("bench: {row}, {name}: not supported: {error}");
                        *outcome = Outcome::Unsupported;
                    }
                    Err(error) => {
                        eprintln!("bench: {row}, {name}, round {round}: FAILED: {error}");
                        self.notes.push(format!("{row}, {name}: {error}"));
                        self.ours_failed |= contender.is_ours;
                        *outcome = Outcome::Failed;
                    }
                }
            }
        }
        Ok(outcomes)
    }

    /// The contenders as columns.
    pub(crate) fn columns(&self) -> Vec<Column> {
        columns(&self.contenders)
    }

    /// When, with what and beside what else a table was measured.
    pub(crate) fn origin(&self, load_before: &str, command: &str) -> String {
        let contenders: Vec<String> = self.contenders.iter().map(Contender::describe).collect();
        let rounds = self.arguments.rounds;
        format!(
            "Measured on {} with {}; load average {load_before} before and {} after; {rounds} {} in \
             turn; `{command}`.",
            host::today(),
            contenders.join(", "),
            host::load_average(),
            if rounds == 1 { "round" } else { "rounds, medians," },
        )
    }
}

/// The contenders as columns.
pub(crate) fn columns(contenders: &[Contender]) -> Vec<Column> {
    let column = |contender: &Contender| Column {
        name: contender.name().to_owned(),
        is_floor: contender.is_floor,
    };
    contenders.iter().map(column).collect()
}

/// One run of one contender, on the port of the row unless somebody else has taken it.
fn run<T>(
    contender: &Contender,
    port: &mut u16,
    measure: &mut impl FnMut(&Broker, &Contender) -> Result<(T, Faults)>,
) -> Result<T> {
    let folder = Folder::new(&std::env::temp_dir())?;
    let mut broker = start(contender, folder.path(), port)?;
    let measured = measure(&broker, contender);
    // That it ended is the reason for whatever else went wrong.
    broker.check_alive()?;
    let (value, faults) = measured?;
    if faults.any() {
        return Err(faults.to_string().into());
    }
    Ok(value)
}

fn start(contender: &Contender, folder: &Path, port: &mut u16) -> Result<Broker> {
    let began = Instant::now();
    let mut attempt = Broker::start_at(&contender.recipe, folder, *port);
    for _ in 0..2 {
        // One that is silent is not in want of another port.
        if attempt.is_ok() || began.elapsed() > Duration::from_secs(5) {
            break;
        }
        *port = free_port()?;
        attempt = Broker::start_at(&contender.recipe, folder, *port);
    }
    attempt
}
