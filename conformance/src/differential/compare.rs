//! Two traces of one script beside each other.
//!
//! Within a step the standard leaves the order open between messages of different topics or QoS and
//! between packets of different types, so each [`Lane`] of a link is compared for itself, in order.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use codec::QoS;

use super::{
    event::{Event, Lane, Seen, Trace},
    model::Model,
    rules::{Effect, Rule, Sides},
    script::{Op, Script},
};

/// What a comparison came to.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Steps that were compared.
    pub steps: usize,
    /// Packets, and ends of connections, that were compared: those of ours.
    pub packets: usize,
    /// How many packets each rule explained, by its name.
    pub explained: BTreeMap<&'static str, usize>,
    /// What no rule explains. The comparison ends there: what follows may be its consequence.
    pub unexplained: Option<Difference>,
}

/// What one link saw otherwise in one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The step, from 0.
    pub step: usize,
    /// The link.
    pub link: usize,
    /// What has an order of its own.
    pub lane: Lane,
    /// What our broker sent.
    pub ours: Vec<Event>,
    /// What the other one sent.
    pub theirs: Vec<Event>,
}

/// Where a difference stands.
#[derive(Clone, Debug)]
pub struct Scene<'a> {
    /// The script.
    pub script: &'a Script,
    /// The models before each operation, and after the last.
    pub history: &'a [Model],
    /// The step.
    pub step: usize,
    /// The link.
    pub link: usize,
    /// Whose link it is.
    pub client: usize,
    /// Clients and labels of messages of which it got other copies, as a rule explained.
    pub unequal: BTreeSet<(usize, u32)>,
    /// All that the peer sent in the step.
    pub theirs: &'a [Seen],
}

impl<'a> Scene<'a> {
    fn new(script: &'a Script, history: &'a [Model]) -> Self {
        let (step, link, client, theirs) = (0, 0, 0, &[][..]);
        Self { script, history, step, link, client, unequal: BTreeSet::new(), theirs }
    }

    /// The operation.
    pub fn op(&self) -> &'a Op {
        &self.script.ops[self.step]
    }

    /// What was before it.
    pub fn before(&self) -> &'a Model {
        &self.history[self.step]
    }

    /// When this message was published, or said to be a Will, and by whom.
    pub fn step_of(&self, label: u32) -> Option<(usize, usize)> {
        let is_it = |op: &Op| op.publication().is_some_and(|message| message.label == label);
        let step = self.script.ops.iter().position(is_it)?;
        Some((step, self.script.ops[step].client))
    }

    /// What was after it.
    pub fn after(&self) -> &'a Model {
        &self.history[self.step + 1]
    }
}

/// Compares, and lets the rules explain.
///
/// # Errors
/// The script is not legal, or a trace is not of this script.
pub fn compare(
    script: &Script,
    ours: &Trace,
    theirs: &Trace,
    rules: &[Rule],
) -> Result<Comparison, String> {
    let history = Model::history(script)?;
    if ours.steps.len() != script.ops.len() || theirs.steps.len() != script.ops.len() {
        return Err("a trace has not as many steps as the script".to_owned());
    }
    let owners = script.owners();
    let mut comparison = Comparison::default();
    let mut scene = Scene::new(script, &history);
    for (step, (ours, theirs)) in ours.steps.iter().zip(&theirs.steps).enumerate() {
        comparison.steps += 1;
        comparison.packets += ours.len();
        (scene.step, scene.theirs) = (step, theirs);
        for (link, lane) in lanes(ours, theirs) {
            (scene.link, scene.client) = (link, owners[link]);
            let (ours, theirs) = (of(ours, link, &lane), of(theirs, link, &lane));
            if !is_explained(&scene, &ours, &theirs, rules, &mut comparison) {
                comparison.unexplained = Some(Difference { step, link, lane, ours, theirs });
                return Ok(comparison);
            }
            let unequal = unequal_copies(&ours, &theirs).map(|label| (owners[link], label));
            scene.unequal.extend(unequal);
        }
        let parts = |rule: &&Rule| matches!(rule.effect, Effect::Parts(parts) if parts(&scene));
        if let Some(rule) = rules.iter().find(parts) {
            *comparison.explained.entry(rule.name).or_default() += 1;
            break;
        }
    }
    Ok(comparison)
}

fn is_explained(
    scene: &Scene<'_>,
    ours: &[Event],
    theirs: &[Event],
    rules: &[Rule],
    comparison: &mut Comparison,
) -> bool {
    let mut sides = Sides { ours: ours.to_vec(), theirs: theirs.to_vec() };
    for rule in rules {
        if sides.ours == sides.theirs {
            break;
        }
        if let Effect::Explains(explain) = rule.effect {
            let count = explain(scene, &mut sides);
            if count > 0 {
                *comparison.explained.entry(rule.name).or_default() += count;
            }
        }
    }
    sides.ours == sides.theirs
}

/// The messages of which there are other numbers of copies with one QoS.
fn unequal_copies(ours: &[Event], theirs: &[Event]) -> impl Iterator<Item = u32> {
    let qos = |events: &[Event]| {
        let mut copies: BTreeMap<(Option<u32>, QoS), usize> = BTreeMap::new();
        for event in events {
            if let Event::Publish(copy) = event {
                *copies.entry((copy.label, copy.qos)).or_default() += 1;
            }
        }
        copies
    };
    let (ours, theirs) = (qos(ours), qos(theirs));
    let keys: BTreeSet<_> = ours.keys().chain(theirs.keys()).copied().collect();
    let unequal = keys.into_iter().filter(move |key| ours.get(key) != theirs.get(key));
    unequal.filter_map(|(label, _)| label)
}

fn lanes(ours: &[Seen], theirs: &[Seen]) -> BTreeSet<(usize, Lane)> {
    ours.iter().chain(theirs).map(|seen| (seen.link, seen.event.lane())).collect()
}

/// What a link saw of a lane. Copies of one message that come together have no order.
fn of(seen: &[Seen], link: usize, lane: &Lane) -> Vec<Event> {
    let here = seen.iter().filter(|seen| seen.link == link && seen.event.lane() == *lane);
    let mut events: Vec<_> = here.map(|seen| seen.event.clone()).collect();
    let is_one = |one: &Event, next: &Event| one.label().is_some() && one.label() == next.label();
    events.chunk_by_mut(is_one).for_each(|copies| copies.sort_by_key(Event::to_string));
    events
}

impl Difference {
    /// What kind it is, so that a smaller script can be told to show the same.
    pub fn kind(&self) -> String {
        let kind = match &self.lane {
            Lane::Messages(..) => "PUBLISH".to_owned(),
            other => format!("{other:?}"),
        };
        format!("{kind} {:?}", self.ours.len().cmp(&self.theirs.len()))
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "step {}, link {}:", self.step, self.link)?;
        for (name, events) in [("ours", &self.ours), ("theirs", &self.theirs)] {
            for event in events {
                writeln!(f, "    {name:6}  {event}")?;
            }
        }
        Ok(())
    }
}

/// A script with both traces side by side; only the differing step with `only`.
pub fn side_by_side(script: &Script, ours: &Trace, theirs: &Trace) -> String {
    let mut out = String::new();
    for (step, op) in script.ops.iter().enumerate() {
        out.push_str(&format!("{step:3} {op}\n"));
        let (ours, theirs) = (&ours.steps[step], &theirs.steps[step]);
        for (link, lane) in lanes(ours, theirs) {
            let (ours, theirs) = (of(ours, link, &lane), of(theirs, link, &lane));
            for at in 0..ours.len().max(theirs.len()) {
                let shown =
                    |events: &[Event]| events.get(at).map_or(String::new(), Event::to_string);
                let (ours, theirs) = (shown(&ours), shown(&theirs));
                let mark = if ours == theirs { ' ' } else { '!' };
                out.push_str(&format!("  {mark}   link {link}: {ours:60} | {theirs}\n"));
            }
        }
    }
    out
}
