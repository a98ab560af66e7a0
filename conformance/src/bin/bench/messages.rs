//! The tables of messages per second, processor time and memory.

use std::fmt;

use crate::arguments::Scenario;
use crate::contender::Contender;
use crate::rig::broker::{Broker, own_cpu_ns};
use crate::rig::ledger::Faults;
use crate::rig::load::{Limit, Load};
use crate::rig::plan::Plan;
use crate::rounds::{Bench, cells};
use crate::table::{Better, Cell, Comparison};
use crate::{Result, scenario};

/// One measured run.
pub(crate) struct Run {
    pub(crate) deliveries: u64,
    pub(crate) seconds: f64,
    /// Of the broker, all threads.
    pub(crate) cpu_ns: u64,
    pub(crate) peak_bytes: u64,
    /// Of the generator.
    pub(crate) own_cpu_ns: u64,
}

impl Run {
    pub(crate) fn rate(&self) -> f64 {
        self.deliveries as f64 / self.seconds
    }

    pub(crate) fn cpu_us(&self) -> f64 {
        self.cpu_ns as f64 / 1e3 / self.deliveries as f64
    }

    fn own_cpu_us(&self) -> f64 {
        self.own_cpu_ns as f64 / 1e3 / self.deliveries as f64
    }

    /// The part of a processor that the generator used.
    fn own_share(&self) -> f64 {
        self.own_cpu_ns as f64 / 1e9 / self.seconds
    }

    fn peak_mib(&self) -> f64 {
        self.peak_bytes as f64 / f64::from(1 << 20)
    }
}

impl fmt::Display for Run {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} messages, {:.0}/s, {:.2} us, {:.1} MiB; generator {:.2} us, {:.0} %",
            self.deliveries,
            self.rate(),
            self.cpu_us(),
            self.peak_mib(),
            self.own_cpu_us(),
            self.own_share() * 100.0
        )
    }
}

/// The four tables of some scenarios.
pub(crate) fn tables(bench: &mut Bench, scenarios: &[Scenario]) -> Result<String> {
    let heads = ["scenario", "QoS"];
    let table = |title: &str| Comparison::new(title, &heads, bench.columns());
    let mut cpu = table("Processor time of the broker, us per delivered message:");
    let mut rate = table("Delivered messages per second:");
    let mut peak = table("Peak memory of the broker, MiB:");
    let mut own = table(
        "Processor time of the generator, us per delivered message (and what part of one processor that \
         was: near 100 % it is the generator that limits):",
    );
    for &scenario in scenarios {
        let name = scenario::label(scenario);
        let levels = bench.arguments.qos.clone();
        for qos in levels.into_iter().filter(|&qos| qos <= scenario::qos_max(scenario)) {
            let row = format!("{name}, QoS {qos}");
            let plan = scenario::plan(scenario, qos, &bench.arguments);
            let limit = bench.arguments.limit(plan.deliveries_per_round());
            // Whoever has several topics sends to each of them.
            let limit =
                Limit { messages: limit.messages.saturating_mul(plan.topics_max()), ..limit };
            let needs = scenario::needs(scenario, qos);
            let runs = bench
                .in_turn(&row, &needs, |broker, _: &Contender| measure(broker, &plan, limit))?;
            let level = qos.to_string();
            let add = |table: &mut Comparison, better, value: fn(&Run) -> f64| {
                table.row(&[name, &level], better, cells::<Run>(&runs, value));
            };
            add(&mut cpu, Better::Lower, Run::cpu_us);
            add(&mut rate, Better::Higher, Run::rate);
            add(&mut peak, Better::Lower, Run::peak_mib);
            let own_cells = runs.iter().map(|outcome| match outcome.cell(Run::own_cpu_us) {
                Cell::Value(value) => Cell::Share(value, outcome.median(Run::own_share)),
                other => other,
            });
            own.row(&[name, &level], Better::Neither, own_cells.collect());
        }
    }
    let all = [cpu, rate, peak, own];
    Ok(all.iter().map(Comparison::render).collect::<Vec<String>>().join("\n"))
}

/// One run on a fresh broker: some unmeasured messages, then the measured ones.
pub(crate) fn measure(broker: &Broker, plan: &Plan, limit: Limit) -> Result<(Run, Faults)> {
    let mut load = Load::connect(broker.address, plan)?;
    load.run_until(Limit { messages: limit.messages.div_ceil(20), time: limit.time / 8 });
    broker.reset_peak()?;
    let (cpu_before, own_before) = (broker.cpu_ns()?, own_cpu_ns());
    let done = load.run_until(limit);
    let own_cpu_ns = own_cpu_ns().saturating_sub(own_before);
    let run = Run {
        deliveries: done.deliveries,
        seconds: done.took.as_secs_f64(),
        cpu_ns: broker.cpu_ns()?.saturating_sub(cpu_before),
        peak_bytes: broker.memory("VmHWM")?,
        own_cpu_ns,
    };
    Ok((run, load.faults()))
}
