//! Messages per second, processor time and bytes written, from 1, 10 and 100 publishers to one
//! subscriber whose session is kept.

use std::thread;
use std::time::Duration;

use clap::ValueEnum;

use crate::rig::broker::Broker;
use crate::rig::load::Load;
use crate::rig::statistics::median;
use crate::{Bench, Contender, Result, fan_in};

const PAYLOAD_BYTES: usize = 64;

struct Row {
    messages: f64,
    seconds: f64,
    cpu_ns: u64,
    written: u64,
}

pub(crate) fn table(bench: &mut Bench) -> Result<()> {
    let in_flight = usize::from(bench.arguments.in_flight);
    println!(
        "QoS 1, {PAYLOAD_BYTES} bytes, at most {in_flight} messages of each publisher \
         unacknowledged, and as many for each on their way to the subscriber:\n\n\
         | publishers | broker | messages/s | CPU us/message | bytes written/message |\n\
         |--:|---|--:|--:|--:|"
    );
    for publishers in bench.arguments.publishers.clone().into_iter().map(usize::from) {
        let rows = bench.rounds(Contender::value_variants(), |bench, contender| {
            measure(bench, contender, publishers, in_flight)
        })?;
        let rate = |row: &Row| row.messages / row.seconds;
        for (contender, runs) in &rows {
            println!(
                "| {publishers} | {} | {:.0} | {:.2} | {:.0} |",
                contender.name(),
                median(runs, rate),
                median(runs, |row| row.cpu_ns as f64 / 1e3 / row.messages),
                median(runs, |row| row.written as f64 / row.messages),
            );
        }
        if publishers == 100 {
            let of = |wanted| rows.iter().find(|(contender, _)| *contender == wanted);
            let rate = |wanted| of(wanted).map(|(_, runs)| median(runs, rate));
            judge(rate(Contender::Sync), rate(Contender::Memory), rate(Contender::Volatile));
        }
    }
    Ok(())
}

/// Says whether the aim is met: half of what memory alone does, and more than a mosquitto that keeps
/// nothing.
fn judge(sync: Option<f64>, memory: Option<f64>, mosquitto: Option<f64>) {
    let (Some(sync), Some(memory), Some(mosquitto)) = (sync, memory, mosquitto) else { return };
    let (of_memory, of_mosquitto) = (sync / memory, sync / mosquitto);
    let said = |is_met| if is_met { "met" } else { "not met" };
    println!(
        "\nWith 100 publishers, `sync` makes {of_memory:.2} of the rate of `memory` (aim: 0.5, {}) and \
         {of_mosquitto:.2} of that of mosquitto without persistence (aim: 1, {}).",
        said(of_memory >= 0.5),
        said(of_mosquitto > 1.0)
    );
}

/// One run on a fresh broker: some unmeasured messages, then the measured ones.
fn measure(
    bench: &mut Bench,
    contender: Contender,
    publishers: usize,
    in_flight: usize,
) -> Result<Row> {
    let (broker, _folder) = bench.start(contender)?;
    let pause = Duration::from_millis(if bench.arguments.smoke { 10 } else { 250 });
    let window = (publishers * in_flight) as u64;
    let plan = fan_in(publishers, in_flight, PAYLOAD_BYTES, window);
    let mut load = Load::connect(broker.address, &plan)?;
    let count = bench.arguments.messages.div_ceil(publishers as u64);
    load.run(count.div_ceil(20));
    let written_before = settled(&broker, pause)?;
    let cpu_before = broker.cpu_ns()?;
    let took = load.run(count);
    let written = settled(&broker, pause)?.saturating_sub(written_before);
    // With what was left to write: a checkpoint belongs to the messages that it is about.
    let cpu_ns = broker.cpu_ns()?.saturating_sub(cpu_before);
    bench.note(contender, &format!("{publishers} publishers"), load.faults());
    let messages = (count * publishers as u64) as f64;
    Ok(Row { messages, seconds: took.as_secs_f64(), cpu_ns, written })
}

/// The bytes written once no more are written, or when that takes too long.
fn settled(broker: &Broker, pause: Duration) -> Result<u64> {
    let mut written = broker.written()?;
    for _ in 0..8 {
        thread::sleep(pause);
        let now = broker.written()?;
        if now == written {
            break;
        }
        written = now;
    }
    Ok(written)
}
