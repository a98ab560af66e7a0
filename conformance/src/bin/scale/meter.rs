//! What is measured: the memory of this process, and the processor time of this thread.

use std::{fs, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// Batches that a cost is the median of.
const BATCHES: usize = 41;

/// Bytes of memory that this process has.
pub(crate) fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("always there");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib * 1024
}

/// Processor time that some work of this thread takes.
pub(crate) fn processor_time(work: impl FnOnce()) -> Duration {
    let begin = thread_time();
    work();
    thread_time() - begin
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).expect("not negative");
    let nanoseconds = u32::try_from(time.tv_nsec).expect("below a second");
    Duration::new(seconds, nanoseconds)
}

/// Nanoseconds of one of `each` things: the median of many batches, since others use the machine's
/// caches too. What a batch needs is made before its time is taken, and is thrown away after it.
pub(crate) fn cost<S, B>(
    state: &mut S,
    each: u32,
    prepare: impl Fn(&mut S) -> B,
    run: impl Fn(&mut S, B),
) -> f64 {
    let mut batches: Vec<Duration> = (0..BATCHES)
        .map(|_| {
            let batch = prepare(state);
            processor_time(|| run(state, batch))
        })
        .collect();
    batches.sort_unstable();
    batches[BATCHES / 2].as_secs_f64() * 1e9 / f64::from(each)
}

/// Numbers drawn from a seed (SplitMix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new() -> Self {
        Self(1)
    }

    /// A number below a bound.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let drawn = u64::from((mixed ^ (mixed >> 31)) as u32);
        ((drawn * u64::from(bound)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_touched_is_seen() {
        let before = resident();
        let touched = vec![1_u8; 64 << 20];
        assert!(resident() - before >= 63 << 20);
        assert_eq!(touched[1 << 20], 1);
    }

    #[test]
    fn time_is_taken_and_divided() {
        let spin = |rounds: &mut u32, ()| {
            for _ in 0..100_000 {
                *rounds = std::hint::black_box(rounds.wrapping_add(1));
            }
        };
        let mut rounds = 0;
        let one = cost(&mut rounds, 1, |_| (), spin);
        let hundredth = cost(&mut rounds, 100, |_| (), spin);
        assert!(one > 1000.0 && hundredth < one, "{one} {hundredth}");
        assert_eq!(rounds, 2 * 41 * 100_000);
    }

    #[test]
    fn drawn_numbers_are_spread() {
        let mut random = Random::new();
        let drawn: Vec<u32> = (0..10_000).map(|_| random.below(10)).collect();
        for number in 0..10 {
            let count = drawn.iter().filter(|drawn| **drawn == number).count();
            assert!((800..1200).contains(&count), "{number}: {count}");
        }
    }
}
