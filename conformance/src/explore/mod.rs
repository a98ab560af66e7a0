//! Exhaustive exploration of a closed world: every order of everything that can happen.
//!
//! Breadth first, so that a trace to a finding is as short as any. A state is known again by its
//! 128-bit fingerprint. Three things are demanded of all reachable states: no property is broken
//! on the way, the world is not trapped (from everywhere a state stays reachable in which
//! everything is delivered and nothing is under way), and the run is not vacuous (what the model is
//! about was seen).

pub mod models;

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
};

use crate::universe::{Finding, Op, Setup, Universe, fingerprint};

/// What an exploration found.
#[derive(Clone, Debug, Default)]
pub struct Explored {
    /// Distinct states.
    pub states: usize,
    /// Operations tried in them.
    pub transitions: usize,
    /// The length of the longest of the shortest traces.
    pub depth: usize,
    /// States in which everything is delivered and nothing is under way.
    pub content: usize,
    /// What was seen, as a set of [`crate::universe::Sight::bit`]s.
    pub sights: u32,
    /// The broken property, and the shortest trace to it.
    pub finding: Option<(Finding, Vec<Op>)>,
    /// Every state within the limit was visited.
    pub is_complete: bool,
}

/// Fingerprints are hashes already.
#[derive(Clone, Debug, Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only fingerprints are hashed")
    }

    fn write_u128(&mut self, value: u128) {
        self.0 = value as u64;
    }
}

/// The graph of states as far as it is known.
#[derive(Default)]
struct Graph {
    known: HashMap<u128, u32, BuildHasherDefault<Identity>>,
    /// How each state was reached first.
    parents: Vec<(u32, Op)>,
    /// Transitions that lead to other states.
    edges: Vec<(u32, u32)>,
    content: Vec<bool>,
}

impl Graph {
    /// The number of a state, and whether it is new.
    fn visit(&mut self, universe: &Universe, from: u32, by: Op) -> (u32, bool) {
        let next = self.parents.len() as u32;
        let number = *self.known.entry(fingerprint(universe)).or_insert(next);
        if number == next {
            self.parents.push((from, by));
            self.content.push(universe.is_content());
        }
        (number, number == next)
    }

    /// The operations that lead to a state.
    fn trace(&self, mut state: u32) -> Vec<Op> {
        let mut trace = Vec::new();
        while state != 0 {
            let (parent, op) = self.parents[state as usize];
            trace.push(op);
            state = parent;
        }
        trace.reverse();
        trace
    }

    /// The first state from which no content one can be reached.
    fn trapped(&self) -> Option<u32> {
        let mut into: Vec<Vec<u32>> = vec![Vec::new(); self.parents.len()];
        for (from, to) in &self.edges {
            into[*to as usize].push(*from);
        }
        let mut free = self.content.clone();
        let mut todo: Vec<u32> =
            (0..).zip(&free).filter(|(_, is)| **is).map(|(state, _)| state).collect();
        while let Some(state) = todo.pop() {
            for from in &into[state as usize] {
                if !std::mem::replace(&mut free[*from as usize], true) {
                    todo.push(*from);
                }
            }
        }
        (0..).zip(&free).find(|(_, is)| !**is).map(|(state, _)| state)
    }
}

/// Explores a world. Beyond `states_max` states it gives up, and the run is not complete.
pub fn explore(setup: &Setup, states_max: usize) -> Explored {
    let mut explored = Explored::default();
    let mut graph = Graph::default();
    let first = match Universe::new(Arc::new(setup.clone())) {
        Ok(first) => first,
        Err(finding) => {
            explored.finding = Some((finding, Vec::new()));
            return explored;
        }
    };
    graph.visit(&first, 0, Op::Advance);
    let mut level = vec![(0_u32, first)];
    while !level.is_empty() && explored.finding.is_none() && graph.parents.len() <= states_max {
        level = next_level(level, &mut graph, &mut explored);
        explored.depth += usize::from(!level.is_empty());
    }
    explored.states = graph.parents.len();
    explored.content = graph.content.iter().filter(|is| **is).count();
    explored.is_complete = level.is_empty() && explored.finding.is_none();
    if explored.is_complete
        && let Some(state) = graph.trapped()
    {
        let detail = "from here on the world cannot come to rest with all delivered".into();
        explored.finding = Some((Finding::new("not-trapped", detail), graph.trace(state)));
    }
    explored
}

fn next_level(
    level: Vec<(u32, Universe)>,
    graph: &mut Graph,
    explored: &mut Explored,
) -> Vec<(u32, Universe)> {
    let mut next = Vec::new();
    let mut ops = Vec::new();
    for (from, universe) in level {
        universe.enabled(&mut ops);
        for op in &ops {
            let mut successor = universe.clone();
            let done = successor.apply(*op);
            explored.transitions += 1;
            explored.sights |= successor.sights();
            successor.forget_sights();
            if let Err(finding) = done {
                let mut trace = graph.trace(from);
                trace.push(*op);
                explored.finding = Some((finding, trace));
                return Vec::new();
            }
            let (to, is_new) = graph.visit(&successor, from, *op);
            if to != from {
                graph.edges.push((from, to));
            }
            if is_new {
                if let Err(finding) = judge_rest(&successor) {
                    explored.finding = Some((finding, graph.trace(to)));
                    return Vec::new();
                }
                next.push((to, successor));
            }
        }
    }
    next
}

/// In a state of rest, what is retained must be what a newcomer is told.
fn judge_rest(universe: &Universe) -> Result<(), Finding> {
    if universe.is_content() && universe.retains() {
        universe.clone().probe()?;
    }
    Ok(())
}

/// Replays a trace, and writes down each operation with the packets that it caused; at its end the
/// world drains.
pub fn narrate(setup: &Setup, trace: &[Op]) -> Vec<String> {
    let mut lines = Vec::new();
    let Ok(mut universe) = Universe::new(Arc::new(setup.clone())) else { return lines };
    universe.keep_journal();
    for op in trace {
        let done = universe.apply(*op);
        lines.push(format!("{op}"));
        lines.extend(universe.take_journal().into_iter().map(|line| format!("    {line}")));
        if let Err(finding) = done {
            lines.push(finding.to_string());
            return lines;
        }
    }
    let drained = universe.drain();
    lines.push("drain".into());
    lines.extend(universe.take_journal().into_iter().map(|line| format!("    {line}")));
    lines.extend(drained.err().map(|finding| finding.to_string()));
    lines
}

/// Replays a trace; the finding it leads to, if any, with the operation at which it came.
///
/// # Errors
/// A property is broken.
pub fn replay(setup: &Setup, trace: &[Op]) -> Result<Universe, (usize, Finding)> {
    let mut universe = Universe::new(Arc::new(setup.clone())).map_err(|finding| (0, finding))?;
    for (at, op) in trace.iter().enumerate() {
        universe.apply(*op).map_err(|finding| (at, finding))?;
    }
    Ok(universe)
}
