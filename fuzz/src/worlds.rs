//! Whole brokers in closed worlds, driven by an input: a property that breaks is a panic, and in the
//! end everything must drain.
//!
//! The first eight bytes are the seed of the world, as for `swarm`.

use arbitrary::{Arbitrary, Unstructured};
use conformance::{
    swarm,
    universe::{Finding, Op, Universe},
};

/// Operations of one input; more only make it slow.
const OPERATIONS_MAX: usize = 400;

fn world(data: &[u8]) -> Option<(Universe, &[u8])> {
    let (seed, rest) = data.split_first_chunk::<8>()?;
    let setup = swarm::setup_of(u64::from_le_bytes(*seed));
    Some((Universe::new(setup).expect("nothing has happened yet"), rest))
}

/// Runs a world, and hands each operation that is chosen to `done` with what became of it.
fn run(
    data: &[u8],
    choosing: bool,
    mut done: impl FnMut(Op, &mut Universe, Result<bool, Finding>),
) {
    let Some((mut universe, bytes)) = world(data) else { return };
    let mut enabled = Vec::new();
    let mut rest = Unstructured::new(bytes);
    for _ in 0..OPERATIONS_MAX {
        if rest.is_empty() {
            break;
        }
        let op = if choosing {
            universe.enabled(&mut enabled);
            let byte = u8::arbitrary(&mut rest).unwrap_or_default();
            enabled.get(usize::from(byte) % enabled.len().max(1)).copied()
        } else {
            Op::arbitrary(&mut rest).ok()
        };
        let Some(op) = op else { break };
        let applied = universe.apply(op);
        done(op, &mut universe, applied);
    }
    if let Err(finding) = universe.drain() {
        panic!("drained: {finding}");
    }
}

fn judge(op: Op, _: &mut Universe, applied: Result<bool, Finding>) {
    if let Err(finding) = applied {
        panic!("{op}: {finding}");
    }
}

/// Each byte chooses one of the things that can happen.
pub fn choices(data: &[u8]) {
    run(data, true, judge);
}

/// The bytes are operations, possible or not.
pub fn operations(data: &[u8]) {
    run(data, false, judge);
}

/// What an input of one of the two does, as `swarm` prints it.
pub fn narrate(target: &str, data: &[u8]) -> Vec<String> {
    let Some((seed, _)) = data.split_first_chunk::<8>() else { return Vec::new() };
    let mut trace = Vec::new();
    let steps = std::panic::AssertUnwindSafe(|| {
        run(data, target == "choices", |op, _, applied| {
            trace.push(op);
            assert!(applied.is_ok(), "the end of the trace");
        });
    });
    // Whatever breaks is told with the trace.
    let _broken = std::panic::catch_unwind(steps);
    let seed = u64::from_le_bytes(*seed);
    swarm::narrate(seed, &swarm::shrink_trace(seed, trace))
}

/// Inputs to begin with: worlds of the first seeds, and bytes without a plan.
pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut state = 1_u64;
    let mut byte = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0_u64..32)
        .map(|seed| {
            let mut bytes = seed.to_le_bytes().to_vec();
            bytes.extend((0..400).map(|_| byte()));
            (format!("world-{seed}"), bytes)
        })
        .collect()
}
