//! Messages that wait for a session whose client is away, and are sent when it returns.

use std::fmt;
use std::time::Instant;

use crate::Result;
use crate::contender::Need;
use crate::rig::broker::Broker;
use crate::rig::ledger::Faults;
use crate::rig::link::Session;
use crate::rig::load::Load;
use crate::rig::plan::Plan;
use crate::rounds::{Bench, cells};
use crate::table::{Better, Comparison};

const PUBLISHERS: u32 = 4;

struct Run {
    queued_us: f64,
    queued_rate: f64,
    bytes_each: f64,
    drained_us: f64,
    drained_rate: f64,
}

impl fmt::Display for Run {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Run { queued_us, queued_rate, bytes_each, drained_us, drained_rate } = self;
        write!(
            formatter,
            "queued {queued_us:.2} us and {bytes_each:.0} bytes each, {queued_rate:.0}/s; drained \
             {drained_us:.2} us each, {drained_rate:.0}/s"
        )
    }
}

pub(crate) fn table(bench: &mut Bench) -> Result<String> {
    let each = bench.arguments.backlog.div_ceil(PUBLISHERS);
    let needs = [Need::Qos1, Need::Sessions];
    let runs = bench.in_turn("backlog", &needs, |broker, _| measure(broker, each.into()))?;
    let count = each * PUBLISHERS;
    let title = format!("{count} messages of 64 bytes, QoS 1, from {PUBLISHERS} publishers:");
    let mut table = Comparison::new(&title, &["figure"], bench.columns());
    let mut add = |name: &str, better, value: fn(&Run) -> f64| {
        table.row(&[name], better, cells(&runs, value));
    };
    add("CPU us per message queued", Better::Lower, |run| run.queued_us);
    add("messages queued per second", Better::Higher, |run| run.queued_rate);
    add("bytes of memory per message queued", Better::Lower, |run| run.bytes_each);
    add("CPU us per message drained", Better::Lower, |run| run.drained_us);
    add("messages drained per second", Better::Higher, |run| run.drained_rate);
    Ok(table.render())
}

fn measure(broker: &Broker, each: u64) -> Result<(Run, Faults)> {
    let plan = Plan { qos: 1, session: Session::Kept, ..Plan::uniform(1, PUBLISHERS as usize, 1) };
    let mut load = Load::connect(broker.address, &plan)?;
    load.run(100);
    let absent = load.leave();
    let count = (each * u64::from(PUBLISHERS)) as f64;
    let us_each = |before: u64, after: u64| after.saturating_sub(before) as f64 / 1e3 / count;
    let (memory, began) = (broker.settled_memory()?, broker.cpu_ns()?);
    let queueing = load.run(each);
    let queued = broker.cpu_ns()?;
    let grown = broker.settled_memory()?.saturating_sub(memory);
    let before = broker.cpu_ns()?;
    let returning = Instant::now();
    load.resume(broker.address, absent)?;
    load.run(0);
    let draining = returning.elapsed();
    let run = Run {
        queued_us: us_each(began, queued),
        queued_rate: count / queueing.as_secs_f64(),
        bytes_each: grown as f64 / count,
        drained_us: us_each(before, broker.cpu_ns()?),
        drained_rate: count / draining.as_secs_f64(),
    };
    Ok((run, load.faults()))
}
