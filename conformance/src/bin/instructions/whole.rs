//! What the whole binary takes for a message: sockets, event loop, core and allocator together.

use std::{
    env,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use crate::{
    Result,
    lockstep::{Clients, Shape},
    process::Process,
    valgrind::Count,
};

/// Rounds of the short run, after which buffers and tables have the size that they keep.
const ROUNDS_BEFORE: u64 = 3;

/// Counts by the difference of two runs, a short one and a long one: all that happens once is in
/// both, so that it needs no switch that tells callgrind from outside when to count. What starting
/// and connecting vary by is below three thousandths of what the rounds take.
pub(crate) fn count(shape: &Shape) -> Result<Count> {
    let binary = binary(&env::current_exe()?)?;
    let short = instructions(&binary, shape, ROUNDS_BEFORE)?;
    let long = instructions(&binary, shape, ROUNDS_BEFORE + shape.rounds)?;
    difference(short, long, shape.messages())
}

/// What the rounds took by which the long run is longer.
fn difference(short: u64, long: u64, messages: u64) -> Result<Count> {
    match long.checked_sub(short) {
        Some(instructions) if instructions > 0 => Ok(Count { instructions, messages }),
        _ => Err(format!(
            "the broker took {short} instructions in a short run and {long} in a long one, so the \
             messages were not counted: see whether callgrind counts all threads"
        )
        .into()),
    }
}

/// What one run takes from the first instruction of the process to its last.
fn instructions(binary: &Path, shape: &Shape, rounds: u64) -> Result<u64> {
    let (mut process, address) = Process::start(binary)?;
    match drive(address, shape, rounds) {
        Ok(()) => process.stop(),
        Err(error) => Err(process.failure(&error.to_string())),
    }
}

fn drive(broker: SocketAddr, shape: &Shape, rounds: u64) -> Result<()> {
    let mut clients = Clients::connect(broker, shape)?;
    for _ in 0..rounds {
        clients.round()?;
    }
    clients.leave()
}

/// The broker that was built together with this program.
fn binary(this: &Path) -> Result<PathBuf> {
    let path = this.with_file_name("cairnmq");
    if !path.is_file() {
        let path = path.display();
        return Err(format!("{path} is missing: cargo build --release --workspace").into());
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_once_does_not_count() {
        let count = difference(1_000, 6_000, 50).expect("the long run took more");
        assert_eq!(count, Count { instructions: 5_000, messages: 50 });
    }

    #[test]
    fn a_longer_run_that_takes_no_more_is_no_count() {
        for long in [999, 1_000] {
            let error = difference(1_000, long, 50).expect_err("nothing was counted");
            assert!(error.to_string().contains("not counted"), "{error}");
        }
    }

    #[test]
    fn a_missing_binary_says_how_to_build_it() {
        let error = binary(Path::new("/nowhere/instructions")).expect_err("nothing is there");
        let text = error.to_string();
        assert!(text.starts_with("/nowhere/cairnmq is missing: cargo build"), "{text}");
    }
}
