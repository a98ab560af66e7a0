//! `cairnmq store`: looking into a data directory without a broker.

use std::{
    fmt::Write as _,
    io::{self, Write},
    path::Path,
};

use clap::Subcommand;
use codec::{Message, QoS};
use serde_json::{Value, json};
use session_core::{Publication, Retained, Time};
use store::{Item, Report, inspect};

/// What to do with a data directory that no broker uses.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Reads everything and says what is there and what is damaged; status 1 if something is.
    Check {
        /// The data directory.
        path: std::path::PathBuf,
    },
    /// Shows everything, one line each, for people.
    Dump {
        /// The data directory.
        path: std::path::PathBuf,
    },
    /// Writes everything as JSON, one object a line, for programs.
    Export {
        /// The data directory.
        path: std::path::PathBuf,
    },
}

/// Carries a command out. Returns whether nothing is damaged.
///
/// # Errors
/// The directory cannot be read, in words.
pub(crate) fn run(command: &StoreCommand) -> Result<bool, String> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut broken = None;
    let mut line = |text: String| {
        if broken.is_none() {
            broken = writeln!(out, "{text}").err();
        }
    };
    let report = match command {
        StoreCommand::Check { path } => look(path, |_| ()),
        StoreCommand::Dump { path } => look(path, |item| line(dumped(&item))),
        StoreCommand::Export { path } => look(path, |item| line(exported(&item).to_string())),
    }?;
    match command {
        StoreCommand::Check { .. } => summary(&report).into_iter().for_each(&mut line),
        // Damage is for people, whatever reads the output.
        _ => report.losses.iter().for_each(|loss| tell(&format!("damaged: {loss}"))),
    }
    match broken.or_else(|| out.flush().err()) {
        // Whoever closed the pipe has seen enough.
        Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("cannot write: {error}"))
        }
        _ => Ok(report.losses.is_empty()),
    }
}

fn look(path: &Path, visit: impl FnMut(Item)) -> Result<Report, String> {
    inspect(path, visit).map_err(|error| error.to_string())
}

fn tell(text: &str) {
    let _ = writeln!(io::stderr().lock(), "cairnmq: {text}");
}

fn summary(report: &Report) -> Vec<String> {
    let Report { sessions, subscriptions, messages, message_bytes, retained, others, .. } = report;
    let mut lines = vec![
        format!("{sessions} sessions with {subscriptions} subscriptions"),
        format!("{messages} messages waiting or unacknowledged, {message_bytes} bytes"),
        format!("{retained} retained messages"),
        format!("{others} Wills, exchanges and QoS 2 messages in between"),
    ];
    if report.torn_bytes > 0 {
        let bytes = report.torn_bytes;
        lines.push(format!("the last {bytes} bytes of the log were not written whole"));
    }
    lines.extend(report.losses.iter().map(|loss| format!("damaged: {loss}")));
    if report.losses.is_empty() {
        lines.push("nothing is damaged".into());
    }
    lines
}

fn dumped(item: &Item) -> String {
    let mut text = String::new();
    // Writing to a string never fails.
    let _ = match item {
        Item::Session { client_id, expiry_s, ends } => {
            write!(text, "session {client_id:?} expiry_s={expiry_s} ends={}", instant(*ends))
        }
        Item::Will { client_id, will, due } => write!(
            text,
            "will {client_id:?} delay_s={} due={} {}",
            will.delay_s,
            instant(*due),
            in_words(&will.message, will.qos, will.retain)
        ),
        Item::Subscription { client_id, filter, subscription } => write!(
            text,
            "subscription {client_id:?} {filter:?} qos={} id={}",
            subscription.options.qos as u8, subscription.id
        ),
        Item::Exchange { client_id, packet_id, place, released } => write!(
            text,
            "exchange {client_id:?} packet_id={} place={place} {}",
            packet_id.get(),
            if *released { "released" } else { "published" }
        ),
        Item::Message { client_id, queued } => write!(
            text,
            "message {client_id:?} place={} {}",
            queued.place.number,
            in_words(&queued.message, queued.qos, queued.retain)
        ),
        Item::Held { client_id, packet_id, publication } => {
            write!(text, "held {client_id:?} packet_id={} {}", packet_id.get(), of(publication))
        }
        Item::Owed { message, publication } => write!(
            text,
            "owed {}/{}/{} {}",
            message.epoch,
            message.shard.0,
            message.number,
            of(publication)
        ),
        Item::Retained(Retained { message, qos, .. }) => {
            write!(text, "retained {}", in_words(message, *qos, true))
        }
    };
    text
}

fn of(publication: &Publication) -> String {
    in_words(&publication.message, publication.qos, publication.retain)
}

fn in_words(message: &Message, qos: QoS, retain: bool) -> String {
    format!(
        "topic={:?} qos={} retain={retain} bytes={}",
        message.topic_str(),
        qos as u8,
        message.payload().len()
    )
}

fn instant(time: Option<Time>) -> String {
    time.map_or_else(|| "never".into(), |time| format!("{} ms", time.0))
}

fn exported(item: &Item) -> Value {
    let ms = |time: &Option<Time>| time.map(|time| time.0);
    match item {
        Item::Session { client_id, expiry_s, ends } => json!({
            "kind": "session", "client_id": client_id, "expiry_s": expiry_s, "ends_ms": ms(ends),
        }),
        Item::Will { client_id, will, due } => json!({
            "kind": "will", "client_id": client_id, "delay_s": will.delay_s, "due_ms": ms(due),
            "message": message(&will.message, will.qos, will.retain, None),
        }),
        Item::Subscription { client_id, filter, subscription } => json!({
            "kind": "subscription", "client_id": client_id, "filter": filter,
            "qos": subscription.options.qos as u8, "no_local": subscription.options.no_local,
            "retain_as_published": subscription.options.retain_as_published,
            "retain_handling": subscription.options.retain_handling as u8,
            "id": subscription.id,
        }),
        Item::Exchange { client_id, packet_id, place, released } => json!({
            "kind": "exchange", "client_id": client_id, "packet_id": packet_id.get(),
            "place": place, "released": released,
        }),
        Item::Message { client_id, queued } => json!({
            "kind": "message", "client_id": client_id, "place": queued.place.number,
            "message": message(&queued.message, queued.qos, queued.retain, Some(queued.at)),
        }),
        Item::Held { client_id, packet_id, publication } => json!({
            "kind": "held", "client_id": client_id, "packet_id": packet_id.get(),
            "message": published(publication),
        }),
        Item::Owed { message, publication } => json!({
            "kind": "owed", "epoch": message.epoch, "shard": message.shard.0,
            "number": message.number, "message": published(publication),
        }),
        Item::Retained(retained) => json!({
            "kind": "retained",
            "message": message(&retained.message, retained.qos, true, Some(retained.at)),
        }),
    }
}

fn published(of: &Publication) -> Value {
    message(&of.message, of.qos, of.retain, Some(of.at))
}

fn message(message: &Message, qos: QoS, retain: bool, at: Option<Time>) -> Value {
    let payload = message.payload().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    let properties: Vec<String> =
        message.properties().iter().map(|property| format!("{property:?}")).collect();
    json!({
        "topic": message.topic_str(), "qos": qos as u8, "retain": retain,
        "received_ms": at.map(|at| at.0), "properties": properties, "payload_hex": payload,
    })
}
