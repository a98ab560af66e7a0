//! Medians, side by side, as Markdown.

use crate::broker::Kind;
use crate::ledger::Faults;
use crate::load::Shape;
use crate::median::median;

/// One measured run.
pub(crate) struct Row {
    pub(crate) deliveries: u64,
    pub(crate) seconds: f64,
    /// Of the broker, all threads.
    pub(crate) cpu_ns: u64,
    pub(crate) peak_bytes: u64,
    pub(crate) faults: Faults,
}

/// One run with idle connections.
pub(crate) struct Idle {
    pub(crate) connections: u32,
    pub(crate) bytes_each: f64,
}

/// Prints as it goes and remembers whether anything was wrong.
pub(crate) struct Report {
    names: [&'static str; 2],
    has_header: bool,
    faults: Vec<String>,
    /// Some of them are those of the first broker, ours.
    ours_failed: bool,
}

impl Report {
    pub(crate) fn new(kinds: &[Kind; 2]) -> Report {
        let names = [kinds[0].name(), kinds[1].name()];
        Report { names, has_header: false, faults: Vec::new(), ours_failed: false }
    }

    /// One line of the table of messages.
    pub(crate) fn row(&mut self, shape: &Shape, qos: u8, measured: &[Vec<Row>; 2]) {
        let [ours, theirs] = self.names;
        if !self.has_header {
            println!(
                "| scenario | QoS | messages/s {ours} | {theirs} | CPU us/message {ours} | {theirs} \
                 | peak MiB {ours} | {theirs} |\n|---|--:|--:|--:|--:|--:|--:|--:|"
            );
            self.has_header = true;
        }
        let each = |value: fn(&Row) -> f64| measured.each_ref().map(|runs| median(runs, value));
        let [rate, rate_theirs] = each(|row| row.deliveries as f64 / row.seconds);
        let [cpu, cpu_theirs] = each(|row| row.cpu_ns as f64 / 1e3 / row.deliveries as f64);
        let [peak, peak_theirs] = each(|row| row.peak_bytes as f64 / f64::from(1 << 20));
        let name = shape.name;
        println!(
            "| {name} | {qos} | {rate:.0} | {rate_theirs:.0} | {cpu:.2} | {cpu_theirs:.2} \
             | {peak:.1} | {peak_theirs:.1} |"
        );
        for (broker, runs) in self.names.iter().zip(measured) {
            let mut faults = Faults::default();
            runs.iter().for_each(|row| faults.add(row.faults));
            if faults.any() {
                self.ours_failed |= *broker == ours;
                self.faults.push(format!("{broker}, {name}, QoS {qos}: {faults:?}"));
            }
        }
    }

    /// The table of idle connections.
    pub(crate) fn idle(&mut self, measured: &[Vec<Idle>; 2]) {
        let [ours, theirs] = self.names;
        let [bytes, bytes_theirs] =
            measured.each_ref().map(|runs| median(runs, |idle| idle.bytes_each));
        let connections = measured[0].first().map_or(0, |idle| idle.connections);
        println!(
            "\n| idle connections | bytes each {ours} | {theirs} |\n|--:|--:|--:|\n\
             | {connections} | {bytes:.0} | {bytes_theirs:.0} |"
        );
        self.has_header = false;
    }

    /// Says what went wrong; whether nothing did. A smoke test is about our broker alone.
    pub(crate) fn finish(self, smoke: bool) -> bool {
        for fault in &self.faults {
            eprintln!("bench: not a valid measurement: {fault}");
        }
        if self.faults.is_empty() {
            println!("\nEvery message came once and in order.");
        }
        self.faults.is_empty() || (smoke && !self.ours_failed)
    }
}
