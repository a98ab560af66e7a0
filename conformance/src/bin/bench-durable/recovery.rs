//! A broker with a long queue for a session whose client is away is ended and started again.

use std::time::{Duration, Instant};

use conformance::folder::bytes_below;
use rustix::process::Signal;

use crate::rig::broker::{Broker, free_port};
use crate::rig::link::{self, Session};
use crate::rig::load::Load;
use crate::rig::statistics::median;
use crate::{Bench, Contender, Result, fan_in};

const PAYLOAD_BYTES: usize = 200;
const PUBLISHERS: u64 = 10;
/// Those that have something left after a restart.
const CONTENDERS: [Contender; 3] = [Contender::Sync, Contender::Interval, Contender::Persistent];

struct Row {
    queued_rate: f64,
    queued_peak: u64,
    disk_bytes: u64,
    /// From the signal to the end.
    stop: Duration,
    /// From the start to the first CONNACK.
    start: Duration,
    memory: u64,
    drained_rate: f64,
    drained_seconds: f64,
    drained_peak: u64,
}

pub(crate) fn table(bench: &mut Bench) -> Result<()> {
    let backlog = bench.arguments.backlog.div_ceil(PUBLISHERS) * PUBLISHERS;
    println!(
        "{backlog} messages of QoS 1 and {PAYLOAD_BYTES} bytes from {PUBLISHERS} publishers, queued for \
         a session whose client is away. cairnmq is killed (SIGKILL); mosquitto is asked to stop \
         (SIGTERM), since it saves only then.\n\n\
         | broker | queued/s | peak MiB | MiB on disk | stop s | start to CONNACK s | MiB then \
         | drained/s | drain s | peak MiB |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    );
    let rows = bench.rounds(&CONTENDERS, |bench, contender| measure(bench, contender, backlog))?;
    for (contender, runs) in &rows {
        let mib =
            |value: fn(&Row) -> u64| median(runs, |row| value(row) as f64 / f64::from(1 << 20));
        println!(
            "| {} | {:.0} | {:.1} | {:.1} | {:.2} | {:.3} | {:.1} | {:.0} | {:.1} | {:.1} |",
            contender.name(),
            median(runs, |row| row.queued_rate),
            mib(|row| row.queued_peak),
            mib(|row| row.disk_bytes),
            median(runs, |row| row.stop.as_secs_f64()),
            median(runs, |row| row.start.as_secs_f64()),
            mib(|row| row.memory),
            median(runs, |row| row.drained_rate),
            median(runs, |row| row.drained_seconds),
            mib(|row| row.drained_peak),
        );
    }
    Ok(())
}

fn measure(bench: &mut Bench, contender: Contender, backlog: u64) -> Result<Row> {
    let (mut broker, folder) = bench.start(contender)?;
    let in_flight = usize::from(bench.arguments.in_flight);
    let plan = fan_in(PUBLISHERS as usize, in_flight, PAYLOAD_BYTES, u64::MAX);
    let mut load = Load::connect(broker.address, &plan)?;
    let absent = load.leave();
    let took = load.run(backlog / PUBLISHERS);
    let queued_rate = backlog as f64 / took.as_secs_f64();
    let queued_peak = broker.memory("VmHWM")?;

    let began = Instant::now();
    broker.signal(if contender.is_ours() { Signal::KILL } else { Signal::TERM })?;
    broker.wait()?;
    let stop = began.elapsed();
    drop(broker);
    let disk_bytes = bytes_below(folder.path());

    let began = Instant::now();
    let mut broker = Broker::launch(&bench.recipe(contender)?, folder.path(), free_port()?)?;
    broker.wait_until(Duration::from_millis(1), Duration::from_secs(120), |broker| {
        link::connect(broker.address, "first", Session::Clean).is_ok()
    })?;
    let start = began.elapsed();
    let memory = broker.memory("VmRSS")?;

    broker.reset_peak()?;
    load.resume(broker.address, absent)?;
    let took = load.run(0).as_secs_f64();
    bench.note(contender, "recovery", load.faults());
    Ok(Row {
        queued_rate,
        queued_peak,
        disk_bytes,
        stop,
        start,
        memory,
        drained_rate: backlog as f64 / took,
        drained_seconds: took,
        drained_peak: broker.memory("VmHWM")?,
    })
}
