//! The same models in another checker: it has to find the same numbers of states.
//!
//! Stateright passes silently where a run is cut short, so none is: no time-out, no depth, and
//! properties of both kinds, so that it cannot stop early for having discovered all.

use std::{hash::Hash, sync::Arc};

use conformance::{
    explore::models,
    universe::{Op, Setup, Universe},
};
use stateright::{Checker, Model, Property};

/// Models that a debug build checks in a second or two.
const SMALL: usize = 17_000;

struct World(Arc<Setup>);

/// A state, or the property that the way to it broke.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    Whole(Box<Universe>),
    Broken(String),
}

impl Model for World {
    type State = State;
    type Action = Op;

    fn init_states(&self) -> Vec<State> {
        vec![match Universe::new(self.0.clone()) {
            Ok(universe) => State::Whole(Box::new(universe)),
            Err(finding) => State::Broken(finding.to_string()),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Op>) {
        if let State::Whole(universe) = state {
            universe.enabled(actions);
        }
    }

    fn next_state(&self, last: &State, op: Op) -> Option<State> {
        let State::Whole(universe) = last else { return None };
        let mut next = universe.clone();
        Some(match next.apply(op) {
            Ok(_) => State::Whole(next),
            Err(finding) => State::Broken(finding.to_string()),
        })
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("nothing is broken", |_, state| matches!(state, State::Whole(_))),
            Property::sometimes(
                "all is delivered",
                |_, state| matches!(state, State::Whole(universe) if universe.is_content()),
            ),
            // Never found, so that the search goes on to its end.
            Property::sometimes("the moon", |_, _| false),
        ]
    }
}

#[test]
fn stateright_counts_the_same_states() {
    let compared = compare(SMALL);
    assert!(compared >= 7, "{compared} models are small");
}

/// All models, in a few minutes:
/// `cargo test --release -p conformance --test stateright -- --ignored`
#[test]
#[ignore = "takes minutes"]
fn stateright_counts_the_same_states_everywhere() {
    assert_eq!(compare(usize::MAX), models::all().len());
}

/// How many models have no more states than this; each has the same number in both checkers.
fn compare(states_max: usize) -> usize {
    let mut compared = 0;
    for model in models::all() {
        if model.states > states_max {
            continue;
        }
        compared += 1;
        let checker = World(Arc::new(model.setup)).checker().spawn_bfs().join();
        checker.assert_no_discovery("nothing is broken");
        checker.assert_any_discovery("all is delivered");
        assert_eq!(checker.unique_state_count(), model.states, "{}", model.name);
    }
    compared
}
