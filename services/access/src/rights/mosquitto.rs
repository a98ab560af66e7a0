//! mosquitto's `acl_file`, as it is.

use std::sync::Arc;

use codec::QoS;
use session_core::{Action, Actions};

use super::{Entry, Text, Who, template::Template};

/// How SUBSCRIBE is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SubscribeMode {
    /// A filter that may not be read in whole is refused.
    #[default]
    Strict,
    /// Every filter is taken, and what may not be read is held back when it is delivered.
    AsMosquitto,
}

/// Whose lines follow.
enum Block {
    /// Before the first `user`: clients without a name.
    Anonymous,
    User(Box<str>),
}

/// Reads all lines. mosquitto asks the lines of the client's own block first and then those that begin with
/// `pattern`, and in both those that deny before all others.
pub(super) fn parse(
    file: &str,
    text: &str,
    subscribe: SubscribeMode,
) -> Result<Vec<Entry>, Vec<String>> {
    let mut block = Block::Anonymous;
    let (mut entries, mut problems) = (Vec::new(), Vec::new());
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let source = format!("{file}:{number}");
        let (word, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let read = match word {
            "user" if rest.trim().is_empty() => Err("`user` has no name".to_owned()),
            "user" => {
                block = Block::User(rest.trim().into());
                continue;
            }
            "topic" => read_line(rest, false, &block, &source, subscribe),
            "pattern" => read_line(rest, true, &block, &source, subscribe),
            other => Err(format!("`{other}` is none of `topic`, `user`, `pattern`")),
        };
        match read {
            Ok(entry) => entries.push((word == "pattern", entry)),
            Err(problem) => problems.push(format!("{source}: {problem}")),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    // Stable: lines of one kind keep their order.
    entries.sort_by_key(|(is_pattern, entry)| (*is_pattern, entry.allow));
    let entries = entries.into_iter().map(|(_, entry)| entry);
    Ok(taken(subscribe).into_iter().chain(entries).collect())
}

fn read_line(
    rest: &str,
    is_pattern: bool,
    block: &Block,
    source: &str,
    subscribe: SubscribeMode,
) -> Result<Entry, String> {
    let rest = rest.trim();
    let (access, topic) = match rest.split_once([' ', '\t']) {
        Some((access @ ("read" | "write" | "readwrite" | "deny"), topic)) => (access, topic.trim()),
        // As mosquitto: a topic with spaces has its access in front. A word that was meant as one, and is none, would
        // turn what denies into a right.
        Some((word, _)) => {
            return Err(format!("`{word}` is none of `read`, `write`, `readwrite`, `deny`"));
        }
        None if matches!(rest, "read" | "write" | "readwrite" | "deny") => {
            return Err(format!("`{rest}` has no topic"));
        }
        None => ("readwrite", rest),
    };
    let reads: &[Action] = match subscribe {
        SubscribeMode::Strict => &[Action::Subscribe, Action::Receive],
        SubscribeMode::AsMosquitto => &[Action::Receive],
    };
    let writes: &[Action] = &[Action::Publish];
    let actions = match access {
        "read" => reads.to_vec(),
        "write" => writes.to_vec(),
        _ => [writes, reads].concat(),
    };
    let who = match (is_pattern, block) {
        // mosquitto has no such lines for who is called like a wildcard.
        (true, _) => Who { plain: true, ..Who::default() },
        (false, Block::Anonymous) => Who { nameless: true, ..Who::default() },
        (false, Block::User(name)) => {
            Who { user: Some(vec![Text::Is(name.clone())]), ..Who::default() }
        }
    };
    Ok(Entry {
        allow: access != "deny",
        actions: Actions::of(&actions),
        connect: false,
        who,
        topics: vec![Template::parse_mosquitto(topic, is_pattern)?],
        qos_min: QoS::AtMostOnce,
        qos_max: QoS::ExactlyOnce,
        retain: None,
        source: source.into(),
    })
}

/// Takes every SUBSCRIBE, if that is wanted.
fn taken(subscribe: SubscribeMode) -> Option<Entry> {
    (subscribe == SubscribeMode::AsMosquitto).then(|| Entry {
        allow: true,
        actions: Actions::of(&[Action::Subscribe]),
        connect: false,
        who: Who::default(),
        topics: ["#", "$SYS/#"]
            .into_iter()
            .filter_map(|topic| Template::parse_mosquitto(topic, false).ok())
            .collect(),
        qos_min: QoS::AtMostOnce,
        qos_max: QoS::ExactlyOnce,
        retain: None,
        source: Arc::from("subscribe = \"as_mosquitto\""),
    })
}
