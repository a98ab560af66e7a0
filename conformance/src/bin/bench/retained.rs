//! Retained messages: what it costs to keep them, and to send them all to a subscriber that comes
//! later.

use std::fmt;
use std::time::Instant;

use crate::Result;
use crate::contender::Need;
use crate::rig::broker::Broker;
use crate::rig::ledger::Faults;
use crate::rig::load::Load;
use crate::rig::packet::Version;
use crate::rig::plan::{GroupPlan, Plan, PublisherPlan, Routing};
use crate::rounds::{Bench, cells};
use crate::table::{Better, Comparison};

const PUBLISHERS: u32 = 4;
/// Topics below one parent.
const SIBLINGS: u32 = 256;

struct Run {
    stored_us: f64,
    bytes_each: f64,
    delivered_us: f64,
    delivered_rate: f64,
}

impl fmt::Display for Run {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Run { stored_us, bytes_each, delivered_us, delivered_rate } = self;
        write!(
            formatter,
            "stored {stored_us:.2} us and {bytes_each:.0} bytes each; delivered {delivered_us:.2} us each, \
             {delivered_rate:.0}/s"
        )
    }
}

pub(crate) fn table(bench: &mut Bench) -> Result<String> {
    let count = bench.arguments.retained;
    let plan = plan(count);
    let runs = bench.in_turn("retained", &[Need::Retained], |broker, _| measure(broker, &plan))?;
    let title = format!("{count} retained messages of 64 bytes, QoS 0:");
    let mut table = Comparison::new(&title, &["figure"], bench.columns());
    let mut add = |name: &str, better, value: fn(&Run) -> f64| {
        table.row(&[name], better, cells(&runs, value));
    };
    add("CPU us per message stored", Better::Lower, |run| run.stored_us);
    add("bytes of memory per message stored", Better::Lower, |run| run.bytes_each);
    add("CPU us per message delivered", Better::Lower, |run| run.delivered_us);
    add("messages delivered per second", Better::Higher, |run| run.delivered_rate);
    Ok(table.render())
}

/// Nobody subscribes yet.
fn plan(count: u32) -> Plan {
    let publishers = (0..PUBLISHERS).map(|publisher| {
        let numbers = (0..count).filter(|number| number % PUBLISHERS == publisher);
        let topic = |number: u32| format!("bench/kept/{}/{}", number / SIBLINGS, number % SIBLINGS);
        PublisherPlan { version: Version::V3, topics: numbers.map(topic).collect() }
    });
    let (routing, publishers) = (Routing::Each, publishers.collect());
    let group = GroupPlan { routing, publishers, subscribers: Vec::new() };
    Plan { is_retained: true, ..Plan::of(vec![group]) }
}

fn measure(broker: &Broker, plan: &Plan) -> Result<(Run, Faults)> {
    let mut load = Load::connect(broker.address, plan)?;
    let count = plan.groups[0].topics() as f64;
    let us_each = |before: u64, after: u64| after.saturating_sub(before) as f64 / 1e3 / count;
    let (memory, began) = (broker.settled_memory()?, broker.cpu_ns()?);
    load.run_once();
    load.ping_publishers();
    let stored = broker.cpu_ns()?;
    let grown = broker.settled_memory()?.saturating_sub(memory);

    let before = broker.cpu_ns()?;
    let coming = Instant::now();
    load.join(broker.address, "#")?;
    load.run(0);
    let took = coming.elapsed();
    let run = Run {
        stored_us: us_each(began, stored),
        bytes_each: grown as f64 / count,
        delivered_us: us_each(before, broker.cpu_ns()?),
        delivered_rate: count / took.as_secs_f64(),
    };
    Ok((run, load.faults()))
}
