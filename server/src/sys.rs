//! What the broker publishes of itself below `$SYS/broker`: mosquitto's topics, with its names and units, so that what
//! reads mosquitto reads this; and a few more.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use codec::{Message, Properties, QoS};
use runtime_mio::Counter;
use serde_json::json;
use session_core::{Command, Queues};

use crate::{census::Snapshot, serving::Serving};

/// Over how many minutes load is averaged.
const MINUTES: [u32; 3] = [1, 5, 15];

/// What was published last, and averages.
#[derive(Default)]
pub(crate) struct Sys {
    published: HashMap<String, String>,
    loads: HashMap<&'static str, [f64; 3]>,
    /// The counters at the last time, and when that was.
    before: Option<(Instant, HashMap<&'static str, u64>)>,
    most_clients: u64,
}

impl Sys {
    /// Publishes what has changed.
    pub(crate) fn publish(&mut self, serving: &Serving, snapshot: &Snapshot, queues: &Queues) {
        let mut all = self.topics(snapshot, queues);
        self.average(snapshot);
        for (name, loads) in &self.loads {
            for (load, minutes) in loads.iter().zip(MINUTES) {
                all.push((format!("load/{name}/{minutes}min"), format!("{load:.2}")));
            }
        }
        for (topic, value) in all {
            if self.published.get(&topic) == Some(&value) {
                continue;
            }
            let name = format!("$SYS/broker/{topic}");
            let Ok(message) = Message::new(&name, &Properties::new(), value.as_bytes()) else {
                continue;
            };
            let command = Command::Publish { message, qos: QoS::AtMostOnce, retain: true };
            serving.desk.tell(serving.map.topic(name.as_bytes()), command);
            self.published.insert(topic, value);
        }
    }

    fn topics(&mut self, snapshot: &Snapshot, queues: &Queues) -> Vec<(String, String)> {
        let (counts, totals) = (&snapshot.counts, &snapshot.totals);
        let get = |counter| counts.get(counter);
        let publishes = |of: [Counter; 3]| of.map(get).iter().sum::<u64>();
        let came = publishes([Counter::PublishesIn0, Counter::PublishesIn1, Counter::PublishesIn2]);
        let went =
            publishes([Counter::PublishesOut0, Counter::PublishesOut1, Counter::PublishesOut2]);
        let dropped: u64 = snapshot.drops.iter().sum();
        self.most_clients = self.most_clients.max(queues.connected);
        let stored = queues.queued + queues.in_flight + queues.queued_qos0 + totals.retained;
        let (heap, most_heap) = memory();
        let numbers = [
            ("clients/total", totals.sessions),
            ("clients/connected", queues.connected),
            ("clients/active", queues.connected),
            ("clients/disconnected", totals.sessions.saturating_sub(queues.connected)),
            ("clients/inactive", totals.sessions.saturating_sub(queues.connected)),
            ("clients/maximum", self.most_clients),
            ("clients/expired", snapshot.expired_sessions),
            ("messages/received", get(Counter::PacketsIn)),
            ("messages/sent", get(Counter::PacketsOut)),
            ("messages/inflight", queues.in_flight),
            ("messages/stored", stored),
            ("store/messages/count", stored),
            ("store/messages/bytes", queues.queued_bytes + totals.retained_bytes),
            ("publish/messages/received", came),
            ("publish/messages/sent", went),
            ("publish/messages/dropped", dropped),
            ("publish/bytes/received", get(Counter::PayloadBytesIn)),
            ("publish/bytes/sent", get(Counter::PayloadBytesOut)),
            ("bytes/received", get(Counter::BytesIn)),
            ("bytes/sent", get(Counter::BytesOut)),
            ("subscriptions/count", totals.subscriptions),
            ("shared_subscriptions/count", queues.shared_subscriptions),
            ("retained messages/count", totals.retained),
            ("heap/current", heap),
            ("heap/current size", heap),
            ("heap/maximum", most_heap),
            ("heap/maximum size", most_heap),
        ];
        let mut all: Vec<(String, String)> =
            numbers.map(|(topic, number)| (topic.to_owned(), number.to_string())).into();
        all.push(("version".into(), concat!("CairnMQ version ", env!("CARGO_PKG_VERSION")).into()));
        all.push(("uptime".into(), format!("{} seconds", snapshot.uptime.as_secs())));
        all.extend(by_name(snapshot, queues));
        all
    }

    /// mosquitto's averages: what came in the last interval, as if it went on for a minute, weighs the more the shorter
    /// they are.
    fn average(&mut self, snapshot: &Snapshot) {
        let now = Instant::now();
        let get = |counter| snapshot.counts.get(counter);
        let publishes = |of: [Counter; 3]| of.map(get).iter().sum::<u64>();
        let counters: HashMap<&'static str, u64> = [
            ("messages/received", get(Counter::PacketsIn)),
            ("messages/sent", get(Counter::PacketsOut)),
            (
                "publish/received",
                publishes([Counter::PublishesIn0, Counter::PublishesIn1, Counter::PublishesIn2]),
            ),
            (
                "publish/sent",
                publishes([Counter::PublishesOut0, Counter::PublishesOut1, Counter::PublishesOut2]),
            ),
            ("publish/dropped", snapshot.drops.iter().sum()),
            ("bytes/received", get(Counter::BytesIn)),
            ("bytes/sent", get(Counter::BytesOut)),
            ("sockets", get(Counter::Accepted)),
            ("connections", get(Counter::Connected)),
        ]
        .into();
        if let Some((last, before)) = &self.before {
            let elapsed = now.duration_since(*last);
            for (name, count) in &counters {
                let more = count.saturating_sub(before.get(name).copied().unwrap_or(0));
                let loads = self.loads.entry(name).or_default();
                for (load, minutes) in loads.iter_mut().zip(MINUTES) {
                    *load = averaged(*load, more, elapsed, minutes);
                }
            }
        }
        self.before = Some((now, counters));
    }
}

fn averaged(before: f64, more: u64, elapsed: Duration, minutes: u32) -> f64 {
    let seconds = elapsed.as_secs_f64().max(0.001);
    let a_minute = more as f64 * 60.0 / seconds;
    let kept = (-seconds / (f64::from(minutes) * 60.0)).exp();
    a_minute + kept * (before - a_minute)
}

/// Who loses messages, and for whom most wait: what mosquitto does not tell.
fn by_name(snapshot: &Snapshot, queues: &Queues) -> [(String, String); 2] {
    let dropped: Vec<_> = snapshot
        .dropped
        .iter()
        .map(|row| {
            let reason = row.reason.name();
            json!({ "client": row.client_id, "dropped": row.count, "reason": reason })
        })
        .collect();
    let queued: Vec<_> = queues
        .longest
        .iter()
        .map(|row| {
            json!({ "client": row.client_id, "queued": row.queued, "connected": row.connected })
        })
        .collect();
    [
        ("top/dropped".into(), serde_json::Value::from(dropped).to_string()),
        ("top/queued".into(), serde_json::Value::from(queued).to_string()),
    ]
}

/// Bytes of memory that the process has, now and at most.
fn memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    (kib("VmRSS:").unwrap_or(0) * 1024, kib("VmHWM:").unwrap_or(0) * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_follow_what_goes_on() {
        let ten = Duration::from_secs(10);
        let mut loads = [0.0; 3];
        for _ in 0..600 {
            for (load, minutes) in loads.iter_mut().zip(MINUTES) {
                *load = averaged(*load, 100, ten, minutes);
            }
        }
        assert!(loads.iter().all(|load| (load - 600.0).abs() < 1.0), "{loads:?}");
        let quiet = loads.map(|load| averaged(load, 0, ten, 1));
        assert!((quiet[0] - 600.0 * (-10.0_f64 / 60.0).exp()).abs() < 1.0, "{quiet:?}");
    }
}
