//! The same legal script against two brokers, and every difference explained or reported.
//!
//! [`draw`] makes a script from a seed, [`model`] knows whether it is legal, [`play`] plays it with
//! a barrier after every operation and writes a trace, [`compare`] holds two traces against each
//! other, and [`rules`] explains what is known to be different.

pub mod broker;
mod client;
pub mod compare;
pub mod draw;
pub mod event;
pub mod model;
pub mod play;
pub mod rules;
pub mod script;

use std::{io, net::SocketAddr, process, thread};

use self::{
    compare::{Comparison, compare},
    event::Trace,
    rules::Rule,
    script::Script,
};
use crate::{
    live::{Live, Patience},
    play::Names,
    world::WorldError,
};

/// Plays of one script while it is made smaller.
const SHRINKING_PLAYS_MAX: usize = 400;

/// The two brokers.
#[derive(Debug)]
pub struct Pair {
    /// Ours.
    pub ours: SocketAddr,
    /// The one to compare with.
    pub theirs: SocketAddr,
    /// Rounds of PINGREQ after each operation.
    pub rounds_min: usize,
    plays: u64,
}

/// One script and what became of it.
#[derive(Clone, Debug)]
pub struct Run {
    /// The script.
    pub script: Script,
    /// What our broker did.
    pub ours: Trace,
    /// What the other one did.
    pub theirs: Trace,
    /// What is to be said of the two.
    pub comparison: Comparison,
}

impl Pair {
    /// Two brokers that listen.
    pub fn new(ours: SocketAddr, theirs: SocketAddr, rounds_min: usize) -> Self {
        Self { ours, theirs, rounds_min, plays: 0 }
    }

    /// Plays a script on both at the same time, under names that were never used before.
    ///
    /// # Errors
    /// A broker is gone, or does not answer.
    pub fn run(&mut self, script: &Script, rules: &[Rule]) -> Result<Run, String> {
        self.plays += 1;
        let names = Names::under(format!("d{:x}x{}", process::id(), self.plays));
        let (ours, theirs) = thread::scope(|scope| {
            let other = scope.spawn(|| trace(self.theirs, &names, script, self.rounds_min));
            let ours = trace(self.ours, &names, script, self.rounds_min);
            (ours, other.join().unwrap_or_else(|_| Err(WorldError("panicked".to_owned()))))
        });
        let ours = ours.map_err(|error| format!("ours: {error}"))?;
        let theirs = theirs.map_err(|error| format!("theirs: {error}"))?;
        let comparison = compare(script, &ours, &theirs, rules)?;
        Ok(Run { script: script.clone(), ours, theirs, comparison })
    }

    /// A smaller script that shows a difference of the same kind, as long as one is found.
    pub fn shrink(&mut self, run: Run, rules: &[Rule]) -> Run {
        let Some(difference) = &run.comparison.unexplained else { return run };
        let kind = difference.kind();
        let mut best = run;
        let mut plays = 0;
        let mut size = best.script.ops.len().div_ceil(2);
        while size > 0 {
            let mut at = 0;
            while at < best.script.ops.len() && plays < SHRINKING_PLAYS_MAX {
                let mut script = best.script.clone();
                script.ops.drain(at..(at + size).min(script.ops.len()));
                plays += 1;
                match self.run(&model::legal_part(&script), rules) {
                    Ok(run) if shows(&run.comparison, &kind) => best = run,
                    _ => at += size,
                }
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
        best
    }
}

fn shows(comparison: &Comparison, kind: &str) -> bool {
    comparison.unexplained.as_ref().is_some_and(|difference| difference.kind() == kind)
}

fn trace(
    broker: SocketAddr,
    names: &Names,
    script: &Script,
    rounds_min: usize,
) -> Result<Trace, WorldError> {
    let failed = |error: io::Error| WorldError(error.to_string());
    let mut world = Live::new(broker, Patience::default()).map_err(failed)?;
    let trace = play::play(&mut world, names, script, rounds_min)?;
    // The links of the script are closed with their world; the sessions are taken over.
    play::tidy_up(&mut world, names, script)?;
    Ok(trace)
}
