//! Explores models exhaustively and prints what was found.

use std::{process::ExitCode, time::Instant};

use clap::Parser;
use conformance::{
    explore::{
        explore,
        models::{self, Model},
    },
    universe::Sight,
};

/// Explores models of the broker exhaustively.
#[derive(Parser)]
struct Cli {
    /// Only models whose names contain this.
    name: Option<String>,
    /// Fails if a model has another number of states than the one that was reviewed.
    #[arg(long)]
    check: bool,
    /// Gives up beyond so many states.
    #[arg(long, default_value_t = 20_000_000)]
    states_max: usize,
}

#[allow(clippy::print_stdout, reason = "it is a command")]
fn main() -> ExitCode {
    let cli = Cli::parse();
    let is_chosen =
        |model: &Model| cli.name.as_ref().is_none_or(|name| model.name.contains(name.as_str()));
    let chosen: Vec<Model> = models::all().into_iter().filter(is_chosen).collect();
    // Nothing explored is nothing proved.
    let mut failed = chosen.is_empty();
    if failed {
        println!("no model has such a name");
    }
    for model in chosen {
        let begin = Instant::now();
        let explored = explore(&model.setup, cli.states_max);
        let seconds = begin.elapsed().as_secs_f64();
        println!(
            "{}: {} states, {} transitions, depth {}, {} content, complete {}, {seconds:.1} s",
            model.name,
            explored.states,
            explored.transitions,
            explored.depth,
            explored.content,
            explored.is_complete,
        );
        let unseen: Vec<_> =
            model.sights.iter().filter(|sight| explored.sights & sight.bit() == 0).collect();
        let seen: Vec<_> =
            Sight::ALL.iter().filter(|sight| explored.sights & sight.bit() != 0).collect();
        println!("  seen {seen:?}; not seen {unseen:?}");
        failed |= !unseen.is_empty() || !explored.is_complete;
        if cli.check && explored.states != model.states {
            failed = true;
            println!("  {} states are expected", model.states);
        }
        if let Some((finding, trace)) = explored.finding {
            failed = true;
            println!("  FINDING {finding}");
            let lines = conformance::explore::narrate(&model.setup, &trace);
            lines.iter().for_each(|line| println!("    {line}"));
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
