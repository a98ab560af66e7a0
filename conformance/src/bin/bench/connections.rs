//! What connections and sessions cost: those that come and go, those that stay and say nothing, and
//! sessions whose clients have gone.

use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use crate::Result;
use crate::arguments::Connections;
use crate::contender::Need;
use crate::rig::broker::{Broker, raise_open_files};
use crate::rig::ledger::Faults;
use crate::rig::link::Session;
use crate::rig::load::Load;
use crate::rig::open::{Opening, Then, open_all};
use crate::rig::packet::Version;
use crate::rig::plan::{GroupPlan, Plan, PublisherPlan, Routing, SubscriberPlan};
use crate::rounds::{Bench, cells};
use crate::table::{Better, Comparison};

/// Connections in progress at a time.
const STORM_IN_PROGRESS: usize = 50;
const OFFLINE_IN_PROGRESS: usize = 100;
/// Open files that generator and broker need for other things than connections.
const OTHER_FILES: u64 = 500;

struct Storm {
    us_each: f64,
    rate: f64,
}

impl fmt::Display for Storm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:.2} us each, {:.0}/s", self.us_each, self.rate)
    }
}

/// CONNECT, CONNACK, DISCONNECT, again and again.
pub(crate) fn storm(bench: &mut Bench) -> Result<String> {
    let count = bench.arguments.storm;
    let runs = bench.in_turn("storm", &[], |broker, _| {
        come_and_go(broker.address, "warm", count.div_ceil(20), STORM_IN_PROGRESS, None)?;
        let (before, began) = (broker.cpu_ns()?, Instant::now());
        come_and_go(broker.address, "storm", count, STORM_IN_PROGRESS, None)?;
        let took = began.elapsed().as_secs_f64();
        let cpu_ns = broker.cpu_ns()?.saturating_sub(before);
        let each = f64::from(count);
        Ok((Storm { us_each: cpu_ns as f64 / 1e3 / each, rate: each / took }, Faults::default()))
    })?;
    let title = format!("{count} connections, {STORM_IN_PROGRESS} in progress at a time:");
    let mut table = Comparison::new(&title, &["figure"], bench.columns());
    table.row(&["CPU us per connection"], Better::Lower, cells(&runs, |run| run.us_each));
    table.row(&["connections per second"], Better::Higher, cells(&runs, |run| run.rate));
    Ok(table.render())
}

struct Growth {
    bytes_each: f64,
}

impl fmt::Display for Growth {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:.0} bytes each", self.bytes_each)
    }
}

/// Sessions that are kept for clients that have gone.
pub(crate) fn offline(bench: &mut Bench) -> Result<String> {
    let count = bench.arguments.sessions;
    let needs = [Need::Qos1, Need::Sessions];
    let runs = bench.in_turn("offline", &needs, |broker, _| {
        let in_progress = OFFLINE_IN_PROGRESS;
        // The first ones pay for what is there once.
        come_and_go(broker.address, "first", count.div_ceil(100), in_progress, Some("first"))?;
        let before = broker.settled_memory()?;
        come_and_go(broker.address, "away", count, in_progress, Some("away"))?;
        let grown = broker.settled_memory()?.saturating_sub(before);
        Ok((Growth { bytes_each: grown as f64 / f64::from(count) }, Faults::default()))
    })?;
    let title =
        format!("{count} sessions without a connection, with one subscription each (QoS 1):");
    let mut table = Comparison::new(&title, &["figure"], bench.columns());
    let cells = cells(&runs, |run| run.bytes_each);
    table.row(&["bytes of memory per session"], Better::Lower, cells);
    Ok(table.render())
}

/// Connections that end once all is confirmed. With a level for filters each leaves a session with a
/// subscription behind.
fn come_and_go(
    broker: SocketAddr,
    id: &str,
    count: u32,
    in_progress: usize,
    level: Option<&str>,
) -> Result<()> {
    let opening = |number| Opening {
        id: format!("{id}-{number}"),
        version: Version::V3,
        session: if level.is_some() { Session::Kept } else { Session::Clean },
        filters: level.map(|level| format!("bench/{level}/{number}")).into_iter().collect(),
        qos: u8::from(level.is_some()),
    };
    open_all(broker, (0..count).map(opening), in_progress, Then::Leave)?;
    Ok(())
}

struct Idle {
    bytes_each: f64,
    /// After each has received a message.
    bytes_each_later: f64,
}

impl fmt::Display for Idle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Idle { bytes_each, bytes_each_later } = self;
        write!(formatter, "{bytes_each:.0} bytes each, {bytes_each_later:.0} after a message")
    }
}

/// Connections with a subscription each that say nothing, before and after a message to each.
pub(crate) fn idle(bench: &mut Bench) -> Result<String> {
    let title = "Bytes of memory per connection, each with one subscription of its own:";
    let mut table = Comparison::new(title, &["connections", "when"], bench.columns());
    let most = raise_open_files().saturating_sub(OTHER_FILES);
    for Connections(count) in bench.arguments.connections.clone() {
        let count = count.map_or(most, u64::from);
        if count > most {
            return Err(format!(
                "--connections {count}: the limit on open files allows {most}; see `ulimit -Hn`"
            )
            .into());
        }
        let row = format!("idle, {count} connections");
        let plan = idle_plan(count as usize);
        let runs = bench.in_turn(&row, &[], |broker, _| measure_idle(broker, &plan))?;
        let count = count.to_string();
        let each = cells(&runs, |run: &Idle| run.bytes_each);
        table.row(&[&count, "subscribed"], Better::Lower, each);
        let later = cells(&runs, |run: &Idle| run.bytes_each_later);
        table.row(&[&count, "after a message to each"], Better::Lower, later);
    }
    Ok(table.render())
}

/// One publisher with a topic for each subscriber.
fn idle_plan(count: usize) -> Plan {
    let topics: Vec<String> = (0..count).map(|number| format!("bench/idle/{number}")).collect();
    let subscriber = |(number, topic): (usize, &String)| SubscriberPlan {
        version: Version::V3,
        filters: vec![topic.clone()],
        expects: vec![number as u32],
    };
    let subscribers = topics.iter().enumerate().map(subscriber).collect();
    let publishers = vec![PublisherPlan { version: Version::V3, topics }];
    Plan::of(vec![GroupPlan { routing: Routing::Some, publishers, subscribers }])
}

fn measure_idle(broker: &Broker, plan: &Plan) -> Result<(Idle, Faults)> {
    // The first connections pay for what is there once.
    let opening = |number| Opening {
        id: format!("first-{number}"),
        version: Version::V3,
        session: Session::Clean,
        filters: vec![format!("bench/first/{number}")],
        qos: 0,
    };
    let _first = open_all(broker.address, (0..100).map(opening), 50, Then::Stay)?;
    let before = broker.settled_memory()?;
    let mut load = Load::connect(broker.address, plan)?;
    let count = plan.groups[0].subscribers.len() as f64;
    let each = |now: u64| now.saturating_sub(before) as f64 / count;
    let bytes_each = each(broker.settled_memory()?);
    load.run_once();
    let bytes_each_later = each(broker.settled_memory()?);
    Ok((Idle { bytes_each, bytes_each_later }, load.faults()))
}
