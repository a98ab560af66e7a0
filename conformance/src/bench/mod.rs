//! A benchmark of brokers side by side: the same load on each in turn, on the same machine in the
//! same run. Read the ratios; absolute figures belong to one machine and one hour.

mod broker;
mod load;
mod table;

pub use broker::{Broker, Kind, Usage};
pub use load::{Load, Outcome, Shape};
pub use table::{Figures, table};

use std::io;

use codec::QoS;

/// One row of the benchmark.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// As shown in the table and selected by.
    pub name: String,
    /// What is sent to whom.
    pub load: Load,
}

/// Every scenario, `scale` times as long as the default.
pub fn scenarios(scale: f64) -> Vec<Scenario> {
    let shapes = [
        ("fan-in, 50 to 1", Shape::FanIn { publishers: 50 }, 400_000),
        ("fan-out, 1 to 1,000", Shape::FanOut { subscribers: 1000 }, 600_000),
        ("pairs, 100", Shape::Pairs { pairs: 100 }, 400_000),
    ];
    let mut all = Vec::new();
    for (name, shape, deliveries) in shapes {
        for (qos, share) in
            [(QoS::AtMostOnce, 1.0), (QoS::AtLeastOnce, 0.5), (QoS::ExactlyOnce, 0.25)]
        {
            let deliveries = (f64::from(deliveries) * share * scale) as u64;
            let name = format!("{name}, QoS {}", qos as u8);
            all.push(Scenario { name, load: Load { shape, qos, deliveries } });
        }
    }
    all
}

/// Runs one scenario on one broker.
///
/// # Errors
/// The broker cannot be started or reached, or does not finish in time.
pub fn measure(kind: &Kind, scenario: &Scenario) -> io::Result<Figures> {
    let broker = Broker::start(kind)?;
    let mut run = load::Run::prepare(broker.address(), scenario.load)?;
    let before = broker.begin_measuring()?;
    let outcome = run.finish()?;
    let usage = broker.usage_since(&before)?;
    Ok(Figures::of(&outcome, &usage))
}

/// Opens idle connections and tells how many bytes of broker memory each costs.
///
/// # Errors
/// As [`measure`].
pub fn idle_bytes(kind: &Kind, connections: usize) -> io::Result<f64> {
    let broker = Broker::start(kind)?;
    let before = broker.resident_bytes()?;
    let held = load::connect_idle(broker.address(), connections)?;
    let after = broker.resident_bytes()?;
    drop(held);
    Ok(after.saturating_sub(before) as f64 / connections as f64)
}
