//! Random runs of wide worlds: every parameter, and how likely each kind of fault is, is drawn
//! from the seed. First everything may go wrong; then the faults stop, and everything must drain.

use std::{collections::BTreeMap, sync::Arc};

use codec::{ProtocolVersion, QoS, RetainHandling};
use session_core::Limits;

use crate::{
    explore,
    sim::Rng,
    universe::{Budget, Clean, Finding, Letter, Op, Persona, Setup, Universe, WillPlan, Wish},
};

/// What a run did.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Operations that were possible at their moment.
    pub operations: u64,
    /// Virtual milliseconds.
    pub elapsed_ms: u64,
    /// Messages that were published.
    pub messages: u64,
    /// How often each kind of operation was carried out.
    pub kinds: BTreeMap<&'static str, u64>,
    /// What was seen, as a set of [`crate::universe::Sight::bit`]s.
    pub sights: u32,
    /// The broken property, if any.
    pub finding: Option<Finding>,
    /// What was done, with the finding at its end.
    pub trace: Vec<Op>,
}

/// Names of the kinds of operations, in the order of their weights.
const KINDS: [&str; 18] = [
    "connect",
    "drop",
    "goodbye",
    "publish",
    "subscribe",
    "unsubscribe",
    "ack",
    "refuse",
    "violate",
    "up",
    "down",
    "hangup",
    "tell",
    "persist",
    "tick",
    "advance",
    "crash",
    "load",
];

const fn kind(op: &Op) -> usize {
    match op {
        Op::Connect { .. } => 0,
        Op::Drop { .. } => 1,
        Op::Goodbye { .. } => 2,
        Op::Publish { .. } => 3,
        Op::Subscribe { .. } => 4,
        Op::Unsubscribe { .. } => 5,
        Op::Ack { .. } => 6,
        Op::Refuse { .. } => 7,
        Op::Violate { .. } => 8,
        Op::Up { .. } => 9,
        Op::Down { .. } => 10,
        Op::HangUp { .. } => 11,
        Op::Tell { .. } => 12,
        Op::Persist { .. } => 13,
        Op::Tick { .. } => 14,
        Op::Advance => 15,
        Op::Crash { .. } => 16,
        Op::Load { .. } => 17,
    }
}

/// How likely each kind is, if there is one to do.
fn weights(rng: &mut Rng) -> [usize; 18] {
    let usual = [20, 3, 2, 40, 10, 4, 60, 3, 1, 100, 100, 20, 100, 60, 80, 2, 1, 60];
    usual.map(|weight: usize| match rng.below(6) {
        // Some kinds are rare in a run, and some are the rule.
        0 => weight.div_ceil(10),
        1 => weight * 5,
        _ => weight,
    })
}

fn pick<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.below(of.len())]
}

const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
const TOPICS: [&str; 5] = ["a", "a/b", "b/c/d", "$x", "e"];
const FILTERS: [&str; 10] =
    ["a", "a/#", "#", "+/b", "b/+/d", "+", "e", "$share/g/a", "$share/g/#", "$share/h/e"];
const NAMES: [&str; 6] = ["anna", "ben", "cleo", "dora", "emil", "fred"];

/// The world of a seed.
pub fn setup(rng: &mut Rng) -> Setup {
    let shards = pick(rng, &[1, 1, 2, 3, 5]);
    let topics: Vec<_> = TOPICS.into_iter().filter(|topic| !topic.starts_with('$')).collect();
    let publications: Vec<_> = (0..12).map(|_| letter(rng, topics.len())).collect();
    let clients = NAMES[..2 + rng.below(5)].iter();
    let clients: Vec<_> = clients.map(|name| persona(rng, name, topics.len())).collect();
    let limits = Limits {
        packet_id_max: pick(rng, &[3, 8, 100, u16::MAX]),
        send_window_max: pick(rng, &[1, 2, 16, 1024]),
        receive_maximum: pick(rng, &[1, 2, 16, 1024]),
        link_in_flight_max: pick(rng, &[1, 4, 8192]),
        publishes_in_flight_max: pick(rng, &[2, 16, 4096]),
        deliveries_per_turn_max: pick(rng, &[1, 3, 10_000]),
        ..Limits::default()
    };
    // A broker may come back with more shards or fewer.
    let changes = if rng.below(2) == 0 { rng.below(4) } else { 0 };
    let shards_later = (0..changes).map(|_| pick(rng, &[1, 2, 3, 5])).collect();
    Setup {
        shards,
        shards_later,
        doors: (0..shards).collect(),
        durable: rng.below(2) == 0,
        paper: None,
        limits,
        credit: pick(rng, &[16, 100, 10_000, 1 << 20]),
        topics,
        clients,
        publications,
        prelude: Vec::new(),
        budget: Budget::UNBOUNDED,
    }
}

/// What is not drawn with the rest, so that the worlds of kept traces stay what they were: in three
/// worlds of seven, memory holds few of the messages that wait for a session, and two of three durable
/// worlds have a disk with faults.
fn complete(seed: u64, setup: &mut Setup) {
    setup.paper = (setup.durable && !seed.is_multiple_of(3)).then_some(seed);
    let messages = match seed % 7 {
        0 => 1,
        2 => 2,
        3 => 40,
        _ => return,
    };
    setup.limits.session_resident_max = messages;
}

fn letter(rng: &mut Rng, topics: usize) -> Letter {
    let retain = rng.below(3) == 0;
    Letter {
        topic: rng.below(topics),
        qos: pick(rng, &QOS),
        retain,
        empty: retain && rng.below(4) == 0,
        expiry_s: (rng.below(5) == 0).then(|| 1 + rng.below(30) as u32),
    }
}

fn persona(rng: &mut Rng, id: &'static str, topics: usize) -> Persona {
    let wishes = (0..rng.below(4)).map(|_| Wish {
        filter: pick(rng, &FILTERS),
        qos: pick(rng, &QOS),
        handling: pick(
            rng,
            &[RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend],
        ),
    });
    let mut wishes: Vec<_> = wishes.collect();
    wishes.sort_by_key(|wish| wish.filter);
    wishes.dedup_by_key(|wish| wish.filter);
    let will = (rng.below(3) == 0).then(|| WillPlan {
        topic: rng.below(topics),
        qos: pick(rng, &QOS),
        retain: rng.below(3) == 0,
        delay_s: pick(rng, &[0, 0, 5, 20]),
    });
    let version = pick(
        rng,
        &[ProtocolVersion::V5, ProtocolVersion::V5, ProtocolVersion::V311, ProtocolVersion::V31],
    );
    Persona {
        id,
        version,
        clean: pick(rng, &[Clean::Never, Clean::Never, Clean::Sometimes, Clean::Always]),
        expiry_s: pick(rng, &[0, 10, 60, u32::MAX]),
        receive_maximum: pick(rng, &[1, 2, 10, u16::MAX]),
        will: will.map(|plan| match version {
            ProtocolVersion::V5 => plan,
            _ => WillPlan { delay_s: 0, ..plan },
        }),
        wishes,
        lazy: rng.below(2) == 0,
        letters: (0..12).collect(),
    }
}

/// Runs the world of a seed for so many operations, and lets it drain.
pub fn run(seed: u64, operations: usize) -> Run {
    let mut rng = Rng::new(seed);
    let mut setup = setup(&mut rng);
    complete(seed, &mut setup);
    let weights = weights(&mut rng);
    // A broker without a disk loses everything with a crash, and nobody owes it anything.
    if !setup.durable {
        setup.budget.crashes = 0;
    }
    if rng.below(4) > 0 {
        setup.budget.violations = 0;
    }
    let mut run = Run::default();
    let mut universe = match Universe::new(Arc::new(setup)) {
        Ok(universe) => universe,
        Err(finding) => {
            run.finding = Some(finding);
            return run;
        }
    };
    run.finding = disorder(&mut universe, &mut rng, &weights, operations, &mut run).err();
    if run.finding.is_none() {
        run.finding = universe.drain().err();
    }
    run.operations = universe.steps();
    run.elapsed_ms = universe.elapsed_ms();
    run.messages = universe.messages() as u64;
    run.sights = universe.sights();
    run
}

fn disorder(
    universe: &mut Universe,
    rng: &mut Rng,
    weights: &[usize; 18],
    operations: usize,
    run: &mut Run,
) -> Result<(), Finding> {
    let mut ops = Vec::new();
    for _ in 0..operations {
        universe.enabled(&mut ops);
        let total: usize = ops.iter().map(|op| weights[kind(op)]).sum();
        let mut ball = rng.below(total.max(1));
        let chosen = ops.iter().find(|op| {
            let weight = weights[kind(op)];
            let hit = ball < weight;
            ball = ball.saturating_sub(weight);
            hit
        });
        let Some(op) = chosen.copied() else { return Ok(()) };
        run.trace.push(op);
        *run.kinds.entry(KINDS[kind(&op)]).or_default() += 1;
        universe.apply(op)?;
    }
    Ok(())
}

/// Leaves out of a failing trace whatever it fails without; the world is that of the seed.
pub fn shrink_trace(seed: u64, mut trace: Vec<Op>) -> Vec<Op> {
    let setup = setup_of(seed);
    let broken = |trace: &[Op]| {
        let mut universe = Universe::new(setup.clone()).ok()?;
        let steps = trace.iter().try_for_each(|op| universe.apply(*op).map(|_| ()));
        steps.and_then(|()| universe.drain()).err().map(|finding| finding.property)
    };
    let property = broken(&trace);
    if property.is_none() {
        return trace;
    }
    let fails = |trace: &[Op]| broken(trace) == property;
    let mut size = trace.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        while at < trace.len() {
            let mut shorter = trace.clone();
            shorter.drain(at..(at + size).min(trace.len()));
            if fails(&shorter) {
                trace = shorter;
            } else {
                at += size;
            }
        }
        if size == 1 {
            return trace;
        }
        size = size.div_ceil(2);
    }
}

/// The world of a seed, as [`run`] makes it.
pub fn setup_of(seed: u64) -> Arc<Setup> {
    let mut setup = setup(&mut Rng::new(seed));
    complete(seed, &mut setup);
    Arc::new(setup)
}

/// Replays operations in the world of a seed, and writes down each with the packets it caused.
pub fn narrate(seed: u64, trace: &[Op]) -> Vec<String> {
    explore::narrate(&setup_of(seed), trace)
}
