//! The time from when a message was due to when it came, at a rate that every broker can keep.

use std::fmt;
use std::time::Duration;

use crate::Result;
use crate::contender::Need;
use crate::rig::load::Load;
use crate::rig::plan::Plan;
use crate::rig::statistics::quantile;
use crate::rounds::{Bench, cells};
use crate::table::{Better, Comparison};

const PAIRS: usize = 20;

/// In microseconds.
struct Run {
    p50: f64,
    p99: f64,
    p999: f64,
}

impl fmt::Display for Run {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Run { p50, p99, p999 } = self;
        write!(formatter, "p50 {p50:.0} us, p99 {p99:.0} us, p99.9 {p999:.0} us")
    }
}

pub(crate) fn table(bench: &mut Bench) -> Result<String> {
    let (rate, seconds) = (bench.arguments.rate, bench.arguments.latency_seconds);
    let title = format!(
        "Latency in us at {rate} messages per second from {PAIRS} publishers to a subscriber each, for \
         {seconds} s:"
    );
    let mut table = Comparison::new(&title, &["part of all", "QoS"], bench.columns());
    for qos in bench.arguments.qos.clone() {
        let needs: &[Need] = match qos {
            0 => &[],
            1 => &[Need::Qos1],
            _ => &[Need::Qos2],
        };
        let plan = Plan { qos, ..Plan::uniform(PAIRS, 1, 1) };
        let row = format!("latency, QoS {qos}");
        let runs = bench.in_turn(&row, needs, |broker, _| {
            let mut load = Load::connect(broker.address, &plan)?;
            let time = Duration::from_secs_f64(seconds);
            let ages = load.run_paced(rate, time / 5, time)?;
            let us = |part| quantile(&ages, part) as f64 / 1e3;
            let run = Run { p50: us(0.5), p99: us(0.99), p999: us(0.999) };
            Ok((run, load.faults()))
        })?;
        let level = qos.to_string();
        let mut add = |name: &str, value: fn(&Run) -> f64| {
            table.row(&[name, &level], Better::Lower, cells(&runs, value));
        };
        add("p50", |run| run.p50);
        add("p99", |run| run.p99);
        add("p99.9", |run| run.p999);
    }
    Ok(table.render())
}
