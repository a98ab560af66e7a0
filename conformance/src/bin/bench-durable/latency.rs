//! The time from PUBLISH to PUBACK, when each publisher waits for it before the next.

use std::time::Duration;

use clap::ValueEnum;

use crate::rig::load::Load;
use crate::rig::statistics::{median, quantile};
use crate::{Bench, Contender, Result, fan_in};

struct Row {
    p50: f64,
    p99: f64,
    max: f64,
}

pub(crate) fn table(bench: &mut Bench) -> Result<()> {
    println!(
        "PUBACK in microseconds, 64 bytes, one message of each publisher unacknowledged, {} messages, \
         to one subscriber whose session is kept (the greatest of all rounds as max):\n\n\
         | publishers | broker | p50 | p99 | max |\n|--:|---|--:|--:|--:|",
        bench.arguments.acknowledged
    );
    for publishers in [1, 100] {
        let rows = bench.rounds(Contender::value_variants(), |bench, contender| {
            measure(bench, contender, publishers)
        })?;
        for (contender, runs) in &rows {
            println!(
                "| {publishers} | {} | {:.0} | {:.0} | {:.0} |",
                contender.name(),
                median(runs, |row| row.p50),
                median(runs, |row| row.p99),
                runs.iter().map(|row| row.max).fold(0.0, f64::max),
            );
        }
    }
    Ok(())
}

fn measure(bench: &mut Bench, contender: Contender, publishers: usize) -> Result<Row> {
    let (broker, _folder) = bench.start(contender)?;
    let mut load = Load::connect(broker.address, &fan_in(publishers, 1, 64, u64::MAX))?;
    let count = bench.arguments.acknowledged.div_ceil(publishers as u64);
    load.run(count.div_ceil(20));
    load.time_acknowledgements();
    load.run(count);
    bench.note(contender, &format!("latency, {publishers} publishers"), load.faults());
    let mut times: Vec<Duration> = load.times().collect();
    times.sort_unstable();
    let [p50, p99, max] =
        [0.5, 0.99, 1.0].map(|part| quantile(&times, part).as_secs_f64() * 1_000_000.0);
    Ok(Row { p50, p99, max })
}
