//! Metrics in the form of OpenMetrics.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use runtime_mio::{Counter, Histogram, LATENCY_US};
use session_core::{DropReason, Queues};

use crate::{
    census::Snapshot,
    durable::{BATCHES, Writes},
};

/// The text that a scraper gets.
pub(crate) fn text(snapshot: Snapshot, queues: Queues) -> String {
    let mut registry = Registry::with_prefix("cairnmq");
    registry.register_collector(Box::new(All { snapshot, queues }));
    let mut text = String::new();
    // Writing into a string does not fail.
    let _ = text::encode(&mut text, &registry);
    text
}

struct All {
    snapshot: Snapshot,
    queues: Queues,
}

impl fmt::Debug for All {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("All")
    }
}

type Labels<'a> = [(&'a str, &'a str)];

/// What is written into.
struct Sheet<'e>(DescriptorEncoder<'e>);

impl Sheet<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let encoder = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(encoder)
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let encoder = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(encoder)
    }

    fn counters<'l>(
        &mut self,
        name: &str,
        help: &str,
        all: impl IntoIterator<Item = (&'l Labels<'l>, u64)>,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in all {
            ConstCounter::new(value).encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn gauges<'l>(
        &mut self,
        name: &str,
        help: &str,
        all: impl IntoIterator<Item = (&'l Labels<'l>, u64)>,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in all {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            ConstGauge::new(value).encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// `classes` are not cumulated; `unit` is what a bound is divided by.
    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        sum: f64,
        classes: &[(f64, u64)],
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        let count = classes.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<[(&str, &str); 0]>(sum, count, classes, None)
    }

    fn seconds(&mut self, name: &str, help: &str, of: &Histogram) -> fmt::Result {
        let bounds = LATENCY_US.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY]);
        let classes: Vec<_> = bounds.zip(of.classes).collect();
        self.histogram(name, help, of.sum_us as f64 / 1e6, &classes)
    }
}

impl Collector for All {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let sheet = &mut Sheet(encoder);
        self.clients(sheet)?;
        self.traffic(sheet)?;
        self.losses(sheet)?;
        self.waiting(sheet)?;
        if let Some(writes) = &self.snapshot.writes {
            store(sheet, writes, self.snapshot.is_full)?;
        }
        if let Some(access) = self.snapshot.access {
            let all: [(&Labels<'_>, u64); 5] = [
                (&[("result", "accepted")], access.accepted),
                (&[("result", "continued")], access.continued),
                (&[("result", "refused")], access.refused),
                (&[("result", "busy")], access.busy),
                (&[("result", "panicked")], access.panicked),
            ];
            sheet.counters("logins", "Questions who a client is, or what it may do", all)?;
        }
        let uptime = self.snapshot.uptime.as_secs();
        sheet.gauge("uptime_seconds", "Since the start", uptime)?;
        let lost = self.snapshot.lost_lines as u64;
        sheet.counter("log_lines_lost", "Lines of the log that nobody took in time", lost)
    }
}

impl All {
    fn clients(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let (counts, totals) = (&self.snapshot.counts, &self.snapshot.totals);
        let get = |counter| counts.get(counter);
        sheet.gauge("connections", "Open connections", totals.connections)?;
        sheet.gauge("clients_connected", "Sessions with a connection", self.queues.connected)?;
        sheet.gauge("sessions", "Sessions, connected or not", totals.sessions)?;
        let expired = self.snapshot.expired_sessions;
        sheet.counter("sessions_expired", "Sessions that ended by their expiry", expired)?;
        sheet.gauge("subscriptions", "Subscriptions", totals.subscriptions)?;
        let shared = self.queues.shared_subscriptions;
        sheet.gauge("subscriptions_shared", "Shared Subscriptions", shared)?;
        sheet.gauge("retained_messages", "Retained messages", totals.retained)?;
        sheet.gauge("retained_bytes", "Bytes of retained messages", totals.retained_bytes)?;
        sheet.counter("connections_accepted", "Connections", get(Counter::Accepted))?;
        sheet.counter(
            "connections_turned_away",
            "Connections that ended before MQTT began",
            get(Counter::TurnedAway),
        )?;
        sheet.counter(
            "clients_let_in",
            "CONNECT packets that were accepted",
            get(Counter::Connected),
        )?;
        sheet.counter("clients_refused", "Connections without one", get(Counter::Refused))?;
        sheet.counter(
            "clients_gone",
            "Connections of clients that ended",
            get(Counter::Disconnected),
        )
    }

    fn traffic(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let get = |counter| self.snapshot.counts.get(counter);
        sheet.counter("bytes_received", "Bytes of MQTT packets", get(Counter::BytesIn))?;
        sheet.counter("bytes_sent", "Bytes of MQTT packets", get(Counter::BytesOut))?;
        sheet.counter("packets_received", "Packets of any type", get(Counter::PacketsIn))?;
        sheet.counter("packets_sent", "Packets of any type", get(Counter::PacketsOut))?;
        let by_qos = |of: [Counter; 3]| -> [(&'static Labels<'static>, u64); 3] {
            [
                (&[("qos", "0")], get(of[0])),
                (&[("qos", "1")], get(of[1])),
                (&[("qos", "2")], get(of[2])),
            ]
        };
        let of = [Counter::PublishesIn0, Counter::PublishesIn1, Counter::PublishesIn2];
        sheet.counters("publishes_received", "PUBLISH packets", by_qos(of))?;
        let of = [Counter::PublishesOut0, Counter::PublishesOut1, Counter::PublishesOut2];
        sheet.counters("publishes_sent", "PUBLISH packets", by_qos(of))?;
        sheet.counter(
            "payload_bytes_received",
            "Bytes of payloads",
            get(Counter::PayloadBytesIn),
        )?;
        sheet.counter("payload_bytes_sent", "Bytes of payloads", get(Counter::PayloadBytesOut))?;
        sheet.seconds(
            "delivery_seconds",
            "From the arrival of a PUBLISH to its first delivery, of some messages",
            &self.snapshot.counts.latency,
        )
    }

    fn losses(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let names = DropReason::ALL.map(|reason| [("reason", reason.name())]);
        let by_reason = names.iter().map(|labels| &labels[..]).zip(self.snapshot.drops);
        sheet.counters("messages_dropped", "Messages that a client did not get", by_reason)?;
        let rows: Vec<_> = self.snapshot.dropped.iter().collect();
        let names: Vec<_> = rows
            .iter()
            .map(|row| [("client", &*row.client_id), ("reason", row.reason.name())])
            .collect();
        let by_client =
            names.iter().map(|labels| &labels[..]).zip(rows.iter().map(|row| row.count));
        sheet.gauges(
            "client_messages_dropped",
            "Messages that clients did not get, of those who lost most; the reason is the last one's",
            by_client,
        )?;
        let get = |counter| self.snapshot.counts.get(counter);
        sheet.counter("denied", "What clients wanted and may not", get(Counter::Denied))?;
        sheet.counter("over_rate", "What clients sent beyond their rates", get(Counter::OverRate))
    }

    fn waiting(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let queues = &self.queues;
        sheet.gauge("messages_queued", "QoS 1 and 2 messages that wait", queues.queued)?;
        sheet.gauge("messages_queued_bytes", "Their bytes", queues.queued_bytes)?;
        sheet.gauge("messages_queued_qos0", "QoS 0 messages that wait", queues.queued_qos0)?;
        sheet.gauge("messages_in_flight", "Sent, and not acknowledged", queues.in_flight)?;
        let names: Vec<_> = queues
            .longest
            .iter()
            .map(|row| {
                let connected = if row.connected { "yes" } else { "no" };
                [("client", &*row.client_id), ("connected", connected)]
            })
            .collect();
        let all = names.iter().map(|labels| &labels[..]);
        let all = all.zip(queues.longest.iter().map(|row| row.queued));
        sheet.gauges("client_messages_queued", "Messages that wait, of the longest queues", all)
    }
}

fn store(sheet: &mut Sheet<'_>, writes: &Writes, is_full: bool) -> fmt::Result {
    sheet.counter("store_records", "Records that were written", writes.records)?;
    sheet.seconds("store_sync_seconds", "Writes to the log with their sync", &writes.syncs)?;
    let bounds = BATCHES.iter().map(|records| *records as f64).chain([f64::INFINITY]);
    let classes: Vec<_> = bounds.zip(writes.batches).collect();
    let help = "Records that were written together";
    sheet.histogram("store_batch_records", help, writes.records as f64, &classes)?;
    sheet.gauge("store_full", "1 while the disk has no room for messages", u64::from(is_full))
}
