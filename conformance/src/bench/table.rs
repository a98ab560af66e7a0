//! Medians side by side.

use super::{Outcome, Usage};

/// What one run of one scenario on one broker came to.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Deliveries per second of wall time.
    pub per_second: f64,
    /// Broker CPU time per delivery, microseconds.
    pub cpu_us: f64,
    /// The broker's peak memory, MiB.
    pub peak_mib: f64,
    /// Deliveries lost, doubled or out of order.
    pub wrong: u64,
}

impl Figures {
    pub(super) fn of(outcome: &Outcome, usage: &Usage) -> Self {
        let deliveries = outcome.deliveries as f64;
        Self {
            per_second: deliveries / outcome.elapsed.as_secs_f64(),
            cpu_us: usage.cpu.as_secs_f64() * 1e6 / deliveries,
            peak_mib: usage.peak_bytes as f64 / 1_048_576.0,
            wrong: outcome.wrong,
        }
    }
}

fn median(runs: &[Figures], of: impl Fn(&Figures) -> f64) -> f64 {
    let mut values: Vec<_> = runs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A Markdown table: each row a scenario with the runs of each broker, in the order of `names`.
/// The last column says how many times the first broker's CPU time the second one's is.
pub fn table(names: &[&str], rows: &[(String, Vec<Vec<Figures>>)]) -> String {
    let mut text = String::from("| scenario |");
    for figure in ["messages/s", "CPU us/message", "peak MiB"] {
        for name in names {
            text += &format!(" {name} {figure} |");
        }
    }
    text += " CPU ratio |\n|---|";
    text += &"---:|".repeat(3 * names.len() + 1);
    text.push('\n');
    for (scenario, brokers) in rows {
        text += &format!("| {scenario} |");
        for runs in brokers {
            text += &format!(" {:.0} |", median(runs, |run| run.per_second));
        }
        for runs in brokers {
            text += &format!(" {:.2} |", median(runs, |run| run.cpu_us));
        }
        for runs in brokers {
            text += &format!(" {:.1} |", median(runs, |run| run.peak_mib));
        }
        let cpu: Vec<_> = brokers.iter().map(|runs| median(runs, |run| run.cpu_us)).collect();
        match cpu[..] {
            [first, second, ..] => text += &format!(" {:.1} |\n", second / first),
            _ => text += " - |\n",
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_shows_the_median_of_each_broker_and_their_ratio() {
        let run = |cpu_us| Figures { per_second: 1000.0, cpu_us, peak_mib: 2.0, wrong: 0 };
        let ours = vec![run(1.0), run(9.0), run(2.0)];
        let theirs = vec![run(6.0), run(6.0), run(7.0)];
        let text = table(&["a", "b"], &[("x".into(), vec![ours, theirs])]);
        let row = text.lines().last().expect("a row");
        assert_eq!(row, "| x | 1000 | 1000 | 2.00 | 6.00 | 2.0 | 2.0 | 3.0 |");
    }
}
